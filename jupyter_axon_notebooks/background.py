"""The scheduled work of a server: garbage collection, expired runs and recovered checkpoints."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from .defaults import data_folder
from .errors import AxonError
from .garbage import GarbageCollector, Pace, log_errors
from .repository import NotebookRepository
from .sync.origin import find_other_origins, origin_created_at
from .training.recovery import BackgroundRecovery

#: Seconds between two garbage collections, and between two searches for checkpoints that wait to
#: be recorded.
_INTERVAL = 3600.0
_RECOVERY_INTERVAL = 2.0
#: The maximum number of errors to log for one search; the others are counted.
_LOGGED_ERRORS = 10


class BackgroundWork:
    """The background threads of a server.

    The first thread logs records under other origins and removes leftover state files once. Then it
    finishes expired runs and collects garbage every hour. The second thread records checkpoints
    that were made while the store was unavailable. It also calls ``reopen`` when the store's file
    was removed or replaced.

    Parameters
    ----------
    user_id : str or None
        The user whose records under other origins are logged. None means all users.
    origin : str, optional
        The origin of the data folder. Without it, the first thread does not log other origins.
    recovery : BackgroundRecovery, optional
        The recovery of checkpoints. Without it, the second thread is not started.
    reopen : callable
        Opens the store again.
    interval : float
        Seconds between two garbage collections.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        collector: GarbageCollector,
        log: logging.Logger,
        *,
        user_id: str | None = None,
        origin: str | None = None,
        recovery: BackgroundRecovery | None = None,
        reopen: Callable[[], object] = lambda: None,
        interval: float = _INTERVAL,
    ) -> None:
        self._repository = repository
        self._collector = collector
        self._log = log
        self._user_id = user_id
        self._origin = origin
        self._reopen = reopen
        self._interval = interval
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="axon-background", daemon=True)]
        if recovery is not None:
            recover = partial(self._recover, recovery)
            self._threads.append(
                threading.Thread(target=recover, name="axon-recovery", daemon=True)
            )

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop after the current step; return False if that takes more than ``timeout`` seconds."""
        self._stopping.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def run_once(self) -> None:
        """Finish expired runs and collect garbage."""
        with log_errors(self._log, "finishing expired runs"):
            self._repository.runs.finish_expired()
        with log_errors(self._log, "garbage collection"):
            self._collector.collect(Pace(self._stopping))

    def _run(self) -> None:
        if self._origin is not None:
            with log_errors(self._log, "the search for records under other origins"):
                self._log_other_origins(self._origin)
        with log_errors(self._log, "the clean-up of state files"):
            self._collector.collect_states(Pace(self._stopping))
        while not self._stopping.is_set():
            self.run_once()
            self._stopping.wait(self._interval)

    def _log_other_origins(self, origin: str) -> None:
        bindings = self._repository.bindings
        others = find_other_origins(
            bindings.list_other_origins(self._user_id, origin),
            partial(bindings.find_by_path, origin),
            origin_created_at(data_folder()),
            Pace(self._stopping).rest,
        )
        for other in others:
            if not other.in_use:
                self._log.warning(
                    "axon: %d notebooks here have records under another origin (%s), for example "
                    "%s. If no other machine uses that origin, this data folder has lost its own: "
                    "run `jupyter axon doctor --rebind`",
                    len(other.here),
                    other.origin,
                    other.here[0].path,
                )

    def _recover(self, recovery: BackgroundRecovery) -> None:
        logged: str | None = None
        while not self._stopping.is_set():
            try:
                if self._repository.store.is_lost:
                    self._reopen()
                else:
                    self._record_checkpoints(recovery)
                logged = None
            except Exception as error:  # noqa: BLE001 - logged, and retried soon
                kind = "" if isinstance(error, AxonError) else f"{type(error).__name__}: "
                message = f"{kind}{error}"
                if message != logged:
                    logged = message
                    self._log.warning("axon: cannot record checkpoints, will retry: %s", message)
            self._stopping.wait(_RECOVERY_INTERVAL)

    def _record_checkpoints(self, recovery: BackgroundRecovery) -> None:
        recorded = errors = 0
        for result in Pace(self._stopping).steps(recovery.run_once()):
            if result is not None and result.error is not None:
                errors += 1
                if errors <= _LOGGED_ERRORS:
                    self._log.warning(
                        "axon: cannot record a checkpoint in %s: %s", result.folder, result.error
                    )
            recorded += result is not None and result.is_new
            if self._repository.store.is_lost:
                break
        if errors > _LOGGED_ERRORS:
            self._log.warning(
                "axon: cannot record %d more checkpoints; `jupyter axon recover --dry-run` lists "
                "the reasons",
                errors - _LOGGED_ERRORS,
            )
        if recorded:
            count = "1 checkpoint" if recorded == 1 else f"{recorded} checkpoints"
            self._log.info("axon: recorded %s made while the store was unavailable", count)
