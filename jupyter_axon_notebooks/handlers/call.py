"""One request, as the worker threads see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import Forbidden, InvalidData, NotFound
from ..records import NotebookCheckpoint, NotebookHeader, NotebookSummary, TrainingNotebook
from ..repository import NotebookRepository
from .bodies import read_object
from .freshness import Freshness
from .paths import NotebookPaths
from .queries import Query
from .services import Services


@dataclass(frozen=True)
class Actor:
    """Who acts."""

    user_id: str
    is_admin: bool

    def check(self, record: NotebookHeader) -> None:
        """Raise Forbidden unless the record is theirs to see and change."""
        if record.user_id != self.user_id and not self.is_admin:
            raise Forbidden(f"notebook {record.id} belongs to another user")


@dataclass(frozen=True)
class Call:
    """A request without its web server.

    Attributes
    ----------
    read_body : callable
        Gives the body's bytes; raises TooLarge.
    if_match : str or None
        The header of that name.
    freshness : Freshness
        How long to wait for saves that are on their way to the store.
    """

    services: Services
    actor: Actor
    paths: NotebookPaths
    query: Query
    read_body: Callable[[], bytes]
    if_match: str | None
    freshness: Freshness

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records."""
        return self.services.repository

    def body(self, *, nonfinite_in: str | None = None) -> dict[str, Any]:
        """The body, a JSON object; raises as :func:`.bodies.read_object` does."""
        return read_object(self.read_body(), nonfinite_in=nonfinite_in)

    def expected_version(self) -> str | None:
        """The version that the change is meant for, if the client says; raises InvalidData for several."""
        if self.if_match is None or self.if_match.strip() == "*":
            return None
        tag = self.if_match.strip().removeprefix("W/")
        if "," in tag:
            raise InvalidData("If-Match", "expected one version id")
        return tag.strip('"')

    def summary(self, notebook_id: str) -> NotebookSummary:
        """A record without its cells, as its file is now; raises NotFound and Forbidden."""
        found = self._summary(notebook_id)
        self.actor.check(found)
        return self._summary(notebook_id) if self.freshen([found]) else found

    def check(self, notebook_id: str) -> None:
        """Raise NotFound and Forbidden as :meth:`summary` does, for use in a transaction.

        It does not look at the file: whoever waits in a transaction for a save to be recorded keeps it from being so.
        """
        self.actor.check(self._summary(notebook_id))

    def _summary(self, notebook_id: str) -> NotebookSummary:
        found = self.repository.find_summary(notebook_id)
        if found is None:
            raise NotFound("notebook", notebook_id)
        return found

    def freshen(self, records: Iterable[NotebookSummary]) -> bool:
        """Bring records up to date with files that were changed outside Jupyter; whether there were any."""
        ids = [record.id for record in records if record.path is not None]
        return bool(ids) and self.freshness.freshen(self.services.sync, ids)

    def notebook(self, notebook_id: str, *, outputs: bool = True) -> TrainingNotebook:
        """A record with its cells, whole or without their outputs; raises NotFound and Forbidden."""
        self.summary(notebook_id)  # before the cells of somebody else's are put together
        found = self.repository.find_by_id(notebook_id, outputs=outputs)
        if found is None:
            raise NotFound("notebook", notebook_id)
        return found

    def checkpoint(self, notebook_id: str, checkpoint_id: str) -> NotebookCheckpoint:
        """A checkpoint of a notebook; raises NotFound, also for another notebook's, and Forbidden."""
        self.summary(notebook_id)
        found = self.repository.get_checkpoint(checkpoint_id)
        if found is None or found.notebook_id != notebook_id:
            raise NotFound("checkpoint", checkpoint_id)
        return found

    def shown(self, record: NotebookHeader) -> dict[str, Any]:
        """A record's JSON form with the path that clients know; none for a file that this server does not serve."""
        document = record.to_json()
        stored = document.pop("path", None)
        if stored is not None and record.origin == self.services.sync.origin:
            path = self.paths.shown(stored)
            if path is not None:
                document["path"] = path
        return document
