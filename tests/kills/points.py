"""Where a process is killed.

Between two of the calls that are counted here a process changes nothing outside itself, so to kill it before each of them
in turn is to kill it everywhere. What happens *inside* a call, a commit with its writes and its ``fsync`` above all, is left
to chance (:attr:`Kill.after`), and to the system, which ends a process in the midst of a write that makes a file too long (:attr:`Kill.beyond`).
"""

from __future__ import annotations

import functools
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

_CALLS = ("fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink", "write")


@dataclass(frozen=True)
class Kill:
    """When a process is killed, if at all.

    Attributes
    ----------
    call : int or None
        Before which of the counted calls.
    after : float or None
        From outside, after so many seconds.
    beyond : int or None
        In the midst of the write that makes any file longer than so many bytes.
    server : bool
        Instead of the process, the database server is, and started again; the process goes on.
    """

    call: int | None = None
    after: float | None = None
    beyond: int | None = None
    server: bool = False


class Points:
    """Counts the calls of this process that leave something behind.

    Parameters
    ----------
    kill : Kill
        When to end the process.
    end : callable
        Given what is about to be called, ends the process, or the server.
    """

    def __init__(self, kill: Kill, end: Callable[[str], None]) -> None:
        self.passed: list[str] = []
        self._fatal = kill.call
        self._end = end
        if kill.beyond is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill.beyond, resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        for name in _CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", self._statement)
        sa.event.listen(sa.engine.Engine, "commit", lambda _connection: self.reach("commit"))

    def reach(self, what: str) -> None:
        """Count a call that comes next, or do not live to see it."""
        self.passed.append(what)
        if len(self.passed) == self._fatal:
            self._end(what)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                self.reach(f"os.{name}")
            return call(*args, **kwargs)

        return counted

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self.reach(" ".join(statement.split()[:3]))
