"""The runs of this process, by the thread, future, asyncio task or cell that trains them."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

from ..records import MAX_STEP, NotebookCheckpoint, RunStatus, TrainingRun, new_id, now
from .checkpoint import Checkpoint
from .execution import (
    check_ended,
    current_cell,
    current_execution,
    current_task,
    current_unit,
    on_training_end,
    units,
)
from .execution.frames import call_of, outermost_call
from .processes import LEASE, this_process

if TYPE_CHECKING:
    from .tracker import Tracker

#: Seconds between two renewals of a lease.
_RENEWAL_INTERVAL: Final = LEASE.total_seconds() / 4
#: Trainings of one unit that are remembered, since one training may contain others.
_MAX_PER_UNIT: Final = 8
#: Trainings that are remembered in all.
_MAX_TRAININGS: Final = 64
#: Executions of cells that are remembered.
_MAX_EXECUTIONS: Final = 256


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

    Attributes
    ----------
    record : TrainingRun
        The run as it stands; the store may not have it yet.
    position : RunPosition
        How far it has come.
    last : Checkpoint or None
        The last checkpoint.
    last_cell : str or None
        The cell in which the last checkpoint was made.
    is_trained_here : bool
        False if the cell that resumed it contains no training: then its end does not complete the
        run.
    """

    def __init__(
        self,
        tracker: Tracker,
        identity: RunIdentity,
        notebook_id: str | None,
        parent: NotebookCheckpoint | None = None,
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
        )
        self.position = RunPosition()
        self.parent = parent
        self.last: Checkpoint | None = None
        self.last_cell: str | None = None
        self.is_trained_here = True
        self._tracker = tracker
        self._task: Any = None
        self._lease: threading.Event | None = None  # set when it is released

    @property
    def notebook_id(self) -> str:
        """The id of the record that its checkpoints belong to."""
        return self.record.notebook_id

    def is_over(self) -> bool:
        """Return whether an earlier task of this pool process trained the run, and end it then."""
        if self._task == current_task():
            return False
        check_ended(self._code_ended)
        self.end(RunStatus.COMPLETED)
        return True

    def activate(self) -> None:
        """Begin or continue the run, and end it together with the code that is being executed."""
        if self._lease is None:
            self.record.status, self.record.ended_at = RunStatus.RUNNING, None
            self._task = current_task()
            self._lease = threading.Event()
            threading.Thread(
                target=self._renew_lease, args=(self._lease,), name="axon-lease", daemon=True
            ).start()
        on_training_end(self._code_ended)  # each time: other code than before may train now
        self._tracker.start_run(self.record)

    def end(self, status: RunStatus) -> None:
        """End the run, if it is running. A later checkpoint may continue it."""
        if self._lease is not None:
            self._lease.set()
            self._lease = None
        if self.record.status is not RunStatus.RUNNING:
            return
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


class CallSite(NamedTuple):
    """The origin of a call of the notebook API.

    Attributes
    ----------
    unit : object
        The future, asyncio task or thread that trains; the main thread for a cell or a script.
    execution : object
        The execution of a cell. Outside of cells, the function that the kernel or the interpreter
        called.
    cell : str or None
        The cell, as :func:`.execution.current_cell` identifies it.
    """

    unit: Any
    execution: Any
    cell: str | None


def call_site() -> CallSite:
    """Return the call site of the caller."""
    frame = sys._getframe(1)
    unit, thread = current_unit(frame), threading.current_thread()
    is_main = thread is threading.main_thread()
    if unit is None and not is_main and not units.is_shared_thread(thread):
        unit = thread
    execution: Any = current_execution()
    if execution is None and unit is None and (call := outermost_call(frame)) is not None:
        execution = call_of(call)
    return CallSite(threading.main_thread() if unit is None else unit, execution, current_cell())


class ModelReference:
    """A weak reference by which a model is recognised.

    Attributes
    ----------
    is_whole : bool
        Whether it refers to the model itself. Of a mapping or list it refers to the first array in
        it, so that a difference proves nothing.
    """

    def __init__(self, model: Any) -> None:
        self.is_whole = not isinstance(model, (Mapping, list, tuple))
        self._target: Any = lambda: None
        for part in _parts(model):
            with suppress(TypeError):  # not every object can be referred to
                self._target = weakref.ref(part)
                break

    def refers_to(self, model: Any) -> bool:
        """Return whether ``model`` is known to be the same one."""
        target = self._target()
        return target is not None and any(target is part for part in _parts(model))

    @property
    def is_alive(self) -> bool:
        """True if the model is still in memory."""
        return self._target() is not None


def _parts(model: Any, depth: int = 8) -> Iterator[Any]:
    """Yield the model, or the arrays in a mapping or list."""
    if not isinstance(model, (Mapping, list, tuple)):
        yield model
        return
    for value in model.values() if isinstance(model, Mapping) else model:
        is_container = isinstance(value, (Mapping, list, tuple))
        if (is_container and depth > 0) or hasattr(value, "shape"):
            yield from _parts(value, depth - 1)


@dataclass(eq=False)
class Training:
    """One training of this process.

    Attributes
    ----------
    identity : RunIdentity
        That of its run, which may not have begun.
    run : ActiveRun or None
        None until a checkpoint is made or resumed.
    model : ModelReference or None
        The model of the last checkpoint, or the one that ``resume`` was given.
    """

    identity: RunIdentity
    run: ActiveRun | None = None
    model: ModelReference | None = None

    @property
    def is_fresh(self) -> bool:
        """True if no checkpoint was made since ``resume``."""
        return self.run is None or self.run.position.is_resumed

    def trains(self, model: Any) -> bool:
        """Return whether ``model`` is known to be the one that is trained."""
        return model is not None and self.model is not None and self.model.refers_to(model)


@dataclass
class _Execution:
    begun: int = 0  # trainings
    run_ids: set[str] = field(default_factory=set)


class TrainingRegistry:
    """All trainings of this process."""

    def __init__(self) -> None:
        self._of_unit: WeakKeyDictionary[Any, list[Training]] = WeakKeyDictionary()
        self._recent: deque[Training] = deque(maxlen=_MAX_TRAININGS)  # futures do not outlive these
        self._executions: dict[Any, _Execution] = {}

    def runs(self) -> list[ActiveRun]:
        """Return the runs that this process has trained."""
        return [training.run for training in self._recent if training.run is not None]

    def last(self, site: CallSite) -> Training | None:
        """Return the last training of a unit."""
        of_unit = self._of_unit.get(site.unit)
        return of_unit[-1] if of_unit else None

    def find(self, site: CallSite, model: Any) -> Training | None:
        """Return the training that a checkpoint of ``model`` belongs to.

        A future, task or thread that has no training takes over the one of the same model.
        """
        of_unit = self._of_unit.get(site.unit, [])
        for training in reversed(of_unit):
            if training.trains(model):
                return training
        if of_unit and (of_unit[-1].run is None or site.unit is threading.main_thread()):
            return of_unit[-1]
        for training in reversed(self._recent):
            is_near = training.is_fresh or training.identity.execution == site.execution
            if is_near and training not in of_unit and training.trains(model):
                if training.is_fresh:
                    self.remove(training)
                return self.add(site, training)
        return of_unit[-1] if of_unit else None

    def add(self, site: CallSite, training: Training) -> Training:
        """Make a training the last one of a unit, and return it."""
        of_unit = self._of_unit.setdefault(site.unit, [])
        of_unit.append(training)
        del of_unit[:-_MAX_PER_UNIT]
        if training not in self._recent:
            self._recent.append(training)
        return training

    def remove(self, training: Training) -> None:
        """Forget a training."""
        for of_unit in list(self._of_unit.values()):
            if training in of_unit:
                of_unit.remove(training)
        if training in self._recent:
            self._recent.remove(training)

    def begin(self, site: CallSite, key: str | None, *, cell: str | None = None) -> Training:
        """Add a training that begins with a checkpoint."""
        ordinal = self._execution(site).begun
        if current_task() is not None:  # other processes of the pool may have begun trainings too
            ordinal = max(ordinal, 1)
        return self.add(
            site, Training(RunIdentity(site.execution, ordinal, cell or site.cell, key))
        )

    def announce(self, site: CallSite, key: str | None, model: Any) -> Training:
        """Add a training that begins with ``resume``."""
        training = self.begin(site, key)
        self._execution(site).begun = training.identity.ordinal + 1
        training.model = None if model is None else ModelReference(model)
        return training

    def note_model(self, site: CallSite, training: Training, model: Any) -> None:
        """Note that a model was saved, which makes the training one of its execution."""
        training.model = ModelReference(model)
        execution = self._execution(site)
        execution.begun = max(execution.begun, training.identity.ordinal + 1)

    def run_ids(self, site: CallSite) -> set[str]:
        """Return the ids of the runs that were trained in an execution, to add to."""
        return self._execution(site).run_ids

    def _execution(self, site: CallSite) -> _Execution:
        if site.execution not in self._executions and len(self._executions) >= _MAX_EXECUTIONS:
            del self._executions[next(iter(self._executions))]
        return self._executions.setdefault(site.execution, _Execution())
