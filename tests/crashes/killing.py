"""Child processes that execute operations and are killed meanwhile."""

from __future__ import annotations

import functools
import math
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

import sqlalchemy as sa
from support.forkserver import forkserver_context
from support.sites import Site

from jupyter_axon_notebooks.errors import AxonError
from jupyter_axon_notebooks.repository import garbage, versions

from .operations import STAGING_LENGTH, Operation, Operations

#: The kill point between the return of an operation and its acknowledgement.
ACKNOWLEDGEMENT = "acknowledgement"
_COUNTED = ("fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink", "write")


for _url in ("sqlite://", "postgresql+psycopg://"):
    sa.create_engine(_url)  # imports the dialect before children are forked


@dataclass(frozen=True)
class Kill:
    """The moment at which a process is killed; none if no attribute is set."""

    #: Before this call, of all calls that change something outside the process.
    call: int | None = None
    #: After so many seconds, from outside.
    after: float | None = None
    #: In the middle of the write that makes any file longer than so many bytes.
    file_size: int | None = None
    #: Kill and restart the database server instead; the process goes on.
    server: bool = False


@dataclass
class Outcome:
    """The end of a process."""

    #: The signal that ended it; None if it finished.
    signal: int | None = None
    #: Whether the operation returned, so that it was acknowledged, and its record as JSON.
    has_returned: bool = False
    record: Any = None
    #: The counted call before which the process or the server was killed.
    killed_at: str | None = None
    #: All counted calls, if the process finished.
    calls: list[str] = field(default_factory=list)
    #: The error of this project that the operation raised, and any other one.
    refused: str | None = None
    error: str | None = None
    seconds: float = 0.0
    #: Whether the store has the result of the operation. Set by the check.
    took_effect: bool = False


def execute_and_kill(site: Site, operation: Operation, kill: Kill) -> Outcome:
    """Execute an operation in a child process that is killed at the given moment."""
    context = forkserver_context()
    connection, childs = context.Pipe()
    process = context.Process(
        target=_run_child, args=(replace(site, server=None), operation, kill, childs)
    )
    began = time.monotonic()
    process.start()
    childs.close()
    outcome = Outcome()
    deadline = math.inf if kill.after is None else began + kill.after
    while True:
        try:
            if not connection.poll(max(0, min(120, deadline - time.monotonic()))):
                assert deadline < math.inf, "the process hangs"
                deadline = math.inf
                if site.server is not None and kill.server:
                    _restart(site)
                else:
                    process.kill()
                continue
            name, value = connection.recv()
        except (EOFError, ConnectionResetError):
            break
        if name == "crash the server":
            _restart(site)
            connection.send(None)
            outcome.killed_at = value
        else:
            setattr(outcome, name, value)
    process.join()
    outcome.seconds = time.monotonic() - began
    assert process.exitcode is not None
    outcome.signal = -process.exitcode if process.exitcode < 0 else None
    assert outcome.error is None, outcome.error
    assert outcome.refused is None or kill.server, outcome.refused
    return outcome


def _restart(site: Site) -> None:
    assert site.server is not None
    site.server.crash()
    site.server.start()


def _run_child(site: Site, operation: Operation, kill: Kill, parent: Connection) -> None:
    versions._BATCH_LENGTH = STAGING_LENGTH
    garbage._TRANSACTION_TIME = (
        math.inf
    )  # the number of calls must not depend on the machine's load

    def die(call: str) -> None:
        if kill.server:
            parent.send(("crash the server", call))
            parent.recv()
        else:
            parent.send(("killed_at", call))
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        points = KillPoints(kill, die)
        with site.open(clean=False) as opened:
            record = Operations(opened.repository, opened.states).execute(operation)
            points.reach(ACKNOWLEDGEMENT)
            parent.send(("has_returned", True))
            if record is not None:
                parent.send(("record", [type(record).__name__, record.to_json()]))
        parent.send(("calls", points.calls))
    except AxonError as error:
        parent.send(("refused", f"{type(error).__name__}: {error}"))
    except BaseException:  # noqa: BLE001 - reported by the parent
        parent.send(("error", traceback.format_exc()))


class KillPoints:
    """A counter of the calls of this process that change something outside it.

    Killing a process before each of these calls in turn covers every state that it can leave,
    except those inside a call, such as a commit.

    Parameters
    ----------
    kill : Kill
        The moment at which ``die`` is called.
    die : callable
        Called with the name of the next call; ends the process or the server.
    """

    def __init__(self, kill: Kill, die: Callable[[str], None]) -> None:
        self.calls: list[str] = []
        self._fatal = kill.call
        self._die = die
        if kill.file_size is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill.file_size, resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        for name in _COUNTED:
            setattr(os, name, self._count(name, getattr(os, name)))
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", self._count_statement)
        sa.event.listen(sa.engine.Engine, "commit", lambda _connection: self.reach("commit"))

    def reach(self, call: str) -> None:
        """Count a call, or die before it."""
        self.calls.append(call)
        if len(self.calls) == self._fatal:
            self._die(call)

    def _count(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                self.reach(f"os.{name}")
            return call(*args, **kwargs)

        return counted

    def _count_statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self.reach(" ".join(statement.split()[:3]))
