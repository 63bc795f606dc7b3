"""Tables of documents: TinyDB's documents and conditions, on rows of a SQL database.

SQL selects the rows that may match a condition, and the condition itself decides about each. So SQL
changes the speed of a query, never its meaning.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import sqlalchemy as sa
from tinydb import Query
from tinydb.queries import QueryLike
from tinydb.table import Document

from ..errors import RecordDamaged
from ..records import new_id
from .codec import column_text, decode, plain_text
from .database import Database
from .query_pushdown import narrow
from .schema import CollectionTable

__all__ = ["Document", "DocumentTable", "decode_document", "document"]

#: The largest number of ids in one statement; SQLite allows 32,766.
_BATCH = 500
#: Rows per page of an iteration. The first pages are small, since it may stop early.
_PAGES = (32, 256, 2048)


def document(doc_id: str, fields: Mapping[str, Any]) -> Document:
    """Return a TinyDB document with a text id."""
    return Document(fields, doc_id)  # type: ignore[arg-type]  # annotated as int in TinyDB


def decode_document(row: tuple[str, str]) -> Document:
    """Return the document of an id and JSON; raises RecordDamaged if it is not an object."""
    doc_id, text = row
    fields = decode(text, doc_id)
    if not isinstance(fields, dict):
        raise RecordDamaged(f"the stored document {doc_id} is damaged: it has no fields")
    return document(doc_id, fields)


class DocumentTable:
    """The documents of one kind, each with a text id.

    Promoted fields (see :mod:`.schema`) have columns of their own. Changes outside of a transaction
    are transactions of their own, retried when the database aborts them.
    """

    def __init__(self, database: Database, table: CollectionTable) -> None:
        self._database = database
        self._table = table
        self._c = table.sql.c

    # Queries by a condition.

    def __len__(self) -> int:
        return self.count(Query().noop())

    def all(self) -> list[Document]:
        """Return all documents, in the order of insertion."""
        return self.search(Query().noop())

    def search(
        self, cond: QueryLike, *, sort: Sequence[str] = (), limit: int | None = None, skip: int = 0
    ) -> list[Document]:
        """Return the documents that match a condition.

        Parameters
        ----------
        cond : QueryLike
            A TinyDB condition.
        sort : sequence of str
            Promoted fields or ``id``. A leading ``-`` sorts in descending order. Ties, and without
            ``sort`` all documents, are in the order of insertion.
        limit, skip : int
            Return at most this many documents, after skipping this many.

        Raises
        ------
        ValueError
            For a field that is not promoted, and a negative limit or skip.
        """
        if skip < 0 or (limit is not None and limit < 0):
            raise ValueError(f"limit and skip must not be negative, but are {limit} and {skip}")
        narrowing = narrow(cond, self._table)
        statement = self._select_sorted(narrowing.clause, sort)
        if narrowing.exact and (skip or limit is not None):
            statement = statement.limit(limit).offset(skip)
            limit, skip = None, 0
        documents = map(decode_document, self._fetch_texts(statement))
        matching = [document for document in documents if cond(document)]
        return matching[skip : None if limit is None else skip + limit]

    def list_json(self, cond: QueryLike, sort: Sequence[str]) -> list[tuple[str, str]]:
        """Return ids and JSON of documents that may match ``cond``, sorted like :meth:`search`."""
        return self._fetch_texts(self._select_sorted(narrow(cond, self._table).clause, sort))

    def count(self, cond: QueryLike) -> int:
        """Return how many documents match; SQL counts them if it can evaluate the condition."""
        clause, exact = narrow(cond, self._table)
        if not exact:
            return len(self.search(cond))
        statement = _filter(sa.select(sa.func.count(self._c.seq)), clause)
        return int(self._database.read(lambda connection: connection.scalar(statement)) or 0)

    def ids(self, cond: QueryLike) -> set[str]:
        """Return the ids of the documents that match ``cond``, without reading them if possible."""
        clause, exact = narrow(cond, self._table)
        if not exact:
            return {str(document.doc_id) for document in self.search(cond)}
        rows = self._fetch(_filter(sa.select(self._c.id), clause))
        return {plain_text(doc_id) for (doc_id,) in rows}

    def iterate(self, cond: QueryLike) -> Iterator[Document]:
        """Iterate over the documents that match ``cond``, with one page at a time in memory.

        Iteration includes documents that are inserted meanwhile.
        """
        documents = map(decode_document, self.iterate_json(cond))
        return (document for document in documents if cond(document))

    def iterate_json(self, cond: QueryLike | None = None) -> Iterator[tuple[str, str]]:
        """Iterate over ids and JSON of documents that may match ``cond``, by pages."""
        seq, clause = self._c.seq, None if cond is None else narrow(cond, self._table).clause
        # PostgreSQL's index on `seq` sorts NULL last. With it, the server might scan the whole
        # table until a page is full, instead of using the index of the condition.
        order = seq if clause is None else seq.asc().nulls_first()
        page = _filter(sa.select(seq, self._c.id, self._c.document), clause).order_by(order)
        after = -1
        for size in chain(_PAGES, repeat(_PAGES[-1])):
            rows = self._fetch(page.where(seq > after).limit(size))
            for _, doc_id, text in rows:
                yield plain_text(doc_id), text
            if len(rows) < size:
                return
            after = rows[-1].seq

    # Queries by ids and fields. Their statements are built only once.

    def get(
        self,
        cond: QueryLike | None = None,
        *,
        doc_id: str | None = None,
        doc_ids: Iterable[str] | None = None,
    ) -> Any:
        """Return a document or None; with ``doc_ids`` a list, in the order of insertion."""
        if doc_ids is not None:
            return list(map(decode_document, self.get_json(doc_ids)))
        if cond is None:
            return self._fetch_one(self._table.select_one, str(doc_id))
        found = self.search(cond)
        return found[0] if found else None

    def get_json(self, doc_ids: Iterable[str]) -> list[tuple[str, str]]:
        """Return ids and JSON of those of ``doc_ids`` that exist, in the order of insertion."""
        return self._fetch_some(self._table.select_some, doc_ids)

    def get_many_for_update(self, doc_ids: Iterable[str]) -> list[Document]:
        """Return those of ``doc_ids`` that exist, locked until the open transaction ends."""
        return list(map(decode_document, self._fetch_some(self._table.select_locked, doc_ids)))

    def get_for_update(self, doc_id: str) -> Document | None:
        """Return one document, locked until the open transaction ends; None if there is none."""
        return self._fetch_one(self._table.select_one_locked, doc_id)

    def existing_ids(self, doc_ids: Iterable[str]) -> set[str]:
        """Return those of ``doc_ids`` that exist, without reading the documents."""
        rows = self._fetch_batches(self._table.select_ids, doc_ids)
        return {plain_text(doc_id) for (doc_id,) in rows}

    def contains(self, *, doc_id: str) -> bool:
        """Return whether a document exists."""
        return bool(self.existing_ids([doc_id]))

    def ids_with_prefix(self, prefix: str) -> list[str]:
        """Return the sorted ids that begin with ``prefix``."""
        c, first = self._c, column_text(prefix)
        within = sa.and_(c.id >= first, c.id < first + chr(sys.maxunicode))
        rows = self._fetch(sa.select(c.id).where(within).order_by(c.id))
        return [plain_text(doc_id) for (doc_id,) in rows]

    def find_one(self, **fields: str | int) -> Document | None:
        """Return a document whose promoted fields have these values; None if there is none.

        This avoids the translation of a condition, which takes longer than the query.
        """
        statement = _select_by_fields(self._table.sql, tuple(fields))
        found = self._fetch_texts(statement, {name: _value(fields[name]) for name in fields})
        return decode_document(found[0]) if found else None

    def max_value(self, name: str, *, of: str, value: str) -> Any:
        """Return the maximum of a promoted field where field ``of`` is ``value``, or None."""
        statement, values = _select_max(self._table.sql, name, of), {"value": column_text(value)}
        return self._database.read(lambda connection: connection.scalar(statement, values))

    # Changes.

    def insert(self, *documents: Mapping[str, Any]) -> None:
        """Insert documents; those without an id get a new one.

        Raises Conflict if an id, or another unique field, exists already.
        """
        identified = [
            one if isinstance(one, Document) else document(new_id(), one) for one in documents
        ]
        rows = [self._table.make_row(str(one.doc_id), one) for one in identified]

        def insert(connection: sa.Connection) -> None:
            self._execute(connection, self._table.insert_row, rows)
            self._index(connection, [], rows)

        self._database.write(insert)

    def replace(self, document: Document) -> None:
        """Overwrite a document, which :meth:`get_for_update` returned."""
        row = self._table.make_row(str(document.doc_id), document)
        changed = {("row_id" if name == "id" else name): value for name, value in row.items()}

        def replace(connection: sa.Connection) -> None:
            before = self._indexed([str(document.doc_id)])
            self._execute(connection, self._table.update_row, [changed])
            self._index(connection, before, [row])

        self._database.write(replace)

    def update(
        self, change: Mapping[str, Any] | Callable[[Document], Any], doc_ids: Iterable[str]
    ) -> None:
        """Set the fields of documents, or call a function that changes each of them."""
        ids = list(doc_ids)

        def update(_: sa.Connection) -> None:
            for found in self.get_many_for_update(ids):
                if callable(change):
                    change(found)
                else:
                    found.update(change)
                self.replace(found)

        self._database.write(update)

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Remove those of ``doc_ids`` that exist."""
        ids = sorted(doc_ids)

        def remove(connection: sa.Connection) -> None:
            self._index(connection, self._indexed(ids), [])
            rows = [{"row_id": column_text(doc_id)} for doc_id in ids]
            self._execute(connection, self._table.delete_row, rows)

        self._database.write(remove)

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the documents of one notebook without reading them."""
        values = {"notebook": column_text(notebook_id)}

        def remove(connection: sa.Connection) -> None:
            for table in self._table.notebook_tables:
                in_notebook = table.c.notebook_id == sa.bindparam("notebook")
                self._execute(connection, sa.delete(table).where(in_notebook), [values])

        self._database.write(remove)

    def _indexed(self, doc_ids: list[str]) -> list[Document]:
        """Return documents as they are indexed; none if the table has no index."""
        return [] if self._table.index is None else self.get_many_for_update(doc_ids)

    def _index(
        self, connection: sa.Connection, before: list[Document], rows: list[dict[str, Any]]
    ) -> None:
        """Update the index, if there is one."""
        if (index := self._table.index) is not None:
            # As the documents are read later: JSON changes keys into strings.
            after = [decode_document((plain_text(row["id"]), row["document"])) for row in rows]
            # Only what differs: on PostgreSQL each index row that is written locks its notebook.
            old: set[Any] = set(index.make_rows(before))
            new: set[Any] = set(index.make_rows(after))
            self._execute(connection, index.delete_row, [row._asdict() for row in old - new])
            self._execute(connection, index.insert_row, [row._asdict() for row in new - old])

    def _execute(
        self, connection: sa.Connection, statement: sa.Executable, rows: list[dict[str, Any]]
    ) -> None:
        if rows:
            self._database.mark_written()
            connection.execute(statement, rows)

    # Statements.

    def _select_sorted(
        self, clause: sa.ColumnElement[bool] | None, sort: Sequence[str]
    ) -> sa.Select[Any]:
        # Ids are unique, so that no further column is needed after the id.
        names = sort if {"id", "-id"} & set(sort) else (*sort, "seq")
        statement = _filter(sa.select(self._c.id, self._c.document), clause)
        return statement.order_by(*map(self._ordering, names))

    def _ordering(self, name: str) -> sa.UnaryExpression[Any]:
        plain = name.removeprefix("-")
        if plain not in self._c or plain == "document":
            raise ValueError(
                f"cannot sort {self._table.collection.name} by {plain!r}: not a promoted field"
            )
        # NULL is the smallest value, as it is in SQLite by default.
        column = self._c[plain]
        return column.asc().nulls_first() if name == plain else column.desc().nulls_last()

    def _fetch(
        self, statement: sa.Executable, values: Mapping[str, Any] | None = None
    ) -> Sequence[Any]:
        return self._database.read(lambda connection: connection.execute(statement, values).all())

    def _fetch_texts(
        self, statement: sa.Executable, values: Mapping[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        return [(plain_text(doc_id), text) for doc_id, text in self._fetch(statement, values)]

    def _fetch_one(self, statement: sa.Executable, doc_id: str) -> Document | None:
        found = self._fetch_texts(statement, {"row_id": column_text(doc_id)})
        return decode_document(found[0]) if found else None

    def _fetch_some(
        self, statement: sa.Executable, doc_ids: Iterable[str]
    ) -> list[tuple[str, str]]:
        rows = sorted(self._fetch_batches(statement, doc_ids))
        return [(plain_text(doc_id), text) for _, doc_id, text in rows]

    def _fetch_batches(self, statement: sa.Executable, doc_ids: Iterable[str]) -> list[Any]:
        ids = sorted({column_text(str(doc_id)) for doc_id in doc_ids})
        batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]

        def read(connection: sa.Connection) -> list[Any]:
            rows: list[Any] = []
            for batch in batches:
                rows += connection.execute(statement, {"row_ids": batch})
            return rows

        return self._database.read(read)


@functools.lru_cache
def _select_by_fields(table: sa.Table, names: tuple[str, ...]) -> sa.Select[Any]:
    conditions = (table.c[name] == sa.bindparam(name) for name in names)
    return sa.select(table.c.id, table.c.document).where(*conditions).limit(1)


@functools.lru_cache
def _select_max(table: sa.Table, name: str, of: str) -> sa.Select[Any]:
    return sa.select(sa.func.max(table.c[name])).where(table.c[of] == sa.bindparam("value"))


def _filter(statement: sa.Select[Any], clause: sa.ColumnElement[bool] | None) -> sa.Select[Any]:
    return statement if clause is None else statement.where(clause)


def _value(value: str | int) -> str | int:
    return column_text(value) if isinstance(value, str) else value
