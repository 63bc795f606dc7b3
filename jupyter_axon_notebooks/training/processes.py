"""Runs: when one begins, when it goes on, and whether it is alive. No store here."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal, NamedTuple

from ..records import MAX_STEP, RunProcess, RunStatus, TrainingRun, now

#: How long a run is taken for alive after its process said so last; it says so four times as often.
LEASE: Final = timedelta(minutes=2)
#: Two readings of when a process began may differ by as much, in seconds: the clock that it is told from is adjusted.
_SAME_START: Final = 2.0


class RunIdentity(NamedTuple):
    """What tells a run from the other runs of its notebook.

    Attributes
    ----------
    execution : object
        The execution of a cell that the run begins in; None in a script.
    key, cell, ordinal : optional
        As :class:`~jupyter_axon_notebooks.records.TrainingRun` has them.
    """

    execution: Any
    ordinal: int
    cell: str | None = None
    key: str | None = None


@dataclass
class RunPosition:
    """How far a run has come, and where its next checkpoint stands.

    Attributes
    ----------
    epoch, step : int or None
        Of the furthest checkpoint, or of the one the run was resumed from; None before the first.
    execution : object
        The execution of a cell that the last checkpoint was made in; None outside of cells.
    is_resumed : bool
        Whether it has come no further than the checkpoint it was resumed from, which may lie in the middle of an epoch.
    """

    epoch: int | None = None
    step: int | None = None
    execution: Any = None
    is_resumed: bool = False
    _steps: dict[int, int] = field(default_factory=dict)  # the last step of each epoch

    def compare(
        self, epoch: int | None, step: int | None, execution: Any
    ) -> Literal["after", "same", "before"]:
        """Return where a checkpoint at what was given stands, relative to the last one.

        Epoch and step are compared in this order, as far as they are given. Without a step, several checkpoints of one
        epoch follow each other within one execution of a cell; from the next execution on, the epoch is a repeat, and so
        is the same position: both are "before".
        """
        if self.epoch is None or self.step is None or (epoch is None and step is None):
            return "after"
        continues = self.is_resumed or execution == self.execution
        if step is None:
            assert epoch is not None
            return (
                "after" if epoch > self.epoch or (epoch == self.epoch and continues) else "before"
            )
        position, last = (self.epoch if epoch is None else epoch, step), (self.epoch, self.step)
        if position == last:
            return "same" if continues else "before"
        return "after" if position > last else "before"

    def place(self, epoch: int | None, step: int | None) -> tuple[int, int]:
        """Return epoch and step of the next checkpoint: an omitted epoch is the last one, an omitted step the next.

        Raises
        ------
        ValueError
            When there is no next step, the last one being the largest.
        """
        if step is None:
            step = 0 if self.step is None else self.step + 1
            if step > MAX_STEP:
                raise ValueError(
                    f"No step follows {self.step}, the largest that can be recorded. Give a step."
                )
        return (self.epoch or 0) if epoch is None else epoch, step

    def place_again(self, epoch: int | None, step: int | None) -> tuple[int, int]:
        """As :meth:`place`, for a checkpoint that may replace one: of a known epoch, an omitted step is its last."""
        if step is None and epoch is not None:
            step = self._steps.get(epoch)
        return self.place(epoch, step)

    def move(self, epoch: int, step: int, execution: Any) -> None:
        """A checkpoint was made there, which may have replaced an earlier one."""
        if self.epoch is None or self.step is None or (epoch, step) > (self.epoch, self.step):
            self.epoch, self.step = epoch, step
        self.execution, self.is_resumed = execution, False
        self._steps[epoch] = step

    def resume(self, epoch: int, step: int) -> None:
        """It goes on from a checkpoint of another run."""
        self.epoch, self.step, self.execution, self.is_resumed = epoch, step, None, True


@functools.cache
def _host(pid: int) -> str:  # noqa: ARG001 - the key: a fork may find itself in another container
    """This machine, since it was started: containers and clusters have host names more than once."""
    name = socket.gethostname()
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{name}/{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


def this_host() -> str:
    """What tells processes that can see each other, by their numbers, from others."""
    return _host(os.getpid())


def this_process() -> RunProcess:
    """The process that this is."""
    pid = os.getpid()
    started_at = _start_of(pid)
    assert started_at is not None  # it runs
    return RunProcess(host=this_host(), pid=pid, started_at=started_at)


def _start_of(pid: int) -> datetime | None:
    """Since when a process has had its number; None where there is no such process, or only what is left of one."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return datetime.fromtimestamp(process.create_time(), timezone.utc)
    except (
        psutil.NoSuchProcess,
        ValueError,
        OverflowError,
    ):  # or no number that a process can have
        return None
    except psutil.AccessDenied:
        return now()  # somebody else's by now


def is_here(process: RunProcess | None) -> bool:
    """Whether a process is this one."""
    return process is not None and process.pid == os.getpid() and is_running(process)


def is_running(process: RunProcess) -> bool:
    """Whether a process can be seen from here and still lives."""
    if process.host != this_host():
        return False
    started_at = _start_of(process.pid)
    return (
        started_at is not None
        and abs((started_at - process.started_at).total_seconds()) < _SAME_START
    )


def is_alive(run: TrainingRun) -> bool:
    """Whether somebody trains in a run right now.

    Its lease says so, but where its process can be seen, that does: a process may live and not be able to renew its
    lease, while the store is locked or the machine sleeps.
    """
    has_lapsed = _has_lapsed(run)
    if run.status is not RunStatus.RUNNING and not has_lapsed:
        return False
    if run.process is None or run.process.host != this_host():
        return not has_lapsed
    # Who asks in that very process knows what it is in the middle of; a lapsed run is one whose end it could not record.
    return is_running(run.process) and not (has_lapsed and is_here(run.process))


def _has_lapsed(run: TrainingRun) -> bool:
    """Whether nobody ended a run but its lease; the store shows it as stopped then."""
    if run.lease_until is None:
        return False
    if run.status is RunStatus.RUNNING:
        return run.lease_until <= now()
    return run.status is RunStatus.STOPPED and run.ended_at == run.lease_until


def is_unfinished(run: TrainingRun) -> bool:
    """Whether a run ended before its time, so that it may be resumed: failed, stopped, or its process vanished."""
    return run.status is not RunStatus.COMPLETED and not is_alive(run)


def is_leased_elsewhere(run: TrainingRun) -> bool:
    """Whether a run is taken for alive only because of a lease that its process, on another host, renews."""
    is_elsewhere = run.process is not None and run.process.host != this_host()
    return run.status is RunStatus.RUNNING and run.lease_until is not None and is_elsewhere
