"""The SQL table that ranks checkpoints by metric.

It has one row for each finite metric of each checkpoint, with the primary key (notebook, name,
value, age). So the best checkpoints are at an end of a range, and only ties have to be sorted. Rows
are derived from the documents, as promoted columns are.
"""

from __future__ import annotations

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

        oldest_first = (c.created_at, c.checkpoint_id)
        ranked = (
            sa.select(c.checkpoint_id, documents.c.document)
            .outerjoin_from(self.sql, documents, documents.c.id == c.checkpoint_id)
            .where(matches)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
        self._lowest = ranked.order_by(c.value, *oldest_first)
        self._highest = ranked.order_by(c.value.desc(), *oldest_first)
        # In descending order the index lists ties newest first. This one need not sort them.
        highest = sa.select(sa.func.max(c.value)).where(matches).correlate(None).scalar_subquery()
        self._single_highest = ranked.where(c.value == highest).order_by(*oldest_first)

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

        The JSON of a checkpoint that is indexed but missing is None.
        """
        values = {"notebook": column_text(notebook_id), "metric": column_text(name), "limit": limit}
        statement = self._single_highest if limit == 1 else self._highest
        rows = connection.execute(self._lowest if minimize else statement, values)
        return [(plain_text(checkpoint_id), text) for checkpoint_id, text in rows]
