"""The class :class:`Store`, and the functions that open one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from tinydb import where

from ..defaults import default_url
from ..errors import RecordDamaged, StoreDamaged, StoreError, StoreTooNew, WrongUser
from ..metrics import rank
from ..records import new_id
from .codec import column_text
from .database import BUSY_TIMEOUT, Database
from .garbage_queries import GarbageQueries
from .metric_index import INDEXED_NAME_LENGTH, MetricIndex
from .migrations import index_runs, migrate
from .run_index import RunIndex
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
from .series_table import SeriesTable
from .sqlite.files import identity
from .sqlite.vacuum import vacuum
from .tables import Document, DocumentTable, decode_document
from .urls import file_of

if TYPE_CHECKING:
    from .postgresql.removal import RemovedRole
    from .postgresql.roles import Passwords, Role, Separation

_MAX_LIMIT = 2**31 - 1

_T = TypeVar("_T")
_P = ParamSpec("_P")
_S = TypeVar("_S", bound="_HasStore")


class Store(Database):
    """An open store.

    Attributes
    ----------
    url : str
        The URL that it was opened with.
    id : str
        The random id of the store, which files outside of it contain.
    notebooks : DocumentTable
        Notebook records, without their cells.
    checkpoints, provenance : DocumentTable
        Checkpoints, and their provenance.
    runs : DocumentTable
        Training runs.
    versions : DocumentTable
        Versions of notebooks: lists of references to contents.
    contents : DocumentTable
        Sources and outputs of cells, each stored once per notebook.
    garbage : GarbageQueries
        Queries for what garbage collection may delete.
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
        super().__init__(
            url, busy_timeout, read_timeout, version=SCHEMA_VERSION, read_only=read_only
        )
        self._schema = Schema(collections)
        self._file = file_of(url)
        try:
            self.id = self.retry(lambda: self._prepare(read_only))
        except BaseException:
            self.close()
            raise
        self._tables = {
            name: DocumentTable(self, table) for name, table in self._schema.tables.items()
        }
        self.notebooks = self.table(NOTEBOOKS.name)
        self.checkpoints = self.table(CHECKPOINTS.name)
        self.runs = self.table(RUNS.name)
        self.versions = self.table(VERSIONS.name)
        self.contents = self.table(CONTENTS.name)
        self.provenance = self.table(PROVENANCE.name)
        self.garbage = GarbageQueries(self, self._schema)

    def _prepare(self, read_only: bool) -> str:
        """Create the tables of a new store or migrate an old one; return the store's id."""
        with self.reading() as connection:
            properties = self._read_properties(connection)
        if properties.get("schema_version") != str(SCHEMA_VERSION):
            if properties:
                self._check_version(properties)
            if read_only:
                raise StoreError(
                    f"the store {self} has the schema of an older version of this package and "
                    "is read-only, so it cannot be migrated: copy it to a writable folder"
                )
            if properties:
                self._check_may_migrate(properties)
            with self.transaction() as connection:
                properties = self._create_or_migrate(connection)
        if "store_id" not in properties:
            raise StoreDamaged(f"the store {self} is damaged: its id is missing; {_RUN_DOCTOR}")
        return properties["store_id"]

    def _create_or_migrate(self, connection: sa.Connection) -> dict[str, str]:
        super().prepare()
        properties = self._read_properties(connection)
        version = self._check_version(properties) if properties else SCHEMA_VERSION
        if properties and version == SCHEMA_VERSION:
            return properties  # another process has created or migrated it
        if properties:
            migrate(connection, version, SCHEMA_VERSION)
            self.outdate(SCHEMA_VERSION)
        elif self._schema.tables.keys() & sa.inspect(connection).get_table_names():
            raise StoreDamaged(
                f"the store {self} is damaged: its properties are missing; {_RUN_DOCTOR}"
            )
        self._schema.metadata.create_all(connection)
        if version < 3:
            index_runs(connection, self._schema)
        if properties and self.on_server:
            from .postgresql.roles import secure_tables

            secure_tables(connection, self._schema)
        properties = {"store_id": new_id(), **properties, "schema_version": str(SCHEMA_VERSION)}
        connection.execute(sa.delete(self._schema.properties))
        rows = [{"name": name, "value": value} for name, value in properties.items()]
        connection.execute(sa.insert(self._schema.properties), rows)
        return properties

    def _check_version(self, properties: Mapping[str, str]) -> int:
        version = properties.get("schema_version", "")
        if not version.isdecimal() or int(version) < 1:
            raise StoreDamaged(
                f"the store {self} is damaged: its schema version is {version or 'missing'}; "
                f"{_RUN_DOCTOR}"
            )
        if int(version) > SCHEMA_VERSION:
            raise StoreTooNew(
                f"the store {self} has schema version {version}, but this package supports only "
                f"versions up to {SCHEMA_VERSION}: upgrade jupyter-axon-notebooks"
            )
        return int(version)

    def _check_may_migrate(self, properties: Mapping[str, str]) -> None:
        """Raise StoreError if the store is old, and belongs to another role of the database."""
        if not self.on_server:
            return
        from .postgresql.roles import owns_tables

        if not self.read(owns_tables):
            raise StoreError(
                f"the store {self} has schema version {properties['schema_version']}, and this "
                f"version of the package uses {SCHEMA_VERSION}. Only the owner of its tables can "
                "migrate it: have them run `jupyter axon init-db` with this version of the package"
            )

    def _read_properties(self, connection: sa.Connection) -> dict[str, str]:
        properties = self._schema.properties
        if not sa.inspect(connection).has_table(properties.name):
            return {}
        return {row.name: row.value for row in connection.execute(sa.select(properties))}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    # Tables.

    def table(self, name: str) -> DocumentTable:
        """Return the table ``name``; raises KeyError if there is none."""
        return self._tables[name]

    @property
    def run_index(self) -> RunIndex:
        """The tables by which runs are filtered and sorted."""
        return self._schema.run_index

    @property
    def logged_series(self) -> SeriesTable:
        """The tables of logged series."""
        return self._schema.series

    def change_marker(self) -> str:
        """Return a text that no other store returns; see :meth:`.Database.change_marker`."""
        return f"{self.id} {super().change_marker()}"

    # Metrics.

    @property
    def _metric_index(self) -> MetricIndex:
        index = self._schema.tables[CHECKPOINTS.name].index
        assert isinstance(index, MetricIndex)
        return index

    def metric_names(self, notebook_id: str) -> set[str]:
        """Return the names of the indexed metrics of a notebook's checkpoints."""
        index = self._metric_index
        return self.read(lambda connection: index.list_names(connection, notebook_id))

    def best(
        self, notebook_id: str, name: str, *, minimize: bool, limit: int = 1
    ) -> list[Document]:
        """Return the checkpoints of a notebook with the best values of a metric, best first.

        Ties are sorted by age (``created_at``, then id), oldest first. This uses the metric index,
        except for metrics whose names are too long for it.
        """
        limit = min(limit, _MAX_LIMIT)
        if limit < 1:
            return []
        if len(name) > INDEXED_NAME_LENGTH:
            return rank(
                self.checkpoints.search(where("notebook_id") == notebook_id),
                name,
                minimize=minimize,
                fields=lambda found: (found.get("metrics"), found["created_at"], found["id"]),
            )[:limit]

        def read() -> list[tuple[str, str | None]]:
            # A snapshot costs another round trip on PostgreSQL.
            one_statement = minimize or limit == 1
            with self.reading() if one_statement else self.snapshot() as connection:
                return self._metric_index.find_best(
                    connection, notebook_id, name, minimize=minimize, limit=limit
                )

        best = []
        for checkpoint_id, text in self.retry(read, reads=True):
            if text is None:
                raise RecordDamaged(f"checkpoint {checkpoint_id} is missing from the store")
            best.append(decode_document((checkpoint_id, text)))
        return best

    # Users of a shared database.

    def separate_users(
        self, roles: Sequence[Role], passwords: Passwords = lambda _: {}
    ) -> Separation:
        """Limit each database role to the records of its user; see :func:`.roles.separate`.

        Raises StoreError if the store is not on PostgreSQL, or not opened by the owner of its
        tables; StoreBusy if the tables are in use; OutcomeUnknown if the connection was lost during
        the commit; and InvalidData for a role that row-level security would not apply to.
        """
        self._check_has_roles()
        from .postgresql.roles import separate

        def separate_all(connection: sa.Connection) -> Separation:
            self.lock("schema")
            self.mark_written()
            return separate(connection, self._schema, roles, passwords)

        return self.write(separate_all)

    def remove_users(self, names: Sequence[str], *, dry_run: bool = False) -> list[RemovedRole]:
        """Remove users, or single roles, but not their records; see :func:`.removal.remove`.

        With ``dry_run``, return what would be removed, and change nothing. Raises StoreError if the
        store is not on PostgreSQL, or not opened by the owner of its tables, and OutcomeUnknown if
        the connection was lost during the commit.
        """
        self._check_has_roles()
        from .postgresql.removal import end_sessions, plan_removal, remove

        if dry_run:
            return self.read(lambda connection: plan_removal(connection, names))

        def remove_all(connection: sa.Connection) -> list[RemovedRole]:
            self.lock("schema")
            self.mark_written()
            return remove(connection, names)

        removed = self.write(remove_all)
        try:
            return self.read(lambda connection: end_sessions(connection, removed))
        except StoreError:  # the users are removed, but reported as still connected
            return removed

    def _check_has_roles(self) -> None:
        if not self.on_server:
            raise StoreError(
                f"the store {self} is a file, which belongs to its owner; only PostgreSQL has roles"
            )

    @property
    def shown_user(self) -> str | None:
        """The user whose records the database shows to this role.

        It is ``""`` if the role belongs to no user, and None if all records are shown.
        """
        if not self.on_server:
            return None
        from .postgresql.roles import shown_user

        return self.read(shown_user)

    def check_user(self, user_id: str | None) -> None:
        """Raise WrongUser unless the database shows the records of ``user_id`` to this role.

        With None, for servers where each request has its own user, the role may belong to any user.
        """
        shown = self.shown_user
        if shown is None or (shown and (user_id is None or shown == column_text(user_id))):
            return
        with self.reading() as connection:
            role = connection.scalar(sa.text("SELECT current_user::text"))
        if not shown:
            raise WrongUser(
                f"the store {self}: the role {role} stands for no user there, so nothing is "
                "recorded or shown. The owner of the database has to run `jupyter axon init-db` "
                f"with --user {user_id or 'NAME'}={role}"
            )
        raise WrongUser(
            f"the store {self}: the role {role} stands for the user {shown} there, but the user "
            f"here is {user_id}, so nothing is recorded or shown. Log in with the role of "
            f"{user_id}, or set the user to {shown} (c.AxonNotebooks.user_id, or AXON_USER for a "
            "command or a kernel)"
        )

    # The identity of the store, for state files.

    @property
    def mark_id(self) -> str:
        """The id in the marks of state folders, which only this store may remove.

        It consists of the store's id and the inode of its file or, with row-level security, its
        user: a copy of a store file, or another user, has the same store id but other records, and
        must not treat the state files as unrecorded.
        """
        user = self.shown_user
        if user is not None:
            return f"{self.id} {user}"
        found = None if self._file is None else identity(self._file)
        # Without the device number, which may change when the disk is mounted again.
        return self.id if found is None else f"{self.id} {found[1]}"

    # The file.

    @property
    def admits_one_writer(self) -> bool:
        """True if a transaction blocks all other writers, so that it has to be short."""
        return not self.on_server

    def vacuum(self) -> Iterator[int]:
        """Return unused space to the disk; yield the bytes that each short step freed."""
        return iter(()) if self._file is None else vacuum(self)


_RUN_DOCTOR = "run `jupyter axon doctor`"


class _HasStore(Protocol):
    _store: Store


def retried(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Make a method one retried transaction of the ``_store`` of its object.

    The commit has to be the last thing that it does; see :meth:`Store.retry`.
    """

    @functools.wraps(method)
    def wrapper(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._store.retry(lambda: method(self, *args, **kwargs))

    return wrapper


def open_store(
    url: str | None = None, *, read_only: bool = False, read_timeout: float | None = None
) -> Store:
    """Open the store at ``url``, and create it if it does not exist.

    Parameters
    ----------
    url : str, optional
        ``sqlite:///<absolute path>``, ``postgresql+psycopg://<user>@<host>/<database>`` (with the
        password in a passfile) or ``memory://``; :func:`default_url` by default.
    read_only : bool
        Whether to only read an existing store, in a file that may not be writable.
    read_timeout : float, optional
        Seconds that a read waits for a lock; by default as long as a transaction waits.

    Raises
    ------
    StoreError
        When it cannot be opened; :class:`StoreDamaged` when it is damaged, :class:`StoreTooNew`
        when a newer version of this package wrote it.
    """
    return Store(url or default_url(), read_timeout=read_timeout, read_only=read_only)


def has_tables(url: str, *, read_only: bool = False, read_timeout: float | None = None) -> bool:
    """Return whether the existing database at ``url`` contains a store; create none.

    Raises StoreError if the database cannot be reached, or is a file of another application.
    """
    database = Database(url, read_timeout=read_timeout, read_only=read_only)
    try:
        with database.reading() as connection:
            # A store without its properties is damaged, but exists.
            names = sa.inspect(connection).get_table_names()
            return not Schema().metadata.tables.keys().isdisjoint(names)
    finally:
        database.close()
