"""A run of this process: its identity, its position, and its end."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ..errors import InvalidData
from ..metrics import finite_metrics, flatten_metrics
from ..records import (
    MAX_STEP,
    NewCheckpoint,
    NotebookCheckpoint,
    RunStatus,
    TrainingRun,
    new_id,
    now,
)
from ..spool import Row
from .checkpoint import Checkpoint
from .execution import check_ended, current_task, on_training_end
from .processes import LEASE, this_process
from .pruning import RunPruner

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..repository.runs import GivenFields
    from .run_log import RunLog
    from .tracker import Tracker

#: Seconds between two renewals of a lease.
_RENEWAL_INTERVAL: Final = LEASE.total_seconds() / 4
#: The largest number of checkpoints whose metrics are kept until values are logged.
_MAX_SAVED: Final = 10_000
#: The metric under which epochs are logged.
_EPOCH: Final = "epoch"


class RunIdentity(NamedTuple):
    """The properties by which a run is found again when its training is repeated.

    Attributes
    ----------
    execution : object
        The execution of a cell in which the run begins; None in a script.
    ordinal : int
        How many trainings the same execution began before.
    cell : str or None
        The id of the cell, or a digest of its source.
    key : str or None
        The name that the user gave the training.
    """

    execution: Any
    ordinal: int
    cell: str | None = None
    key: str | None = None


@dataclass
class RunPosition:
    """The epoch and step that a run has reached, from which those of the next checkpoint follow.

    Attributes
    ----------
    epoch, step : int or None
        Of the furthest checkpoint, or of the one that the run was resumed from; None before the
        first.
    execution : object
        The execution of a cell in which the last checkpoint was made; None outside of cells.
    is_resumed : bool
        Whether no checkpoint was made since the run was resumed, possibly in the middle of an
        epoch.
    """

    epoch: int | None = None
    step: int | None = None
    execution: Any = None
    is_resumed: bool = False
    _last_steps: dict[int, int] = field(default_factory=dict)  # by epoch

    def compare(
        self, epoch: int | None, step: int | None, execution: Any
    ) -> Literal["after", "same", "before"]:
        """Return where a new checkpoint stands relative to the last one.

        Epoch and step are compared in this order, as far as they are given. Without a step, several
        checkpoints of one epoch follow each other within one execution of a cell. In a later
        execution, the same epoch or position is a repetition, hence "before".
        """
        if self.epoch is None or self.step is None or (epoch is None and step is None):
            return "after"
        continues = self.is_resumed or execution == self.execution
        if step is None:
            assert epoch is not None
            is_after = epoch > self.epoch or (epoch == self.epoch and continues)
            return "after" if is_after else "before"
        position, last = (self.epoch if epoch is None else epoch, step), (self.epoch, self.step)
        if position == last:
            return "same" if continues else "before"
        return "after" if position > last else "before"

    def next(
        self, epoch: int | None, step: int | None, *, overwrite: bool = False
    ) -> tuple[int, int]:
        """Return epoch and step of the next checkpoint.

        An omitted epoch is the last one, an omitted step the next one. With ``overwrite``, the
        omitted step of an epoch that has checkpoints is that of its last one.

        Raises
        ------
        ValueError
            If the last step is the largest that can be recorded.
        """
        if step is None and overwrite and epoch is not None:
            step = self._last_steps.get(epoch)
        if step is None:
            step = 0 if self.step is None else self.step + 1
            if step > MAX_STEP:
                raise ValueError(
                    f"No step follows {self.step}, the largest that can be recorded. Give a step."
                )
        return (self.epoch or 0) if epoch is None else epoch, step

    def advance(self, epoch: int, step: int, execution: Any) -> None:
        """Note that a checkpoint was made, or replaced, at this epoch and step."""
        if self.epoch is None or self.step is None or (epoch, step) > (self.epoch, self.step):
            self.epoch, self.step = epoch, step
        self.execution, self.is_resumed = execution, False
        self._last_steps[epoch] = step

    def resume(self, epoch: int, step: int) -> None:
        """Begin at a checkpoint of another run."""
        self.epoch, self.step, self.execution, self.is_resumed = epoch, step, None, True


class LogPosition:
    """The steps at which a run has logged values."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # by metric
        self._epochs: dict[str, int] = {}  # by metric
        self._highest = self._parent_step = self._parent_epoch = -1
        self._offset = 0
        #: The execution of a cell in which values were logged last.
        self.execution: Any = None

    @property
    def step(self) -> int | None:
        """The highest step; None before the first."""
        return None if self._highest < 0 else self._highest

    def place(
        self, names: Collection[str], step: int | None, epoch: int | None, execution: Any
    ) -> int | None:
        """Return the step at which values are stored; None if they go back.

        Without a step it is the next one. If the steps of a metric begin again in a later epoch,
        they are counted on from the last one. Values go back if their metric was logged at a later
        step, or in an earlier execution of a cell at the same step. Without a step, or at the same
        one, they go back if their metric was logged in a later epoch. The metric ``epoch`` itself
        counts only if it is logged alone.
        """
        last, epochs, offset = self._last, self._epochs, self._offset
        placed = self._highest + 1 if step is None else step + offset
        first = placed if execution == self.execution else placed - 1
        for name in names:
            if name == _EPOCH and len(names) > 1:
                continue
            if name not in last:
                begins = step is not None and epoch is not None and epoch > self._parent_epoch
                if begins and placed <= self._parent_step:
                    placed = self._highest + 1
                    offset = placed - (step or 0)
                continue
            later = 0 if epoch is None else epoch - epochs.get(name, epoch)
            if step is None:
                if later < 0:
                    return None
            elif (before := last[name]) >= placed:
                if later < 0 or (later == 0 and before > first):
                    return None
                if later:
                    placed = self._highest + 1
                    offset = placed - step
        self._offset = offset
        return placed

    def is_behind(self, name: str, step: int) -> bool:
        """Return whether a metric was logged at a later step."""
        return self._last.get(name, -1) > step

    def advance(
        self, names: Iterable[str], step: int, epoch: int | None, execution: Any
    ) -> list[str]:
        """Note that values were logged at a step; return the metrics that had a value there."""
        last, repeated = self._last, []
        for name in names:
            if last.get(name) == step:
                repeated.append(name)
            last[name] = step
            if epoch is not None:
                self._epochs[name] = epoch
        self._highest = max(self._highest, step)
        self.execution = execution
        return repeated

    def has(self, names: Iterable[str], step: int) -> bool:
        """Return whether one of some metrics was last logged at a step."""
        return any(self._last.get(name) == step for name in names)

    def resume(self, epoch: int, step: int) -> None:
        """Begin after a checkpoint of another run."""
        self._highest = self._parent_step = step
        self._parent_epoch = epoch


class ActiveRun:
    """A run that this process trains, until the code that trains it ends.

    Parameters
    ----------
    tracker : Tracker
        How the run is recorded.
    identity : RunIdentity
        By which the run is found again.
    notebook_id : str, optional
        None while it is not known which record the run belongs to.
    parent : NotebookCheckpoint, optional
        The checkpoint that it was resumed from.
    skipped_run_id : str, optional
        The run that was left alone because it seemed to be alive.
    **fields
        What the user gave to it: name, configuration, tags, …

    Attributes
    ----------
    record : TrainingRun
        The run as it stands; the store may not have it yet.
    position : RunPosition
        How far it has come.
    is_provisional : bool
        Whether its record is not known yet; then :attr:`notebook_id` is a random id.
    last : Checkpoint or None
        The last checkpoint.
    last_cell : str or None
        The cell in which the last checkpoint was made.
    is_trained_here : bool
        False if the cell that resumed it contains no training: then its end does not complete the
        run.
    has_reported_kept_state : bool
        Whether the user was told that a saved state was not replaced.
    log_position : LogPosition
        The steps at which it has logged values.
    pruner : RunPruner
        Called after each checkpoint.
    log_cell : str or None
        The cell in which values were logged last.
    has_final_config : bool
        Whether its configuration was given, or derived at its first point.
    has_repeated : bool
        Whether a metric was logged twice at a step.
    logged : dict
        The last values that were logged since the last checkpoint, by name.
    """

    def __init__(
        self,
        tracker: Tracker,
        identity: RunIdentity,
        notebook_id: str | None,
        parent: NotebookCheckpoint | None = None,
        skipped_run_id: str | None = None,
        **fields: Unpack[GivenFields],
    ) -> None:
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
            **fields,
        )
        self.log_position = LogPosition()
        self.log_cell: str | None = None
        self.has_final_config = True
        self.has_repeated = False
        self.logged: dict[str, float] = {}
        self._latest: dict[str, float] = {}
        self.log_lock = threading.RLock()  # a signal handler may log, too
        self._log: RunLog | None = None
        self._logs: list[RunLog] = []  # until their rows are stored
        #: The metrics of checkpoints before the first logged value.
        self._saved: deque[Row] = deque(maxlen=_MAX_SAVED)
        self.position = RunPosition()
        self.is_provisional = notebook_id is None
        self.parent = parent
        self.last: Checkpoint | None = None
        self.last_cell: str | None = None
        self.is_trained_here = True
        self.has_reported_kept_state = False
        self.pruner = RunPruner(tracker, self.record)
        self._tracker = tracker
        self._task: Any = None
        self._lease: threading.Event | None = None  # set when it is released

    @property
    def notebook_id(self) -> str:
        """The id of the record that its checkpoints belong to."""
        return self.record.notebook_id

    @property
    def is_new(self) -> bool:
        """True if it has no checkpoint and no logged value, and was not resumed."""
        return self.position.step is None and self.log_position.step is None

    @property
    def is_unused(self) -> bool:
        """True if it was resumed, and has no checkpoint or logged value since."""
        return self.position.is_resumed and not self.logged

    def move(self, notebook_id: str) -> None:
        """Assign the run to its record, which is known now."""
        self.record.notebook_id = notebook_id
        self.is_provisional = False
        self._tracker.forget_run(self.record.id)

    def log(
        self, values: dict[str, float], step: int, epoch: int | None, execution: Any
    ) -> str | None:
        """Log values at a step, which :attr:`log_position` has placed; never waits.

        Returns the name of a metric whose value at this step is replaced by another one.
        """
        if step > MAX_STEP:
            raise InvalidData("$.step", f"no step follows {MAX_STEP}, the largest one")
        if _EPOCH in values and len(values) > 1 and self.log_position.is_behind(_EPOCH, step):
            values = {name: value for name, value in values.items() if name != _EPOCH}
        if self._log is None:
            self._log = self._tracker.open_log(self.record)
            self._logs = [*(log for log in self._logs if not log.is_stored), self._log]
            while self._saved:
                self._log.append(self._saved.popleft())
        self._log.append(Row(step, time.time(), values))
        repeated = self.log_position.advance(values, step, epoch, execution)
        replaced = next((name for name in repeated if self._is_other(name, values[name])), None)
        self._latest.update(values)
        self.logged.update(values)
        return replaced

    def _is_other(self, name: str, value: float) -> bool:
        latest = self._latest.get(name)
        return name != _EPOCH and latest != value and not math.isnan(value)

    def step_to_save(self) -> int | None:
        """Return the step of a checkpoint without one: the last logged one, if that is newer."""
        logged = self.log_position.step
        is_newer = logged is not None and (
            self.position.step is None or logged > self.position.step
        )
        return logged if is_newer and self.logged else None

    def with_logged(self, metrics: Any) -> Any:
        """Return the metrics of a checkpoint with what was logged since the last one."""
        if not self.logged or not isinstance(metrics, dict):
            return metrics
        given = flatten_metrics(metrics)
        with self.log_lock:
            return {**{n: v for n, v in self.logged.items() if n not in given}, **metrics}

    def log_saved(self, checkpoint: NewCheckpoint, execution: Any) -> None:
        """Log the metrics of a checkpoint, if values of this run are logged, or once they are."""
        given = finite_metrics(checkpoint.metrics)
        if given and not self._logs:
            self._saved.append(Row(checkpoint.step, time.time(), given))
        elif given:
            values = {
                name: value for name, value in given.items() if self.logged.get(name) != value
            }
            with self.log_lock:
                placed = self.log_position.place(values, checkpoint.step, None, execution)
                if values and placed is not None:
                    self.log(values, placed, None, execution)
        self.logged.clear()

    def unstored_rows(self) -> list[Row]:
        """Return logged rows that the store may lack."""
        return [row for log in self._logs for row in log.unstored_rows()]

    def is_over(self) -> bool:
        """Return whether an earlier task of this pool process trained the run, and end it then."""
        if self._task == current_task():
            return False
        check_ended(self._code_ended)
        return True

    def activate(self) -> None:
        """Begin or continue the run, and end it together with the code that is being executed."""
        if self._lease is None:
            self.record.status, self.record.ended_at = RunStatus.RUNNING, None
            self._task = current_task()
            self._lease = threading.Event()
            with suppress(RuntimeError):  # the process ends, and so does the lease
                threading.Thread(
                    target=self._renew_lease, args=(self._lease,), name="axon-lease", daemon=True
                ).start()
        on_training_end(
            self._code_ended
        )  # each time: what trains now may be other code than before
        self._tracker.start_run(self.record)

    def end(self, status: RunStatus) -> None:
        """End the run, if it is running. A later checkpoint may continue it."""
        if self._lease is not None:
            self._lease.set()
            self._lease = None
        with self.log_lock:
            log, self._log = self._log, None
        if self.record.status is RunStatus.RUNNING:
            self._finish(status)
        if log is not None:
            log.close()  # now that the status is known, which is recorded after the last row

    def _finish(self, status: RunStatus) -> None:
        if status is RunStatus.COMPLETED and self.position.is_resumed and not self.is_trained_here:
            status = RunStatus.STOPPED
        self.record.status, self.record.ended_at = status, now()
        self._tracker.finish_run(self.record)

    def _code_ended(self, error: BaseException | None) -> None:
        with self._tracker.lock:  # another thread may be training
            if self._lease is None:
                return
            if error is None:
                self.end(RunStatus.COMPLETED)
            else:
                is_stopped = isinstance(error, KeyboardInterrupt)
                self.end(RunStatus.STOPPED if is_stopped else RunStatus.FAILED)

    def _renew_lease(self, released: threading.Event) -> None:
        # In a thread of its own, without the lock, which a training may hold for minutes while it
        # writes.
        while not released.wait(_RENEWAL_INTERVAL):
            with suppress(Exception):  # a lapsed lease harms nothing that is alive on this host
                self._tracker.renew_lease(self.record)
