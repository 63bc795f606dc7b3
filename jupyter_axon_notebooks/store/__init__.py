"""The store: TinyDB documents as rows of a SQL database.

:func:`open_store` opens one; :class:`Store` is what is open. Everything about documents goes through TinyDB tables
(:class:`~.tables.DocumentTable`), everything about commits through :meth:`Store.transaction`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from tinydb import TinyDB, where
from tinydb.table import Document

from ..defaults import READ_TIMEOUT, default_url
from ..errors import RecordDamaged, StoreDamaged, StoreError, StoreTooNew, WrongUser
from ..records import new_id
from .codec import column_text
from .database import BUSY_TIMEOUT, Database
from .error_mapping import ForeignRecord
from .garbage_queries import GarbageQueries
from .metric_index import INDEXED_NAME_LENGTH, MetricIndex, best_of
from .migrations import migrate
from .schema import (
    CHECKPOINTS,
    COLLECTIONS,
    CONTENTS,
    NOTEBOOKS,
    PROVENANCE,
    RUNS,
    SCHEMA_VERSION,
    VERSIONS,
    Collection,
    Schema,
)
from .sqlite.files import identity
from .sqlite.vacuum import reclaim
from .tables import DocumentTable, SqlStorage, document, stored_document
from .urls import file_of

if TYPE_CHECKING:
    from .postgresql.removal import Departure
    from .postgresql.roles import Passwords, Role, Separation

__all__ = [
    "READ_TIMEOUT",
    "Document",
    "DocumentTable",
    "ForeignRecord",
    "Store",
    "default_url",
    "document",
    "has_tables",
    "open_store",
    "retried",
]


#: The largest limit that every engine takes.
_MOST = 2**31 - 1

_T = TypeVar("_T")
_P = ParamSpec("_P")
_K = TypeVar("_K", bound="_Keeping")


class DocumentDB(TinyDB):
    """TinyDB with the tables of a :class:`~.tables.SqlStorage`."""

    table_class = DocumentTable  # type: ignore[assignment]  # its ids are texts, which TinyDB's annotations leave out


class Store:
    """An open store.

    Safe to use from any number of threads. A forked child may go on using its copy, unless the fork happened in the
    middle of a transaction.

    Attributes
    ----------
    url : str
        What it was opened with.
    id : str
        The store's own random id, made with it: what lies outside the store can tell whose it is.
    notebooks, checkpoints, runs, versions, contents, provenance : DocumentTable
        Its tables.
    leftovers : GarbageQueries
        What it could do without.
    """

    def __init__(
        self,
        url: str,
        collections: tuple[Collection, ...] = COLLECTIONS,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        read_timeout: float | None = None,
        read_only: bool = False,
    ) -> None:
        self.url = url
        self._schema = Schema(collections)
        self._file = file_of(url)
        self._database = Database(
            url, busy_timeout, read_timeout, version=SCHEMA_VERSION, read_only=read_only
        )
        try:
            self.id = self._database.attempt(lambda: self._prepare(read_only))
        except BaseException:
            self._database.close()
            raise
        self.documents = DocumentDB(self._database, self._schema, storage=SqlStorage)
        self.leftovers = GarbageQueries(self._database, self._schema)

    def _prepare(self, read_only: bool) -> str:
        """Make a new store's tables, or bring an older store up to date; the store's id."""
        with self._database.reading() as connection:
            known = self._properties(connection)
        if known.get("schema_version") != str(SCHEMA_VERSION):
            if known:
                self._version(known)
            if read_only:
                raise StoreError(
                    f"the store {self.url} was written by an older version of this package, which this one cannot "
                    "read before it has written to it: copy it to where it can be written"
                )
            with self._database.transaction() as connection:
                self._database.prepare()
                known = self._properties(connection)
                if known:
                    migrate(connection, self._version(known), SCHEMA_VERSION)
                    self._database.outdate(SCHEMA_VERSION)
                elif self._schema.tables.keys() & sa.inspect(connection).get_table_names():
                    raise StoreDamaged(
                        f"the store {self}: it is damaged; it has lost its properties"
                    )
                self._schema.metadata.create_all(connection)
                known = {"store_id": new_id(), **known, "schema_version": str(SCHEMA_VERSION)}
                connection.execute(sa.delete(self._schema.properties))
                rows = [{"name": name, "value": value} for name, value in known.items()]
                connection.execute(sa.insert(self._schema.properties), rows)
        if "store_id" not in known:
            raise StoreDamaged(f"the store {self}: it is damaged; it has lost its own id")
        return known["store_id"]

    def _version(self, known: Mapping[str, str]) -> int:
        """The schema version of a store with these properties, if it can be used."""
        version = known.get("schema_version", "")
        if not version.isdecimal() or int(version) < 1:
            raise StoreDamaged(
                f"the store {self}: it is damaged; its schema version is {version or 'missing'}"
            )
        if int(version) > SCHEMA_VERSION:
            raise StoreTooNew(
                f"the store {self} has schema version {version}, this package knows up to {SCHEMA_VERSION}: "
                "upgrade jupyter-axon-notebooks"
            )
        return int(version)

    def _properties(self, connection: sa.Connection) -> dict[str, str]:
        properties = self._schema.properties
        if not sa.inspect(connection).has_table(properties.name):
            return {}
        return {row.name: row.value for row in connection.execute(sa.select(properties))}

    def __str__(self) -> str:
        """Its URL, as it may be shown to anybody."""
        return self._database.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def table(self, name: str) -> DocumentTable:
        """The table of that name; KeyError where the store has none."""
        return cast(DocumentTable, self.documents.table(name))

    @property
    def notebooks(self) -> DocumentTable:
        """Notebook records, without their cells."""
        return self.table(NOTEBOOKS.name)

    @property
    def checkpoints(self) -> DocumentTable:
        """Checkpoints."""
        return self.table(CHECKPOINTS.name)

    @property
    def runs(self) -> DocumentTable:
        """Training runs."""
        return self.table(RUNS.name)

    @property
    def versions(self) -> DocumentTable:
        """Versions of notebooks: lists of references to contents."""
        return self.table(VERSIONS.name)

    @property
    def contents(self) -> DocumentTable:
        """Sources and outputs of cells, each stored once per notebook."""
        return self.table(CONTENTS.name)

    @property
    def provenance(self) -> DocumentTable:
        """Where checkpoints came from."""
        return self.table(PROVENANCE.name)

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """A unit of work, joined by every table operation inside it; see :meth:`.database.Database.transaction`.

        Other writers may be at work at the same time: read what you decide on with :meth:`.DocumentTable.locked`, or
        lock the record that it belongs to.
        """
        return self._database.transaction()

    def snapshot(self) -> AbstractContextManager[sa.Connection]:
        """Several reads at one and the same moment."""
        return self._database.snapshot()

    def attempt(self, work: Callable[[], _T]) -> _T:
        """What ``work`` gives, done again from its start when the database breaks it off.

        Around one unit of work, which it opens and ends with: a deadlock, a lost connection and a restart of the
        database are got over that way. Anything ``work`` does besides has to bear being done twice. Within a unit of
        work it is done once. See :func:`retried`.
        """
        return self._database.attempt(work)

    def waiting_at_most(self, seconds: float) -> AbstractContextManager[None]:
        """Let the transactions that this thread opens wait for other writers for at most ``seconds``."""
        return self._database.waiting_at_most(seconds)

    def change_marker(self) -> str:
        """Return a text that stays the same until something is committed to the store, by whomever; none comes again.

        Ask for it before reading: as long as it stays the same, what was read is what the store holds. It costs one
        short statement.
        """
        return f"{self.id} {self._database.change_marker()}"

    def lock(self, name: str) -> None:
        """Keep ``name`` from others until the open transaction ends: for what has no row yet that could be locked."""
        self._database.lock(name)

    def metric_names(self, notebook_id: str) -> set[str]:
        """Return the names of the metrics that a notebook's checkpoints have finite numbers of, those too long to be indexed left out."""
        index = self._schema.tables[CHECKPOINTS.name].metric_index
        assert index is not None  # checkpoints are a ranked collection

        def read() -> set[str]:
            with self._database.reading() as connection:
                return index.names(connection, notebook_id)

        return self.attempt(read)

    def best(
        self, notebook_id: str, name: str, *, minimize: bool, limit: int = 1
    ) -> list[Document]:
        """The checkpoints of a notebook with the best value of a metric, best first.

        Equal values are ranked oldest first (``created_at``, then id). Index look-ups, however many checkpoints
        there are and are asked for; only a metric whose name is too long to be indexed is looked for in the documents.
        """
        index = self._schema.tables[CHECKPOINTS.name].metric_index
        assert index is not None  # checkpoints are a ranked collection
        limit = min(limit, _MOST)
        if limit < 1:
            return []
        if len(name) > INDEXED_NAME_LENGTH:
            of_notebook = self.checkpoints.search(where("notebook_id") == notebook_id)
            return best_of(of_notebook, name, minimize=minimize)[:limit]
        return self.attempt(
            lambda: self._best(index, notebook_id, name, minimize=minimize, limit=limit)
        )

    def _best(
        self, index: MetricIndex, notebook_id: str, name: str, *, minimize: bool, limit: int
    ) -> list[Document]:
        # On PostgreSQL each statement is a round trip, and a snapshot is one more.
        takes_one = minimize or limit == 1
        with self._database.reading() if takes_one else self._database.snapshot() as connection:
            best = index.best(connection, notebook_id, name, minimize=minimize, limit=limit)
        found = []
        for checkpoint_id, text in best:
            if text is None:
                raise RecordDamaged(f"checkpoint {checkpoint_id} is missing from the store")
            found.append(stored_document((checkpoint_id, text)))
        return found

    def separate_users(
        self, roles: Sequence[Role], passwords: Passwords = lambda _: {}
    ) -> Separation:
        """Have the database show each role its own user's records only; see :func:`.roles.separate`.

        Raises
        ------
        StoreError
            When the store is not on PostgreSQL, or not opened by the owner of its tables; :class:`StoreBusy` when others
            kept them in use; :class:`OutcomeUnknown` when nobody knows whether it was done.
        InvalidData
            For a role that could not be held back.
        """
        self._check_has_roles()
        from .postgresql.roles import separate  # its driver is an extra

        def once() -> Separation:
            with self.transaction() as connection:
                self.lock("schema")
                self._database.wrote()
                return separate(connection, self._schema, roles, passwords)

        return self.attempt(once)

    def plan_removal(self, names: Sequence[str]) -> list[Departure]:
        """Return what :meth:`remove_users` would remove; changes nothing.

        Raises
        ------
        StoreError
            When the store is not on PostgreSQL, or not opened by the owner of its tables.
        """
        self._check_has_roles()
        from .postgresql.removal import plan_removal  # its driver is an extra

        def once() -> list[Departure]:
            with self.snapshot() as connection:
                return plan_removal(connection, names)

        return self.attempt(once)

    def remove_users(self, names: Sequence[str]) -> list[Departure]:
        """Take users, or single roles, out of the store; their records stay. See :func:`.removal.remove`.

        Raises
        ------
        StoreError
            As :meth:`plan_removal` does; :class:`OutcomeUnknown` when nobody knows whether it was done.
        """
        self._check_has_roles()
        from .postgresql.removal import end_sessions, remove  # its driver is an extra

        def once() -> list[Departure]:
            with self.transaction() as connection:
                self.lock("schema")
                self._database.wrote()
                return remove(connection, names)

        removed = self.attempt(once)
        try:
            with self._database.reading() as connection:
                return end_sessions(connection, removed)
        except StoreError:  # they are removed all the same, and told as still connected
            return removed

    def _check_has_roles(self) -> None:
        if not self._database.locks_rows:
            raise StoreError(
                f"the store {self} belongs to whoever its file belongs to; roles are PostgreSQL's"
            )

    def check_user(self, user_id: str | None) -> None:
        """Check that a database that keeps users apart shows this connection's role the records of ``user_id``.

        Parameters
        ----------
        user_id : str or None
            Who acts; None if requests tell, in which case the role only has to stand for somebody.

        Raises
        ------
        WrongUser
            When it shows those of another user, or of nobody: lists would be empty without a reason.
        """
        shown = self.shown_user
        if shown is None or (shown and (user_id is None or shown == column_text(user_id))):
            return
        with self._database.reading() as connection:
            role = connection.scalar(sa.text("SELECT current_user::text"))
        if not shown:
            raise WrongUser(
                f"the store {self}: the role {role} stands for no user there, so that nothing is recorded or shown; "
                f"have the owner of the database run `jupyter axon init-db` with --user {user_id or 'NAME'}={role}"
            )
        raise WrongUser(
            f"the store {self}: the role {role} stands for the user {shown} there, but the user here is {user_id}, "
            f"of whom nothing is recorded or shown; log in with the role of {user_id}, or set the user to {shown} "
            "(c.AxonNotebooks.user_id, or AXON_USER for a command or a kernel)"
        )

    @property
    def shown_user(self) -> str | None:
        """The user whose records alone the database shows, "" for nobody; None where it shows everybody's."""
        if not self._database.locks_rows:
            return None
        from .postgresql.roles import shown_user  # its driver is an extra

        def asked() -> str | None:
            with self._database.reading() as connection:
                return shown_user(connection)

        return self.attempt(asked)

    @property
    def mark_id(self) -> str:
        """What tells whose records it shows: its id, its file, and the user where a database keeps users apart.

        For marks on what no record is found of: whoever is shown other records must not take it for abandoned. A copy of a
        file has the same id, and records of its own from then on.
        """
        user = self.shown_user
        if user is not None:
            return f"{self.id} {user}"
        found = None if self._file is None else identity(self._file)
        return (
            self.id if found is None else f"{self.id} {found[1]}"
        )  # a device's number changes from mount to mount

    @property
    def former_mark_id(self) -> str | None:
        """What marks of this store were before they told its file from copies of it; None where marks have always been the same.

        It is no mark of a store that shows one user's records only: those of all users had the same.
        """
        return self.id if self._file is not None and self.shown_user is None else None

    @property
    def admits_one_writer(self) -> bool:
        """Whether one transaction holds up all others that write, so that it has to be a short one."""
        return not self._database.locks_rows

    def reclaim(self) -> Iterator[int]:
        """Give the disk back what a file no longer needs; the bytes that each short step gave back."""
        return iter(()) if self._file is None else reclaim(self._database, self._file)

    @property
    def is_lost(self) -> bool:
        """Whether its files were removed or replaced: what is written may be lost, so open the store again."""
        return self._database.is_lost

    def close(self) -> None:
        """Close its connections. What was acknowledged is on disk already; what was in memory is gone."""
        self.documents.close()


class _Keeping(Protocol):
    _store: Store


def retried(unit: Callable[Concatenate[_K, _P], _T]) -> Callable[Concatenate[_K, _P], _T]:
    """A method that is one unit of work of its object's ``_store``, attempted as :meth:`Store.attempt` does.

    The commit has to be the last thing it does: what fails after it would have it done twice.
    """

    @functools.wraps(unit)
    def attempted(self: _K, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._store.attempt(lambda: unit(self, *args, **kwargs))

    return attempted


def open_store(
    url: str | None = None, *, read_only: bool = False, read_timeout: float | None = None
) -> Store:
    """Open the store at ``url``, made if missing.

    Parameters
    ----------
    url : str, optional
        ``sqlite:///<absolute path>``, ``postgresql+psycopg://<user>@<host>/<database>`` (without a password: that
        belongs into a passfile) or ``memory://``; by default :func:`default_url`.
    read_only : bool
        Only read a store that is there, in a file that may not be written to.
    read_timeout : float, optional
        Seconds that a read waits for who keeps the store, or a table of it, even from readers; by default as long as a
        transaction waits.

    Raises
    ------
    StoreError
        When it cannot be opened; :class:`StoreTooNew` when a newer version of this package wrote it.
    """
    return Store(url or default_url(), read_timeout=read_timeout, read_only=read_only)


def has_tables(url: str, *, read_only: bool = False, read_timeout: float | None = None) -> bool:
    """Whether there is a store in the database at ``url``, which has to be there; none is made.

    Raises
    ------
    StoreError
        When the database cannot be reached, or is a file of somebody else's.
    """
    database = Database(url, read_timeout=read_timeout, read_only=read_only)
    try:
        with database.reading() as connection:
            # Without its properties it is damaged, and not nothing.
            return (
                not Schema()
                .metadata.tables.keys()
                .isdisjoint(sa.inspect(connection).get_table_names())
            )
    finally:
        database.close()
