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

from ...userfiles import read_regular
from .shell import current_shell

if TYPE_CHECKING:
    from ...provenance import ExecutedCell

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
    from ...provenance import ExecutedCell
    from ...records import CellStatus

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
    return cell_digest(cell.source)


def cell_digest(source: str) -> str:
    """Return what names a cell that has no id."""
    return f"sha256:{hashlib.sha256(source.strip().encode('utf-8', 'replace')).hexdigest()[:32]}"


def mentions_checkpoint() -> bool:
    """Return whether the code that is executed calls a function named ``checkpoint``, as far as its text tells."""
    cells = _cells()
    return bool(cells) and re.search(r"\bcheckpoint\s*\(", cells[-1].source) is not None


def current_unit(frame: Any) -> Any:
    """Return the future, asyncio task or thread that trains on its own; None where a cell or a script does."""
    from . import units as background

    recorder = _recorder_of_shell()
    return background.current_unit(
        frame, recorder if recorder is not None and recorder.is_here else None
    )


def on_training_end(callback: Ended) -> None:
    """Have ``callback`` called once, when what trains here ends, which is looked for from the inside out.

    - In a process of a pool: the function of the task.
    - A future of an executor, an asyncio task, and a thread that outlives its cell (:mod:`.background`): when it ends, or
      when the cell fails in which it was begun; in a script, a thread other than the main one as well.
    - A cell, or what a cell has the shell run: when it ends with an error, or when the shell shows an error that ended what
      had called this and goes on (``%run``); else when the cell around it ends.
    - In a kernel, outside of cells: the function that the kernel called, as for a widget.
    - Elsewhere the program.

    It is told what ended it: an exception, KeyboardInterrupt where it was interrupted, None where it came to its end. A
    script that left by ``sys.exit`` with a status other than 0 was ended by that SystemExit. What goes on when the
    interpreter of a kernel ends, and what SIGTERM ends, was interrupted.

    To ask again while a training goes on has it watched where it is now.
    """
    from . import units as background
    from .frames import outermost_call, pool_call

    frame = sys._getframe(1)
    registration = _register(callback, frame)
    tell = registration.tell
    recorder = _recorder_of_shell()
    if recorder is not None and not recorder.is_here:
        recorder = None
    if recorder is not None:
        recorder.watch_errors()
    if (call := pool_call(frame)) is not None:
        registration.end_with(call)
        _script().cell.add(tell)
    elif (unit := background.current_unit(frame, recorder)) is not None:
        begun_in = _script().cell if recorder is None else recorder.current()
        background.on_unit_end(unit, tell, begun_in, _script().cell)
    elif recorder is None:
        _script().cell.add(tell)
    elif (cell := recorder.innermost() or recorder.current()) is not None:
        cell.add(tell)
    else:
        if (loop := background.running_loop()) is not None and (
            call := outermost_call(frame)
        ) is not None:
            registration.end_with(call)
            loop.call_soon(
                lambda: registration.settle(sys._getframe())
            )  # an exception may hold the frame
        _script().cell.add(tell)


def current_task() -> Any:
    """Return what identifies the task that a process of a pool works on; None elsewhere."""
    from .frames import call_of, pool_call

    if threading.current_thread() is not threading.main_thread():  # as in a pool of threads
        return None
    call = pool_call(sys._getframe(1))
    return None if call is None else call_of(call)


def check_ended(callback: Ended) -> None:
    """Have ``callback`` called now if the task that trained is over, which a process of a pool is not told."""
    if (registration := _registered.get(callback)) is not None:
        registration.settle(sys._getframe(1))


# Who is to be told


class _Registration:
    """Somebody who is told once what ended a training."""

    def __init__(self, callback: Ended) -> None:
        self.calls: frozenset[Any] = frozenset()
        self._callback = callback
        self._pid = os.getpid()
        self._mark: Any = None
        self._code: Any = (
            None  # of the function that ends it, by which it is found if it has no mark
        )
        self._is_told = False
        self._telling = (
            threading.RLock()
        )  # another thread waits until all is told: it may end the process

    def tell(self, error: BaseException | None) -> None:
        """Tell what ended the training, unless that was told, or happened in the parent of this process."""
        if self._pid != os.getpid():
            return
        with self._telling:
            if self._is_told:
                return
            self._is_told = True
            try:
                self._callback(error)
            finally:
                if _registered.get(self._callback) is self:
                    del _registered[self._callback]
                if not _registered:
                    _watch_nothing()

    def end_with(self, call: Any) -> None:
        """Tell it when the function of a frame ends."""
        from .frames import mark_of

        mark = mark_of(call)
        self._code = call.f_code
        if mark is not None:
            self._mark = weakref.ref(mark)
            if self._call_ended not in mark.listeners:
                mark.listeners.append(self._call_ended)

    def _call_ended(self, error: BaseException | None) -> None:
        from .frames import is_ours

        if self._pid != os.getpid():
            return
        self._code = None
        if is_ours(
            sys._getframe(2).f_back
        ):  # the garbage collector's doing: this thread may hold anything
            threading.Thread(
                target=self.tell, args=(error,), name="axon-ended", daemon=True
            ).start()
        else:
            self.tell(error)

    def settle(self, frame: Any) -> bool:
        """Tell it how the function ended that ends it, if it has; whether it has. The main thread is in ``frame``."""
        from .frames import error_of, stack

        if self._code is None:
            return False
        mark = None if self._mark is None else self._mark()
        for found in (
            one for begun in (frame, *sys._current_frames().values()) for one in stack(begun)
        ):
            if found.f_code is self._code if mark is None else found.f_trace is mark:
                return False
        self.tell(None if mark is None else error_of(mark))
        return True


_registered: dict[Ended, _Registration] = globals().get("_registered", {})


def _register(callback: Ended, frame: Any) -> _Registration:
    from .frames import calls_in

    for inherited in [key for key, found in _registered.items() if found._pid != os.getpid()]:
        del _registered[inherited]
    registration = _registered.get(callback)
    if registration is None:
        registration = _registered[callback] = _Registration(callback)
    registration.calls = calls_in(frame)
    _watch_sigterm()
    return registration


def _watch_sigterm() -> None:
    if _registered:
        from ..signals import on_sigterm

        on_sigterm(_terminate)


def _watch_nothing() -> None:
    from ..signals import forget_sigterm
    from .frames import forget_lost_marks

    forget_sigterm()
    forget_lost_marks()
    if (recorder := getattr(current_shell(), _ATTRIBUTE, None)) is not None:
        recorder.ignore_errors()


def _terminate(frame: Any) -> None:
    told: set[_Registration] = set()
    while left := [
        registration for registration in _registered.values() if registration not in told
    ]:
        for registration in left:  # while they are told, another run may begin
            told.add(registration)
            with suppress(Exception):
                if not registration.settle(frame):
                    registration.tell(KeyboardInterrupt())


class Cell:
    """A cell on its way."""

    def __init__(
        self, serial: int, source: str, *, cell_id: str | None = None, status: str | None = None
    ):
        self.serial = serial
        self.source = source
        self.cell_id = cell_id
        self.status = status
        self.count: int | None = None
        self.at: datetime | None = None
        self.is_hidden = False  # run by a cell, or by a front end on its own
        self.callbacks: list[Ended] = []
        self.older = weakref.WeakSet(threading.enumerate())  # threads that it did not begin
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this process runs it, and is no child that was forked."""
        return self._pid == os.getpid()

    def add(self, callback: Ended) -> None:
        """Have ``callback`` told what ended it."""
        if callback not in self.callbacks:
            self.callbacks.append(callback)

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
        self._running: dict[int, list[Cell]] = {}
        self._shown: Any = (
            None  # what is in place of the shell's own `showtraceback`, and what was there
        )
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
        running = {
            thread: depth
            for thread, frame in sys._current_frames().items()
            if (depth := self._depth(frame, is_told=True))
        }
        if sources and running:
            cell.status = "running"
            cell.cell_id = self._asked_for()
            cell.at = datetime.now(timezone.utc)
            cell.older = weakref.WeakSet(
                thread for thread in threading.enumerate() if thread.ident in running
            )
            thread, depth = next(iter(running.items()))
            self._running[thread] = [cell, *(self._hidden() for _ in range(depth - 1))]

    def _last_count(self) -> int:
        """The count of the newest input: IPython names it ``_i7``, and differs between versions in all else."""
        names = (
            _HISTORY_NAME.fullmatch(name)
            for name in list(self._shell.user_ns)
            if isinstance(name, str)
        )
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

    @staticmethod
    def _hidden() -> Cell:
        cell = Cell(0, "", status="running")
        cell.is_hidden = True
        return cell

    def begin(self, info: Any) -> None:
        """IPython is about to run something."""
        running = self._running.setdefault(threading.get_ident(), [])
        if self._depth(sys._getframe()) > 1:  # a cell has it run
            running.append(self._hidden())
            return
        for cell in running:  # ended without IPython saying so
            cell.end(KeyboardInterrupt())
        running.clear()
        if not getattr(info, "store_history", True):  # not a person's
            running.append(self._hidden())
            return
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
        cell, error = running[-1], _error_of(result)
        if not cell.is_hidden:
            cell.count = getattr(result, "execution_count", None) or cell.count
            self._count(cell)
        running.pop()
        _watch_sigterm()  # which threads cannot
        if running and error is None:
            for callback in cell.callbacks:
                running[-1].add(callback)
            return
        if not running:
            del self._running[threading.get_ident()]
        cell.end(error)

    def innermost(self) -> Cell | None:
        """What this thread runs, be it a cell or something that a cell has the shell run."""
        running = self._running.get(threading.get_ident())
        return running[-1] if running else None

    # Errors that the shell shows, and that end no cell

    def watch_errors(self) -> None:
        """Look at the errors that the shell shows, until :meth:`ignore_errors`."""
        if self._shown is not None:
            return
        shell, before = self._shell, vars(self._shell).get("showtraceback")
        show = shell.showtraceback

        def showtraceback(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> Any:
            raised = exc_tuple or sys.exc_info()
            try:
                return show(exc_tuple, *args, **kwargs)
            finally:
                with suppress(Exception):
                    self._was_shown(raised[1], raised[2])

        shell.showtraceback = showtraceback
        self._shown = showtraceback, before

    def ignore_errors(self) -> None:
        """Have the shell show errors as it did before."""
        if self._shown is None or vars(self._shell).get("showtraceback") is not self._shown[0]:
            return  # somebody has put something else over it
        if self._shown[1] is None:
            del self._shell.showtraceback
        else:
            self._shell.showtraceback = self._shown[1]
        self._shown = None

    def _was_shown(self, error: BaseException | None, trace: Any) -> None:
        if error is None or not self.is_here:
            return
        from .frames import calls_ended

        ended = calls_ended(trace)
        for registration in list(_registered.values()):
            if ended & registration.calls:
                with suppress(Exception):
                    registration.tell(_as_interrupt(error))

    def current(self) -> Cell | None:
        """The cell that this thread runs, else the one that it was begun in or works for."""
        begun = [
            cell for stack in list(self._running.values()) for cell in stack if not cell.is_hidden
        ]
        for cell in begun:
            self._count(cell)
        from .units import begun_in, current_unit

        if (unit := current_unit(sys._getframe(), self)) is not None and (
            known := begun_in(unit)
        ) is not None:
            return known[0]
        if (own := self._own()) is not None:
            return own
        if not self.is_background():
            return max(begun, key=lambda cell: cell.serial, default=None)
        thread = threading.current_thread()
        return next((cell for cell in reversed(self.cells) if thread not in cell.older), None)

    def _own(self) -> Cell | None:
        running = self._running.get(threading.get_ident(), [])
        return next((cell for cell in running if not cell.is_hidden), None)

    def is_background(self) -> bool:
        """Whether this thread runs no cell, and does not work for one either, but on its own."""
        from .units import works_for_others

        return self.innermost() is None and not works_for_others(threading.current_thread())

    def is_running_in(self, frame: Any) -> bool:
        """Whether a frame was called by a cell, or by something else that the shell runs."""
        return self._depth(frame) > 0

    def _depth(self, frame: Any, *, is_told: bool = False) -> int:
        """How many cells are being run in the thread of a frame, one within the other; those that events tell of."""
        code = type(self._shell).run_cell_async.__code__
        depth = 0
        while frame is not None:
            if frame.f_code is code and not (is_told and frame.f_locals.get("silent")):
                depth += 1
            frame = frame.f_back
        return depth

    def _count(self, cell: Cell) -> None:
        if cell.count is None:
            cell.count = self._last_count() or None


def _error_of(result: Any) -> BaseException | None:
    if result is None:  # IPython itself was interrupted
        return KeyboardInterrupt()
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    return None if error is None else _as_interrupt(error)


def _as_interrupt(error: BaseException) -> BaseException:
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
        from .frames import main_frame

        # That of a cell would keep its result.
        self._frame = main_frame() if current_shell() is None else None
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
        if threading.current_thread() is threading.main_thread() and not (
            recorder and recorder.is_here
        ):
            self._error = SystemExit(code) if code else None
        self._exit(code)

    def _end(self) -> None:
        for registration in list(_registered.values()):
            with suppress(Exception):
                registration.settle(sys._getframe())
        from .frames import has_returned

        if (
            isinstance(self._error, SystemExit)
            and self._frame is not None
            and has_returned(self._frame)
        ):
            self._error = None  # it was caught
        error = self._error or sys.exc_info()[1]
        if isinstance(error, SystemExit) and not error.code:
            error = None
        from ..signals import has_exited

        self.cell.end(KeyboardInterrupt() if error is None and has_exited() else error)


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
