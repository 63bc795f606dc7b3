"""TinyDB's storage and table, on SQL rows.

TinyDB does all it does by reading a table as a mapping (``_read_table``) or by letting a function change one
(``_update_table``). Those two are what is replaced here. The methods that take a condition run TinyDB's own code
too, on a view of the table that SQL has already narrowed to candidates.

Both hooks and the description inside a query are private to TinyDB: that is why the dependency is pinned below
the next major version, and why one test suite runs the whole table API on TinyDB's storage and on this one.
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
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table
from tinydb.utils import LRUCache

from ..errors import RecordDamaged
from ..records import new_id
from .codec import column_text, decode, plain_text
from .database import Database
from .query_pushdown import narrow, narrow_any
from .rows import Changes, Rows
from .schema import Schema

_T = TypeVar("_T")


def change(rows: Rows, updater: Callable[[Changes], None], expected: Collection[str] = ()) -> None:
    """Let ``updater`` change ``rows`` as a mapping, in one transaction; ``expected`` ids are read ahead."""
    with rows.database.transaction() as connection:
        changes = Changes(rows)
        changes.expect(expected)
        updater(changes)
        changes.flush(connection)


class SqlStorage(Storage):
    """A TinyDB storage whose tables are the collections of a schema.

    Plain TinyDB tables work on it as well, though as slowly as on a file: they rewrite a table whole.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self.database = database
        self.schema = schema

    def rows(self, name: str) -> Rows:
        """The rows of one collection.

        Raises
        ------
        KeyError
            For a name that is not a collection's, naming those there are.
        """
        if name not in self.schema.tables:
            known = ", ".join(self.schema.tables)
            raise KeyError(f"the store has no table {name!r}; it has {known}")
        return Rows(self.database, self.schema.tables[name])

    def read(self) -> Any:
        """The tables that hold documents, as a mapping; what is set or deleted in it takes effect at once."""
        return _Tables(self)

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Make ``data`` the whole content. For what :meth:`read` gave there is nothing left to do."""
        if isinstance(data, _Tables):
            return
        with self.database.transaction():
            tables = _Tables(self)
            for name in set(self.schema.tables) - set(data):
                del tables[name]
            for name, documents in data.items():
                tables[name] = documents

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


class _Tables(MutableMapping[str, Any]):
    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage

    def __getitem__(self, name: str) -> Rows:
        return self._storage.rows(name)

    def __setitem__(self, name: str, documents: Mapping[str, Any]) -> None:
        replacement = {doc_id: dict(document) for doc_id, document in documents.items()}

        def replace(table: Changes) -> None:
            table.clear()
            table.update(replacement)

        change(self._storage.rows(name), replace)

    def __delitem__(self, name: str) -> None:
        change(self._storage.rows(name), Changes.clear)

    def __iter__(self) -> Iterator[str]:
        return (
            name
            for name in self._storage.schema.tables
            if any(True for _ in self._storage.rows(name))
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _NoCache(LRUCache[Any, Any]):
    """A query cache that keeps nothing."""

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ARG002 - the name is TinyDB's
        return default

    def set(self, key: Any, value: Any) -> None:
        pass


def document(doc_id: str, fields: Mapping[str, Any]) -> Document:
    """A TinyDB document with a text id."""
    return Document(fields, doc_id)  # type: ignore[arg-type]  # annotated as int, whatever a table's ids are


def stored_document(pair: tuple[str, str]) -> Document:
    """The document of an id and a stored form, as queries give them; raises RecordDamaged where it is none."""
    doc_id, text = pair
    fields = decode(text, doc_id)
    if not isinstance(fields, dict):
        raise RecordDamaged(f"the stored document {doc_id} is damaged: it has no fields")
    return document(doc_id, fields)


class DocumentTable(Table):
    """A TinyDB table with text ids, on a :class:`SqlStorage`.

    Everything TinyDB's tables do, with the same results. In addition :meth:`search` sorts, limits and skips, and
    :meth:`locked` reads for update.
    """

    document_id_class = str  # type: ignore[assignment]  # TinyDB documents this variable as the place to say so
    query_cache_class = _NoCache  # another process may write between two searches

    def __init__(self, storage: SqlStorage, name: str, **options: Any) -> None:
        self._rows = storage.rows(name)
        self._expected: tuple[str, ...] = ()
        super().__init__(storage, name, **options)

    # What TinyDB builds everything on.

    def _read_table(self) -> Any:
        return self._rows

    def _attempt(self, work: Callable[[], _T]) -> _T:
        return self._rows.database.attempt(work)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        change(self._rows, updater, self._expected)

    def _get_next_id(self) -> Any:
        return new_id()

    # Views, on which TinyDB's own methods run and find little to do.

    def _view(self, clause: ColumnElement[bool] | None) -> DocumentTable:
        view = copy.copy(self)
        view._rows = Rows(self._rows.database, self._rows.table, clause)
        return view

    def _narrowed(self, *conditions: QueryLike) -> DocumentTable:
        """This table as far as any of ``conditions`` could match."""
        clause = narrow_any(conditions, self._rows.table).clause
        return self if clause is None else self._view(clause)

    def _expecting(self, doc_ids: Iterable[str]) -> DocumentTable:
        """This table, about to be asked for ``doc_ids``: they are read together, ahead."""
        view = copy.copy(self)
        view._expected = tuple(doc_ids)
        return view

    def search(
        self, cond: QueryLike, *, sort: Sequence[str] = (), limit: int | None = None, skip: int = 0
    ) -> list[Document]:
        """The documents that match ``cond``.

        Parameters
        ----------
        cond : QueryLike
            A TinyDB condition.
        sort : sequence of str
            Promoted fields (or ``id``) to order by, the first first; ``-`` before a name is descending. Without any,
            the order of insertion.
        limit, skip : int
            At most this many, after leaving out this many.

        Raises
        ------
        ValueError
            For a field that is not promoted, or a limit or skip below zero.
        """
        if skip < 0 or (limit is not None and limit < 0):
            raise ValueError(
                f"limit and skip count documents, so {limit} and {skip} cannot be meant"
            )
        if not sort and limit is None and not skip:
            return Table.search(self._narrowed(cond), cond)
        narrowing = narrow(cond, self._rows.table)
        candidates = self._view(narrowing.clause)._rows
        # Ids are unique: whoever sorts by id needs nothing after it, and an index ends there.
        order = sort if {"id", "-id"} & set(sort) else (*sort, "seq")
        if narrowing.exact:
            found = map(stored_document, candidates.page(order, limit=limit, skip=skip))
            return [document for document in found if cond(document)]
        matching = [
            d for d in map(stored_document, candidates.page(order, limit=None, skip=0)) if cond(d)
        ]
        return matching[skip : None if limit is None else skip + limit]

    def each(self, cond: QueryLike) -> Iterator[Document]:
        """The documents that match ``cond``, in the order of insertion, of which few are in memory at a time.

        Read page by page, so others may write in between.
        """
        return (
            found
            for found in map(stored_document, self._narrowed(cond)._rows.texts())
            if cond(found)
        )

    def get(self, cond: QueryLike | None = None, doc_id: Any = None, doc_ids: Any = None) -> Any:
        """As TinyDB's ``get``; ids are looked up, conditions narrowed."""
        if doc_id is None and doc_ids is not None:
            return [stored_document(found) for found in self._rows.some(doc_ids)]
        if doc_id is None and cond is not None:
            return Table.get(self._narrowed(cond), cond)
        return Table.get(self, cond, doc_id)

    def contains(self, cond: QueryLike | None = None, doc_id: Any = None) -> bool:
        """As TinyDB's ``contains``, whose annotations take an id for a number."""
        return super().contains(cond, doc_id)

    def locked(self, doc_id: str) -> Document | None:
        """One document, kept from other writers until the open transaction ends; None where there is none."""
        text = self._rows.text(doc_id, lock=True)
        return None if text is None else stored_document((doc_id, text))

    def locked_some(self, doc_ids: Iterable[str]) -> list[Document]:
        """As :meth:`locked`, those of ``doc_ids`` that are there."""
        return [stored_document(found) for found in self._rows.some(doc_ids, lock=True)]

    # What every save asks. A condition would find the same; to translate it takes longer than the look-up.

    def one_having(self, **fields: str | int) -> Document | None:
        """A document whose promoted fields have these values; None where there is none."""
        found = self._rows.having(fields, "id", "document", limit=1)
        return stored_document((plain_text(found[0][0]), found[0][1])) if found else None

    def has(self, **fields: str | int) -> bool:
        """Whether any document's promoted fields have these values; none is read."""
        return bool(self._rows.having(fields, "id", limit=1))

    def ids(self, cond: QueryLike) -> set[str]:
        """The ids of the documents that match ``cond``; no document is read where SQL can answer for the condition."""
        narrowing = narrow(cond, self._rows.table)
        if narrowing.exact:
            return set(self._view(narrowing.clause)._rows)
        return {str(document.doc_id) for document in self.search(cond)}

    def ids_beginning(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``, in their order."""
        column, last = self._rows.table.sql.c.id, ord(prefix[-1:] or "\0")
        clause = column >= column_text(prefix)
        if prefix and last < sys.maxunicode:
            clause &= column < column_text(prefix[:-1] + chr(last + 1))
        found = (doc_id for doc_id, _ in self._view(clause)._rows.page(["id"], limit=None, skip=0))
        return [doc_id for doc_id in found if doc_id.startswith(prefix)]

    def present(self, doc_ids: Iterable[str]) -> set[str]:
        """Which of ``doc_ids`` the table has, without reading the documents."""
        return self._rows.present(doc_ids)

    def texts(
        self, cond: QueryLike | None = None, *, doc_ids: Iterable[str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Ids and stored forms, read page by page: of all documents, or of those that SQL admits for ``cond``.

        With ``doc_ids``, of those that there are.
        """
        if doc_ids is not None:
            return iter(self._rows.some(doc_ids))
        view = self if cond is None else self._narrowed(cond)
        return view._rows.texts()

    def texts_sorted(self, cond: QueryLike, sort: Sequence[str]) -> list[tuple[str, str]]:
        """Ids and stored forms of the documents that SQL admits for ``cond``, in one statement; ``sort`` as in :meth:`search`."""
        return self._narrowed(cond)._rows.page(sort, limit=None, skip=0)

    def count(self, cond: QueryLike) -> int:
        """How many documents match ``cond``; asked of SQL alone where it can answer for the condition."""
        narrowing = narrow(cond, self._rows.table)
        return len(self._view(narrowing.clause)) if narrowing.exact else super().count(cond)

    def highest(self, name: str, *, of: str, value: str) -> Any:
        """The greatest value of a promoted field among the documents whose promoted text field ``of`` is ``value``.

        None where there are none. One look-up where an index begins with the two fields.
        """
        return self._rows.highest(name, of, value)

    def insert_new(self, *documents: Document) -> None:
        """Insert documents under ids that were just made: whether they are free is left to the engine.

        Raises
        ------
        Conflict
            When an id, or another field that has to be unique, is taken.
        """

        def add(changes: Changes) -> None:
            for document in documents:
                changes.assume_absent(str(document.doc_id))
                changes[str(document.doc_id)] = dict(document)

        self._attempt(lambda: change(self._rows, add))

    def replace(self, document: Document) -> None:
        """Store a document in place of the one that :meth:`locked` keeps, which is not read again."""
        self._attempt(lambda: self._rows.replace(str(document.doc_id), dict(document)))

    def discard(self, doc_ids: Iterable[str]) -> None:
        """Remove those documents of ``doc_ids`` that are there, without reading them."""
        known = list(doc_ids)
        self._attempt(lambda: self._rows.discard_some(known))

    def discard_of(self, notebook_id: str) -> None:
        """Remove the documents whose ``notebook_id`` is this one, however many, without reading them."""
        self._attempt(lambda: self._rows.discard_of(notebook_id))

    def insert(self, document: Mapping[str, Any]) -> Any:
        """As TinyDB's ``insert``."""
        known = self._with_id(document)
        return self._attempt(lambda: Table.insert(self, known))

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[Any]:
        """As TinyDB's ``insert_multiple``; whether the ids are free is asked once, not one by one."""
        known = [self._with_id(document) for document in documents]
        ids = [str(d.doc_id) for d in known if isinstance(d, self.document_class)]
        return self._attempt(lambda: Table.insert_multiple(self._expecting(ids), known))

    def _with_id(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(document, self.document_class) or not isinstance(document, Mapping):
            return document  # TinyDB refuses what is not a mapping
        return self.document_class(document, self._get_next_id())

    def update(
        self,
        fields: Mapping[Any, Any] | Callable[[Any], None],
        cond: QueryLike | None = None,
        doc_ids: Iterable[Any] | None = None,
    ) -> list[Any]:
        """As TinyDB's ``update``; reads and writes only what can be concerned."""
        if doc_ids is not None:
            ids: list[Any] = [str(doc_id) for doc_id in doc_ids]
            return self._attempt(lambda: Table.update(self._expecting(ids), fields, None, ids))
        table = self._narrowed(cond) if cond is not None else self
        return self._attempt(lambda: Table.update(table, fields, cond))

    def update_multiple(self, updates: Iterable[tuple[Any, QueryLike]]) -> list[Any]:
        """As TinyDB's ``update_multiple``, in one transaction."""
        known = list(updates)
        table = self._narrowed(*(cond for _, cond in known))
        return self._attempt(lambda: Table.update_multiple(table, known))

    def remove(
        self, cond: QueryLike | None = None, doc_ids: Iterable[Any] | None = None
    ) -> list[Any]:
        """As TinyDB's ``remove``; reads and removes only what can be concerned."""
        if doc_ids is not None:
            ids: list[Any] = [str(doc_id) for doc_id in doc_ids]
            return self._attempt(lambda: Table.remove(self._expecting(ids), None, ids))
        if cond is not None and self._rows.table.metric_index is None:
            narrowing = narrow(cond, self._rows.table)
            if narrowing.exact:
                return self._attempt(self._view(narrowing.clause)._rows.discard)
        table = self._narrowed(cond) if cond is not None else self
        return self._attempt(lambda: Table.remove(table, cond))

    def truncate(self) -> None:
        """As TinyDB's ``truncate``."""
        self._attempt(super().truncate)

    def upsert(self, document: Mapping[str, Any], cond: QueryLike | None = None) -> list[Any]:
        """As TinyDB's ``upsert``, in one transaction: no one else's insert comes between."""

        def once() -> list[Any]:
            with self._rows.database.transaction():
                self._rows.database.lock_table(self._rows.table.sql)
                return Table.upsert(self, document, cond)

        return self._attempt(once)
