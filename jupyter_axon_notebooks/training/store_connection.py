"""The connection of a training process to its store, whose failures never end a training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ..defaults import data_folder
from ..errors import AxonError, StoreError
from ..repository import NotebookRepository
from ..states import StateFiles
from ..store import Store
from ..sync import read_origin
from .home import Home, warn
from .settings import KernelSettings

#: Seconds after a failure before the store is tried again; the last for all further failures.
_RETRY_DELAYS: Final = (5.0, 15.0, 60.0, 300.0)
#: Seconds to wait for a locked store, and after it was unavailable the last time.
_BUSY_TIMEOUT: Final = 10.0
_SHORT_BUSY_TIMEOUT: Final = 1.0

_T = TypeVar("_T")


class TrackingUnavailable(Exception):
    """The store did not take something, or is not to be tried again yet. The user was warned."""


class StoreConnection:
    """A store that is opened when it is needed, and opened again after it was lost."""

    def __init__(self, settings: KernelSettings) -> None:
        self.settings = settings
        self._pid = os.getpid()
        self._home: Home | None = None
        self._store_id = ""
        self._failures = 0
        self._retry_at = 0.0

    @property
    def opened(self) -> Home | None:
        """The store if it is open; for other threads, which must not open it."""
        return self._home

    def origin(self) -> str:
        """Return the id of the Jupyter data folder.

        Raises
        ------
        StoreError
            If it cannot be read or created.
        """
        return read_origin(data_folder(self.settings.data_dir), warn)

    def open(self) -> Home:
        """Return the open store.

        Raises
        ------
        StoreError
            If it cannot be opened.
        """
        if self._home is not None and self._home.store.is_lost:
            self.close()
        if self._home is None:
            self._home = self._open()
        return self._home

    def _open(self) -> Home:
        settings = self.settings
        if settings.unreachable is not None:
            raise StoreError(settings.unreachable)
        origin = self.origin()
        timeout = _SHORT_BUSY_TIMEOUT if self._failures else _BUSY_TIMEOUT
        store = Store(settings.store_url, busy_timeout=timeout)
        try:
            store.check_user(settings.user_id)
            self._store_id = store.mark_id
            states = self._state_files()
            return Home(store, NotebookRepository(store, states=states), states, origin)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        home, self._home = self._home, None
        if home is not None and os.getpid() == self._pid:
            home.store.close()

    @property
    def states(self) -> StateFiles:
        """The state files, also while the store is unavailable."""
        return self._state_files() if self._home is None else self._home.states

    def _state_files(self) -> StateFiles:
        root, folder = Path(self.settings.states_root), data_folder(self.settings.data_dir)
        return StateFiles(root, store_id=self._store_id, data_folder=folder)

    def attempt(self, work: Callable[[Home], _T], *, at_once: bool = False) -> _T:
        """Return what ``work`` returns, and warn once while it fails: no failure may end a training.

        Parameters
        ----------
        work : callable
            Uses nothing but the store, so that every failure is one of tracking.
        at_once : bool
            Try even if the store failed a moment ago.

        Raises
        ------
        TrackingUnavailable
            If it failed, or is not to be tried again yet.
        """
        if self._failures and not at_once and time.monotonic() < self._retry_at:
            raise TrackingUnavailable
        try:
            result = work(self.open())
        except Exception as error:
            self._note_failure(error)
            raise TrackingUnavailable from error
        if self._failures:
            self._failures = 0
            self.close()  # to be opened with the long timeout
        return result

    def _note_failure(self, error: Exception) -> None:
        delay = _RETRY_DELAYS[min(self._failures, len(_RETRY_DELAYS) - 1)]
        self._retry_at = time.monotonic() + delay
        self._failures += 1
        if self._failures == 1:
            cause = (
                str(error) if isinstance(error, AxonError) else f"{type(error).__name__}: {error}"
            )
            warn(
                f"Checkpoints are not being recorded: {cause}. Training continues, and state files are written to "
                f"{self.settings.states_root}. They are recorded once the store is available again; after the "
                "training, `jupyter axon recover` records them"
            )
        if isinstance(error, StoreError):
            self.close()
