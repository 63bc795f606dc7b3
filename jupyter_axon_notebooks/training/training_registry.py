"""The trainings of this process: which run each of its threads, futures and asyncio tasks is in."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from .execution import current_cell, current_execution, current_task, current_unit
from .execution import units as background
from .execution.frames import call_of, outermost_call
from .processes import RunIdentity
from .run import ActiveRun

#: TrainingRegistry of one thread that are remembered: a training may have others inside of it.
_MOST: Final = 8
#: TrainingRegistry that are remembered in all.
_MOST_RECENT: Final = 64
#: Executions of cells that are remembered.
_MOST_EXECUTIONS: Final = 256


class CallSite(NamedTuple):
    """Where a call of the notebook API comes from.

    Attributes
    ----------
    unit : object
        The future, asyncio task or thread that trains; the main thread where a cell or a script does.
    execution : object
        The execution of a cell. Outside of cells, the function that the kernel or the interpreter called.
    cell : str or None
        The cell, as :func:`.executed.current_cell` names it.
    """

    unit: Any
    execution: Any
    cell: str | None


def call_site() -> CallSite:
    """Return the call site of the caller's caller."""
    frame = sys._getframe(1)
    unit, thread = current_unit(frame), threading.current_thread()
    if (
        unit is None
        and thread is not threading.main_thread()
        and not background.works_for_others(thread)
    ):
        unit = thread
    execution: Any = current_execution()
    if execution is None and unit is None and (call := outermost_call(frame)) is not None:
        execution = call_of(call)
    return CallSite(threading.main_thread() if unit is None else unit, execution, current_cell())


class ModelToken:
    """What a model is recognised by later, without keeping it in memory.

    Attributes
    ----------
    is_whole : bool
        Whether it is the object itself; of mappings and lists it is the first array in them, so that another one says nothing.
    """

    def __init__(self, model: Any) -> None:
        self.is_whole = not isinstance(model, (Mapping, list, tuple))
        self._reference: Any = None
        for part in [model] if self.is_whole else _leaves(model):
            try:
                self._reference = weakref.ref(part)
            except TypeError:
                continue
            break

    def is_of(self, model: Any) -> bool:
        """Whether ``model`` is known to be the same one."""
        there = None if self._reference is None else self._reference()
        if there is None:
            return False
        if self.is_whole:
            return there is model
        return isinstance(model, (Mapping, list, tuple)) and any(
            there is leaf for leaf in _leaves(model)
        )

    @property
    def is_alive(self) -> bool:
        """Whether the model is still in memory."""
        return self._reference is not None and self._reference() is not None


def _leaves(model: Any, depth: int = 8) -> Iterator[Any]:
    values = model.values() if isinstance(model, Mapping) else model
    for value in values if depth else ():
        if isinstance(value, (Mapping, list, tuple)):
            yield from _leaves(value, depth - 1)
        elif hasattr(value, "shape"):
            yield value


@dataclass(eq=False)
class Training:
    """One training of this process.

    Attributes
    ----------
    identity : RunIdentity
        What its run has, or will have.
    run : ActiveRun or None
        None as long as ``resume`` has found nothing and no checkpoint was made.
    model : ModelToken or None
        The model of the last checkpoint, or the one that ``resume`` was given.
    skipped_run_id : str or None
        As the run will have it.
    """

    identity: RunIdentity
    run: ActiveRun | None = None
    model: ModelToken | None = None
    skipped_run_id: str | None = None
    existing: WeakSet[Any] = field(
        default_factory=WeakSet
    )  # units that are older than its `resume`

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was trained since ``resume``."""
        return self.run is None or self.run.line.is_resumed

    def trains(self, model: Any) -> bool:
        """Whether ``model`` is known to be what it trains."""
        return model is not None and self.model is not None and self.model.is_of(model)


@dataclass
class _Execution:
    trained: int = 0
    run_ids: set[str] = field(default_factory=set)


class TrainingRegistry:
    """All trainings of this process."""

    def __init__(self) -> None:
        self._of_unit: WeakKeyDictionary[Any, list[Training]] = WeakKeyDictionary()
        self._recent: deque[Training] = deque(maxlen=_MOST_RECENT)  # which futures do not outlive
        self._executions: dict[Any, _Execution] = {}
        self.runs: WeakValueDictionary[str, ActiveRun] = WeakValueDictionary()

    def last(self, site: CallSite) -> Training | None:
        """Return the training that the unit was busy with last."""
        of_unit = self._of_unit.get(site.unit)
        return of_unit[-1] if of_unit else None

    def find(self, site: CallSite, model: Any) -> Training | None:
        """Return the training that a checkpoint of ``model`` may belong to.

        A unit that trains nothing yet takes over what was resumed for it: the same model, or before the unit began. What a
        future or thread only saves for a training is recognised by the model.
        """
        of_unit = self._of_unit.get(site.unit, [])
        for training in reversed(of_unit):
            if training.trains(model):
                return training
        if of_unit and (of_unit[-1].run is None or site.unit is threading.main_thread()):
            return of_unit[-1]
        others = [training for training in reversed(self._recent) if training not in of_unit]
        for training in others:
            if training.is_fresh and (training.trains(model) or self._is_begun_for(site, training)):
                self.drop(training)
                return self.add(site, training)
        for training in others:
            if training.trains(model) and training.identity.execution == site.execution:
                return self.add(site, training)
        return of_unit[-1] if of_unit else None

    def _is_begun_for(self, site: CallSite, training: Training) -> bool:
        is_newer = site.unit is not threading.main_thread() and site.unit not in training.existing
        return is_newer and training.identity.execution == site.execution

    def add(self, site: CallSite, training: Training) -> Training:
        """Have a unit be busy with a training from now on."""
        of_unit = self._of_unit.setdefault(site.unit, [])
        of_unit.append(training)
        del of_unit[:-_MOST]
        if training not in self._recent:
            self._recent.append(training)
        return training

    def drop(self, training: Training) -> None:
        """Forget a training that never came to its first checkpoint."""
        for of_unit in list(self._of_unit.values()):
            if training in of_unit:
                of_unit.remove(training)
        if training in self._recent:
            self._recent.remove(training)

    def units(self) -> WeakSet[Any]:
        """Return the threads and asyncio tasks that there are now."""
        found: WeakSet[Any] = WeakSet(threading.enumerate())
        if (loop := background.running_loop()) is not None:
            found.update(sys.modules["asyncio"].all_tasks(loop))
        return found

    def identity(
        self,
        site: CallSite,
        key: str | None,
        *,
        cell: str | None = None,
        is_announced: bool = False,
    ) -> RunIdentity:
        """Return the identity of a run that begins at ``site``."""
        execution = self._execution(site)
        ordinal = execution.trained
        if (
            current_task() is not None
        ):  # in a process of a pool, which does not know what the others do
            ordinal = max(ordinal, 1)
        if is_announced:
            execution.trained = ordinal + 1
        return RunIdentity(site.execution, ordinal, cell or site.cell, key)

    def has_trained(self, site: CallSite, identity: RunIdentity) -> None:
        """Count a training that nobody announced, once it has saved a model."""
        execution = self._execution(site)
        execution.trained = max(execution.trained, identity.ordinal + 1)

    def note(self, site: CallSite, run: ActiveRun) -> None:
        """Remember that a run was trained in an execution."""
        self.runs[run.record.id] = run
        self._execution(site).run_ids.add(run.record.id)

    def run_ids(self, site: CallSite) -> set[str]:
        """Return the ids of the runs that were trained in an execution."""
        return self._execution(site).run_ids

    def _execution(self, site: CallSite) -> _Execution:
        if site.execution not in self._executions and len(self._executions) >= _MOST_EXECUTIONS:
            del self._executions[next(iter(self._executions))]
        return self._executions.setdefault(site.execution, _Execution())
