"""The trainings of this process, by thread, future, asyncio task and cell."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from .execution import current_cell, current_execution, current_task, current_unit, units
from .execution.frames import call_of, outermost_call
from .run import ActiveRun, RunIdentity

#: Trainings of one unit that are remembered, since one training may contain others.
_MAX_PER_UNIT: Final = 8
#: Trainings that are remembered in all.
_MAX_TRAININGS: Final = 64
#: Executions of cells that are remembered.
_MAX_EXECUTIONS: Final = 256


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
        The cell, as :func:`.executed.current_cell` identifies it.
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
        self._reference: Any = None
        for part in [model] if self.is_whole else _arrays(model):
            try:
                self._reference = weakref.ref(part)
            except TypeError:
                continue
            break

    def refers_to(self, model: Any) -> bool:
        """Return whether ``model`` is known to be the same one."""
        target = None if self._reference is None else self._reference()
        if target is None:
            return False
        if self.is_whole:
            return target is model
        is_tree = isinstance(model, (Mapping, list, tuple))
        return is_tree and any(target is array for array in _arrays(model))

    @property
    def is_alive(self) -> bool:
        """True if the model is still in memory."""
        return self._reference is not None and self._reference() is not None


def _arrays(model: Any, depth: int = 8) -> Iterator[Any]:
    values = model.values() if isinstance(model, Mapping) else model
    for value in values if depth else ():
        if isinstance(value, (Mapping, list, tuple)):
            yield from _arrays(value, depth - 1)
        elif hasattr(value, "shape"):
            yield value


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
    skipped_run_id : str or None
        The run that ``resume`` left alone because it is alive.
    older_units : WeakSet
        The threads and tasks that existed when ``resume`` was called.
    """

    identity: RunIdentity
    run: ActiveRun | None = None
    model: ModelReference | None = None
    skipped_run_id: str | None = None
    older_units: WeakSet[Any] = field(default_factory=WeakSet)

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
        self.runs: WeakValueDictionary[str, ActiveRun] = WeakValueDictionary()

    def last(self, site: CallSite) -> Training | None:
        """Return the last training of a unit."""
        of_unit = self._of_unit.get(site.unit)
        return of_unit[-1] if of_unit else None

    def find(self, site: CallSite, model: Any) -> Training | None:
        """Return the training that a checkpoint of ``model`` belongs to.

        A unit without a training takes over one that was resumed for it: that of the same model, or
        one that was resumed before the unit began. A future or thread that only saves is recognised
        by the model.
        """
        of_unit = self._of_unit.get(site.unit, [])
        for training in reversed(of_unit):
            if training.trains(model):
                return training
        if of_unit and (of_unit[-1].run is None or site.unit is threading.main_thread()):
            return of_unit[-1]
        others = [training for training in reversed(self._recent) if training not in of_unit]
        for training in others:
            is_meant = training.trains(model) or self._is_newer(site, training)
            if training.is_fresh and is_meant:
                self.remove(training)
                return self.add(site, training)
        for training in others:
            if training.trains(model) and training.identity.execution == site.execution:
                return self.add(site, training)
        return of_unit[-1] if of_unit else None

    def _is_newer(self, site: CallSite, training: Training) -> bool:
        """Return whether a unit began after a training was resumed in the same execution."""
        is_newer = (
            site.unit is not threading.main_thread() and site.unit not in training.older_units
        )
        return is_newer and training.identity.execution == site.execution

    def add(self, site: CallSite, training: Training) -> Training:
        """Make a training the last one of a unit, and return it."""
        of_unit = self._of_unit.setdefault(site.unit, [])
        of_unit.append(training)
        del of_unit[:-_MAX_PER_UNIT]
        if training not in self._recent:
            self._recent.append(training)
        return training

    def trainings(self) -> list[Training]:
        """Return all trainings that are remembered."""
        return list(self._recent)

    def remove(self, training: Training) -> None:
        """Forget a training."""
        for of_unit in list(self._of_unit.values()):
            if training in of_unit:
                of_unit.remove(training)
        if training in self._recent:
            self._recent.remove(training)

    def begin(self, site: CallSite, key: str | None, *, cell: str | None = None) -> Training:
        """Add a training that nobody announced."""
        return self.add(site, Training(self._identity(site, key, cell)))

    def announce(self, site: CallSite, key: str | None, model: Any) -> Training:
        """Add a training that begins with ``resume``."""
        training = Training(self._identity(site, key, None))
        self._execution(site).begun = training.identity.ordinal + 1
        self._describe(training, model)
        return self.add(site, training)

    def announce_started(
        self, site: CallSite, training: Training, key: str | None, model: Any
    ) -> None:
        """Note that a training whose run has begun is resumed."""
        training.identity = training.identity._replace(execution=site.execution, key=key)
        self._describe(training, model)

    def _describe(self, training: Training, model: Any) -> None:
        existing: WeakSet[Any] = WeakSet(threading.enumerate())
        if (loop := units.running_loop()) is not None:
            existing.update(sys.modules["asyncio"].all_tasks(loop))
        training.older_units = existing
        training.model = None if model is None else ModelReference(model)

    def _identity(self, site: CallSite, key: str | None, cell: str | None) -> RunIdentity:
        ordinal = self._execution(site).begun
        if current_task() is not None:  # other processes of the pool may have begun trainings too
            ordinal = max(ordinal, 1)
        return RunIdentity(site.execution, ordinal, cell or site.cell, key)

    def note_model(self, site: CallSite, training: Training, model: Any) -> None:
        """Note that a model was saved, which makes the training one of its execution."""
        training.model = ModelReference(model)
        execution = self._execution(site)
        execution.begun = max(execution.begun, training.identity.ordinal + 1)

    def count_training(self, site: CallSite, training: Training) -> None:
        """Count a training among those of its execution, though no model was saved yet."""
        execution = self._execution(site)
        execution.begun = max(execution.begun, training.identity.ordinal + 1)

    def note_run(self, site: CallSite, run: ActiveRun) -> None:
        """Note that a run was trained in an execution."""
        self.runs[run.record.id] = run
        self._execution(site).run_ids.add(run.record.id)

    def run_ids(self, site: CallSite) -> set[str]:
        """Return the ids of the runs that were trained in an execution."""
        return self._execution(site).run_ids

    def _execution(self, site: CallSite) -> _Execution:
        if site.execution not in self._executions and len(self._executions) >= _MAX_EXECUTIONS:
            del self._executions[next(iter(self._executions))]
        return self._executions.setdefault(site.execution, _Execution())
