"""Metric series: what a run's checkpoints measured, in columns, as plots want it.

Ten thousand checkpoints are one statement, and no record is built of any of them.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from ..metrics import resolve, restore_nonfinite, spell_nonfinite, values_by_name
from ..records import Record, RunStatus, TrainingRun, whole_step
from ..store import Store
from ..store.codec import decode
from .checkpoints import checkpoints_of
from .damage import damage_named
from .runs import RunRepository

_T = TypeVar("_T")

#: An integer beyond it is one that no float holds, and no plot shows.
_LARGEST = int(sys.float_info.max)


class RunSeries(Record, kw_only=True):
    """The checkpoints of a run, oldest first: a row is one checkpoint, and every column has all rows.

    Attributes
    ----------
    run_id : str or None
        None for the checkpoints that belong to no run.
    status : RunStatus or None
        As it is now.
    created_at : list of str
        In the form of :func:`.records.format_time`.
    metrics : dict
        By name, as :mod:`.metrics` names them, the numbers; None where a checkpoint has none of that name.
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
        """The JSON form; non-finite numbers are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``."""
        columns = {name: _spelled(column) for name, column in self.metrics.items()}
        return {**super().to_json(), "metrics": columns}


class _Point(msgspec.Struct, gc=False):
    """What is read of a stored checkpoint."""

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
        """Return the metrics of a notebook's checkpoints by run, the run with the oldest checkpoint first.

        Parameters
        ----------
        keys : sequence of str
            The names of the metrics, which may be dotted; each is a column of every run. By default, each run has a
            column for every metric that it has a number of.
        since : datetime, optional
            Return only checkpoints that are newer.
        """
        wanted = checkpoints_of(notebook_id, since=since, run_id=run_id)
        points = defaultdict[str | None, builtins.list[_Point]](builtins.list)
        for found in self._store.checkpoints.texts_sorted(wanted, ["created_at", "id"]):
            point = _point(*found)
            points[point.run_id].append(point)
        # After them: a checkpoint of a run is never there before the run.
        runs = {run.id: run for run in self._runs.list(notebook_id)} if points else {}
        return [
            _series(id, None if id is None else runs.get(id), some, keys)
            for id, some in points.items()
        ]


def _point(id: str, text: str) -> _Point:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        with damage_named(f"checkpoint {id}"):  # or in a form that only our codec reads
            return msgspec.convert(decode(text, id), _Point)


def _series(
    run_id: str | None, run: TrainingRun | None, points: Sequence[_Point], keys: Sequence[str]
) -> RunSeries:
    columns: dict[str, list[float | int | None]] = {key: [] for key in keys}
    for row, point in enumerate(points):
        for name, value in _values(point, keys).items():
            kind = type(value)
            if kind is not float and not (kind is int and -_LARGEST <= value <= _LARGEST):
                continue
            column = columns.get(name)
            if column is None:
                column = columns[name] = []
            if len(column) != row:
                _fill(column, row)
            column.append(value)
    for column in columns.values():
        _fill(column, len(points))
    return RunSeries(
        run_id=run_id,
        parent_checkpoint_id=None if run is None else run.parent_checkpoint_id,
        status=None if run is None else run.status,
        checkpoint_id=[point.id for point in points],
        epoch=[point.epoch for point in points],
        step=[whole_step(point.step, point.large_step) for point in points],
        created_at=[point.created_at for point in points],
        metrics=columns,
    )


def _spelled(column: list[float | int | None]) -> list[Any]:
    if all(value is None or math.isfinite(value) for value in column):
        return column  # as it nearly always is
    spelled: list[Any] = spell_nonfinite(column)[0]
    return spelled


def _fill(column: list[_T | None], length: int) -> None:
    column.extend([None] * (length - len(column)))


def _values(point: _Point, keys: Sequence[str]) -> dict[str, Any]:
    """The values that a checkpoint has by their names: those of ``keys``, or all."""
    metrics = (
        restore_nonfinite(point.metrics, point.nonfinite) if point.nonfinite else point.metrics
    )
    return {key: resolve(metrics, key) for key in keys} if keys else _named(metrics)


def _named(metrics: Any) -> dict[str, Any]:
    """The values in ``metrics`` by their names; paths lead through objects only."""
    named: dict[str, Any] = {}
    if not _gather(metrics, "", named):
        return values_by_name(metrics)
    return named


def _gather(metrics: Any, above: str, named: dict[str, Any]) -> bool:
    """Add what is below ``above``; whether every name fits one place only, as it does where no key holds a dot."""
    plain = True
    for key, value in metrics.items() if isinstance(metrics, dict) else ():
        if "." in key:
            plain = False
        if isinstance(value, dict):
            plain &= _gather(value, f"{above}{key}.", named)
        else:
            named[above + key] = value
    return plain
