"""Estimators of scikit-learn are kept by skops, and nothing it does not vouch for is made unasked."""

from __future__ import annotations

import collections
import datetime
import enum
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from support.state_files import save_state

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StateCorrupt, StateError
from jupyter_axon_notebooks.training import signing
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.signing import KEY_FILE

X, Y = load_digits(return_X_y=True)
X, Y = X[:200] / 16, Y[:200]


def doubled(values: Any) -> Any:
    return values * 2


class Mine(BaseEstimator):
    """An estimator of the notebook's own."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def fit(self, x: Any, y: Any = None) -> Mine:
        self.mean_ = np.mean(x, axis=0) * self.scale
        return self

    def transform(self, x: Any) -> Any:
        return x - self.mean_

    def predict(self, x: Any) -> Any:
        return self.transform(x)


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: LogisticRegression(max_iter=300),
    "SGDClassifier in a pipeline": lambda: make_pipeline(
        StandardScaler(), SGDClassifier(random_state=0)
    ),
    "RandomForestClassifier": lambda: RandomForestClassifier(5, random_state=0),
    "ExtraTreesClassifier": lambda: ExtraTreesClassifier(5, random_state=0),
    "HistGradientBoostingClassifier": lambda: HistGradientBoostingClassifier(max_iter=3),
    "GradientBoostingClassifier": lambda: GradientBoostingClassifier(
        n_estimators=2, random_state=0
    ),
    "AdaBoostClassifier": lambda: AdaBoostClassifier(n_estimators=3, random_state=0),
    "MLPClassifier": lambda: MLPClassifier((8,), max_iter=3, random_state=0),
    "GridSearchCV": lambda: GridSearchCV(
        SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2]}, cv=2
    ),
    "RandomizedSearchCV of a forest": lambda: RandomizedSearchCV(
        RandomForestClassifier(3, random_state=0),
        {"max_depth": [2, 3, 4]},
        n_iter=2,
        cv=2,
        random_state=0,
    ),
    "GridSearchCV of a pipeline": lambda: GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2, random_state=0)),
        {"mlpclassifier__alpha": [1e-4, 1e-2]},
        cv=2,
    ),
    "VotingClassifier": lambda: VotingClassifier(
        [("forest", RandomForestClassifier(3, random_state=0)), ("nearest", KNeighborsClassifier())]
    ),
    "StackingClassifier": lambda: StackingClassifier(
        [("tree", DecisionTreeClassifier(random_state=0))], LogisticRegression(max_iter=300), cv=2
    ),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(GaussianNB(), cv=2),
    "ColumnTransformer": lambda: make_pipeline(
        ColumnTransformer([("scale", StandardScaler(), [0, 1, 2])], remainder="passthrough"), SVC()
    ),
    "GaussianProcessClassifier": lambda: GaussianProcessClassifier(random_state=0),
    "FunctionTransformer": lambda: make_pipeline(FunctionTransformer(np.log1p), GaussianNB()),
    "a function of this notebook": lambda: make_pipeline(
        FunctionTransformer(doubled), GaussianNB()
    ),
    "an estimator of this notebook": lambda: make_pipeline(Mine(2.0), GaussianNB()),
    "IsolationForest": lambda: IsolationForest(n_estimators=3, random_state=0),
    "MLPRegressor": lambda: MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0),
    "KMeans": lambda: KMeans(3, n_init=1, random_state=0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_is_resumed_without_a_flag(
    name: str, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    estimator = ESTIMATORS[name]().fit(X[:120], Y[:120])
    axon.checkpoint(estimator, epoch=0)
    fresh = ESTIMATORS[name]()
    assert resumed_from(fresh).model is fresh
    assert np.array_equal(fresh.predict(X), estimator.predict(X))
    back, _ = axon.latest().restore()
    assert type(back) is type(estimator)
    assert np.array_equal(back.predict(X), estimator.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_training_in_steps_goes_on_to_the_same_weights(
    axon: Any, resumed_from: Callable[..., Any]
) -> None:
    def step(model: Any) -> Any:
        return model.partial_fit(X, Y, classes=np.arange(10))

    model, fresh = MLPClassifier((8,), random_state=0), MLPClassifier((8,), random_state=5)
    step(model)
    axon.checkpoint(model, epoch=0)
    for _ in range(3):
        step(model)
    resumed_from(fresh)
    for _ in range(3):
        step(fresh)
    assert all(map(np.array_equal, fresh.coefs_, model.coefs_))


def test_a_forest_grows_on(axon: Any, resumed_from: Callable[..., Any]) -> None:
    forest, fresh = (RandomForestClassifier(3, warm_start=True, random_state=0) for _ in range(2))
    axon.checkpoint(forest.fit(X, Y), epoch=0)
    resumed_from(fresh)
    for one in (forest, fresh):
        one.set_params(n_estimators=6).fit(X, Y)
    assert np.array_equal(fresh.predict_proba(X), forest.predict_proba(X))


# Whose files are trusted


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each test like a process of its own."""
    monkeypatch.setattr(signing, "_is_warned", False)


def test_the_key_is_private_and_stays_the_same(data_folder: Path, tmp_path: Path) -> None:
    first = save_state(encode_model(Mine().fit(X)), tmp_path, "first")
    key = data_folder / "axon_notebooks" / KEY_FILE
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(before) == 32
    save_state(encode_model(Mine().fit(X)), tmp_path, "second")
    assert key.read_bytes() == before
    restore_model(first, None)


def spoil(key: Path, lost: str, tmp_path: Path) -> None:
    """Make the key of this user one that is not used, or another one."""
    octets = key.read_bytes()
    if lost == "readable by others":
        key.chmod(0o640)
    else:
        key.unlink()
    if lost == "another":
        encode_model(Mine())
    elif lost in ("cut short", "too long"):
        key.write_bytes(octets[:-1] if lost == "cut short" else octets * 2)
        key.chmod(0o600)
    elif lost == "a link":
        (tmp_path / "key").write_bytes(octets)
        (tmp_path / "key").chmod(0o600)
        key.symlink_to(tmp_path / "key")
    elif lost == "a folder":
        key.mkdir()
    elif lost == "another user's":
        if os.geteuid():
            pytest.skip("only root can give files away")
        key.write_bytes(octets)
        key.chmod(0o600)
        os.chown(key, 12345, -1)


#: What is said of a key that is not used, when a file is written and when it is read.
NOT_USED = {
    "readable by others": r"others than its owner have access to it \(mode 640\)\. Run `chmod 600 .*signing\.key`",
    "another user's": r"it belongs to the user 12345, not to \d+\. Remove it",
    "cut short": "is damaged: it does not have 32 bytes",
    "too long": "is damaged: it does not have 32 bytes",
    "a link": "it is a link, not a regular file",
    "a folder": "it is a folder, not a regular file",
}


@pytest.mark.parametrize("lost", ["gone", "another", *NOT_USED])
def test_a_file_is_not_trusted_without_the_users_own_key(
    lost: str, data_folder: Path, tmp_path: Path
) -> None:
    path = save_state(encode_model(Mine(2.0).fit(X)), tmp_path)
    spoil(data_folder / "axon_notebooks" / KEY_FILE, lost, tmp_path)
    said = NOT_USED.get(lost) or {
        "gone": r"cannot be checked: the signing key .*signing\.key is missing",
        "another": r"signed with another key than .*signing\.key, or was changed",
    }.get(lost)
    with pytest.raises(InvalidData, match=rf"test_scikit\.Mine\. It.*{said}.*trusted=True"):
        restore_model(path, Mine())
    fresh = Mine()
    restore_model(path, fresh, trusted=True)
    assert np.array_equal(fresh.mean_, X.mean(0) * 2)


@pytest.mark.parametrize("lost", NOT_USED)
def test_a_file_that_cannot_be_signed_is_warned_of_once(
    lost: str, data_folder: Path, tmp_path: Path
) -> None:
    encode_model(Mine())
    spoil(data_folder / "axon_notebooks" / KEY_FILE, lost, tmp_path)
    encode_model(LogisticRegression(max_iter=300).fit(X, Y))  # which needs no signature
    with pytest.warns(AxonWarning, match=f"saved unsigned.*{NOT_USED[lost]}") as warned:
        path = save_state(encode_model(Mine(2.0).fit(X)), tmp_path)
    encode_model(Mine())
    assert len(warned) == 1
    (data_folder / "axon_notebooks" / KEY_FILE).rename(tmp_path / "away")
    encode_model(Mine())  # with a new key
    with pytest.raises(InvalidData, match=r"Mine\. It is not signed\..*trusted=True"):
        restore_model(path, None)


def test_a_signature_is_that_of_one_content(tmp_path: Path) -> None:
    """Not even with a signature from another file of the user can a file be made up."""
    signed = Path(save_state(encode_model(Mine().fit(X)), tmp_path)).read_bytes()
    forged = zipped(schema_json=json.dumps(OS_SYSTEM))
    path = tmp_path / "forged.skops"
    for content in (
        forged,
        forged[:-2] + signed[-38:],
        forged + signed,
        signed[:-60] + forged + signed[-38:],
        signed[:-1] + bytes([signed[-1] ^ 1]),
        signed[:40] + bytes([signed[40] ^ 1]) + signed[41:],
    ):
        path.write_bytes(content)
        with pytest.raises((InvalidData, StateCorrupt)):
            restore_model(str(path), None)


def test_a_training_goes_on_where_no_key_can_be_kept(data_folder: Path, tmp_path: Path) -> None:
    data_folder.write_text("a file where the folder should be")
    with pytest.warns(
        AxonWarning, match=r"signing\.key cannot be made: .*folder that you can write to"
    ):
        path = save_state(encode_model(Mine(2.0).fit(X)), tmp_path)
    with pytest.raises(InvalidData, match=r"It is not signed.*trusted=True"):
        restore_model(path, None)
    assert restore_model(path, None, trusted=True).scale == 2


def test_resume_takes_trust_too(
    axon: Any, resumed_from: Callable[..., Any], data_folder: Path
) -> None:
    axon.checkpoint(Mine(2.0).fit(X), epoch=0)
    (data_folder / "axon_notebooks" / KEY_FILE).unlink()
    fresh = Mine()
    with pytest.raises(InvalidData, match="trusted=True"):
        resumed_from(fresh)
    resumed_from(fresh, trusted=True)
    assert fresh.scale == 2


def test_a_signed_file_is_read_by_skops_itself(tmp_path: Path) -> None:
    import skops.io

    path = save_state(encode_model(LogisticRegression(max_iter=300).fit(X, Y)), tmp_path)
    assert np.array_equal(
        skops.io.load(path).predict(X), LogisticRegression(max_iter=300).fit(X, Y).predict(X)
    )


def test_an_estimator_stays_what_it_is_when_the_cell_of_its_class_has_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, estimator = save_state(encode_model(Mine(2.0).fit(X)), tmp_path), Mine()
    monkeypatch.setattr(f"{__name__}.Mine", type("Mine", (BaseEstimator,), dict(vars(Mine))))
    assert restore_model(path, estimator) is estimator
    assert estimator.scale == 2


def test_a_class_that_is_not_defined_yet_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_state(encode_model(Mine(2.0).fit(X)), tmp_path)
    monkeypatch.delattr(f"{__name__}.Mine")
    with pytest.raises(InvalidData, match=r"test_scikit\.Mine .*define it first"):
        restore_model(path, None)


def test_what_skops_vouches_for_needs_no_trust(tmp_path: Path) -> None:
    estimator = LogisticRegression(max_iter=300).fit(X, Y > 4)
    back = restore_model(save_state(encode_model(estimator), tmp_path), None)
    assert back.coef_.tobytes() == estimator.coef_.tobytes()


def test_an_estimator_of_another_class_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = save_state(encode_model(LogisticRegression(max_iter=300).fit(X, Y > 4)), tmp_path)
    other = SGDClassifier(alpha=0.5)
    with pytest.raises(
        InvalidData, match=r"is a .*SGDClassifier, in the checkpoint a .*LogisticRegression"
    ):
        restore_model(path, other)
    assert vars(other) == vars(SGDClassifier(alpha=0.5))


def test_what_skops_cannot_keep_is_refused() -> None:
    with pytest.raises(TypeError, match=r"skops cannot keep this .*FunctionTransformer"):
        encode_model(FunctionTransformer(lambda x: x))


class Speed(enum.Enum):
    FAST = "fast"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1


class Needs:
    """What cannot be made without arguments."""

    def __new__(cls, size: int) -> Needs:
        made = super().__new__(cls)
        made.size = size
        return made


class Labels(dict[str, int]):
    """A dict with an attribute."""


def labelled() -> Labels:
    labels = Labels(a=1)
    labels.source = "a file"
    return labels


@pytest.mark.parametrize(
    "value",
    [
        collections.deque([1.0, 2.0], maxlen=5),
        collections.deque([1]),
        collections.deque(maxlen=5),
        collections.defaultdict(list, {1: [2]}),
        Speed.FAST,
        Level.LOW,
        Access.READ,
        re.compile("a"),
        Needs(3),
        labelled(),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"inner": [value]}])
def test_what_would_not_come_back_is_refused_when_it_is_saved(value: Any, wrap: Any) -> None:
    model = Mine()
    model.kept_ = wrap(value)
    with pytest.raises(TypeError, match=r"skops cannot keep this .*Mine: .*kept_"):
        encode_model(model)


@pytest.mark.parametrize(
    "value",
    [
        collections.Counter("aab"),
        collections.OrderedDict(a=1),
        collections.defaultdict(int, {"a": 2}),
        scipy.sparse.csr_matrix(np.eye(3)),
        float("nan"),
        {1: np.float64("nan"), 2: np.int64(3)},
        np.array([{"a": 1}, None], dtype=object),
        np.ma.array([1, 2], mask=[True, False]),
        np.random.default_rng(1),
        datetime.timedelta(1),
        ((1, "a"), frozenset({2}), None, b"1", 1 << 80),
        doubled,
        Mine,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_comes_back_is_kept(value: Any, tmp_path: Path) -> None:
    model = Mine()
    model.kept_ = [value]
    back = restore_model(save_state(encode_model(model), tmp_path), Mine())
    assert type(back.kept_[0]) is type(value)


class Rebuilds(Mine):
    """An estimator that leaves out what it makes anew."""

    def __getstate__(self) -> Any:
        return {name: value for name, value in vars(self).items() if name != "queue_"}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state, queue_=collections.deque())


def test_an_estimator_that_says_what_is_kept_of_it_has_its_way(tmp_path: Path) -> None:
    model = Rebuilds()
    model.queue_ = collections.deque([1])
    back = restore_model(save_state(encode_model(model), tmp_path), Rebuilds())
    assert back.queue_ == collections.deque()


def test_an_estimator_needs_no_optimizer(tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"fold": 3}), tmp_path)
    assert restore_training(path, None, None, rng=True) == (None, {"fold": 3})


def zipped(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_json", ".json"), text)
    return made.getvalue()


OS_SYSTEM = {
    "__class__": "system",
    "__module__": "os",
    "__loader__": "FunctionNode",
    "__id__": 1,
    "content": {"module_path": "os", "function": "system"},
    "protocol": 3,
    "_skops_version": "0.16.0",
}


@pytest.mark.parametrize(
    "content",
    [
        zipped(),
        zipped(schema_json="{"),
        zipped(schema_json="[]"),
        zipped(schema_json="{}"),
        zipped(schema_json=json.dumps({"__loader__": "Nothing"})),
        zipped(schema_json="[" * 100_000),
        b"PK\3\4 no zip at all",
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_file_that_skops_cannot_read_is_refused(
    content: bytes, trusted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    for model in (None, LogisticRegression()):
        with pytest.raises(StateCorrupt, match="skops cannot read it"):
            restore_model(str(path), model, trusted=trusted)


def test_a_function_is_not_made_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(zipped(schema_json=json.dumps(OS_SYSTEM)))
    with pytest.raises((InvalidData, StateCorrupt), match=r"system|cannot read"):
        restore_model(str(path), None)


def test_files_of_the_other_format_are_told(tmp_path: Path) -> None:
    arrays = save_state(encode_model({"a": np.ones(1)}), tmp_path)
    with pytest.raises(StateCorrupt, match="not a zip file"):
        restore_model(arrays, LogisticRegression())
    estimator = save_state(encode_model(LogisticRegression()), tmp_path)
    with pytest.raises(StateCorrupt, match="header should be"):
        restore_model(estimator, {"a": np.ones(1)})
    with pytest.raises(NotFound):
        restore_model(str(tmp_path / "none"), LogisticRegression())


@pytest.mark.parametrize("version", ["0.10.0", "0.11.0.dev1", "0.12.0"])
def test_a_skops_that_a_file_can_make_run_code_is_not_used(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = LogisticRegression().fit(X, Y)
    path = save_state(encode_model(estimator), tmp_path)
    monkeypatch.setattr("skops.__version__", version)
    for use in (lambda: encode_model(estimator), lambda: restore_model(path, None)):
        with pytest.raises(StateError, match=r"CVE-2025-54412.*pip install 'skops>=0.13'"):
            use()


@pytest.mark.parametrize(
    ("loader", "schema"),
    [
        ("OperatorFuncNode", {"__module__": "operator", "__class__": "call"}),
        ("OperatorFuncNode", {"__module__": "builtins", "__class__": "exec"}),
        (
            "MethodNode",
            {"__module__": "builtins", "__class__": "exec", "content": {"func": "__call__"}},
        ),
    ],
)
def test_a_file_that_hides_what_it_calls_is_refused(
    loader: str, schema: dict[str, Any], tmp_path: Path
) -> None:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as archive:
        document = {
            "protocol": 2,
            "_skops_version": "0.11.0",
            "__loader__": loader,
            "__id__": 1,
            **schema,
        }
        archive.writestr("schema.json", json.dumps(document))
    file = tmp_path / "model.skops"
    file.write_bytes(octets.getvalue())
    with pytest.raises((InvalidData, StateCorrupt)):
        restore_model(str(file), None)
