"""Tests that killed operations are atomic, and acknowledged ones durable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import ON_DISK
from support.sites import Site, new_site

from .checks import check_everything_goes, check_kill, expected_states
from .killing import Kill, execute_and_kill
from .operations import (
    SCENARIOS,
    execute,
)
from .servers import CrashingServer

#: Scenarios with several transactions or files. PostgreSQL only sees that a connection is closed.
SEVERAL_STEPS = (
    "save new sources",
    "delete",
    "record a checkpoint",
    "attach a state",
    "replace a checkpoint",
    "prune",
)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("sqlite", name) for name in SCENARIOS] + [("postgresql", name) for name in SEVERAL_STEPS],
)
def test_an_operation_killed_anywhere_is_atomic(engine: str, name: str, tmp_path: Path) -> None:
    site = new_site(engine, tmp_path)
    setup, operation = SCENARIOS[name]
    before, after = expected_states(site, setup, operation)
    number, is_killed = 0, True
    while is_killed:
        number += 1
        with site.open() as opened:
            execute(opened, *setup)
        outcome = check_kill(site, operation, Kill(call=number), before, after)
        is_killed = outcome.signal is not None
        with site.open() as opened:
            check_everything_goes(opened)
    assert len(outcome.calls) == number - 1 > 2


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_store_whose_creation_was_killed_is_created_by_the_next_process(
    engine: str, tmp_path: Path
) -> None:
    _, operation = SCENARIOS["create"]
    before, after = expected_states(new_site(engine, tmp_path, empty=True), [], operation)
    number, is_killed = 0, True
    while is_killed:
        number += 1
        site = new_site(engine, tmp_path / str(number), empty=True)
        outcome = check_kill(site, operation, Kill(call=number), before, after)
        is_killed = outcome.signal is not None
    assert sum(call.startswith("CREATE") for call in outcome.calls) > 10


@pytest.fixture(scope="module")
def server() -> Iterator[CrashingServer]:
    started = CrashingServer()
    yield started
    started.close()


@pytest.mark.parametrize("name", ["save new sources", "record a checkpoint", "delete"])
def test_a_database_server_killed_in_an_operation_loses_nothing_acknowledged(
    name: str, tmp_path: Path, server: CrashingServer
) -> None:
    site = Site(server.url(server.new_database()), tmp_path / "states", server)
    setup, operation = SCENARIOS[name]
    before, after = expected_states(site, setup, operation)
    with site.open() as opened:
        execute(opened, *setup)
    undisturbed = execute_and_kill(site, operation, Kill())
    dice = random.Random(name)
    for kill in (
        Kill(call=dice.randint(1, len(undisturbed.calls)), server=True),
        Kill(call=len(undisturbed.calls), server=True),
        Kill(after=dice.uniform(0, undisturbed.seconds), server=True),
    ):
        with site.open() as opened:
            check_everything_goes(opened)
            execute(opened, *setup)
        check_kill(site, operation, kill, before, after)
