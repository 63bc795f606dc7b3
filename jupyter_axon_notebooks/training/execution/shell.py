"""IPython's shell and the cells that it executes.

Only what the user executes is a cell: not what front ends run silently or without history, nor what
a cell has the shell run.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final

from .cell import Cell
from .units import current_unit, find_begin, is_shared_thread

#: The attribute of a shell that has its recorder, so that it survives a new import of this package.
_ATTRIBUTE: Final = "_axon_recorder"
_HISTORY_NAME: Final = re.compile(r"_i([0-9]{1,9})", re.ASCII)

#: Called with an exception that the shell shows, and its traceback.
OnError = Callable[[BaseException, Any], None]


def current_shell() -> Any:
    """Return IPython's shell; None if this process has none, or another object in its place.

    Consoles of editors, other kernels and tests have a ``get_ipython`` that returns objects of
    their own. A process with one of them is treated as a plain script. IPython is not imported.
    """
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    kind = getattr(sys.modules.get("IPython.core.interactiveshell"), "InteractiveShell", None)
    if get_ipython is None or not isinstance(kind, type):
        return None
    try:
        shell = get_ipython()
        return shell if isinstance(shell, kind) else None
    except Exception:  # noqa: BLE001 - whatever raises here is not a shell
        return None


def current_recorder() -> CellRecorder | None:
    """Return the recorder of this process's shell, which gets one if it has none yet.

    None in a process without a shell, or with one that lacks what the recorder needs.
    """
    shell = current_shell()
    if shell is None:
        return None
    with suppress(Exception):
        if _ATTRIBUTE not in vars(shell):
            setattr(shell, _ATTRIBUTE, None)
            setattr(shell, _ATTRIBUTE, CellRecorder(shell))
    recorder: CellRecorder | None = getattr(shell, _ATTRIBUTE, None)
    return recorder


class CellRecorder:
    """The cells that one shell has executed, in order."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._serial = 0
        self._pid = os.getpid()
        self.cells: list[Cell] = []
        # By thread, as kernels may run cells in several of them; the outermost cell is first.
        self._running: dict[int, list[Cell]] = {}
        self._error_hook: Any = None  # our `showtraceback`, and what it replaced in the instance
        self._after_cell: Callable[[], None] | None = None
        self._add_history()
        # IPython's events are the only way to learn which code belongs to which cell.
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._finish)

    @property
    def is_here(self) -> bool:
        """True if the shell runs in this process, and not in the one that this was forked from."""
        return self._pid == os.getpid()

    def _add_history(self) -> None:
        """Add the cells that were executed before, and the one that is running."""
        history = getattr(self._shell, "history_manager", None)
        sources: list[str] = list(getattr(history, "input_hist_raw", None) or [""])[1:]
        failed = getattr(history, "exceptions", None)
        last = self._last_count()
        for count, source in enumerate(sources, start=last - len(sources) + 1):
            cell = self._add(source)
            cell.execution_count = count
            if failed is not None:
                cell.status = "error" if count in failed else "completed"
        running = {
            thread: depth
            for thread, frame in sys._current_frames().items()
            if (depth := self._depth(frame, with_silent=False))
        }
        if sources and running:
            cell.status = "running"
            cell.cell_id = self._requested_cell_id()
            cell.executed_at = datetime.now(timezone.utc)
            cell.older_threads = weakref.WeakSet(
                thread for thread in threading.enumerate() if thread.ident in running
            )
            thread, depth = next(iter(running.items()))
            self._running[thread] = [cell, *(_hidden_cell() for _ in range(depth - 1))]

    def _last_count(self) -> int:
        """Return the execution count of the newest cell, by the variables ``_i1``, ``_i2``, …."""
        names = (
            _HISTORY_NAME.fullmatch(name)
            for name in list(self._shell.user_ns)
            if isinstance(name, str)
        )
        return max((int(name[1]) for name in names if name), default=0)

    def _requested_cell_id(self) -> str | None:
        try:
            cell_id = self._shell.get_parent()["metadata"]["cellId"]
        except Exception:  # noqa: BLE001 - not a kernel, or a front end without cell ids
            return None
        return cell_id if isinstance(cell_id, str) else None

    def _add(self, source: str, cell_id: str | None = None, status: str | None = None) -> Cell:
        self._serial += 1
        cell = Cell(self._serial, source, cell_id=cell_id, status=status)
        self.cells.append(cell)
        return cell

    def _begin(self, info: Any) -> None:
        running = self._running.setdefault(threading.get_ident(), [])
        if self._depth(sys._getframe()) > 1:
            running.append(_hidden_cell())
            return
        for cell in running:  # IPython did not report their end
            cell.end(KeyboardInterrupt())
        running.clear()
        if not getattr(info, "store_history", True):
            running.append(_hidden_cell())
            return
        cell_id = getattr(info, "cell_id", None)
        cell = self._add(info.raw_cell, cell_id if isinstance(cell_id, str) else None, "running")
        cell.executed_at = datetime.now(timezone.utc)
        running.append(cell)

    def _finish(self, result: Any) -> None:
        info = getattr(result, "info", None)
        if info is not None and not (info.raw_cell or "").strip():
            return  # IPython reported no begin
        running = self._running.get(threading.get_ident())
        if not running:
            return
        cell, error = running.pop(), _error_of(result)
        if not cell.is_hidden:
            cell.execution_count = getattr(result, "execution_count", None) or cell.execution_count
            self._count(cell)
        if self._after_cell is not None:
            self._after_cell()
        if running and error is None:
            for callback in cell.callbacks:
                running[-1].add(callback)
            return
        if not running:
            del self._running[threading.get_ident()]
        cell.end(error)

    def innermost(self) -> Cell | None:
        """Return what this thread runs: a cell, or something that a cell has the shell run."""
        running = self._running.get(threading.get_ident())
        return running[-1] if running else None

    def current(self) -> Cell | None:
        """Return the cell that this thread runs, else the one that it was begun in or works for."""
        running = [cell for cells in list(self._running.values()) for cell in cells]
        begun = [cell for cell in running if not cell.is_hidden]
        for cell in begun:
            self._count(cell)
        in_cell = self.is_running_in(sys._getframe())
        unit = current_unit(sys._getframe(), in_cell=in_cell)
        if unit is not None and (begin := find_begin(unit)) is not None:
            return begin[0]
        for cell in self._running.get(threading.get_ident(), []):
            if not cell.is_hidden:
                return cell
        thread = threading.current_thread()
        if in_cell or is_shared_thread(thread):
            return max(begun, key=lambda cell: cell.serial, default=None)
        return next(
            (cell for cell in reversed(self.cells) if thread not in cell.older_threads), None
        )

    def is_running_in(self, frame: Any) -> bool:
        """Return whether a cell, or something else that the shell runs, called ``frame``."""
        return self._depth(frame) > 0

    def _depth(self, frame: Any, *, with_silent: bool = True) -> int:
        """Return how many cells the thread of a frame runs, one within the other."""
        code = type(self._shell).run_cell_async.__code__
        depth = 0
        while frame is not None:
            if frame.f_code is code and (with_silent or not frame.f_locals.get("silent")):
                depth += 1
            frame = frame.f_back
        return depth

    def _count(self, cell: Cell) -> None:
        if cell.execution_count is None:
            cell.execution_count = self._last_count() or None

    def watch(self, on_error: OnError, after_cell: Callable[[], None]) -> None:
        """Report errors that the shell shows, and the ends of cells, until :meth:`stop_watching`.

        ``%run``, ``%time`` and widgets catch errors and have the shell show them, without an event.
        """
        self._after_cell = after_cell
        if self._error_hook is not None:
            return
        shell, previous = self._shell, vars(self._shell).get("showtraceback")
        show = shell.showtraceback

        def showtraceback(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> Any:
            _, error, trace = exc_tuple or sys.exc_info()
            try:
                return show(exc_tuple, *args, **kwargs)
            finally:
                if error is not None and self.is_here:
                    with suppress(Exception):
                        on_error(_as_interrupt(error), trace)

        shell.showtraceback = showtraceback
        self._error_hook = showtraceback, previous

    def stop_watching(self) -> None:
        """Undo :meth:`watch`, unless another hook was installed over it."""
        self._after_cell = None
        shown = vars(self._shell).get("showtraceback")
        if self._error_hook is None or shown is not self._error_hook[0]:
            return
        if self._error_hook[1] is None:
            del self._shell.showtraceback
        else:
            self._shell.showtraceback = self._error_hook[1]
        self._error_hook = None


def _hidden_cell() -> Cell:
    return Cell(0, "", status="running", is_hidden=True)


def _error_of(result: Any) -> BaseException | None:
    if result is None:  # IPython itself was interrupted
        return KeyboardInterrupt()
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    return None if error is None else _as_interrupt(error)


def _as_interrupt(error: BaseException) -> BaseException:
    # The kernel interrupts a cell with `await` by cancelling its task. Importing asyncio is slow.
    asyncio = sys.modules.get("asyncio")
    is_cancelled = asyncio is not None and isinstance(error, asyncio.CancelledError)
    return KeyboardInterrupt() if is_cancelled else error
