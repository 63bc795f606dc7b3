"""The base class of database engines."""

from __future__ import annotations

import sqlalchemy as sa


class Engine:
    """A database, and how this process connects to it; optional steps do nothing by default.

    The driver is in autocommit mode; transactions are begun explicitly.

    Attributes
    ----------
    sql : sqlalchemy.Engine
        Creates the connections.
    on_server : bool
        Whether the database is on a server: it admits many writers, which lock rows, and its
        connections may be in use while the process forks. Otherwise there is one writer at a time,
        and the writers of this process queue before they reach the database.
    one_connection : bool
        Whether there is a single connection, for which readers queue as well.
    """

    sql: sa.Engine
    on_server: bool
    one_connection: bool

    @property
    def is_lost(self) -> bool:
        """True if the database was removed or replaced, so that commits would be lost."""
        return False

    def check(self) -> None:
        """Raise StoreError if the database cannot be used."""

    def prepare(self, connection: sa.Connection) -> None:
        """Create the engine's own tables if they are missing; called in a transaction."""

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Reject writers that use a schema before ``version`` once this transaction commits.

        Processes that had the store open during the migration would omit new columns.
        """
        raise NotImplementedError

    def begin(self, connection: sa.Connection, timeout: float) -> None:
        """Begin a transaction that waits for other writers for at most ``timeout`` seconds."""
        raise NotImplementedError

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin a read-only transaction in which all reads see the same state."""
        raise NotImplementedError

    def begin_read(self, connection: sa.Connection) -> None:
        """Prepare for a single read."""

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:
        """Commit durably; ``wrote`` tells whether the transaction changed anything.

        Raises
        ------
        Interrupted
            When nothing was stored.
        StoreTooNew
            When this process is outdated; :meth:`begin` may raise it as well.
        """
        raise NotImplementedError

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Lock ``name``, which stands for a row that does not exist yet, for the transaction."""

    def change_marker(self, connection: sa.Connection) -> str:
        """Return a text that changes with every commit of any process and is never reused."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.sql.dispose()

    def before_fork(self) -> None:
        """Close what a child process must not inherit."""

    def after_fork_in_child(self) -> None:
        """Prepare for new connections, without closing those of the parent."""

    def forbid_use(self) -> None:
        """Let this child process use the database no more: it was in use at the fork."""
