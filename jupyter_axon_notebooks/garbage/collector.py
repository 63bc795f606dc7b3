"""The garbage collector of a server: what it removes, and how fast."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..errors import AxonError
from ..repository import NotebookRepository
from ..states import StateStorage
from ..states.folders import format_size
from .state_folders import sweep

#: Seconds of work after which to rest, and the rest as a multiple of the work: work takes a tenth
#: of the time at most.
_TURN = 0.02
_REST = 9
_LONGEST_REST = 5.0
#: Bytes of state files above which the log suggests to prune.
_LARGE = 10 * 1000**3

_T = TypeVar("_T")


class Pace:
    """The pace of background work: short turns with rests, until ``stopping`` is set."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._began = time.monotonic()

    def rest(self) -> bool:
        """Rest if a turn is over; return whether to go on."""
        worked = time.monotonic() - self._began
        if worked >= _TURN:
            self._stopping.wait(min(worked * _REST, _LONGEST_REST))
            self._began = time.monotonic()
        return not self._stopping.is_set()

    def steps(self, steps: Iterable[_T]) -> Iterator[_T]:
        """Yield ``steps`` with rests between them, until ``stopping`` is set."""
        if self._stopping.is_set():
            return
        for step in steps:
            yield step
            if not self.rest():
                return


class GarbageCollector:
    """Removes old versions, unused contents, free pages and state files without a record.

    Several servers may collect the garbage of one store at once.

    Parameters
    ----------
    history_limit : int or None
        The number of versions of a notebook to keep besides those that checkpoints refer to. None
        keeps all.
    user_id : str or None
        The user whose notebooks the limit is for, since servers that share a store may have
        different limits. None means everybody.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        states: StateStorage,
        log: logging.Logger,
        *,
        history_limit: int | None = None,
        user_id: str | None = None,
    ) -> None:
        self._repository = repository
        self._states = states
        self._log = log
        self._history_limit = history_limit
        self._user_id = user_id
        self._staged: set[str] = set()

    def collect(self, pace: Pace) -> None:
        """Remove old versions and unused contents, then shorten the store's file.

        Contents that were staged for a version are removed when two collections in a row find
        them: by then, no save is in progress that would have to write them again.
        """
        garbage, removed = self._repository.garbage, Counter[str]()
        before, self._staged = self._staged, garbage.list_staged()
        tasks = [(id, garbage.remove_staged(id)) for id in before & self._staged]
        limit = self._history_limit
        if limit is not None:
            notebooks = garbage.list_notebooks(limit, self._user_id)
            tasks += ((id, garbage.remove_versions(id, limit)) for id in notebooks)
        for id, steps in tasks:
            with log_errors(self._log, f"clean-up of notebook {id}"):
                for done in pace.steps(steps):
                    removed.update(done._asdict())
        freed = sum(pace.steps(self._repository.store.vacuum()))
        if removed.total():
            self._log.info(
                "axon: removed %d old versions of notebooks and %d sources and outputs that no "
                "other version uses",
                removed["versions"],
                removed["contents"],
            )
        if freed:
            self._log.info("axon: returned %s of the store to the file system", format_size(freed))

    def collect_states(self, pace: Pace) -> None:
        """Remove state files of killed processes, and log when state files take much space."""
        try:
            report = sweep(self._states, self._repository.checkpoints.list_state_names, pace.rest)
            used = self._states.measure(progress=lambda _seen: _check(pace.rest()))
        except _Stopped:
            return
        for problem in report.problems:
            self._log.warning("axon: cannot remove leftovers of an interrupted write: %s", problem)
        if report.freed:
            self._log.info(
                "axon: removed %s that interrupted writes left behind", format_size(report.freed)
            )
        if used > _LARGE:
            self._log.warning(
                "axon: state files take %s in %s. `jupyter axon prune --all --keep-newest 5 "
                "--keep-best METRIC` shows which ones can be removed, and how much that frees",
                format_size(used),
                self._states.root,
            )


class _Stopped(Exception):
    """Raised to end a scan when the server stops."""


def _check(go_on: bool) -> None:
    if not go_on:
        raise _Stopped


@contextmanager
def log_errors(log: logging.Logger, task: str) -> Iterator[None]:
    """Log errors of a background task, which is tried again later, and go on."""
    try:
        yield
    except AxonError as error:
        log.warning("axon: %s failed: %s", task, error)
    except Exception:
        log.error("axon: %s failed", task, exc_info=True)
