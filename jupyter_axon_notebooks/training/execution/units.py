"""Trainings in threads, futures of executors and asyncio tasks, instead of directly in a cell.

A *unit* is such a thread, future or task. Its training ends when the unit ends, when the
interpreter exits, or when the cell that started the unit fails while the unit runs. A unit that
calls the notebook API only once is assumed to save for a training elsewhere. That training ends
with the cell or script of the unit.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from .cell import Cell, EndCallback, call_all
from .frames import outermost_call, stack

if TYPE_CHECKING:
    from types import FrameType

_watched: dict[Any, _WatchedUnit] = {}
_hook_lock = threading.RLock()
#: A unit that makes this number of API calls is assumed to train, not only to save once.
_TRAINS: Final = 2
#: Top-level modules whose asyncio tasks execute cells.
_KERNELS: Final = frozenset({"IPython", "ipykernel", "tornado", "jupyter_client", "anyio"})


def _renew_lock() -> None:
    global _hook_lock
    _hook_lock = threading.RLock()  # another thread may have held it when the process was forked


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


def is_shared_thread(thread: threading.Thread) -> bool:
    """Return whether several cells may use a thread: the main, a pool or a foreign thread."""
    pool = sys.modules.get("concurrent.futures.thread")
    return (
        thread is threading.main_thread()
        or isinstance(thread, threading._DummyThread)
        or thread in getattr(pool, "_threads_queues", ())
    )


def running_loop() -> Any:
    """Return the asyncio event loop of this thread; None if none is running."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def current_unit(frame: FrameType | None, *, in_cell: bool) -> Any:
    """Return the future, asyncio task or thread that trains on its own; None for a cell or script.

    Parameters
    ----------
    in_cell : bool
        Whether a cell called ``frame``.
    """
    unit = _current_future(frame)
    if unit is None and not in_cell:
        unit = _current_task(frame)
    if unit is not None or in_cell:
        return unit
    thread = threading.current_thread()
    return None if is_shared_thread(thread) else thread


def _current_future(frame: FrameType | None) -> Any:
    pool = sys.modules.get("concurrent.futures.thread")
    run = getattr(getattr(getattr(pool, "_WorkItem", None), "run", None), "__code__", None)
    if run is None or outermost_call(frame) is None:  # the pool calls this package directly
        return None
    work = next((found for found in stack(frame) if found.f_code is run), None)
    return None if work is None else getattr(work.f_locals.get("self"), "future", None)


def _current_task(frame: FrameType | None) -> Any:
    if running_loop() is None:
        return None
    task = sys.modules["asyncio"].current_task()
    code = getattr(getattr(task, "get_coro", lambda: None)(), "cr_code", None)
    for found in stack(frame):
        if found.f_code is code:
            is_kernel = str(found.f_globals.get("__name__")).partition(".")[0] in _KERNELS
            return None if is_kernel else task
    return None


def find_begin(unit: Any) -> tuple[Cell | None] | None:
    """Return a 1-tuple of the cell that started a watched unit (or None); None if not watched."""
    watched = _watched.get(unit)
    return None if watched is None else (watched.cell,)


def watch_unit(unit: Any, callback: EndCallback, cell: Cell | None, program: Cell) -> None:
    """Call ``callback`` when a unit or the program ends, or the cell that began it fails."""
    watched = _watched.get(unit)
    if watched is None:
        with _hook_lock:
            _watched[unit] = _WatchedUnit(unit, callback, cell, program)
        return
    watched.calls += 1
    if callback not in watched.callbacks:
        watched.callbacks.append(callback)


class _WatchedUnit:
    def __init__(self, unit: Any, callback: EndCallback, cell: Cell | None, program: Cell) -> None:
        self.callbacks = [callback]
        self.calls = 1
        self.cell = cell
        self.error: BaseException | None = None
        self._unit = unit
        self._lock = threading.Lock()
        self._is_over = False
        self._awaits_cell = cell is not None and cell is not program and cell.status == "running"
        self._program = program
        program.add(self._end_with_program)
        if cell is not None and self._awaits_cell:
            cell.add(self._end_with_cell)
        if isinstance(unit, threading.Thread):
            _install_thread_hook()
            threading.Thread(target=self._join, name="axon-background", daemon=True).start()
        else:
            unit.add_done_callback(self._end_done)

    def _join(self) -> None:
        self._unit.join()
        self._end(self.error)

    def _end_done(self, unit: Any) -> None:
        self._end(KeyboardInterrupt() if unit.cancelled() else _unless_exit(unit.exception()))

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            self.error, self._is_over = error, True
            is_begun_here = self._awaits_cell or self.cell is self._program
            if error is None and self.calls < _TRAINS and is_begun_here:
                self._forget()
                if not self._awaits_cell:
                    for callback in self.callbacks:
                        self._program.add(callback)
                    self._program.remove(self._end_with_program)
                return
        self._report(error)

    def _end_with_cell(self, error: BaseException | None) -> None:
        with self._lock:
            self._awaits_cell = False
            if error is None and not self._is_over:
                return
        self._report(error or self.error)

    def _end_with_program(self, error: BaseException | None) -> None:
        with self._lock:
            unit = self._unit
            has_ended = self._is_over or (isinstance(unit, threading.Thread) and not _runs(unit))
        if has_ended:
            self._report(self.error or (error if self._awaits_cell else None))
        else:
            self._report(error or KeyboardInterrupt())

    def _report(self, error: BaseException | None) -> None:
        with self._lock:  # a program that ends waits here
            self._forget()
            call_all(self.callbacks, error)
            self._program.remove(self._end_with_program)

    def _forget(self) -> None:
        if _watched.get(self._unit) is self:
            del _watched[self._unit]
        self._unit = None
        with _hook_lock:
            if not any(isinstance(unit, threading.Thread) for unit in list(_watched)):
                _remove_thread_hook()


def _runs(thread: threading.Thread) -> bool:
    # is_alive() is true for a moment after the end while another thread joins.
    return thread.is_alive() and thread.ident in sys._current_frames()


def _unless_exit(error: BaseException | None) -> BaseException | None:
    """Return ``error``, or None if it is the SystemExit of ``sys.exit()``."""
    return None if isinstance(error, SystemExit) and not error.code else error


def _install_thread_hook() -> None:
    """Install a hook that stores exceptions of threads: only ``excepthook`` receives them."""
    previous = threading.excepthook
    if hasattr(previous, "_axon_previous"):
        return

    def note(args: Any) -> None:
        watched = _watched.get(args.thread)
        if watched is not None:
            watched.error = _unless_exit(args.exc_value)
        previous(args)

    note._axon_previous = previous  # type: ignore[attr-defined]
    threading.excepthook = note


def _remove_thread_hook() -> None:
    """Remove our hook, unless another one was installed over it."""
    threading.excepthook = getattr(threading.excepthook, "_axon_previous", threading.excepthook)
