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
leaves = st.sampled_from(
    [math.nan, math.inf, -math.inf, "NaN", "Infinity", "-Infinity", "nan", 1.5, None, True]
)
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
        ({"a.b": {"x": 1}, "a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"a.b": 5, "a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"a": {"": 1}}, "a.", 1),
        ({"": {"a": 1}}, ".a", 1),
        ({"": 1}, "", 1),
        ({"a": [1, 2]}, "a.0", None),
        ({"a": None}, "a", None),
        ({"a": 1}, "b", None),
        ({"a": 1}, "a.b", None),
        ([1], "0", None),
        (5, "", None),
        (None, "a", None),
    ],
)
def test_a_name_is_resolved_by_the_longest_literal_key(metrics: Any, name: str, value: Any) -> None:
    assert resolve(metrics, name) == value


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (-0.0, -0.0),
        (2**53 + 1, float(2**53)),
        (5e-324, 5e-324),
        (True, None),
        (False, None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (10**400, None),
        ("1", None),
        ("NaN", None),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_only_finite_numbers_are_ranked(value: Any, number: float | None) -> None:
    assert exactly(finite_number(value)) == exactly(number)


@pytest.mark.parametrize(
    ("metrics", "ranked"),
    [
        ({"loss": 1, "val": {"loss": 2, "ok": True}}, {"loss": 1.0, "val.loss": 2.0}),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1.0}),
        ({"a.b": "text", "a": {"b": 2}}, {}),
        ({"curve": [1, 2], "nan": math.nan, "none": None}, {}),
        ([1, 2], {}),
        (5, {}),
        (None, {}),
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
    "metrics",
    [
        {"a.b": math.nan, "a": {"b": "NaN"}},
        {"/a": math.nan, "a": "NaN"},
        {"a.b": math.nan, "a": {"b": "NaN"}, "/a.b": "NaN"},
    ],
)
def test_a_string_spelled_like_a_float_stays_a_string(metrics: dict[str, Any]) -> None:
    assert exactly(decode_nonfinite(*encode_nonfinite(metrics))) == exactly(metrics)


def test_names_of_other_values_are_ignored() -> None:
    metrics = {"loss": 1.0, "text": "NaN", "other": "nan"}
    assert decode_nonfinite(metrics, ["loss", "other", "gone", "/"]) == metrics
    assert decode_nonfinite(metrics, []) is metrics


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            """loss val_loss train/loss eval.loss loss_ce valLoss LOSS loss/train losses loss_epoch
            loss_step nll_loss dice_loss hinge_loss ctc_loss val_huber_loss iter_loss batch_loss
            val/loss/dataloader_idx_0 val/val_loss smooth_l1_loss
            error err error_rate top1_error word_error_rate mean_squared_error mse val-RMSE mae
            mean_absolute_percentage_error wer cer fid fid_score perplexity ppl cross_entropy
            crossentropy sparse_categorical_crossentropy nll neg_log_likelihood log_loss
            brier_score kl negative_log_likelihood""",
            "min",
        ),
        (
            """accuracy acc val_acc train/accuracy eval.acc BinaryAccuracy top1 top_5 acc@1
            accuracy_5 iter_acc top_k_categorical_accuracy
            f1 f1_macro eval_f1 macro-f1 F1Score auc ROC_AUC roc_auc_score precision recall
            recall@10 bleu bleu-4 rougeL rouge2 rougeLsum em val_em exact_match
            iou mIoU map mAP mAP50 mAP50-95 ndcg@10 r2 R2 reward psnr win_rate log_likelihood
            score test_score final_score best_score test_score_mean episode_score
            neg_mean_squared_error neg_mean_absolute_error val_neg_mean_squared_error
            neg_brier_score""",
            "max",
        ),
        # Names without a known meaning.
        ("lr learning_rate epoch grad_norm time lossless r f f16 x transfer ünloss", None),
        # Names that invert or change the meaning of a known word.
        (
            """neg_recall neg_loss negative_accuracy inaccuracy nonAccuracy 1-accuracy
            1_minus_accuracy val_1-acc -loss 1/loss loss^-1 accuracy_drop error_free
            perplexity_ratio loss_scale loss_weight loss_std loss_gap delta_loss stop_loss
            weight_loss accuracy_loss error_code error_bar map_size return_code anomaly_score""",
            None,
        ),
        # Differences, ratios, positions and settings.
        (
            """val_loss/train_loss train_loss-val_loss accuracy-val_accuracy acc-loss
            precision/recall best_loss_epoch min_loss_step top_k top_p entropy
            mean_percentage_error loss\u2212 val-test_accuracy dev/test_error
            valid_loss-test_loss max-min_reward last-best_loss mean-median_reward
            f1_macro-f1_micro""",
            None,
        ),
        # Counters, and scores that may be losses.
        (
            """em_iter em_step em_epoch em_iteration em_batch loss_idx loss_idx_0 acc_iter
            loss_iteration loss_batch idx_loss log_score hinge_score ctc_score huber_score
            val_log_score cls_score l1_score""",
            None,
        ),
    ],
    ids=["min", "max", "unknown", "inverted", "differences", "counters"],
)
def test_the_direction_follows_from_well_known_names(names: str, expected: str | None) -> None:
    expected_by_name = dict.fromkeys(names.split(), expected)
    assert {name: direction(name) for name in expected_by_name} == expected_by_name


@pytest.mark.parametrize("name", ["", "loss" * 1_000_000], ids=["empty", "long"])
def test_an_empty_or_very_long_name_has_no_direction(name: str) -> None:
    assert direction(name) is None


def test_the_panel_has_the_same_table() -> None:
    panel = Path(__file__).parents[2] / "frontend" / "src" / "pure" / "direction.ts"
    tables = re.findall(r"split\(`([^`]*)`\)", panel.read_text(encoding="utf-8"))
    words = {frozenset(table.split()) for table in tables}
    expected = {
        metrics._LOWER,
        metrics._HIGHER,
        metrics._TRAINING,
        metrics._HELD_OUT,
        metrics._EXTREMES,
        metrics._COUNTED,
        *metrics._EXCLUSIVE,
        metrics._KINDS,
        metrics._COUNTERS,
        metrics._GENERIC,
        metrics._NUMBERED,
    }
    assert expected < words
    neutral = words - {metrics._LOWER, metrics._HIGHER, metrics._GENERIC}
    assert frozenset.union(*neutral) == metrics._NEUTRAL


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("val_los", ["acc", "loss", "val_loss"], "; did you mean val_loss?"),
        ("Val-Loss", ["acc", "val_loss"], "; did you mean val_loss?"),
        ("loss", ["val.loss"], "; did you mean val.loss?"),
        ("x", ["acc", "val_loss"], "; there are acc, val_loss"),
        (
            "x",
            [f"m{n}" for n in range(12)],
            "; there are m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more",
        ),
        ("x", [], "; no metrics are recorded"),
    ],
)
def test_similar_names_are_suggested(name: str, known: list[str], message: str) -> None:
    assert suggest_names(name, known) == message
