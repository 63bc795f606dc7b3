"""What a training hands over, and how it is told that something is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.training.given import metrics_of, tags_of, whole_number


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
    found = metrics_of(given)
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
    found = metrics_of({"a": np.float64("nan"), "b": math.inf})
    assert math.isnan(found["a"])
    assert found["b"] == math.inf


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1], "metrics is a list"),
        ({1: 2}, "metrics has the key 1"),
        ({"a": np.zeros(2)}, "metrics['a'] has more than one element"),
        ({"a": {"b": object()}}, "metrics['a']['b'] is a object"),
        ({"a": np.complex64(1)}, "metrics['a'] is a complex64"),
    ],
)
def test_a_metric_that_cannot_be_kept_is_named(given: Any, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        metrics_of(given)
    assert said in str(raised.value)


def test_metrics_that_hold_themselves_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(ValueError, match="nested too deeply"):
        metrics_of(endless)


def test_whole_numbers() -> None:
    assert whole_number(np.uint8(7), "epoch") == 7
    assert whole_number(None, "epoch") is None
    with pytest.raises(TypeError, match=r"epoch is 1\.5; expected a whole number"):
        whole_number(1.5, "epoch")
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match=f"step is {wrong}"):
            whole_number(wrong, "step")


def test_one_text_is_one_tag() -> None:
    assert tags_of("best yet") == ["best yet"]
    assert tags_of(["a", "b", "a"]) == ["a", "b"]
    assert tags_of(None) == []
    with pytest.raises(TypeError, match="tags has 3"):
        tags_of([3])  # type: ignore[list-item]
