"""The way of a training process to records: the store, the notebook, and what is still pending."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from ..errors import AxonError, Conflict, NotFound, StoreError
from ..metrics import finite_metrics, merge_metrics, rank, suggest_names
from ..printable import printable
from ..records import (
    NewCheckpoint,
    NotebookCheckpoint,
    NotebookSummary,
    RunStatus,
    TrainingNotebook,
    TrainingRun,
    UpdateCheckpoint,
    now,
)
from ..repository import NotebookRepository
from ..states import StateStorage
from ..states.notes import has_note
from ..stores import OpenStore, StoreSettings, open_store_at
from ..sync import read_origin
from .checkpoint import Checkpoint
from .discovery import location
from .discovery.record import (
    PreviousRecord,
    find_or_create_record,
    has_record,
    report_unbound,
)
from .execution import current_execution, executed_cells
from .execution.environment import collect_environment
from .messages import print_message, warn
from .processes import LEASE
from .recovery import UnrecordedCheckpoint, find_unrecorded, recover, start_run
from .resuming import ResumeRequest, ResumeSearch, find_run, list_branch

#: Seconds after a failure before the store is tried again.
_RETRY_DELAY: Final = 15.0
#: Seconds to wait for a locked store: usually, and after a failure.
_BUSY_TIMEOUT: Final = 10.0
_BUSY_TIMEOUT_AFTER_FAILURE: Final = 1.0
#: Checkpoints whose metrics are suggested for a misspelt one.
_MAX_SEARCHED: Final = 1000

_T = TypeVar("_T")


class TrackingUnavailable(Exception):
    """The store did not record something; the user has been warned."""


class StoreConnection:
    """A connection to the store, opened when it is first needed and again after it was lost.

    Queries use :meth:`open`, which raises if the store is unavailable. Recording uses
    :meth:`attempt`, which warns once and does not wait for an unavailable store on every call.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self._pid = os.getpid()
        self.opened: OpenStore | None = None
        self._store_id = ""
        self._has_failed = False
        self._retry_at = 0.0

    def open(self) -> OpenStore:
        """Return the open store; raises StoreError if it cannot be opened."""
        if self.opened is not None and self.opened.store.is_lost:
            self.close()
        if self.opened is None:
            timeout = _BUSY_TIMEOUT_AFTER_FAILURE if self._has_failed else _BUSY_TIMEOUT
            self.opened = open_store_at(self.settings, busy_timeout=timeout, warn=warn)
            self._store_id = self.opened.store.mark_id
        return self.opened

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        opened, self.opened = self.opened, None
        if opened is not None and os.getpid() == self._pid:
            opened.close()

    @property
    def states(self) -> StateStorage:
        """The state files, even if the store is unavailable."""
        if self.opened is not None:
            return self.opened.states
        return self.settings.state_files(self._store_id)

    def attempt(
        self,
        work: Callable[[OpenStore], _T],
        *,
        at_once: bool = False,
        expected: type[Exception] | tuple[()] = (),
    ) -> _T:
        """Return the result of ``work``, which uses nothing but the store.

        Parameters
        ----------
        at_once : bool
            Try the store even if the delay after the last failure is not over.
        expected : type
            An exception that is no failure of the store, and is raised as it is.

        Raises
        ------
        TrackingUnavailable
            If ``work`` failed, or the store is not to be tried again yet.
        """
        if self._has_failed and not at_once and time.monotonic() < self._retry_at:
            raise TrackingUnavailable
        try:
            result = work(self.open())
        except expected:
            raise
        except Exception as error:  # no error of tracking may stop a training
            self._note_failure(error)
            raise TrackingUnavailable from error
        if self._has_failed:
            self._has_failed = False
            self.close()  # to open it again with the usual timeout
        return result

    def _note_failure(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + _RETRY_DELAY
        if not self._has_failed:
            self._has_failed = True
            is_ours = isinstance(error, AxonError)
            cause = str(error) if is_ours else f"{type(error).__name__}: {error}"
            warn(
                f"checkpoints are not being recorded: {cause}. Training continues, and state files "
                f"are written to {self.settings.states_root}. The checkpoints are recorded as soon "
                "as the store is available again; after the training, run `jupyter axon recover`"
            )
        if isinstance(error, StoreError):
            self.close()


class CurrentNotebook:
    """The notebook that this process trains, located anew in each execution of a cell."""

    def __init__(self, user_id: str) -> None:
        self.record: NotebookSummary | None = None
        self._user_id = user_id
        self._place: location.NotebookLocation | None = None
        self._execution: Any = None
        self._previous: PreviousRecord | None = None

    @property
    def folder(self) -> str | None:
        """The folder of the notebook's file."""
        found = self._place
        return None if found is None or found.path is None else os.path.dirname(found.path)

    def locate(self) -> location.NotebookLocation:
        """Return where the notebook is; servers are asked once per execution."""
        execution = current_execution()
        if self._place is None or execution != self._execution:
            found = location.find_location()
            # If it is unknown now, a server is gone or a variable was deleted: keep what was known.
            if self._place is None or found.kind != "unknown":
                self._place = found
            self._execution = execution
        return self._place

    def update(self, opened: OpenStore) -> NotebookSummary:
        """Return the record, brought up to date with the file, or created."""
        if self.record is None or current_execution() != self._execution:
            found = self.locate()
            self.record = find_or_create_record(
                opened.repository, found, opened.origin, self._user_id, self._previous
            )
            self._previous = PreviousRecord(found, self.record.id)
        return self.record

    def find(self, opened: OpenStore) -> NotebookSummary | None:
        """Return the record as :meth:`update` does, but create none; None if there is none."""
        if self.record is None or current_execution() != self._execution:
            self.record = None
            found, repository = self.locate(), opened.repository
            has_previous = (
                self._previous is not None
                and repository.find_summary(self._previous.id) is not None
            )
            if not has_previous and not has_record(repository, found, opened.origin, self._user_id):
                return None
        return self.update(opened)


@dataclass
class _Pending:
    """A checkpoint that no store has: its note, and the object that the user has."""

    note: UnrecordedCheckpoint
    checkpoint: Checkpoint

    def belongs_to(self, run: str) -> bool:
        record = self.note.run
        return record is not None and (record.key == run or record.id.startswith(run))


class Tracker:
    """The records of a training process, on a store that is opened again when it was lost.

    What a training records (runs, checkpoints, metrics) never fails because the store is
    unavailable: it is noted beside the state files (:mod:`..states.notes`), and recorded by this
    process once the store is available, by a server, or by ``jupyter axon recover``. Questions
    raise :class:`StoreError` then.

    Attributes
    ----------
    lock : threading.RLock
        To be held during every call except :meth:`renew_lease`.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.lock = threading.RLock()
        self._settings = settings
        self._connection = StoreConnection(settings)
        self._notebook = CurrentNotebook(settings.user_id)
        self._running: set[str] = set()  # ids of runs that the store has as running
        self._provenance: tuple[Any, str, str] | None = None  # execution, notebook, provenance
        self._pending: list[_Pending] = []
        self._pending_metrics: list[tuple[str, Any, list[str]]] = []

    @property
    def states(self) -> StateStorage:
        """The state files, also while the store is unavailable."""
        return self._connection.states

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        self._connection.close()

    # The notebook

    def use(self, path_or_id: str) -> TrainingNotebook:
        """Set which notebook is trained; nothing changes if it cannot be found."""
        with location.use_if_valid(path_or_id):
            self._notebook = CurrentNotebook(self._settings.user_id)
            return self.notebook()

    def notebook(self) -> TrainingNotebook:
        """Return the record of the notebook, with its cells."""
        opened = self._connection.open()
        id = self._notebook.update(opened).id
        found = opened.repository.find_by_id(id)
        if found is None:
            self._notebook.record = None
            raise NotFound("notebook", id)
        return found

    def notebook_id(self, *, at_once: bool = False) -> str | None:
        """Record what is pending; return the id of the notebook's record if it is known."""
        known = self._notebook.record
        with suppress(TrackingUnavailable):
            known = self._connection.attempt(self._record_pending, at_once=at_once)
            report_unbound(known)
        return None if known is None else known.id

    # Runs

    def start_run(self, run: TrainingRun) -> None:
        """Record that a run is running."""
        with suppress(TrackingUnavailable):
            self._connection.attempt(lambda opened: self._store_run(opened, run))

    def _store_run(self, opened: OpenStore, run: TrainingRun) -> None:
        if run.id in self._running:
            return
        runs, until = opened.repository.runs, now() + LEASE
        if runs.get(run.notebook_id, run.id) is None:
            start_run(opened.repository, run, run.notebook_id, until)
        else:
            runs.update_status(run.notebook_id, run.id, RunStatus.RUNNING, lease_until=until)
        self._running.add(run.id)

    def renew_lease(self, run: TrainingRun) -> None:
        """Record that a run is alive; called from another thread, without the lock."""
        opened = self._connection.opened
        if opened is None or run.id not in self._running:
            return
        runs, until = opened.repository.runs, now() + LEASE
        found = runs.renew(run.notebook_id, run.id, until)
        if found.status is not RunStatus.RUNNING and run.status is RunStatus.RUNNING:
            # It was considered stopped, for example while this machine was asleep.
            runs.update_status(run.notebook_id, run.id, RunStatus.RUNNING, lease_until=until)

    def finish_run(self, run: TrainingRun) -> None:
        """Record how a run ended; in its last note, if the store is unavailable."""
        self._running.discard(run.id)

        def store(opened: OpenStore) -> None:
            if self._pending or self._pending_metrics:
                self._record_pending(opened)
            with suppress(NotFound):
                opened.repository.runs.update_status(run.notebook_id, run.id, run.status)

        try:
            self._connection.attempt(store, at_once=True)
        except TrackingUnavailable:
            notes = [one.note for one in self._pending if one.note.checkpoint.run_id == run.id]
            for note in notes[-1:]:
                new = note.checkpoint
                if has_note(self.states.root, new.notebook_id, str(new.id)):
                    with suppress(AxonError):  # the run is found unfinished then
                        note.write(self.states)

    # Checkpoints

    def add_checkpoint(
        self, run: TrainingRun, new: NewCheckpoint, *, overwrite: bool
    ) -> Checkpoint:
        """Record a checkpoint whose states are written, or note it beside them.

        Raises
        ------
        Conflict
            If the run has a checkpoint there already, or a pinned one with ``overwrite``.
        """

        def store(opened: OpenStore) -> NotebookCheckpoint:
            self._store_run(opened, run)
            execution = current_execution()
            if self._provenance is None or self._provenance[:2] != (execution, run.notebook_id):
                environment = collect_environment(self._notebook.folder)
                added = opened.repository.provenance.add(
                    run.notebook_id, executed_cells(), environment
                )
                self._provenance = execution, run.notebook_id, added
            new.provenance_id = self._provenance[2]
            return opened.repository.create_checkpoint(new, overwrite=overwrite)

        try:
            record = self._connection.attempt(store, expected=Conflict)
        except TrackingUnavailable as unavailable:
            self._running.discard(run.id)
            self._notebook.record = self._provenance = None
            checkpoint = self._note(run, new, overwrite=overwrite)
            if isinstance(unavailable.__cause__, NotFound):
                self._try_pending()  # the record, or the store, was deleted: there will be another
            return checkpoint
        self.states.mark_recorded(record.notebook_id, record.id)
        return Checkpoint(record, self.states)

    def add_metrics(self, checkpoint: Checkpoint, metrics: Any, tags: list[str]) -> bool:
        """Add metrics and tags to a checkpoint; return False if it is gone or cannot take them."""
        pending = next((one for one in self._pending if one.checkpoint is checkpoint), None)
        if pending is not None:
            new = pending.note.checkpoint
            new.metrics = merge_metrics(new.metrics, metrics)
            new.tags = list(dict.fromkeys([*new.tags, *tags]))
            try:
                pending.note.write(self.states)
            except AxonError as error:
                warn(f"Metrics that were added to checkpoint {new.id} could not be saved: {error}")
            checkpoint.update(pending.note.as_record(), is_recorded=False)
            return True
        try:
            record = self._connection.attempt(
                lambda opened: _add_metrics(opened, checkpoint.id, metrics, tags)
            )
        except TrackingUnavailable:
            self._pending_metrics.append((checkpoint.id, metrics, tags))
            return True
        if record is not None:
            checkpoint.update(record, is_recorded=True)
        return record is not None

    # What is still to be recorded

    def _note(self, run: TrainingRun, new: NewCheckpoint, *, overwrite: bool) -> Checkpoint:
        """Write a note beside the states of a checkpoint, with all that is to be recorded of it."""
        found, settings = self._notebook.locate(), self._settings
        note = UnrecordedCheckpoint(
            checkpoint=new,
            made_at=now(),
            overwrite=overwrite,
            run=run,
            store_url=settings.store_url,
            owner=settings.user_id,
            path=found.path,
            record_id=found.record_id,
            kind=found.kind,
        )
        with suppress(StoreError):
            note.origin = read_origin(settings.data_folder, warn)
        with suppress(Exception):  # a checkpoint without its provenance is better than none
            note.executed = executed_cells()
            note.environment = collect_environment(self._notebook.folder)
        checkpoint = Checkpoint(
            note.as_record(), self.states, is_recorded=False, refresh=self._try_pending
        )
        try:
            note.write(self.states)
        except AxonError as error:
            warn(
                f"Checkpoint {new.id} could not be recorded, and its note for "
                f"`jupyter axon recover` could not be written: {error}"
            )
        else:
            self._pending.append(_Pending(note, checkpoint))
        return checkpoint

    def _try_pending(self) -> None:
        """Record what is pending, if the store is available now."""
        with self.lock, suppress(TrackingUnavailable):  # called by checkpoints of any thread
            self._connection.attempt(self._record_pending, at_once=True)

    def _record_pending(self, opened: OpenStore) -> NotebookSummary:
        """Record what could not be recorded before, and return the notebook's record."""
        notebook = self._notebook.update(opened)
        while self._pending_metrics:
            _add_metrics(opened, *self._pending_metrics[0])
            del self._pending_metrics[0]
        notes = [pending.note for pending in self._pending]
        for note in notes:
            note.record_id, note.owner = notebook.id, notebook.user_id
        for result in recover(opened.repository, opened.states, opened.origin, notes):
            if result.error is not None:
                print_message(
                    f"A checkpoint in {result.folder} could not be recorded: {result.error}"
                )
        for pending in self._pending:
            # If it has no note any more, another process recorded it, or the user deleted it.
            record = opened.repository.get_checkpoint(pending.checkpoint.id)
            if record is not None:
                pending.checkpoint.update(record, is_recorded=True)
                if pending.note.run is not None:
                    pending.note.run.notebook_id = record.notebook_id
        self._pending = []
        return notebook

    def recover(self) -> None:
        """Record what earlier trainings of this user could not record."""
        opened, settings = self._connection.open(), self._settings
        if self._pending:
            self._record_pending(opened)
        notes = [
            found
            for found in find_unrecorded(opened.states)
            if isinstance(found, UnrecordedCheckpoint)
            and (found.store_url, found.owner) == (settings.store_url, settings.user_id)
        ]
        results = recover(opened.repository, opened.states, opened.origin, notes)
        if count := sum(result.is_new for result in results):
            plural = "" if count == 1 else "s"
            print_message(
                f"Recorded {count} checkpoint{plural} made while the store was unavailable."
            )

    # Questions

    def find_resumable(
        self, request: ResumeRequest
    ) -> tuple[NotebookCheckpoint | None, str | None]:
        """Return the checkpoint to resume from, and the key of the run that begins.

        Raises
        ------
        NotFound
            If the named run does not exist or has no checkpoint that can be restored.
        """
        opened, key = self._connection.open(), request.identity.key
        notebook = self._notebook.find(opened)
        if notebook is None:
            if request.run is not None:
                raise NotFound("run", request.run)
            return None, key
        search = ResumeSearch(opened, notebook.id, request)
        if request.run is None:
            return search.find(), key
        named = find_run(opened, notebook.id, request.run)
        return search.latest_of(named), named.key if key is None else key

    def find_checkpoint(self, id: str) -> NotebookCheckpoint:
        """Return a checkpoint by its id or the beginning of it.

        Raises
        ------
        NotFound
            If there is none.
        ValueError
            If the beginning matches several.
        """
        repository = self._connection.open().repository
        found = repository.get_checkpoint(id)
        if found is None:
            ids = repository.checkpoints.find_ids(id) if id else []
            if len(ids) > 1:
                listed = ", ".join(ids[:5])
                raise ValueError(
                    printable(f"{id} could be any of {len(ids)} checkpoints: {listed}")
                )
            found = repository.get_checkpoint(ids[0]) if ids else None
        if found is None:
            raise NotFound("checkpoint", id)
        return found

    def list_checkpoints(self, limit: int | None, run: str | None) -> list[Checkpoint]:
        """Return the notebook's checkpoints, or those that led to a run's end, newest first."""
        found = self._find(run, lambda repository, of: repository.list_checkpoints(of, limit))
        return sorted(found, key=lambda one: one.created_at, reverse=True)[:limit]

    def best_checkpoint(
        self, metric: str, mode: Literal["min", "max"], run: str | None
    ) -> Checkpoint:
        """Return the checkpoint with the best value of a metric, the earliest of equal ones.

        Raises
        ------
        NotFound
            If no checkpoint has a finite number there.
        """
        is_least = mode == "min"
        found = self._find(
            run,
            lambda repository, of: repository.checkpoints.list_best(of, metric, is_least, 1),
        )
        ranked = rank(
            found,
            metric,
            minimize=is_least,
            fields=lambda one: (one.record.metrics, one.created_at),
        )
        if not ranked:
            found = self.list_checkpoints(_MAX_SEARCHED, None)
            known = sorted({name for one in found for name in finite_metrics(one.metrics)})
            hint = suggest_names(metric, known)
            message = f"no checkpoint of this notebook has a finite number as {metric}{hint}"
            raise NotFound("metric", metric, printable(message))
        return ranked[0]

    def _find(
        self,
        run: str | None,
        query: Callable[[NotebookRepository, str], list[NotebookCheckpoint]],
    ) -> list[Checkpoint]:
        """Return the result of a query or the checkpoints of a run, and those not yet recorded."""
        opened, notebook_id = self._readable()
        stored: list[NotebookCheckpoint] = []
        if opened is not None and run is not None:
            stored = list_branch(opened, find_run(opened, notebook_id, run))
        elif opened is not None:
            stored = query(opened.repository, notebook_id)
        pending = [one.checkpoint for one in self._pending if run is None or one.belongs_to(run)]
        return [*pending, *(Checkpoint(record, self.states) for record in stored)]

    def _readable(self) -> tuple[OpenStore | None, str]:
        """Return the store and the id of the notebook's record, empty if there is none.

        No store if it is unavailable and this process has checkpoints that answer the question in
        part.
        """
        if self._pending or self._pending_metrics:
            self._try_pending()
        try:
            opened = self._connection.open()
            found = self._notebook.find(opened)
        except StoreError as error:
            if not self._pending:
                raise
            print_message(
                "Only checkpoints of this process are considered, because the store cannot be "
                f"read: {error}"
            )
            return None, ""
        return opened, "" if found is None else found.id

    def pin(self, id: str, *, pinned: bool) -> NotebookCheckpoint:
        """Pin a checkpoint, or unpin it."""
        return self._connection.open().repository.checkpoints.update(
            id, UpdateCheckpoint(pinned=pinned)
        )


def _add_metrics(
    opened: OpenStore, id: str, metrics: Any, tags: list[str]
) -> NotebookCheckpoint | None:
    with suppress(NotFound, Conflict):
        return opened.repository.checkpoints.add_metrics(id, metrics, tags)
    return None
