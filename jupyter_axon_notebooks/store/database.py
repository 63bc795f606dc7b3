"""Connections and transactions: how the store reaches its engine, and what a unit of work is.

A thread that opens a :meth:`Database.transaction` owns one connection until it ends; everything the thread does in
between joins it, nested transactions included. Outside one, each read is a transaction of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from ..errors import StoreBusy, StoreError
from .engine import Engine
from .error_mapping import Interrupted
from .fork_safety import tell_of_forks
from .schema import SCHEMA_VERSION
from .sqlite.engine import SqliteEngine
from .urls import named_file, shown_url, unknown_kind

#: Seconds to wait for another writer before giving up.
BUSY_TIMEOUT = 30.0
#: Seconds a fork waits for what other threads have open. Transactions are short; a fork must not hang on one that is not.
FORK_PATIENCE = 1.0
#: Seconds between two attempts: the first pause, and the longest.
_PAUSES = (0.01, 0.5)

_T = TypeVar("_T")

# What a child inherited in the middle of a transaction. Collecting it would close connections that are the parent's.
_abandoned: list[object] = []


class _Work(threading.local):
    """What the current thread has open."""

    connection: sa.Connection | None = None
    writable = False
    writes = 0
    doomed = False
    deadline: float | None = None
    busy_timeout: float | None = None


def _engine_for(
    url: str, busy_timeout: float, read_timeout: float, *, version: int, read_only: bool
) -> Engine:
    if url == "memory://":
        return SqliteEngine(None, busy_timeout, read_timeout, version=version)
    if (path := named_file(url)) is not None:
        return SqliteEngine(path, busy_timeout, read_timeout, version=version, read_only=read_only)
    if url.split(":", 1)[0] in ("postgresql", "postgresql+psycopg"):
        from .postgresql.engine import PostgresqlEngine  # its driver is an extra

        return PostgresqlEngine(
            url, busy_timeout, read_timeout, version=version, read_only=read_only
        )
    raise StoreError(unknown_kind(url))


class Database:
    """One database and the current process's engine for it.

    Parameters
    ----------
    url : str
        ``sqlite:///<absolute path>``, ``postgresql+psycopg://<user>@<host>/<database>`` or ``memory://``.
    busy_timeout : float
        Seconds to wait for another writer, or for a server that is being restarted, before giving up.
    read_timeout : float, optional
        Seconds that a read outside of a transaction waits for them; by default as long.
    version : int
        The schema version that is written here.
    read_only : bool
        Whether to make and change nothing, so that a store can be read where it cannot be written.

    Raises
    ------
    StoreError
        For a URL of another kind, naming the kinds there are; for a folder that cannot be made; for a server that
        cannot be reached.
    """

    def __init__(
        self,
        url: str,
        busy_timeout: float = BUSY_TIMEOUT,
        read_timeout: float | None = None,
        *,
        version: int = SCHEMA_VERSION,
        read_only: bool = False,
    ) -> None:
        self.url = shown_url(url)
        self._read_only = read_only
        self._busy_timeout = busy_timeout
        self._read_timeout = (
            busy_timeout if read_timeout is None else min(read_timeout, busy_timeout)
        )
        self._engine = _engine_for(
            url, busy_timeout, self._read_timeout, version=version, read_only=read_only
        )
        self._enter_process()
        try:
            self._engine.check()
        except BaseException:
            self._engine.sql.dispose()
            raise
        tell_of_forks(self)

    def _enter_process(self) -> None:
        self._pid = os.getpid()
        self._writers = threading.RLock()
        self._work = _Work()
        self._quiet = threading.Condition()
        self._in_use = 0
        self._forking = False

    @property
    def is_lost(self) -> bool:
        """Whether what is committed from now on may be lost: with files that were removed or replaced."""
        return self._engine.is_lost

    @property
    def locks_rows(self) -> bool:
        """Whether writers meet at rows; otherwise a transaction has the whole database to itself."""
        return not self._engine.one_writer

    @property
    def narrows_first(self) -> bool:
        """Whether the rows that a clause admits are better narrowed down before they are put in order."""
        return self._engine.narrows_first

    @property
    def engine(self) -> sa.Engine:
        """The engine of the current process.

        Raises
        ------
        StoreError
            In a child that was forked in the middle of a transaction: the store cannot be used there.
        """
        self._check_process()
        return self._engine.sql

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self.url} was in use when this process was forked, so it cannot be used here; "
                "fork outside of transactions"
            )

    def close(self) -> None:
        """Close every connection; what is in a file can be used again afterwards, what is in memory is gone."""
        if os.getpid() == self._pid:
            self._engine.close()

    def change_marker(self) -> str:
        """Return a text that stays the same until something is committed, by whomever; none comes again."""

        def once() -> str:
            with self.reading() as connection:
                return self._engine.change_marker(connection)

        return self.attempt(once, reads=True)

    def before_fork(self) -> None:
        """Close what the child must not inherit, having waited for other threads to be done with theirs."""
        if self._engine.survives_forks:
            return
        mine = 0 if self._work.connection is None else 1
        with self._quiet:
            self._forking = True
            self._quiet.wait_for(lambda: self._in_use <= mine, FORK_PATIENCE)
        if self._in_use == 0:
            self._engine.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let connections be opened again."""
        with self._quiet:
            self._forking = False
            self._quiet.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew, unless a connection was inherited in mid-use."""
        inherited = self._work.connection
        if inherited is None and (self._in_use == 0 or self._engine.survives_forks):
            self._engine.after_fork_in_child()
            self._enter_process()
        else:
            _abandoned.append((self._engine.sql, inherited))

    @contextmanager
    def waiting_at_most(self, seconds: float) -> Iterator[None]:
        """Let the units of work that this thread opens wait for other writers for at most ``seconds``."""
        work = self._work
        outer, work.busy_timeout = work.busy_timeout, seconds
        try:
            yield
        finally:
            work.busy_timeout = outer

    @property
    def _wait_limit(self) -> float:
        given = self._work.busy_timeout
        return self._busy_timeout if given is None else min(given, self._busy_timeout)

    def attempt(self, work: Callable[[], _T], *, reads: bool = False) -> _T:
        """What ``work`` gives, done again from its start when the database breaks it off.

        For as long as another writer would be waited for: a deadlock, a lost connection and a restart of the server
        are got over. Within a unit of work it is done once, since only the whole unit can be done again. ``work`` must
        not have committed anything when it fails. ``reads``: it only reads, for which less patience may be configured.
        """
        state = self._work
        if state.connection is not None:
            return work()
        outer = state.deadline
        patience = min(self._wait_limit, self._read_timeout) if reads else self._wait_limit
        state.deadline = deadline = outer or time.monotonic() + patience
        pause, longest = _PAUSES
        try:
            while True:
                try:
                    return work()
                except Interrupted:
                    wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - so that two do not meet again
                    if time.monotonic() + wait > deadline:
                        raise
                    time.sleep(wait)
                    pause = min(2 * pause, longest)
        finally:
            state.deadline = outer

    @contextmanager
    def _connected(
        self, begin: Callable[[sa.Connection], None], *, reads: bool = False
    ) -> Iterator[sa.Connection]:
        with self._quiet:
            self._quiet.wait_for(lambda: not self._forking)
            self._in_use += 1
        try:
            connection = self.attempt(lambda: self._connect(begin), reads=reads)
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

    def _connect(self, begin: Callable[[sa.Connection], None]) -> sa.Connection:
        try:
            connection = self._engine.sql.connect()
        except sa.exc.TimeoutError as error:
            raise StoreBusy(f"the store {self.url}: no connection became free in time") from error
        try:
            begin(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A unit of work: all that is written inside is committed together, durably, or not at all.

        Raises
        ------
        StoreBusy
            When other writers kept the database locked for the busy timeout; as :class:`.failures.Interrupted` when
            the database broke the unit off, which :meth:`attempt` gets over.
        StoreTooNew
            When a newer version of this package has migrated the store since it was opened.
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
        with (
            self._turn(self._wait_limit) as left,
            self._connected(lambda c: self._engine.begin(c, left)) as connection,
        ):
            work.connection, work.writable, work.writes, work.doomed = connection, True, 0, False
            try:
                yield connection
                self._check_process()
                if work.doomed:
                    raise StoreError(
                        "a part of this transaction failed, so none of it can be committed"
                    )
                self._engine.commit(connection, wrote=work.writes > 0)
            except BaseException:
                self._roll_back(connection)
                raise
            finally:
                work.connection, work.writable = None, False

    def _roll_back(self, connection: sa.Connection) -> None:
        if os.getpid() == self._pid:
            with contextlib.suppress(Interrupted):  # the server has done it
                connection.rollback()

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
        with self._reader(), self._connected(self._engine.begin_snapshot, reads=True) as connection:
            work.connection = connection
            try:
                yield connection
            finally:
                work.connection = None
                self._roll_back(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for one read: the open unit's, or one of its own."""
        self._check_process()
        if self._work.connection is not None:
            yield self._work.connection
            return
        with self._reader(), self._connected(self._engine.begin_read, reads=True) as connection:
            yield connection

    def prepare(self) -> None:
        """Make what the engine itself keeps in the store; one process at a time gets to do so."""
        with self.transaction() as connection:
            self._engine.lock(connection, "schema")
            self._engine.prepare(connection)

    def outdate(self, version: int) -> None:
        """Have those who know the schema only before ``version`` write no more; see :meth:`.engine.Engine.outdate`."""
        with self.transaction() as connection:
            self._engine.outdate(connection, version)

    def lock(self, name: str) -> None:
        """Keep ``name``, which stands for something that has no row yet, from others until the transaction ends."""
        with self.transaction() as connection:
            self._engine.lock(connection, name)

    def lock_table(self, table: sa.Table) -> None:
        """Keep a whole table from other writers until the transaction ends."""
        with self.transaction() as connection:
            self._engine.lock_table(connection, table)

    def wrote(self) -> None:
        """Note that the open transaction has sent a change to the engine."""
        self._work.writes += 1

    @contextmanager
    def _turn(self, patience: float) -> Iterator[float]:
        """Wait for the other threads that write; what is left of ``patience`` then."""
        if not self._engine.one_writer:
            yield patience
            return
        writers, ends = self._writers, time.monotonic() + patience
        if not writers.acquire(timeout=patience):
            raise StoreBusy(f"other threads kept the store {self.url} locked for {patience:g} s")
        try:
            yield max(0.0, ends - time.monotonic())
        finally:
            writers.release()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        if not self._engine.one_connection:
            yield
            return
        with self._turn(self._read_timeout):
            yield
