"""Starting the processes, and checking the store against their logs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crashes.observation import check_integrity
from support.factories import check_contents
from support.forkserver import forkserver_context
from support.sites import OpenSite, Site

from .workload import (
    COUNTERS,
    SAVED,
    SHARED,
    SLOW,
    VERSIONS,
    Log,
    Save,
    prepare,
    run_process,
)

#: A role and its options.
Task = tuple[str, dict[str, Any]]
#: The processes beside the workers.
OTHERS: dict[str, Task] = {
    "reader": ("reader", {}),
    "slow saver": ("slow saver", {"times": 5}),
    "collector": ("collector", {}),
}


def run_workload(site: Site, *, workers: int, times: int, seed: str) -> dict[str, Log]:
    """Run workers beside the other processes, check the store, and return all logs by name.

    Raises
    ------
    AssertionError
        If the store differs from the logs, or a process failed.
    """
    with site.open() as opened:
        prepare(opened.repository)
    names = [f"w{number}" for number in range(workers)]
    tasks: dict[str, Task] = {
        name: ("worker", {"name": name, "seed": f"{seed}.{name}", "times": times}) for name in names
    }
    logs = run_together(site, tasks | OTHERS)
    try:
        check(site, [logs[name] for name in (*names, "slow saver")])
        assert [error for log in logs.values() for error in log.errors] == []
        assert all(logs[name].operations == times for name in names)
        assert min(logs[role].operations for role in OTHERS) > 0
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    return logs


def run_together(site: Site, tasks: Mapping[str, Task]) -> dict[str, Log]:
    """Run one process for each task, and return their logs.

    Readers and collectors stop when the others are done.
    """
    context = forkserver_context()
    barrier, stop = context.Barrier(len(tasks)), context.Event()
    running = {}
    for name, (role, options) in tasks.items():
        logs, childs = context.Pipe(duplex=False)
        process = context.Process(
            target=run_process, args=(site, role, options, barrier, stop, childs), daemon=True
        )
        process.start()
        childs.close()
        running[name] = process, logs
    endless = [name for name, (role, _) in tasks.items() if role in ("reader", "collector")]
    received: dict[str, Log] = {}
    for name in [*(name for name in running if name not in endless), None, *endless]:
        if name is None:
            stop.set()
            continue
        process, logs = running[name]
        try:
            received[name] = logs.recv()
        except EOFError:
            received[name] = Log(errors=[f"{name} ended without a log"])
        process.join()
    return received


def check(site: Site, logs: Sequence[Log]) -> None:
    """Compare the store with the logs of all processes that changed it."""
    with site.open(clean=False) as opened:
        assert check_integrity(opened.store) == ["ok"]
        check_contents(opened.store)
        _check_shared(opened, logs)
        _check_saved(opened, logs)
        _check_checkpoints(opened, logs)


def _merge(logs: Sequence[Log], name: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for log in logs:
        one = getattr(log, name)
        assert not merged.keys() & one.keys()
        merged |= one
    return merged


def _check_shared(opened: OpenSite, logs: Sequence[Log]) -> None:
    shared = opened.repository.find_by_id(SHARED)
    assert shared is not None
    assert len({cell.id for cell in shared.cells}) == len(shared.cells)
    increments = sum((log.increments for log in logs), Counter())
    numbers = {id: str(increments[id]) for id in COUNTERS}
    assert {cell.id: cell.source for cell in shared.cells} == numbers | _merge(logs, "cells")


def _check_saved(opened: OpenSite, logs: Sequence[Log]) -> None:
    for id in (*SAVED, SLOW):
        notebook = opened.repository.find_by_id(id)
        assert notebook is not None
        # The last of all saves is the last save of some process.
        last = [log.saves[id] for log in logs if id in log.saves] or [Save("initial")]
        assert notebook.cells in [save.cells() for save in last], (notebook.cells, last)
        assert opened.repository.versions.count(id) <= VERSIONS


def _check_checkpoints(opened: OpenSite, logs: Sequence[Log]) -> None:
    repository = opened.repository
    losses, digests = _merge(logs, "losses"), _merge(logs, "digests")
    found = repository.list_checkpoints(SHARED)
    assert len({checkpoint.id for checkpoint in found}) == len(found)
    assert {checkpoint.id: checkpoint.metrics["loss"] for checkpoint in found} == losses
    for checkpoint in found:
        assert repository.versions.get(SHARED, checkpoint.version_id or "") is not None
    epochs = sorted(epoch for log in logs for epoch in log.epochs)
    assert epochs == list(range(1, len(epochs) + 1)), f"epochs of the shared run: {epochs}"
    ranked = sorted(losses, key=losses.__getitem__)
    for minimize, order in ((True, ranked), (False, ranked[::-1])):
        best = repository.checkpoints.list_best(SHARED, "loss", minimize, 10)
        assert [checkpoint.id for checkpoint in best] == order[:10]
    assert {one.id: one.digests["model"] for one in found if one.digests} == digests
    root = Path(opened.states.root)
    files = {
        file.parent.name: file.read_bytes() for file in root.glob("*/*/*") if file.name[0] != "."
    }
    assert {id: hashlib.sha256(content).hexdigest() for id, content in files.items()} == digests
