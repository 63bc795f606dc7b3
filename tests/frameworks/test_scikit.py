"""Estimators are kept by skops, which creates no untrusted types unless the file is signed."""

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
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from support.state_files import restore_model, restore_training, save_state

from jupyter_axon_notebooks.errors import InvalidData, StateCorrupt, StateError
from jupyter_axon_notebooks.training import signing
from jupyter_axon_notebooks.training.formats import encode_model, encode_training
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.signing import KEY_FILE

X, Y = load_digits(return_X_y=True)
X, Y = X[:200] / 16, Y[:200]


def doubled(values: Any) -> Any:
    return values * 2


class Custom(BaseEstimator):
    """An estimator that is defined in a notebook."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def fit(self, x: Any, y: Any = None) -> Custom:
        self.mean_ = np.mean(x, axis=0) * self.scale
        return self

    def transform(self, x: Any) -> Any:
        return x - self.mean_

    def predict(self, x: Any) -> Any:
        return self.transform(x)


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "linear": lambda: LogisticRegression(max_iter=300),
    "pipeline": lambda: make_pipeline(StandardScaler(), SGDClassifier(random_state=0)),
    "forest": lambda: RandomForestClassifier(5, random_state=0),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=3),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=2, random_state=0),
    "perceptron": lambda: MLPClassifier((8,), max_iter=3, random_state=0),
    "random search": lambda: RandomizedSearchCV(
        RandomForestClassifier(3, random_state=0), {"max_depth": [2, 3]}, n_iter=2, cv=2
    ),
    "grid search": lambda: GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2, random_state=0)),
        {"mlpclassifier__alpha": [1e-4, 1e-2]},
        cv=2,
    ),
    "voting": lambda: VotingClassifier(
        [("forest", RandomForestClassifier(3)), ("nearest", KNeighborsClassifier())]
    ),
    "columns": lambda: make_pipeline(
        ColumnTransformer([("scale", StandardScaler(), [0, 1, 2])], remainder="passthrough"), SVC()
    ),
    "gaussian process": lambda: GaussianProcessClassifier(random_state=0),
    "NumPy function": lambda: make_pipeline(FunctionTransformer(np.log1p), GaussianNB()),
    "notebook's function": lambda: make_pipeline(FunctionTransformer(doubled), GaussianNB()),
    "notebook's estimator": lambda: make_pipeline(Custom(2.0), GaussianNB()),
    "outliers": lambda: IsolationForest(n_estimators=3, random_state=0),
    "clusters": lambda: KMeans(3, n_init=1, random_state=0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_are_resumed(name: str, axon: Any, resume: Callable[..., Any]) -> None:
    estimator = ESTIMATORS[name]().fit(X[:120], Y[:120])
    axon.checkpoint(estimator, epoch=0)
    fresh = ESTIMATORS[name]()
    assert resume(fresh).model is fresh
    assert np.array_equal(fresh.predict(X), estimator.predict(X))
    restored, _ = axon.latest().restore()
    assert type(restored) is type(estimator)
    assert np.array_equal(restored.predict(X), estimator.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_training_in_steps_continues(axon: Any, resume: Callable[..., Any]) -> None:
    def step(model: Any) -> Any:
        return model.partial_fit(X, Y, classes=np.arange(10))

    model, fresh = MLPClassifier((8,), random_state=0), MLPClassifier((8,), random_state=5)
    step(model)
    axon.checkpoint(model, epoch=0)
    for _ in range(3):
        step(model)
    resume(fresh)
    for _ in range(3):
        step(fresh)
    assert all(map(np.array_equal, fresh.coefs_, model.coefs_))


def test_a_forest_continues_to_grow(axon: Any, resume: Callable[..., Any]) -> None:
    forest, fresh = (RandomForestClassifier(3, warm_start=True, random_state=0) for _ in range(2))
    axon.checkpoint(forest.fit(X, Y), epoch=0)
    resume(fresh)
    for one in (forest, fresh):
        one.set_params(n_estimators=6).fit(X, Y)
    assert np.array_equal(fresh.predict_proba(X), forest.predict_proba(X))


# Signatures


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test warn once, like a new process."""
    monkeypatch.setattr(signing, "_is_warned", False)


def test_the_key_is_private_and_does_not_change(data_folder: Path, tmp_path: Path) -> None:
    first = save_state(encode_model(Custom().fit(X)), tmp_path, "first")
    key = data_folder / "axon_notebooks" / KEY_FILE
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(before) == 32
    save_state(encode_model(Custom().fit(X)), tmp_path, "second")
    assert key.read_bytes() == before
    restore_model(first, None)


def damage_key(key: Path, damage: str, tmp_path: Path) -> None:
    """Replace the signing key, or make it unusable."""
    octets = key.read_bytes()
    if damage == "readable by others":
        key.chmod(0o640)
    else:
        key.unlink()
    if damage == "another":
        encode_model(Custom())
    elif damage in ("truncated", "too long"):
        key.write_bytes(octets[:-1] if damage == "truncated" else octets * 2)
        key.chmod(0o600)
    elif damage == "a link":
        (tmp_path / "key").write_bytes(octets)
        (tmp_path / "key").chmod(0o600)
        key.symlink_to(tmp_path / "key")
    elif damage == "a folder":
        key.mkdir()
    elif damage == "another user's":
        if os.geteuid():
            pytest.skip("only root can give files away")
        key.write_bytes(octets)
        key.chmod(0o600)
        os.chown(key, 12345, -1)


#: Messages about unusable keys, on writing and on reading.
UNUSABLE = {
    "readable by others": r"others than its owner have access to it \(mode 640\)\. "
    r"Run `chmod 600 .*signing\.key`",
    "another user's": r"it belongs to the user 12345, not to \d+\. Remove it",
    "truncated": "is damaged: it does not have 32 bytes",
    "too long": "is damaged: it does not have 32 bytes",
    "a link": "it is a link, not a regular file",
    "a folder": "it is a folder, not a regular file",
}


@pytest.mark.parametrize("damage", ["gone", "another", *UNUSABLE])
def test_a_file_is_trusted_only_with_the_users_key(
    damage: str, data_folder: Path, tmp_path: Path
) -> None:
    path = save_state(encode_model(Custom(2.0).fit(X)), tmp_path)
    damage_key(data_folder / "axon_notebooks" / KEY_FILE, damage, tmp_path)
    reason = UNUSABLE.get(damage) or {
        "gone": r"cannot be checked: the signing key .*signing\.key is missing",
        "another": r"signed with another key than .*signing\.key, or was changed",
    }.get(damage)
    with pytest.raises(InvalidData, match=rf"test_scikit\.Custom\. It.*{reason}.*trusted=True"):
        restore_model(path, Custom())
    fresh = Custom()
    restore_model(path, fresh, trusted=True)
    assert np.array_equal(fresh.mean_, X.mean(0) * 2)


@pytest.mark.parametrize("damage", UNUSABLE)
def test_an_unusable_key_is_reported_once(damage: str, data_folder: Path, tmp_path: Path) -> None:
    encode_model(Custom())
    damage_key(data_folder / "axon_notebooks" / KEY_FILE, damage, tmp_path)
    encode_model(LogisticRegression(max_iter=300).fit(X, Y))  # needs no signature
    with pytest.warns(AxonWarning, match=f"saved unsigned.*{UNUSABLE[damage]}") as warnings:
        path = save_state(encode_model(Custom(2.0).fit(X)), tmp_path)
    encode_model(Custom())
    assert len(warnings) == 1
    (data_folder / "axon_notebooks" / KEY_FILE).rename(tmp_path / "away")
    encode_model(Custom())  # with a new key
    with pytest.raises(InvalidData, match=r"Custom\. It is not signed\..*trusted=True"):
        restore_model(path, None)


def test_a_signature_is_valid_for_one_content(tmp_path: Path) -> None:
    signed = Path(save_state(encode_model(Custom().fit(X)), tmp_path)).read_bytes()
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


def test_estimators_are_saved_without_a_key(data_folder: Path, tmp_path: Path) -> None:
    data_folder.write_text("a file where the folder should be")
    with pytest.warns(
        AxonWarning, match=r"signing\.key cannot be created: .*folder that you can write to"
    ):
        path = save_state(encode_model(Custom(2.0).fit(X)), tmp_path)
    with pytest.raises(InvalidData, match=r"It is not signed.*trusted=True"):
        restore_model(path, None)
    assert restore_model(path, None, trusted=True).scale == 2


def test_resume_accepts_trusted_files(
    axon: Any, resume: Callable[..., Any], data_folder: Path
) -> None:
    axon.checkpoint(Custom(2.0).fit(X), epoch=0)
    (data_folder / "axon_notebooks" / KEY_FILE).unlink()
    fresh = Custom()
    with pytest.raises(InvalidData, match="trusted=True"):
        resume(fresh)
    resume(fresh, trusted=True)
    assert fresh.scale == 2


def test_skops_reads_a_signed_file(tmp_path: Path) -> None:
    import skops.io

    path = save_state(encode_model(LogisticRegression(max_iter=300).fit(X, Y)), tmp_path)
    assert np.array_equal(
        skops.io.load(path).predict(X), LogisticRegression(max_iter=300).fit(X, Y).predict(X)
    )


def test_a_class_may_be_defined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, estimator = save_state(encode_model(Custom(2.0).fit(X)), tmp_path), Custom()
    monkeypatch.setattr(f"{__name__}.Custom", type("Custom", (BaseEstimator,), dict(vars(Custom))))
    assert restore_model(path, estimator) is estimator
    assert estimator.scale == 2


def test_a_missing_class_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_state(encode_model(Custom(2.0).fit(X)), tmp_path)
    monkeypatch.delattr(f"{__name__}.Custom")
    with pytest.raises(InvalidData, match=r"test_scikit\.Custom .*define it first"):
        restore_model(path, None)


def test_types_that_skops_trusts_need_no_signature(tmp_path: Path) -> None:
    estimator = LogisticRegression(max_iter=300).fit(X, Y > 4)
    restored = restore_model(save_state(encode_model(estimator), tmp_path), None)
    assert restored.coef_.tobytes() == estimator.coef_.tobytes()


def test_an_estimator_of_another_class_is_refused(tmp_path: Path) -> None:
    path = save_state(encode_model(LogisticRegression(max_iter=300).fit(X, Y > 4)), tmp_path)
    other = SGDClassifier(alpha=0.5)
    with pytest.raises(
        InvalidData, match=r"is a .*SGDClassifier, in the checkpoint a .*LogisticRegression"
    ):
        restore_model(path, other)
    assert vars(other) == vars(SGDClassifier(alpha=0.5))


def test_a_lambda_is_refused() -> None:
    with pytest.raises(TypeError, match=r"skops cannot keep this .*FunctionTransformer"):
        encode_model(FunctionTransformer(lambda x: x))


class Speed(enum.Enum):
    FAST = "fast"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1


class Needs:
    """An object that cannot be created without arguments."""

    def __new__(cls, size: int) -> Needs:
        needs = super().__new__(cls)
        needs.size = size
        return needs


class Labels(dict[str, int]):
    """A dict with attributes."""


def create_labels() -> Labels:
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
        create_labels(),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"inner": [value]}])
def test_values_that_would_change_are_refused(value: Any, wrap: Any) -> None:
    model = Custom()
    model.kept_ = wrap(value)
    with pytest.raises(TypeError, match=r"skops cannot keep this .*Custom: .*kept_"):
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
        Custom,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_restored(value: Any, tmp_path: Path) -> None:
    model = Custom()
    model.kept_ = [value]
    restored = restore_model(save_state(encode_model(model), tmp_path), Custom())
    assert type(restored.kept_[0]) is type(value)


class Rebuilding(Custom):
    """An estimator that recreates a part of its state."""

    def __getstate__(self) -> Any:
        return {name: value for name, value in vars(self).items() if name != "queue_"}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state, queue_=collections.deque())


def test_an_estimator_may_define_its_state(tmp_path: Path) -> None:
    model = Rebuilding()
    model.queue_ = collections.deque([1])
    restored = restore_model(save_state(encode_model(model), tmp_path), Rebuilding())
    assert restored.queue_ == collections.deque()


def test_a_training_needs_no_optimizer(tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"fold": 3}), tmp_path)
    assert restore_training(path, None, None, rng=True) == (None, {"fold": 3})


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_json", ".json"), text)
    return content.getvalue()


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
        b"PK\3\4 not a zip file",
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_invalid_files_are_refused(content: bytes, trusted: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    for model in (None, LogisticRegression()):
        with pytest.raises(StateCorrupt, match="skops cannot read it"):
            restore_model(str(path), model, trusted=trusted)


def test_a_file_cannot_create_functions(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(zipped(schema_json=json.dumps(OS_SYSTEM)))
    with pytest.raises((InvalidData, StateCorrupt), match=r"system|cannot read"):
        restore_model(str(path), None)


def test_files_of_another_format_are_refused(tmp_path: Path) -> None:
    arrays = save_state(encode_model({"a": np.ones(1)}), tmp_path)
    with pytest.raises(StateCorrupt, match="not a zip file"):
        restore_model(arrays, LogisticRegression())
    estimator = save_state(encode_model(LogisticRegression()), tmp_path)
    with pytest.raises(StateCorrupt, match="header should be"):
        restore_model(estimator, {"a": np.ones(1)})


@pytest.mark.parametrize("version", ["0.10.0", "0.11.0.dev1", "0.12.0"])
def test_vulnerable_releases_of_skops_are_refused(
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
def test_hidden_calls_are_refused(loader: str, schema: dict[str, Any], tmp_path: Path) -> None:
    document = {"protocol": 2, "_skops_version": "0.11.0", "__loader__": loader, "__id__": 1}
    file = tmp_path / "model.skops"
    file.write_bytes(zipped(schema_json=json.dumps({**document, **schema})))
    with pytest.raises((InvalidData, StateCorrupt)):
        restore_model(str(file), None)
