"""SIGTERM: what is to be done before the process ends by it, and does not otherwise change what the signal does."""

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

#: Told where the main thread was.
Work = Callable[[FrameType | None], None]

#: Seconds that a thread waits at most for the process to end.
_LAST_SECONDS: Final = 5.0

_work: Work | None = globals().get("_work")  # all of it outlives a reload of this module
_watches_forks: bool = globals().get("_watches_forks", False)
_is_deferred = False  # until a call of this package has ended
_is_done = False  # and what SIGTERM did before is next
_is_ending = False  # and that ends the process
_has_exited = False  # by a handler of the user


def on_sigterm(work: Work) -> None:
    """Have ``work`` done when SIGTERM arrives, before what SIGTERM does already: it ends the process, or calls a handler.

    Python lets only the main thread install a handler; called in another one, this has no effect. A process that ignores
    SIGTERM, or handles it in a way that Python does not know of, is left alone. A handler that was put over ours gets ours
    over it with the next call.
    """
    global _work, _watches_forks
    if _is_ending:
        threading.Event().wait(_LAST_SECONDS)  # nothing may begin in a process that ends now
    _work = work
    if threading.current_thread() is not threading.main_thread():
        return
    try:
        previous = signal.getsignal(signal.SIGTERM)
        if previous is None or previous is signal.SIG_IGN or _is_axon_handler(previous):
            return
        signal.signal(signal.SIGTERM, _Handler(previous))
    except (ValueError, OSError):  # not the main thread of the main interpreter
        return
    if not _watches_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget_sigterm)
        _watches_forks = True


def forget_sigterm() -> None:
    """Let SIGTERM do what it did before; in another thread than the main one, once it arrives."""
    global _work
    _work = None
    if threading.current_thread() is not threading.main_thread():
        return
    with suppress(ValueError, OSError):
        handler: Any = signal.getsignal(signal.SIGTERM)
        if _is_axon_handler(handler):  # else somebody has put another one over it
            signal.signal(signal.SIGTERM, handler.previous)


def _is_axon_handler(handler: Any) -> bool:
    return type(handler).__name__ == _Handler.__name__ and type(handler).__module__ == __name__


class _Handler:
    """Does the work, and then what SIGTERM did before; one that was put over it may call it."""

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
            # This thread may hold what the work has to wait for.
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
        if callable(self.previous):
            _call(self.previous, number, frame)
            return
        forget_sigterm()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # also when another handler called this one
        os.kill(os.getpid(), number)


def has_exited() -> bool:
    """Return whether a handler of the user has left the program by ``sys.exit``."""
    return _has_exited


def _call(handler: Callable[..., object], number: int, frame: FrameType | None) -> None:
    global _has_exited
    try:
        handler(number, frame)
    except SystemExit:
        _has_exited = True
        raise


def _do(work: Work, frame: FrameType | None) -> None:
    try:
        work(frame)
    except Exception:  # noqa: BLE001 - the process ends, or goes on, as it would
        traceback.print_exc()
