"""SQLite as an engine: one file, written durably, read by many while one writes."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ...errors import NoSpace, StoreDamaged, StoreError, StoreTooNew
from ...records import new_id
from ...userfiles import NotRegular
from ..error_mapping import OUTDATED, name_failures
from .files import NETWORK_FILE_SYSTEMS, OpenedFiles, beside, check_files, file_system, rename_files

#: What the pragma ``auto_vacuum`` answers for a file that can be shortened in steps.
INCREMENTAL = 2
#: Bytes; no database is smaller.
_SMALLEST_PAGE = 512


class SqliteEngine:
    """SQLite behind the seam that :class:`.engine.Engine` is.

    Parameters
    ----------
    path : Path or None
        The file, or a link to it, made with its folder if missing; None is a database in memory.
    version : int
        The schema version that is written here.
    read_only : bool
        Whether the file is only to be read, in a place that cannot be written to.
    """

    one_writer = True
    narrows_first = False
    survives_forks = False  # forks.py tells why

    def __init__(
        self,
        path: Path | None,
        busy_timeout: float,
        read_timeout: float,
        *,
        version: int,
        read_only: bool = False,
    ) -> None:
        named, path = path, None if path is None else Path(os.path.realpath(path))
        self.path = path
        self._version = version
        self._read_timeout = read_timeout
        self.one_connection = path is None
        if read_only and path is not None:
            self.sql = _create_reader(path, read_timeout)
        else:
            self.sql = _create_engine(path, busy_timeout, read_timeout)
        name_failures(self.sql, "memory://" if path is None else f"sqlite:///{path}")
        self._watching: sa.Connection | None = None
        self._watcher = ""
        self._watch_lock = threading.Lock()
        self._files = None if named is None else OpenedFiles(self.sql, named)

    @property
    def is_lost(self) -> bool:
        """Whether its files were removed or replaced, so that what is committed now may be gone with them."""
        return self._files is not None and self._files.are_lost

    def check(self) -> None:
        """Nothing to look at: the first statement tells."""

    def prepare(self, connection: sa.Connection) -> None:
        """Nothing is kept but the collections."""

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Note the version in the file's header, where every writer looks."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def begin(self, connection: sa.Connection, patience: float) -> None:
        """Begin as the one writer, so that what is read cannot change before it is written."""
        self._wait_at_most(connection, patience)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        driver: Any = connection.connection.driver_connection
        [found] = driver.execute(
            "PRAGMA user_version"
        ).fetchone()  # of the page that BEGIN has just read
        if found > self._version:
            raise StoreTooNew(f"the store sqlite:///{self.path}: {OUTDATED}")

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin as a reader."""
        self.begin_read(connection)
        connection.exec_driver_sql("BEGIN")

    def begin_read(self, connection: sa.Connection) -> None:
        """Have the read wait for a lock as long as a read may."""
        self._wait_at_most(connection, self._read_timeout)

    def _wait_at_most(self, connection: sa.Connection, seconds: float) -> None:
        """Set SQLite's busy timeout, unless it is nearly that already: most transactions have not waited for anything."""
        milliseconds = round(seconds * 1000)
        had = connection.info.get("busy_timeout", round(self._read_timeout * 1000))
        if abs(had - milliseconds) > had // 10:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout={milliseconds}").close()
            connection.info["busy_timeout"] = milliseconds

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:  # noqa: ARG002 - a commit is a commit here
        """Commit; there is no doubt about the outcome."""
        connection.commit()

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Nothing to do: there is no other writer."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Nothing to do: there is no other writer."""

    def change_marker(self, connection: sa.Connection) -> str:
        """Ask a connection that never writes: SQLite tells each of what others have committed."""
        driver: Any = connection.connection.driver_connection
        if self.one_connection:
            return str(driver.total_changes)
        with self._watch_lock:
            if self._watching is None:
                self._watching, self._watcher = self.sql.connect(), new_id()
            version = self._watching.exec_driver_sql("PRAGMA data_version").scalar_one()
            return f"{self._watcher} {version}"

    def close(self) -> None:
        """Close every connection that is not in use."""
        with self._watch_lock:
            watching, self._watching = self._watching, None
        if watching is not None:
            watching.close()
        self.sql.dispose()

    def before_fork(self) -> None:
        """Close every connection to a file; what is in memory is inherited as a copy."""
        if self.path is not None:
            self.close()

    def after_fork_in_child(self) -> None:
        """Nothing to do: the child makes connections of its own."""


def _create_engine(path: Path | None, busy_timeout: float, read_timeout: float) -> sa.Engine:
    """An engine for the file at ``path``, made with its folder if missing; None is a database in memory.

    The driver is left in autocommit, so the only transactions are the ones begun in so many words: with its
    implicit ones, a read followed by a write can lose what another process committed between the two.

    Raises
    ------
    StoreError
        When the folder or the file cannot be made.
    """
    arguments: dict[str, Any] = {
        "isolation_level": None,
        "check_same_thread": False,
        "timeout": read_timeout,
    }
    if path is None:
        return sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args=arguments)
    _make(path)
    network = file_system(path) in NETWORK_FILE_SYSTEMS
    if network and not _has_locks(path.parent):
        # SQLite would wait for the lock as long as it may, and then blame another process.
        raise StoreError(
            f"the store {path}: the network file system that it lies on has no locks; "
            "set AxonNotebooks.store_url to a local file"
        )
    if network:
        warnings.warn(
            f"the store {path} lies on a network file system: it works, but slowly, and one process at a time. "
            "Set AxonNotebooks.store_url to a local file",
            RuntimeWarning,
            stacklevel=2,
        )
    engine = sa.create_engine(
        # Never made by a connection: the file may be gone by then, and the next to open the store makes it anew.
        sa.URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"}),
        connect_args=arguments,
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=56,
        pool_timeout=busy_timeout,
    )
    journal = "delete" if network else "wal"

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        try:
            if not connection.execute("PRAGMA page_count").fetchone()[0]:
                # While it is empty: a file that others write to cannot be given the means to shrink in steps.
                connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
            _refuse_others(connection, path)
            make_durable(connection, journal, busy_timeout)
            # Some builds of SQLite write zeros over all they delete. To remove 50 MB then takes half a second.
            connection.execute("PRAGMA secure_delete=FAST")
        except BaseException:
            connection.close()
            raise

    return engine


def _create_reader(path: Path, read_timeout: float) -> sa.Engine:
    """An engine that can only read the file at ``path``, in a place that cannot be written to.

    Raises
    ------
    StoreError
        When there is no such file, or its log can only be read where it can be written.
    """
    if not path.is_file():
        raise StoreError(f"the store {path}: there is no such file")
    _check_regular(path)
    how = {"mode": "ro"}
    log, index = beside(path, "-wal"), beside(path, "-shm")
    if log.exists() and not index.exists():
        raise StoreError(
            f"the store {path}: its log, {log.name}, cannot be read where nothing can be written; "
            "copy both to a folder that can be"
        )
    if not log.exists() and not beside(path, "-journal").exists():
        how = {"immutable": "1"}  # else even a reader would have to make the log
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=path.as_uri(), query={**how, "uri": "true"}),
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": read_timeout},
    )

    @sa.event.listens_for(engine, "connect")
    def _look(connection: sqlite3.Connection, _record: object) -> None:
        try:
            _refuse_others(connection, path)
        except BaseException:
            connection.close()
            raise

    return engine


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    # Before anything is changed: even a log is not everybody's.
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    names = [name for (name,) in connection.execute(tables)]
    if names and not any(name.startswith(("axon_", "axonml_")) for name in names):
        raise StoreError(f"{path} is a database, but not a store of jupyter-axon-notebooks")


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite would delete a log that it finds beside a new or empty file.
        if not path.exists():
            rename_files(path)
        elif _is_empty(path) and not _is_empty(beside(path, "-wal")):
            raise StoreDamaged(
                f"the store {path}: the file is empty, but {path.name}-wal beside it is not; run `jupyter axon doctor`"
            )
        if not path.exists():
            # Created here rather than by SQLite, so that nobody else on the machine can read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        _check_regular(path)
        size = path.stat().st_size
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        raise kind(
            f"the store {path} cannot be made: {error.strerror}: {error.filename}"
        ) from error
    if 0 < size < _SMALLEST_PAGE:
        # SQLite itself would take so short a file for an empty one, and write over it.
        raise StoreDamaged(
            f"the store {path}: the file is not a database; run `jupyter axon doctor`"
        )


def _check_regular(path: Path) -> None:
    try:
        check_files(path)
    except NotRegular as error:
        what = f"the store {error.filename} cannot be opened"
        raise StoreError(f"{what}: {error.strerror}; move it aside") from None


def _has_locks(folder: Path) -> bool:
    """Whether a file in ``folder`` can be locked; tried on one of its own, since closing a file gives up all locks of it."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def make_durable(connection: sqlite3.Connection, journal: str, busy_timeout: float) -> None:
    """Have what is committed be on the disk, with ``journal``, or with the one that there is where it cannot be had."""
    had = _set_journal(connection, journal, busy_timeout)
    # Without a log, the commit is the removal of the journal: EXTRA makes that durable as well.
    connection.execute(f"PRAGMA synchronous={'FULL' if had == 'wal' else 'EXTRA'}")
    connection.execute(
        "PRAGMA fullfsync=ON"
    )  # macOS: otherwise a sync stops at the disk's own cache


def _set_journal(connection: sqlite3.Connection, journal: str, busy_timeout: float) -> str:
    # Switching needs the file to itself, and SQLite does not wait for that however long the busy timeout is.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (had,) = connection.execute("PRAGMA journal_mode").fetchone()
            if had != journal:
                (had,) = connection.execute(f"PRAGMA journal_mode={journal}").fetchone()
            return str(had)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
