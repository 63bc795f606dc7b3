"""The SQL tables by which runs are filtered and sorted, and the translation of filters to SQL.

``axonml_run_values`` has a row for each value of a run's configuration and for its other texts,
derived from its document. ``axonml_run_metrics`` has the summaries of its metrics. Both refer to
the run's row by ``seq``. :func:`.run_filters.matches` defines what a filter means; the SQL here
means the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator as operator_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from tinydb.table import Document

from ..metrics import encode_nonfinite, flatten_metrics, to_float
from ..records import MetricSummary, MetricValue
from ..run_filters import (
    Combination,
    Comparison,
    Constant,
    Negation,
    RunFilter,
    RunOrder,
    Variable,
    normalize_value,
)
from .codec import column_text, plain_text
from .series_table import Columns

#: Longer names are not indexed: filters do not find them.
MAX_NAME: Final = 200
#: Of longer texts, the beginning and a hash are indexed: ``in`` searches only the beginning.
MAX_TEXT: Final = 2_000
#: The largest number of values of one run that are indexed. Texts and numbers precede lists.
MAX_VALUES: Final = 2_000
#: The number of elements of a list that ``in`` searches.
MAX_ITEMS: Final = 200
_BATCH: Final = 500
#: The columns of a summary.
_SUMMARY: Final = ("last", "last_step", "min", "min_step", "max", "max_step")

_SCALAR, _LIST = -1, -2

_OPERATIONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator_module.eq,
    "<": operator_module.lt,
    "<=": operator_module.le,
    ">": operator_module.gt,
    ">=": operator_module.ge,
}

#: The fields that are columns of the runs' table.
_COLUMNS: Final = frozenset(("name", "number", "step_count", "started_at"))
_NOTEBOOK_COLUMNS: Final = frozenset(("path",))
#: The other fields, which have rows.
_TEXT_FIELDS: Final = ("id", "group", "key", "notes")


class RunValue(NamedTuple):
    """A value of a run: its document's id, and a row of ``axonml_run_values``.

    ``item`` is the index of an element of a list, -1 for a single value, and -2 for a list as JSON.
    """

    run_id: str
    notebook_id: str
    name: str
    item: int
    number: float | None
    text: str | None


class _Rows(NamedTuple):
    """Rows with values of runs: a table, the condition on it, and its columns."""

    table: sa.FromClause
    condition: sa.ColumnElement[bool]
    number: sa.ColumnElement[Any] | None
    text: sa.ColumnElement[Any] | None


class RunIndex:
    """The tables, and the queries that use them.

    Parameters
    ----------
    runs, notebooks, checkpoints : sqlalchemy.Table
        The tables of the documents.
    """

    def __init__(
        self,
        metadata: sa.MetaData,
        text: sa.types.TypeEngine[str],
        runs: sa.Table,
        notebooks: sa.Table,
        checkpoints: sa.Table,
    ) -> None:
        self.runs, self.notebooks, self.checkpoints = runs, notebooks, checkpoints
        self.values = sa.Table(
            "axonml_run_values",
            metadata,
            sa.Column("name", text, primary_key=True),
            sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("item", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("notebook_id", text, primary_key=True),
            sa.Column("number", sa.Double),
            sa.Column("text", text),
            sa.Index("ix_axonml_run_values_run", "run"),
            sa.Index("ix_axonml_run_values_notebook_id_name", "notebook_id", "name"),
            sqlite_with_rowid=False,
        )
        self.metrics = sa.Table(
            "axonml_run_metrics",
            metadata,
            sa.Column("name", text, primary_key=True),
            sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("notebook_id", text, primary_key=True),
            *(sa.Column(name, sa.Double) for name in ("last", "min", "max")),
            *(sa.Column(f"{name}_step", sa.BigInteger) for name in ("last", "min", "max")),
            sa.Index("ix_axonml_run_metrics_run", "run"),
            sa.Index("ix_axonml_run_metrics_notebook_id_name", "notebook_id", "name"),
            sqlite_with_rowid=False,
        )
        self.tables = (self.values, self.metrics)
        parameters: dict[str, Any] = {name: sa.bindparam(name) for name in RunValue._fields}
        of_run = runs.c.id == parameters.pop("run_id")
        self.insert_row = sa.insert(self.values).from_select(
            ["run", *parameters], sa.select(runs.c.seq, *parameters.values()).where(of_run)
        )
        c = self.values.c
        self.delete_row = sa.delete(self.values).where(
            c.run == sa.select(runs.c.seq).where(of_run).scalar_subquery(),
            *(c[name] == parameters[name] for name in ("notebook_id", "name", "item")),
        )

    def make_rows(self, runs: Iterable[Document]) -> set[RunValue]:
        """Return the rows of ``axonml_run_values`` for documents of runs."""
        found = set()
        for document in runs:
            notebook_id, run = document.get("notebook_id"), column_text(str(document.doc_id))
            if not isinstance(notebook_id, str):
                continue
            for name, item, found_value in islice(_values(document), MAX_VALUES):
                if len(name) <= MAX_NAME:
                    value = normalize_value(found_value)
                    text = index_text(value) if isinstance(value, str) else None
                    number = value if isinstance(value, float) else None
                    row = (column_text(notebook_id), column_text(name), item, number, text)
                    found.add(RunValue(run, *row))
        return found

    def find_row(self, connection: sa.Connection, run_id: str) -> int | None:
        """Return the number of a run's row, by the id of its document, or None."""
        query = sa.select(self.runs.c.seq).where(self.runs.c.id == column_text(run_id))
        found: int | None = connection.scalar(query)
        return found

    def row_of(self, connection: sa.Connection, run_id: str) -> int:
        """Return the number of the row of a run that exists."""
        row = self.find_row(connection, run_id)
        assert row is not None
        return row

    # Summaries of metrics

    def add_metrics(
        self,
        connection: sa.Connection,
        run: int,
        notebook_id: str,
        rows: Columns,
        *,
        in_order: bool = False,
    ) -> None:
        """Update the summaries of a run with rows that were logged.

        Parameters
        ----------
        in_order : bool
            Whether the last row is the last value whatever its step, since steps begin again in
            each epoch. By default it is the value of the greatest step.
        """
        c, key = self.metrics.c, {"run": run, "notebook_id": column_text(notebook_id)}
        of_run = sa.and_(c.run == run, c.notebook_id == key["notebook_id"])
        names = [name for name in rows if len(name) <= MAX_NAME]
        for start in range(0, len(names), _BATCH):
            batch = [column_text(name) for name in names[start : start + _BATCH]]
            stored = {
                row["name"]: row
                for row in connection.execute(
                    sa.select(self.metrics).where(of_run, c.name.in_(batch))
                ).mappings()
            }
            changed = [
                {
                    **key,
                    "name": name,
                    **_summarize(*rows[plain_text(name)][:2], stored.get(name), in_order),
                }
                for name in batch
            ]
            if stored:
                connection.execute(sa.delete(self.metrics).where(of_run, c.name.in_(list(stored))))
            connection.execute(sa.insert(self.metrics), changed)

    def summary_rows(
        self, connection: sa.Connection, run: int, notebook_id: str
    ) -> list[dict[str, Any]]:
        """Return the rows of a run's summaries without their keys, sorted by name."""
        c = self.metrics.c
        query = (
            sa.select(*(column for column in c if column.name not in ("run", "notebook_id")))
            .where(c.run == run, c.notebook_id == column_text(notebook_id))
            .order_by(c.name)
        )
        return [dict(row) for row in connection.execute(query).mappings()]

    def remove_summaries(
        self, connection: sa.Connection, run: int, notebook_id: str, *, kept: Collection[str]
    ) -> None:
        """Remove the summaries of a run, except those of some metrics."""
        c = self.metrics.c
        of_run = sa.and_(c.run == run, c.notebook_id == column_text(notebook_id))
        stored = connection.scalars(sa.select(c.name).where(of_run)).all()
        names = [name for name in stored if plain_text(name) not in kept]
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            connection.execute(sa.delete(self.metrics).where(of_run, c.name.in_(batch)))

    def replace_summaries(
        self,
        connection: sa.Connection,
        run: int,
        notebook_id: str,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        """Replace the summaries of a run by rows that :meth:`summary_rows` returned."""
        c, key = self.metrics.c, {"run": run, "notebook_id": column_text(notebook_id)}
        connection.execute(
            sa.delete(self.metrics).where(c.run == run, c.notebook_id == key["notebook_id"])
        )
        names = [column.name for column in c if column.name not in key]
        values = [{**key, **{name: row[name] for name in names}} for row in rows]
        if values:
            connection.execute(sa.insert(self.metrics), values)

    def read_metrics(
        self, connection: sa.Connection, run_ids: Iterable[str]
    ) -> dict[str, dict[str, MetricSummary]]:
        """Return the summaries of the metrics of runs, by the ids of their documents."""
        found: dict[str, dict[str, MetricSummary]] = {id: {} for id in run_ids}
        listed, runs = [column_text(id) for id in found], self.runs.c
        for start in range(0, len(listed), _BATCH):
            query = (
                sa.select(runs.id, self.metrics)
                .join(self.runs, self.belongs(self.metrics))
                .where(runs.id.in_(listed[start : start + _BATCH]))
                .order_by(self.metrics.c.name)
            )
            for row in connection.execute(query):
                found[plain_text(row.id)][plain_text(row.name)] = _decode_summary(row._mapping)
        return found

    # Filters

    def condition(self, parsed: RunFilter, now: str) -> sa.ColumnElement[bool]:
        """Return the SQL condition of a filter, for a query of runs joined with notebooks.

        Parameters
        ----------
        now : str
            The current time; a running run whose lease ended before it is stopped.
        """
        match parsed:
            case Negation(filter=inner):
                return sa.not_(self.condition(inner, now))
            case Combination(operator=operator, filters=filters):
                conditions = [self.condition(each, now) for each in filters]
                return sa.and_(*conditions) if operator == "and" else sa.or_(*conditions)
            case Comparison(operator="!=", left=left, right=right):
                return sa.not_(self.condition(Comparison("==", left, right), now))
            case Comparison(operator="not in", left=left, right=right):
                return sa.not_(self.condition(Comparison("in", left, right), now))
            case Comparison(operator="in", left=left, right=right):
                return self._contains(right, left, now)
            case Comparison(operator=operator, left=left, right=right):
                return self._compare(operator, left, right, now)

    def is_archived(self) -> sa.ColumnElement[bool]:
        """Return the condition that a run is archived."""
        table = self.values.alias()
        return self._in(table, table.c.name == "archived", table.c.item == _SCALAR)

    def has_id(self, ids: Collection[str]) -> sa.ColumnElement[bool]:
        """Return the condition that a run has one of some ids."""
        table = self.values.alias()
        return self._in(table, table.c.name == "id", table.c.text.in_([*map(index_text, ids)]))

    def order(self, query: sa.Select[Any], order: RunOrder, now: str) -> sa.Select[Any]:
        """Return a query of runs in an order; runs without the value come last."""
        rows = self._rows(order.variable)
        if rows is None:
            values = self._value(order.variable, now)
        else:  # joined, since a subquery would be evaluated for each term of the order
            query = query.outerjoin(rows.table, sa.and_(rows.condition, self.belongs(rows.table)))
            values = rows.number, rows.text
        for value in values:
            if value is not None:
                query = query.order_by(
                    value.is_(None), value.desc() if order.descending else value.asc()
                )
        return query

    def _rows(self, variable: Variable) -> _Rows | None:
        """Return the rows that have the values of a variable; None for columns of runs."""
        if variable.kind == "metric":
            table = self.metrics.alias()
            is_metric = table.c.name == column_text(variable.name)
            return _Rows(table, is_metric, table.c[variable.statistic], None)
        if variable.kind == "field" and variable.name not in _TEXT_FIELDS:
            return None
        table = self.values.alias()
        is_value = sa.and_(
            table.c.name == column_text(_row_name(variable)), table.c.item == _SCALAR
        )
        return _Rows(table, is_value, table.c.number, table.c.text)

    def _in(
        self, table: sa.FromClause, *conditions: sa.ColumnElement[bool]
    ) -> sa.ColumnElement[bool]:
        """Return the condition that a run has a row; the rows are looked up once for all runs."""
        owner = self.runs.alias()
        found = (
            sa.select(table.c.run)
            .join(owner, self.belongs(table, owner))
            .where(*conditions)
            .correlate(None)
        )
        return self.runs.c.seq.in_(found)

    def _value(
        self, variable: Variable, now: str
    ) -> tuple[sa.ColumnElement[Any] | None, sa.ColumnElement[Any] | None]:
        """Return the number and the text of a variable; None for a kind that it never has."""
        runs, name = self.runs.c, variable.name
        if variable.kind == "metric":
            table = self.metrics
            found = sa.select(table.c[variable.statistic]).where(
                table.c.name == column_text(name), self.belongs(table)
            )
            return found.correlate(self.runs, self.notebooks).scalar_subquery(), None
        if variable.kind == "config":
            return self._row(f"config.{name}", "number"), self._row(f"config.{name}", "text")
        if name in ("number", "step_count"):
            return runs[name], None
        if name == "name":  # as it is displayed
            unnamed = sa.func.coalesce(runs.name, "") == ""
            default = sa.literal("run ") + sa.cast(runs.number, sa.String)
            return None, sa.case((unnamed, default), else_=runs.name)
        if name == "status":
            is_over = sa.and_(runs.status == "running", runs.lease_until <= now)
            return None, sa.case((is_over, "stopped"), else_=runs.status)
        if name == "ended_at":
            is_over = sa.and_(runs.status == "running", runs.lease_until <= now)
            return None, sa.case((is_over, runs.lease_until), else_=runs.ended_at)
        if name == "archived":
            return sa.func.coalesce(self._row(name, "number"), 0.0), None
        if name == "notebook_id":
            return None, runs.notebook_id
        if name in _COLUMNS:
            return None, runs[name]
        if name == "notebook":
            return None, self.notebooks.c.name
        if name in _NOTEBOOK_COLUMNS:
            return None, self.notebooks.c[name]
        return None, self._row(name, "text")

    def belongs(
        self, table: sa.FromClause, runs_table: sa.FromClause | None = None
    ) -> sa.ColumnElement[bool]:
        """Return the condition that a row of one of the tables is one of a run."""
        # Users of a shared database could insert rows of their notebooks for the runs of others.
        runs = (self.runs if runs_table is None else runs_table).c
        return sa.and_(table.c.run == runs.seq, table.c.notebook_id == runs.notebook_id)

    def _row(self, name: str, column: str, item: int = _SCALAR) -> sa.ColumnElement[Any]:
        c = self.values.c
        return (
            sa.select(c[column])
            .where(c.name == column_text(name), self.belongs(self.values), c.item == item)
            .correlate(self.runs, self.notebooks)  # and to no other query of the same table
            .scalar_subquery()
        )

    def _list(self, variable: Variable) -> sa.ColumnElement[Any]:
        return self._row(_row_name(variable), "text", _LIST)

    def _compare(
        self, operator: str, left: Variable | Constant, right: Variable | Constant, now: str
    ) -> sa.ColumnElement[bool]:
        assert isinstance(left, Variable)
        number, text = self._value(left, now)
        if isinstance(right, Variable):
            other_number, other_text = self._value(right, now)
            alternatives = [
                _apply(operator, one, other)
                for one, other in ((number, other_number), (text, other_text))
                if one is not None and other is not None
            ]
            if operator == "==":
                alternatives.append(
                    sa.and_(self._is_missing(left, now), self._is_missing(right, now))
                )
                if _is_listed(left) and _is_listed(right):
                    alternatives.append(_apply("==", self._list(left), self._list(right)))
            return sa.or_(sa.false(), *alternatives)
        constant = right.value
        if constant is None:
            return self._is_missing(left, now) if operator == "==" else sa.false()
        if isinstance(constant, tuple):
            if operator != "==" or not _is_listed(left):
                return sa.false()
            stored = self._list(left)
            return sa.func.coalesce(stored == index_text(_list_text(constant)), sa.false())
        is_text = isinstance(constant, str)
        rows = self._rows(left)
        if rows is not None:
            number, text = rows.number, rows.text
        value = text if is_text else number
        if value is None:
            return sa.false()
        compared = self._text(left, constant) if is_text else to_float(constant)
        if rows is None:
            return _apply(operator, value, compared)
        return self._in(rows.table, rows.condition, _OPERATIONS[operator](value, compared))

    def _text(self, variable: Variable, constant: str) -> str:
        """Return a constant in the form in which the texts of a variable are stored."""
        has_column = variable.kind == "field" and variable.name not in _TEXT_FIELDS
        return column_text(constant) if has_column else index_text(constant)

    def _is_missing(self, variable: Variable, now: str) -> sa.ColumnElement[bool]:
        values = [value for value in self._value(variable, now) if value is not None]
        if _is_listed(variable):
            values.append(self._list(variable))
        return sa.and_(*(value.is_(None) for value in values))

    def _contains(
        self, container: Variable | Constant, item: Variable | Constant, now: str
    ) -> sa.ColumnElement[bool]:
        if isinstance(container, Constant) and isinstance(container.value, tuple):
            if isinstance(item, Constant):
                return sa.true() if item.value in container.value else sa.false()
            each = [self._compare("==", item, Constant(value), now) for value in container.value]
            return sa.or_(sa.false(), *each)
        number, text = self._operand(item, now)
        rows = self._rows(container) if isinstance(container, Variable) else None
        found: list[sa.ColumnElement[bool]] = []
        if rows is not None and isinstance(item, Constant):
            if text is not None and rows.text is not None and not _is_tags(container):
                found.append(self._in(rows.table, rows.condition, _is_part(rows.text, text)))
        elif text is not None:
            _, whole = self._operand(container, now)
            if whole is not None:
                found.append(sa.func.coalesce(_is_part(whole, text), sa.false()))
        if isinstance(container, Variable) and _is_listed(container):
            if isinstance(item, Constant):
                return sa.or_(*found, self._has_element(container, item.value))
            c = self.values.c
            element = (
                sa.exists()
                .correlate(self.runs, self.notebooks)
                .where(
                    c.name == column_text(_row_name(container)),
                    self.belongs(self.values),
                    c.item >= 0,
                )
            )
            if number is not None:
                found.append(element.where(c.number == number))
            if text is not None:
                found.append(element.where(c.text == text))
            is_none = element.where(c.number.is_(None), c.text.is_(None))
            found.append(sa.and_(self._is_missing(item, now), is_none))
        return sa.or_(sa.false(), *found)

    def _has_element(self, container: Variable, item: Any) -> sa.ColumnElement[bool]:
        table = self.values.alias()
        c = table.c
        is_element = sa.and_(c.name == column_text(_row_name(container)), c.item >= 0)
        if item is None:
            return self._in(table, is_element, c.number.is_(None), c.text.is_(None))
        if isinstance(item, str):
            return self._in(table, is_element, c.text == index_text(item))
        return self._in(table, is_element, c.number == to_float(item))

    def _operand(
        self, operand: Variable | Constant, now: str
    ) -> tuple[sa.ColumnElement[Any] | None, sa.ColumnElement[Any] | None]:
        """Return the number and the text of an operand; None for what it is not."""
        if isinstance(operand, Variable):
            return self._value(operand, now)
        if isinstance(operand.value, str):
            return None, sa.literal(column_text(operand.value))
        if isinstance(operand.value, (bool, int, float)):
            return sa.literal(to_float(operand.value)), None
        return None, None


def extend_summary(
    summary: MetricSummary | None, steps: Sequence[int], values: Sequence[float]
) -> MetricSummary:
    """Return the summary of a metric with further rows, in the order in which they were logged."""
    before = None
    if summary is not None:
        before = {name: getattr(summary, name) for name in _SUMMARY}
        for name in ("last", "min", "max"):  # infinities are texts
            before[name] = None if before[name] is None else float(before[name])
    return _decode_summary(_summarize(steps, values, before, in_order=False))


def _decode_summary(row: Mapping[Any, Any]) -> MetricSummary:
    return MetricSummary(
        last=json_value(row["last"], math.nan),
        last_step=row["last_step"],
        min=None if row["min"] is None else json_value(row["min"]),
        min_step=row["min_step"],
        max=None if row["max"] is None else json_value(row["max"]),
        max_step=row["max_step"],
    )


def _summarize(
    steps: Sequence[int],
    values: Sequence[float],
    stored: Mapping[Any, Any] | None,
    in_order: bool,
) -> dict[str, Any]:
    """Return the columns of a summary: the stored ones, if any, updated with new rows."""
    summary = {name: None if stored is None else stored[name] for name in _SUMMARY}
    rows = zip(steps, values, strict=True)
    for step, value in rows if in_order else sorted(rows, key=itemgetter(0)):
        if in_order or summary["last_step"] is None or step >= summary["last_step"]:
            summary["last"], summary["last_step"] = _number(value), step
        if not math.isnan(value):
            if summary["min"] is None or value < summary["min"]:
                summary["min"], summary["min_step"] = value, step
            if summary["max"] is None or value > summary["max"]:
                summary["max"], summary["max_step"] = value, step
    return summary


def _number(value: float) -> float | None:
    # SQLite stores NaN as NULL, and PostgreSQL sorts it as the largest number.
    return None if math.isnan(value) else float(value)


def json_value(value: float | None, default: float = 0.0) -> MetricValue:
    """Return a column of a summary as JSON has it; ``default`` for NULL."""
    value = default if value is None else value
    if math.isfinite(value):
        return value
    encoded: MetricValue = encode_nonfinite(value)[0]
    return encoded


def _is_listed(variable: Variable) -> bool:
    """Return whether a variable may be a list."""
    return variable.kind == "config" or _is_tags(variable)


def _is_tags(operand: Variable | Constant) -> bool:
    return isinstance(operand, Variable) and operand.kind == "field" and operand.name == "tags"


def _is_part(whole: Any, text: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a text contains another one; unknown if there is none."""
    return sa.and_(
        whole.is_not(None), sa.or_(text == "", sa.func.replace(whole, text, "") != whole)
    )


def _row_name(variable: Variable) -> str:
    return f"config.{variable.name}" if variable.kind == "config" else variable.name


def _apply(operator: str, value: Any, other: Any) -> sa.ColumnElement[bool]:
    # An unknown result is false, so that its negation is true.
    return sa.func.coalesce(_OPERATIONS[operator](value, other), sa.false())


def _values(document: Mapping[str, Any]) -> Iterator[tuple[str, int, Any]]:
    """Yield the names, items and values of the rows of a run."""
    for field in _TEXT_FIELDS:
        if isinstance(value := document.get(field), str):
            yield field, _SCALAR, value
    if document.get("archived") is True:
        yield "archived", _SCALAR, True
    named = {"tags": document.get("tags") or []}
    flat = flatten_metrics(document.get("config"))
    named |= {f"config.{name}": value for name, value in flat.items()}
    for name, value in named.items():
        if not isinstance(value, list):
            yield name, _SCALAR, value
    for name, value in named.items():
        if isinstance(value, list):
            yield name, _LIST, _list_text(value)
            for item, element in enumerate(value[:MAX_ITEMS]):
                if element is None or isinstance(element, (str, bool, int, float)):
                    yield name, item, element


def _list_text(values: Any) -> str:
    """Return the text of a list, which is the same for lists that are equal in Python."""
    return json.dumps(normalize_value(values), separators=(",", ":"), sort_keys=True)


def index_text(text: str) -> str:
    """Return a text as it is indexed: the beginning and a hash, if it is long."""
    if len(text) > MAX_TEXT:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        text = f"{text[: MAX_TEXT - len(digest)]}{digest}"
    return column_text(text)
