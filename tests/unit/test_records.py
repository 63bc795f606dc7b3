"""Records and their JSON form, which is that of upstream."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import exactly, objects, values

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.records import (
    CellOutput,
    NewCheckpoint,
    NotebookCell,
    NotebookCheckpoint,
    NotebookMetadata,
    Record,
    TrainingNotebook,
    UpdateNotebook,
    format_time,
)

MOMENT = "2026-04-16T23:15:00.000000Z"

NOTEBOOK: dict[str, Any] = {
    "id": "nb-123",
    "user_id": "user-456",
    "name": "Test Notebook",
    "cells": [],
    "metadata": {"tags": [], "extra": {}},
    "status": "draft",
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
CHECKPOINT: dict[str, Any] = {
    "id": "cp-123",
    "notebook_id": "nb-456",
    "epoch": 10,
    "step": 1000,
    "metrics": {"loss": 0.234},
    "model_state_path": "/checkpoints/cp-123/model.bin",
    "created_at": MOMENT,
}
CELL = {
    "id": "c",
    "cell_type": "code",
    "source": "",
    "outputs": [],
    "status": "idle",
    "metadata": {},
}


# The JSON form


@pytest.mark.parametrize(
    ("record", "document"),
    [
        (CellOutput(output_type="stream"), {"output_type": "stream"}),
        (
            NotebookCell(
                id="c", source="", outputs=[CellOutput(output_type="x")], nbformat_type="raw"
            ),
            {**CELL, "outputs": [{"output_type": "x"}], "nbformat_type": "raw"},
        ),
        (NotebookMetadata(extra={"a": None}), {"tags": [], "extra": {"a": None}}),
        (UpdateNotebook(), {}),
        (
            NewCheckpoint(notebook_id="n", epoch=0, step=0, metrics=None),
            {
                "notebook_id": "n",
                "epoch": 0,
                "step": 0,
                "metrics": None,
                "model_state_path": "",
                "tags": [],
                "pinned": False,
            },
        ),
    ],
)
def test_the_json_form_omits_only_fields_that_are_none(
    record: Record, document: dict[str, Any]
) -> None:
    assert record.to_json() == document


def test_documents_of_upstream_survive_a_round_trip() -> None:
    cell = {**CELL, "cell_type": "markdown", "status": "completed", "metadata": {"a": None}}
    notebook = {**NOTEBOOK, "cells": [cell]}
    assert TrainingNotebook.from_json(notebook).to_json() == notebook
    checkpoint = {**CHECKPOINT, "tags": [], "pinned": False}
    assert NotebookCheckpoint.from_json(CHECKPOINT).to_json() == checkpoint


def test_missing_fields_get_defaults_and_unknown_fields_are_ignored() -> None:
    names = ("id", "user_id", "name", "cells", "created_at", "updated_at")
    document = {**{name: NOTEBOOK[name] for name in names}, "later": {"a": 1}}
    assert TrainingNotebook.from_json(document).to_json() == NOTEBOOK
    cell = NotebookCell.from_json({"id": "c", "source": ""})
    assert cell == NotebookCell(id="c", source="")


@given(objects, values, objects)
def test_free_form_values_survive_a_round_trip(
    metadata: dict[str, Any], data: Any, extra: dict[str, Any]
) -> None:
    cell = NotebookCell(
        id="c",
        source="\ud800\0",
        metadata=metadata,
        outputs=[CellOutput(output_type="x", data=data)],
    )
    assert exactly(NotebookCell.from_json(cell.to_json()).to_json()) == exactly(cell.to_json())
    assert exactly(cell.to_json()["metadata"]) == exactly(metadata)
    record = NotebookMetadata(extra=extra)
    assert exactly(NotebookMetadata.from_json(record.to_json()).extra) == exactly(extra)


@given(st.dictionaries(st.text(max_size=3), values, max_size=3))
def test_metrics_survive_a_round_trip_as_standard_json(metrics: dict[str, Any]) -> None:
    checkpoint = NotebookCheckpoint.from_json({**CHECKPOINT, "metrics": metrics})
    wire = json.loads(json.dumps(checkpoint.to_json(), allow_nan=False))
    assert exactly(NotebookCheckpoint.from_json(wire).metrics) == exactly(metrics)


def test_nonfinite_metrics_are_strings_in_json_and_floats_in_python() -> None:
    metrics = {"loss": math.inf, "text": "NaN"}
    document = NewCheckpoint(notebook_id="n", epoch=1, step=1, metrics=metrics).to_json()
    assert document["metrics"] == {"loss": "Infinity", "text": "NaN"}
    assert document["nonfinite"] == ["loss"]
    checkpoint = NewCheckpoint.from_json(document)
    assert checkpoint.metrics == metrics
    assert checkpoint.nonfinite == ["loss"]


# Times


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("2026-04-16T23:15:00Z", MOMENT),
        ("2026-04-16t23:15:00z", MOMENT),
        ("2026-04-16T23:15:00+00:00", MOMENT),
        ("2026-04-17T01:15:00.5+02:00", "2026-04-16T23:15:00.500000Z"),
        ("2026-04-16T23:15:00.123Z", "2026-04-16T23:15:00.123000Z"),
        ("2026-04-16T23:15:00.123456Z", "2026-04-16T23:15:00.123456Z"),
        ("2026-04-16T23:15:00.123456789Z", "2026-04-16T23:15:00.123457Z"),
        ("2026-04-16T23:15:59.9999999Z", "2026-04-16T23:16:00.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_normalized_to_microseconds_in_utc(text: str, normalized: str) -> None:
    notebook = TrainingNotebook.from_json({**NOTEBOOK, "created_at": text})
    assert notebook.created_at.tzinfo is timezone.utc
    assert notebook.to_json()["created_at"] == normalized


times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones())


@given(times, times)
def test_formatted_times_sort_chronologically(one: datetime, other: datetime) -> None:
    earlier = one.astimezone(timezone.utc) < other.astimezone(timezone.utc)
    assert (format_time(one) < format_time(other)) == earlier


@pytest.mark.parametrize(
    "value", ["2026-04-16T23:15:00", "yesterday", "", 5, 5.5, None, "2026-13-01T00:00:00Z"]
)
def test_an_invalid_time_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidData) as raised:
        TrainingNotebook.from_json({**NOTEBOOK, "updated_at": value})
    assert raised.value.path == "$.updated_at"


# Invalid documents


@pytest.mark.parametrize("step", [2**32, 5_000_000_000, 2**53 - 1])
def test_a_step_of_more_than_32_bits_is_stored_in_an_additional_field(step: int) -> None:
    checkpoint = NotebookCheckpoint.from_json({**CHECKPOINT, "step": 2**32 - 1, "large_step": step})
    assert checkpoint.step == step
    document = checkpoint.to_json()
    assert (document["step"], document["large_step"]) == (2**32 - 1, step)
    assert NotebookCheckpoint.from_json(document) == checkpoint
    new = NewCheckpoint(notebook_id="n", epoch=0, step=0, metrics={})
    new.step = step
    assert NewCheckpoint.from_json(new.to_json()).step == step


@pytest.mark.parametrize("field", ["epoch", "step"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, "expected int >= 0"),
        (2**32, "expected int <= 4294967295"),
        (math.nan, "expected int, got float"),
        (None, "expected int, got null"),
    ],
)
def test_an_invalid_epoch_or_step_is_rejected(field: str, value: Any, reason: str) -> None:
    with pytest.raises(InvalidData) as raised:
        NotebookCheckpoint.from_json({**CHECKPOINT, field: value})
    assert str(raised.value) == f"$.{field}: {reason}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "$.name: expected str, got int"),
        ({"status": "done"}, "$.status: invalid enum value 'done'"),
        ({"cells": [{"id": "c"}]}, "$.cells[0].source: required, but missing"),
        (
            {"cells": [{"source": "", "cell_type": "raw"}]},
            "$.cells[0].cell_type: invalid enum value 'raw'",
        ),
        (
            {"cells": [{"source": "", "outputs": [{"output_type": "e", "traceback": ["a", 1]}]}]},
            "$.cells[0].outputs[0].traceback[1]: expected str, got int",
        ),
        ({"metadata": {"extra": {1: 2}}}, "$.metadata.extra: expected str, got int"),
    ],
)
def test_an_invalid_field_is_rejected_with_its_path_and_the_reason(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidData) as raised:
        TrainingNotebook.from_json({**NOTEBOOK, **change})
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_a_non_object_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidData, match=r"^\$: expected object"):
        TrainingNotebook.from_json(value)


@pytest.mark.parametrize("change", [{"status": "\ud800"}, {"created_at": "\ud800"}, {"\ud800": 1}])
def test_half_a_surrogate_pair_outside_free_text_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="surrogate"):
        TrainingNotebook.from_json({**NOTEBOOK, **change})


def test_too_deeply_nested_metrics_are_rejected() -> None:
    metrics: dict[str, Any] = {}
    for _ in range(100_000):
        metrics = {"a": metrics}
    with pytest.raises(InvalidData, match="nested too deeply"):
        NotebookCheckpoint.from_json({**CHECKPOINT, "metrics": metrics})
