"""The program of a process, which takes the place of a cell where IPython runs none."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ...userfiles import read_regular
from .cell import Cell
from .frames import has_returned, main_frame

#: The largest script whose source is recorded, in bytes.
MAX_SCRIPT: Final = 16 << 20


class Script:
    """The program of this process, whose :class:`.Cell` ends with the interpreter.

    Parameters
    ----------
    before_end : callable
        Called when the interpreter ends, before the callbacks of the cell.
    """

    def __init__(self, before_end: Callable[[], None]) -> None:
        self.source = _read_source()
        self.cell = Cell(0, self.source or "", status="running")
        self._before_end = before_end
        self._error: BaseException | None = None
        self._frame: Any = None
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
        self._frame = main_frame()
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
        is_caught = self._frame is not None and has_returned(self._frame)
        if isinstance(self._error, SystemExit) and is_caught:
            self._error = None
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
