"""The server and the request, as the worker threads see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tornado.httputil import HTTPServerRequest

from ..background import BackgroundWork
from ..config import AxonNotebooks
from ..defaults import READ_TIMEOUT
from ..errors import Forbidden, InvalidData, NotFound
from ..records import NotebookCheckpoint, NotebookHeader, TrainingNotebook
from ..repository import Binding, NotebookRepository
from ..states import StateStorage
from ..store import Store
from ..sync import NotebookSync
from ..sync.worker import DRAIN_TIMEOUT
from .executor import RequestExecutor
from .paths import NotebookPaths
from .requests import Q, parse_object, parse_query
from .tags import EntityTags

#: The key of the :class:`ServerContext` in the server's settings.
SETTING: Final = "axon_services"
_READ_METHODS: Final = ("GET", "HEAD", "OPTIONS")


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
    executor: RequestExecutor = field(default_factory=RequestExecutor)
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
    """A request and its acting user.

    Parameters
    ----------
    read_body : callable
        Returns the body's bytes; raises TooLarge.

    Attributes
    ----------
    is_stale : bool
        Whether saves are missing from what the request reads.
    """

    server: ServerContext
    user_id: str
    paths: NotebookPaths
    request: HTTPServerRequest
    read_body: Callable[[], bytes]
    is_stale: bool = False
    _started_at: float = field(default_factory=time.monotonic)

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records."""
        return self.server.repository

    @property
    def is_write(self) -> bool:
        """True if the request may change something."""
        return self.request.method not in _READ_METHODS

    @property
    def is_admin(self) -> bool:
        """True if the acting user may see and change the records of all users."""
        return self.user_id in self.server.config.admin_users

    @property
    def is_late(self) -> bool:
        """True if a request that only reads has waited for as long as it may."""
        return not self.is_write and self._time_left() <= 0

    def _time_left(self) -> float:
        return max(0.0, self._started_at + READ_TIMEOUT - time.monotonic())

    def wait_for_store(self) -> None:
        """Wait for a short time until the store is open; raise the reason if it is still not."""
        self.server.sync.wait_for_session(self._time_left())

    def drain(self) -> None:
        """Wait until all saves so far are recorded.

        A request that only reads waits for a short time, and then gets what is recorded.
        """
        timeout = DRAIN_TIMEOUT if self.is_write else self._time_left()
        self.is_stale = not self.server.sync.drain(timeout)

    def query(self, kind: type[Q]) -> Q:
        """Return the query arguments that are fields of ``kind``."""
        return parse_query(self.request.query_arguments, kind)

    def parse_body(self, *, nonfinite_in: str | None = None) -> dict[str, Any]:
        """Return the body, a JSON object; see :func:`.requests.parse_object`."""
        return parse_object(self.read_body(), nonfinite_in=nonfinite_in)

    def expected_version(self) -> str | None:
        """Return the version in If-Match; None if any version may be changed."""
        tag = self.request.headers.get("If-Match", "*").strip()
        if tag == "*":
            return None
        if "," in tag:
            raise InvalidData("If-Match", "expected one version id")
        return tag.removeprefix("W/").strip('"').partition(".")[0]

    def check_owner(self, record: NotebookHeader | Binding) -> None:
        """Raise Forbidden unless the user may see and change a record."""
        if record.user_id != self.user_id and not self.is_admin:
            raise Forbidden(f"notebook {record.id} belongs to another user")

    def check_access(self, notebook_id: str) -> Binding:
        """Return the binding of a record; raise NotFound and Forbidden."""
        for binding in self.repository.bindings.get_many([notebook_id]):
            self.check_owner(binding)
            return binding
        raise NotFound("notebook", notebook_id)

    def check_current(self, notebook_id: str) -> Binding:
        """Update a record from its file, and return its binding; raise NotFound and Forbidden."""
        binding = self.check_access(notebook_id)
        self.refresh([binding])
        return binding

    def get_notebook(self, notebook_id: str, *, outputs: bool = True) -> TrainingNotebook:
        """Return a record with cells; raise NotFound."""
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

    def refresh(self, bindings: Iterable[Binding]) -> bool:
        """Update records whose files were changed outside Jupyter; return whether any were."""
        if not self.server.sync.queue_changed_files(bindings):
            return False
        self.drain()
        return True

    def to_json(self, record: NotebookHeader) -> dict[str, Any]:
        """Return the JSON form of a record, with the contents path of a file of this server."""
        document = record.to_json()
        self.set_contents_path(document, record.origin)
        return document

    def set_contents_path(self, document: dict[str, Any], origin: str | None) -> None:
        """Replace the stored ``path`` by the contents path of a file of this server, if it is."""
        stored = document.pop("path", None)
        if stored is not None and origin == self.server.sync.origin:
            path = self.paths.to_contents_path(stored)
            if path is not None:
                document["path"] = path
