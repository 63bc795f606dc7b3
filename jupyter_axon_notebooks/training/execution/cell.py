"""The execution of a cell or script, and who is to be called when it ends."""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections.abc import Callable
from datetime import datetime

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
