"""What the handlers work with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from ..background import BackgroundWork
from ..config import AxonNotebooks
from ..errors import StoreBusy
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import Store
from ..sync import NotebookSync
from .tags import Tags
from .writers import TIMEOUT, Writers

#: The key of :class:`Services` in the server's settings.
SETTING: Final = "axon_services"
#: Seconds for which a store that could not be read counts as one that still cannot be.
_RECENT: Final = 1.0
#: Answers with the outputs of a notebook that are made at a time.
_LARGE: Final = 2


@dataclass(frozen=True)
class Home:
    """What stands on an open store."""

    store: Store
    repository: NotebookRepository
    states: StateStorage
    origin: str
    background: BackgroundWork

    @property
    def is_lost(self) -> bool:
        """Whether the store's file was removed or replaced."""
        return self.store.is_lost

    def close(self) -> None:
        """Stop looking after the store, then close it."""
        self.background.stop()
        self.store.close()


class Outage:
    """When a read last gave up waiting for a store that could not even be read. Safe to use from any thread."""

    def __init__(self) -> None:
        self._noted = -math.inf

    def note(self) -> None:
        """Note that a read has just given up."""
        self._noted = time.monotonic()

    @property
    def is_recent(self) -> bool:
        """Whether one has, within the last second."""
        return time.monotonic() - self._noted < _RECENT


@dataclass(frozen=True)
class Services:
    """What the extension puts into the server's settings under :data:`SETTING`.

    Attributes
    ----------
    executor : Executor
        Worker threads: whatever reads the store, or touches the disk, happens there.
    writers : Writers
        Those in which the store is changed.
    tags : Tags
        Of answers that were given.
    outage : Outage
        Of the store, as reads saw it.
    """

    config: AxonNotebooks
    sync: NotebookSync[Home]
    executor: Executor
    writers: Writers
    tags: Tags = field(default_factory=Tags, repr=False)
    outage: Outage = field(default_factory=Outage, repr=False)
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LARGE), repr=False)
    _editing: WeakValueDictionary[str, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, repr=False
    )

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records; raises StoreError as long as the store cannot be opened."""
        return self.sync.session.repository

    @property
    def states(self) -> StateStorage:
        """The home of state files; raises as :attr:`repository` does."""
        return self.sync.session.states

    def making_large(self) -> AbstractAsyncContextManager[None]:
        """Make an answer with the outputs of a notebook in it, few at a time; for the event loop's thread only.

        Raises
        ------
        StoreBusy
            When others have been at it for too long.
        """
        return _held(
            self._large,
            f"other answers with outputs have been in the making for over {TIMEOUT:g} s; try again",
        )

    @asynccontextmanager
    async def editing(self, file: str) -> AsyncIterator[None]:
        """Keep others from writing to one notebook file; for the event loop's thread only.

        Raises
        ------
        StoreBusy
            When others have been at it for too long.
        """
        lock = self._editing.get(file)
        if lock is None:
            lock = self._editing[file] = asyncio.Lock()
        busy = (
            f"other changes of the notebook {file} have been waiting for over {TIMEOUT:g} s; "
            "nothing was changed, try again"
        )
        async with _held(lock, busy):
            yield


@asynccontextmanager
async def _held(lock: asyncio.Lock | asyncio.Semaphore, busy: str) -> AsyncIterator[None]:
    """Hold ``lock``; raises StoreBusy, saying ``busy``, when it could not be acquired in time."""
    # Python before 3.12 loses a lock that wait_for() acquires just as its time is over.
    acquiring = asyncio.ensure_future(lock.acquire())
    try:
        await asyncio.wait({acquiring}, timeout=TIMEOUT)
        if not acquiring.done():
            raise StoreBusy(busy)
        yield
    finally:
        if acquiring.done():
            lock.release()
        else:
            acquiring.cancel()
