"""Processes that train: which one this is, and whether that of a run still lives."""

from __future__ import annotations

import functools
import os
import socket
from datetime import datetime, timedelta, timezone
from typing import Final

from ..records import RunProcess, RunStatus, TrainingRun, now

#: How long a run counts as alive after its process renewed its lease. Processes renew it four times
#: as often.
LEASE: Final = timedelta(minutes=2)
#: Seconds by which two readings of a process's start time may differ, since clocks are adjusted.
_START_TOLERANCE: Final = 2.0


@functools.cache
def _host_of(pid: int) -> str:  # noqa: ARG001 - a fork may find itself in another container
    # Containers and clusters reuse host names, so the boot and the PID namespace are part of it.
    name = socket.gethostname()
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{name}/{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


def this_host() -> str:
    """Return a name for all processes that can see each other by their process ids."""
    return _host_of(os.getpid())


def this_process() -> RunProcess:
    """Return the identity of this process."""
    pid = os.getpid()
    started_at = _start_time(pid)
    assert started_at is not None
    return RunProcess(host=this_host(), pid=pid, started_at=started_at)


def _start_time(pid: int) -> datetime | None:
    """Return when a process was started; None if there is none, or only a zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return datetime.fromtimestamp(process.create_time(), timezone.utc)
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return None
    except psutil.AccessDenied:
        return now()  # another user's process has this id now


def is_this_process(process: RunProcess | None) -> bool:
    """Return whether ``process`` is the current one."""
    return process is not None and process.pid == os.getpid() and is_running(process)


def is_running(process: RunProcess) -> bool:
    """Return whether a process is visible from here and still running."""
    if process.host != this_host():
        return False
    started_at = _start_time(process.pid)
    if started_at is None:
        return False
    return abs((started_at - process.started_at).total_seconds()) < _START_TOLERANCE


def is_alive(run: TrainingRun) -> bool:
    """Return whether a process is training in ``run`` now.

    On this host the process decides: it may be unable to renew its lease while the store is locked
    or the machine sleeps. On other hosts the lease decides.
    """
    has_lapsed = _has_lapsed(run)
    if run.status is not RunStatus.RUNNING and not has_lapsed:
        return False
    if run.process is None or run.process.host != this_host():
        return not has_lapsed
    # A lapsed run of this very process is one whose end could not be recorded.
    return is_running(run.process) and not (has_lapsed and is_this_process(run.process))


def _has_lapsed(run: TrainingRun) -> bool:
    """Return whether only its lease has ended a run; the store shows such a run as stopped."""
    if run.lease_until is None:
        return False
    if run.status is RunStatus.RUNNING:
        return run.lease_until <= now()
    return run.status is RunStatus.STOPPED and run.ended_at == run.lease_until


def is_unfinished(run: TrainingRun) -> bool:
    """Return whether a run failed, was stopped, or lost its process, so that it may be resumed."""
    return run.status is not RunStatus.COMPLETED and not is_alive(run)


def is_leased_elsewhere(run: TrainingRun) -> bool:
    """Return whether only the lease of a run on another host shows that it is alive."""
    is_elsewhere = run.process is not None and run.process.host != this_host()
    return run.status is RunStatus.RUNNING and run.lease_until is not None and is_elsewhere
