"""Frames of the user's code on the stack: which function trains, and when and how it ended.

A reference to a frame would keep all of its local variables, and frames have no weak references. So
a frame is marked: its ``f_trace``, which is only used while a debugger traces the thread, gets an
object that is deleted with the frame.
"""

from __future__ import annotations

import dis
import gc
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Final

#: Top-level modules that call the user's code and catch its exceptions.
_CALLERS: Final = frozenset(
    [
        "IPython",
        "ipykernel",
        "ipywidgets",
        "comm",
        "traitlets",
        "tornado",
        "asyncio",
        "contextlib",
        "runpy",
        "threading",
        "concurrent",
        "multiprocessing",
        "multiprocess",
        "billiard",
        "joblib",
    ]
)
#: Those that have the shell show the exceptions that they catch.
_CATCHERS: Final = frozenset({"IPython", "ipykernel", "ipywidgets"})
#: The functions in which the processes of a pool call their tasks.
_WORKERS: Final = frozenset({"worker", "_process_worker"})
_PACKAGE: Final = __name__.partition(".")[0]
_numbers = itertools.count(1)

#: Identifies a call while it lasts: the number of its mark, or its code if it is being debugged.
Call = int | CodeType


class Mark:
    """Identifies a call, and reports its end to ``listeners`` with the exception that ended it."""

    def __init__(self, frame: FrameType) -> None:
        caller = frame.f_back
        self.number = next(_numbers)
        self.listeners: list[Callable[[BaseException | None], None]] = []
        self._code = frame.f_code
        self._frame_id = id(frame)
        self._called_from = None if caller is None else (caller.f_code, caller.f_lasti)

    def __call__(self, *_: object) -> Mark:
        """Ignore the event of a debugger."""
        return self

    def __bool__(self) -> bool:
        """Return False: ``bdb`` only sets its own trace function where there is none."""
        return False

    def __del__(self) -> None:
        if sys is None or sys.is_finalizing():
            return
        caller, error = sys._getframe().f_back, None
        # A frame is deleted while its caller is still at the call, unless an exception ended it.
        if caller is not None and (caller.f_code, caller.f_lasti) != self._called_from:
            if any(
                id(frame) == self._frame_id and frame.f_code is self._code
                for frame in stack(caller)
            ):
                return  # a debugger removed the mark
            error = sys.exc_info()[1]
            if error is None and _module(caller) == "ipykernel":
                error = KeyboardInterrupt()  # widgets let no other exception through
            elif error is None and _module(caller) in _CALLERS:
                error = _unknown_error()
        for listener in self.listeners:
            listener(error)


def mark_of(frame: FrameType) -> Mark | None:
    """Return the mark of a frame, which it gets if it has none; None if a debugger uses it."""
    # A debugger may leave its function behind after it was continued from.
    if sys.gettrace() is None and not isinstance(frame.f_trace, Mark):
        frame.f_trace = Mark(frame)
    return frame.f_trace if isinstance(frame.f_trace, Mark) else None


def call_of(frame: FrameType) -> Call:
    """Return what identifies the call that a frame belongs to."""
    mark = mark_of(frame)
    return frame.f_code if mark is None else mark.number


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, up to the function that a forked process began with."""
    while frame is not None:
        yield frame
        if frame.f_code.co_name == "_bootstrap" and _module(frame) in _CALLERS:
            break
        frame = frame.f_back


def calls_in(frame: FrameType | None) -> frozenset[Call]:
    """Return the calls of the user that led to ``frame``, and those that catch their errors."""
    calls: set[Call] = set()
    is_user = False
    for found in stack(frame):
        module = _module(found)
        if module == _PACKAGE:
            continue
        if module not in _CALLERS:
            calls.add(found.f_code)
        elif is_user and module in _CATCHERS and (mark := mark_of(found)) is not None:
            calls.add(mark.number)
        is_user = module not in _CALLERS
    return frozenset(calls)


def calls_ended(trace: TracebackType | None) -> frozenset[Call]:
    """Return the call that caught an exception, and the outermost user's call that it ended."""
    ended: set[Call] = set()
    if trace is not None and isinstance(mark := trace.tb_frame.f_trace, Mark):
        ended.add(mark.number)
    while trace is not None and _module(trace.tb_frame) in _CALLERS:
        trace = trace.tb_next
    if trace is not None:
        ended.add(trace.tb_frame.f_code)
    return frozenset(ended)


def is_ours(frame: FrameType | None) -> bool:
    """Return whether a call of this package led to ``frame``."""
    return any(_module(found) == _PACKAGE for found in stack(frame))


def outermost_call(frame: FrameType | None) -> FrameType | None:
    """Return the user's function that the kernel, an event loop or a widget called."""
    outermost = None
    for found in stack(frame):
        module = _module(found)
        if module in _CALLERS:
            break
        if module != _PACKAGE:
            outermost = found
    return outermost


def pool_call(frame: FrameType | None) -> FrameType | None:
    """Return the function of a task in a worker of a pool of processes; None elsewhere."""
    outermost = None
    for found in stack(frame):
        if _module(found) in _CALLERS:
            if found.f_code.co_name in _WORKERS and "process" in found.f_globals["__name__"]:
                return outermost
        elif _module(found) != _PACKAGE:
            outermost = found
    return None


def error_of(mark: Mark) -> BaseException | None:
    """Return what ended a function whose frame still exists, as in a cycle of references."""
    for frame in gc.get_referrers(mark):
        if isinstance(frame, FrameType) and frame.f_trace is mark:
            return None if has_returned(frame) else _unknown_error()
    return None


def has_returned(frame: FrameType) -> bool:
    """Return whether the function of a frame came to its end without an exception."""
    last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return last.startswith(("RETURN_VALUE", "RETURN_CONST"))


def main_frame() -> FrameType | None:
    """Return the frame in which the script is executed."""
    program = getattr(sys.modules.get("__main__"), "__dict__", None)
    main = None
    for frame in stack(sys._current_frames().get(threading.main_thread().ident or 0)):
        if frame.f_code.co_name == "<module>" and frame.f_globals is program:
            main = frame
    return main


def _unknown_error() -> BaseException:
    return RuntimeError("the function that trained raised an exception")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
