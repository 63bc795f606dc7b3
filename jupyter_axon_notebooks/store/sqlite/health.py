"""Inspection of store files without opening them for writing.

Nothing is created, migrated or changed, so stores that are in use, damaged, too new or missing can
be inspected.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ...errors import InvalidData, RecordDamaged, StoreDamaged
from ...records import NotebookCheckpoint
from ...userfiles import open_regular
from ..codec import column_text, decode, plain_text
from ..schema import CHECKPOINTS, COLLECTIONS, NOTEBOOKS, SCHEMA_VERSION, Schema
from .error_mapping import translate_error
from .files import INCREMENTAL, NETWORK_FILE_SYSTEMS, beside, check_files, file_system, size

#: Seconds to wait for a writer that has exclusive access.
_TIMEOUT = 5.0


@dataclass
class FileHealth:
    """The state of the file of a store.

    Attributes
    ----------
    exists : bool
        Whether there is a file; without one, nothing else is set.
    size, wal_size : int
        Bytes in the file, and in its write-ahead log.
    mode, folder_mode : int
        Permission bits of the file and of its folder.
    file_system : str
        The type of the file system; ``""`` if unknown.
    schema_version : int or None
        None for an empty file, and for a database that is not a store.
    counts : dict
        Documents by collection (``notebooks``, ``checkpoints``, …).
    sizes : dict
        Bytes by table, including indexes; empty if this SQLite cannot tell.
    free : int
        Unused bytes in the file.
    shrinks : bool
        Whether unused space can be returned to the disk while the store is in use.
    faults : list of str
        Messages of SQLite's integrity check, and missing parts of the store.
    obstacle : str
        The reason why the file cannot be examined now, such as a lock; ``""`` if it can.
    """

    path: Path
    exists: bool = False
    size: int = 0
    wal_size: int = 0
    mode: int = 0
    folder_mode: int = 0
    readable: bool = False
    writable: bool = False
    file_system: str = ""
    network: bool = False
    journal: str | None = None
    schema_version: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    free: int = 0
    shrinks: bool = False
    faults: list[str] = field(default_factory=list)
    obstacle: str = ""


def examine_file(path: Path) -> FileHealth:
    """Return the state of the store in the file ``path``, which is read completely."""
    health = FileHealth(path)
    health.file_system = file_system(path)
    health.network = health.file_system in NETWORK_FILE_SYSTEMS
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
        is_log = str(error.filename) != str(path)
        name = f"{os.path.basename(error.filename)}: " if is_log else ""
        health.obstacle = f"{name}{error.strerror}"
        return health
    health.size, health.mode = status.st_size, status.st_mode & 0o777
    health.wal_size = size(beside(path, "-wal"))
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
    health.journal = _journal(health.path)
    health.faults = [line for (line,) in connection.execute("PRAGMA quick_check") if line != "ok"]
    health.schema_version = _schema_version(connection)
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    expected = {collection.name for collection in COLLECTIONS}
    if expected & tables and health.schema_version is None:
        health.faults.append("the schema version is missing")
    elif health.schema_version == SCHEMA_VERSION:
        health.faults += [f"the table {name} is missing" for name in sorted(expected - tables)]
    for name in sorted(expected & tables):
        (count,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608
        health.counts[name.removeprefix("axonml_")] = count
    free, page, auto_vacuum = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("freelist_count", "page_size", "auto_vacuum")
    )
    health.free, health.shrinks = free * page, auto_vacuum == INCREMENTAL
    with suppress(sqlite3.OperationalError):  # dbstat is a compile-time option
        health.sizes = {
            name.removeprefix("axonml_"): length for name, length in connection.execute(_SIZES)
        }


_SIZES = """
    SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name)
    WHERE aggregate = TRUE AND tbl_name LIKE 'axonml_%' GROUP BY tbl_name
"""


def _schema_version(connection: sqlite3.Connection) -> int | None:
    try:
        row = connection.execute(
            "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return int(row[0]) if row is not None and str(row[0]).isdecimal() else None


@contextmanager
def _connect_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    # To read a database in WAL mode, SQLite creates the index of the log if it is missing. If there
    # is no log, no process has the database open, so it can be treated as immutable.
    unused = _journal(path) == "wal" and not beside(path, "-wal").exists()
    query = "immutable=1" if unused else "mode=ro"
    uri = f"{path.as_uri()}?{query}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT)) as connection:
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


def _journal(path: Path) -> str:
    # From the header of the file: `PRAGMA journal_mode` of an immutable database is "delete".
    try:
        with open_regular(path) as file:
            header = file.read(20)
    except OSError:  # opening the database will report it
        return "delete"
    return "wal" if header[18:20] == b"\x02\x02" else "delete"


def checkpoint_states(
    connection: sa.Connection,
) -> Iterator[tuple[str, str, dict[str, tuple[str, int | None]] | None]]:
    """Yield the notebook id, the id and the state files of every checkpoint, on any engine.

    State files are paths and recorded sizes by part (``model``, ``optimizer``). They are None for a
    damaged checkpoint.
    """
    c = Schema().tables[CHECKPOINTS.name].sql.c
    for notebook_id, checkpoint_id, text in connection.execute(
        sa.select(c.notebook_id, c.id, c.document)
    ):
        files: dict[str, tuple[str, int | None]] | None = None
        with suppress(RecordDamaged, InvalidData):
            document = decode(text)
            NotebookCheckpoint.from_json(document)
            paths = {part: document.get(f"{part}_state_path") for part in ("model", "optimizer")}
            sizes = document.get("sizes") or {}
            files = {
                part: (path, sizes.get(part))
                for part, path in paths.items()
                if path and isinstance(path, str)
            }
        yield plain_text(notebook_id or ""), plain_text(checkpoint_id), files


def notebook_documents(connection: sa.Connection, user_id: str) -> Iterator[dict[str, Any]]:
    """Yield a user's notebooks that are bound to a file, without damaged ones, on any engine."""
    c = Schema().tables[NOTEBOOKS.name].sql.c
    bound = sa.select(c.document).where(c.user_id == column_text(user_id), c.path.is_not(None))
    for (text,) in connection.execute(bound):
        with suppress(RecordDamaged):
            yield decode(text)
