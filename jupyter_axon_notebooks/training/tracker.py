"""How a training process reaches records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ..defaults import data_folder
from ..errors import AxonError, StoreError
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import Store
from ..sync import read_origin
from .home import Home, warn
from .settings import KernelSettings

#: Seconds after a failure before the store is tried again; the last for good.
_RETRY: Final = (5.0, 15.0, 60.0, 300.0)
#: Seconds to wait for others who keep the store locked: while all is well, and when it was not the last time.
_PATIENT: Final = 10.0
_IMPATIENT: Final = 1.0

_T = TypeVar("_T")


class TrackingUnavailable(Exception):
    """The store did not take it; the user has been told."""


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, AxonError) else f"{type(error).__name__}: {error}"


class LocalTracker:
    """The way to the store.

    Who asks a question gets the store, or the error that says why not (:meth:`home`). What a training records is
    different: it must not fail, nor wait again and again for a store that cannot be had (:meth:`record`).
    """

    def __init__(self, settings: KernelSettings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._home: Home | None = None
        self._mark = ""
        self._failures = 0
        self._again_at = 0.0

    @property
    def opened(self) -> Home | None:
        """The store, if it is open; asked by any thread."""
        return self._home

    def home(self) -> Home:
        """The open store.

        Raises
        ------
        StoreError
            When it cannot be opened.
        """
        if self._home is not None and self._home.store.is_lost:
            self.close()
        if self._home is None:
            self._home = self._open()
        return self._home

    def _open(self) -> Home:
        settings = self._settings
        if settings.unreachable is not None:
            raise StoreError(settings.unreachable)
        origin = read_origin(data_folder(settings.data_dir), warn)
        store = Store(settings.store_url, busy_timeout=_IMPATIENT if self._failures else _PATIENT)
        try:
            store.check_user(settings.user_id)
            self._mark = store.mark_id
            states = self._states()
            return Home(store, NotebookRepository(store, states=states), states, origin)
        except BaseException:
            store.close()
            raise

    def origin(self) -> str | None:
        """The id of this Jupyter data folder; None where even that cannot be had."""
        try:
            return read_origin(data_folder(self._settings.data_dir), warn)
        except StoreError:
            return None

    def states(self) -> StateStorage:
        """The home of state files, whether or not there is a store."""
        if self._home is not None:
            return self._home.states
        return self._states()

    def _states(self) -> StateStorage:
        folder = data_folder(self._settings.data_dir)
        return StateStorage(
            Path(self._settings.states_root), store_id=self._mark, data_folder=folder
        )

    def record(self, work: Callable[[Home], _T], *, at_once: bool = False) -> _T:
        """What ``work`` gives; done with nothing else than the store, whose failures are told once.

        Parameters
        ----------
        at_once : bool
            Do not wait until it is time to try again.

        Raises
        ------
        TrackingUnavailable
            When the store did not take it, or is not to be tried again yet.
        """
        if self._failures and not at_once and time.monotonic() < self._again_at:
            raise TrackingUnavailable
        try:
            done = work(self.home())
        except Exception as error:  # whatever it is, the training goes on
            self._failed(error)
            raise TrackingUnavailable from error
        if self._failures:
            self._failures = 0
            self.close()  # the next to open it has patience again
        return done

    def _failed(self, error: Exception) -> None:
        wait = _RETRY[min(self._failures, len(_RETRY) - 1)]
        self._again_at = time.monotonic() + wait
        self._failures += 1
        if self._failures == 1:
            warn(
                f"checkpoints are not being recorded: {_cause(error)}. The training goes on, and their state files are "
                f"written to {self._settings.states_root}. They are recorded as soon as the store can be had again; after "
                "the training, `jupyter axon recover` does it"
            )
        if isinstance(error, StoreError):
            self.close()

    def close(self) -> None:
        """Close the store; the next question opens it again."""
        home, self._home = self._home, None
        if home is not None and os.getpid() == self._pid:
            home.store.close()
