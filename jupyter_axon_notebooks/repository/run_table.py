"""The table of runs: a short form of each run, read fast even if there are many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa

from ..errors import RecordDamaged
from ..metrics import flatten_metrics
from ..records import ConfigSource, MetricValue, RunStatus, TrainingRun, format_time
from ..store.codec import column_text, plain_text
from ..store.run_index import RunIndex, json_value
from ..store.tables import decode_document
from .damage import check_damage

#: Rows that one statement names. SQLite allows 32,766 parameters.
_BATCH: Final = 5_000
#: Of fewer runs, only the own checkpoints are searched, not all of their notebooks.
_FEW: Final = 500
#: What the JSON of a checkpoint contains if it is pinned.
_PINNED: Final = '"pinned":true'
#: A time as :func:`.records.format_time` writes it has this length.
_Time = Annotated[str, msgspec.Meta(min_length=27, max_length=27)]


class Summary(msgspec.Struct, omit_defaults=True, gc=False):
    """A metric of a run, as :class:`.records.MetricSummary` describes it."""

    last: MetricValue
    last_step: int
    min: MetricValue | None = None
    min_step: int | None = None
    max: MetricValue | None = None
    max_step: int | None = None


class TableRun(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A run in the table. JSON omits fields that are None.

    Attributes
    ----------
    name : str
        The name that is displayed.
    config : dict
        By dotted key.
    metrics : dict of Summary
        By the name of the metric.
    checkpoint_count, pinned_count : int
        The number of its checkpoints, and of those that are pinned.
    size : int
        Bytes of the state files of its checkpoints.
    """

    id: str
    notebook_id: str
    number: int | None = None
    name: str
    status: RunStatus
    started_at: str
    ended_at: str | None = None
    group: str | None = None
    notes: str | None = None
    tags: list[str]
    archived: bool
    parent_checkpoint_id: str | None = None
    config: dict[str, Any]
    config_source: ConfigSource | None = None
    metrics: dict[str, Summary]
    step_count: int | None = None
    checkpoint_count: int
    pinned_count: int
    size: int


class TableNotebook(msgspec.Struct, omit_defaults=True):
    """A notebook of the runs in the table; see :class:`.records.NotebookHeader`."""

    name: str
    path: str | None = None
    origin: str | None = None


class RunTable(msgspec.Struct):
    """Runs in an order, and their notebooks by id."""

    runs: list[TableRun]
    notebooks: dict[str, TableNotebook]
    total: int


class _StoredRun(msgspec.Struct, gc=False):
    """The fields of a run's document that the table has."""

    id: str
    notebook_id: str
    started_at: _Time
    status: RunStatus = RunStatus.RUNNING
    ended_at: _Time | None = None
    lease_until: _Time | None = None
    name: str | None = None
    number: int | None = None
    config: dict[str, Any] | None = None
    config_source: ConfigSource | None = None
    tags: list[str] = []
    notes: str | None = None
    group: str | None = None
    step_count: int | None = None
    archived: bool | None = None
    parent_checkpoint_id: str | None = None


_decoder = msgspec.json.Decoder(_StoredRun)


def read_table(
    connection: sa.Connection, index: RunIndex, rows: Sequence[int], moment: str
) -> tuple[list[TableRun], dict[str, TableNotebook]]:
    """Return the runs of some rows, in their order, and their notebooks.

    Damaged runs are left out.

    Parameters
    ----------
    rows : sequence of int
        The numbers of the rows of the runs' table.
    moment : str
        The present time; a running run whose lease has ended is stopped.
    """
    found: dict[int, TableRun] = {}
    r, m = index.runs.c, index.metrics.c
    # Parameters would take longer than the query.
    batch: sa.BindParameter[Any] = sa.bindparam("batch", expanding=True, literal_execute=True)
    documents = sa.select(r.seq, r.id, r.document).where(r.seq.in_(batch))
    statistics = m.last, m.last_step, m.min, m.min_step, m.max, m.max_step
    summaries = sa.select(m.run, m.notebook_id, m.name, *statistics)
    summaries = summaries.where(m.run.in_(batch)).order_by(m.run, m.name)
    for values in _batches(rows):
        for seq, id, document in connection.execute(documents, {"batch": values}).all():
            with suppress(RecordDamaged):
                found[seq] = _make_run(id, document, moment)
        for seq, notebook_id, name, *summary in connection.execute(summaries, {"batch": values}):
            run = found.get(seq)
            # As in RunIndex.belongs, which would make this query slow.
            if run is not None and run.notebook_id == plain_text(notebook_id):
                run.metrics[plain_text(name)] = _summary(*summary)
    runs = [found[row] for row in rows if row in found]
    _set_sizes(connection, index, runs)
    return runs, _read_notebooks(connection, index, {run.notebook_id for run in runs})


def _batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    listed = list(values)
    for start in range(0, len(listed), _BATCH):
        yield listed[start : start + _BATCH]


def _make_run(id: str, document: str, moment: str) -> TableRun:
    try:
        run = _decoder.decode(document)
        for time in (run.started_at, run.ended_at, run.lease_until):
            if time is not None:
                datetime.fromisoformat(time.removesuffix("Z"))
    except (msgspec.DecodeError, UnicodeEncodeError, ValueError):
        # Only the store's own codec can decode it, if any can.
        run = _decode_slowly(decode_document((plain_text(id), document)))
    status, ended_at = run.status, run.ended_at
    if status is RunStatus.RUNNING and run.lease_until is not None and run.lease_until <= moment:
        status, ended_at = RunStatus.STOPPED, run.lease_until
    default = f"run {run.id[:8]}" if run.number is None else f"run {run.number}"
    return TableRun(
        id=run.id,
        notebook_id=run.notebook_id,
        number=run.number,
        name=run.name or default,
        status=status,
        started_at=run.started_at,
        ended_at=ended_at,
        group=run.group,
        notes=run.notes,
        tags=run.tags,
        archived=run.archived is True,
        parent_checkpoint_id=run.parent_checkpoint_id,
        config=flatten_metrics(run.config),
        config_source=run.config_source,
        metrics={},
        step_count=run.step_count,
        checkpoint_count=0,
        pinned_count=0,
        size=0,
    )


def _decode_slowly(found: Mapping[str, Any]) -> _StoredRun:
    """Decode the document of a run; raises RecordDamaged."""
    with check_damage(f"run {found.get('id')}"):
        whole = TrainingRun.from_json(found)
    run = _StoredRun(**{name: getattr(whole, name) for name in _StoredRun.__struct_fields__})
    for name in ("started_at", "ended_at", "lease_until"):
        time = getattr(whole, name)
        setattr(run, name, None if time is None else format_time(time))
    return run


def _summary(
    last: float | None,
    last_step: int,
    least: float | None,
    min_step: int | None,
    greatest: float | None,
    max_step: int | None,
) -> Summary:
    """Return a summary from the columns of its row; see :func:`.run_index.json_value`."""
    if (  # nearly always
        last is not None
        and least is not None
        and greatest is not None
        and math.isfinite(last + least + greatest)
    ):
        return Summary(last, last_step, least, min_step, greatest, max_step)
    return Summary(
        json_value(last, math.nan),
        last_step,
        None if least is None else json_value(least),
        min_step,
        None if greatest is None else json_value(greatest),
        max_step,
    )


def _set_sizes(connection: sa.Connection, index: RunIndex, runs: Sequence[TableRun]) -> None:
    """Count the checkpoints of runs and the bytes of their state files."""
    by_id = {(run.notebook_id, run.id): run for run in runs}
    c = index.checkpoints.c
    columns = c.notebook_id, c.run_id
    sizes = sa.select(*columns, sa.func.count(), sa.func.sum(c.state_size)).group_by(*columns)
    # JSON text is searched before it is decoded: few checkpoints are pinned.
    may_be_pinned = sa.func.replace(c.document, _PINNED, "") != c.document
    pinned = sa.select(*columns, c.id, c.document).where(may_be_pinned)
    for batch in _batches({run.notebook_id for run in runs}):
        among: sa.ColumnElement[bool] = c.notebook_id.in_([*map(column_text, batch)])
        if len(runs) < _FEW:
            among = sa.and_(among, c.run_id.in_([column_text(run.id) for run in runs]))
        for notebook_id, run_id, count, size in connection.execute(sizes.where(among)):
            run = by_id.get((plain_text(notebook_id), plain_text(run_id or "")))
            if run is not None:
                run.checkpoint_count, run.size = count, int(size or 0)
        for notebook_id, run_id, id, document in connection.execute(pinned.where(among)):
            run = by_id.get((plain_text(notebook_id), plain_text(run_id or "")))
            with suppress(RecordDamaged):
                if run is not None and decode_document((id, document)).get("pinned") is True:
                    run.pinned_count += 1


def _read_notebooks(
    connection: sa.Connection, index: RunIndex, ids: Iterable[str]
) -> dict[str, TableNotebook]:
    n = index.notebooks.c
    query = sa.select(n.id, n.name, n.path, n.origin)
    found = {}
    for batch in _batches(ids):
        among = n.id.in_([*map(column_text, batch)])
        for id, *values in connection.execute(query.where(among)):
            name, path, origin = (None if value is None else plain_text(value) for value in values)
            found[plain_text(id)] = TableNotebook(name or "", path, origin)
    return found
