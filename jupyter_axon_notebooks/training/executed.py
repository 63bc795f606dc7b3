"""What is executed in this process, cell by cell: source, count, cell id and how it ended.

:func:`watch` hangs a recorder on an IPython shell, which then sees every cell before and after it runs. The recorder
belongs to the shell, so it outlives a reload of this module and ``%reset``. In a plain script the script takes the place
of a cell: it is running as long as the interpreter is. So it is with a process that was forked, whatever forked it.

Only what a person executes is a cell: what front ends and widgets run in silence or without history is not, nor what a
cell itself has the shell run. Unsaved edits in an editor nobody sees; what was executed is seen whether saved or not.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..userfiles import read_regular
from .shell import current_shell

if TYPE_CHECKING:
    from ..provenance import ExecutedCell

#: Told what ended the cell: None where it came to its end.
Ended = Callable[[BaseException | None], None]

#: The largest script whose source is recorded, in bytes.
MAX_SCRIPT = 16 << 20
_ATTRIBUTE = "_axon_recorder"
_HISTORY_NAME = re.compile(r"_i([0-9]{1,9})", re.ASCII)


class Execution(NamedTuple):
    """One execution of one cell; equal as long as it is the same."""

    serial: int
    execution_count: int | None


def executed_cells() -> list[ExecutedCell]:
    """All cells executed in this kernel so far, in order, the running one last; in a script, the script."""
    from ..provenance import ExecutedCell
    from ..records import CellStatus

    return [
        ExecutedCell(
            source=cell.source,
            execution_count=cell.count,
            cell_id=cell.cell_id,
            status=None if cell.status is None else CellStatus(cell.status),
            executed_at=cell.at,
        )
        for cell in _cells()
    ]


def current_execution() -> Execution | None:
    """The execution that is going on; None in a plain script, and outside of cells.

    In a thread of its own it is the one that the thread was begun in, as long as the thread lives; in one of a pool, which
    works for whoever asks, the newest that is going on.
    """
    recorder = _recorder_of_shell()
    cell = None if recorder is None else recorder.current()
    return None if cell is None else Execution(cell.serial, cell.count)


def current_cell() -> str | None:
    """Return what names the cell that is going on: its id, or a digest of its source; None outside of cells."""
    recorder = _recorder_of_shell()
    cell = None if recorder is None else recorder.current()
    if cell is None:
        return None
    if cell.cell_id is not None:
        return str(cell.cell_id)
    return f"sha256:{hashlib.sha256(cell.source.strip().encode('utf-8', 'replace')).hexdigest()[:32]}"


def on_cell_end(callback: Ended) -> None:
    """Have ``callback`` called once, when the current cell ends, or outside of one when the interpreter does.

    For a thread that outlives its cell it is called when the thread ends (:mod:`.background`): no other cell ends it.

    It is told what ended the cell: an exception, KeyboardInterrupt where it was interrupted, None where it came to its
    end. A script that left by ``sys.exit`` with a status other than 0 was ended by that SystemExit.
    """
    from .background import on_thread_end

    recorder = _recorder_of_shell()
    if recorder is None or not recorder.is_here:
        _script().cell.callbacks.append(callback)
    elif recorder.is_background():
        on_thread_end(callback, recorder.current(), _script().cell)
    else:
        (recorder.current() or _script().cell).callbacks.append(callback)


class Cell:
    """A cell on its way."""

    def __init__(self, serial: int, source: str, *, cell_id: str | None = None, status: str | None = None):
        self.serial = serial
        self.source = source
        self.cell_id = cell_id
        self.status = status
        self.count: int | None = None
        self.at: datetime | None = None
        self.callbacks: list[Ended] = []
        self.older = weakref.WeakSet(threading.enumerate())  # threads that it did not begin
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this process runs it, and is no child that was forked."""
        return self._pid == os.getpid()

    def end(self, error: BaseException | None) -> None:
        """Tell everybody who asked; one that fails keeps nobody else from being told."""
        if not self.is_here:  # it goes on elsewhere
            return
        self.status = "completed" if error is None else "error"
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            try:
                callback(error)
            except Exception:  # noqa: BLE001 - the cell is done, whatever becomes of those who watched it
                traceback.print_exc()


# In IPython


def watch(shell: Any) -> None:
    """Record what ``shell``, an IPython, executes from now on, and what it has executed before; once per shell.

    A shell that turns out to lack what this takes is given up: nothing is known of its cells.
    """
    if _ATTRIBUTE in vars(shell):
        return
    recorder = None
    try:
        recorder = _Recorder(shell)
    finally:
        setattr(shell, _ATTRIBUTE, recorder)


def watch_shell() -> None:
    """Record what this process's shell executes, if it has one; raises nothing."""
    _recorder_of_shell()


class _Recorder:
    """The cells of one shell, in order."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._serial = 0
        self._pid = os.getpid()
        self.cells: list[Cell] = []
        # By thread, since kernels may run cells in several: what has begun there, outermost first.
        self._running: dict[int, list[Cell | None]] = {}
        self._take_up()
        register = shell.events.register
        register("pre_run_cell", self.begin)
        register("post_run_cell", self.finish)

    @property
    def is_here(self) -> bool:
        """Whether the shell runs cells in this process, which is no child that was forked."""
        return self._pid == os.getpid()

    def _take_up(self) -> None:
        """The cells that ran before anybody looked, and the one that is just running, which made somebody look."""
        history = getattr(self._shell, "history_manager", None)
        sources: list[str] = list(getattr(history, "input_hist_raw", None) or [""])[1:]
        failed = getattr(history, "exceptions", None)
        last = self._last_count()
        for count, source in enumerate(sources, start=last - len(sources) + 1):
            cell = self._add(source)
            cell.count = count
            if failed is not None:
                cell.status = "error" if count in failed else "completed"
        running = [thread for thread, frame in sys._current_frames().items() if self._depth(frame)]
        if sources and running:
            cell.status = "running"
            cell.cell_id = self._asked_for()
            cell.at = datetime.now(timezone.utc)
            cell.older = weakref.WeakSet(
                thread for thread in threading.enumerate() if thread.ident in running
            )
            self._running[running[0]] = [cell]

    def _last_count(self) -> int:
        """The count of the newest input: IPython names it ``_i7``, and differs between versions in all else."""
        names = (_HISTORY_NAME.fullmatch(name) for name in list(self._shell.user_ns) if isinstance(name, str))
        return max((int(name[1]) for name in names if name), default=0)

    def _asked_for(self) -> str | None:
        try:
            asked = self._shell.get_parent()["metadata"]["cellId"]
        except Exception:  # noqa: BLE001 - not in a kernel, or a front end that names no cells
            return None
        return asked if isinstance(asked, str) else None

    def _add(self, source: str, **fields: Any) -> Cell:
        self._serial += 1
        cell = Cell(self._serial, source, **fields)
        self.cells.append(cell)
        return cell

    def begin(self, info: Any) -> None:
        """IPython is about to run something."""
        running = self._running.setdefault(threading.get_ident(), [])
        if (
            not getattr(info, "store_history", True) or self._depth(sys._getframe()) > 1
        ):  # not a person's, or a cell has it run
            running.append(None)
            return
        running.clear()  # of what ended without IPython saying so
        cell_id = getattr(info, "cell_id", None)
        cell = self._add(
            info.raw_cell, cell_id=cell_id if isinstance(cell_id, str) else None, status="running"
        )
        cell.at = datetime.now(timezone.utc)
        running.append(cell)

    def finish(self, result: Any) -> None:
        """IPython has run something; what, it says only sometimes."""
        info = getattr(result, "info", None)
        if info is not None and not (info.raw_cell or "").strip():
            return  # nothing was begun
        running = self._running.get(threading.get_ident())
        if not running:
            return
        cell = running[-1]
        if cell is not None:
            cell.count = getattr(result, "execution_count", None) or cell.count
            self._count(cell)
        running.pop()
        if not running:
            del self._running[threading.get_ident()]
        if cell is None:
            return
        cell.end(_error_of(result))

    def current(self) -> Cell | None:
        """The cell that this thread runs, else the one that it was begun in or works for."""
        begun = [cell for stack in list(self._running.values()) for cell in stack if cell is not None]
        for cell in begun:
            self._count(cell)
        if (own := self._own()) is not None:
            return own
        if not self.is_background():
            return max(begun, key=lambda cell: cell.serial, default=None)
        thread = threading.current_thread()
        return next((cell for cell in reversed(self.cells) if thread not in cell.older), None)

    def _own(self) -> Cell | None:
        running = self._running.get(threading.get_ident(), [])
        return next((cell for cell in running if cell is not None), None)

    def is_background(self) -> bool:
        """Whether this thread runs no cell, and does not work for one either, but on its own."""
        from .background import works_for_others

        return self._own() is None and not works_for_others(threading.current_thread())

    def _depth(self, frame: Any) -> int:
        """How many cells are being run in the thread of a frame, one within the other."""
        code = type(self._shell).run_cell_async.__code__
        depth = 0
        while frame is not None:
            depth += frame.f_code is code
            frame = frame.f_back
        return depth

    def _count(self, cell: Cell) -> None:
        if cell.count is None:
            cell.count = self._last_count() or None


def _error_of(result: Any) -> BaseException | None:
    if result is None:  # IPython itself was interrupted
        return KeyboardInterrupt()
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    # The kernel interrupts a cell with `await` in it by cancelling it. (To import asyncio takes long.)
    asyncio = sys.modules.get("asyncio")
    cancelled = asyncio is not None and isinstance(error, asyncio.CancelledError)
    return KeyboardInterrupt() if cancelled else error


def _recorder_of_shell() -> Any:
    shell = current_shell()
    if shell is None:
        return None
    with suppress(Exception):  # a shell that is not quite IPython's
        watch(shell)
    return getattr(shell, _ATTRIBUTE, None)


def _cells() -> list[Cell]:
    recorder = _recorder_of_shell()
    if recorder is None:
        script = _script()
        return [] if script.source is None else [script.cell]
    recorder.current()
    return list(recorder.cells)


# In a script


class _Script:
    """The program of this process."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self.source = _program()
        self.cell = Cell(0, self.source or "", status="running")
        self._unhandled, sys.excepthook = sys.excepthook, self._note
        # The hook is not told of a SystemExit, and no one else is. One that is raised by hand goes unseen.
        self._exit, sys.exit = sys.exit, self._leave
        atexit.register(self._end)
        processes: Any = sys.modules.get("multiprocessing.process")
        if processes is not None and processes.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(
                None, self._end, exitpriority=100
            )  # its processes skip `atexit`, and handle what ends them

    def _note(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self._error = error
        self._unhandled(kind, error, trace)

    def _leave(self, code: Any = None, /) -> NoReturn:
        recorder = _recorder_of_shell()
        if threading.current_thread() is threading.main_thread() and not (recorder and recorder.is_here):
            self._error = SystemExit(code) if code else None
        self._exit(code)

    def _end(self) -> None:
        error = self._error or sys.exc_info()[1]
        self.cell.end(None if isinstance(error, SystemExit) and not error.code else error)


def _program() -> str | None:
    """The source of the script; None where there is none, as at a prompt."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        return None
    try:
        return read_regular(path, MAX_SCRIPT).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None


_the_script: _Script | None = globals().get("_the_script")


def _script() -> _Script:
    global _the_script
    if _the_script is None or not _the_script.cell.is_here:
        _the_script = _Script()
    return _the_script
