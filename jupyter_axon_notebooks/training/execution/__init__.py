"""The cells or the script that this process executes, and the end of a training in them.

A training is the work of a cell, a script, a thread, a future, an asyncio task, or a function that
the kernel or a pool calls. :func:`on_training_end` finds out which, and reports its end.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from . import units
from .cell import EndCallback
from .frames import (
    Call,
    Mark,
    call_of,
    calls_ended,
    calls_in,
    error_of,
    is_ours,
    mark_of,
    outermost_call,
    pool_call,
    stack,
)
from .script import Script
from .shell import CellRecorder, current_recorder, current_shell

if TYPE_CHECKING:
    from ...provenance import ExecutedCell


class Execution(NamedTuple):
    """Identifies one execution of one cell."""

    serial: int
    execution_count: int | None


def executed_cells() -> list[ExecutedCell]:
    """Return the cells that this kernel has executed, the running one last; or the script."""
    from ...provenance import ExecutedCell
    from ...records import CellStatus

    return [
        ExecutedCell(
            source=cell.source,
            execution_count=cell.execution_count,
            cell_id=cell.cell_id,
            status=None if cell.status is None else CellStatus(cell.status),
            executed_at=cell.executed_at,
        )
        for cell in _cells()
    ]


def namespace() -> dict[str, Any]:
    """Return the global names of the cells, or of the script."""
    shell = current_shell()
    found: Any = vars(sys.modules["__main__"]) if shell is None else shell.user_ns
    return dict(found)


def site_key() -> tuple[Any, ...]:
    """Return what is equal for calls of the same thread and task in the same cell. It is cheap."""
    recorder = current_recorder()
    cell = None if recorder is None else recorder.innermost()
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return os.getpid(), threading.get_ident(), cell, task


def current_execution() -> Execution | None:
    """Return the execution of the running cell; None in a script, and outside of cells.

    A thread belongs to the cell in which it was begun, as long as it lives. A thread of a pool
    belongs to the newest running cell.
    """
    recorder = current_recorder()
    cell = None if recorder is None else recorder.current()
    return None if cell is None else Execution(cell.serial, cell.execution_count)


def current_cell() -> str | None:
    """Return the id of the running cell, or the digest of its source if it has none."""
    recorder = current_recorder()
    cell = None if recorder is None else recorder.current()
    if cell is None:
        return None
    return cell_digest(cell.source) if cell.cell_id is None else cell.cell_id


def cell_digest(source: str) -> str:
    """Return what identifies a cell that has no id."""
    return f"sha256:{hashlib.sha256(source.strip().encode('utf-8', 'replace')).hexdigest()[:32]}"


def mentions_checkpoint() -> bool:
    """Return whether the text of the running code calls a function named ``checkpoint``."""
    cells = _cells()
    return bool(cells) and re.search(r"\bcheckpoint\s*\(", cells[-1].source) is not None


def current_unit(frame: Any) -> Any:
    """Return the future, asyncio task or thread that trains on its own, if one does."""
    return _current_unit(frame, _recorder_here())


def current_task() -> Any:
    """Return what identifies the task that a process of a pool works on; None elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        return None
    call = pool_call(sys._getframe(1))
    return None if call is None else call_of(call)


def on_training_end(callback: EndCallback) -> None:
    """Call ``callback`` once, when the code that trains here ends.

    The first of these that applies:

    - in a process of a pool: the function of the task;
    - in a future, an asyncio task, or a thread of its own: that, or the cell in which it was begun
      if that fails (:mod:`.units`);
    - in a cell, or in something that a cell has the shell run: when that fails, when the shell
      shows an error that ended a function which led here (as of ``%run``), or when the cell ends;
    - in a kernel, outside of cells: the function that the kernel called, as for a widget;
    - else the program.

    The callback gets the exception that ended the code, KeyboardInterrupt if it was interrupted,
    and None if it came to its end. A script that left by ``sys.exit`` with a status other than 0
    ended by SystemExit. Code that runs when a kernel ends, or SIGTERM arrives, was interrupted.

    Call it again while a training goes on, as it may go on in other code than before.
    """
    frame = sys._getframe(1)
    registration = _register(callback, frame)
    report = registration.report
    recorder, script = _recorder_here(), _script()
    if recorder is None:
        script.watch_errors()
    else:
        recorder.watch(_end_by_shown_error, after_cell=_watch_sigterm)
    if (call := pool_call(frame)) is not None:
        registration.end_with(call)
        script.cell.add(report)
    elif (unit := _current_unit(frame, recorder)) is not None:
        cell = script.cell if recorder is None else recorder.current()
        units.watch_unit(unit, report, cell, script.cell)
    elif recorder is None:
        script.cell.add(report)
    elif (running := recorder.innermost() or recorder.current()) is not None:
        running.add(report)
    else:
        loop, call = units.running_loop(), outermost_call(frame)
        if loop is not None and call is not None:
            registration.end_with(call)
            # An exception may keep the frame, and with it the mark, after the call.
            loop.call_soon(lambda: registration.end_if_over(sys._getframe()))
        script.cell.add(report)


def check_ended(callback: EndCallback) -> None:
    """Call ``callback`` if its training was an earlier task of this process of a pool."""
    if (registration := _registered.get(callback)) is not None:
        registration.end_if_over(sys._getframe(1))


def _recorder_here() -> CellRecorder | None:
    recorder = current_recorder()
    return recorder if recorder is not None and recorder.is_here else None


def _current_unit(frame: Any, recorder: CellRecorder | None) -> Any:
    in_cell = recorder is not None and recorder.is_running_in(frame)
    return units.current_unit(frame, in_cell=in_cell)


def _cells() -> list[Any]:
    recorder = current_recorder()
    if recorder is None:
        script = _script()
        return [] if script.source is None else [script.cell]
    recorder.current()  # fills in its execution count
    return list(recorder.cells)


_program: Script | None = None


def _script() -> Script:
    global _program
    if _program is None or not _program.cell.is_here:
        _program = Script(_end_if_over)
    return _program


class _Registration:
    """A callback that is called once with what ended a training."""

    def __init__(self, callback: EndCallback) -> None:
        self.calls: frozenset[Call] = frozenset()
        self.pid = os.getpid()
        self._callback = callback
        self._mark: weakref.ref[Mark] | None = None
        self._code: Any = None  # of the function that ends the training
        self._is_reported = False
        # Another thread waits for the callbacks, as it may end the process.
        self._lock = threading.RLock()

    def report(self, error: BaseException | None) -> None:
        """Report what ended the training, unless that was done before or in another process."""
        if self.pid != os.getpid():
            return
        with self._lock:
            if self._is_reported:
                return
            self._is_reported = True
            try:
                self._callback(error)
            finally:
                if _registered.get(self._callback) is self:
                    del _registered[self._callback]
                if not _registered:
                    _remove_hooks()

    def end_with(self, call: Any) -> None:
        """Report the end of the function of a frame."""
        self._code = call.f_code
        mark = mark_of(call)
        if mark is not None:
            self._mark = weakref.ref(mark)
            if self._end_call not in mark.listeners:
                mark.listeners.append(self._end_call)

    def _end_call(self, error: BaseException | None) -> None:
        if self.pid != os.getpid():
            return
        self._code = None
        if is_ours(sys._getframe(2).f_back):  # the garbage collector runs, maybe under our locks
            threading.Thread(
                target=self.report, args=(error,), name="axon-ended", daemon=True
            ).start()
        else:
            self.report(error)

    def end_if_over(self, frame: Any) -> bool:
        """Report the end if the function has ended; the main thread is at ``frame``."""
        if self._code is None:
            return False
        mark = None if self._mark is None else self._mark()
        for begin in (frame, *sys._current_frames().values()):
            for found in stack(begin):
                if found.f_code is self._code if mark is None else found.f_trace is mark:
                    return False
        self.report(None if mark is None else error_of(mark))
        return True


_registered: dict[EndCallback, _Registration] = {}


def _register(callback: EndCallback, frame: Any) -> _Registration:
    for key, inherited in list(_registered.items()):
        if inherited.pid != os.getpid():
            del _registered[key]
    registration = _registered.get(callback)
    if registration is None:
        registration = _registered[callback] = _Registration(callback)
    registration.calls = calls_in(frame)
    _watch_sigterm()
    return registration


def _watch_sigterm() -> None:
    """Handle SIGTERM; only the main thread can, which may be here after a cell alone."""
    from ..signals import on_sigterm  # which imports this package

    if _registered:
        on_sigterm(_terminate)


def _remove_hooks() -> None:
    from ..signals import forget_sigterm

    forget_sigterm()
    if _program is not None:
        _program.ignore_errors()
    if (recorder := current_recorder()) is not None:
        recorder.stop_watching()


def _end_by_shown_error(error: BaseException, trace: Any) -> None:
    ended = calls_ended(trace)
    for registration in list(_registered.values()):
        if ended & registration.calls:
            with suppress(Exception):
                registration.report(error)


def _end_if_over() -> None:
    for registration in list(_registered.values()):
        with suppress(Exception):
            registration.end_if_over(sys._getframe())


def _terminate(frame: Any) -> None:
    done: set[_Registration] = set()
    while left := [found for found in _registered.values() if found not in done]:
        for registration in left:  # another training may begin while callbacks run
            done.add(registration)
            with suppress(Exception):
                if not registration.end_if_over(frame):
                    registration.report(KeyboardInterrupt())
