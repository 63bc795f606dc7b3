"""The store as the worker has it: open, not yet, or no longer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..errors import AxonError, StoreBusy, StoreError
from ..records import is_record_id
from ..repository import Binding, NotebookRepository
from ..store.urls import shown_url
from .embedded import EmbeddedIds
from .files import is_notebook_file, was_changed
from .queue import Event, Save


class Opened(Protocol):
    """What the worker needs of an open store."""

    @property
    def repository(self) -> NotebookRepository:
        """Where records are kept."""

    @property
    def origin(self) -> str:
        """The id of this Jupyter data folder; records are bound to (origin, real path)."""

    @property
    def is_lost(self) -> bool:
        """Whether the store's file was removed or replaced, so that it has to be opened again."""

    def close(self) -> None:
        """Close the store."""


_Opened = TypeVar("_Opened", bound=Opened)


class OpenedStore(Generic[_Opened]):
    """Opens the store, and again when it is gone; knows what to record when another took its place.

    The worker's thread opens and leaves it; any thread may ask for it.

    Attributes
    ----------
    url : str
        The store's, for messages.
    files : dict
        Notebook files by path, each with its owner, as far as they are known to have a record.
    """

    def __init__(
        self, url: str, open: Callable[[], _Opened], log: logging.Logger, ids: EmbeddedIds
    ) -> None:
        self.url = shown_url(url)
        self.files: dict[str, str] = {}
        self._open = open
        self._log = log
        self._ids = ids
        self._opened: _Opened | None = None
        self._trouble: Exception = self._not_yet()
        self._was_open = False
        self._replaced = False

    def _not_yet(self) -> StoreBusy:
        return StoreBusy(f"the store {self.url} is still being opened")

    @property
    def is_open(self) -> bool:
        """Whether the store could be opened, and is still where it was."""
        opened = self._opened  # once: the worker may be leaving it
        return opened is not None and not opened.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether it was opened, and is no longer where it was."""
        opened = self._opened
        return opened is not None and opened.is_lost

    @property
    def was_open(self) -> bool:
        """Whether it is open, or was until it had to be opened again; not where that has been tried in vain."""
        return self._was_open

    @property
    def is_due(self) -> bool:
        """Whether it has to be opened before anything is done with it."""
        return not self.is_open

    @property
    def opened(self) -> _Opened:
        """What opening the store gave; raises, as long as it cannot be opened, why."""
        opened = self._opened
        if opened is None:
            raise self._trouble.with_traceback(None)
        return opened

    def record_in_next(self, event: Event) -> None:
        """Record a file that a damaged store did not accept once another store takes its place."""
        if isinstance(event, Save):
            self.files.setdefault(event.path, event.owner)

    def close(self) -> None:
        """Close the store."""
        if self._opened is not None:
            self._opened.close()

    def begin(self) -> list[Save]:
        """Open the store, and look for what happened to the known files while nobody looked: what to record."""
        if self.is_lost:
            self._replaced = True
            self._log.warning(
                "axon: the store %s, or its log, was deleted or replaced while it was in use: notebooks that are missing "
                "from it now are recorded again, checkpoints that are missing are gone",
                self.url,
            )
        try:
            if self._opened is not None:
                self._trouble = self._not_yet()
                self.close()
                self._opened = None
            opened = self._open()
        except Exception as error:
            self._was_open = False
            named = isinstance(error, AxonError)
            self._trouble = error if named else StoreError(f"the store {self.url}: {error}")
            raise self._trouble from error
        bindings = self._known(opened)
        # A file that carries no record id gets its record's with the next save.
        self._ids.learn(
            {str(b.path): b.embedded_id if is_record_id(b.embedded_id) else b.id for b in bindings}
        )
        self._opened = opened
        self._was_open = True
        self._log.info("axon: training notebooks are recorded in %s", self.url)
        missed = [
            Save(str(binding.path), binding.user_id) for binding in filter(was_changed, bindings)
        ]
        known = {str(binding.path): binding.user_id for binding in bindings}
        if self._replaced:
            missed += (
                Save(path, owner)
                for path, owner in self.files.items()
                if path not in known and is_notebook_file(path)
            )
            self._replaced = False
        self.files |= known
        return missed

    def _known(self, opened: _Opened) -> list[Binding]:
        try:
            return opened.repository.bindings.list(opened.origin)
        except Exception as error:  # noqa: BLE001 - the store can be used, whatever is wrong with some of it
            self._log.error("axon: what changed while no server ran is found later: %s", error)
            return []
