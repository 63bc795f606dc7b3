"""Processes at once on one store: nobody's change is lost, nobody waits for ever, and nobody sees half of anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from kills.trial import NotebookLocation
from support.engines import ON_DISK, new_url

from .crowd import at_once, check, crowd
from .work import prepare


@pytest.fixture(params=ON_DISK)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> NotebookLocation:
    return NotebookLocation(new_url(request.param, tmp_path, empty=False), tmp_path / "states")


@pytest.mark.parametrize("seed", ["one", "another"])
def test_processes_at_once_lose_nothing_and_leave_nothing(
    seed: str, place: NotebookLocation
) -> None:
    ledgers = crowd(place, workers=4, times=100, seed=seed)
    assert max(ledger.longest for ledger in ledgers.values()) < 30
    removed = Counter(ledgers["sweeper"].removed)
    writes_ahead = place.url.startswith(
        "sqlite:"
    )  # of other engines a transaction may take its time
    for what in ("folders", "versions", "contents", *(["ahead"] if writes_ahead else [])):
        assert removed[what] > 0, removed


def test_processes_that_fork_while_their_threads_write_lose_nothing(
    place: NotebookLocation,
) -> None:
    with place.opened() as before:
        prepare(before.repository)
    task = {"role": "forker", "times": 30, "children": 3}
    ledgers = at_once(place, {"one": task, "other": task})
    assert [ledger.errors for ledger in ledgers.values()] == [[], []]
    check(place, list(ledgers.values()))
