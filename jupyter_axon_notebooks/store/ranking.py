"""The index behind "which checkpoint is best": one row for each finite metric of each checkpoint.

Its rows lie in the order of the question — notebook, name, value, then age — so the best is the first row of a
range and no query ever sorts. It is derived from the documents, as promoted columns are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from ..metrics import rankable, rankable_metrics, resolve
from .codec import column_text, plain_text

#: Names longer than this are not indexed (an index row has a size limit); ranking by one reads the documents.
INDEXED_NAME_LENGTH = 200


_Document = TypeVar("_Document", bound=Mapping[str, Any])


def best_of(documents: Iterable[_Document], name: str, *, minimize: bool) -> list[_Document]:
    """Those of ``documents`` that have a finite number under ``name``, best first: what the index is a shortcut for."""
    ranked = [
        (value, d) for d in documents if (value := rankable(resolve(d.get("metrics"), name))) is not None
    ]
    ranked.sort(key=lambda r: (r[0] if minimize else -r[0], r[1]["created_at"], r[1]["id"]))
    return [document for _, document in ranked]


class MetricIndex:
    """The SQL table ``axonml_metrics`` and the questions it answers about ``documents``, the table it is the index of."""

    def __init__(self, metadata: sa.MetaData, text: sa.types.TypeEngine[str], documents: sa.Table) -> None:
        columns = {
            "notebook_id": text,
            "name": text,
            "value": sa.Double(),
            "created_at": text,
            "checkpoint_id": text,
        }
        self.sql = sa.Table(
            "axonml_metrics",
            metadata,
            *(sa.Column(name, kind, primary_key=True) for name, kind in columns.items()),
            sqlite_with_rowid=False,
        )
        c = self.sql.c
        # Built once, as a collection's are.
        self.insert_row = sa.insert(self.sql)
        self.delete_row = sa.delete(self.sql).where(
            *(column == sa.bindparam(f"row_{column.name}") for column in c)
        )
        here = sa.and_(c.notebook_id == sa.bindparam("of"), c.name == sa.bindparam("named"))
        limit = sa.bindparam("most", type_=sa.Integer)
        oldest_first = c.created_at, c.checkpoint_id
        self._lowest = sa.select(c.checkpoint_id).where(here).order_by(c.value, *oldest_first).limit(limit)
        self._highest = sa.select(sa.func.max(c.value)).where(here)
        self._next_highest = self._highest.where(c.value < sa.bindparam("below"))
        self._tied = (
            sa.select(c.checkpoint_id)
            .where(here, c.value == sa.bindparam("value"))
            .order_by(*oldest_first)
            .limit(limit)
        )
        stored = sa.select(c.checkpoint_id, documents.c.document).outerjoin_from(
            self.sql, documents, documents.c.id == c.checkpoint_id
        )
        highest = sa.select(sa.func.max(c.value)).where(here).correlate(None).scalar_subquery()
        self._lowest_stored = stored.where(here).order_by(c.value, *oldest_first).limit(1)
        self._highest_stored = stored.where(here, c.value == highest).order_by(*oldest_first).limit(1)

    def rows(self, checkpoint_id: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The index rows of one checkpoint document."""
        metrics = rankable_metrics(document.get("metrics"))
        notebook_id, created_at = document.get("notebook_id"), document.get("created_at")
        if not isinstance(notebook_id, str) or not isinstance(created_at, str):
            return []
        return [
            {
                "notebook_id": column_text(notebook_id),
                "name": column_text(name),
                "value": value,
                "created_at": column_text(created_at),
                "checkpoint_id": column_text(checkpoint_id),
            }
            for name, value in metrics.items()
            if len(name) <= INDEXED_NAME_LENGTH
        ]

    def stored_best(
        self, connection: sa.Connection, notebook_id: str, name: str, *, minimize: bool
    ) -> dict[str, str | None]:
        """The best checkpoint's stored form by its id, asked in one statement; empty where no checkpoint is ranked.

        None for the form of a checkpoint that is ranked but not there.
        """
        given = {"of": column_text(notebook_id), "named": column_text(name)}
        statement = self._lowest_stored if minimize else self._highest_stored
        return {plain_text(row[0]): row[1] for row in connection.execute(statement, given)}

    def best(
        self, connection: sa.Connection, notebook_id: str, name: str, *, minimize: bool, limit: int
    ) -> list[str]:
        """The ids of the best checkpoints, best first; ties earliest first.

        Ascending, the index order is the answer. Descending it is not, since equal values go oldest first all
        the same: there each distinct value is one look-up and its checkpoints another.
        """
        given: dict[str, Any] = {"of": column_text(notebook_id), "named": column_text(name), "most": limit}
        if minimize:
            return [plain_text(found) for found in connection.scalars(self._lowest, given)]
        found: list[str] = []
        value = connection.scalar(self._highest, given)
        while value is not None:
            tied = connection.scalars(self._tied, {**given, "value": value, "most": limit - len(found)})
            found.extend(plain_text(checkpoint_id) for checkpoint_id in tied)
            if len(found) >= limit:
                break
            value = connection.scalar(self._next_highest, {**given, "below": value})
        return found
