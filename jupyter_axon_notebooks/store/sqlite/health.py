"""What can be said of a store without opening it for work.

Nothing here makes, migrates or changes anything: a store that a running server has open can be looked at, and so can
one that is damaged, too new, or not there.
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

from ...errors import InvalidData, RecordDamaged
from ...records import NotebookCheckpoint
from ...userfiles import open_regular
from ..codec import column_text, decode, plain_text
from ..schema import CHECKPOINTS, COLLECTIONS, NOTEBOOKS, Schema
from .engine import INCREMENTAL
from .files import NETWORK_FILE_SYSTEMS, beside, check_files, file_system, size


@dataclass
class FileHealth:
    """How the file of a store is doing.

    Attributes
    ----------
    exists : bool
        Whether there is one; nothing else is set where there is not.
    size, wal_size : int
        Bytes in the file, and in the write-ahead log beside it.
    mode, folder_mode : int
        Permission bits of the file and of its folder.
    file_system : str
        Its type; ``""`` where it cannot be told.
    schema_version : int or None
        None for an empty file, and for a database that is no store.
    counts : dict
        Documents by collection (``notebooks``, ``checkpoints``, …).
    sizes : dict
        Bytes by table, indexes included; empty where this SQLite cannot tell.
    free : int
        Bytes in the file that nothing is kept in.
    shrinks : bool
        Whether such room can be given back while the store is in use.
    faults : list of str
        What SQLite's integrity check found, or why it could not be made.
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


def examine_file(path: Path) -> FileHealth:
    """The health of the store in the file ``path``. Reads all of it, which takes a while for gigabytes."""
    health = FileHealth(path)
    health.file_system = file_system(path)
    health.network = health.file_system in NETWORK_FILE_SYSTEMS
    try:
        found = path.stat()
        health.folder_mode = path.parent.stat().st_mode & 0o777
    except OSError:
        return health
    health.exists = True
    try:
        check_files(path)
    except OSError as error:
        health.readable = health.writable = True
        beside_it = (
            "" if str(error.filename) == str(path) else f"{os.path.basename(error.filename)}: "
        )
        health.faults.append(f"{beside_it}{error.strerror}")
        return health
    health.size, health.mode = found.st_size, found.st_mode & 0o777
    health.wal_size = size(beside(path, "-wal"))
    health.readable = os.access(path, os.R_OK)
    health.writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not health.readable:
        return health
    try:
        with connect_read_only(path) as connection:
            connection.execute("BEGIN")  # so that all of it is of one moment
            _examine_content(connection, health)
    except sqlite3.Error as error:
        health.faults.append(str(error))
    return health


def _examine_content(connection: sqlite3.Connection, health: FileHealth) -> None:
    health.journal = _journal(health.path)
    health.faults = [line for (line,) in connection.execute("PRAGMA quick_check") if line != "ok"]
    health.schema_version = _schema_version(connection)
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    for collection in COLLECTIONS:
        if collection.name in tables:
            count = connection.execute(f'SELECT count(*) FROM "{collection.name}"')  # noqa: S608 - the name is ours
            health.counts[collection.name.removeprefix("axonml_")] = count.fetchone()[0]
    free, page, shrinks = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("freelist_count", "page_size", "auto_vacuum")
    )
    health.free, health.shrinks = free * page, shrinks == INCREMENTAL
    with suppress(sqlite3.OperationalError):  # not every build has the table of pages
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


def checkpoint_states(
    connection: sa.Connection,
) -> Iterator[tuple[str, str, dict[str, tuple[str, int | None]] | None]]:
    """Notebook id, id and state files of every checkpoint, on any engine.

    State files are paths and, where they are recorded, sizes, by part; none for a checkpoint without any. None in place of
    them is a damaged checkpoint.
    """
    c = Schema().tables[CHECKPOINTS.name].sql.c
    for notebook_id, checkpoint_id, text in connection.execute(
        sa.select(c.notebook_id, c.id, c.document)
    ):
        present: dict[str, tuple[str, int | None]] | None = None
        with suppress(RecordDamaged, InvalidData):
            document = decode(text)
            NotebookCheckpoint.from_json(document)
            paths = {part: document.get(f"{part}_state_path") for part in ("model", "optimizer")}
            sizes = document.get("sizes") or {}
            present = {
                part: (path, sizes.get(part))
                for part, path in paths.items()
                if path and isinstance(path, str)
            }
        yield plain_text(notebook_id or ""), plain_text(checkpoint_id), present


def notebook_documents(connection: sa.Connection, user_id: str) -> Iterator[dict[str, Any]]:
    """Yield the documents of a user's notebooks that are bound to a file, on any engine; damaged ones are left out."""
    c = Schema().tables[NOTEBOOKS.name].sql.c
    bound = sa.select(c.document).where(c.user_id == column_text(user_id), c.path.is_not(None))
    for (text,) in connection.execute(bound):
        with suppress(RecordDamaged):
            yield decode(text)


@contextmanager
def connect_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the database in the file ``path`` that can only read, and leaves no file behind.

    Raises
    ------
    sqlite3.Error
        When it cannot be opened.
    """
    # A database with a log is read through its shared index, which even a reader makes where it is missing. While there
    # is no log nobody has it open, so it can be taken for what it is: a file that nobody changes. Of one that is written
    # without a log that cannot be told, but to read it nothing has to be made.
    unused = _journal(path) == "wal" and not beside(path, "-wal").exists()
    how = "immutable=1" if unused else "mode=ro"
    with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=5)) as connection:
        yield connection


@contextmanager
def connect_to_file(path: Path) -> Iterator[sa.Connection]:
    """As :func:`connect_read_only`, for SQLAlchemy; all that is read is of one and the same moment, whoever writes meanwhile."""
    with connect_read_only(path) as raw:
        engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=sa.StaticPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection


def _journal(path: Path) -> str:
    # As the file's header says: a connection to a file taken for immutable always answers "delete".
    try:
        with open_regular(path) as file:
            header = file.read(20)
    except OSError:  # which opening it tells
        return "delete"
    return "wal" if header[18:20] == b"\x02\x02" else "delete"
