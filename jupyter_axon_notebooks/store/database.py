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
from .failures import named_failures

#: Seconds to wait for another writer before giving up.
BUSY_TIMEOUT = 30.0


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

    Raises
    ------
    StoreError
        For a URL of another kind, naming the kinds there are.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path: Path | None = None
        if url.startswith("sqlite:///") and url != "sqlite:///":
            self.path = Path(url.removeprefix("sqlite:///"))
        elif url != "memory://":
            scheme = url.split(":", 1)[0]
            raise StoreError(
                f"store_url starts with {scheme!r}; expected sqlite:///<path to a file> or memory://"
            )
        self._work = _Work()
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._engine = sqlite.create_engine(self.path, BUSY_TIMEOUT)
        # SQLite admits one writer at a time. Queueing the threads of this process here is fair and quick, where its
        # own waiting is a sleep that grows. A store in memory has a single connection, so readers queue as well.
        self._writers = threading.RLock()
        self._work = _Work()

    @property
    def engine(self) -> sa.Engine:
        """The engine of the current process; a forked child gets one of its own."""
        if os.getpid() != self._pid:
            # The parent's connections must not be closed from here: closing would drop its locks.
            self._engine.dispose(close=False)
            self._start()
        return self._engine

    def close(self) -> None:
        """Close every connection; the database can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A unit of work: all that is written inside is committed together, durably, or not at all.

        Raises
        ------
        StoreBusy
            When other writers kept the database locked for :data:`BUSY_TIMEOUT` seconds.
        StoreError
            When an inner unit failed after it had written and the outer one tries to commit regardless.
        """
        engine = self.engine
        work = self._work
        if work.connection is not None:
            with self._joined():
                yield work.connection
            return
        with self._turn(), named_failures(self.url), engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            work.connection, work.writable, work.writes, work.doomed = connection, True, 0, False
            try:
                yield connection
                if work.doomed:
                    raise StoreError("a part of this transaction failed, so none of it can be committed")
                connection.commit()
            except BaseException:
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
        engine = self.engine
        work = self._work
        if work.connection is not None:
            yield work.connection
            return
        with self._reader(), named_failures(self.url), engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            work.connection = connection
            try:
                yield connection
            finally:
                work.connection = None
                connection.rollback()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for one read: the open unit's, or one of its own."""
        engine = self.engine
        if self._work.connection is not None:
            yield self._work.connection
            return
        with self._reader(), named_failures(self.url), engine.connect() as connection:
            yield connection

    def wrote(self) -> None:
        """Note that the open transaction has sent a change to the engine."""
        self._work.writes += 1

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._writers.acquire(timeout=BUSY_TIMEOUT):
            raise StoreBusy(f"other threads kept the store locked for {BUSY_TIMEOUT:.0f} s")
        try:
            yield
        finally:
            self._writers.release()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        if self.path is not None:
            yield
            return
        with self._turn():
            yield
