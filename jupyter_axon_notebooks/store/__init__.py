"""The store: TinyDB documents as rows of a SQL database.

:func:`open_store` opens one; :class:`Store` is what is open. Everything about documents goes through TinyDB tables
(:class:`~.tables.DocumentTable`), everything about commits through :meth:`Store.transaction`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from tinydb import TinyDB, where
from tinydb.table import Document

from ..errors import StoreError, StoreTooNew
from ..records import new_id
from .codec import decode
from .database import BUSY_TIMEOUT, Database
from .ranking import INDEXED_NAME_LENGTH, MetricIndex, best_of
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
from .tables import DocumentTable, SqlStorage, document

if TYPE_CHECKING:
    from .roles import Role, Separation

__all__ = ["Document", "DocumentTable", "Store", "default_url", "document", "open_store", "retried"]


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
    """

    def __init__(
        self,
        url: str,
        collections: tuple[Collection, ...] = COLLECTIONS,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self.url = url
        self._schema = Schema(collections)
        self._database = Database(url, busy_timeout)
        try:
            self.id = self._prepare()
        except BaseException:
            self._database.close()
            raise
        self.documents = DocumentDB(self._database, self._schema, storage=SqlStorage)

    def _prepare(self) -> str:
        """Make the tables where they are missing; the store's id."""
        with self._database.reading() as connection:
            known = self._properties(connection)
        if known.get("schema_version") != str(SCHEMA_VERSION):
            with self._database.transaction() as connection:
                self._database.prepare()
                known = self._properties(connection)
                self._check_version(known)
                self._schema.metadata.create_all(connection)
                made = {"schema_version": str(SCHEMA_VERSION), "store_id": new_id()}
                missing = {name: value for name, value in made.items() if name not in known}
                if missing:
                    rows = [{"name": name, "value": value} for name, value in missing.items()]
                    connection.execute(sa.insert(self._schema.properties), rows)
                known = {**known, **missing}
        return known["store_id"]

    def _check_version(self, known: Mapping[str, str]) -> None:
        version = known.get("schema_version", "0")
        if not version.isdecimal() or int(version) > SCHEMA_VERSION:
            raise StoreTooNew(
                f"the store {self} has schema version {version}, this package knows up to {SCHEMA_VERSION}: "
                "upgrade jupyter-axon-notebooks"
            )

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
        """A unit of work, joined by every table operation inside it; see :meth:`.database.Database.transaction`."""
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

    def lock(self, name: str) -> None:
        """Keep ``name`` from others until the open transaction ends: for what has no row yet that could be locked."""
        self._database.lock(name)

    def best(self, notebook_id: str, name: str, *, minimize: bool, limit: int = 1) -> list[Document]:
        """The checkpoints of a notebook with the best value of a metric, best first.

        Equal values are ranked oldest first (``created_at``, then id). Index look-ups, however many checkpoints
        there are; only a metric whose name is too long to be indexed is looked for in the documents.
        """
        index = self._schema.tables[CHECKPOINTS.name].metric_index
        assert index is not None  # checkpoints are a ranked collection
        if len(name) > INDEXED_NAME_LENGTH:
            of_notebook = self.checkpoints.search(where("notebook_id") == notebook_id)
            return best_of(of_notebook, name, minimize=minimize)[:limit]
        return self.attempt(lambda: self._best(index, notebook_id, name, minimize=minimize, limit=limit))

    def _best(
        self, index: MetricIndex, notebook_id: str, name: str, *, minimize: bool, limit: int
    ) -> list[Document]:
        if limit == 1:
            with self._database.reading() as connection:
                best = index.stored_best(connection, notebook_id, name, minimize=minimize)
            return [] if best is None else [document(best[0], decode(best[1]))]
        with self._database.snapshot() as connection:
            ids = index.best(connection, notebook_id, name, minimize=minimize, limit=limit)
            found = {stored.doc_id: stored for stored in self.checkpoints.get(doc_ids=ids)}
        return [found[checkpoint_id] for checkpoint_id in ids]

    def separate_users(self, roles: Sequence[Role], passwords: Mapping[str, str] | None = None) -> Separation:
        """Have the database show each role its own user's records only; see :func:`.roles.separate`.

        Raises
        ------
        StoreError
            When the store is not on PostgreSQL, or not opened by the owner of its tables.
        InvalidData
            For a role that could not be held back.
        """
        if not self._database.locks_rows:
            raise StoreError(
                f"the store {self} belongs to whoever its file belongs to; roles are PostgreSQL's"
            )
        from .roles import separate  # its driver is an extra

        with self.transaction() as connection:
            return separate(connection, self._schema, roles, passwords or {})

    @property
    def admits_one_writer(self) -> bool:
        """Whether one transaction holds up all others that write, so that it has to be a short one."""
        return not self._database.locks_rows

    @property
    def is_lost(self) -> bool:
        """Whether its file was removed or replaced: what is written would be lost, so open the store again."""
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


def open_store(url: str | None = None) -> Store:
    """Open the store at ``url``, made if missing.

    Parameters
    ----------
    url : str, optional
        ``sqlite:///<absolute path>``, ``postgresql+psycopg://<user>@<host>/<database>`` (without a password: that
        belongs into a passfile) or ``memory://``; by default :func:`default_url`.

    Raises
    ------
    StoreError
        When it cannot be opened; :class:`StoreTooNew` when a newer version of this package wrote it.
    """
    return Store(url or default_url())


def default_url() -> str:
    """SQLite in Jupyter's data folder: ``axon_notebooks/axon.db``."""
    from jupyter_core.paths import jupyter_data_dir

    return f"sqlite:///{jupyter_data_dir()}/axon_notebooks/axon.db"
