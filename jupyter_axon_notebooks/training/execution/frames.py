"""The calls that a training consists of: which function trains, whether it goes on, and how it ended.

A frame object cannot be kept without all that its function holds, and cannot be referenced weakly. So it is marked: its
``f_trace``, which is unused unless a debugger traces the thread, gets an object that dies with the frame.
"""

from __future__ import annotations

import dis
import gc
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

#: Top-level modules that call what a user wrote, and catch what it raises.
_CALLERS: Final = frozenset(
    {
        "IPython",
        "ipykernel",
        "ipywidgets",
        "comm",
        "traitlets",
        "tornado",
        "asyncio",
        "contextlib",
        "runpy",
    }
    | {"threading", "concurrent", "multiprocessing", "multiprocess", "billiard", "joblib"}
)
#: Those of them that show what they catch, by the shell.
_CATCHERS: Final = frozenset({"IPython", "ipykernel", "ipywidgets"})
#: The functions in which the processes of a pool call their tasks.
_WORKERS: Final = frozenset({"worker", "_process_worker"})
#: Calls between the one that caught an exception and that of the function that trained.
_HIGHEST_TRACE: Final = 20
_PACKAGE: Final = __name__.partition(".")[0]
_numbers = itertools.count(1)
_lost: dict[int, Mark] = {}  # by the id of its frame, which goes on: a debugger took it away

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
        self.code = frame.f_code
        self.number = next(_numbers)
        self.listeners: list[Callable[[BaseException | None], None]] = []
        self._called_from = None if caller is None else (caller.f_code, caller.f_lasti)
        self._frame_id = id(frame)
        if (lost := _lost_mark(frame)) is not None:
            del _lost[self._frame_id]
            self.number, self.listeners = lost.number, lost.listeners

    def __call__(self, *_: Any) -> Mark:
        """Ignore the events of a trace that was begun since."""
        return self

    def __bool__(self) -> bool:
        """Return False: ``bdb`` puts its trace function where there is none, to step out of a call."""
        return False

    def __del__(self) -> None:
        if sys is None or sys.is_finalizing():
            return
        caller = sys._getframe().f_back
        error = None
        # A function that returns is gone while its caller is still at the call.
        if caller is not None and (caller.f_code, caller.f_lasti) != self._called_from:
            if any(
                id(found) == self._frame_id and found.f_code is self.code for found in stack(caller)
            ):
                _lost[self._frame_id] = self
                return
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
    if mark is None:
        mark = _lost_mark(frame)
    return frame.f_code if mark is None else mark.number


def _lost_mark(frame: FrameType) -> Mark | None:
    """Return the mark that a debugger took from a frame."""
    lost = _lost.get(id(frame))
    return lost if lost is not None and lost.code is frame.f_code else None


def forget_lost_marks() -> None:
    """Let go of what debuggers took from frames; nobody asks for it any more."""
    _lost.clear()


def mark_of(frame: FrameType) -> Mark | None:
    """Return the mark of a frame; None where the frame is traced by somebody else."""
    found = frame.f_trace
    # A debugger that is continued from leaves its function in the frame where it stopped.
    if sys.gettrace() is None and (found is None or _lost_mark(frame) is not None):
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
    """Return the calls that led to ``frame``: a user's, and those that catch what these raise."""
    calls: set[Call] = set()
    is_users = False
    for found in stack(frame):
        module = _module(found)
        if module == _PACKAGE:
            continue
        if module not in _CALLERS:
            calls.add(call_of(found))
        elif is_users and module in _CATCHERS and isinstance(call := call_of(found), int):
            calls.add(call)  # code would be mistaken for another call
        is_users = module not in _CALLERS
    return frozenset(calls)


def calls_ended(trace: TracebackType | None) -> frozenset[Call]:
    """Return the call that caught an exception, and the outermost of a user's calls that it ended."""
    ended: set[Call] = set()
    if trace is not None:
        ended.update(_identities(trace.tb_frame))
    while trace is not None and _module(trace.tb_frame) in _CALLERS:
        trace = trace.tb_next
    if trace is not None:
        ended.update(_identities(trace.tb_frame))
    return frozenset(ended)


def _identities(frame: FrameType) -> Iterator[Call]:
    """Yield what a call may have been identified by: its mark, and what it executes if it was traced then."""
    mark = frame.f_trace if isinstance(frame.f_trace, Mark) else _lost_mark(frame)
    if mark is not None:
        yield mark.number
    if _module(frame) not in _CALLERS:
        yield frame.f_code


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
    """Return the call of a task's function in a process or thread of multiprocessing's pools; None elsewhere."""
    outermost = None
    for found in stack(frame):
        module = _module(found)
        if module in _CALLERS:
            if found.f_code.co_name in _WORKERS and "process" in str(
                found.f_globals.get("__name__")
            ):
                return outermost
        elif module != _PACKAGE:
            outermost = found
    return None


def error_of(mark: Mark) -> BaseException | None:
    """Return what ended the function of a marked frame that is there still: an exception may hold it, or a cycle."""
    for frame in gc.get_referrers(mark):
        if isinstance(frame, FrameType) and frame.f_trace is mark:
            return None if has_returned(frame) else _holder(frame) or _unknown_error()
    return None


def has_returned(frame: FrameType) -> bool:
    """Whether the function of a frame has come to its end, and was ended by no exception."""
    last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return last.startswith(("RETURN_VALUE", "RETURN_CONST"))


def main_frame() -> FrameType | None:
    """Return the frame in which a script is executed, if that goes on."""
    program = getattr(sys.modules.get("__main__"), "__dict__", None)
    frames = stack(sys._current_frames().get(threading.main_thread().ident or 0))
    modules = [
        frame
        for frame in frames
        if frame.f_code.co_name == "<module>" and frame.f_globals is program
    ]
    return modules[-1] if modules else None


def _holder(frame: FrameType) -> BaseException | None:
    """Return the exception whose traceback holds a frame."""
    held: Any = frame
    for _ in range(_HIGHEST_TRACE):
        held = next(
            (by for by in gc.get_referrers(held) if isinstance(by, TracebackType | BaseException)),
            None,
        )
        if held is None or isinstance(held, BaseException):
            return held
    return None


def _unknown_error() -> BaseException:
    return RuntimeError("the function that trained raised an exception")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
