"""Validation of the arguments of the notebook API."""

from __future__ import annotations

import math
from collections import UserDict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.training.validation import (
    normalize_metrics,
    validate_position,
    validate_run_name,
)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"loss": np.float32(0.5), "count": np.int64(3)}, {"loss": 0.5, "count": 3}),
        ({"a": np.array(0.25), "val": {"b": np.array([[1.5]])}}, {"a": 0.25, "val": {"b": 1.5}}),
        ({"good": np.bool_(True), "each": (np.float64(1), 2)}, {"good": True, "each": [1.0, 2]}),
        (UserDict({"a": Fraction(1, 2), "b": Decimal("0.25")}), {"a": 0.5, "b": 0.25}),
        ({1: 0.5, np.int64(2): 0.25, 0.5: 1}, {"1": 0.5, "2": 0.25, "0.5": 1}),
        (None, {}),
    ],
)
def test_metrics_become_json(metrics: Any, expected: dict[str, Any]) -> None:
    result = normalize_metrics(metrics, pytest.fail)
    assert result == expected
    assert [type(value) for value in result.values()] == [type(v) for v in expected.values()]


def _recursive() -> dict[str, Any]:
    recursive: dict[str, Any] = {"fine": 1}
    recursive["again"] = recursive
    return recursive


def _nested(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


_MASKED = {"a": np.ma.masked, "b": {"c": np.ma.array(1.0, mask=True), "d": np.ma.array(2)}}


@pytest.mark.parametrize(
    ("metrics", "kept", "warning"),
    [
        (0.5, {}, "not a float"),
        ({"a": np.zeros(2)}, {}, "a (is a ndarray, not a single number)"),
        ({"a": {"b": object(), "c": 1}}, {"a": {"c": 1}}, "a.b (is a object)"),
        ({"a": np.complex64(1), "b": 1j}, {}, "a (is a complex number), b (is a complex number)"),
        ({"a": 10**400, "b": 10**30}, {"b": 10**30}, "a (is too large)"),
        ({"a": _recursive()}, {"a": {"fine": 1}}, "a.again (contains itself)"),
        (_nested(40), {}, "(is nested too deeply)"),
        (_MASKED, {"b": {"d": 2}}, "masked"),
    ],
)
def test_unusable_metrics_are_omitted_with_one_warning(
    metrics: Any, kept: dict[str, Any], warning: str
) -> None:
    warnings: list[str] = []
    if type(metrics) is dict:
        metrics, kept = {"loss": 0.5, **metrics}, {"loss": 0.5, **kept}
    result = normalize_metrics(metrics, warnings.append)
    assert result == kept
    assert NewCheckpoint(notebook_id="n", epoch=0, step=0, metrics=result).metrics == kept
    assert len(warnings) == 1
    assert warning in warnings[0]


@pytest.mark.parametrize("value", [30, 30.0, np.float32(30), np.array([30]), Decimal(30)])
def test_a_position_is_any_whole_number(value: Any) -> None:
    result = validate_position(value, "step", pytest.fail)
    assert (result, type(result)) == (30, int)


def test_positions_have_limits() -> None:
    assert validate_position(None, "epoch", pytest.fail) is None
    assert validate_position(5_000_000_000.0, "step", pytest.fail) == 5_000_000_000
    assert validate_position(2**53 - 1, "step", pytest.fail) == 2**53 - 1
    for name, invalid in (("epoch", -1), ("epoch", 2**32), ("step", -0.5), ("step", 2**53)):
        with pytest.raises(ValueError, match=f"{name} is {invalid}"):
            validate_position(invalid, name, pytest.fail)
    for value in ("3", math.inf, np.zeros(2), np.complex64(1), object()):
        with pytest.raises(TypeError, match="expected a whole number"):
            validate_position(value, "epoch", pytest.fail)


def test_a_run_is_named_by_a_string_or_a_real_number() -> None:
    names = ["fold 2", 2, np.int64(2), 2.0, 0.1, Fraction(1, 3), Decimal("0.10"), None]
    expected = ["fold 2", "2", "2", "2.0", "0.1", "1/3", "0.10", None]
    assert [validate_run_name(name, "key") for name in names] == expected
    for invalid in (True, np.True_, 1j, b"x", [1], object()):
        with pytest.raises(TypeError, match="expected a string or a real number"):
            validate_run_name(invalid, "key")
    for text in (" ", "x" * 256):
        with pytest.raises(ValueError, match=f"run has {len(text)} characters"):
            validate_run_name(text, "run")
