"""The execution of a cell or script, and who is to be called when it ends.

The program of a process takes the place of a cell where IPython runs none.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NoReturn

from ...userfiles import read_regular

#: The largest script whose source is recorded, in bytes.
MAX_SCRIPT: Final = 16 << 20

#: Called with what ended the code: an exception, or None if it came to its end.
EndCallback = Callable[[BaseException | None], None]


class Cell:
    """One execution of a cell, or of a script.

    Attributes
    ----------
    serial : int
        Numbers the executions of a kernel.
    status : str or None
        ``running``, ``completed`` or ``error``; None if it is unknown.
    is_hidden : bool
        Whether a cell or the front end has the shell run it, rather than the user.
    older_threads : WeakSet
        The threads that were running before it began.
    """

    def __init__(
        self,
        serial: int,
        source: str,
        *,
        cell_id: str | None = None,
        status: str | None = None,
        is_hidden: bool = False,
    ) -> None:
        self.serial = serial
        self.source = source
        self.cell_id = cell_id
        self.status = status
        self.is_hidden = is_hidden
        self.execution_count: int | None = None
        self.executed_at: datetime | None = None
        self.callbacks: list[EndCallback] = []
        self.older_threads = weakref.WeakSet(threading.enumerate())
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """True if it runs in this process, and not in the one that this was forked from."""
        return self._pid == os.getpid()

    def add(self, callback: EndCallback) -> None:
        """Call ``callback`` when the execution ends."""
        if callback not in self.callbacks:
            self.callbacks.append(callback)

    def remove(self, callback: EndCallback) -> None:
        """Do not call ``callback``."""
        if callback in self.callbacks:
            self.callbacks.remove(callback)

    def end(self, error: BaseException | None) -> None:
        """Note the end of the execution, and call everyone who asked."""
        if not self.is_here:
            return
        self.status = "completed" if error is None else "error"
        callbacks, self.callbacks = self.callbacks, []
        call_all(callbacks, error)


def call_all(callbacks: list[EndCallback], error: BaseException | None) -> None:
    """Call and remove each callback; print the errors of callbacks."""
    while callbacks:
        try:
            callbacks.pop(0)(error)
        except Exception:  # noqa: BLE001 - the others must be called as well
            traceback.print_exc()


class Script:
    """The program of this process, whose :class:`Cell` ends with the interpreter.

    ``before_end`` is called then, before the callbacks of the cell.
    """

    def __init__(self, before_end: Callable[[], None]) -> None:
        self.source = _read_source()
        self.cell = Cell(0, self.source or "", status="running")
        self._before_end = before_end
        self._error: BaseException | None = None
        self._hooks: Any = None  # ours and those before, of `sys.excepthook` and `sys.exit`
        atexit.register(self._end)  # the end of the program is the end of its training
        processes: Any = sys.modules.get("multiprocessing.process")
        if processes is not None and processes.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self._end, exitpriority=100)  # children of multiprocessing skip atexit

    def watch_errors(self) -> None:
        """Note what ends the program, until :meth:`ignore_errors`.

        ``sys.excepthook`` is called with every exception that ends a program but SystemExit, whose
        status only ``sys.exit`` knows.
        """
        if self._hooks is not None:
            return
        show, leave = sys.excepthook, sys.exit

        def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
            self._error = error
            show(kind, error, trace)

        def exit(status: Any = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():
                self._error = SystemExit(status) if status else None
            leave(status)

        sys.excepthook, sys.exit = excepthook, exit
        self._hooks = (excepthook, exit), (show, leave)

    def ignore_errors(self) -> None:
        """Undo :meth:`watch_errors`, unless other hooks were installed over ours."""
        if self._hooks is None:
            return
        (excepthook, exit), (show, leave) = self._hooks
        if sys.excepthook is excepthook and sys.exit is exit:
            sys.excepthook, sys.exit = show, leave
            self._hooks = None

    def _end(self) -> None:
        self._before_end()
        error = self._error or sys.exc_info()[1]
        if isinstance(error, SystemExit) and not error.code:
            error = None
        from ..signals import has_exited  # which imports this package

        self.cell.end(KeyboardInterrupt() if error is None and has_exited() else error)


def _read_source() -> str | None:
    """Return the source of the script; None if there is none, as at a prompt."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        return None
    try:
        return read_regular(path, MAX_SCRIPT).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None
