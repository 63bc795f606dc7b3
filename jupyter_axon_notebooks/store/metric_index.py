"""The SQL table that ranks checkpoints by metric.

It has one row for each finite metric of each checkpoint, with the primary key (notebook, name,
value, age). So the best checkpoint is the first row of a range, and no query has to sort. Rows are
derived from the documents, as promoted columns are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from tinydb.table import Document

from ..metrics import finite_metrics
from .codec import column_text, plain_text

#: Longer names are not indexed, since index entries have a size limit.
INDEXED_NAME_LENGTH = 200


class MetricRow(NamedTuple):
    """A row of the index."""

    notebook_id: str
    name: str
    value: float
    created_at: str
    checkpoint_id: str


class MetricIndex:
    """The SQL table ``axonml_metrics``, an index of the table ``documents``, and its queries."""

    def __init__(
        self, metadata: sa.MetaData, text: sa.types.TypeEngine[str], documents: sa.Table
    ) -> None:
        kinds: dict[str, sa.types.TypeEngine[Any]] = {"value": sa.Double()}
        self.sql = sa.Table(
            "axonml_metrics",
            metadata,
            *(
                sa.Column(name, kinds.get(name, text), primary_key=True)
                for name in MetricRow._fields
            ),
            sqlite_with_rowid=False,
        )
        c = self.sql.c
        self.insert_row = sa.insert(self.sql)
        self.delete_row = sa.delete(self.sql).where(
            *(column == sa.bindparam(column.name) for column in c)
        )
        in_notebook = c.notebook_id == sa.bindparam("notebook")
        matches = sa.and_(in_notebook, c.name == sa.bindparam("metric"))
        self._names = sa.select(c.name).where(in_notebook).distinct()

        limit = sa.bindparam("limit", type_=sa.Integer)
        oldest_first = c.created_at, c.checkpoint_id
        stored = sa.select(
            c.checkpoint_id, documents.c.document, c.value, c.created_at
        ).outerjoin_from(self.sql, documents, documents.c.id == c.checkpoint_id)
        highest = sa.select(sa.func.max(c.value)).where(matches).correlate(None).scalar_subquery()
        self._lowest = stored.where(matches).order_by(c.value, *oldest_first).limit(limit)
        self._highest = stored.where(matches, c.value == highest).order_by(*oldest_first).limit(1)
        skip = sa.bindparam("skip", type_=sa.Integer)
        self._nth_highest = (
            sa.select(c.value).where(matches).order_by(c.value.desc()).limit(1).offset(skip)
        )
        nth: sa.BindParameter[float] = sa.bindparam("nth")
        self._higher = stored.where(matches, c.value > nth)
        self._tied = stored.where(matches, c.value == nth).order_by(*oldest_first).limit(limit)

    def make_rows(self, checkpoints: Iterable[Document]) -> set[MetricRow]:
        """Return the index rows of checkpoint documents."""
        rows = set()
        for document in checkpoints:
            notebook_id, created_at = document.get("notebook_id"), document.get("created_at")
            if isinstance(notebook_id, str) and isinstance(created_at, str):
                notebook, created = column_text(notebook_id), column_text(created_at)
                checkpoint = column_text(str(document.doc_id))
                rows |= {
                    MetricRow(notebook, column_text(name), value, created, checkpoint)
                    for name, value in finite_metrics(document.get("metrics")).items()
                    if len(name) <= INDEXED_NAME_LENGTH
                }
        return rows

    def list_names(self, connection: sa.Connection, notebook_id: str) -> set[str]:
        """Return the names of all indexed metrics of a notebook's checkpoints."""
        names = connection.scalars(self._names, {"notebook": column_text(notebook_id)})
        return {plain_text(name) for name in names}

    def find_best(
        self, connection: sa.Connection, notebook_id: str, name: str, *, minimize: bool, limit: int
    ) -> list[tuple[str, str | None]]:
        """Return ids and JSON of the best checkpoints, best first, ties oldest first.

        The JSON of a checkpoint that is indexed but missing is None. With ``minimize`` or a
        ``limit`` of 1 this takes one statement, otherwise three, which need a snapshot.
        """
        values = {"notebook": column_text(notebook_id), "metric": column_text(name), "limit": limit}
        if minimize:
            rows = list(connection.execute(self._lowest, values))
        elif limit == 1:
            rows = list(connection.execute(self._highest, values))
        else:
            rows = self._best_highest(connection, values, limit)
        return [(plain_text(row.checkpoint_id), row.document) for row in rows]

    def _best_highest(
        self, connection: sa.Connection, values: dict[str, Any], limit: int
    ) -> list[Any]:
        # In descending order the index lists ties newest first. So get the value of rank `limit`,
        # then all rows with higher values (fewer than `limit`), and the oldest with that value.
        nth = connection.scalar(self._nth_highest, {**values, "skip": limit - 1})
        higher = connection.execute(
            self._higher, {**values, "nth": -math.inf if nth is None else nth}
        ).all()
        rows: list[Any] = sorted(
            higher, key=lambda row: (-row.value, row.created_at, row.checkpoint_id)
        )
        if nth is not None:
            rest = max(0, limit - len(rows))
            rows += connection.execute(self._tied, {**values, "nth": nth, "limit": rest})
        return rows[:limit]
