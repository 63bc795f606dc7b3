"""Threads that train on when the cell that they were begun in has ended.

Such a thread takes the place of the cell: what it asked for comes when it ends itself, or when the interpreter ends
before it does. A cell that fails ends what its threads do as well; those that go on all the same ask again.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executed import Cell, Ended

_watched: dict[threading.Thread, _Background] = {}


def works_for_others(thread: threading.Thread) -> bool:
    """Whether what a thread does is the work of whoever runs a cell: it is one of a pool, or not Python's."""
    pool = sys.modules.get("concurrent.futures.thread")
    return (
        thread is threading.main_thread()
        or isinstance(thread, threading._DummyThread)
        or thread in getattr(pool, "_threads_queues", ())
    )


def on_thread_end(callback: Ended, begun_in: Cell | None, program: Cell) -> None:
    """Have ``callback`` called when this thread and the cell that it was begun in have ended, or the program has.

    It is told what ended the thread, or the cell; of a thread that the program does not wait for, KeyboardInterrupt.
    """
    thread = threading.current_thread()
    background = _watched.get(thread)
    if background is None:
        background = _watched[thread] = _Background(thread, callback, program)
        if begun_in is not None and begun_in.status == "running":
            begun_in.callbacks.append(background.cell_ended)
        else:
            background.watch()
    else:
        background.ended.append(callback)


class _Background:
    """A thread, and whom to tell when it is over."""

    def __init__(self, thread: threading.Thread, callback: Ended, program: Cell) -> None:
        _hear_of_errors()
        self.ended = [callback]
        self.error: BaseException | None = None
        self._thread = thread
        self._program = program
        self._lock = threading.Lock()

    def cell_ended(self, error: BaseException | None) -> None:
        """The cell that it was begun in has ended."""
        if error is None and self._thread.is_alive():
            self.watch()
        else:
            self._tell(error or self.error)

    def watch(self) -> None:
        """Wait for the thread, and for the program."""
        self._program.callbacks.append(self._program_ended)
        threading.Thread(target=self._wait, name="axon-background", daemon=True).start()

    def _wait(self) -> None:
        self._thread.join()
        self._tell(self.error)

    def _program_ended(self, _: BaseException | None) -> None:
        self._tell(KeyboardInterrupt() if self._thread.is_alive() else self.error)

    def _tell(self, error: BaseException | None) -> None:
        with self._lock:  # a program that ends waits until all are told
            if _watched.get(self._thread) is self:
                del _watched[self._thread]
            while self.ended:
                try:
                    self.ended.pop(0)(error)
                except Exception:  # noqa: BLE001 - as at the end of a cell
                    traceback.print_exc()


def _hear_of_errors() -> None:
    """Note what threads end by, before it is shown."""
    shown = threading.excepthook
    if getattr(shown, "_axon", False):
        return

    def note(said: Any) -> None:
        background = _watched.get(said.thread)
        if background is not None:
            left = isinstance(said.exc_value, SystemExit) and not said.exc_value.code
            background.error = None if left else said.exc_value
        shown(said)

    note._axon = True  # type: ignore[attr-defined]
    threading.excepthook = note
