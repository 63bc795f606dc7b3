"""Metric series: the metrics of a run's checkpoints in columns, for plots.

All checkpoints are read by one statement, and only the fields of a series are decoded.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..metrics import decode_nonfinite, encode_nonfinite, flatten_metrics, resolve
from ..records import Record, RunStatus, TrainingRun, decode_step
from ..store import Store
from ..store.codec import decode
from .checkpoints import checkpoint_query
from .damage import check_damage
from .runs import RunRepository

#: Larger integers cannot be plotted, since they do not fit into a float.
_LARGEST = int(sys.float_info.max)


class RunSeries(Record, kw_only=True):
    """The checkpoints of a run in columns with a row per checkpoint, oldest first.

    Attributes
    ----------
    run_id : str or None
        None for the checkpoints that belong to no run.
    status : RunStatus or None
        The present status of the run.
    created_at : list of str
        Times in the form of :func:`.records.format_time`.
    metrics : dict
        The numbers by metric name; None where a checkpoint has no number of that name.
    """

    run_id: str | None = None
    parent_checkpoint_id: str | None = None
    status: RunStatus | None = None
    checkpoint_id: list[str]
    epoch: list[int]
    step: list[int]
    created_at: list[str]
    metrics: dict[str, list[float | int | None]]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with non-finite numbers as strings."""
        columns = {
            name: column
            if all(value is None or math.isfinite(value) for value in column)
            else encode_nonfinite(column)[0]
            for name, column in self.metrics.items()
        }
        return {**super().to_json(), "metrics": columns}


class _Point(msgspec.Struct, gc=False):
    """The decoded fields of a stored checkpoint."""

    id: str
    epoch: int
    step: int
    created_at: str
    metrics: Any
    run_id: str | None = None
    nonfinite: list[str] | None = None
    large_step: int | None = None


_decoder = msgspec.json.Decoder(_Point)


class SeriesRepository:
    """The metric series of a store."""

    def __init__(self, store: Store, runs: RunRepository) -> None:
        self._store = store
        self._runs = runs

    def list(
        self,
        notebook_id: str,
        keys: Sequence[str] = (),
        *,
        run_id: str | None = None,
        since: datetime | None = None,
    ) -> builtins.list[RunSeries]:
        """Return the metrics of checkpoints by run, the run with the oldest checkpoint first.

        Parameters
        ----------
        keys : sequence of str
            The names of the metrics, which may be dotted; each is a column of every run. By
            default, each run has a column for every metric that it has a number of.
        since : datetime, optional
            Return only checkpoints that are newer.
        """
        condition = checkpoint_query(notebook_id, since=since, run_id=run_id)
        points = defaultdict[str | None, builtins.list[_Point]](builtins.list)
        for id, text in self._store.checkpoints.list_json(condition, ["created_at", "id"]):
            point = _decode(id, text)
            points[point.run_id].append(point)
        # Read runs after checkpoints: every checkpoint that was found has its run by now.
        runs = {run.id: run for run in self._runs.list(notebook_id)} if points else {}
        return [
            _series(id, None if id is None else runs.get(id), found, keys)
            for id, found in points.items()
        ]


def _decode(id: str, text: str) -> _Point:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        with check_damage(f"checkpoint {id}"):  # unless only the store's own codec can decode it
            return msgspec.convert(decode(text, id), _Point)


def _series(
    run_id: str | None, run: TrainingRun | None, points: Sequence[_Point], keys: Sequence[str]
) -> RunSeries:
    columns: dict[str, list[float | int | None]] = {key: [] for key in keys}
    for row, point in enumerate(points):
        metrics = point.metrics
        if point.nonfinite:
            metrics = decode_nonfinite(metrics, point.nonfinite)
        named = {key: resolve(metrics, key) for key in keys} if keys else flatten_metrics(metrics)
        for name, value in named.items():
            if type(value) is float or (type(value) is int and -_LARGEST <= value <= _LARGEST):
                column = columns.setdefault(name, [])
                column.extend([None] * (row - len(column)))
                column.append(value)
    for column in columns.values():
        column.extend([None] * (len(points) - len(column)))
    return RunSeries(
        run_id=run_id,
        parent_checkpoint_id=None if run is None else run.parent_checkpoint_id,
        status=None if run is None else run.status,
        checkpoint_id=[point.id for point in points],
        epoch=[point.epoch for point in points],
        step=[decode_step(point.step, point.large_step) for point in points],
        created_at=[point.created_at for point in points],
        metrics=columns,
    )
