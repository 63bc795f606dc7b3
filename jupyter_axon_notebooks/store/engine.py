"""What differs between engines, and nothing else: the seam behind :class:`~.database.Database`."""

from __future__ import annotations

from typing import Protocol

import sqlalchemy as sa


class Engine(Protocol):
    """One database as one process reaches it. Its driver is in autocommit: what is to be one unit is begun in words.

    Attributes
    ----------
    sql : sqlalchemy.Engine
        Makes the connections.
    one_writer : bool
        Whether the database admits one writer at a time. Then the writers of this process queue up before they reach
        it, which is fair and quick, and no row has to be locked.
    one_connection : bool
        Whether there is a single connection, for which readers queue up as well.
    narrows_first : bool
        Whether what a clause admits is better found before it is put in order. For a page in the order of insertion, a
        planner that goes by estimates may walk the table in that order, hoping that the page is soon full.
    survives_forks : bool
        Whether connections may be open, and in use, while the process forks.
    """

    sql: sa.Engine
    one_writer: bool
    one_connection: bool
    narrows_first: bool
    survives_forks: bool

    @property
    def is_lost(self) -> bool:
        """Whether what is committed from now on would be lost."""

    def check(self) -> None:
        """Look whether the database can be used; raises StoreError where it cannot."""

    def prepare(self, connection: sa.Connection) -> None:
        """Make what the engine itself keeps in the store, where it is missing; within a unit of work."""

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Refuse, from this unit's commit on, those processes as writers that know the schema only before ``version``.

        They had the store open when it was migrated, and would leave out what the migration added.
        """

    def begin(self, connection: sa.Connection, patience: float) -> None:
        """Begin a unit of work, which waits for other writers for ``patience`` seconds."""

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin several reads of one and the same moment."""

    def begin_read(self, connection: sa.Connection) -> None:
        """Prepare for a single read."""

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:
        """Commit the open unit, which ``wrote`` something or did not; what returns is on disk, once.

        Raises
        ------
        Interrupted
            When it is known that nothing was stored.
        StoreTooNew
            Here or on beginning, once this process is outdated.
        """

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Keep ``name``, which stands for something that has no row yet, from others until the unit ends."""

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Keep a whole table from other writers until the unit ends."""

    def change_marker(self, connection: sa.Connection) -> str:
        """Return a text that stays the same until something is committed, by whomever; none comes again."""

    def close(self) -> None:
        """Close every connection that is not in use."""

    def before_fork(self) -> None:
        """Close what a child must not inherit. Nobody uses a connection at that moment, unless that is survived."""

    def after_fork_in_child(self) -> None:
        """Begin anew, leaving alone what is the parent's."""
