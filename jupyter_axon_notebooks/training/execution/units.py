"""Trainings that are no cell's alone: threads, futures of executors and asyncio tasks.

Such a unit takes the place of the cell: what it asked for comes when it ends itself, or when the interpreter ends
before it does. As long as the cell lasts that it was begun in, it works for that cell: one that fails ends what its units
do as well (those that go on all the same ask again). A unit that asked several times, as one that trains does with each
checkpoint, has an end of its own; one that asked once, as one that only saves does, leaves it to the cell or the program.
"""

from __future__ import annotations

import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from . import Cell, Ended

#: By thread, future or task.
_watched: dict[Any, _Background] = {}
_hook_lock = threading.RLock()  # the hook is there as long as a thread is watched
#: Calls of a unit from which on it trains, rather than saves for a training that goes on elsewhere.
_TRAINS = 2
#: Top-level modules whose asyncio tasks run the cells.
_KERNELS = frozenset({"IPython", "ipykernel", "tornado", "jupyter_client", "anyio"})


def works_for_others(thread: threading.Thread) -> bool:
    """Whether what a thread does is the work of whoever runs a cell: it is one of a pool, or not Python's."""
    pool = sys.modules.get("concurrent.futures.thread")
    return (
        thread is threading.main_thread()
        or isinstance(thread, threading._DummyThread)
        or thread in getattr(pool, "_threads_queues", ())
    )


def running_loop() -> Any:
    """Return the event loop of asyncio that runs in this thread, if there is one."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def current_unit(frame: FrameType | None, recorder: Any) -> Any:
    """Return the future, asyncio task or thread that trains on its own; None where a cell or a script does."""
    if (unit := _current_future(frame) or _current_task(frame, recorder)) is not None:
        return unit
    thread = threading.current_thread()
    is_background = not works_for_others(thread) if recorder is None else recorder.is_background()
    return thread if is_background else None


def _current_future(frame: FrameType | None) -> Any:
    from .frames import outermost_call, stack

    pool = sys.modules.get("concurrent.futures.thread")
    run = getattr(getattr(getattr(pool, "_WorkItem", None), "run", None), "__code__", None)
    if (
        run is None or outermost_call(frame) is None
    ):  # it saves for a training that goes on elsewhere
        return None
    work = next((found for found in stack(frame) if found.f_code is run), None)
    return None if work is None else getattr(work.f_locals.get("self"), "future", None)


def _current_task(frame: FrameType | None, recorder: Any) -> Any:
    from .frames import stack

    if running_loop() is None or (recorder is not None and recorder.is_running_in(frame)):
        return None
    task = sys.modules["asyncio"].current_task()
    code = getattr(getattr(task, "get_coro", lambda: None)(), "cr_code", None)
    modules = (
        str(found.f_globals.get("__name__")) for found in stack(frame) if found.f_code is code
    )
    return None if next(modules, "IPython").partition(".")[0] in _KERNELS else task


def begun_in(unit: Any) -> tuple[Cell | None] | None:
    """Return the cell in which a unit that is watched was begun, which may be none; None for others."""
    background = _watched.get(unit)
    return None if background is None else (background.cell,)


def on_unit_end(unit: Any, callback: Ended, cell: Cell | None, program: Cell) -> None:
    """Have ``callback`` called when a unit and the cell that it was begun in have ended, or the program has.

    It is told what ended the unit, or the cell; of a unit that goes on when the program ends, KeyboardInterrupt.
    """
    background = _watched.get(unit)
    if background is None:
        with _hook_lock:
            _watched[unit] = _Background(unit, callback, cell, program)
        return
    background.calls += 1
    if callback not in background.callbacks:
        background.callbacks.append(callback)


class _Background:
    """A unit, and whom to tell when it is over."""

    def __init__(self, unit: Any, callback: Ended, cell: Cell | None, program: Cell) -> None:
        self.callbacks = [callback]
        self.calls = 1
        self.cell = cell
        self.error: BaseException | None = None
        self._unit = unit
        self._lock = threading.Lock()
        self._is_over = False
        self._awaits_cell = cell is not None and cell is not program and cell.status == "running"
        self._program = program
        program.add(self._program_ended)
        if cell is not None and self._awaits_cell:
            cell.add(self._cell_ended)
        if isinstance(unit, threading.Thread):
            _hear_of_errors()
            threading.Thread(target=self._wait, name="axon-background", daemon=True).start()
        else:
            unit.add_done_callback(self._done)

    def _wait(self) -> None:
        self._unit.join()
        self._unit_ended(self.error)

    def _done(self, unit: Any) -> None:
        self._unit_ended(
            KeyboardInterrupt() if unit.cancelled() else _unless_left(unit.exception())
        )

    def _unit_ended(self, error: BaseException | None) -> None:
        with self._lock:
            self.error, self._is_over = error, True
            is_begun_here = self._awaits_cell or self.cell is self._program
            if error is None and self.calls < _TRAINS and is_begun_here:
                self._forget()
                if not self._awaits_cell:  # the program's own training goes on
                    for callback in self.callbacks:
                        self._program.add(callback)
                    with suppress(ValueError):
                        self._program.callbacks.remove(self._program_ended)
                return
        self._tell(error)

    def _cell_ended(self, error: BaseException | None) -> None:
        with self._lock:
            self._awaits_cell = False
            if error is None and not self._is_over:
                return
        self._tell(error or self.error)

    def _program_ended(self, error: BaseException | None) -> None:
        with self._lock:
            unit = self._unit
            has_ended = self._is_over or (
                isinstance(unit, threading.Thread) and not _is_executed(unit)
            )
        if has_ended:
            self._tell(self.error or (error if self._awaits_cell else None))
        else:
            self._tell(error or KeyboardInterrupt())

    def _tell(self, error: BaseException | None) -> None:
        with self._lock:  # a program that ends waits until all are told
            self._forget()
            while self.callbacks:
                try:
                    self.callbacks.pop(0)(error)
                except Exception:  # noqa: BLE001 - as at the end of a cell
                    traceback.print_exc()
            with suppress(ValueError):  # not before: it would not be waited for
                self._program.callbacks.remove(self._program_ended)

    def _forget(self) -> None:
        if _watched.get(self._unit) is self:  # which may hold a result
            del _watched[self._unit]
        self._unit = None
        with _hook_lock:
            if not any(isinstance(unit, threading.Thread) for unit in list(_watched)):
                _ignore_errors()


def _is_executed(thread: threading.Thread) -> bool:
    # One that is over is_alive() for a moment, while another thread joins it.
    return thread.is_alive() and thread.ident in sys._current_frames()


def _unless_left(error: BaseException | None) -> BaseException | None:
    """Return what ended a unit; None where that was ``sys.exit()``."""
    return None if isinstance(error, SystemExit) and not error.code else error


def _hear_of_errors() -> None:
    """Note what threads end by, before it is shown."""
    shown = threading.excepthook
    if hasattr(shown, "_axon_shown"):
        return

    def note(said: Any) -> None:
        background = _watched.get(said.thread)
        if background is not None:
            background.error = _unless_left(said.exc_value)
        shown(said)

    note._axon_shown = shown  # type: ignore[attr-defined]
    threading.excepthook = note


def _ignore_errors() -> None:
    """Have the errors of threads shown as before, unless somebody has put another hook over ours."""
    threading.excepthook = getattr(threading.excepthook, "_axon_shown", threading.excepthook)
