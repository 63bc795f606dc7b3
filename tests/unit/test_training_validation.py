"""Validation of the arguments of the notebook API."""

from __future__ import annotations

import enum
import math
from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.training.validation import (
    normalize_metrics,
    validate_checkpoint_id,
    validate_key,
    validate_limit,
    validate_metric_name,
    validate_mode,
    validate_path_or_id,
    validate_position,
    validate_run,
    validate_tags,
)


class Meter:
    """A number that only converts to ``float``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


class BrokenMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("gone")


class BrokenList(list[Any]):
    def __iter__(self) -> Any:
        raise OSError("gone")


class BrokenNumber(int):
    def __int__(self) -> int:
        raise OSError("gone")


class Split(enum.Enum):
    TRAIN = "train"


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"loss": np.float32(0.5), "count": np.int64(3)}, {"loss": 0.5, "count": 3}),
        ({"a": np.array(0.25), "val": {"b": np.array([[1.5]])}}, {"a": 0.25, "val": {"b": 1.5}}),
        ({"good": np.bool_(True), "each": (np.float64(1), 2)}, {"good": True, "each": [1.0, 2]}),
        ({"note": "warm-up", "none": None}, {"note": "warm-up", "none": None}),
        (UserDict({"a": Meter(0.5), "b": Decimal("0.25")}), {"a": 0.5, "b": 0.25}),
        ({"a": Fraction(1, 8), "b": np.longdouble(2)}, {"a": 0.125, "b": 2.0}),
        ({1: 0.5, np.int64(2): 0.25, 0.5: 1}, {"1": 0.5, "2": 0.25, "0.5": 1}),
        ({None: 2, Split.TRAIN: {3: 4}}, {"None": 2, "train": {"3": 4}}),
        (None, {}),
    ],
)
def test_metrics_become_json(metrics: Any, expected: dict[str, Any]) -> None:
    result = normalize_metrics(metrics, pytest.fail)
    assert result == expected
    assert [type(value) for value in result.values()] == [type(v) for v in expected.values()]


def test_metrics_may_be_nan_or_infinite() -> None:
    result = normalize_metrics({"a": np.float64("nan"), "b": math.inf}, pytest.fail)
    assert math.isnan(result["a"])
    assert result["b"] == math.inf


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
_MANY_NAN = {"a": {"h": [math.nan] * 2_500_000, "l": 1}, "b": [math.inf]}
_ELEMENTS = {"a": [1, object()], "b": [1, {"c": object()}]}


@pytest.mark.parametrize(
    ("metrics", "kept", "warning"),
    [
        ([1], {}, "not a list"),
        (0.5, {}, "not a float"),
        ({"a": np.zeros(2)}, {}, "a (is a ndarray, not a single number)"),
        ({"a": {"b": object(), "c": 1}}, {"a": {"c": 1}}, "a.b (is a object)"),
        ({"a": {"b": object()}}, {}, "a.b (is a object)"),
        ({"a": np.complex64(1), "b": 1j}, {}, "a (is a complex number), b (is a complex number)"),
        ({"a": 10**400, "b": 10**30}, {"b": 10**30}, "a (is too large)"),
        (_ELEMENTS, {}, "a (has an element that is not a number), b (has"),
        ({"a": _recursive()}, {"a": {"fine": 1}}, "a.again (contains itself)"),
        (_nested(40), {}, "(is nested too deeply)"),
        ({1: 1, "1": 2}, {"1": 1}, "1 (appears twice)"),
        ({(1, 2): 1}, {}, "tuple (is not a name)"),
        ({"a": b"x", "b": {1, 2}, "c": print}, {}, "b (is a set)"),
        ({10**5000: 1, "b": 10**5000}, {}, "int (is not a name), b (is too large)"),
        (_MASKED, {"b": {"d": 2}}, "masked"),
        ({"a": BrokenMapping(b=1)}, {}, "a (cannot be read: RuntimeError)"),
        ({"b": {"c": BrokenMapping(), "d": 1}}, {"b": {"d": 1}}, "b.c (cannot be read"),
        (BrokenMapping(a=1), {}, "the mapping cannot be read: RuntimeError"),
        ({"a": BrokenList([1])}, {}, "a (cannot be read"),
        ({"b": {BrokenNumber(1): 1}, "c": BrokenNumber(2)}, {}, "b.BrokenNumber (is not a name)"),
        (_MANY_NAN, {"a": {"l": 1}, "b": [math.inf]}, "a.h (has too many values that"),
        ({"k" * 5000: [math.nan] * 3000}, {}, "k (has too many"),
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


def test_a_long_list_of_omitted_metrics_is_cut() -> None:
    warnings: list[str] = []
    assert normalize_metrics(dict.fromkeys("abcdefghijklmn", object()), warnings.append) == {}
    assert "j (is a object) and 4 more" in warnings[0]


@pytest.mark.parametrize(
    "value",
    [
        30,
        30.0,
        np.float32(30),
        np.uint8(30),
        np.array(30.0),
        np.array([30]),
        Meter(30.0),
        Decimal(30),
    ],
)
def test_a_position_is_any_whole_number(value: Any) -> None:
    result = validate_position(value, "step", pytest.fail)
    assert (result, type(result)) == (30, int)


def test_a_fraction_is_rounded_down_with_a_warning() -> None:
    warnings: list[str] = []
    assert validate_position(1.5, "epoch", warnings.append) == 1
    assert validate_position(np.float64(2.99), "epoch", warnings.append) == 2
    assert warnings == ["epoch is not a whole number; it is rounded down"] * 2


@pytest.mark.parametrize(
    "value", [math.nan, np.float32("nan"), np.array([math.nan]), Decimal("NaN"), np.ma.masked]
)
def test_a_missing_position_is_omitted_with_a_warning(value: Any) -> None:
    warnings: list[str] = []
    assert validate_position(value, "epoch", warnings.append) is None
    assert warnings == ["epoch is not a number; it is treated as omitted"]


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


@pytest.mark.parametrize("validate", [validate_key, validate_run])
def test_a_run_is_named_by_a_string_or_a_real_number(
    validate: Callable[[Any], str | None],
) -> None:
    names = ["fold 2", 2, np.int64(2), 2.0, 0.1, Fraction(1, 3), Decimal("0.10"), None]
    expected = ["fold 2", "2", "2", "2.0", "0.1", "1/3", "0.10", None]
    assert [validate(name) for name in names] == expected
    for invalid in (True, np.True_, 1j, b"x", [1], object()):
        with pytest.raises(TypeError, match="expected a string or a real number that"):
            validate(invalid)
    with pytest.raises(TypeError, match="blank"):
        validate(" ")
    with pytest.raises(ValueError, match="has 256 characters"):
        validate("x" * 256)


@pytest.mark.parametrize(
    ("validate", "valid", "invalid", "error"),
    [
        (validate_tags, [("best yet", ["best yet"]), (["a", "b", "a"], ["a", "b"])], [3], "tags"),
        (validate_metric_name, [("val.loss", "val.loss")], 3, "metric is 3"),
        (validate_checkpoint_id, [("1f9c", "1f9c")], 3, "id is 3"),
        (validate_limit, [(None, None), (3, 3), (np.int64(3), 3)], "3", "limit is '3'"),
        (validate_limit, [(0, 0)], 1.5, "limit is 1.5"),
        (validate_path_or_id, [("a.ipynb", "a.ipynb"), (Path("a"), "a")], 3, "path_or_id is 3"),
        (validate_path_or_id, [], b"a.ipynb", "path_or_id is b"),
    ],
)
def test_arguments_of_other_types_are_rejected_by_name(
    validate: Callable[[Any], Any], valid: list[tuple[Any, Any]], invalid: Any, error: str
) -> None:
    for value, expected in valid:
        assert validate(value) == expected
    with pytest.raises(TypeError, match=error):
        validate(invalid)


def test_values_out_of_range_are_rejected_by_name() -> None:
    assert [validate_mode(mode) for mode in (None, "min", "max")] == [None, "min", "max"]
    with pytest.raises(ValueError, match="mode is 'best'"):
        validate_mode("best")
    with pytest.raises(ValueError, match="limit is -1"):
        validate_limit(-1)
    with pytest.raises(ValueError, match="id is blank"):
        validate_checkpoint_id("")
