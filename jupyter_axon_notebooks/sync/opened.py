"""The store as the worker has it: open, not yet, no longer, or in doubt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from ..errors import AxonError, StoreBusy, StoreError
from ..records import is_record_id
from ..repository import Binding, NotebookRepository
from ..store.urls import shown_url
from .embedded import EmbeddedIds
from .files import is_notebook_file, was_changed
from .queue import Save

#: Seconds for which a store that was opened in doubt, and passed, is believed: what is damaged in it lies where opening
#: does not look, and to open it once more at each save that meets it would help nobody.
_TRUST = 600.0


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
    """Opens the store, and again when it is gone or in doubt; knows what to record when another took its place.

    The worker's thread opens and leaves it; any thread may ask for it and doubt it.

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
        self._in_doubt = False
        self._passed_at: float | None = None

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
        return self._in_doubt or not self.is_open

    @property
    def is_trusted(self) -> bool:
        """Whether it was opened in doubt a while ago, and passed: who meets damage may have to get along with it."""
        return self._passed_at is not None and time.monotonic() < self._passed_at + _TRUST

    @property
    def opened(self) -> _Opened:
        """What opening the store gave; raises, as long as it cannot be opened, why."""
        opened = self._opened
        if opened is None:
            raise self._trouble.with_traceback(None)
        return opened

    def remember(self, files: Mapping[str, str]) -> None:
        """Notebook files that had a record in a store whose place this one takes; called by ``open``."""
        self.files |= files
        self._replaced = True

    def doubt(self) -> bool:
        """Have the store opened again before it is used the next time, unless it is trusted; whether this is news."""
        if self._opened is None or self._in_doubt or self.is_trusted:
            return False
        self._in_doubt = True
        return True

    def leave(self, trouble: Exception) -> None:
        """Close the store; ``trouble`` is what everybody is told until it is opened again."""
        self._trouble = trouble
        self._passed_at = None
        self.close()
        self._opened = None

    def close(self) -> None:
        """Close the store."""
        if self._opened is not None:
            self._opened.close()

    def begin(self) -> list[Save]:
        """Open the store, and look for what happened to the known files while nobody looked: what to record."""
        in_doubt = self._in_doubt
        if self.is_lost:
            self._replaced = True
            self._log.warning(
                "axon: the store %s, or its log, was deleted or replaced while it was in use: notebooks that are missing "
                "from it now are recorded again, checkpoints that are missing are gone",
                self.url,
            )
        try:
            if self._opened is not None:
                self.leave(self._not_yet())
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
        self._in_doubt = False
        self._passed_at = time.monotonic() if in_doubt and not self._replaced else None
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
