"""Estimators of scikit-learn are kept by skops, and nothing it does not vouch for is made unasked."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from written import written

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StateCorrupt, StateError
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)

X, Y = load_digits(return_X_y=True)
X, Y = X[:200] / 16, Y[:200]


class Mine(BaseEstimator):
    """An estimator of the notebook's own."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def fit(self, x: Any, y: Any = None) -> Mine:
        self.mean_ = np.mean(x, axis=0) * self.scale
        return self


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=300),
        make_pipeline(StandardScaler(), SGDClassifier(random_state=0)),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=3),
        MLPClassifier((8,), max_iter=3, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_predicts_what_it_did(estimator: Any, tmp_path: Path) -> None:
    estimator.fit(X, Y)
    encoded = encode_model(estimator)
    assert encoded.format == "skops"
    path = written(encoded, tmp_path)
    back = restore_model(path, None, trusted=True)
    assert type(back) is type(estimator)
    assert np.array_equal(back.predict(X), estimator.predict(X))
    fresh = type(estimator)(estimator.steps) if hasattr(estimator, "steps") else type(estimator)()
    assert restore_model(path, fresh, trusted=True) is fresh
    assert np.array_equal(fresh.predict(X), estimator.predict(X))


def test_what_skops_vouches_for_needs_no_trust(tmp_path: Path) -> None:
    estimator = LogisticRegression(max_iter=300).fit(X, Y > 4)
    back = restore_model(written(encode_model(estimator), tmp_path), None)
    assert back.coef_.tobytes() == estimator.coef_.tobytes()


def test_other_types_are_refused_by_name_unless_trusted(tmp_path: Path) -> None:
    path = written(encode_model(Mine(2.0).fit(X)), tmp_path)
    fresh = Mine()
    with pytest.raises(
        InvalidData, match=r"known to be harmless: test_scikit\.Mine\. .*trusted=True"
    ) as refused:
        restore_model(path, fresh)
    assert refused.value.path == "trusted"
    assert not hasattr(fresh, "mean_")
    restore_model(path, fresh, trusted=True)
    assert np.array_equal(fresh.mean_, X.mean(0) * 2)


def test_an_estimator_of_another_class_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = written(encode_model(LogisticRegression(max_iter=300).fit(X, Y > 4)), tmp_path)
    other = SGDClassifier(alpha=0.5)
    with pytest.raises(InvalidData, match=r"is a .*SGDClassifier, in the checkpoint a .*LogisticRegression"):
        restore_model(path, other)
    assert vars(other) == vars(SGDClassifier(alpha=0.5))


def test_what_skops_cannot_keep_is_refused() -> None:
    with pytest.raises(TypeError, match=r"skops cannot keep this .*FunctionTransformer"):
        encode_model(FunctionTransformer(lambda x: x))


def test_an_estimator_needs_no_optimizer(tmp_path: Path) -> None:
    path = written(encode_training(None, {"fold": 3}), tmp_path)
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
def test_a_file_that_skops_cannot_read_is_refused(content: bytes, trusted: bool, tmp_path: Path) -> None:
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
    arrays = written(encode_model({"a": np.ones(1)}), tmp_path)
    with pytest.raises(StateCorrupt, match="not a zip file"):
        restore_model(arrays, LogisticRegression())
    estimator = written(encode_model(LogisticRegression()), tmp_path)
    with pytest.raises(StateCorrupt, match="header is said to be"):
        restore_model(estimator, {"a": np.ones(1)})
    with pytest.raises(NotFound):
        restore_model(str(tmp_path / "none"), LogisticRegression())


@pytest.mark.parametrize("version", ["0.10.0", "0.11.0.dev1", "0.12.0"])
def test_a_skops_that_a_file_can_make_run_code_is_not_used(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = LogisticRegression().fit(X, Y)
    path = written(encode_model(estimator), tmp_path)
    monkeypatch.setattr("skops.__version__", version)
    for use in (lambda: encode_model(estimator), lambda: restore_model(path, None)):
        with pytest.raises(StateError, match=r"CVE-2025-54412.*pip install 'skops>=0.13'"):
            use()


@pytest.mark.parametrize(
    ("loader", "schema"),
    [
        ("OperatorFuncNode", {"__module__": "operator", "__class__": "call"}),
        ("OperatorFuncNode", {"__module__": "builtins", "__class__": "exec"}),
        ("MethodNode", {"__module__": "builtins", "__class__": "exec", "content": {"func": "__call__"}}),
    ],
)
def test_a_file_that_hides_what_it_calls_is_refused(
    loader: str, schema: dict[str, Any], tmp_path: Path
) -> None:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as archive:
        document = {"protocol": 2, "_skops_version": "0.11.0", "__loader__": loader, "__id__": 1, **schema}
        archive.writestr("schema.json", json.dumps(document))
    file = tmp_path / "model.skops"
    file.write_bytes(octets.getvalue())
    with pytest.raises((InvalidData, StateCorrupt)):
        restore_model(str(file), None)
