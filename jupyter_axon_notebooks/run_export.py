"""The export of runs to CSV files and to other trackers.

TensorBoard, MLflow and W&B write their own formats, so they have to be installed for these exports.
Each run is exported with its configuration and all its series.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import importlib
import json
import math
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final, TextIO

import numpy as np

from .errors import AxonError, InvalidData
from .metrics import column_names, flatten_metrics
from .records import RunStatus, TrainingRun
from .series import Series

#: Metrics and parameters that MLflow accepts in one request.
_MLFLOW_METRICS, _MLFLOW_PARAMS = 1_000, 100
#: The longest value of a parameter in MLflow, in characters.
_MLFLOW_VALUE: Final = 6_000
#: Rows of a series that are changed into Python objects at once, and those of each metric that are
#: in memory while series are merged.
_BLOCK_ROWS, _MERGED_ROWS = 8_192, 256
#: The bytes of a row in the temporary file: step, value and time as floats.
_ROW_SIZE: Final = 24
_UNSAFE: Final = re.compile(r"[^\w.-]+")


class ExportUnavailable(AxonError):
    """A package that an export needs is not installed."""


@dataclass(frozen=True)
class ExportedRun:
    """A run to export.

    Attributes
    ----------
    run : TrainingRun
    notebook : str
        The name of its notebook.
    series : mapping of str to callable
        Returns each series by its name, read when it is needed.
    """

    run: TrainingRun
    notebook: str
    series: Mapping[str, Callable[[], Series]]

    @property
    def name(self) -> str:
        """The name for display."""
        return self.run.display_name

    @property
    def config(self) -> dict[str, Any]:
        """The configuration by dotted keys."""
        return flatten_metrics(self.run.config or {})

    @property
    def file_name(self) -> str:
        """A name for a file or folder, which no other run has."""
        id = f"{self.run.notebook_id}/{self.run.id}".encode("utf-8", "surrogatepass")
        return f"{_safe_name(self.name[:60])}-{hashlib.sha256(id).hexdigest()[:12]}"


def _safe_name(text: str) -> str:
    """Return a text as the name of a file or folder in its parent."""
    return _UNSAFE.sub("_", text)[:120].lstrip(".") or "_"


def export_runs(runs: Iterable[ExportedRun], target: str, destination: str) -> int:
    """Export runs; return how many.

    Parameters
    ----------
    target : {"csv", "tensorboard", "mlflow", "wandb-offline"}
    destination : str
        A folder; for MLflow also the URI of a tracking server or database.

    Raises
    ------
    ExportUnavailable
        If the other tracker is not installed.
    InvalidData
        If there is no such target, or the destination cannot be used.
    OSError
        If a file cannot be written.
    """
    if target not in EXPORTS:
        raise InvalidData("--to", f"expected one of {', '.join(EXPORTS)}, got {target}")
    return EXPORTS[target](runs, destination)


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExportUnavailable(
            f"this export needs the package {package}: pip install {package} ({error})"
        ) from error


# CSV


def _export_csv(runs: Iterable[ExportedRun], destination: str) -> int:
    """Write ``runs.csv``, and the series of each run to ``series/NAME-ID.csv``."""
    folder = Path(destination)
    (folder / "series").mkdir(parents=True, exist_ok=True)
    fields = (
        *("notebook", "number", "name", "status", "started_at", "ended_at", "tags", "id"),
        "series",
    )
    rows, config_keys, metric_names = [], dict[str, None](), dict[str, None]()
    for exported in runs:
        run, config = exported.run, exported.config
        summaries = {
            f"{name}.{statistic}": getattr(summary, statistic)
            for name, summary in (run.metrics or {}).items()
            for statistic in ("last", "min", "max")
        }
        series = f"series/{exported.file_name}.csv"
        values = (
            *(exported.notebook, run.number, exported.name, run.status.value),
            *(_iso(run.started_at), _iso(run.ended_at), " ".join(run.tags or ()), run.id),
            series,
        )
        rows.append((values, config, summaries))
        config_keys.update(dict.fromkeys(config))
        metric_names.update(dict.fromkeys(summaries))
        _write_csv(folder / series, *_series_table(exported))
    config_columns = column_names([f"config.{key}" for key in config_keys], fields)
    header = [*fields, *config_columns, *column_names(list(metric_names), fields)]
    _write_csv(
        folder / "runs.csv",
        header,
        (
            [
                *values,
                *(_cell(config.get(key)) for key in config_keys),
                *(_cell(summaries.get(name)) for name in metric_names),
            ]
            for values, config, summaries in rows
        ),
    )
    return len(rows)


def _series_table(exported: ExportedRun) -> tuple[list[str], Iterator[list[Any]]]:
    names = list(exported.series)
    table = (
        [step, time, *(_cell(values.get(name)) for name in names)]
        for step, time, values in _steps(exported)
    )
    return ["step", "time", *column_names(names, ("step", "time"))], table


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    # Lone surrogates have no UTF-8 form.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        write_csv(file, header, rows)


def write_csv(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, with texts that spreadsheets do not run as formulas."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_without_formula(name) for name in header])
    writer.writerows([_without_formula(_cell(value)) for value in row] for row in rows)


def _without_formula(value: Any) -> Any:
    # Spreadsheets run texts that begin like this.
    is_formula = isinstance(value, str) and value[:1] in tuple("=+-@\t\r")
    return f"'{value}" if is_formula and value != "-Infinity" else value


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else value


# TensorBoard


def _export_tensorboard(runs: Iterable[ExportedRun], destination: str) -> int:
    """Write one event file for each run, in a folder of its notebook."""
    package = "tensorboard"
    writers = _import("tensorboard.summary.writer.event_file_writer", package)
    event = _import("tensorboard.compat.proto.event_pb2", package).Event
    summary = _import("tensorboard.compat.proto.summary_pb2", package).Summary
    hparams = _import("tensorboard.plugins.hparams.summary_v2", package)
    count = 0
    for exported in runs:
        folder = Path(destination) / _safe_name(exported.notebook) / exported.file_name
        writer = writers.EventFileWriter(str(folder))
        try:
            config = {key: _scalar(value) for key, value in exported.config.items()}
            if config:
                session = summary()
                content = hparams.hparams_pb(config, trial_id=exported.run.id)
                session.ParseFromString(content.SerializeToString())
                started = exported.run.started_at.timestamp()
                writer.add_event(event(wall_time=started, step=0, summary=session))
            for name, read in exported.series.items():
                for step, value, time in _rows(read()):
                    point = summary(value=[summary.Value(tag=name, simple_value=value)])
                    writer.add_event(event(wall_time=time, step=step, summary=point))
        finally:
            writer.close()
        count += 1
    return count


# MLflow


def _export_mlflow(runs: Iterable[ExportedRun], destination: str) -> int:
    """Create a run in MLflow for each run, in an experiment of its notebook."""
    _check_server(destination)
    mlflow = _import("mlflow", "mlflow")
    entities = _import("mlflow.entities", "mlflow")
    if "://" in destination:
        uri = destination
    else:
        Path(destination).mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{(Path(destination) / 'mlflow.db').resolve()}"
    statuses = {RunStatus.COMPLETED: "FINISHED", RunStatus.FAILED: "FAILED"}
    client, count = mlflow.MlflowClient(tracking_uri=uri), 0
    for exported in runs:
        run = exported.run
        experiment = client.get_experiment_by_name(exported.notebook)
        experiment_id = (
            client.create_experiment(exported.notebook)
            if experiment is None
            else experiment.experiment_id
        )
        tags = {"axon.run_id": run.id, "axon.number": str(run.number)}
        tags |= {f"tag.{tag}": "true" for tag in run.tags or ()}
        if run.group:
            tags["axon.group"] = run.group
        if run.notes:
            tags["mlflow.note.content"] = run.notes
        created = client.create_run(
            experiment_id,
            start_time=_milliseconds(run.started_at),
            tags=tags,
            run_name=exported.name,
        ).info.run_id
        params = (
            entities.Param(_mlflow_name(key), str(_scalar(value))[:_MLFLOW_VALUE])
            for key, value in exported.config.items()
        )
        for batch in _batches(params, _MLFLOW_PARAMS):
            client.log_batch(created, params=batch)
        points = (
            entities.Metric(_mlflow_name(name), value, int(time * 1000), step)
            for name, read in exported.series.items()
            for step, value, time in _rows(read())
        )
        for batch in _batches(points, _MLFLOW_METRICS):
            client.log_batch(created, metrics=batch)
        if run.status is not RunStatus.RUNNING:
            ended = None if run.ended_at is None else _milliseconds(run.ended_at)
            client.set_terminated(created, statuses.get(run.status, "KILLED"), ended)
        count += 1
    return count


def _check_server(uri: str) -> None:
    """Raise InvalidData if a server cannot be reached. MLflow itself tries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(uri, timeout=10).close()  # noqa: S310 - http or https
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        raise InvalidData("-o", f"MLflow at {uri} cannot be reached: {error}") from None


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^\w.\-: /]", "_", name)[:250]


# W&B


def _export_wandb(runs: Iterable[ExportedRun], destination: str) -> int:
    """Write one offline run for each run, which ``wandb sync`` uploads."""
    wandb = _import("wandb", "wandb")
    folder = Path(destination)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for exported in runs:
        run = exported.run
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        created = wandb.init(
            mode="offline",
            project=_safe_name(exported.notebook),
            dir=str(folder),
            id=_UNSAFE.sub("_", run.id)[:60],
            name=exported.name,
            config=run.config or {},
            tags=[tag[:64] for tag in run.tags or () if tag],
            group=run.group,
            notes=run.notes,
            reinit="create_new",
            settings=settings,
        )
        for step, time, values in _steps(exported):
            created.log({"_timestamp": time, **values}, step=step)
        created.finish(exit_code=1 if run.status is RunStatus.FAILED else 0)
        count += 1
    wandb.teardown()  # its own process writes the files until then
    return count


EXPORTS: Final[dict[str, Callable[[Iterable[ExportedRun], str], int]]] = {
    "csv": _export_csv,
    "tensorboard": _export_tensorboard,
    "mlflow": _export_mlflow,
    "wandb-offline": _export_wandb,
}


def _steps(exported: ExportedRun) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Yield the steps of a run in order, with the time and the values of all metrics.

    One series at a time is in memory: their rows are written to a temporary file and merged.
    """
    with tempfile.TemporaryFile() as file:
        parts = []
        for name, read in exported.series.items():
            begin = file.tell()
            for block in _blocks(read()):
                # Steps are less than 2**53, so that floats hold them exactly.
                file.write(np.column_stack([block.steps, block.values, block.times]).tobytes())
            parts.append(_stored_rows(file, name, begin, file.tell()))
        merged = heapq.merge(*parts, key=itemgetter(0))
        for step, rows in groupby(merged, key=itemgetter(0)):
            first = next(rows)
            values = {name: value for _, name, value, _ in chain([first], rows)}
            yield int(step), first[-1], values


def _stored_rows(
    file: IO[bytes], name: str, begin: int, end: int
) -> Iterator[tuple[float, str, float, float]]:
    size = _MERGED_ROWS * _ROW_SIZE
    for start in range(begin, end, size):
        file.seek(start)
        rows = np.frombuffer(file.read(min(size, end - start))).reshape(-1, 3)
        for step, value, time in rows.tolist():
            yield step, name, value, time


def _blocks(series: Series) -> Iterator[Series]:
    for start in range(0, len(series), _BLOCK_ROWS):
        yield series.take(slice(start, start + _BLOCK_ROWS))


def _rows(series: Series) -> Iterator[tuple[int, float, float]]:
    for block in _blocks(series):
        columns = (block.steps.tolist(), block.values.tolist(), block.times.tolist())
        yield from zip(*columns, strict=True)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _scalar(value: Any) -> str | int | float | bool:
    """Return a value that trackers accept as a parameter."""
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return json.dumps(value)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
