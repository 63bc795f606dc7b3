"""Connections, transactions and retries.

A thread that opens :meth:`Database.transaction` owns a connection until the transaction ends. All
operations of the thread in between, nested transactions included, are part of that transaction.
Otherwise each read is a transaction of its own.

SQLite does not support forking while a database is open. The child inherits SQLite's record of the
locks that its process holds, but not the locks. The parent may then remove the log that the child
writes to, and the child's commits are lost. So every connection is closed before a fork, and parent
and child open their own afterwards. If one is in use for longer than a fork waits, the child cannot
use the file (:mod:`.sqlite.forks`).
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar

import sqlalchemy as sa

from ..errors import StoreBusy, StoreError
from .engine import Engine
from .error_mapping import Interrupted
from .schema import SCHEMA_VERSION
from .sqlite.engine import SqliteEngine
from .urls import named_file, shown_url, unsupported_url

#: Seconds to wait for another writer.
BUSY_TIMEOUT = 30.0
#: Seconds that a fork waits for the open transactions of other threads.
FORK_TIMEOUT = 1.0
#: Seconds between two attempts: the first and the longest pause.
_PAUSES = (0.01, 0.5)

_T = TypeVar("_T")

# Objects that a child inherited in the middle of a transaction. They are kept, since their
# finalizers would close connections of the parent.
_inherited: list[object] = []


class _ThreadState(threading.local):
    """The open transaction of the current thread, and its limits."""

    uses = 0  # of the database, which may be nested
    connection: sa.Connection | None = None
    writable = False
    writes = 0
    must_roll_back = False
    deadline: float | None = None
    busy_timeout: float | None = None


def _create_engine(
    url: str, busy_timeout: float, read_timeout: float, *, version: int, read_only: bool
) -> Engine:
    if url == "memory://":
        return SqliteEngine(None, busy_timeout, read_timeout, version=version)
    if (path := named_file(url)) is not None:
        return SqliteEngine(path, busy_timeout, read_timeout, version=version, read_only=read_only)
    if url.split(":", 1)[0] in ("postgresql", "postgresql+psycopg"):
        from .postgresql.engine import PostgresqlEngine  # its driver is optional

        return PostgresqlEngine(
            url, busy_timeout, read_timeout, version=version, read_only=read_only
        )
    raise StoreError(unsupported_url(url))


class Database:
    """The connections of the current process to a database.

    It can be used from any number of threads. A forked child can use its copy, unless the process
    was forked in the middle of a transaction.

    Parameters
    ----------
    url : str
        ``sqlite:///<path>``, ``postgresql+psycopg://<user>@<host>/<database>`` or ``memory://``.
    busy_timeout : float
        Seconds to wait for another writer, or for a server that restarts.
    read_timeout : float, optional
        Seconds that a read outside of a transaction waits; ``busy_timeout`` by default.
    version : int
        The schema version that this process writes.
    read_only : bool
        Whether to change nothing, for stores that cannot be written to.

    Raises
    ------
    StoreError
        For a URL of an unsupported kind, a folder that cannot be created, and a server that cannot
        be reached.
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
        self.url = url
        self._name = shown_url(url)
        self._read_only = read_only
        self._busy_timeout = busy_timeout
        self._read_timeout = (
            busy_timeout if read_timeout is None else min(read_timeout, busy_timeout)
        )
        self._engine = _create_engine(
            url, busy_timeout, self._read_timeout, version=version, read_only=read_only
        )
        self._reset()
        with _fork_lock:  # a fork waits only for databases that it knows
            _databases.add(self)
        try:
            self._engine.check()
        except BaseException:
            _databases.discard(self)
            self._engine.sql.dispose()
            raise

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._writers = threading.RLock()
        self._work = _ThreadState()
        self._quiet = threading.Condition()
        self._in_use = 0
        self._forking = False
        self._is_prepared = False  # for a fork that has begun

    @property
    def is_lost(self) -> bool:
        """True if the files were removed or replaced, so that commits may be lost."""
        return self._engine.is_lost

    def __str__(self) -> str:
        """Return the URL without secrets."""
        return self._name

    @property
    def on_server(self) -> bool:
        """True if writers lock rows; otherwise a transaction excludes all other writers."""
        return self._engine.on_server

    @property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine of the current process.

        Raises
        ------
        StoreError
            In a child that was forked in the middle of a transaction.
        """
        self._check_process()
        return self._engine.sql

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self} was in use when this process was forked, so it cannot be "
                "used here; fork outside of transactions"
            )

    def close(self) -> None:
        """Close all connections. A store in a file can be used again; one in memory is gone."""
        if os.getpid() == self._pid:
            with self._use():
                self._engine.close()

    def change_marker(self) -> str:
        """Return a text that changes with every commit of any process and is never reused.

        Get it before reading: while it stays the same, the result of the read is up to date. It
        costs one short statement.
        """
        return self.read(self._engine.change_marker)

    # Forks.

    def before_fork(self, end: float) -> None:
        """Wait for other threads until a time, then close what the child must not inherit."""
        if self._engine.on_server or self._pid != os.getpid():
            return
        with self._quiet:
            self._forking = True
            self._quiet.wait_for(
                lambda: self._in_use <= self._work.uses, max(0.0, end - time.monotonic())
            )
        if self._in_use == 0:
            self._engine.before_fork()
            self._is_prepared = True

    def after_fork_in_parent(self) -> None:
        """Allow new connections again."""
        with self._quiet:
            self._forking = self._is_prepared = False
            self._quiet.notify_all()

    def after_fork_in_child(self) -> None:
        """Prepare for new connections, unless one may have been inherited while it was in use."""
        connection = self._work.connection
        if connection is None and (self._is_prepared or self._engine.on_server):
            self._engine.after_fork_in_child()
            self._reset()
        else:
            _inherited.append((self._engine.sql, connection))
            self._engine.forbid_use()

    # Retries.

    @contextmanager
    def limit_wait(self, seconds: float) -> Iterator[None]:
        """Limit how long this thread's transactions wait for other writers."""
        work = self._work
        outer, work.busy_timeout = work.busy_timeout, seconds
        try:
            yield
        finally:
            work.busy_timeout = outer

    @property
    def _wait_limit(self) -> float:
        limit = self._work.busy_timeout
        return self._busy_timeout if limit is None else min(limit, self._busy_timeout)

    def retry(self, work: Callable[[], _T], *, reads: bool = False) -> _T:
        """Return the result of ``work``, a transaction that is retried when it is aborted.

        Reasons are deadlocks, lost connections and restarts of the server. The time limit is that
        of waiting for other writers or, if ``work`` only ``reads``, for a read. ``work`` ends with
        its commit, and its other effects must be safe to repeat. Inside a transaction it runs once,
        since only the whole transaction can be retried.
        """
        state = self._work
        if state.connection is not None:
            return work()
        outer = state.deadline
        limit = min(self._wait_limit, self._read_timeout) if reads else self._wait_limit
        state.deadline = deadline = outer or time.monotonic() + limit
        pause, longest = _PAUSES
        try:
            while True:
                try:
                    return work()
                except Interrupted:
                    # A random pause, so that two transactions do not collide again.
                    wait = pause * random.uniform(0.5, 1.5)  # noqa: S311
                    if time.monotonic() + wait > deadline:
                        raise
                    time.sleep(wait)
                    pause = min(2 * pause, longest)
        finally:
            state.deadline = outer

    # Transactions.

    @contextmanager
    def _connected(
        self, begin: Callable[[sa.Connection], None], *, reads: bool = False
    ) -> Iterator[sa.Connection]:
        with self._use():
            connection = self.retry(lambda: self._connect(begin), reads=reads)
            try:
                yield connection
            finally:
                if os.getpid() == self._pid:  # otherwise it belongs to the parent
                    connection.close()

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Let forks wait until the end of the block; wait for one that has begun.

        A fork may wait for this thread already, or a signal handler may have interrupted its wait.
        """
        work = self._work
        with self._quiet:
            if not work.uses and _forking_thread != threading.get_ident():
                self._quiet.wait_for(lambda: not self._forking)
            self._is_prepared = False
            self._in_use += 1
            work.uses += 1
        try:
            yield
        finally:
            work.uses -= 1
            if os.getpid() == self._pid:
                with self._quiet:
                    self._in_use -= 1
                    self._quiet.notify_all()

    def _connect(self, begin: Callable[[sa.Connection], None]) -> sa.Connection:
        try:
            connection = self._engine.sql.connect()
        except sa.exc.TimeoutError as error:
            raise StoreBusy(
                f"the store {self}: timed out waiting for a free connection; try again"
            ) from error
        try:
            begin(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Open a transaction, whose writes are committed durably and together, or not at all.

        Other writers may be active. Read a document that a decision depends on with
        :meth:`.DocumentTable.get_for_update`, or lock the record that it belongs to.

        Raises
        ------
        StoreBusy
            When other writers locked the database for the busy timeout; :class:`Interrupted`, a
            subclass, when the database aborted the transaction, so that :meth:`retry` repeats it.
        StoreTooNew
            When a newer version of this package has migrated the store since it was opened.
        StoreError
            When a nested transaction failed after it had written and the outer one commits.
        """
        self._check_process()
        if self._read_only:
            raise StoreError(f"the store {self} was opened read-only")
        work = self._work
        if work.connection is not None:
            with self._join():
                yield work.connection
            return
        with (
            self._thread_lock(self._wait_limit) as left,
            self._connected(lambda c: self._engine.begin(c, left)) as connection,
        ):
            work.connection, work.writable = connection, True
            work.writes, work.must_roll_back = 0, False
            try:
                yield connection
                self._check_process()
                if work.must_roll_back:
                    raise StoreError("a part of this transaction failed, so it cannot be committed")
                self._engine.commit(connection, wrote=work.writes > 0)
            except BaseException:
                self._roll_back(connection)
                raise
            finally:
                work.connection, work.writable = None, False

    def _roll_back(self, connection: sa.Connection) -> None:
        if os.getpid() == self._pid:
            with suppress(Interrupted):  # then the server has rolled back
                connection.rollback()

    @contextmanager
    def _join(self) -> Iterator[None]:
        work = self._work
        if not work.writable:
            raise StoreError("a snapshot is read-only; open the transaction first")
        before = work.writes
        try:
            yield
        except BaseException:
            work.must_roll_back = work.must_roll_back or work.writes > before
            raise

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Open a read-only transaction in which all reads see the same state."""
        work = self._work
        with self._reading(self._engine.begin_snapshot) as connection:
            if work.connection is not None:
                yield connection
                return
            work.connection = connection
            try:
                yield connection
            finally:
                work.connection = None
                self._roll_back(connection)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Open a connection for one read: that of the open transaction, if there is one."""
        return self._reading(self._engine.begin_read)

    @contextmanager
    def _reading(self, begin: Callable[[sa.Connection], None]) -> Iterator[sa.Connection]:
        self._check_process()
        if self._work.connection is not None:
            yield self._work.connection
            return
        # Readers queue for a single connection.
        one_connection = self._engine.one_connection
        with (
            self._thread_lock(self._read_timeout) if one_connection else nullcontext(),
            self._connected(begin, reads=True) as connection,
        ):
            yield connection

    def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Return the result of ``work``, which reads; retried when the database aborts it."""

        def once() -> _T:
            with self.reading() as connection:
                return work(connection)

        return self.retry(once, reads=True)

    def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Return the result of ``work`` in a transaction; retried when the database aborts it."""

        def once() -> _T:
            with self.transaction() as connection:
                return work(connection)

        return self.retry(once)

    def prepare(self) -> None:
        """Create the engine's own tables; only one process at a time does so."""
        with self.transaction() as connection:
            self._engine.lock(connection, "schema")
            self._engine.prepare(connection)

    def outdate(self, version: int) -> None:
        """Reject writers that use a schema before ``version``."""
        with self.transaction() as connection:
            self._engine.outdate(connection, version)

    def lock(self, name: str) -> None:
        """Lock ``name``, which stands for a row that does not exist yet, for the transaction."""
        with self.transaction() as connection:
            self._engine.lock(connection, name)

    def mark_written(self) -> None:
        """Record that the open transaction has changed something."""
        self._work.writes += 1

    @contextmanager
    def _thread_lock(self, timeout: float) -> Iterator[float]:
        """Exclude other writing threads, where needed; yield the rest of ``timeout``."""
        if self._engine.on_server:
            yield timeout
            return
        writers, ends = self._writers, time.monotonic() + timeout
        if not writers.acquire(timeout=timeout):
            raise StoreBusy(
                f"the store {self} is locked by other threads of this process (waited "
                f"{timeout:g} s); try again"
            )
        try:
            yield max(0.0, ends - time.monotonic())
        finally:
            writers.release()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_forking_thread: int | None = None
_fork_lock = threading.RLock()  # signal handlers may open databases


def _before_fork() -> None:
    global _forking_thread
    _fork_lock.acquire()
    _forking_thread = threading.get_ident()
    end = time.monotonic() + FORK_TIMEOUT
    interrupt = None
    for database in list(_databases):
        try:
            database.before_fork(end)
        except BaseException as error:  # noqa: BLE001 - raised below; the others are prepared, too
            interrupt = error
    if interrupt is not None:
        raise interrupt  # Python reports it, and forks


def _after_fork_in_parent() -> None:
    global _forking_thread
    for database in list(_databases):
        database.after_fork_in_parent()
    _forking_thread = None
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock, _forking_thread
    _fork_lock, _forking_thread = threading.RLock(), None
    for database in list(_databases):
        database.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
