"""The SQLite engine: stores in one file, with one writer and many readers at a time."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ...atomic_files import locked_folder
from ...errors import NoSpace, StoreDamaged, StoreError, StoreTooNew
from ...records import new_id
from ...userfiles import NotRegular
from ..engine import Engine
from ..error_mapping import OUTDATED, map_errors
from .error_mapping import translate_error
from .files import (
    INCREMENTAL,
    NETWORK_FILE_SYSTEMS,
    OpenedFiles,
    beside,
    check_files,
    file_system,
    read_only_uri,
    rename_files,
    size,
)
from .forks import check_usable, forbid

#: Bytes of the smallest possible database.
_SMALLEST_PAGE = 512
#: Bytes to which a longer log is truncated when it is reused.
_LONG_LOG = 16 * 1024 * 1024
#: Seconds to wait for other processes that create a store in the same folder.
_LOCK_TIMEOUT = 10.0


class SqliteEngine(Engine):
    """The engine for SQLite.

    The parameters are those of :class:`.database.Database`, and the path of the file or of a link
    to it. A missing file is created with its folder. Without a path the database is in memory.
    """

    on_server = False

    def __init__(
        self,
        path: Path | None,
        busy_timeout: float,
        read_timeout: float,
        *,
        version: int,
        read_only: bool = False,
    ) -> None:
        self.path = real = None if path is None else Path(os.path.realpath(path))
        self._version = version
        self._read_timeout = read_timeout
        self.one_connection = path is None
        if real is None:
            self.sql = sa.create_engine(
                "sqlite://", poolclass=sa.StaticPool, connect_args=_connect_arguments(read_timeout)
            )
        elif read_only:
            self.sql = _create_reader(real, read_timeout)
        else:
            self.sql = _create_engine(real, busy_timeout, read_timeout)
        name = "memory://" if real is None else f"sqlite:///{real}"
        map_errors(self.sql, lambda error, _: translate_error(name, real, error))
        self._marker_connection: sa.Connection | None = None
        self._marker_id = ""
        self._marker_lock = threading.Lock()
        self._files = None if path is None else OpenedFiles(self.sql, path)

    @property
    def is_lost(self) -> bool:
        """True if the files were removed or replaced, so that commits would be lost."""
        return self._files is not None and self._files.are_lost

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Write the version to the header of the file, which every writer reads."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def begin(self, connection: sa.Connection, timeout: float) -> None:
        """Begin as the only writer, so that data that was read cannot change before the commit."""
        self._set_timeout(connection, timeout)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        driver: Any = connection.connection.driver_connection
        [version] = driver.execute("PRAGMA user_version").fetchone()
        if version > self._version:
            raise StoreTooNew(f"the store sqlite:///{self.path}: {OUTDATED}")

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin as a reader."""
        self.begin_read(connection)
        connection.exec_driver_sql("BEGIN")

    def begin_read(self, connection: sa.Connection) -> None:
        """Set the read timeout."""
        self._set_timeout(connection, self._read_timeout)

    def _set_timeout(self, connection: sa.Connection, seconds: float) -> None:
        """Set SQLite's busy timeout if it differs by more than a tenth: each change takes time."""
        milliseconds = round(seconds * 1000)
        current = connection.info.get("busy_timeout", round(self._read_timeout * 1000))
        if abs(current - milliseconds) > current // 10:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout={milliseconds}").close()
            connection.info["busy_timeout"] = milliseconds

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:  # noqa: ARG002
        """Commit."""
        connection.commit()

    def change_marker(self, connection: sa.Connection) -> str:
        """Return the data version of a connection that never writes."""
        driver: Any = connection.connection.driver_connection
        if self.one_connection:
            return str(driver.total_changes)
        with self._marker_lock:
            if self._marker_connection is None:
                self._marker_connection, self._marker_id = self.sql.connect(), new_id()
            version = self._marker_connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            return f"{self._marker_id} {version}"

    def close(self) -> None:
        """Close every connection that is not in use."""
        with self._marker_lock:
            connection, self._marker_connection = self._marker_connection, None
        if connection is not None:
            connection.close()
        self.sql.dispose()

    def before_fork(self) -> None:
        """Close every connection to a file. A database in memory is inherited as a copy."""
        if self.path is not None:
            self.close()

    def forbid_use(self) -> None:
        """Let this child process use the file no more."""
        if self.path is not None:
            forbid(self.path)


def _create_engine(path: Path, busy_timeout: float, read_timeout: float) -> sa.Engine:
    """Create an engine for the file at ``path``, and the file if it is missing.

    The driver is in autocommit mode. With its implicit transactions, a read that is followed by a
    write could lose what another process committed in between. Raises StoreError if the folder or
    the file cannot be created.
    """
    _create_file(path)
    is_network = file_system(path) in NETWORK_FILE_SYSTEMS
    if is_network and not _has_locks(path.parent):
        # SQLite would wait for the lock, and then report that another process has it.
        raise StoreError(
            f"the store {path} is on a network file system without locks; "
            "set AxonNotebooks.store_url to a local file"
        )
    if is_network:
        warnings.warn(
            f"the store {path} is on a network file system, where it is slow and only one process "
            "can use it at a time. Set AxonNotebooks.store_url to a local file",
            RuntimeWarning,
            stacklevel=2,
        )
    engine = sa.create_engine(
        # mode=rw does not create the file: if it was removed, the store has to be opened again.
        sa.URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"}),
        connect_args=_connect_arguments(read_timeout),
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=56,
        pool_timeout=busy_timeout,
    )
    journal = "delete" if is_network else "wal"

    def prepare(connection: sqlite3.Connection) -> None:
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            # This can only be set while the file is empty.
            connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
        _check_owner(connection, path)
        mode = _set_journal(connection, journal, busy_timeout)
        # Without a log, the removal of the journal is the commit, which EXTRA makes durable.
        connection.execute(f"PRAGMA synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: flush the cache of the disk, too
        # Some builds overwrite deleted data by default, which takes 0.5 s for 50 MB.
        connection.execute("PRAGMA secure_delete=FAST")
        # Otherwise the log stays as long as it has become while a reader was active.
        connection.execute(f"PRAGMA journal_size_limit={_LONG_LOG}")

    _on_connect(engine, path, prepare)
    return engine


def _create_reader(path: Path, read_timeout: float) -> sa.Engine:
    """Create an engine that only reads the file at ``path``, which may not be writable.

    Raises StoreError if there is no such file, or its log cannot be read without writing to the
    folder.
    """
    if not path.exists():
        raise StoreError(f"the store {path}: there is no such file")
    _check_regular(path)
    log, index = beside(path, "-wal"), beside(path, "-shm")
    if log.exists() and not index.exists():
        raise StoreError(
            f"the store {path}: its log, {log.name}, cannot be read where nothing can be written; "
            "copy both to a writable folder"
        )
    engine = sa.create_engine(
        f"sqlite:///{read_only_uri(path)}&uri=true",
        connect_args=_connect_arguments(read_timeout),
    )
    _on_connect(engine, path, lambda connection: _check_owner(connection, path))
    return engine


def _connect_arguments(timeout: float) -> dict[str, Any]:
    return {"isolation_level": None, "check_same_thread": False, "timeout": timeout}


def _on_connect(
    engine: sa.Engine, path: Path, prepare: Callable[[sqlite3.Connection], None]
) -> None:
    @sa.event.listens_for(engine, "do_connect")
    def _check(*_: object) -> None:
        check_usable(path)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Reject databases of other applications, before anything in them is changed."""
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    names = [name for (name,) in connection.execute(tables)]
    if names and not any(name.startswith(("axon_", "axonml_")) for name in names):
        raise StoreError(f"{path} is a database, but not a store of jupyter-axon-notebooks")


def _create_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create_empty(path)
        elif not size(path) and size(beside(path, "-wal")):  # which SQLite would delete
            raise StoreDamaged(
                f"the store {path}: the file is empty, but {path.name}-wal beside it is not; "
                "run `jupyter axon doctor`"
            )
        _check_regular(path)
        length = path.stat().st_size
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        raise kind(
            f"the store {path} cannot be created: {error.strerror}: {error.filename}"
        ) from error
    if 0 < length < _SMALLEST_PAGE:  # SQLite would overwrite the file
        raise StoreDamaged(
            f"the store {path}: the file is not a database; run `jupyter axon doctor`"
        )


def _create_empty(path: Path) -> None:
    """Create the file, unless another process has; move logs of a deleted store out of the way.

    SQLite would delete such a log. The folder is locked meanwhile, so that the log of another
    process that has just created the file is not moved.
    """
    with locked_folder(path.parent, _LOCK_TIMEOUT):
        if not path.exists():
            rename_files(path)
            # Not by SQLite, so that other users cannot read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _check_regular(path: Path) -> None:
    try:
        check_files(path)
    except NotRegular as error:
        raise StoreError(
            f"the store {error.filename} cannot be opened: {error.strerror}; move it aside"
        ) from None


def _has_locks(folder: Path) -> bool:
    """Return whether files in ``folder`` can be locked.

    This uses a temporary file, since closing the database file would release its locks.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def _set_journal(connection: sqlite3.Connection, journal: str, busy_timeout: float) -> str:
    """Set the journal mode if the file system supports it; return the mode."""
    # Switching needs exclusive access, and SQLite does not apply its busy timeout to it.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != journal:
                (mode,) = connection.execute(f"PRAGMA journal_mode={journal}").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
