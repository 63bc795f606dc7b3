"""What a server does in the background to keep its store in shape: never in a save, and never for long at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from .defaults import data_folder
from .errors import AxonError
from .repository import NotebookRepository
from .states import StateStorage
from .states.folders import format_size
from .states.tidy import tidy
from .store import Store
from .sync.others import made_at, other_origins
from .training.recovery import BackgroundRecovery

#: Seconds between two looks.
_INTERVAL = 3600.0
#: Seconds between two looks for checkpoints that are still to be recorded.
_RECOVERY_INTERVAL = 2.0
#: Checkpoints that cannot be recorded whose reason is logged; the others are counted.
_TROUBLES_TOLD = 10
#: Seconds of work after which to rest.
_TURN = 0.02
#: After it, rest this many times as long as it took: a tenth of the time is work at most.
_REST = 9
#: Seconds to rest at most.
_LONGEST_REST = 5.0

_T = TypeVar("_T")


class Upkeep:
    """Threads that look after the store in the background.

    One looks for records under other origins and sweeps leftovers when it starts, and looks after the store then and every
    hour. The other records checkpoints that
    were made while the store was unavailable.

    Several servers may do so on one store at once.

    What was written ahead of a version goes if it is there at two looks in a row: by then, no save is under way that
    would have to write it once more.

    Parameters
    ----------
    history_limit : int or None
        How many versions of a notebook are kept, besides those that checkpoints refer to; None: all.
    user_id : str or None
        Whose notebooks the limit is for: on a store that several servers share, others may have another. None:
        everybody's.
    interval : float
        Seconds between two looks.
    origin : str, optional
        The data folder's, by which records under other origins are told of.
    recovery : BackgroundRecovery, optional
        What was noted while the store was unavailable.
    reopen : callable, optional
        Asked to have the store opened again when its file was removed or replaced.
    """

    def __init__(
        self,
        store: Store,
        repository: NotebookRepository,
        states: StateStorage,
        history_limit: int | None,
        user_id: str | None,
        log: logging.Logger,
        interval: float = _INTERVAL,
        *,
        origin: str | None = None,
        recovery: BackgroundRecovery | None = None,
        reopen: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._repository = repository
        self._states = states
        self._keep = history_limit
        self._user_id = user_id
        self._log = log
        self._interval = interval
        self._origin = origin
        self._waiting: set[str] = set()
        self._stopping = threading.Event()
        self._reopen = reopen
        self._threads = [threading.Thread(target=self._work, name="axon-upkeep", daemon=True)]
        if recovery is not None:
            recovering = partial(self._recover, recovery)
            self._threads.append(
                threading.Thread(target=recovering, name="axon-recovery", daemon=True)
            )

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop after the step that is being done; False when ``timeout`` seconds were not enough."""
        self._stopping.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        with self._trouble_told("records under other origins"):
            if self._origin is not None:
                self._tell_of_other_origins(self._origin)
        with self._trouble_told("the state files"):
            tidy(self._states, self._repository, self._log, _Pace(self._stopping).rest)
        while not self._stopping.is_set():
            with self._trouble_told("the store"):
                self.look()
            self._stopping.wait(self._interval)

    def _recover(self, recovery: BackgroundRecovery) -> None:
        """Look again and again for checkpoints that are still to be recorded."""
        told: str | None = None
        while not self._stopping.is_set():
            try:
                if self._store.is_lost:
                    self._reopen()
                else:
                    self._record_noted(recovery)
                told = None
            except Exception as error:  # noqa: BLE001 - what is in the way now may be gone at the next look
                trouble = (
                    str(error)
                    if isinstance(error, AxonError)
                    else f"{type(error).__name__}: {error}"
                )
                if trouble != told:
                    told = trouble
                    self._log.warning(
                        "axon: what trainings could not record has to wait: %s", trouble
                    )
            self._stopping.wait(_RECOVERY_INTERVAL)

    def _record_noted(self, recovery: BackgroundRecovery) -> None:
        recorded = troubles = 0
        for done in self._paced(recovery.run_once(), _Pace(self._stopping)):
            if done is not None and done.error is not None:
                troubles += 1
                if troubles <= _TROUBLES_TOLD:
                    self._log.warning(
                        "axon: a checkpoint stays unrecorded, in %s: %s", done.folder, done.error
                    )
            recorded += done is not None and done.is_new
            if self._store.is_lost:
                break
        if troubles > _TROUBLES_TOLD:
            self._log.warning(
                "axon: %d more checkpoints stay unrecorded; `jupyter axon recover --dry-run` lists why",
                troubles - _TROUBLES_TOLD,
            )
        if recorded:
            count = "1 checkpoint" if recorded == 1 else f"{recorded} checkpoints"
            self._log.info("axon: recorded %s made while the store was unavailable", count)

    @contextmanager
    def _trouble_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except AxonError as error:
            self._log.warning("axon: %s could not be looked after: %s", what, error)
        except Exception:  # noqa: BLE001 - what is wrong now may be right in an hour
            self._log.error("axon: %s could not be looked after", what, exc_info=True)

    def _tell_of_other_origins(self, origin: str) -> None:
        others = other_origins(
            self._repository.bindings.list_other_origins(self._user_id, origin),
            partial(self._repository.bindings.find_by_path, origin),
            made_at(data_folder()),
            _Pace(self._stopping).rest,
        )
        for other in others:
            if not other.in_use:
                self._log.warning(
                    "axon: notebooks here with records under another origin (%s): %d, the first is %s. If that is no "
                    "other machine's, the origin of this data folder was lost: `jupyter axon doctor --rebind` mends it",
                    other.origin,
                    len(other.here),
                    other.here[0].path,
                )

    def look(self) -> None:
        """Do what there is to do, until told to stop."""
        repository, removed = self._repository, Counter[str]()
        with self._trouble_told("training runs"):
            repository.runs.finish_expired()
        before, self._waiting = self._waiting, repository.garbage.list_staged()
        sweeps = [(id, repository.garbage.remove_staged(id)) for id in before & self._waiting]
        if self._keep is not None:
            crowded = repository.garbage.list_notebooks(self._keep, self._user_id)
            sweeps += ((id, repository.garbage.remove_versions(id, self._keep)) for id in crowded)
        pace = _Pace(self._stopping)
        for id, steps in sweeps:
            with self._trouble_told(f"notebook {id}"):  # which others do not have to wait for
                for done in self._paced(steps, pace):
                    removed.update(done._asdict())
        given_back = sum(self._paced(self._store.reclaim(), pace))
        if removed.total():
            self._log.info(
                "axon: removed %d old versions of notebooks, and %d sources and outputs that no other version lists",
                removed["versions"],
                removed["contents"],
            )
        if given_back:
            self._log.info("axon: the store is %s smaller", format_size(given_back))

    def _paced(self, steps: Iterator[_T], pace: _Pace) -> Iterator[_T]:
        """The steps, with rests between them, until told to stop."""
        if self._stopping.is_set():
            return
        for done in steps:
            yield done
            if not pace.rest():
                return


class _Pace:
    """How fast to go: at rest most of the time, and no longer than until told to stop."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._began = time.monotonic()

    def rest(self) -> bool:
        """Rest, if it is time to; whether to go on."""
        worked = time.monotonic() - self._began
        if worked >= _TURN:
            self._stopping.wait(min(worked * _REST, _LONGEST_REST))
            self._began = time.monotonic()
        return not self._stopping.is_set()
