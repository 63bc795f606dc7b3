"""Runs that are exported to other trackers are read back by these."""

from __future__ import annotations

import math
import struct
import tracemalloc
import zlib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.records import MetricSummary, RunStatus, TrainingRun, now
from jupyter_axon_notebooks.run_export import ExportedRun, export_runs
from jupyter_axon_notebooks.series import Series

# The trackers use deprecated functions of their dependencies.
pytestmark = pytest.mark.filterwarnings("default")

LOSS = Series.of([0, 1, 5], [1.0, 0.5, math.nan], [100.0, 101.0, 105.0])
ACCURACY = Series.of([1, 5], [0.25, 0.75], [101.0, 105.0])


@pytest.fixture
def exported() -> list[ExportedRun]:
    run = TrainingRun(
        id="3f6c2a1b-0000-4000-8000-000000000000",
        notebook_id="n",
        started_at=now(),
        ended_at=now(),
        status=RunStatus.COMPLETED,
        number=1,
        name="wide <b>",
        config={"lr": 0.1, "layers": [64, 64], "model": {"name": "mlp", "bias": True}},
        tags=["baseline", "=1+1"],
        notes="first",
        group="search",
        metrics={"loss": MetricSummary(last="NaN", last_step=5, min=0.5, max=1.0)},
    )
    series = {"loss": lambda: LOSS, "val/acc": lambda: ACCURACY}
    return [ExportedRun(run, "train.ipynb", series)]


def test_tensorboard_shows_the_scalars(exported: list[ExportedRun], tmp_path: Path) -> None:
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    assert export_runs(exported, "tensorboard", str(tmp_path)) == 1
    [folder] = (tmp_path / "train.ipynb").iterdir()
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "val/acc"]
    found = [(one.step, one.value, one.wall_time) for one in events.Scalars("val/acc")]
    assert found == [(1, 0.25, 101.0), (5, 0.75, 105.0)]
    assert len(events.Scalars("loss")) == 3
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"layers" in content


def test_mlflow_lists_the_run(exported: list[ExportedRun], tmp_path: Path) -> None:
    mlflow = import_module("mlflow")
    assert export_runs(exported * 2, "mlflow", str(tmp_path)) == 2
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("train.ipynb")
    run = client.search_runs([experiment.experiment_id])[0]
    assert (run.info.run_name, run.info.status) == ("wide <b>", "FINISHED")
    assert run.data.params == {
        "lr": "0.1",
        "layers": "[64, 64]",
        "model.name": "mlp",
        "model.bias": "True",
    }
    history = client.get_metric_history(run.info.run_id, "val/acc")
    assert [(one.step, one.value, one.timestamp) for one in history] == [
        (1, 0.25, 101_000),
        (5, 0.75, 105_000),
    ]
    assert run.data.tags["tag.baseline"] == "true"


def test_wandb_can_sync_the_run(exported: list[ExportedRun], tmp_path: Path) -> None:
    proto = import_module("wandb.proto.wandb_internal_pb2")
    assert export_runs(exported, "wandb-offline", str(tmp_path)) == 1
    [file] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    records = []
    for content in read_log(file.read_bytes()):
        record = proto.Record()
        record.ParseFromString(content)
        records.append(record)
    [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    assert (run.display_name, run.run_group, list(run.tags)) == (
        "wide <b>", "search", ["baseline", "=1+1"]
    )  # fmt: skip
    config = {one.key: one.value_json for one in run.config.update}
    assert config["lr"] == "0.1"
    rows: list[dict[str, str]] = [
        {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(row["_step"], row.get("val/acc")) for row in rows] == [
        ("0", None), ("1", "0.25"), ("5", "0.75")
    ]  # fmt: skip


def read_log(content: bytes) -> list[bytes]:
    """Return the records in a file of LevelDB's log format, which W&B uses."""
    records, position, parts = [], 7, b""  # after W&B's header
    while position + 7 <= len(content):
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        if kind == 0:  # the rest of a block is filled with zeros
            position = (position // 32768 + 1) * 32768
            continue
        data = content[position + 7 : position + 7 + length]
        assert checksum == zlib.crc32(data, zlib.crc32(bytes([kind])))
        parts += data
        if kind in (1, 4):
            records.append(parts)
            parts = b""
        position += 7 + length
        if 32768 - position % 32768 < 7:
            position = (position // 32768 + 1) * 32768
    return records


def test_csv_files_are_complete_and_harmless(exported: list[ExportedRun], tmp_path: Path) -> None:
    export_runs(exported, "csv", str(tmp_path))
    heading, row = (tmp_path / "runs.csv").read_text().splitlines()
    assert heading.endswith("config.model.name,config.model.bias,loss.last,loss.min,loss.max")
    assert ",baseline =1+1," in row
    [file] = (tmp_path / "series").iterdir()
    assert file.read_text().splitlines() == [
        "step,time,loss,val/acc",
        "0,100.0,1.0,",
        "1,101.0,0.5,0.25",
        "5,105.0,nan,0.75",
    ]


def test_an_unknown_target_is_refused(exported: list[Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="expected one of csv, tensorboard"):
        export_runs(exported, "excel", str(tmp_path))


def count_peak(series: int, folder: Path) -> int:
    """Return the most bytes in use while a run with some large series is exported."""
    run = TrainingRun(id="r", notebook_id="n", started_at=now())

    def read(offset: int) -> Series:
        steps = np.arange(offset, 3 * 50_000 + offset, 3)
        return Series(steps, steps / 7, steps + 0.5)

    columns = {f"metric {number}": partial(read, number % 3) for number in range(series)}
    tracemalloc.start()
    try:
        export_runs([ExportedRun(run, "n", columns)], "csv", str(folder))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_series_at_a_time_is_in_memory(tmp_path: Path) -> None:
    assert count_peak(6, tmp_path / "many") < 2 * count_peak(1, tmp_path / "one")
    [file] = (tmp_path / "many" / "series").iterdir()
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 3 * 50_000
    assert lines[-1] == f"149999,149999.5,,,{149_999 / 7},,,{149_999 / 7}"
