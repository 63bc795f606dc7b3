"""The way of a training process to records: the interface, and its implementation on a store."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..errors import AxonError, Conflict, NotFound, StoreError
from ..metrics import finite_metrics, merge_metrics, rank, suggest_names
from ..printable import printable
from ..records import (
    MetricSummary,
    NewCheckpoint,
    NotebookCheckpoint,
    NotebookSummary,
    RunStatus,
    TrainingNotebook,
    TrainingRun,
    UpdateCheckpoint,
    UpdateRun,
    now,
)
from ..repository.run_queries import FoundRun, RunQuery
from ..states import StateStorage
from ..states.notes import has_note
from ..stores import SYSTEM_METRICS, OpenStore, StoreSettings
from . import resuming
from .checkpoint import Checkpoint
from .current_notebook import CurrentNotebook
from .discovery import location
from .discovery.record import report_unbound
from .execution import current_execution, executed_cells
from .execution.environment import collect_environment
from .messages import print_message, warn
from .processes import LEASE
from .recovery import UnrecordedCheckpoint, find_unrecorded, recover
from .run_log import LogThread, RunLog
from .spooled import SpooledRun, SpoolStore, recover_spools, run_fields, spool_folders
from .store_connection import BRIEF_TIMEOUT, StoreConnection, TrackingUnavailable

if TYPE_CHECKING:
    from ..repository.retention import RunPruning
    from ..repository.retention_rules import Rule
    from ..series import Series


class MetricNotFound(NotFound):
    """No checkpoint has a finite number under the name of a metric."""

    def __init__(self, metric: str, known: Collection[str], *, is_logged: bool) -> None:
        super().__init__("metric", metric)
        hint = suggest_names(metric, sorted(known))
        if is_logged:
            hint = f"; runs have logged it: axon.runs(sort={metric!r}) ranks them"
        self.args = (printable(f"no checkpoint has a finite number as {metric}{hint}"),)


#: Seconds that a question about runs waits until the store has what was logged.
_FLUSH_TIMEOUT = 3.0


class Tracker(Protocol):
    """The interface through which a training process reaches records.

    What a training records (runs, checkpoints, metrics) never fails because records are out of
    reach: it is kept, and recorded later. Questions raise :class:`StoreError` then.

    Attributes
    ----------
    lock : threading.RLock
        To be held during every call except :meth:`open_log`, :meth:`flush_logs` and
        :meth:`renew_lease`.
    """

    lock: threading.RLock

    @property
    def states(self) -> StateStorage:
        """The state files, also while records are out of reach."""

    def close(self) -> None:
        """Release what is open; the next call opens it again."""

    def briefly(self) -> AbstractContextManager[None]:
        """Do not wait in this block: what cannot be recorded at once is recorded later."""

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Set which notebook is trained."""

    def notebook(self) -> TrainingNotebook:
        """Return the record of the notebook, with its cells."""

    def notebook_id(self, *, at_once: bool = False) -> str | None:
        """Record what is pending; return the id of the notebook's record if it is known."""

    def has_notebook(self, id: str) -> bool:
        """Return whether a record exists, or may exist."""

    def start_run(self, run: TrainingRun) -> None:
        """Record that a run is running."""

    def update_run(self, run: TrainingRun, updates: UpdateRun, *, is_training: bool) -> None:
        """Change a run; raises StoreError if the store is unavailable and the run is over."""

    def set_parent(self, run: TrainingRun) -> None:
        """Record the checkpoint that a run resumes, and its key, before it has data of its own."""

    def open_log(self, run: TrainingRun) -> RunLog:
        """Begin a log of a run, whose rows are on disk at once and in the store soon after.

        Called without :attr:`lock`, since a run is locked while values of it are logged.
        """

    def flush_logs(self) -> None:
        """Wait a moment until the store has what was logged; called without :attr:`lock`."""

    def renew_lease(self, run: TrainingRun) -> None:
        """Record that a run is alive. Called from another thread."""

    def finish_run(self, run: TrainingRun) -> None:
        """Record how a run ended."""

    def forget_run(self, id: str) -> None:
        """Drop what is known about how a run is recorded, since it belongs to another notebook."""

    def get_run(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run; None if there is none."""

    def add_checkpoint(
        self, run: TrainingRun, new: NewCheckpoint, *, overwrite: bool
    ) -> Checkpoint:
        """Record a checkpoint whose states are written."""

    def add_metrics(self, checkpoint: Checkpoint, metrics: Any, tags: list[str]) -> bool:
        """Add metrics and tags to a checkpoint; return False if it is gone or cannot take them."""

    def prune(
        self, run: TrainingRun, checkpoints: Sequence[Checkpoint], rules: Sequence[Rule]
    ) -> RunPruning:
        """Prune checkpoints of a run by its rules; raises StoreError or StateError."""

    def recover(self) -> None:
        """Record what earlier trainings could not record."""

    def find_resumable(self, request: resuming.ResumeRequest) -> resuming.ResumePoint:
        """Return the checkpoint to resume from."""

    def find_checkpoint(self, id: str) -> NotebookCheckpoint:
        """Return a checkpoint by its id or the beginning of it."""

    def list_checkpoints(self, limit: int | None, run: str | None) -> list[Checkpoint]:
        """Return the notebook's checkpoints, or those that led to a run's end, newest first."""

    def read_series(self, run: TrainingRun, name: str) -> Series:
        """Return the stored values of a metric."""

    def read_metrics(self, run: TrainingRun) -> dict[str, MetricSummary]:
        """Return the stored summaries of a run's metrics; raises StoreError."""

    def search_runs(
        self, where: str, sort: str, limit: int | None, *, everywhere: bool
    ) -> list[FoundRun]:
        """Return recorded runs of the notebook, or of all notebooks of the user."""

    def best_checkpoint(
        self, metric: str, mode: Literal["min", "max"], run: str | None, *, everywhere: bool
    ) -> Checkpoint:
        """Return the checkpoint of the notebook, or of all, with the best value of a metric."""

    def pin(self, id: str, *, pinned: bool) -> NotebookCheckpoint:
        """Pin a checkpoint, or unpin it."""


@dataclass
class _StoredRun:
    """The part of a run that the store is known to have."""

    status: RunStatus
    execution: Any = None
    provenance_id: str | None = None  # of that execution


@dataclass
class _Pending:
    """A checkpoint that no store has: its note, and the object that the user has."""

    note: UnrecordedCheckpoint
    checkpoint: Checkpoint

    def belongs_to(self, run: str) -> bool:
        record = self.note.run
        names = () if record is None else (record.key, record.name, str(record.number))
        return record is not None and (run in names or record.id.startswith(run))


class LocalTracker:
    """A tracker on a store that this process opens itself, and opens again when it was lost.

    What cannot be recorded is noted beside the state files (:mod:`..states.notes`), and recorded by
    this process once the store is available, by a server, or by ``jupyter axon recover``. See
    :class:`Tracker` for its methods.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.lock = threading.RLock()
        self._settings = settings
        self._connection = StoreConnection(settings)
        self._notebook = CurrentNotebook(settings.user_id)
        self._logs: LogThread | None = None
        self._logs_lock = threading.Lock()
        self._runs: dict[str, _StoredRun] = {}
        self._updates: dict[str, dict[str, Any]] = {}  # by run
        self._recovered_in: dict[str, str] = {}  # notebooks by run
        self._pending: list[_Pending] = []
        self._pending_metrics: list[tuple[str, Any, list[str]]] = []

    @property
    def states(self) -> StateStorage:
        """The state files, also while the store is unavailable."""
        return self._connection.states

    def close(self) -> None:
        """Store what was logged, and close the store; the next call opens it again."""
        if self._logs is not None:
            self._logs.finish()
            self._logs = None
        self._connection.close()

    def briefly(self) -> AbstractContextManager[None]:
        """Do not wait for the store in this block."""
        return self._connection.briefly()

    # The notebook

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Set which notebook is trained; nothing changes if it cannot be found."""
        with location.use_if_valid(path_or_id):
            self._notebook = CurrentNotebook(self._settings.user_id)
            return self.notebook()

    def notebook(self) -> TrainingNotebook:
        """Return the record of the notebook, with its cells."""
        opened = self._connection.open()
        id = self._notebook.read(opened).id
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

    def has_notebook(self, id: str) -> bool:
        """Return whether a record exists; True if the store cannot be asked."""
        try:
            found = self._connection.attempt(lambda opened: opened.repository.find_summary(id))
        except TrackingUnavailable:
            return True
        return found is not None

    # Runs

    def start_run(self, run: TrainingRun) -> None:
        """Record that a run is running."""
        try:
            self._connection.attempt(lambda opened: self._store_run(opened, run))
        except TrackingUnavailable:
            self._runs.pop(run.id, None)

    def _store_run(self, opened: OpenStore, run: TrainingRun) -> _StoredRun:
        stored = self._runs.get(run.id)
        if stored is not None and stored.status is RunStatus.RUNNING:
            self._store_updates(opened, run)
            return stored
        repository, until = opened.repository, now() + LEASE
        if stored is None and repository.runs.get(run.notebook_id, run.id) is None:
            parent = run.parent_checkpoint_id
            if parent is not None and repository.get_checkpoint(parent) is None:
                parent = None  # it was deleted
            started = repository.runs.start(
                run.notebook_id,
                id=run.id,
                parent_checkpoint_id=parent,
                process=run.process,
                lease_until=until,
                **run_fields(run),
            )
            run.number = started.number
        else:
            repository.runs.update_status(
                run.notebook_id, run.id, RunStatus.RUNNING, lease_until=until
            )
        stored = self._runs[run.id] = stored or _StoredRun(RunStatus.RUNNING)
        stored.status = RunStatus.RUNNING
        self._store_updates(opened, run)
        return stored

    def update_run(self, run: TrainingRun, updates: UpdateRun, *, is_training: bool) -> None:
        """Change a run; raises StoreError if the store is unavailable and the run is over."""
        if not is_training:
            self._connection.open().repository.runs.update(run.notebook_id, run.id, updates)
            return
        fields = self._updates.setdefault(run.id, {})
        for name in updates.__struct_fields__:
            if (value := getattr(updates, name)) is not None:
                fields[name] = value

        def store(opened: OpenStore) -> None:
            if run.status is RunStatus.RUNNING:
                self._store_run(opened, run)
            elif opened.repository.runs.get(run.notebook_id, run.id) is not None:
                self._store_updates(opened, run)  # it has ended, and stays so

        with suppress(TrackingUnavailable):  # it is changed with the next checkpoint
            self._connection.attempt(store)

    def _store_updates(self, opened: OpenStore, run: TrainingRun) -> None:
        if fields := self._updates.get(run.id):
            opened.repository.runs.update(run.notebook_id, run.id, UpdateRun(**fields))
            del self._updates[run.id]

    def set_parent(self, run: TrainingRun) -> None:
        """Record the checkpoint that a run resumes, and its key, before it has data of its own."""

        def store(opened: OpenStore) -> None:
            self._store_run(opened, run)
            opened.repository.runs.set_parent(
                run.notebook_id,
                run.id,
                parent_checkpoint_id=run.parent_checkpoint_id,
                key=run.key,
            )

        with suppress(TrackingUnavailable):  # the run is recorded later, with both
            self._connection.attempt(store)

    def open_log(self, run: TrainingRun) -> RunLog:
        """Begin a log of a run."""
        header = self._describe(run).to_json()
        folders = spool_folders(self._settings.data_folder)
        with self._logs_lock:
            if self._logs is None:
                self._logs = LogThread(SpoolStore(self._settings, self), warn)
            return self._logs.open(folders, run, header, with_system=has_system_metrics())

    def flush_logs(self) -> None:
        """Wait a moment until the store has what was logged."""
        if self._logs is not None:
            self._logs.flush(_FLUSH_TIMEOUT)

    def _describe(self, run: TrainingRun) -> SpooledRun:
        found, settings = self._notebook.locate(), self._settings
        described = SpooledRun(
            run=run,
            store_url=settings.store_url,
            owner=settings.user_id,
            path=found.path,
            record_id=found.record_id,
            kind=found.kind,
        )
        with suppress(StoreError):
            described.origin = self._connection.origin()
        return described

    def record_run(self, opened: OpenStore, run: TrainingRun) -> None:
        """Record a run that the store lacks; called from the thread that stores what is logged."""
        # Calls of the training wait for the lock, so it is not held while the store is locked.
        with self.lock, opened.store.limit_wait(BRIEF_TIMEOUT):
            self._runs.pop(run.id, None)
            if opened.repository.find_summary(run.notebook_id) is None:
                self._notebook.record = None
                run.notebook_id = self._notebook.update(opened).id
            self._store_run(opened, run)
            self.record_end(opened, run)

    def record_end(self, opened: OpenStore, run: TrainingRun) -> None:
        """Record how a run ended, unless the store has it; called from that thread, too."""
        with self.lock, opened.store.limit_wait(BRIEF_TIMEOUT):
            found = opened.repository.runs.get(run.notebook_id, run.id)
            is_open = found is not None and found.status in (RunStatus.RUNNING, RunStatus.STOPPED)
            if is_open and run.status not in (RunStatus.RUNNING, found and found.status):
                opened.repository.runs.update_status(run.notebook_id, run.id, run.status)
                self._runs[run.id] = _StoredRun(run.status)

    def renew_lease(self, run: TrainingRun) -> None:
        """Record that a run is alive; called from another thread, without the lock."""
        opened = self._connection.opened
        if opened is None or run.id not in self._runs:
            return
        until = now() + LEASE
        found = opened.repository.runs.renew(run.notebook_id, run.id, until)
        if found.status is not RunStatus.RUNNING and run.status is RunStatus.RUNNING:
            # It was considered stopped, for example while this machine was asleep.
            opened.repository.runs.update_status(
                run.notebook_id, run.id, RunStatus.RUNNING, lease_until=until
            )

    def finish_run(self, run: TrainingRun) -> None:
        """Record how a run ended; in its last note, if the store is unavailable."""
        try:
            self._connection.attempt(lambda opened: self._store_end(opened, run), at_once=True)
        except TrackingUnavailable:
            self._runs.pop(run.id, None)
            notes = [one.note for one in self._pending if one.note.checkpoint.run_id == run.id]
            if notes and self._is_noted(notes[-1]):
                with suppress(AxonError):  # the run is found unfinished then
                    notes[-1].write(self.states)

    def _store_end(self, opened: OpenStore, run: TrainingRun) -> None:
        if self._pending or self._pending_metrics:
            self._record_pending(opened)
        stored, notebook_id = self._runs.get(run.id), run.notebook_id
        if stored is None:
            notebook_id = self._recovered_in.get(run.id, notebook_id)
        if stored is not None or opened.repository.runs.get(notebook_id, run.id) is not None:
            self._store_updates(opened, run)
            opened.repository.runs.update_status(notebook_id, run.id, run.status)
            self._runs.setdefault(run.id, _StoredRun(run.status)).status = run.status

    def forget_run(self, id: str) -> None:
        """Drop what is known about how a run is recorded, since it belongs to another notebook."""
        self._runs.pop(id, None)
        self._recovered_in.pop(id, None)

    def get_run(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run; None if there is none."""
        return self._connection.open().repository.runs.get(notebook_id, id)

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

        def store(opened: OpenStore) -> NotebookCheckpoint | Conflict:
            try:
                return self._store_checkpoint(opened, run, new, overwrite=overwrite)
            except Conflict as conflict:
                return conflict

        try:
            record = self._connection.attempt(store)
        except TrackingUnavailable as unavailable:
            self._runs.pop(run.id, None)
            self._notebook.record = None
            checkpoint = self._note(run, new, overwrite=overwrite)
            if isinstance(unavailable.__cause__, NotFound):
                self._try_pending()  # the record, or the store, was deleted: there will be another
            return checkpoint
        if isinstance(record, Conflict):
            raise record
        self.states.mark_recorded(record.notebook_id, record.id)
        return Checkpoint(record, self.states)

    def _store_checkpoint(
        self, opened: OpenStore, run: TrainingRun, new: NewCheckpoint, *, overwrite: bool
    ) -> NotebookCheckpoint:
        stored, execution = self._store_run(opened, run), current_execution()
        if stored.provenance_id is None or stored.execution != execution:
            stored.execution = execution
            stored.provenance_id = opened.repository.provenance.add(
                run.notebook_id, executed_cells(), collect_environment(self._notebook.folder)
            )
        new.provenance_id = stored.provenance_id
        return opened.repository.create_checkpoint(new, overwrite=overwrite)

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

    def prune(
        self, run: TrainingRun, checkpoints: Sequence[Checkpoint], rules: Sequence[Rule]
    ) -> RunPruning:
        """Prune checkpoints of a run; see :meth:`.Retention.prune_run`."""
        repository = self._connection.open().repository
        by_id = {one.id: one for one in checkpoints}
        result = repository.retention.prune_run(run.notebook_id, run.id, by_id, rules)
        for pruned in result.pruned:
            if (record := repository.get_checkpoint(pruned.checkpoint.id)) is not None:
                by_id[record.id].update(record, is_recorded=True)
        return result

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
            note.origin = self._connection.origin()
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

    def _is_noted(self, note: UnrecordedCheckpoint) -> bool:
        new = note.checkpoint
        return has_note(self.states.root, new.notebook_id, str(new.id))

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
        if not self._pending:
            return notebook
        notes = [pending.note for pending in self._pending]
        ids = [str(note.checkpoint.id) for note in notes]
        for result in recover(opened.repository, opened.states, opened.origin, notes, notebook.id):
            if result.error is not None:
                print_message(
                    f"A checkpoint in {result.folder} could not be recorded: {result.error}"
                )
        for id, pending in zip(ids, self._pending, strict=True):
            # If it has no note any more, another process recorded it, or the user deleted it.
            if (record := opened.repository.get_checkpoint(id)) is not None:
                pending.checkpoint.update(record, is_recorded=True)
                if record.run_id is not None:
                    self._recovered_in[record.run_id] = record.notebook_id
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
        folders = spool_folders(settings.data_folder)
        for path, error in recover_spools(
            opened.repository, opened.origin, folders, settings.store_url, settings.user_id
        ):
            if error is not None:
                print_message(f"Logged values in {path} could not be stored: {error}")
        results = recover(opened.repository, opened.states, opened.origin, notes)
        if count := sum(result.is_new for result in results):
            plural = "" if count == 1 else "s"
            print_message(
                f"Recorded {count} checkpoint{plural} made while the store was unavailable."
            )

    # Questions

    def find_resumable(self, request: resuming.ResumeRequest) -> resuming.ResumePoint:
        """Return the checkpoint to resume from; see :func:`.resuming.find_resumable`."""
        opened = self._connection.open()
        notebook = self._notebook.find(opened)
        if notebook is not None:
            return resuming.find_resumable(opened, notebook.id, request)
        if request.run is not None:
            raise NotFound("run", request.run)
        return resuming.ResumePoint(None, request.identity.key)

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
        opened, notebook_id = self._readable()
        stored: list[NotebookCheckpoint] = []
        if opened is not None and run is not None:
            named = opened.repository.runs.find(run, notebook_id)
            stored = resuming.list_branch(opened, named)
        elif opened is not None:
            stored = opened.repository.list_checkpoints(notebook_id, limit)
        found = self._with_pending(stored, run)
        return sorted(found, key=lambda one: one.created_at, reverse=True)[:limit]

    def best_checkpoint(
        self, metric: str, mode: Literal["min", "max"], run: str | None, *, everywhere: bool
    ) -> Checkpoint:
        """Return the checkpoint with the best value of a metric, the earliest of equal ones.

        Raises
        ------
        MetricNotFound
            If no checkpoint has a finite number there.
        """
        opened, notebook_id = self._readable()
        is_least = mode == "min"
        ids = [notebook_id]
        stored: list[NotebookCheckpoint] = []
        if opened is not None and run is not None:
            named = opened.repository.runs.find(run, notebook_id)
            stored = resuming.list_branch(opened, named)
        elif opened is not None:
            if everywhere:
                owned = opened.repository.list_by_user(self._settings.user_id)
                ids = [one.id for one in owned]
            checkpoints = opened.repository.checkpoints
            for id in ids:
                stored += checkpoints.list_best(id, metric, is_least, 1)
        found = self._with_pending(stored, run)
        ranked = rank(
            found,
            metric,
            minimize=is_least,
            fields=lambda one: (one.record.metrics, one.created_at),
        )
        if not ranked:
            names, is_logged = set[str](), False
            if opened is not None:
                checkpoints, runs = opened.repository.checkpoints, opened.repository.runs
                names = names.union(*map(checkpoints.list_metric_names, ids))
                is_logged = run is None and any(
                    metric in runs.metric_names(notebook_id=id) for id in ids
                )
            names = names.union(*(finite_metrics(one.metrics) for one in found))
            raise MetricNotFound(metric, names, is_logged=is_logged)
        return ranked[0]

    def read_series(self, run: TrainingRun, name: str) -> Series:
        """Return the stored values of a metric; raises StoreError."""
        series = self._connection.open().repository.series
        return series.read(run.notebook_id, run.id, name)

    def read_metrics(self, run: TrainingRun) -> dict[str, MetricSummary]:
        """Return the stored summaries of a run's metrics; raises StoreError."""
        stored = self._connection.open().repository.runs.get(run.notebook_id, run.id)
        return (stored.metrics if stored is not None else None) or {}

    def search_runs(
        self, where: str, sort: str, limit: int | None, *, everywhere: bool
    ) -> list[FoundRun]:
        """Return recorded runs of the notebook, or of all notebooks of the user."""
        opened, notebook_id = self._readable()
        if opened is None or not (notebook_id or everywhere):
            return []
        query = RunQuery(
            where=where,
            sort=sort,
            limit=limit,
            user_id=self._settings.user_id,
            notebook_id=None if everywhere else notebook_id,
        )
        return opened.repository.runs.search(query).runs

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

    def _with_pending(self, stored: list[NotebookCheckpoint], run: str | None) -> list[Checkpoint]:
        pending = [one.checkpoint for one in self._pending if run is None or one.belongs_to(run)]
        return [*pending, *(Checkpoint(record, self.states) for record in stored)]

    def pin(self, id: str, *, pinned: bool) -> NotebookCheckpoint:
        """Pin a checkpoint, or unpin it."""
        return self._connection.open().repository.checkpoints.update(
            id, UpdateCheckpoint(pinned=pinned)
        )


def has_system_metrics() -> bool:
    """Return whether system metrics are recorded; ``AXON_SYSTEM_METRICS=0`` switches them off."""
    return os.environ.get(SYSTEM_METRICS, "1").strip().lower() not in ("0", "false", "no", "off")


def _add_metrics(
    opened: OpenStore, id: str, metrics: Any, tags: list[str]
) -> NotebookCheckpoint | None:
    with suppress(NotFound, Conflict):
        return opened.repository.checkpoints.add_metrics(id, metrics, tags)
    return None
