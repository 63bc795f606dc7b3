"""The rows of a collection as mappings from ids to documents, which TinyDB expects of a table.

:class:`Rows` is a mapping that is read from SQL on demand. :class:`PendingChanges` can be modified
as well, and writes the rows that changed.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from itertools import chain, repeat
from typing import Any, TypeVar

import sqlalchemy as sa

from .codec import column_text, decode, plain_text
from .database import Database
from .schema import CollectionTable

Document = dict[str, Any]
_T = TypeVar("_T")

#: The largest number of ids in one statement; SQLite allows 32,766.
_BATCH = 500
#: Rows per page of a scan. The first pages are small, since a search may stop at its first match.
_PAGES = (32, 256, 2048)


class Rows(Mapping[str, Document]):
    """The documents of a collection, or those that match a clause, in the order of insertion.

    Iteration reads page by page and holds no connection in between. It includes rows that are
    inserted meanwhile.
    """

    def __init__(
        self,
        database: Database,
        table: CollectionTable,
        clause: sa.ColumnElement[bool] | None = None,
    ) -> None:
        self.database = database
        self.table = table
        self._c = table.sql.c
        self._clause = clause

    def __getitem__(self, doc_id: str) -> Document:
        text = self.text(doc_id)
        if text is None:
            raise KeyError(doc_id)
        document: Document = decode(text)
        return document

    def __contains__(self, doc_id: object) -> bool:
        statement = self._filter(self.table.select_one)
        parameters = {"row_id": column_text(str(doc_id))}
        return self._read(lambda c: c.scalar(statement, parameters)) is not None

    def __len__(self) -> int:
        return int(self._read(lambda c: c.scalar(self._select(sa.func.count(self._c.seq)))) or 0)

    def __iter__(self) -> Iterator[str]:
        return (doc_id for doc_id, _ in self._all(self._c.id, self._c.id))

    def items(self) -> Any:
        """Iterate over ids and documents. Unlike a view, the iterator can be used once."""
        return ((doc_id, decode(text)) for doc_id, text in self._all(self._c.id, self._c.document))

    def text(self, doc_id: object, *, lock: bool = False) -> str | None:
        """Return the JSON of a document; with ``lock``, locked for the open transaction."""
        statement = self._filter(self.table.select_locked if lock else self.table.select_text)
        parameters = {"row_id": column_text(str(doc_id))}
        text: str | None = self._read(lambda c: c.scalar(statement, parameters))
        return text

    def texts(self) -> Iterator[tuple[str, str]]:
        """Iterate over ids and JSON with one page at a time in memory."""
        return self._scan(self._c.id, self._c.document)

    def locked_texts(self) -> list[tuple[str, str]]:
        """Return ids and JSON of all rows, locked for the open transaction."""
        if not self.database.locks_rows:
            return list(self.texts())
        # Not in pages: if a row is deleted meanwhile, a page is too short and seems to be the last.
        rows = self._fetch(self._lock(self._select(self._c.seq, self._c.id, self._c.document)))
        return [(plain_text(doc_id), text) for _, doc_id, text in sorted(rows)]

    def some(self, doc_ids: Iterable[object], *, lock: bool = False) -> list[tuple[str, str]]:
        """Return ids and JSON of those of ``doc_ids`` that exist, in the order of insertion."""
        rows = self._batched(doc_ids, self.table.select_some, lock=lock)
        return [(plain_text(doc_id), text) for _, doc_id, text in sorted(rows)]

    def existing_ids(self, doc_ids: Iterable[object]) -> set[str]:
        """Return those of ``doc_ids`` that exist, without reading documents."""
        return {plain_text(doc_id) for (doc_id,) in self._batched(doc_ids, self.table.select_ids)}

    def by_fields(
        self, fields: Mapping[str, str | int], *columns: str, limit: int
    ) -> Sequence[Any]:
        """Return columns of at most ``limit`` rows whose promoted fields have these values."""
        assert self._clause is None, "the statement ignores the clause"
        statement = self.table.select_by_fields(columns, tuple(fields), limit)
        values = {
            name: column_text(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return self._read(lambda c: c.execute(statement, values).all())

    def page(self, sort: Sequence[str], *, limit: int | None, skip: int) -> list[tuple[str, str]]:
        """Return ids and JSON, sorted by promoted fields (``-`` before a name: descending)."""
        statement = self._select(self._c.id, self._c.document)
        statement = statement.order_by(*(self._ordering(name) for name in sort))
        if limit is not None or skip:
            statement = statement.limit(limit).offset(skip)
        return [(plain_text(doc_id), text) for doc_id, text in self._fetch(statement)]

    def max_value(self, name: str, of: str, value: str) -> Any:
        """Return the maximum of a promoted field where ``of`` is ``value``; None without rows."""
        statement = self.table.select_max(name, of)
        return self._read(lambda c: c.scalar(statement, {"value": column_text(value)}))

    # Changes without reading documents. Updates of the metric index need the documents, so that
    # only `delete_notebook` supports collections with an index.

    def delete_all(self) -> list[str]:
        """Delete these rows; return their ids."""
        assert self.table.metric_index is None
        with self.database.transaction() as connection:
            if self.database.locks_rows:
                rows = self._fetch(self._lock(self._select(self._c.seq, self._c.id)))
                ids = [plain_text(doc_id) for _, doc_id in sorted(rows)]
            else:
                ids = list(self)
            delete = sa.delete(self.table.sql)
            self.database.mark_written()
            connection.execute(delete if self._clause is None else delete.where(self._clause))
        return ids

    def delete_some(self, doc_ids: Iterable[str]) -> None:
        """Delete those of ``doc_ids`` that exist."""
        assert self.table.metric_index is None
        with self.database.transaction() as connection:
            _Writer(connection, self).delete({doc_id: {} for doc_id in doc_ids})

    def replace(self, doc_id: str, document: Document) -> None:
        """Overwrite an existing document."""
        assert self.table.metric_index is None
        text = self.table.encoded(document)
        with self.database.transaction() as connection:
            changed = (_as_read(document, text, self.table), text, "")
            _Writer(connection, self).update({doc_id: changed})

    def delete_notebook(self, notebook_id: str) -> None:
        """Delete the rows of one notebook and their index rows, in one statement each."""
        in_notebook = self._c.notebook_id == column_text(notebook_id)
        index = self.table.metric_index
        with self.database.transaction() as connection:
            if self.database.locks_rows:
                locked = self._lock(sa.select(self._c.id).where(in_notebook)).subquery()
                connection.execute(sa.select(sa.func.count()).select_from(locked))
            self.database.mark_written()
            connection.execute(sa.delete(self.table.sql).where(in_notebook))
            if index is not None:
                connection.execute(
                    sa.delete(index.sql).where(index.sql.c.notebook_id == column_text(notebook_id))
                )

    # Statements.

    def _read(self, read: Callable[[sa.Connection], _T]) -> _T:
        def once() -> _T:
            with self.database.reading() as connection:
                return read(connection)

        return self.database.retry(once, reads=True)

    def _fetch(self, statement: sa.Executable) -> Sequence[Any]:
        return self._read(lambda c: c.execute(statement).all())

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return self._filter(sa.select(*columns))

    def _filter(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return statement if self._clause is None else statement.where(self._clause)

    def _lock(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        # Always in the order of ids, to prevent deadlocks.
        if not self.database.locks_rows:
            return statement
        return statement.order_by(self._c.id).with_for_update()

    @property
    def _filters_first(self) -> bool:
        return self._clause is not None and self.database.filters_first

    def _all(self, first: sa.Column[Any], second: sa.Column[Any]) -> Iterator[tuple[str, str]]:
        """Iterate as :meth:`_scan` does; without pages if the rows must be filtered first."""
        if not self._filters_first:
            yield from self._scan(first, second)
            return
        for _, doc_id, other in sorted(self._fetch(self._select(self._c.seq, first, second))):
            yield plain_text(doc_id), other

    def _scan(self, first: sa.Column[Any], second: sa.Column[Any]) -> Iterator[tuple[str, str]]:
        after = -1
        for size in chain(_PAGES, repeat(_PAGES[-1])):
            page = self._select(self._c.seq, first, second).where(self._c.seq > after)
            if self._filters_first:  # OFFSET makes PostgreSQL run the filter before the sort
                page = sa.select(page.offset(0).subquery())
            rows = self._fetch(page.order_by(sa.literal_column("seq")).limit(size))
            for seq, doc_id, other in rows:
                after = seq
                yield plain_text(doc_id), other
            if len(rows) < size:
                return

    def _batched(
        self, doc_ids: Iterable[object], statement: sa.Select[Any], *, lock: bool = False
    ) -> list[Any]:
        ids = sorted({column_text(str(doc_id)) for doc_id in doc_ids})
        select = self._filter(statement)
        select = self._lock(select) if lock else select

        def read(connection: sa.Connection) -> list[Any]:
            rows: list[Any] = []
            for start in range(0, len(ids), _BATCH):
                rows.extend(connection.execute(select, {"row_ids": ids[start : start + _BATCH]}))
            return rows

        return self._read(read)

    def _ordering(self, name: str) -> sa.UnaryExpression[Any]:
        plain = name.removeprefix("-")
        if plain not in self._c or plain == "document":
            raise ValueError(
                f"cannot sort {self.table.collection.name} by {plain!r}: not a promoted field"
            )
        # NULL is the smallest value, as it is in SQLite by default.
        column = self._c[plain]
        return column.asc().nulls_first() if name == plain else column.desc().nulls_last()


class PendingChanges(MutableMapping[str, Document]):
    """Rows that can be changed in place; :meth:`flush` writes those whose JSON differs.

    It is used within one transaction, and locks the rows that it reads. It keeps all documents that
    it returns, since the caller may change them in place.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._loaded: dict[str, tuple[str | None, Document]] = {}
        self._absent: set[str] = set()
        self._removed: dict[str, Document] = {}
        self._everything_loaded = False
        self._cleared = False

    def prefetch(self, doc_ids: Collection[str]) -> None:
        """Read the documents of ``doc_ids`` together rather than one by one."""
        self._absent.update(doc_ids)
        if self._absent:
            for doc_id, text in self._rows.some(self._absent, lock=True):
                self._absent.discard(doc_id)
                self._loaded[doc_id] = (text, decode(text))

    def assume_absent(self, doc_id: str) -> None:
        """Skip the look-up of an id that cannot exist yet."""
        self._absent.add(doc_id)

    def _load_all(self) -> None:
        if self._everything_loaded:
            return
        self._everything_loaded = True
        for doc_id, text in self._rows.locked_texts():
            if doc_id not in self._removed and doc_id not in self._loaded:
                self._loaded[doc_id] = (text, decode(text))

    def __getitem__(self, doc_id: str) -> Document:
        doc_id = str(doc_id)
        if doc_id in self._loaded:
            return self._loaded[doc_id][1]
        if self._everything_loaded or doc_id in self._absent or doc_id in self._removed:
            raise KeyError(doc_id)
        text = self._rows.text(doc_id, lock=True)
        if text is None:
            self._absent.add(doc_id)
            raise KeyError(doc_id)
        self._loaded[doc_id] = (text, decode(text))
        return self._loaded[doc_id][1]

    def __contains__(self, doc_id: object) -> bool:
        try:
            self[str(doc_id)]
        except KeyError:
            return False
        return True

    def __setitem__(self, doc_id: str, document: Document) -> None:
        doc_id = str(doc_id)
        stored = self._loaded[doc_id][0] if doc_id in self else None
        self._loaded[doc_id] = (stored, document)
        self._absent.discard(doc_id)

    def __delitem__(self, doc_id: str) -> None:
        doc_id = str(doc_id)
        document = self[doc_id]
        stored, _ = self._loaded.pop(doc_id)
        self._absent.add(doc_id)
        if stored is not None:
            # Delete the index rows of the stored document: the caller may have changed `document`.
            self._removed[doc_id] = decode(stored) if self._rows.table.metric_index else document

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(list(self._loaded))

    def __len__(self) -> int:
        self._load_all()
        return len(self._loaded)

    def clear(self) -> None:
        """Remove every row without reading any."""
        self._loaded.clear()
        self._removed.clear()
        self._cleared = self._everything_loaded = True

    def flush(self, connection: sa.Connection) -> None:
        """Write the changes."""
        table = self._rows.table
        inserted, updated = {}, {}
        # Encoding can fail, so all documents are encoded before any statement is sent.
        for doc_id, (stored, document) in self._loaded.items():
            text = table.encoded(document)
            if stored is None:
                inserted[doc_id] = (_as_read(document, text, table), text)
            elif text != stored:
                updated[doc_id] = (_as_read(document, text, table), text, stored)
        writer = _Writer(connection, self._rows)
        if self._cleared:
            writer.clear()
        writer.delete(self._removed)
        writer.update(updated)
        writer.insert(inserted)


def _as_read(document: Document, text: str, table: CollectionTable) -> Document:
    """Return the document that decoding ``text``, the JSON of ``document``, gives.

    Columns and index rows are derived from it, and JSON changes keys into strings, and pairs of
    surrogates into one character. Decoding is skipped where neither can affect them: without a
    metric index, and without escaped surrogates.
    """
    return decode(text) if table.metric_index or "\\ud" in text else document


class _Writer:
    """The statements that change the rows of a collection and of its metric index."""

    def __init__(self, connection: sa.Connection, rows: Rows) -> None:
        self._connection = connection
        self._database = rows.database
        self._table = rows.table
        self._index = rows.table.metric_index

    def _execute(self, statement: sa.Executable, rows: list[dict[str, Any]] | None = None) -> None:
        if rows is None or rows:
            self._database.mark_written()
            self._connection.execute(statement, rows)

    def clear(self) -> None:
        # The lock prevents inserts in between, whose index rows would be deleted.
        self._database.lock_table(self._table.sql)
        self._execute(sa.delete(self._table.sql))
        if self._index is not None:
            self._execute(sa.delete(self._index.sql))

    def insert(self, documents: Mapping[str, tuple[Document, str]]) -> None:
        rows = [self._table.row(id, document, text) for id, (document, text) in documents.items()]
        self._execute(self._table.insert_row, rows)
        added = self._index_rows((id, document) for id, (document, _) in documents.items())
        self._insert_index_rows(added.values())

    def update(self, documents: Mapping[str, tuple[Document, str, str]]) -> None:
        rows = []
        for doc_id, (document, text, _) in documents.items():
            row = self._table.row(doc_id, document, text)
            row["row_id"] = row.pop("id")
            rows.append(row)
        self._execute(self._table.update_row, rows)
        if self._index is None:
            return
        before = self._index_rows((id, decode(stored)) for id, (*_, stored) in documents.items())
        after = self._index_rows((id, document) for id, (document, *_) in documents.items())
        # Only what differs: on PostgreSQL each index row that is written locks its notebook.
        self._delete_index_rows(row for key, row in before.items() if key not in after)
        self._insert_index_rows(row for key, row in after.items() if key not in before)

    def delete(self, documents: Mapping[str, Document]) -> None:
        rows = [{"row_id": column_text(doc_id)} for doc_id in documents]
        self._execute(self._table.delete_row, rows)
        self._delete_index_rows(self._index_rows(documents.items()).values())

    def _index_rows(
        self, documents: Iterable[tuple[str, Document]]
    ) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return the rows of the metric index, if there is one, by their values."""
        if self._index is None:
            return {}
        rows = (row for doc_id, document in documents for row in self._index.rows(doc_id, document))
        return {tuple(row.values()): row for row in rows}

    def _insert_index_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        if self._index is not None:
            self._execute(self._index.insert_row, list(rows))

    def _delete_index_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        if self._index is not None:
            keys = [{f"row_{name}": value for name, value in row.items()} for row in rows]
            self._execute(self._index.delete_row, keys)
