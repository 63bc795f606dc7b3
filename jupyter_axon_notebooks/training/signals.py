"""SIGTERM: work that is done before the signal has its usual effect, which stays the same."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from .execution.frames import is_ours

#: Called with the frame that the main thread executes.
Work = Callable[[FrameType | None], None]

#: Seconds that a thread waits at most for the process to end.
_END_TIMEOUT: Final = 5.0

# All of this survives a reload of the module.
_work: Work | None = globals().get("_work")
_watches_forks: bool = globals().get("_watches_forks", False)
_is_deferred = False  # until a call of this package has returned
_is_done = False  # the usual effect is next
_is_ending = False  # the usual effect is the end of the process
_has_exited = False  # through a handler of the user


def on_sigterm(work: Work) -> None:
    """Do ``work`` when SIGTERM arrives, before it ends the process or calls the user's handler.

    Python lets only the main thread install a handler; in other threads this does nothing. Nor does
    it if the process ignores SIGTERM or handles it outside of Python. A handler that was installed
    over this one is wrapped in turn by the next call.
    """
    global _work, _watches_forks
    if _is_ending:
        threading.Event().wait(_END_TIMEOUT)  # nothing may begin in a process that is ending
    _work = work
    if threading.current_thread() is not threading.main_thread():
        return
    try:
        previous = signal.getsignal(signal.SIGTERM)
        if previous is None or previous is signal.SIG_IGN or _is_axon_handler(previous):
            return
        signal.signal(signal.SIGTERM, _Handler(previous))
    except (ValueError, OSError):  # in a subinterpreter
        return
    if not _watches_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget_sigterm)
        _watches_forks = True


def forget_sigterm() -> None:
    """Restore the usual effect of SIGTERM; outside of the main thread, when it arrives."""
    global _work
    _work = None
    if threading.current_thread() is not threading.main_thread():
        return
    with suppress(ValueError, OSError):
        handler: Any = signal.getsignal(signal.SIGTERM)
        if _is_axon_handler(handler):  # otherwise another one was installed over it
            signal.signal(signal.SIGTERM, handler.previous)


def has_exited() -> bool:
    """Return whether a handler of the user has left the program by ``sys.exit``."""
    return _has_exited


def _is_axon_handler(handler: Any) -> bool:
    return type(handler).__name__ == _Handler.__name__ and type(handler).__module__ == __name__


class _Handler:
    """A handler that does the work and then what the previous handler does."""

    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        global _is_deferred, _is_done, _is_ending
        if _work is None or _is_done:
            _is_done = _is_ending = False
            self._pass_on(number, frame)
        elif _is_deferred:
            pass
        elif is_ours(frame):
            # The main thread may hold a lock that the work needs: a thread waits for it and repeats
            # the signal.
            _is_deferred = True
            threading.Thread(
                target=self._do_and_repeat, args=(_work, frame), name="axon-sigterm", daemon=True
            ).start()
        else:
            _do(_work, frame)
            self._pass_on(number, frame)

    def _do_and_repeat(self, work: Work, frame: FrameType | None) -> None:
        global _is_deferred, _is_done, _is_ending
        _do(work, frame)
        _is_deferred, _is_done, _is_ending = False, True, not callable(self.previous)
        os.kill(os.getpid(), signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        global _has_exited
        if not callable(self.previous):
            forget_sigterm()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # if another handler called this one
            os.kill(os.getpid(), number)
            return
        try:
            self.previous(number, frame)
        except SystemExit:
            _has_exited = True
            raise


def _do(work: Work, frame: FrameType | None) -> None:
    try:
        work(frame)
    except Exception:  # noqa: BLE001 - the usual effect follows in any case
        traceback.print_exc()
