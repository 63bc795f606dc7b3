"""Having processes work at once on one store, and holding it to what they were told is done."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from kills.observed import integrity
from kills.trial import NotebookLocation, Opened
from support.factories import check_contents

from .ledger import Ledger, Save
from .work import COUNTS, ORIGIN, SAVED, SHARED, SLOW, VERSIONS, prepare, stamped

#: Who is at work beside the workers.
OTHERS: dict[str, dict[str, Any]] = {
    "reader": {"role": "reader"},
    "saver": {"role": "saver", "times": 5},
    "sweeper": {"role": "sweeper"},
}


def crowd(place: NotebookLocation, *, workers: int, times: int, seed: str) -> dict[str, Ledger]:
    """Have ``workers`` processes do ``times`` operations each, while others read, save slowly and sweep; everybody's ledger.

    Raises
    ------
    AssertionError
        When the store does not hold what they were told it does, or anything went wrong in one of them.
    """
    with place.opened() as before:
        prepare(before.repository)
    names = [f"w{number}" for number in range(workers)]
    tasks: dict[str, dict[str, Any]] = {
        name: {"role": "worker", "name": name, "seed": f"{seed}.{name}", "times": times}
        for name in names
    }
    ledgers = at_once(place, tasks | OTHERS)
    try:
        check(place, [ledgers[name] for name in (*names, "saver")])
        assert [error for ledger in ledgers.values() for error in ledger.errors] == []
        assert all(ledgers[name].operations == times for name in names)
        assert min(ledgers[role].operations for role in OTHERS) > 0
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    return ledgers


def at_once(place: NotebookLocation, tasks: Mapping[str, dict[str, Any]]) -> dict[str, Ledger]:
    """Have processes do their tasks, all beginning at once; those without an end are told when the others are done."""
    with ExitStack() as stack:
        running = {name: stack.enter_context(_process(place, task)) for name, task in tasks.items()}
        for one in running.values():
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in running.values():
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        endless = [name for name, task in tasks.items() if task["role"] in ("reader", "sweeper")]
        order = [*(name for name in running if name not in endless), *endless]
        return {name: _ledger(running[name]) for name in order}


@contextmanager
def _process(place: NotebookLocation, task: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    given = json.dumps({**task, "url": place.url, "states_root": str(place.states_root)})
    running = subprocess.Popen(
        [sys.executable, "-m", "together.work", given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def _ledger(running: subprocess.Popen[str]) -> Ledger:
    output, _ = running.communicate()  # which closes its standard input
    assert running.returncode == 0, f"a process ended with {running.returncode}"
    return msgspec.json.decode(output, type=Ledger)


def check(place: NotebookLocation, ledgers: Sequence[Ledger]) -> None:
    """Hold the store, as they left it, to the ledgers of all who changed it."""
    with place.opened(swept=False) as after:
        faults = integrity(after.store)
        assert faults == ["ok"], faults
        check_contents(after.store)
        _check_shared(after, ledgers)
        _check_saved(after, ledgers)
        _check_checkpoints(after, ledgers)
        _check_notebooks(after, ledgers)


def _all(ledgers: Sequence[Ledger], name: str) -> dict[str, Any]:
    """A dict of every ledger, put together; no two may share a key."""
    together: dict[str, Any] = {}
    for ledger in ledgers:
        mine = getattr(ledger, name)
        assert not together.keys() & mine.keys()
        together |= mine
    return together


def _check_shared(after: Opened, ledgers: Sequence[Ledger]) -> None:
    shared = after.repository.find_by_id(SHARED)
    assert shared is not None
    assert len({cell.id for cell in shared.cells}) == len(shared.cells)
    counted = sum((Counter(ledger.counted) for ledger in ledgers), Counter())
    numbers = {id: str(counted[id]) for id in COUNTS}
    assert {cell.id: cell.source for cell in shared.cells} == numbers | _all(ledgers, "cells")


def _check_saved(after: Opened, ledgers: Sequence[Ledger]) -> None:
    for id in (*SAVED, SLOW):
        notebook = after.repository.find_by_id(id)
        assert notebook is not None
        # The last of all saves is the last save of somebody.
        last = [ledger.saves[id] for ledger in ledgers if id in ledger.saves] or [Save("at-first")]
        assert notebook.cells in [stamped(save) for save in last], (notebook.cells, last)
        assert after.repository.versions.count(id) <= VERSIONS


def _check_checkpoints(after: Opened, ledgers: Sequence[Ledger]) -> None:
    losses, digests = _all(ledgers, "losses"), _all(ledgers, "digests")
    found = after.repository.list_checkpoints(SHARED)
    assert len({checkpoint.id for checkpoint in found}) == len(found)
    assert {checkpoint.id: checkpoint.metrics["loss"] for checkpoint in found} == losses
    for checkpoint in found:
        assert after.repository.versions.get(SHARED, checkpoint.version_id or "") is not None
    won = sorted(epoch for ledger in ledgers for epoch in ledger.won)
    assert won == list(range(1, len(won) + 1)), (
        f"not one checkpoint was taken at each place of the run: {won}"
    )
    ranked = sorted(losses, key=losses.__getitem__)
    for minimize, order in ((True, ranked), (False, ranked[::-1])):
        best = after.repository.checkpoints.list_best(SHARED, "loss", minimize, 10)
        assert [checkpoint.id for checkpoint in best] == order[:10]
    recorded = {
        checkpoint.id: checkpoint.digests["model"] for checkpoint in found if checkpoint.digests
    }
    assert recorded == digests
    root = Path(after.states.root)
    files = {
        file.parent.name: file.read_bytes() for file in root.glob("*/*/*") if file.name[0] != "."
    }
    assert {id: hashlib.sha256(content).hexdigest() for id, content in files.items()} == digests


def _check_notebooks(after: Opened, ledgers: Sequence[Ledger]) -> None:
    made = [id for ledger in ledgers for id in ledger.notebooks]
    listed = [summary.id for summary in after.repository.list_all()]
    assert sorted(listed) == sorted([SHARED, *SAVED, SLOW, *made])
    paths = [binding.path for binding in after.repository.bindings.list(ORIGIN)]
    assert len(paths) == len(set(paths))
