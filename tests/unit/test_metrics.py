"""Names of metrics, their directions, and values that are not finite."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import exactly

from jupyter_axon_notebooks import metrics
from jupyter_axon_notebooks.metrics import (
    decode_nonfinite,
    direction,
    encode_nonfinite,
    finite_metrics,
    finite_number,
    flatten_metrics,
    resolve,
    suggest_names,
)

# Keys that look like paths or pointers to other keys.
keys = st.sampled_from(
    ["a", "b", "a.b", "", ".", "0", "/a", "/a/b", "~1a", "/", "~", "a/b", "a.0", "NaN"]
)
leaves = st.sampled_from([math.nan, math.inf, -math.inf, "nan", 1.5, None, True])
metrics_with_similar_keys = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("metrics", "name", "value"),
    [
        ({"loss": 1}, "loss", 1),
        ({"val": {"loss": 1}}, "val.loss", 1),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": {"b.c": 1}, "a.b": {"c": 2}}, "a.b.c", 2),
        ({"a": {"b.c": 1, "b": {"c": 2}}}, "a.b.c", 1),
        ({"a.b": 5, "a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"a": [1, 2]}, "a.0", None),
        ({"a": 1}, "b", None),
        ({"a": 1}, "a.b", None),
        (None, "a", None),
    ],
)
def test_a_name_is_resolved_by_the_longest_literal_key(metrics: Any, name: str, value: Any) -> None:
    assert resolve(metrics, name) == value


@pytest.mark.parametrize(
    ("metrics", "ranked"),
    [
        ({"loss": 1, "val": {"loss": 2, "ok": True}}, {"loss": 1.0, "val.loss": 2.0}),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1.0}),
        ({"a.b": "text", "a": {"b": 2}}, {}),
        ({"curve": [1, 2], "nan": math.nan, "none": None}, {}),
    ],
)
def test_ranked_metrics_are_finite_and_resolvable(metrics: Any, ranked: dict[str, float]) -> None:
    assert finite_metrics(metrics) == ranked


@given(metrics_with_similar_keys)
def test_names_resolve_to_their_values(metrics: Any) -> None:
    for name, number in finite_metrics(metrics).items():
        assert finite_number(resolve(metrics, name)) == number
    for name, value in flatten_metrics(metrics).items():
        assert exactly(resolve(metrics, name)) == exactly(value)


@given(metrics_with_similar_keys)
def test_nonfinite_metrics_survive_json_unchanged(metrics: Any) -> None:
    before = exactly(metrics)
    spelled, names = encode_nonfinite(metrics)
    assert exactly(metrics) == before
    document = json.loads(json.dumps(spelled, allow_nan=False))
    assert exactly(decode_nonfinite(document, json.loads(json.dumps(names)))) == before


def test_nonfinite_metrics_are_named_by_their_dotted_paths() -> None:
    metrics = {"loss": math.nan, "val": {"loss": math.inf, "curve": [1.0, -math.inf]}}
    spelled = {"loss": "NaN", "val": {"loss": "Infinity", "curve": [1.0, "-Infinity"]}}
    assert encode_nonfinite(metrics) == (spelled, ["loss", "val.loss", "val.curve.1"])
    finite = {"loss": 1.0, "text": "NaN"}
    assert encode_nonfinite(finite) == (finite, [])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            """loss val_loss train/loss eval.loss loss_ce valLoss LOSS losses loss_step nll_loss
            val/loss/dataloader_idx_0 error error_rate mean_squared_error mse val-RMSE mae wer fid
            perplexity cross_entropy log_loss brier_score kl negative_log_likelihood""",
            "min",
        ),
        (
            """accuracy acc val_acc train/accuracy BinaryAccuracy top_5 acc@1 f1_macro F1Score auc
            precision recall@10 bleu rougeL em iou mAP50-95 ndcg@10 R2 reward psnr log_likelihood
            test_score score neg_mean_squared_error""",
            "max",
        ),
        # Names without a known meaning.
        ("lr learning_rate epoch grad_norm time lossless r f f16 x transfer ünloss", None),
        # Names that invert or change the meaning of a known word.
        (
            """neg_recall neg_loss negative_accuracy inaccuracy nonAccuracy 1-accuracy
            1_minus_accuracy -loss 1/loss loss^-1 accuracy_drop error_free
            perplexity_ratio loss_scale loss_weight loss_std loss_gap delta_loss stop_loss
            weight_loss accuracy_loss error_code error_bar map_size return_code anomaly_score""",
            None,
        ),
    ],
    ids=["min", "max", "unknown", "inverted"],
)
def test_the_direction_follows_from_well_known_names(names: str, expected: str | None) -> None:
    expected_by_name = dict.fromkeys(names.split(), expected)
    assert {name: direction(name) for name in expected_by_name} == expected_by_name


def test_the_panel_has_the_same_table() -> None:
    panel = Path(__file__).parents[2] / "frontend" / "src" / "pure" / "direction.ts"
    tables = re.findall(r"split\(`([^`]*)`\)", panel.read_text(encoding="utf-8"))
    words = {frozenset(table.split()) for table in tables}
    assert words == {metrics._LOWER, metrics._HIGHER, metrics._SPLITS, metrics._NEUTRAL}


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("val_los", ["acc", "loss", "val_loss"], "; did you mean val_loss?"),
        ("Val-Loss", ["acc", "val_loss"], "; did you mean val_loss?"),
        ("x", ["acc", "val_loss"], "; there are acc, val_loss"),
        ("x", [], "; no metrics are recorded"),
    ],
)
def test_similar_names_are_suggested(name: str, known: list[str], message: str) -> None:
    assert suggest_names(name, known) == message
