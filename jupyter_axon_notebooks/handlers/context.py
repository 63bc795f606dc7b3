"""The server and the request, as the worker threads see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from ..background import BackgroundWork
from ..config import AxonNotebooks
from ..defaults import READ_TIMEOUT
from ..errors import Forbidden, InvalidData, NotFound
from ..records import NotebookCheckpoint, NotebookHeader, NotebookSummary, TrainingNotebook
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import Store
from ..sync import NotebookSync
from ..sync.worker import DRAIN_TIMEOUT
from .executor import RequestExecutor
from .paths import NotebookPaths
from .queries import Query
from .request_bodies import parse_object
from .responses import EntityTags

#: The key of the :class:`ServerContext` in the server's settings.
SETTING: Final = "axon_services"


@dataclass(frozen=True)
class StoreServices:
    """An open store with what depends on it."""

    store: Store
    repository: NotebookRepository
    states: StateStorage
    origin: str
    background: BackgroundWork

    @property
    def is_lost(self) -> bool:
        """True if the store's file was deleted or replaced."""
        return self.store.is_lost

    def close(self) -> None:
        """Stop the background work and close the store."""
        self.background.stop()
        self.store.close()


@dataclass(frozen=True)
class ServerContext:
    """The objects that all requests share."""

    config: AxonNotebooks
    sync: NotebookSync[StoreServices]
    executor: RequestExecutor
    tags: EntityTags = field(default_factory=EntityTags)

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records; raises StoreError while the store cannot be opened."""
        return self.sync.session.repository

    @property
    def states(self) -> StateStorage:
        """The storage of state files; raises StoreError while the store cannot be opened."""
        return self.sync.session.states


@dataclass
class RequestContext:
    """A request without its web server.

    Parameters
    ----------
    user_id : str
        The acting user.
    read_body : callable
        Returns the body's bytes; raises TooLarge.
    if_match : str or None
        The header of that name.
    is_write : bool
        Whether the request may change something. One that only reads waits for pending saves for a
        short time, and is then answered with what is recorded.

    Attributes
    ----------
    is_stale : bool
        Whether saves are missing from what the request reads.
    """

    server: ServerContext
    user_id: str
    paths: NotebookPaths
    query: Query
    read_body: Callable[[], bytes]
    if_match: str | None
    is_write: bool
    is_stale: bool = False
    _started_at: float = field(default_factory=time.monotonic)

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records."""
        return self.server.repository

    @property
    def is_admin(self) -> bool:
        """True if the acting user may see and change the records of all users."""
        return self.user_id in self.server.config.admin_users

    @property
    def is_late(self) -> bool:
        """True if a request that only reads has waited for as long as it may."""
        return not self.is_write and self._time_left() <= 0

    def _time_left(self) -> float:
        if self.is_write:
            return DRAIN_TIMEOUT
        return max(0.0, self._started_at + READ_TIMEOUT - time.monotonic())

    def drain(self) -> None:
        """Wait until all saves so far are recorded, as long as there is time."""
        self.is_stale = not self.server.sync.drain(self._time_left())

    def parse_body(self, *, nonfinite_in: str | None = None) -> dict[str, Any]:
        """Return the body, a JSON object; see :func:`.request_bodies.parse_object`."""
        return parse_object(self.read_body(), nonfinite_in=nonfinite_in)

    def expected_version(self) -> str | None:
        """Return the version in If-Match; None if any version may be changed."""
        if self.if_match is None or self.if_match.strip() == "*":
            return None
        tag = self.if_match.strip().removeprefix("W/")
        if "," in tag:
            raise InvalidData("If-Match", "expected one version id")
        return tag.strip('"').partition(".")[0]

    def check_owner(self, record: NotebookHeader) -> None:
        """Raise Forbidden unless the user may see and change a record."""
        if record.user_id != self.user_id and not self.is_admin:
            raise Forbidden(f"notebook {record.id} belongs to another user")

    def check_access(self, notebook_id: str) -> NotebookSummary:
        """Return a record as it is stored; raise NotFound and Forbidden.

        Within a transaction use this one: there, waiting for a save would block it.
        """
        found = self.repository.find_summary(notebook_id)
        if found is None:
            raise NotFound("notebook", notebook_id)
        self.check_owner(found)
        return found

    def get_summary(self, notebook_id: str) -> NotebookSummary:
        """Return a record without cells, updated from its file; raise NotFound and Forbidden."""
        found = self.check_access(notebook_id)
        return self.check_access(notebook_id) if self.refresh_stale([found]) else found

    def get_notebook(self, notebook_id: str, *, outputs: bool = True) -> TrainingNotebook:
        """Return a record with cells, updated from its file; raise NotFound and Forbidden."""
        self.get_summary(notebook_id)
        found = self.repository.find_by_id(notebook_id, outputs=outputs)
        if found is None:
            raise NotFound("notebook", notebook_id)
        return found

    def get_checkpoint(self, notebook_id: str, checkpoint_id: str) -> NotebookCheckpoint:
        """Return a checkpoint of a notebook; raise NotFound and Forbidden."""
        self.check_access(notebook_id)
        found = self.repository.get_checkpoint(checkpoint_id)
        if found is None or found.notebook_id != notebook_id:
            raise NotFound("checkpoint", checkpoint_id)
        return found

    def refresh_stale(self, records: Iterable[NotebookSummary]) -> bool:
        """Update records whose files were changed outside Jupyter; return whether any were."""
        ids = [record.id for record in records if record.path is not None]
        if not ids or not self.server.sync.queue_changed_files(ids):
            return False
        self.drain()
        return True

    def to_json(self, record: NotebookHeader) -> dict[str, Any]:
        """Return the JSON form of a record, with the contents path of a file of this server."""
        document = record.to_json()
        stored = document.pop("path", None)
        if stored is not None and record.origin == self.server.sync.origin:
            path = self.paths.to_contents_path(stored)
            if path is not None:
                document["path"] = path
        return document
