"""What a training hands over, and how it is told that something is wrong with it."""

from __future__ import annotations

import enum
import math
from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.training.validation import (
    normalize_metrics,
    validate_key,
    validate_position,
    validate_run,
    validate_tags,
)


class Meter:
    """A number as libraries keep it: it converts, and that is all."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


class Broken(dict[str, Any]):
    """A mapping that cannot be read, as a view of what is gone."""

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


def test_numbers_come_out_of_what_holds_them() -> None:
    given = {
        "loss": np.float32(0.5),
        "accuracy": np.array(0.25),
        "count": np.int64(3),
        "good": np.bool_(True),
        "val": {"loss": np.array([[1.5]])},
        "each": (np.float64(1), 2),
        "note": "warm-up",
        "none": None,
    }
    found = normalize_metrics(given, pytest.fail)
    assert found == {
        "loss": 0.5,
        "accuracy": 0.25,
        "count": 3,
        "good": True,
        "val": {"loss": 1.5},
        "each": [1.0, 2],
        "note": "warm-up",
        "none": None,
    }
    assert [type(found[name]) for name in ("loss", "count", "good")] == [float, int, bool]


def test_what_is_not_finite_stays() -> None:
    found = normalize_metrics({"a": np.float64("nan"), "b": math.inf}, pytest.fail)
    assert math.isnan(found["a"])
    assert found["b"] == math.inf


def test_numbers_that_only_convert_are_numbers() -> None:
    given = UserDict(
        {"a": Meter(0.5), "b": Decimal("0.25"), "c": Fraction(1, 8), "d": np.longdouble(2)}
    )
    assert normalize_metrics(given, pytest.fail) == {"a": 0.5, "b": 0.25, "c": 0.125, "d": 2.0}


def test_keys_that_are_no_texts_become_texts() -> None:
    given = {1: 0.5, np.int64(2): 0.25, 0.5: 1, None: 2, Split.TRAIN: {3: 4}}
    found = normalize_metrics(given, pytest.fail)
    assert found == {"2": 0.25, "0.5": 1, "None": 2, "train": {"3": 4}, "1": 0.5}


def _endless() -> dict[str, Any]:
    endless: dict[str, Any] = {"fine": 1}
    endless["again"] = endless
    return endless


def _nested(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


@pytest.mark.parametrize(
    ("given", "kept", "said"),
    [
        ([1], {}, "not a list"),
        (0.5, {}, "not a float"),
        ({"a": np.zeros(2)}, {}, "a (is a ndarray that gives no single number)"),
        ({"a": {"b": object(), "c": 1}}, {"a": {"c": 1}}, "a.b (is a object)"),
        ({"a": {"b": object()}}, {}, "a.b (is a object)"),
        ({"a": np.complex64(1), "b": 1j}, {}, "a (is a complex number), b (is a complex number)"),
        ({"a": 10**400, "b": 10**30}, {"b": 10**30}, "a (is too large)"),
        (
            {"a": [1, object()], "b": [1, {"c": object()}]},
            {},
            "a (has an element that is no number), b (has",
        ),
        ({"a": _endless()}, {"a": {"fine": 1}}, "a.again (holds itself)"),
        (_endless(), {"fine": 1, "again": {"fine": 1}}, "again.again (holds itself)"),
        (_nested(40), {}, "(is nested too deeply)"),
        ({1: 1, "1": 2}, {"1": 1}, "1 (is there twice)"),
        ({(1, 2): 1}, {}, "tuple (is no name)"),
        ({"a": b"x", "b": {1, 2}, "c": print}, {}, "b (is a set)"),
        ({10**5000: 1, "b": 10**5000}, {}, "int (is no name), b (is too large)"),
        (
            {"a": np.ma.masked, "b": {"c": np.ma.array(1.0, mask=True), "d": np.ma.array(2)}},
            {"b": {"d": 2}},
            "masked",
        ),
        (
            {"a": Broken(b=1), "b": {"c": Broken(), "d": 1}},
            {"b": {"d": 1}},
            "a (cannot be read: RuntimeError), b.c",
        ),
        (Broken(a=1), {}, "no metrics are recorded: the mapping cannot be read: RuntimeError"),
        (
            {"a": BrokenList([1]), "b": {BrokenNumber(1): 1}, "c": BrokenNumber(2)},
            {},
            "a (cannot be read",
        ),
        (
            {"a": {"h": [math.nan] * 2_500_000, "l": 1}, "b": [math.inf]},
            {"a": {"l": 1}, "b": [math.inf]},
            "metrics are left out: a.h (has too many values that are not finite).",
        ),
        ({"k" * 5000: [math.nan] * 3000}, {}, "k (has too many"),
    ],
)
def test_what_is_no_number_is_named_once_and_left_out(
    given: Any, kept: dict[str, Any], said: str
) -> None:
    told: list[str] = []
    if type(given) is dict:
        given, kept = {"loss": 0.5, **given}, {"loss": 0.5, **kept}
    found = normalize_metrics(given, told.append)
    assert found == kept
    assert NewCheckpoint(notebook_id="n", epoch=0, step=0, metrics=found).metrics == kept
    (text,) = told
    assert said in text


def test_many_that_are_left_out_are_counted() -> None:
    told: list[str] = []
    assert normalize_metrics(dict.fromkeys("abcdefghijklmn", object()), told.append) == {}
    assert "j (is a object) and 4 more" in told[0]


@pytest.mark.parametrize(
    "value",
    [
        30,
        30.0,
        np.float64(30.0),
        np.float32(30),
        np.uint8(30),
        np.array(30.0),
        np.array([30]),
        Meter(30.0),
        Decimal(30),
    ],
)
def test_what_stands_for_a_whole_number_is_one(value: Any) -> None:
    found = validate_position(value, "step", pytest.fail)
    assert (found, type(found)) == (30, int)


def test_a_fraction_is_rounded_down_and_told() -> None:
    told: list[str] = []
    assert [
        validate_position(value, "epoch", told.append) for value in (1.5, np.float64(2.99))
    ] == [
        1,
        2,
    ]
    assert told == ["epoch is not a whole number; it is recorded rounded down"] * 2


def test_steps_may_be_larger_than_epochs() -> None:
    assert validate_position(None, "epoch", pytest.fail) is None
    assert validate_position(5_000_000_000.0, "step", pytest.fail) == 5_000_000_000
    assert validate_position(2**53 - 1, "step", pytest.fail) == 2**53 - 1
    for name, wrong in (("epoch", -1), ("epoch", 2**32), ("step", -0.5), ("step", 2**53)):
        with pytest.raises(ValueError, match=f"{name} is {wrong}"):
            validate_position(wrong, name, pytest.fail)
    for no_number in ("3", math.inf, np.zeros(2), np.complex64(1), object()):
        with pytest.raises(TypeError, match="expected a whole number"):
            validate_position(no_number, "epoch", pytest.fail)


@pytest.mark.parametrize(
    "missing",
    [
        math.nan,
        np.float32("nan"),
        np.array([math.nan]),
        Decimal("NaN"),
        Meter(math.nan),
        np.ma.masked,
    ],
)
def test_a_missing_number_is_omitted_and_told(missing: Any) -> None:
    told: list[str] = []
    assert validate_position(missing, "epoch", told.append) is None
    assert told == ["epoch is not a number; it is taken as omitted"]


@pytest.mark.parametrize("name", [validate_key, validate_run])
def test_a_run_is_named_by_a_text_or_any_real_number(name: Callable[[Any], str | None]) -> None:
    given = [
        "fold 2",
        2,
        np.int64(2),
        2.0,
        0.1,
        np.float64(0.1),
        Fraction(1, 3),
        Decimal("0.10"),
        None,
    ]
    assert [name(one) for one in given] == [
        "fold 2",
        "2",
        "2",
        "2.0",
        "0.1",
        "0.1",
        "1/3",
        "0.10",
        None,
    ]
    for wrong in (True, np.True_, 1j, b"x", [1], object()):
        with pytest.raises(TypeError, match="expected a text or a real number that"):
            name(wrong)
    with pytest.raises(TypeError, match="blank"):
        name(" ")
    with pytest.raises(ValueError, match="has 256 characters"):
        name("x" * 256)


def test_one_text_is_one_tag() -> None:
    assert validate_tags("best yet") == ["best yet"]
    assert validate_tags(["a", "b", "a"]) == ["a", "b"]
    assert validate_tags(None) == []
    with pytest.raises(TypeError, match="tags has 3"):
        validate_tags([3])  # type: ignore[list-item]
