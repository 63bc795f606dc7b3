"""Inspection of store files without opening them for writing.

Nothing is created, migrated or changed, so stores that are in use, damaged, too new or missing can
be inspected.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from ...errors import StoreDamaged
from ..schema import COLLECTIONS, SCHEMA_VERSION, Schema
from .error_mapping import translate_error
from .files import beside, check_files, read_only_uri, size

#: Seconds to wait for a writer that has exclusive access.
_TIMEOUT = 5.0


@dataclass
class FileHealth:
    """The state of the file of a store.

    Attributes
    ----------
    exists : bool
        Whether there is a file; without one, nothing else is set.
    size : int
        Bytes in the file and its write-ahead log.
    mode, folder_mode : int
        Permission bits of the file and of its folder.
    schema_version : int or None
        None for an empty file, and for a database that is not a store.
    counts : dict
        Documents by collection (``notebooks``, ``checkpoints``, …).
    faults : list of str
        Messages of SQLite's integrity check, and missing parts of the store.
    obstacle : str
        The reason why the file cannot be examined now, such as a lock; ``""`` if it can.
    """

    path: Path
    exists: bool = False
    size: int = 0
    mode: int = 0
    folder_mode: int = 0
    readable: bool = False
    writable: bool = False
    schema_version: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    obstacle: str = ""


def examine_file(path: Path) -> FileHealth:
    """Return the state of the store in the file ``path``, which is read completely."""
    health = FileHealth(path)
    try:
        status = path.stat()
        health.folder_mode = path.parent.stat().st_mode & 0o777
    except OSError:
        return health
    health.exists = True
    try:
        check_files(path)
    except OSError as error:
        health.readable = health.writable = True
        health.obstacle = f"{os.path.basename(error.filename)}: {error.strerror}"
        return health
    health.mode = status.st_mode & 0o777
    health.size = status.st_size + size(beside(path, "-wal"))
    health.readable = os.access(path, os.R_OK)
    health.writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not health.readable:
        return health
    try:
        with _connect_read_only(path) as connection:
            connection.execute("BEGIN")  # a snapshot
            _examine_content(connection, health)
    except sqlite3.Error as error:
        if isinstance(translate_error(str(path), path, error), StoreDamaged):
            health.faults.append(str(error))
        else:
            health.obstacle = str(error)
    return health


def _examine_content(connection: sqlite3.Connection, health: FileHealth) -> None:
    health.faults = [line for (line,) in connection.execute("PRAGMA quick_check") if line != "ok"]
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    if "axon_properties" in tables:
        version = "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        for (value,) in connection.execute(version):
            health.schema_version = int(value) if str(value).isdecimal() else None
    expected = {collection.name for collection in COLLECTIONS}
    if expected & tables and health.schema_version is None:
        health.faults.append("the schema version is missing")
    elif health.schema_version == SCHEMA_VERSION:
        missing = Schema().metadata.tables.keys() - tables
        health.faults += [f"the table {name} is missing" for name in sorted(missing)]
    for name in sorted(expected & tables):
        (count,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608
        health.counts[name.removeprefix("axonml_")] = count


@contextmanager
def _connect_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(read_only_uri(path), uri=True, timeout=_TIMEOUT)) as connection:
        yield connection


@contextmanager
def connect_to_file(path: Path) -> Iterator[sa.Connection]:
    """Open a snapshot of the database in the file ``path``, without creating any file.

    Raises sqlite3.Error if it cannot be opened.
    """
    with _connect_read_only(path) as driver:
        engine = sa.create_engine("sqlite://", creator=lambda: driver, poolclass=sa.StaticPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
