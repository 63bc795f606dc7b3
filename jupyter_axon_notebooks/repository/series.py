"""Metric series: the metrics of a run's checkpoints in columns, for plots.

All checkpoints are read by one statement, and only the fields of a series are decoded.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..errors import NotFound
from ..metrics import decode_nonfinite, encode_nonfinite, flatten_metrics, resolve
from ..records import MAX_STEP, Record, RunStatus, TrainingRun, decode_step
from ..spool import Row
from ..store import Store, retried
from ..store.codec import decode
from ..store.series_table import columns
from .checkpoints import checkpoint_query
from .damage import check_damage
from .run_queries import run_key
from .runs import RunRepository

if TYPE_CHECKING:
    from ..series import Series

#: Names of system metrics begin with this. They count their own steps.
SYSTEM_PREFIX = "system/"

#: The longest name of a metric that is logged, in characters.
MAX_NAME = 1_000

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


class _End(NamedTuple):
    """A checkpoint where another run was resumed."""

    step: int
    created_at: str


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
        listed = self._runs.list(notebook_id, with_metrics=False) if points else []
        runs = {run.id: run for run in listed}
        return [
            _series(id, None if id is None else runs.get(id), found, keys)
            for id, found in points.items()
        ]

    # Logged series

    @retried
    def append(
        self,
        notebook_id: str,
        run_id: str,
        rows: Sequence[Row],
        *,
        spool: str,
        begin: int,
        end: int,
    ) -> int:
        """Store rows of a spool file; return the offset up to which the file is stored.

        Rows, offset and summaries are stored in one transaction, so each row is stored once. If
        the file is stored up to another offset than ``begin``, nothing is stored. Rows with steps
        outside 0 to 2**53 - 1 are left out, and so are names of more than 1,000 characters.

        Parameters
        ----------
        spool : str
            The name of the file.
        begin, end : int
            The offsets before and after the rows.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        """
        key, store = run_key(notebook_id, run_id), self._store
        with store.transaction() as connection:
            store.notebooks.get_for_update(notebook_id)
            found = store.runs.get_for_update(key)
            if found is None:
                raise NotFound("run", run_id)
            run = store.run_index.row_of(connection, key)
            series = store.logged_series
            stored = series.offset(connection, run, notebook_id, spool)
            if stored != begin:
                return stored
            store.mark_written()
            valid = [row for row in rows if 0 <= row.step <= MAX_STEP]
            values = columns(valid)
            values = {name: column for name, column in values.items() if len(name) <= MAX_NAME}
            series.append(connection, run, notebook_id, values)
            store.run_index.add_metrics(connection, run, notebook_id, values)
            series.set_offset(connection, run, notebook_id, spool, end)
            steps = {row.step for row in valid if _is_user(row)}
            last = found.get("last_step")
            new = {step for step in steps if not isinstance(last, int) or step > last}
            if new:
                found["step_count"] = (found.get("step_count") or 0) + len(new)
                found["last_step"] = max(new)
                store.runs.replace(found)
        return end

    def offset(self, notebook_id: str, run_id: str, spool: str) -> int:
        """Return the offset up to which a spool file is stored; raises NotFound without the run."""
        key, store = run_key(notebook_id, run_id), self._store
        with store.snapshot() as connection:
            if not store.runs.contains(doc_id=key):
                raise NotFound("run", run_id)
            run = store.run_index.row_of(connection, key)
            return store.logged_series.offset(connection, run, notebook_id, spool)

    @retried
    def forget_spool(self, notebook_id: str, run_id: str, spool: str) -> None:
        """Forget a spool file that was removed."""
        key, store = run_key(notebook_id, run_id), self._store
        with store.transaction() as connection:
            if store.runs.get_for_update(key) is not None:
                run = store.run_index.row_of(connection, key)
                store.mark_written()
                store.logged_series.set_offset(connection, run, notebook_id, spool, None)

    def names(self, notebook_id: str, run_id: str) -> builtins.list[str]:
        """Return the names of the metrics of a run and of those that it was resumed from."""
        return self.branch(notebook_id, run_id).names()

    def read(
        self, notebook_id: str, run_id: str, name: str, *, points: int | None = None
    ) -> Series:
        """Return the values of a metric over the steps of a run; see :meth:`Branch.read`."""
        return self.branch(notebook_id, run_id).read(name, points=points)

    def read_all(
        self, notebook_id: str, run_id: str, names: Sequence[str], *, points: int | None = None
    ) -> dict[str, Series]:
        """Return the values of metrics at one moment; see :meth:`Branch.read`."""
        with self._store.snapshot():
            branch = self.branch(notebook_id, run_id)
            return {name: branch.read(name, points=points) for name in names}

    def read_runs(
        self, runs: Sequence[TrainingRun], names: Sequence[str], *, points: int
    ) -> builtins.list[dict[str, Series]]:
        """Return the values of metrics of several runs at one moment; see :meth:`Branch.read`.

        Without names, these are all metrics of each run. Metrics without values are left out, and
        a run that is no longer there has none.
        """
        found = []
        with self._store.snapshot() as connection:
            for run in runs:
                key = run_key(run.notebook_id, run.id)
                series = {}
                if self._store.run_index.find_row(connection, key) is not None:
                    branch = Branch(self._store, self._branch(run))
                    series = {
                        name: branch.read(name, points=points) for name in names or branch.names()
                    }
                found.append({name: one for name, one in series.items() if len(one)})
        return found

    def branch(self, notebook_id: str, run_id: str) -> Branch:
        """Return a run with those that it was resumed from; raises NotFound."""
        run = self._runs.get(notebook_id, run_id)
        if run is None:
            raise NotFound("run", run_id)
        return Branch(self._store, self._branch(run))

    def _branch(self, first: TrainingRun) -> builtins.list[_BranchPart]:
        """Return a run and its ancestors, each with the checkpoint up to which it counts."""
        run: TrainingRun | None = first
        notebook_id = first.notebook_id
        found: builtins.list[_BranchPart] = []
        end: _End | None = None
        with self._store.snapshot() as connection:
            while run is not None and all(run.id != seen.run.id for seen in found):
                row = self._store.run_index.row_of(connection, run_key(notebook_id, run.id))
                found.append(_BranchPart(self, run, row, end))
                parent = None
                if run.parent_checkpoint_id is not None:
                    parent = self._store.checkpoints.get(doc_id=run.parent_checkpoint_id)
                if parent is None or not isinstance(parent.get("run_id"), str):
                    break
                step = decode_step(parent["step"], parent.get("large_step"))
                end = _End(step, parent["created_at"])
                run = self._runs.get(notebook_id, parent["run_id"])
        return found


class Branch:
    """The series of a run and of those that it was resumed from, which are looked up once."""

    def __init__(self, store: Store, parts: Sequence[_BranchPart]) -> None:
        self._store = store
        self._parts = parts

    def names(self) -> builtins.list[str]:
        """Return the names of the metrics."""
        own, *parents = self._parts
        found = set(own.run.metrics or {})
        for parent in parents:
            found.update(name for name in parent.run.metrics or {} if not is_system(name))
        return sorted(found)

    def read(self, name: str, *, points: int | None = None) -> Series:
        """Return the values of a metric over the steps of the run, oldest first.

        A run that was resumed has the values of its parents up to the checkpoint where it was
        resumed, but not their system metrics. A metric that was never logged has the values of the
        checkpoints.

        Parameters
        ----------
        points : int, optional
            Return at most this many rows, which keep the extremes.

        Raises
        ------
        RecordDamaged
            When the stored rows are damaged.
        """
        from ..series import concatenate, downsample, merge_steps

        table, found = self._store.logged_series, []
        parts = self._parts[:1] if is_system(name) else self._parts
        with self._store.snapshot() as connection:
            for part in parts:
                of_part = connection, part.row, part.run.notebook_id, name
                series = None
                if points is not None and len(parts) == 1:
                    series = table.sample(*of_part, points)
                series = table.read(*of_part) if series is None else series
                if not len(series):
                    series = part.of_checkpoints(name)
                elif part.end is not None:
                    series = series.take(series.steps <= part.end.step)
                found.append(series)
        whole = merge_steps(concatenate(reversed(found)))
        return whole if points is None else downsample(whole, points)


@dataclass
class _BranchPart:
    """A run of a branch, the number of its row, and the checkpoint up to which it counts."""

    repository: SeriesRepository
    run: TrainingRun
    row: int
    end: _End | None

    @cached_property
    def checkpoints(self) -> Sequence[RunSeries]:
        """The metrics of its checkpoints."""
        return self.repository.list(self.run.notebook_id, run_id=self.run.id)

    def of_checkpoints(self, name: str) -> Series:
        """Return the values that a metric has in the checkpoints."""
        from ..series import EMPTY, Series

        rows: list[tuple[int, int, float, float]] = []
        for series in self.checkpoints:
            column = series.metrics.get(name)
            if column is None:
                return EMPTY
            points = zip(series.step, series.epoch, column, series.created_at, strict=True)
            for step, epoch, value, time in points:
                if value is not None and (self.end is None or time <= self.end.created_at):
                    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
                    rows.append((step, epoch, float(value), moment.timestamp()))
        steps, epochs, values, times = ([row[column] for row in rows] for column in range(4))
        # Steps that begin again in each epoch are no axis.
        axes = (steps, epochs, range(len(rows)))
        axis = next(axis for axis in axes if all(a < b for a, b in pairwise(axis)))
        return Series.of([int(step) for step in axis], values, times)


def is_system(name: str) -> bool:
    """Return whether a metric is a system metric."""
    return name.startswith(SYSTEM_PREFIX)


def _is_user(row: Row) -> bool:
    """Return whether a row has metrics that the user logged."""
    return not all(map(is_system, row.metrics))


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
