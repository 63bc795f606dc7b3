"""Tests that concurrent processes lose no change, see no partial change and don't wait forever."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engines import ON_DISK
from support.sites import Site, new_site

from .processes import check, run_together, run_workload
from .workload import prepare


@pytest.fixture(params=ON_DISK)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return new_site(request.param, tmp_path)


def test_concurrent_processes_lose_nothing_and_leave_no_garbage(site: Site) -> None:
    logs = run_workload(site, workers=4, times=100, seed="one")
    assert max(log.longest for log in logs.values()) < 30
    removed = logs["collector"].removed
    stages = site.url.startswith("sqlite:")  # transactions on PostgreSQL may be long
    for name in ("folders", "versions", "contents", *(["staged"] if stages else [])):
        assert removed[name] > 0, removed


def test_processes_that_fork_while_their_threads_write_lose_nothing(site: Site) -> None:
    with site.open() as opened:
        prepare(opened.repository)
    task = ("forker", {"times": 30, "children": 3})
    logs = run_together(site, {"one": task, "other": task})
    assert [log.errors for log in logs.values()] == [[], []]
    check(site, list(logs.values()))
