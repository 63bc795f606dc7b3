"""TinyDB's storage and table on top of SQL rows.

TinyDB reads a table as a mapping, or passes a mapping to a function that changes it. This module
replaces these two operations. Methods with a condition run TinyDB's own code on a view of the
table, which contains only the rows that may match according to SQL.

The following names are private to TinyDB: ``Table._read_table``, ``Table._update_table``,
``Table._get_next_id`` and ``QueryInstance._hash`` (in :mod:`.query_pushdown`). The dependency is
therefore limited to one major version, and ``tests/store/test_table_contract.py`` runs the whole
API of tables on TinyDB's storage and on this one.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any, TypeVar

from sqlalchemy import ColumnElement
from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table
from tinydb.utils import LRUCache

from ..errors import RecordDamaged
from ..records import new_id
from .codec import column_text, decode, plain_text
from .database import Database
from .query_pushdown import narrow, narrow_any
from .rows import PendingChanges, Rows
from .schema import Schema

__all__ = ["Document", "DocumentDB", "DocumentTable", "SqlStorage", "decode_document", "document"]

_T = TypeVar("_T")


def _change(
    rows: Rows, update: Callable[[PendingChanges], None], prefetch: Collection[str] = ()
) -> None:
    with rows.database.transaction() as connection:
        changes = PendingChanges(rows)
        changes.prefetch(prefetch)
        update(changes)
        changes.flush(connection)


class SqlStorage(Storage):
    """A TinyDB storage whose tables are the collections of a schema.

    Plain TinyDB tables work on it as well, but each change rewrites the whole table.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self.database = database
        self.schema = schema

    def rows(self, name: str) -> Rows:
        """Return the rows of the collection ``name``; raises KeyError if there is none."""
        if name not in self.schema.tables:
            known = ", ".join(self.schema.tables)
            raise KeyError(f"the store has no table {name!r}; it has {known}")
        return Rows(self.database, self.schema.tables[name])

    def read(self) -> Any:
        """Return the non-empty tables as a mapping, in which changes take effect at once."""
        return _TableMapping(self)

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the whole content with ``data``, unless it is the result of :meth:`read`."""
        if isinstance(data, _TableMapping):
            return
        with self.database.transaction():
            tables = _TableMapping(self)
            for name in set(self.schema.tables) - set(data):
                del tables[name]
            for name, documents in data.items():
                tables[name] = documents

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


class _TableMapping(MutableMapping[str, Any]):
    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage

    def __getitem__(self, name: str) -> Rows:
        return self._storage.rows(name)

    def __setitem__(self, name: str, documents: Mapping[str, Any]) -> None:
        replacement = {doc_id: dict(document) for doc_id, document in documents.items()}

        def replace(table: PendingChanges) -> None:
            table.clear()
            table.update(replacement)

        _change(self._storage.rows(name), replace)

    def __delitem__(self, name: str) -> None:
        _change(self._storage.rows(name), PendingChanges.clear)

    def __iter__(self) -> Iterator[str]:
        tables = self._storage.schema.tables
        return (name for name in tables if any(True for _ in self._storage.rows(name)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _NoCache(LRUCache[Any, Any]):
    """A query cache that stores nothing."""

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ARG002 - TinyDB's signature
        return default

    def set(self, key: Any, value: Any) -> None:
        pass


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


class DocumentTable(Table):
    """A TinyDB table with text ids, on a :class:`SqlStorage`.

    It supports all operations of TinyDB's tables, with the same results. In addition,
    :meth:`search` sorts, limits and skips, and :meth:`get_for_update` locks. Changes outside of a
    transaction are transactions of their own, retried when the database aborts them.
    """

    document_id_class = str  # type: ignore[assignment]  # TinyDB's documented way of setting it
    query_cache_class = _NoCache  # another process may write between two searches

    def __init__(self, storage: SqlStorage, name: str, **options: Any) -> None:
        self._rows = storage.rows(name)
        self._prefetch: tuple[str, ...] = ()
        super().__init__(storage, name, **options)

    # The private methods that TinyDB's public methods call.

    def _read_table(self) -> Any:
        return self._rows

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        _change(self._rows, updater, self._prefetch)

    def _get_next_id(self) -> Any:
        return new_id()

    # Views.

    def _view(self, clause: ColumnElement[bool] | None) -> DocumentTable:
        view = copy.copy(self)
        view._rows = Rows(self._rows.database, self._rows.table, clause)
        return view

    def _narrow(self, *conditions: QueryLike) -> DocumentTable:
        """Return a view of the documents that any of ``conditions`` may match."""
        clause = narrow_any(conditions, self._rows.table).clause
        return self if clause is None else self._view(clause)

    def _prefetch_ids(self, doc_ids: Iterable[str]) -> DocumentTable:
        """Return a view that reads ``doc_ids`` together before TinyDB reads each of them."""
        view = copy.copy(self)
        view._prefetch = tuple(doc_ids)
        return view

    def _retry(self, work: Callable[[], _T]) -> _T:
        return self._rows.database.retry(work)

    # TinyDB's methods. They read only documents that may match.

    def search(
        self, cond: QueryLike, *, sort: Sequence[str] = (), limit: int | None = None, skip: int = 0
    ) -> list[Document]:
        """Return the documents that match a condition.

        Parameters
        ----------
        cond : QueryLike
            A TinyDB condition.
        sort : sequence of str
            Promoted fields (fields with a column of their own) or ``id``. A leading ``-`` sorts in
            descending order. By default, documents are in the order of insertion.
        limit, skip : int
            Return at most this many documents, after skipping this many.

        Raises
        ------
        ValueError
            For a field that is not promoted, and a negative limit or skip.
        """
        if skip < 0 or (limit is not None and limit < 0):
            raise ValueError(f"limit and skip must not be negative, but are {limit} and {skip}")
        if not sort and limit is None and not skip:
            return Table.search(self._narrow(cond), cond)
        narrowing = narrow(cond, self._rows.table)
        candidates = self._view(narrowing.clause)._rows
        # Ids are unique, so that no further column is needed after the id.
        order = sort if {"id", "-id"} & set(sort) else (*sort, "seq")
        if narrowing.exact:
            rows = candidates.list_sorted(order, limit=limit, skip=skip)
            return [document for document in map(decode_document, rows) if cond(document)]
        rows = candidates.list_sorted(order, limit=None, skip=0)
        matching = [document for document in map(decode_document, rows) if cond(document)]
        return matching[skip : None if limit is None else skip + limit]

    def get(self, cond: QueryLike | None = None, doc_id: Any = None, doc_ids: Any = None) -> Any:
        """Return one document, or with ``doc_ids`` a list."""
        if doc_id is None and doc_ids is not None:
            return [decode_document(row) for row in self._rows.get_many(doc_ids)]
        if doc_id is None and cond is not None:
            return Table.get(self._narrow(cond), cond)
        return Table.get(self, cond, doc_id)

    def contains(self, cond: QueryLike | None = None, doc_id: Any = None) -> bool:
        """Return whether there is a document; TinyDB's annotations allow only numbers as ids."""
        return super().contains(cond, doc_id)

    def count(self, cond: QueryLike) -> int:
        """Return how many documents match; SQL counts them if it can evaluate the condition."""
        narrowing = narrow(cond, self._rows.table)
        return len(self._view(narrowing.clause)) if narrowing.exact else super().count(cond)

    def insert(self, document: Mapping[str, Any]) -> Any:
        """Insert a document; return its id."""
        identified = self._add_id(document)
        return self._retry(lambda: Table.insert(self, identified))

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Insert documents; return their ids."""
        identified = [self._add_id(document) for document in documents]
        ids = [str(d.doc_id) for d in identified if isinstance(d, self.document_class)]
        return self._retry(lambda: Table.insert_multiple(self._prefetch_ids(ids), identified))

    def _add_id(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(document, self.document_class) or not isinstance(document, Mapping):
            return document  # TinyDB rejects other types
        return self.document_class(document, self._get_next_id())

    def update(
        self,
        fields: Mapping[Any, Any] | Callable[[Any], None],
        cond: QueryLike | None = None,
        doc_ids: Iterable[Any] | None = None,
    ) -> list[Any]:
        """Update documents; return their ids."""
        if doc_ids is not None:
            ids: list[Any] = [str(doc_id) for doc_id in doc_ids]
            return self._retry(lambda: Table.update(self._prefetch_ids(ids), fields, None, ids))
        table = self._narrow(cond) if cond is not None else self
        return self._retry(lambda: Table.update(table, fields, cond))

    def update_multiple(self, updates: Iterable[tuple[Any, QueryLike]]) -> list[Any]:
        """Update documents in one transaction; return their ids."""
        pairs = list(updates)
        table = self._narrow(*(cond for _, cond in pairs))
        return self._retry(lambda: Table.update_multiple(table, pairs))

    def upsert(self, document: Mapping[str, Any], cond: QueryLike | None = None) -> list[Any]:
        """Update or insert a document in one transaction that excludes other inserts."""

        def once() -> list[Any]:
            with self._rows.database.transaction():
                self._rows.database.lock_table(self._rows.table.sql)
                return Table.upsert(self, document, cond)

        return self._retry(once)

    def remove(
        self, cond: QueryLike | None = None, doc_ids: Iterable[Any] | None = None
    ) -> list[Any]:
        """Remove documents; return their ids."""
        if doc_ids is not None:
            ids: list[Any] = [str(doc_id) for doc_id in doc_ids]
            return self._retry(lambda: Table.remove(self._prefetch_ids(ids), None, ids))
        if cond is not None and self._rows.table.metric_index is None:
            narrowing = narrow(cond, self._rows.table)
            if narrowing.exact:
                return self._retry(self._view(narrowing.clause)._rows.delete_all)
        table = self._narrow(cond) if cond is not None else self
        return self._retry(lambda: Table.remove(table, cond))

    def truncate(self) -> None:
        """Remove all documents."""
        self._retry(super().truncate)

    # Methods that TinyDB does not have.

    def iterate(self, cond: QueryLike) -> Iterator[Document]:
        """Iterate over the documents that match ``cond``, with one page at a time in memory.

        Iteration includes documents that are inserted meanwhile.
        """
        documents = map(decode_document, self._narrow(cond)._rows.iterate_json())
        return (document for document in documents if cond(document))

    def get_for_update(self, doc_id: str) -> Document | None:
        """Return one document, locked until the open transaction ends; None if there is none."""
        text = self._rows.get_json(doc_id, lock=True)
        return None if text is None else decode_document((doc_id, text))

    def get_many_for_update(self, doc_ids: Iterable[str]) -> list[Document]:
        """Return those of ``doc_ids`` that exist, locked until the open transaction ends."""
        return [decode_document(row) for row in self._rows.get_many(doc_ids, lock=True)]

    def find_one(self, **fields: str | int) -> Document | None:
        """Return a document whose promoted fields have these values; None if there is none.

        This avoids the translation of a condition, which takes longer than the query.
        """
        rows = self._rows.find_by_fields(fields, "id", "document", limit=1)
        return decode_document((plain_text(rows[0][0]), rows[0][1])) if rows else None

    def exists(self, **fields: str | int) -> bool:
        """Return whether a document's promoted fields have these values, without reading it."""
        return bool(self._rows.find_by_fields(fields, "id", limit=1))

    def ids(self, cond: QueryLike) -> set[str]:
        """Return the ids of the documents that match ``cond``, without reading them if possible."""
        narrowing = narrow(cond, self._rows.table)
        if narrowing.exact:
            return set(self._view(narrowing.clause)._rows)
        return {str(document.doc_id) for document in self.search(cond)}

    def ids_with_prefix(self, prefix: str) -> list[str]:
        """Return the sorted ids that begin with ``prefix``."""
        column, last = self._rows.table.sql.c.id, ord(prefix[-1:] or "\0")
        clause = column >= column_text(prefix)
        if prefix and last < sys.maxunicode:
            clause &= column < column_text(prefix[:-1] + chr(last + 1))
        rows = self._view(clause)._rows.list_sorted(["id"], limit=None, skip=0)
        return [doc_id for doc_id, _ in rows if doc_id.startswith(prefix)]

    def existing_ids(self, doc_ids: Iterable[str]) -> set[str]:
        """Return those of ``doc_ids`` that exist, without reading the documents."""
        return self._rows.existing_ids(doc_ids)

    def iterate_json(
        self, cond: QueryLike | None = None, *, doc_ids: Iterable[str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Iterate over ids and JSON of documents that may match ``cond``, or of ``doc_ids``."""
        if doc_ids is not None:
            return iter(self._rows.get_many(doc_ids))
        view = self if cond is None else self._narrow(cond)
        return view._rows.iterate_json()

    def list_json(self, cond: QueryLike, sort: Sequence[str]) -> list[tuple[str, str]]:
        """Return ids and JSON of documents that may match ``cond``, sorted like :meth:`search`."""
        return self._narrow(cond)._rows.list_sorted(sort, limit=None, skip=0)

    def max_value(self, name: str, *, of: str, value: str) -> Any:
        """Return the maximum of a promoted field where field ``of`` is ``value``, or None."""
        return self._rows.max_value(name, of, value)

    def insert_new(self, *documents: Document) -> None:
        """Insert documents with new ids, without checking first whether they exist.

        Raises Conflict if an id, or another unique field, exists already.
        """

        def add(changes: PendingChanges) -> None:
            for document in documents:
                changes.assume_absent(str(document.doc_id))
                changes[str(document.doc_id)] = dict(document)

        self._retry(lambda: _change(self._rows, add))

    def replace(self, document: Document) -> None:
        """Overwrite a document that :meth:`get_for_update` returned, without reading it again."""
        self._retry(lambda: self._rows.replace(str(document.doc_id), dict(document)))

    def remove_ids(self, doc_ids: Iterable[str]) -> None:
        """Remove those of ``doc_ids`` that exist, without reading them."""
        ids = list(doc_ids)
        self._retry(lambda: self._rows.delete_some(ids))

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the documents of one notebook without reading them."""
        self._retry(lambda: self._rows.delete_notebook(notebook_id))


class DocumentDB(TinyDB):
    """TinyDB with the tables of a :class:`SqlStorage`."""

    table_class = DocumentTable  # type: ignore[assignment]  # ids are text
