"""Connections and transactions: how the store reaches its engine, and what a unit of work is.

A thread that opens a :meth:`Database.transaction` owns one connection until it ends; everything the thread does in
between joins it, nested transactions included. Outside one, each read is a transaction of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from ..errors import StoreBusy, StoreError
from . import sqlite
from .failures import name_failures
from .forks import tell_of_forks
from .presence import OpenFiles

#: Seconds to wait for another writer before giving up.
BUSY_TIMEOUT = 30.0
#: Seconds a fork waits for what other threads have open. Transactions are short; a fork must not hang on one that is not.
FORK_PATIENCE = 1.0

# What a child inherited in the middle of a transaction. Collecting it would close connections that are the parent's.
_abandoned: list[object] = []


class _Work(threading.local):
    """What the current thread has open."""

    connection: sa.Connection | None = None
    writable = False
    writes = 0
    doomed = False


class Database:
    """One database and the current process's engine for it.

    Parameters
    ----------
    url : str
        ``sqlite:///<absolute path>`` or ``memory://``.
    busy_timeout : float
        Seconds to wait for another writer before giving up.
    read_only : bool
        Whether to make and change nothing, so that it can be read where it cannot be written.

    Raises
    ------
    StoreError
        For a URL of another kind, naming the kinds there are; for a folder that cannot be made.
    """

    def __init__(self, url: str, busy_timeout: float = BUSY_TIMEOUT, *, read_only: bool = False) -> None:
        self.url = url
        self._read_only = read_only
        self.path: Path | None = None
        if url.startswith("sqlite:///") and url != "sqlite:///":
            self.path = Path(url.removeprefix("sqlite:///")).absolute()
        elif url != "memory://":
            scheme = url.split(":", 1)[0]
            raise StoreError(
                f"store_url starts with {scheme!r}; expected sqlite:///<path to a file> or memory://"
            )
        self._busy_timeout = busy_timeout
        if read_only and self.path is not None:
            self._engine = sqlite.create_reader(self.path, busy_timeout)
        else:
            self._engine = sqlite.create_engine(self.path, busy_timeout)
        name_failures(self._engine, url)
        self._files = None if self.path is None else OpenFiles(self._engine, self.path)
        self._enter_process()
        tell_of_forks(self)

    def _enter_process(self) -> None:
        self._pid = os.getpid()
        # SQLite admits one writer at a time. Queueing the threads of this process here is fair and quick, where its
        # own waiting is a sleep that grows. A store in memory has a single connection, so readers queue as well.
        self._writers = threading.RLock()
        self._work = _Work()
        self._quiet = threading.Condition()
        self._in_use = 0
        self._forking = False

    @property
    def is_lost(self) -> bool:
        """Whether its files were removed or replaced, so that what is committed now may be gone with them."""
        return self._files is not None and self._files.are_lost

    @property
    def engine(self) -> sa.Engine:
        """The engine of the current process.

        Raises
        ------
        StoreError
            In a child that was forked in the middle of a transaction: SQLite cannot be used there.
        """
        self._check_process()
        return self._engine

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self.url} was in use when this process was forked, so it cannot be used here; "
                "fork outside of transactions"
            )

    def close(self) -> None:
        """Close every connection; what is in a file can be used again afterwards, what is in memory is gone."""
        if os.getpid() == self._pid:
            self._engine.dispose()

    def before_fork(self) -> None:
        """Close every connection, having waited for other threads to be done with theirs."""
        mine = 0 if self._work.connection is None else 1
        with self._quiet:
            self._forking = True
            self._quiet.wait_for(lambda: self._in_use <= mine, FORK_PATIENCE)
        if self._in_use == 0 and self.path is not None:
            self._engine.dispose()

    def after_fork_in_parent(self) -> None:
        """Let connections be opened again."""
        with self._quiet:
            self._forking = False
            self._quiet.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew, unless a connection was inherited in mid-use."""
        if self._in_use == 0:
            self._enter_process()
        else:
            _abandoned.append((self._engine, self._work.connection))

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        with self._quiet:
            self._quiet.wait_for(lambda: not self._forking)
            self._in_use += 1
        try:
            connection = self._connect()
            try:
                yield connection
            finally:
                if os.getpid() == self._pid:  # else it is the parent's
                    connection.close()
        finally:
            if os.getpid() == self._pid:
                with self._quiet:
                    self._in_use -= 1
                    self._quiet.notify_all()

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except sa.exc.TimeoutError as error:
            raise StoreBusy(f"the store {self.url}: no connection became free in time") from error

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A unit of work: all that is written inside is committed together, durably, or not at all.

        Raises
        ------
        StoreBusy
            When other writers kept the database locked for the busy timeout.
        StoreError
            When an inner unit failed after it had written and the outer one tries to commit regardless.
        """
        self._check_process()
        if self._read_only:
            raise StoreError(f"the store {self.url} is only read here")
        work = self._work
        if work.connection is not None:
            with self._joined():
                yield work.connection
            return
        with self._turn(), self._connected() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            work.connection, work.writable, work.writes, work.doomed = connection, True, 0, False
            try:
                yield connection
                self._check_process()
                if work.doomed:
                    raise StoreError("a part of this transaction failed, so none of it can be committed")
                connection.commit()
            except BaseException:
                if os.getpid() == self._pid:
                    connection.rollback()
                raise
            finally:
                work.connection, work.writable = None, False

    @contextmanager
    def _joined(self) -> Iterator[None]:
        work = self._work
        if not work.writable:
            raise StoreError("a snapshot only reads; open the transaction first")
        before = work.writes
        try:
            yield
        except BaseException:
            work.doomed = work.doomed or work.writes > before
            raise

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Several reads that see the database at one and the same moment."""
        self._check_process()
        work = self._work
        if work.connection is not None:
            yield work.connection
            return
        with self._reader(), self._connected() as connection:
            connection.exec_driver_sql("BEGIN")
            work.connection = connection
            try:
                yield connection
            finally:
                work.connection = None
                if os.getpid() == self._pid:
                    connection.rollback()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for one read: the open unit's, or one of its own."""
        self._check_process()
        if self._work.connection is not None:
            yield self._work.connection
            return
        with self._reader(), self._connected() as connection:
            yield connection

    def wrote(self) -> None:
        """Note that the open transaction has sent a change to the engine."""
        self._work.writes += 1

    @contextmanager
    def _turn(self) -> Iterator[None]:
        writers = self._writers
        if not writers.acquire(timeout=self._busy_timeout):
            raise StoreBusy(f"other threads kept the store {self.url} locked for {self._busy_timeout:g} s")
        try:
            yield
        finally:
            writers.release()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        if self.path is not None:
            yield
            return
        with self._turn():
            yield
