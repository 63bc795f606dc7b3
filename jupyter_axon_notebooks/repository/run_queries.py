"""Queries of training runs, in one notebook and across notebooks."""

from __future__ import annotations

import builtins
import hashlib
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import NotFound, RecordDamaged
from ..metrics import flatten_metrics, format_number
from ..printable import printable, short_repr, shorten
from ..records import Record, RunStatus, TrainingRun, format_time, now
from ..run_filters import Variable, check_names, parse_filter, parse_order, variables
from ..store import Store
from ..store.codec import column_text, plain_text
from ..store.run_index import index_text
from ..store.tables import decode_document
from .damage import check_damage
from .run_table import RunTable, read_table

RUNNING: Final = RunStatus.RUNNING.value
#: Runs that a message lists.
_MAX_LISTED: Final = 8
#: Runs in one statement.
_BATCH: Final = 500
#: Numbers of runs have fewer digits.
_MAX_DIGITS: Final = 18
#: The longest name of a configuration key that is shown whole.
_MAX_NAME: Final = 60
_NEWEST_FIRST: Final = "-started_at"


class FoundRun(Record, kw_only=True):
    """A run among those of several notebooks.

    Attributes
    ----------
    notebook : str
        The name of its notebook.
    path, origin : str, optional
        The file of its notebook, and the data folder that the file belongs to.
    checkpoint_count : int
    size : int
        Bytes of the state files of its checkpoints.
    """

    run: TrainingRun
    notebook: str
    path: str | None = None
    origin: str | None = None
    checkpoint_count: int = 0
    size: int = 0


class RunPage(Record, kw_only=True):
    """Some of the runs that match a query, and the number of all of them."""

    runs: list[FoundRun]
    total: int


@dataclass(frozen=True)
class RunQuery:
    """A query of runs.

    Attributes
    ----------
    where, sort : str
        A filter and an order, as :mod:`.run_filters` describes them; by default all runs, newest
        first.
    user_id, notebook_id : str, optional
        Only runs of this user, or of this notebook.
    ids : sequence of str, optional
        Only runs with one of these ids, which are unique only within a notebook.
    keys : sequence of tuple of str, optional
        Only runs with one of these ids of a notebook and of a run.
    with_archived : bool
        Whether to return archived runs, too. They are also returned if ``where`` names
        ``archived``, or if there are ``ids`` or ``keys``.
    """

    where: str = ""
    sort: str = _NEWEST_FIRST
    limit: int | None = None
    offset: int = 0
    user_id: str | None = None
    notebook_id: str | None = None
    ids: Sequence[str] | None = None
    keys: Sequence[tuple[str, str]] | None = None
    with_archived: bool = False


class RunQueries:
    """Queries of the training runs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run of a notebook, or None."""
        found = self._store.runs.get(doc_id=run_key(notebook_id, id))
        return None if found is None else self._with_metrics([read_run(found)])[0]

    def list(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        status: RunStatus | None = None,
        with_metrics: bool = True,
    ) -> builtins.list[TrainingRun]:
        """Return the runs of a notebook, newest first; expired runs are ``stopped``."""
        order = [_NEWEST_FIRST, "-id"]
        condition = _run_query(notebook_id, status)
        found = self._store.runs.search(condition, sort=order, limit=limit, skip=offset)
        runs = [read_run(stored) for stored in found]
        # A run may have expired since the search.
        runs = [run for run in runs if status in (None, run.status)]
        return self._with_metrics(runs) if with_metrics else runs

    def count(self, notebook_id: str, *, status: RunStatus | None = None) -> int:
        """Return the number of runs of a notebook."""
        return self._store.runs.count(_run_query(notebook_id, status))

    def find(
        self,
        text: str,
        notebook_id: str | None = None,
        user_id: str | None = None,
        *,
        by_id: bool = False,
    ) -> TrainingRun:
        """Return the run that a text names: by id, key, name, number, or the beginning of an id.

        These are tried in this order. Of several runs with a key, it is the newest.

        Parameters
        ----------
        by_id : bool
            Accept only a complete id.

        Raises
        ------
        NotFound
            If there is none. The message lists similar names.
        ValueError
            If there are several.
        """
        r, v = self._tables.runs.c, self._store.run_index.values
        stored, first = index_text(text), column_text(text)
        is_id = sa.and_(v.c.name == "id", v.c.text == stored)
        begins = sa.and_(v.c.text >= first, v.c.text < first + chr(sys.maxunicode))
        is_alias = sa.and_(v.c.name == "id", begins) if text else sa.false()
        is_alias = sa.or_(is_alias, sa.and_(v.c.name == "key", v.c.text == stored))
        valued = self._select(user_id, notebook_id, r.id, v.c.name, v.c.text).join(
            v, self._store.run_index.belongs(v)
        )
        valued = valued.where(is_id if by_id else sa.or_(is_id, is_alias))
        is_named = _is_named(r, text)
        named = self._select(user_id, notebook_id, r.id).where(is_named)
        newest = r.started_at.desc()

        def read(connection: sa.Connection) -> tuple[Sequence[Any], Sequence[str]]:
            names = [] if by_id else connection.scalars(named.order_by(newest)).all()
            return connection.execute(valued.order_by(newest)).all(), names

        values, names = self._store.read(read)
        ids = [row.id for row in values if row.name == "id" and row.text == stored]
        keys = [row.id for row in values if row.name == "key"]
        found = ids or keys[:1] or names or [row.id for row in values]
        runs = self._get_all(found[:_MAX_LISTED])
        if not runs:
            hint = "" if by_id else self._suggest(text, notebook_id, user_id)
            raise NotFound("run", text, printable(f"there is no run {text}{hint}"))
        if len(found) > 1:
            listed = ", ".join(f"{run.display_name} ({run.id[:8]})" for run in runs)
            raise ValueError(printable(f"{text} could be any of {len(found)} runs: {listed}"))
        return runs[0]

    def _suggest(self, text: str, notebook_id: str | None, user_id: str | None) -> str:
        r, v = self._tables.runs.c, self._store.run_index.values
        is_key = sa.and_(self._store.run_index.belongs(v), v.c.name == "key")
        statement = self._select(user_id, notebook_id, r.name, r.number, v.c.text.label("key"))
        statement = statement.outerjoin(v, is_key).order_by(r.started_at.desc())
        rows = self._store.read(lambda connection: connection.execute(statement).all())
        known = dict.fromkeys(
            plain_text(row.key or row.name) if row.key or row.name else f"run {row.number}"
            for row in rows
        )
        similar = get_close_matches(text, known, n=3)
        if similar or notebook_id is None or not known:
            return f"; did you mean {' or '.join(similar)}?" if similar else ""
        more = ", …" if len(known) > _MAX_LISTED else ""
        return f"; the runs of this notebook are {', '.join(islice(known, _MAX_LISTED))}{more}"

    def search(self, query: RunQuery) -> RunPage:
        """Return the runs that match a query, with their notebooks and sizes.

        Raises
        ------
        InvalidFilter
            If the filter or the order is not valid, or uses a name that no run has.
        """
        r = self._tables.runs.c
        ids, count = self._match(query, r.id)

        def read(connection: sa.Connection) -> tuple[Sequence[Any], int]:
            # Documents are read afterwards: sorting them takes long.
            found = self._read_rows(connection, connection.scalars(ids).all())
            return found, int(connection.scalar(count) or 0)

        rows, total = self._store.read(read)
        found = []
        for row in rows:
            # Damaged runs are left out. Reading such a run itself raises an error.
            with suppress(RecordDamaged):
                run = read_run(decode_document((plain_text(row.id), row.document)))
                path, origin = (
                    None if value is None else plain_text(value) for value in (row.path, row.origin)
                )
                notebook = plain_text(row.notebook or "")
                found.append(FoundRun(run=run, notebook=notebook, path=path, origin=origin))
        runs = self._with_metrics([one.run for one in found])
        sizes = self._sizes(runs)
        for one in found:
            key = one.run.notebook_id, one.run.id
            one.checkpoint_count, one.size = sizes.get(key, (0, 0))
        return RunPage(runs=found, total=total)

    def search_ids(self, query: RunQuery) -> tuple[builtins.list[tuple[str, str]], int]:
        """Return the ids of the notebook and the run of each match, and the number of all.

        Damaged runs are not left out. Raises InvalidFilter as :meth:`search` does.
        """
        v = self._store.run_index.values.alias()
        ids, count = self._match(query, self._tables.runs.c.notebook_id, v.c.text)
        is_id = sa.and_(v.c.name == "id", v.c.item == -1, self._tables.belongs(v))
        ids = ids.join(v, is_id)

        def read(connection: sa.Connection) -> tuple[Sequence[Any], int]:
            found = connection.execute(ids).all()
            is_page = query.limit is not None or query.offset
            total = connection.scalar(count) if is_page else len(found)
            return found, int(total or 0)

        found, total = self._store.read(read)
        return [(plain_text(notebook_id), plain_text(id)) for notebook_id, id in found], total

    def read_table(self, query: RunQuery) -> RunTable:
        """Return the runs that match a query in a short form, with their notebooks.

        Damaged runs are left out. Raises InvalidFilter as :meth:`search` does.
        """
        moment = format_time(now())
        rows, count = self._match(query, self._tables.runs.c.seq)

        def read() -> RunTable:
            with self._store.snapshot() as connection:
                found = connection.scalars(rows).all()
                runs, notebooks = read_table(connection, self._store.run_index, found, moment)
                is_page = query.limit is not None or query.offset
                total = connection.scalar(count) if is_page else len(found)
            return RunTable(runs, notebooks, int(total or 0))

        return self._store.retry(read, reads=True)

    def _match(self, query: RunQuery, *columns: Any) -> tuple[sa.Select[Any], sa.Select[Any]]:
        """Return the SQL for columns of the runs that match a query, and for their number."""
        index, moment = self._store.run_index, format_time(now())
        order = parse_order(query.sort)
        conditions, names_archived = [], query.with_archived
        if query.where.strip():
            parsed = parse_filter(query.where)
            used = list(variables(parsed))
            self._check(query, query.where, used, "where")
            conditions.append(index.condition(parsed, moment))
            names_archived |= any(_is_archived(one) for one in used)
        self._check(query, query.sort.strip().removeprefix("-").strip(), [order.variable], "sort")
        if query.ids is not None:
            conditions.append(index.has_id(query.ids))
        if query.keys is not None:
            named = [column_text(run_key(*key)) for key in query.keys]
            conditions.append(self._tables.runs.c.id.in_(named))
        if query.ids is None and query.keys is None and not names_archived:
            conditions.append(sa.not_(index.is_archived()))
        r = self._tables.runs.c
        found = self._select(query.user_id, query.notebook_id, *columns).where(*conditions)
        count = self._select(query.user_id, query.notebook_id, sa.func.count()).where(*conditions)
        found = index.order(found, order, moment).order_by(r.started_at.desc(), r.id)
        return found.limit(query.limit).offset(query.offset), count

    def _read_rows(self, connection: sa.Connection, ids: Sequence[str]) -> Sequence[Any]:
        """Return the documents of runs with their notebooks, in the order of the ids."""
        n, r = self._tables.notebooks.c, self._tables.runs.c
        columns = (r.id, r.document, n.name.label("notebook"), n.path, n.origin)
        statement = self._select(None, None, *columns)
        found: dict[str, Any] = {}
        for start in range(0, len(ids), _BATCH):
            batch = statement.where(r.id.in_(ids[start : start + _BATCH]))
            found |= {row.id: row for row in connection.execute(batch)}
        return [found[id] for id in ids if id in found]

    def _check(self, query: RunQuery, text: str, used: Sequence[Variable], field: str) -> None:
        index, of = self._store.run_index, (query.user_id, query.notebook_id)
        rows = {
            "config": (index.values, "config."),
            "metric": (index.metrics, ""),
        }
        known = []
        for kind, name in {(variable.kind, variable.name) for variable in used}:
            if kind in rows:
                table, prefix = rows[kind]
                is_named = table.c.name == column_text(prefix + name)
                known.append(self._narrow(sa.select(table.c.name).where(is_named), table, *of))
        # Listing all names takes longer than the search.
        is_known = sa.select(sa.and_(sa.true(), *(each.exists() for each in known)))
        if known and not self._store.read(lambda connection: connection.scalar(is_known)):
            check_names(text, used, self.config_keys(*of), self.metric_names(*of), field)

    def config_keys(
        self, user_id: str | None = None, notebook_id: str | None = None
    ) -> builtins.list[str]:
        """Return the dotted keys that configurations of runs have."""
        names = self._names(self._store.run_index.values, user_id, notebook_id)
        prefix = "config."
        return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

    def metric_names(
        self, user_id: str | None = None, notebook_id: str | None = None
    ) -> builtins.list[str]:
        """Return the names of metrics that runs have."""
        return self._names(self._store.run_index.metrics, user_id, notebook_id)

    def _names(
        self, table: sa.Table, user_id: str | None, notebook_id: str | None
    ) -> builtins.list[str]:
        statement = self._narrow(sa.select(table.c.name).distinct(), table, user_id, notebook_id)
        names = self._store.read(lambda connection: connection.scalars(statement).all())
        return sorted(plain_text(name) for name in names)

    def _narrow(
        self,
        statement: sa.Select[Any],
        table: sa.Table,
        user_id: str | None,
        notebook_id: str | None,
    ) -> sa.Select[Any]:
        """Return a query of one of the index's tables for a user or a notebook."""
        if notebook_id is not None:
            statement = statement.where(table.c.notebook_id == column_text(notebook_id))
        if user_id is not None:
            n = self._tables.notebooks.c
            own = sa.select(n.id).where(n.user_id == column_text(user_id))
            statement = statement.where(table.c.notebook_id.in_(own))
        return statement

    @property
    def _tables(self) -> Any:
        return self._store.run_index

    def _select(
        self, user_id: str | None, notebook_id: str | None, *columns: Any
    ) -> sa.Select[Any]:
        n, r = self._tables.notebooks, self._tables.runs
        statement = sa.select(*columns).select_from(r.join(n, n.c.id == r.c.notebook_id))
        if user_id is not None:
            statement = statement.where(n.c.user_id == column_text(user_id))
        if notebook_id is not None:
            statement = statement.where(r.c.notebook_id == column_text(notebook_id))
        return statement

    def _get_all(self, keys: Sequence[str]) -> builtins.list[TrainingRun]:
        found = self._store.runs.get(doc_ids=[plain_text(key) for key in keys])
        return self._with_metrics([read_run(stored) for stored in found])

    def _with_metrics(self, runs: builtins.list[TrainingRun]) -> builtins.list[TrainingRun]:
        """Set the summaries of metrics."""
        keys = {run_key(run.notebook_id, run.id): run for run in runs}
        if keys:
            index = self._store.run_index
            found = self._store.read(lambda connection: index.read_metrics(connection, keys))
            for key, summaries in found.items():
                keys[key].metrics = summaries or None
        return runs

    def _sizes(self, runs: Collection[TrainingRun]) -> dict[tuple[str, str], tuple[int, int]]:
        """Return the number of checkpoints and the bytes of their states, by notebook and run."""
        c = self._tables.checkpoints.c
        keys = [(column_text(run.notebook_id), column_text(run.id)) for run in runs]
        run = sa.tuple_(c.notebook_id, c.run_id)
        query = sa.select(c.notebook_id, c.run_id, sa.func.count(), sa.func.sum(c.state_size))
        query = query.group_by(c.notebook_id, c.run_id)
        found: dict[tuple[str, str], tuple[int, int]] = {}
        with self._store.snapshot() as connection:
            for start in range(0, len(keys), _BATCH):
                statement = query.where(run.in_(keys[start : start + _BATCH]))
                for notebook_id, run_id, count, size in connection.execute(statement):
                    found[plain_text(notebook_id), plain_text(run_id)] = count, int(size or 0)
        return found


def _is_archived(variable: Variable) -> bool:
    return variable.kind == "field" and variable.name == "archived"


def _is_named(runs: Any, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a run is displayed as a text, or has it as its number."""
    alternatives = [runs.name == column_text(text)]
    if text.startswith("run "):
        unnamed = sa.or_(runs.name.is_(None), runs.name == "")
        alternatives += [sa.and_(unnamed, runs.number == _number(text.removeprefix("run ")))]
    return sa.or_(*alternatives, runs.number == _number(text))


def _number(text: str) -> int:
    """Return the number of a run, or 0, which no run has."""
    is_number = text.isascii() and text.isdecimal() and len(text) < _MAX_DIGITS
    return int(text) if is_number and text == str(int(text)) else 0


def run_key(notebook_id: str, run_id: str) -> str:
    """Return the id of a run's document. It contains a hash of the run's id to limit its length."""
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{notebook_id}/{digest}"


def _run_query(notebook_id: str, status: RunStatus | None = None) -> QueryInstance:
    condition: QueryInstance = where("notebook_id") == notebook_id
    if status is not None:
        matches: QueryInstance = where("status") == status.value
        if status is RunStatus.RUNNING:
            matches &= ~is_expired(now())
        elif status is RunStatus.STOPPED:
            matches |= is_expired(now())
        condition &= matches
    return condition


def is_expired(moment: datetime) -> QueryInstance:
    """Return the condition that a run's lease has ended."""
    running: QueryInstance = where("status") == RUNNING
    return running & (where("lease_until") <= format_time(moment))


def is_active(run: TrainingRun) -> bool:
    """Return whether a run is running and its lease has not ended."""
    return run.status is RunStatus.RUNNING and (run.lease_until is None or run.lease_until > now())


def decode_run(found: Mapping[str, Any]) -> TrainingRun:
    """Decode a run; raises RecordDamaged."""
    with check_damage(f"run {found.get('id')}"):
        return TrainingRun.from_json(found)


def read_run(found: Mapping[str, Any]) -> TrainingRun:
    """Decode a run, with its current status."""
    return with_current_status(decode_run(found))


def with_current_status(run: TrainingRun) -> TrainingRun:
    """Set an expired run to ``stopped``, and return it."""
    if run.status is RunStatus.RUNNING and not is_active(run):
        run.status, run.ended_at = RunStatus.STOPPED, run.lease_until
    return run


def flat_config(run: TrainingRun) -> dict[str, Any]:
    """Return the configuration of a run by dotted keys."""
    return flatten_metrics(run.config or {})


def config_text(run: TrainingRun, length: int) -> str:
    """Return the configuration as ``lr=0.01, layers=[64, 64]``, cut to ``length`` characters."""
    texts = (
        f"{shorten(name, _MAX_NAME)}="
        + (format_number(value) if isinstance(value, float) else short_repr(value))
        for name, value in islice(flat_config(run).items(), length)
    )
    return shorten(printable(", ".join(texts)), length)
