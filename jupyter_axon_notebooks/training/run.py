"""The run that this process is in: it begins, goes on, is recorded, and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..records import NewCheckpoint, NotebookCheckpoint, RunStatus, TrainingRun, new_id, now
from ..stores import OpenStore
from .checkpoint import Checkpoint
from .execution import check_ended, current_execution, current_task, executed_cells, on_training_end
from .execution.environment import environment
from .lease import Lease
from .processes import LEASE, RunIdentity, RunPosition, this_process
from .tracker import LocalTracker, TrackingUnavailable


class ActiveRun:
    """A run of this process, and what the store knows of it.

    Parameters
    ----------
    settle : callable
        Has the store know what it could not be told before.
    note_end : callable
        Told the run's id when it ends and the store cannot be told.

    Attributes
    ----------
    record : TrainingRun
        The run as it stands; the store may not have been told.
    line : RunPosition
        How far it has come.
    is_provisional : bool
        Whether nobody could tell yet which record it belongs to.
    recovered_in : str or None
        The notebook under which noted checkpoints of the run were recorded, and with them the run.
    last : Checkpoint or None
        The last checkpoint that was made in it.
    trained_in : str or None
        The cell in which that was.
    parent : NotebookCheckpoint or None
        The checkpoint that it was resumed from.
    is_trained_here : bool
        Whether the cell that resumed it seems to train as well. If not, it is not completed before something was trained.
    has_said_kept : bool
        Whether the user was told that a state was not replaced.
    """

    def __init__(
        self,
        tracking: LocalTracker,
        lock: threading.RLock,
        settle: Callable[[OpenStore], object],
        note_end: Callable[[str], None],
        notebook_id: str | None,
        identity: RunIdentity,
        parent: NotebookCheckpoint | None = None,
        skipped_run_id: str | None = None,
    ) -> None:
        self.is_provisional = notebook_id is None
        self.recovered_in: str | None = None
        self.record = TrainingRun(
            id=new_id(),
            notebook_id=notebook_id or new_id(),
            parent_checkpoint_id=None if parent is None else parent.id,
            started_at=now(),
            process=this_process(),
            key=identity.key,
            cell=identity.cell,
            ordinal=identity.ordinal,
            skipped_run_id=skipped_run_id,
        )
        self.line = RunPosition()
        self.last: Checkpoint | None = None
        self.trained_in: str | None = None
        self.has_said_kept = False
        self.parent = parent
        self.is_trained_here = True
        self._tracking = tracking
        self._settle = settle
        self._note_end = note_end
        self._lock = lock
        self._lease = Lease(self._renew)
        self._is_stored = False
        self._stored_status: RunStatus | None = None
        self._execution: Any = None
        self._task: Any = None
        self._provenance_id: str | None = None

    @property
    def notebook_id(self) -> str:
        """The record that its checkpoints belong to."""
        return self.record.notebook_id

    def move(self, notebook_id: str) -> None:
        """It is known now which record the run belongs to."""
        self.record.notebook_id = notebook_id
        self.is_provisional = False
        self.recovered_in = None
        self.doubt()

    def doubt(self) -> None:
        """What the store knows of the run has to be asked."""
        self._is_stored = False
        self._provenance_id = None

    @property
    def is_over(self) -> bool:
        """Whether it was trained by an earlier task of this process, which is one of a pool."""
        if self._task == current_task():
            return False
        check_ended(self._cell_ended)
        return True

    def go_on(self) -> None:
        """The run goes on until the cell that is being executed ends."""
        execution = current_execution()
        if execution != self._execution:
            self._execution = execution
            self._provenance_id = None
        if not self._lease.is_held:
            self.record.status, self.record.ended_at = RunStatus.RUNNING, None
            self._lease.hold()
            self._task = current_task()
        on_training_end(self._cell_ended)  # what it trains in now may be something else than before

    def store(self, home: OpenStore) -> None:
        """Have the store know that the run is there, and that it is running."""
        if self._is_stored and self._stored_status is RunStatus.RUNNING:
            return
        repository, until = home.repository, now() + LEASE
        if not self._is_stored and repository.runs.get(self.notebook_id, self.record.id) is None:
            parent = self.record.parent_checkpoint_id
            if parent is not None and repository.get_checkpoint(parent) is None:
                parent = None  # deleted meanwhile
            repository.runs.start(
                self.notebook_id,
                id=self.record.id,
                parent_checkpoint_id=parent,
                process=self.record.process,
                lease_until=until,
                key=self.record.key,
                cell=self.record.cell,
                ordinal=self.record.ordinal,
                skipped_run_id=self.record.skipped_run_id,
            )
        else:
            repository.runs.update_status(
                self.notebook_id, self.record.id, RunStatus.RUNNING, lease_until=until
            )
        self._is_stored, self._stored_status = True, RunStatus.RUNNING

    def store_checkpoint(
        self, home: OpenStore, new: NewCheckpoint, folder: str | None, *, overwrite: bool
    ) -> NotebookCheckpoint:
        """Have the store know a checkpoint of the run, and what it was made with; ``folder`` is the notebook's."""
        self.store(home)
        if self._provenance_id is None:
            self._provenance_id = home.repository.provenance.add(
                self.notebook_id, executed_cells(), environment(folder)
            )
        new.provenance_id = self._provenance_id
        return home.repository.create_checkpoint(new, overwrite=overwrite)

    def end(self, status: RunStatus) -> None:
        """The run is over, unless it goes on later."""
        self._lease.release()
        if self.record.status is not RunStatus.RUNNING:
            return
        if status is RunStatus.COMPLETED and self.line.is_resumed and not self.is_trained_here:
            status = RunStatus.STOPPED
        self.record.status, self.record.ended_at = status, now()
        try:
            self._tracking.record(self._store_end, at_once=True)
        except TrackingUnavailable:
            self.doubt()
            self._note_end(self.record.id)

    def _store_end(self, home: OpenStore) -> None:
        self._settle(home)
        recovered_in = None if self._is_stored else self.recovered_in
        notebook_id = recovered_in or self.notebook_id
        if self._is_stored or home.repository.runs.get(notebook_id, self.record.id) is not None:
            home.repository.runs.update_status(notebook_id, self.record.id, self.record.status)
            self._is_stored, self._stored_status = True, self.record.status

    def _cell_ended(self, error: BaseException | None) -> None:
        with self._lock:
            if not self._lease.is_held:
                return
            if error is None:
                self.end(RunStatus.COMPLETED)
            else:
                self.end(
                    RunStatus.STOPPED if isinstance(error, KeyboardInterrupt) else RunStatus.FAILED
                )

    def _renew(self) -> None:
        # Called from another thread, which must not wait for this one: it may be writing for minutes.
        home = self._tracking.opened
        if home is None or not self._is_stored:
            return
        until = now() + LEASE
        found = home.repository.runs.renew(self.notebook_id, self.record.id, until)
        if found.status is not RunStatus.RUNNING and self._lease.is_held:
            # It was taken for gone, as after a night that this machine slept through.
            home.repository.runs.update_status(
                self.notebook_id, self.record.id, RunStatus.RUNNING, lease_until=until
            )
