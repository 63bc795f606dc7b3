"""Processes that live for one plan, quickly had: all they need was imported by the process they are forked from."""

from __future__ import annotations

import json
import math
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jupyter_axon_notebooks.errors import AxonError
from jupyter_axon_notebooks.repository import NotebookRepository, garbage, versions
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store

from .hands import Hands
from .plans import AHEAD, Plan
from .points import Kill, Points

#: The point between an operation's return and its acknowledgement.
RETURNED = "the answer"


@dataclass(frozen=True)
class Life:
    """What a process is to do, and when it is killed.

    Where it is the server that is to be killed, ``crash`` is a named pipe: what is written to it has that done, and when
    the server has been started again it can be read to its end.
    """

    url: str
    states_root: str
    plan: Plan
    kill: Kill
    crash: Path | None = None


@dataclass
class Death:
    """How it went.

    Attributes
    ----------
    signal : int or None
        What ended the process; None if it came to the end of its plan.
    begun, returned : int
        How many operations had begun, and how many had returned.
    results : list
        What the operations returned, as JSON with the kind of the record.
    at : str or None
        The call before which it or the server was killed, if that was at a counted one.
    points : list of str
        The calls it counted, if it was not killed.
    refused : str or None
        The error of ours that an operation ended with, if one did. The process does nothing more then.
    took_effect : bool or None
        Whether the operation that had begun and not returned is there; None if there was no such. Known afterwards.
    seconds : float
        From its birth to its death.
    """

    signal: int | None
    seconds: float
    begun: int = 0
    results: list[Any] = field(default_factory=list)
    at: str | None = None
    points: list[str] = field(default_factory=list)
    refused: str | None = None
    took_effect: bool | None = None
    error: str | None = None

    @property
    def returned(self) -> int:
        return len(self.results)


class Nursery:
    """The process that the others are forked from. Nothing is left of any of them when it is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kills.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )

    def live(self, life: Life) -> Death:
        """Have a process live this life; returns when it is dead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(life, self._process.stdin)
        self._process.stdin.flush()
        status, seconds, log = pickle.load(self._process.stdout)
        death = Death(os.WTERMSIG(status) if os.WIFSIGNALED(status) else None, seconds)
        _read(log, death)
        assert death.error is None, death.error
        assert death.refused is None or life.kill.server, death.refused
        assert death.signal is not None or status == 0, f"ended with status {status}"
        return death

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery, closed at the end."""
    opened = Nursery()
    try:
        yield opened
    finally:
        opened.close()


def _read(log: bytes, death: Death) -> None:
    for line in log.split(b"\n")[:-1]:  # the last one was not finished
        for what, value in json.loads(line).items():
            if what == "began":
                death.begun += 1
            elif what == "returned":
                death.results.append(value)
            else:
                setattr(death, what, value)


def _main() -> None:
    for url in ("sqlite://", "postgresql+psycopg://"):
        sa.create_engine(url)  # which imports what it takes, and connects to nothing
    versions._BATCH_LENGTH = (
        AHEAD  # so that what is written ahead of a large save is so of a small one
    )
    garbage._TURN = math.inf  # so that how many steps it takes is not for the machine's load to say
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            life = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(_raise(life), answers)
        answers.flush()


def _raise(life: Life) -> tuple[int, float, bytes]:
    began = time.monotonic()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _live(life, theirs)
    os.close(theirs)
    after = None if life.kill.server else life.kill.after
    log = b"".join(_heard(ours, pid, None if after is None else began + after))
    os.close(ours)
    _, status = os.waitpid(pid, 0)
    return status, time.monotonic() - began, log


def _heard(pipe: int, pid: int, deadline: float | None) -> Iterator[bytes]:
    """What a process says, until it is dead; killed at ``deadline``."""
    while True:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0] or not left:
                os.kill(pid, signal.SIGKILL)
                deadline = None
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return
        yield chunk


def _live(life: Life, pipe: int) -> None:
    write = os.write

    def say(**what: Any) -> None:
        line = json.dumps(what).encode() + b"\n"
        while line:
            line = line[write(pipe, line) :]

    def end(what: str) -> None:
        say(at=what)
        if life.crash is None:
            os.kill(os.getpid(), signal.SIGKILL)
        have_crashed(life.crash)

    try:
        points = Points(life.kill, end)
        store = open_store(life.url)
        states = StateStorage(Path(life.states_root), store_id=store.id)
        hands = Hands(NotebookRepository(store, states=states), states)
        for number, operation in enumerate(life.plan):
            say(began=number)
            result = hands.do(operation)
            points.reach(RETURNED)
            say(returned=None if result is None else [type(result).__name__, result.to_json()])
        store.close()
        say(points=points.passed)
        os._exit(0)
    except AxonError as error:
        say(refused=f"{type(error).__name__}: {error}")
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent is told
        say(error=traceback.format_exc())
        os._exit(1)


def have_crashed(pipe: Path) -> None:
    """Have the server killed; returns when it runs again."""
    pipe.write_bytes(b"now")
    pipe.read_bytes()


if __name__ == "__main__":
    _main()
