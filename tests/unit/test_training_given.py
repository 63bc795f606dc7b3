"""What a training hands over, and how it is told that something is wrong with it."""

from __future__ import annotations

import enum
import math
from collections import UserDict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.training.given import metrics_of, tags_of, whole_number


class Meter:
    """A number as libraries keep it: it converts, and that is all."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


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
    found = metrics_of(given, pytest.fail)
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
    found = metrics_of({"a": np.float64("nan"), "b": math.inf}, pytest.fail)
    assert math.isnan(found["a"])
    assert found["b"] == math.inf


def test_numbers_that_only_convert_are_numbers() -> None:
    given = UserDict({"a": Meter(0.5), "b": Decimal("0.25"), "c": Fraction(1, 8), "d": np.longdouble(2)})
    assert metrics_of(given, pytest.fail) == {"a": 0.5, "b": 0.25, "c": 0.125, "d": 2.0}


def test_keys_that_are_no_texts_become_texts() -> None:
    given = {1: 0.5, np.int64(2): 0.25, 0.5: 1, None: 2, Split.TRAIN: {3: 4}}
    found = metrics_of(given, pytest.fail)
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
        ({"a": [1, object()], "b": [1, {"c": object()}]}, {}, "a (has an element that is no number), b (has"),
        ({"a": _endless()}, {"a": {"fine": 1}}, "a.again (holds itself)"),
        (_endless(), {"fine": 1, "again": {"fine": 1}}, "again.again (holds itself)"),
        (_nested(40), {}, "(is nested too deeply)"),
        ({1: 1, "1": 2}, {"1": 1}, "1 (is there twice)"),
        ({(1, 2): 1}, {}, "tuple (is no name)"),
        ({"a": b"x", "b": {1, 2}, "c": print}, {}, "b (is a set)"),
    ],
)
def test_what_is_no_number_is_named_once_and_left_out(given: Any, kept: dict[str, Any], said: str) -> None:
    told: list[str] = []
    assert metrics_of({"loss": 0.5, **given} if isinstance(given, dict) else given, told.append) == (
        {"loss": 0.5, **kept} if isinstance(given, dict) else kept
    )
    (text,) = told
    assert said in text


def test_many_that_are_left_out_are_counted() -> None:
    told: list[str] = []
    assert metrics_of(dict.fromkeys("abcdefghijklmn", object()), told.append) == {}
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
    found = whole_number(value, "step", pytest.fail)
    assert (found, type(found)) == (30, int)


def test_a_fraction_is_rounded_down_and_told() -> None:
    told: list[str] = []
    assert [whole_number(value, "epoch", told.append) for value in (1.5, np.float64(2.99))] == [1, 2]
    assert told == ["epoch is not a whole number; it is recorded rounded down"] * 2


def test_steps_may_be_larger_than_epochs() -> None:
    assert whole_number(None, "epoch", pytest.fail) is None
    assert whole_number(5_000_000_000.0, "step", pytest.fail) == 5_000_000_000
    assert whole_number(2**53 - 1, "step", pytest.fail) == 2**53 - 1
    for name, wrong in (("epoch", -1), ("epoch", 2**32), ("step", -0.5), ("step", 2**53)):
        with pytest.raises(ValueError, match=f"{name} is {wrong}"):
            whole_number(wrong, name, pytest.fail)
    for no_number in ("3", math.nan, math.inf, np.zeros(2), np.complex64(1), object()):
        with pytest.raises(TypeError, match="expected a whole number"):
            whole_number(no_number, "epoch", pytest.fail)


def test_one_text_is_one_tag() -> None:
    assert tags_of("best yet") == ["best yet"]
    assert tags_of(["a", "b", "a"]) == ["a", "b"]
    assert tags_of(None) == []
    with pytest.raises(TypeError, match="tags has 3"):
        tags_of([3])  # type: ignore[list-item]
