"""The calls that a training consists of: which function trains, whether it goes on, and how it ended.

A frame object cannot be kept without all that its function holds, and cannot be referenced weakly. So it is marked: its
``f_trace``, which is unused unless a debugger traces the thread, gets an object that dies with the frame.
"""

from __future__ import annotations

import dis
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

#: Top-level modules that call what a user wrote, and catch what it raises.
_CALLERS: Final = frozenset(
    {"IPython", "ipykernel", "ipywidgets", "comm", "traitlets", "tornado", "asyncio", "contextlib", "runpy"}
    | {"threading", "concurrent", "multiprocessing", "multiprocess", "billiard", "joblib"}
)
#: The functions in which the processes of a pool call their tasks.
_WORKERS: Final = frozenset({"worker", "_process_worker"})
#: Calls between the one that caught an exception and that of the function that trained.
_HIGHEST_TRACE: Final = 20
_PACKAGE: Final = __name__.partition(".")[0]
_numbers = itertools.count(1)

#: What identifies a call as long as it goes on: the number of its mark, else what it executes.
Call = int | CodeType


class Mark:
    """What a frame is recognised by.

    Attributes
    ----------
    listeners : list of callable
        Called when the frame is gone, with what its function raised, or None when it returned.
    """

    def __init__(self, frame: FrameType) -> None:
        caller = frame.f_back
        self.number = next(_numbers)
        self.listeners: list[Callable[[BaseException | None], None]] = []
        self._called_from = None if caller is None else (caller.f_code, caller.f_lasti)

    def __call__(self, *_: Any) -> Mark:
        """Ignore the events of a trace that was begun since."""
        return self

    def __del__(self) -> None:
        if not self.listeners or sys is None or sys.is_finalizing():
            return
        caller = sys._getframe().f_back
        error = None
        # A function that returns is gone while its caller is still at the call.
        if caller is not None and (caller.f_code, caller.f_lasti) != self._called_from:
            error = sys.exc_info()[1]
            if (
                error is None and _module(caller) == "ipykernel"
            ):  # which catches nothing else that widgets let through
                error = KeyboardInterrupt()
            elif error is None and _module(caller) in _CALLERS:
                error = _unknown_error()
        for listener in self.listeners:
            listener(error)


def call_of(frame: FrameType) -> Call:
    """Return what identifies the call of a frame, which is marked for it."""
    mark = mark_of(frame)
    return frame.f_code if mark is None else mark.number


def mark_of(frame: FrameType) -> Mark | None:
    """Return the mark of a frame; None where the frame is traced by somebody else."""
    found = frame.f_trace
    if found is None and sys.gettrace() is None:
        found = frame.f_trace = Mark(frame)
    return found if isinstance(found, Mark) else None


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and the frames that led to it; those that a process of multiprocessing was forked in did not."""
    while frame is not None:
        yield frame
        if frame.f_code.co_name == "_bootstrap" and _module(frame) in _CALLERS:
            break
        frame = frame.f_back


def calls_in(frame: FrameType | None) -> frozenset[Call]:
    """Return the calls that led to ``frame``, those of this package left out."""
    return frozenset(filter(None, map(_known_call, stack(frame))))


def calls_ended(trace: TracebackType | None) -> frozenset[Call]:
    """Return the call that caught an exception, and the outermost of a user's calls that it ended."""
    ended = []
    if trace is not None:
        ended.append(_known_call(trace.tb_frame))
    while trace is not None and _module(trace.tb_frame) in _CALLERS:
        trace = trace.tb_next
    if trace is not None:
        ended.append(_known_call(trace.tb_frame))
    return frozenset(filter(None, ended))


def _known_call(frame: FrameType) -> Call | None:
    """Return the call of a frame; None for those that could be mistaken for another."""
    module = _module(frame)
    call = None if module == _PACKAGE else call_of(frame)
    return None if module in _CALLERS and isinstance(call, CodeType) else call


def is_ours(frame: FrameType | None) -> bool:
    """Whether this package was called and has not returned yet."""
    return any(_module(found) == _PACKAGE for found in stack(frame))


def outermost_call(frame: FrameType | None) -> FrameType | None:
    """Return the outermost of a user's calls below whatever called it: the kernel, an event loop, a widget."""
    outermost = None
    for found in stack(frame):
        module = _module(found)
        if module in _CALLERS:
            break
        if module != _PACKAGE:
            outermost = found
    return outermost


def pool_call(frame: FrameType | None) -> FrameType | None:
    """Return the call of a task's function in a process of a pool; None elsewhere."""
    outermost = None
    for found in stack(frame):
        module = _module(found)
        if module in _CALLERS:
            if found.f_code.co_name in _WORKERS and "process" in str(found.f_globals.get("__name__")):
                return outermost
        elif module != _PACKAGE:
            outermost = found
    return None


def error_of(mark: Mark) -> BaseException | None:
    """Return what ended the function of a marked frame that is there still: an exception may hold it, or a cycle."""
    for frame in gc.get_referrers(mark):
        if isinstance(frame, FrameType) and frame.f_trace is mark:
            last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            return (
                None
                if last.startswith(("RETURN_VALUE", "RETURN_CONST"))
                else _holder(frame) or _unknown_error()
            )
    return None


def _holder(frame: FrameType) -> BaseException | None:
    """Return the exception whose traceback holds a frame."""
    held: Any = frame
    for _ in range(_HIGHEST_TRACE):
        held = next(
            (by for by in gc.get_referrers(held) if isinstance(by, TracebackType | BaseException)), None
        )
        if held is None or isinstance(held, BaseException):
            return held
    return None


def _unknown_error() -> BaseException:
    return RuntimeError("the function that trained raised an exception")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
