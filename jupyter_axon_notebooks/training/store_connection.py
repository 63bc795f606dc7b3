"""The connection of a training process to its store, whose failures never end a training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from ..errors import AxonError, StoreError
from ..states import StateStorage
from ..stores import OpenStore, StoreSettings, open_store_at
from ..sync import read_origin
from .messages import warn

#: Seconds after each failure in a row before the store is tried again; then always the last.
_RETRY_DELAYS: Final = (5.0, 15.0, 60.0, 300.0)
#: Seconds to wait for a locked store: usually, and after a failure.
_BUSY_TIMEOUT: Final = 10.0
_BUSY_TIMEOUT_AFTER_FAILURE: Final = 1.0
#: The same while a training logs, and the seconds until the store is tried again then.
BRIEF_TIMEOUT: Final = 0.1
_BRIEF_RETRY_DELAY: Final = 30.0

_T = TypeVar("_T")


class TrackingUnavailable(Exception):
    """The store did not record something; the user has been warned."""


#: The process that imported this module. In processes forked from it, SQLite may wait for ever:
#: another thread may have held one of its locks.
_IMPORTED_IN: Final = os.getpid()


def _is_forked() -> bool:
    return os.getpid() != _IMPORTED_IN


class StoreConnection:
    """A connection to the store, opened when it is first needed and again after it was lost.

    Queries use :meth:`open`, which raises if the store is unavailable. Recording uses
    :meth:`attempt`, which warns once and does not wait for an unavailable store on every call.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self._pid = os.getpid()
        self._opened: OpenStore | None = None
        self._store_id = ""
        self._failures = 0
        self._retry_at = 0.0
        self._is_brief = False
        self._has_brief_timeout = False
        self._brief_retry_at = 0.0

    @property
    def opened(self) -> OpenStore | None:
        """The store if it is open; any thread may ask."""
        return self._opened

    def open(self) -> OpenStore:
        """Return the open store; raises StoreError if it cannot be opened."""
        is_too_brief = self._has_brief_timeout and not self._is_brief
        if self._opened is not None and (self._opened.store.is_lost or is_too_brief):
            self.close()
        if self._opened is None:
            timeout = _BUSY_TIMEOUT_AFTER_FAILURE if self._failures else _BUSY_TIMEOUT
            self._has_brief_timeout = self._is_brief
            if self._is_brief:
                timeout = BRIEF_TIMEOUT
            self._opened = open_store_at(self.settings, busy_timeout=timeout, warn=warn)
            self._store_id = self._opened.store.mark_id
        return self._opened

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and os.getpid() == self._pid:
            opened.close()

    def origin(self) -> str:
        """Return the id of the Jupyter data folder; raises StoreError if it is unusable."""
        return read_origin(self.settings.data_folder, warn)

    @property
    def states(self) -> StateStorage:
        """The state files, even if the store is unavailable."""
        if self._opened is not None:
            return self._opened.states
        return self.settings.state_files(self._store_id)

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """Do not wait for the store in this block, and do not warn if it is unavailable."""
        self._is_brief = True
        try:
            yield
        finally:
            self._is_brief = False

    def attempt(self, work: Callable[[OpenStore], _T], *, at_once: bool = False) -> _T:
        """Return the result of ``work``, which uses nothing but the store.

        Parameters
        ----------
        at_once : bool
            Try the store even if the delay after the last failure is not over.

        Raises
        ------
        TrackingUnavailable
            If ``work`` failed, or the store is not to be tried again yet.
        """
        if self._failures and not at_once and time.monotonic() < self._retry_at:
            raise TrackingUnavailable
        if self._is_brief and (_is_forked() or time.monotonic() < self._brief_retry_at):
            raise TrackingUnavailable
        try:
            opened = self.open()
            with opened.store.limit_wait(BRIEF_TIMEOUT if self._is_brief else _BUSY_TIMEOUT):
                result = work(opened)
        except Exception as error:  # no error of tracking may stop a training
            if self._is_brief and isinstance(error, StoreError):
                self._brief_retry_at = time.monotonic() + _BRIEF_RETRY_DELAY
                self.close()
            else:
                self._note_failure(error)
            raise TrackingUnavailable from error
        if self._failures:
            self._failures = 0
            self.close()  # to open it again with the usual timeout
        return result

    def _note_failure(self, error: Exception) -> None:
        delay = _RETRY_DELAYS[min(self._failures, len(_RETRY_DELAYS) - 1)]
        self._retry_at = time.monotonic() + delay
        self._failures += 1
        if self._failures == 1:
            is_ours = isinstance(error, AxonError)
            cause = str(error) if is_ours else f"{type(error).__name__}: {error}"
            warn(
                f"checkpoints are not being recorded: {cause}. Training continues, and state files "
                f"are written to {self.settings.states_root}. The checkpoints are recorded as soon "
                "as the store is available again; after the training, run `jupyter axon recover`"
            )
        if isinstance(error, StoreError):
            self.close()
