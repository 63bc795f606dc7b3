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

#: Seconds of work before a rest, and the rest as a multiple of the work. So at most a tenth of the
#: time is work.
_WORK_TIME = 0.02
_REST_FACTOR = 9
_MAX_REST = 5.0
#: Bytes of state files above which a warning suggests pruning.
_MUCH_SPACE = 10 * 1000**3

_T = TypeVar("_T")


class Pace:
    """The pace of background work: short periods of work and rests, until ``stopping`` is set."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._began = time.monotonic()

    def rest(self) -> bool:
        """Rest if it is time to; return whether to continue."""
        worked = time.monotonic() - self._began
        if worked >= _WORK_TIME:
            self._stopping.wait(min(worked * _REST_FACTOR, _MAX_REST))
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
    """Removes old versions, unused contents, rows of lost runs, free pages and stray state files.

    Several servers may collect the garbage of one store at once.

    Parameters
    ----------
    history_limit : int or None
        The number of versions of a notebook to keep, in addition to those that checkpoints refer
        to. None keeps all.
    user_id : str or None
        The user whose notebooks the limit applies to, since servers that share a store may have
        different limits. None means all users.
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
        """Remove old versions, unused contents and rows of lost runs, then free pages of the file.

        Staged contents are removed when two collections in a row find them. By then, the save that
        staged them is no longer in progress.
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
        with log_errors(self._log, "clean-up of the rows of lost runs"):
            for done in pace.steps(garbage.remove_lost_runs()):
                removed.update(done._asdict())
        freed = sum(pace.steps(self._repository.store.vacuum()))
        if removed["rows"]:
            self._log.info("axon: removed %d rows of runs that are gone", removed["rows"])
        if removed["versions"] or removed["contents"]:
            self._log.info(
                "axon: removed %d old versions of notebooks and %d sources and outputs that no "
                "version uses",
                removed["versions"],
                removed["contents"],
            )
        if freed:
            self._log.info("axon: returned %s of the store to the file system", format_size(freed))

    def collect_states(self, pace: Pace) -> None:
        """Remove state files of killed processes, and warn if state files take much space."""
        try:
            report = sweep(self._states, self._repository.checkpoints.list_state_names, pace.rest)
            used = self._states.measure(progress=lambda _seen: _check(pace.rest()))
        except _Stopped:
            return
        for problem in report.problems:
            self._log.warning("axon: cannot remove files of an interrupted write: %s", problem)
        if report.freed:
            self._log.info(
                "axon: removed %s of files of interrupted writes", format_size(report.freed)
            )
        if used > _MUCH_SPACE:
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
    """Log errors instead of raising them. The background task is repeated later."""
    try:
        yield
    except AxonError as error:
        log.warning("axon: %s failed: %s", task, error)
    except Exception:  # a defect must not end the schedule of the server
        log.error("axon: %s failed", task, exc_info=True)
