"""The index behind "which checkpoint is best": one row for each finite metric of each checkpoint.

Its rows lie in the order of the question — notebook, name, value, then age — so the best is the first row of a
range and no query ever sorts. It is derived from the documents, as promoted columns are.
"""

from __future__ import annotations

import math
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
        (value, d)
        for d in documents
        if (value := rankable(resolve(d.get("metrics"), name))) is not None
    ]
    ranked.sort(key=lambda r: (r[0] if minimize else -r[0], r[1]["created_at"], r[1]["id"]))
    return [document for _, document in ranked]


class MetricIndex:
    """The SQL table ``axonml_metrics`` and the questions it answers about ``documents``, the table it is the index of."""

    def __init__(
        self, metadata: sa.MetaData, text: sa.types.TypeEngine[str], documents: sa.Table
    ) -> None:
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
        skip = sa.bindparam("skip", type_=sa.Integer)
        oldest_first = c.created_at, c.checkpoint_id
        stored = sa.select(
            c.checkpoint_id, documents.c.document, c.value, c.created_at
        ).outerjoin_from(self.sql, documents, documents.c.id == c.checkpoint_id)
        highest = sa.select(sa.func.max(c.value)).where(here).correlate(None).scalar_subquery()
        self._names = sa.select(c.name).where(c.notebook_id == sa.bindparam("of")).distinct()
        self._lowest = stored.where(here).order_by(c.value, *oldest_first).limit(limit)
        self._highest = stored.where(here, c.value == highest).order_by(*oldest_first).limit(1)
        self._nth_highest = (
            sa.select(c.value).where(here).order_by(c.value.desc()).limit(1).offset(skip)
        )
        self._higher = stored.where(here, c.value > sa.bindparam("nth"))
        self._tied = (
            stored.where(here, c.value == sa.bindparam("nth")).order_by(*oldest_first).limit(limit)
        )

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

    def names(self, connection: sa.Connection, notebook_id: str) -> set[str]:
        """Return the names of all metrics of a notebook's checkpoints that are ranked."""
        found = connection.scalars(self._names, {"of": column_text(notebook_id)})
        return {plain_text(name) for name in found}

    def best(
        self, connection: sa.Connection, notebook_id: str, name: str, *, minimize: bool, limit: int
    ) -> list[tuple[str, str | None]]:
        """Return the ids and stored forms of the best checkpoints, best first, ties oldest first.

        The stored form of a checkpoint that is ranked but missing is None. Takes one statement where ``minimize`` or a
        ``limit`` of 1 is given, else three, which have to read the same moment; none of them sorts.
        """
        given: dict[str, Any] = {
            "of": column_text(notebook_id),
            "named": column_text(name),
            "most": limit,
        }
        if minimize or limit == 1:
            found = list(connection.execute(self._lowest if minimize else self._highest, given))
        else:
            found = self._best_highest(connection, given, limit)
        return [(plain_text(row.checkpoint_id), row.document) for row in found]

    def _best_highest(
        self, connection: sa.Connection, given: dict[str, Any], limit: int
    ) -> list[Any]:
        # The index cannot be read backwards: equal values would come newest first. So the value of the last one is looked
        # up; what is higher is fewer than ``limit``, and of those that share it the oldest fill up the rest.
        # In a transaction, each statement may see more than the one before: others commit meanwhile.
        nth = connection.scalar(self._nth_highest, {**given, "skip": limit - 1})
        higher = connection.execute(
            self._higher, {**given, "nth": -math.inf if nth is None else nth}
        ).all()
        found: list[Any] = sorted(
            higher, key=lambda row: (-row.value, row.created_at, row.checkpoint_id)
        )
        if nth is not None:
            left = max(0, limit - len(found))
            found += connection.execute(self._tied, {**given, "nth": nth, "most": left})
        return found[:limit]
