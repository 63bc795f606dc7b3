"""A collection's rows as mappings: the shape in which TinyDB meets its tables.

TinyDB thinks of a table as a dict of documents by id. :class:`Rows` is such a dict, read from SQL as far as it is
looked at; :class:`Changes` is one that can be changed, and knows in the end which rows to write.
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
from typing import Any, TypeVar

import sqlalchemy as sa

from .codec import column_text, decode, plain_text
from .database import Database
from .schema import CollectionTable

Document = dict[str, Any]
_T = TypeVar("_T")

#: The most values bound in one statement; engines limit it, SQLite to 32,766.
_BATCH = 500
#: Rows fetched at once in a scan: few at first, since a search may stop at its first hit.
_PAGES = (32, 256, 2048)


class Rows(Mapping[str, Document]):
    """The documents of a collection, or those that a clause admits, in the order they were inserted.

    Nothing is read before it is asked for. A scan reads page by page and holds no connection in between, so the
    table may be changed while it is iterated: what is inserted behind the current place is seen, as in a file.
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

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return self._admitted(sa.select(*columns))

    def _read(self, read: Callable[[sa.Connection], _T]) -> _T:
        def once() -> _T:
            with self.database.reading() as connection:
                return read(connection)

        return self.database.attempt(once, reads=True)

    def text(self, doc_id: object, *, lock: bool = False) -> str | None:
        """The stored form of one document; ``lock`` keeps it for the open transaction."""
        statement = self._admitted(self.table.select_locked if lock else self.table.select_text)
        found: str | None = self._read(
            lambda c: c.scalar(statement, {"row_id": column_text(str(doc_id))})
        )
        return found

    def _admitted(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return statement if self._clause is None else statement.where(self._clause)

    def _locked(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        # In the same order whoever locks, so that two never wait for one another.
        return (
            statement.order_by(self._c.id).with_for_update()
            if self.database.locks_rows
            else statement
        )

    def __getitem__(self, doc_id: str) -> Document:
        text = self.text(doc_id)
        if text is None:
            raise KeyError(doc_id)
        document: Document = decode(text)
        return document

    def __contains__(self, doc_id: object) -> bool:
        statement = self._admitted(self.table.select_one)
        return (
            self._read(lambda c: c.scalar(statement, {"row_id": column_text(str(doc_id))}))
            is not None
        )

    def __len__(self) -> int:
        return int(self._read(lambda c: c.scalar(self._select(sa.func.count(self._c.seq)))) or 0)

    def __iter__(self) -> Iterator[str]:
        return (doc_id for doc_id, _ in self._all(self._c.id, self._c.id))

    def items(self) -> Any:
        """Pairs of id and document. An iterator, not a view: a second pass asks again."""
        return ((doc_id, decode(text)) for doc_id, text in self._all(self._c.id, self._c.document))

    def texts(self) -> Iterator[tuple[str, str]]:
        """Pairs of id and stored form, of which a page at a time is in memory."""
        return self._scan(self._c.id, self._c.document)

    @property
    def _narrows_first(self) -> bool:
        return self._clause is not None and self.database.narrows_first

    def _all(self, first: sa.Column[Any], second: sa.Column[Any]) -> Iterator[tuple[str, str]]:
        """As :meth:`_scan`, for who keeps them all: at once, where pages would take longer."""
        if not self._narrows_first:
            yield from self._scan(first, second)
            return
        statement = self._select(self._c.seq, first, second)
        for _, one, other in sorted(self._rows_of(statement)):
            yield plain_text(one), other

    def _scan(self, first: sa.Column[Any], second: sa.Column[Any]) -> Iterator[tuple[str, str]]:
        after = -1
        for size in _page_sizes():
            page = self._select(self._c.seq, first, second).where(self._c.seq > after)
            if (
                self._narrows_first
            ):  # OFFSET has what is admitted planned apart from the order and the limit
                page = sa.select(page.offset(0).subquery())
            page = page.order_by(sa.literal_column("seq")).limit(size)
            rows = self._rows_of(page)
            for after, one, other in rows:  # noqa: B007 - the last `after` is where the next page begins
                yield plain_text(one), other
            if len(rows) < size:
                return

    def _rows_of(self, statement: sa.Executable) -> Sequence[Any]:
        return self._read(lambda c: c.execute(statement).all())

    def locked_texts(self) -> list[tuple[str, str]]:
        """Pairs of id and stored form of all rows, kept for the open transaction."""
        if not self.database.locks_rows:
            return list(self.texts())
        # At once: a row that is gone when its turn comes would make a page look like the last.
        statement = self._locked(self._select(self._c.seq, self._c.id, self._c.document))
        found = sorted(self._rows_of(statement))
        return [(plain_text(doc_id), text) for _, doc_id, text in found]

    def some(self, doc_ids: Iterable[object], *, lock: bool = False) -> list[tuple[str, str]]:
        """Pairs of id and stored form of those of ``doc_ids`` that are there, in the order of insertion.

        ``lock`` keeps them for the open transaction.
        """
        found = self._batched(doc_ids, self.table.select_some, lock=lock)
        return [(plain_text(doc_id), text) for _, doc_id, text in sorted(found)]

    def present(self, doc_ids: Iterable[object]) -> set[str]:
        """Which of ``doc_ids`` are there; no document is read."""
        return {plain_text(doc_id) for (doc_id,) in self._batched(doc_ids, self.table.select_ids)}

    def _batched(
        self, doc_ids: Iterable[object], statement: sa.Select[Any], *, lock: bool = False
    ) -> list[Any]:
        ids = sorted({column_text(str(doc_id)) for doc_id in doc_ids})
        select = self._admitted(statement)
        select = self._locked(select) if lock else select

        def read(connection: sa.Connection) -> list[Any]:
            found: list[Any] = []
            for start in range(0, len(ids), _BATCH):
                found.extend(connection.execute(select, {"row_ids": ids[start : start + _BATCH]}))
            return found

        return self._read(read)

    def having(self, fields: Mapping[str, str | int], *columns: str, limit: int) -> list[Any]:
        """Those columns of the rows whose promoted fields have these values; of ``limit`` rows at most, in any order."""
        assert self._clause is None  # the statement is the whole table's
        statement = self.table.looking_up(columns, tuple(fields), limit)
        values = {
            n: column_text(value) if isinstance(value, str) else value
            for n, value in fields.items()
        }
        return self._read(lambda c: list(c.execute(statement, values)))

    def page(self, sort: Sequence[str], *, limit: int | None, skip: int) -> list[tuple[str, str]]:
        """Pairs of id and stored form, ordered by promoted fields (``-`` before a name: descending)."""
        statement = self._select(self._c.id, self._c.document)
        statement = statement.order_by(*(self._ordering(name) for name in sort))
        if limit is not None or skip:
            statement = statement.limit(limit).offset(skip)
        found = self._rows_of(statement)
        return [(plain_text(one), text) for one, text in found]

    def highest(self, name: str, of: str, value: str) -> Any:
        """The greatest value of a promoted field among the rows whose field ``of`` is ``value``; None without any."""
        statement = self.table.select_highest(name, of)
        return self._read(lambda c: c.scalar(statement, {"value": column_text(value)}))

    def discard(self) -> list[str]:
        """Remove these rows without reading their documents; their ids. Not for a collection with a metric index."""
        assert self.table.metric_index is None  # its rows can only be told from the documents
        with self.database.transaction() as connection:
            removed = self._locked_ids()
            delete = sa.delete(self.table.sql)
            self.database.wrote()
            connection.execute(delete if self._clause is None else delete.where(self._clause))
        return removed

    def discard_of(self, notebook_id: str) -> None:
        """Remove the rows of one notebook, and those of the metric index, in one statement each; no document is read."""
        of_notebook = self._c.notebook_id == column_text(notebook_id)
        index = self.table.metric_index
        with self.database.transaction() as connection:
            if self.database.locks_rows:
                locked = self._locked(sa.select(self._c.id).where(of_notebook)).subquery()
                connection.execute(sa.select(sa.func.count()).select_from(locked))
            self.database.wrote()
            connection.execute(sa.delete(self.table.sql).where(of_notebook))
            if index is not None:
                connection.execute(
                    sa.delete(index.sql).where(index.sql.c.notebook_id == column_text(notebook_id))
                )

    def _locked_ids(self) -> list[str]:
        if not self.database.locks_rows:
            return list(self)
        statement = self._locked(self._select(self._c.seq, self._c.id))
        return [plain_text(doc_id) for _, doc_id in sorted(self._rows_of(statement))]

    def discard_some(self, doc_ids: Iterable[str]) -> None:
        """As :meth:`discard`, those of ``doc_ids`` that are there."""
        assert self.table.metric_index is None
        with self.database.transaction() as connection:
            _Writer(connection, self).delete({doc_id: {} for doc_id in doc_ids})

    def replace(self, doc_id: str, document: Document) -> None:
        """Write a document that is there. Not for a collection with a metric index, as :meth:`discard`."""
        assert self.table.metric_index is None
        text = self.table.encoded(document)
        with self.database.transaction() as connection:
            _Writer(connection, self).update(
                {doc_id: (_as_read(document, text, self.table), text, "")}
            )

    def _ordering(self, name: str) -> sa.UnaryExpression[Any]:
        plain = name.removeprefix("-")
        if plain not in self._c or plain == "document":
            raise ValueError(
                f"cannot sort {self.table.collection.name} by {plain!r}: not a promoted field"
            )
        # Engines disagree on where NULL sorts; that it is the smallest is what SQLite does by itself.
        return (
            self._c[plain].desc().nulls_last()
            if name != plain
            else self._c[plain].asc().nulls_first()
        )


def _page_sizes() -> Iterator[int]:
    yield from _PAGES
    while True:
        yield _PAGES[-1]


class Changes(MutableMapping[str, Document]):
    """Rows that can be changed in place; :meth:`flush` writes those whose stored form came out different.

    Lives inside one transaction, which keeps from others whatever is read here. Documents handed out are remembered, since the caller may change them.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._loaded: dict[str, tuple[str | None, Document]] = {}
        self._absent: set[str] = set()
        self._removed: dict[str, Document] = {}
        self._everything_loaded = False
        self._cleared = False

    def expect(self, doc_ids: Collection[str]) -> None:
        """Read the documents of ``doc_ids`` in few statements, ahead of their use."""
        self._absent.update(doc_ids)
        if self._absent:
            for doc_id, text in self._rows.some(self._absent, lock=True):
                self._absent.discard(doc_id)
                self._loaded[doc_id] = (text, decode(text))

    def assume_absent(self, doc_id: str) -> None:
        """Spare the look-up of a document that cannot be there."""
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
            # What the index holds is what was stored, whatever the document has been changed to since.
            self._removed[doc_id] = decode(stored) if self._rows.table.metric_index else document

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(list(self._loaded))

    def __len__(self) -> int:
        self._load_all()
        return len(self._loaded)

    def clear(self) -> None:
        """Remove every row, without reading any."""
        self._loaded.clear()
        self._removed.clear()
        self._cleared = self._everything_loaded = True

    def flush(self, connection: sa.Connection) -> None:
        """Send what changed to the engine."""
        inserted, updated = {}, {}
        for doc_id, (
            stored,
            document,
        ) in self._loaded.items():  # all encoded before any is sent: it can fail
            text = self._rows.table.encoded(document)
            if stored is None:
                inserted[doc_id] = (_as_read(document, text, self._rows.table), text)
            elif text != stored:
                updated[doc_id] = (_as_read(document, text, self._rows.table), text, stored)
        writer = _Writer(connection, self._rows)
        if self._cleared:
            writer.clear()
        writer.delete(self._removed)
        writer.update(updated)
        writer.insert(inserted)


def _as_read(document: Document, text: str, table: CollectionTable) -> Document:
    """``document`` as ``text`` will be read back, which is what columns and index rows are derived from.

    JSON makes keys texts, and one character of two surrogates. Decoding is spared where neither can matter: the
    names of promoted fields are texts, and surrogates are escaped.
    """
    return decode(text) if table.metric_index or "\\ud" in text else document


class _Writer:
    """The statements that change a collection's rows and, with them, its metric index."""

    def __init__(self, connection: sa.Connection, rows: Rows) -> None:
        self._connection = connection
        self._database = rows.database
        self._table = rows.table
        self._sql = rows.table.sql
        self._index = rows.table.metric_index

    def _execute(self, statement: sa.Executable, rows: list[dict[str, Any]] | None = None) -> None:
        if rows is None or rows:
            self._database.wrote()
            self._connection.execute(statement, rows)

    def clear(self) -> None:
        self._database.lock_table(
            self._sql
        )  # or the index would lose the rows of what others insert meanwhile
        self._execute(sa.delete(self._sql))
        if self._index is not None:
            self._execute(sa.delete(self._index.sql))

    def insert(self, documents: Mapping[str, tuple[Document, str]]) -> None:
        rows = [
            self._table.row(doc_id, document, text)
            for doc_id, (document, text) in documents.items()
        ]
        self._execute(self._table.insert_row, rows)
        self._add_ranks(
            self._ranks((doc_id, document) for doc_id, (document, _) in documents.items()).values()
        )

    def update(self, documents: Mapping[str, tuple[Document, str, str]]) -> None:
        rows = []
        for doc_id, (document, text, _) in documents.items():
            row = self._table.row(doc_id, document, text)
            row["row_id"] = row.pop("id")
            rows.append(row)
        self._execute(self._table.update_row, rows)
        before = self._ranks(
            (doc_id, decode(stored)) for doc_id, (_, _, stored) in documents.items()
        )
        after = self._ranks((doc_id, document) for doc_id, (document, _, _) in documents.items())
        # What stays is not written again: it is most of it, and each row written locks its notebook on a hub.
        self._drop_ranks(row for key, row in before.items() if key not in after)
        self._add_ranks(row for key, row in after.items() if key not in before)

    def delete(self, documents: Mapping[str, Document]) -> None:
        rows = [{"row_id": column_text(doc_id)} for doc_id in documents]
        self._execute(self._table.delete_row, rows)
        self._drop_ranks(self._ranks(documents.items()).values())

    def _ranks(
        self, documents: Iterable[tuple[str, Document]]
    ) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The rows of the metric index, if there is one, by all that is in them."""
        if self._index is None:
            return {}
        rows = (row for doc_id, document in documents for row in self._index.rows(doc_id, document))
        return {tuple(row.values()): row for row in rows}

    def _add_ranks(self, rows: Iterable[dict[str, Any]]) -> None:
        if self._index is not None:
            self._execute(self._index.insert_row, list(rows))

    def _drop_ranks(self, rows: Iterable[dict[str, Any]]) -> None:
        if self._index is not None:
            named = [{f"row_{name}": value for name, value in row.items()} for row in rows]
            self._execute(self._index.delete_row, named)
