"""A process may be killed anywhere: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from support.engines import ON_DISK, new_url

from .model import Model
from .nursery import Death, Nursery, nursery
from .plans import SCENARIOS, op, random_plan, trained
from .points import Kill
from .servers import MortalServer, mortal_server
from .trial import NotebookLocation, trial

#: Scenarios in which an operation takes more than one transaction, or files, also where nothing is written ahead; and a save.
IN_STEPS = (
    "save of new sources",
    "delete",
    "checkpoint after its files",
    "attach a state",
    "checkpoint in the place of another",
    "prune",
)


@pytest.fixture(scope="module")
def born() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def new_place(engine: str, folder: Path) -> NotebookLocation:
    return NotebookLocation(new_url(engine, folder, empty=False), folder / "states")


def deaths(
    place: NotebookLocation, born: Nursery, seed: str, draw: Callable[[random.Random], Kill]
) -> Iterator[Death]:
    """Trials of random plans, one after the other; those in which the process was done before its kill are left out."""
    dice = random.Random(seed)
    for number in count():
        death = trial(place, born, random_plan(Model(), f"{seed}.{number}", 30), draw(dice))
        if death.signal is not None:
            yield death


@pytest.mark.parametrize(
    ("engine", "name"),
    # For PostgreSQL a client that is killed is one that went away: one of each kind will do.
    [("sqlite", name) for name in SCENARIOS] + [("postgresql", name) for name in IN_STEPS],
)
def test_an_operation_killed_anywhere_is_done_or_not(
    engine: str, name: str, tmp_path: Path, born: Nursery
) -> None:
    place = new_place(engine, tmp_path)
    setup, operation = SCENARIOS[name]
    number, death = 1, trial(place, born, [operation], Kill(call=1), setup=setup)
    while death.signal is not None:
        number += 1
        death = trial(place, born, [operation], Kill(call=number), setup=setup)
    assert len(death.points) == number - 1 > 2


def test_what_was_written_ahead_of_new_outputs_goes_when_the_next_version_begins(
    tmp_path: Path, born: Nursery
) -> None:
    place = new_place("sqlite", tmp_path)
    setup, operation = SCENARIOS["save of new outputs, written ahead"]
    sources = op("save", "nb", cells=trained(1)[1:])
    number, death = 1, None
    while death is None or death.signal is not None:
        death = trial(place, born, [operation], Kill(call=number), setup=setup, instead=sources)
        number += 1


@pytest.mark.parametrize(
    ("engine", "number"),
    [("sqlite", number) for number in range(12)] + [("postgresql", number) for number in range(4)],
)
def test_a_process_killed_at_any_instant_loses_nothing_acknowledged(
    engine: str, number: int, tmp_path: Path, born: Nursery
) -> None:
    place = new_place(engine, tmp_path)
    seed = f"instant {number}"
    unhurt = trial(place, born, random_plan(Model(), seed, 30), Kill())
    assert unhurt.signal is None
    died = deaths(place, born, seed, lambda dice: Kill(after=dice.uniform(0, unhurt.seconds)))
    in_operations = islice((death for death in died if death.took_effect is not None), 2)
    assert [death.signal for death in in_operations] == [signal.SIGKILL] * 2


@pytest.mark.parametrize("number", range(6))
def test_a_process_killed_in_the_midst_of_a_write_loses_nothing_acknowledged(
    number: int, tmp_path: Path, born: Nursery
) -> None:
    place = new_place("sqlite", tmp_path)
    died = deaths(
        place, born, f"write {number}", lambda dice: Kill(beyond=int(10 ** dice.uniform(4.5, 6)))
    )
    assert [death.signal for death in islice(died, 3)] == [signal.SIGXFSZ] * 3


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_store_that_is_being_made_when_its_maker_is_killed_is_made_by_the_next(
    engine: str, tmp_path: Path, born: Nursery
) -> None:
    setup, operation = SCENARIOS["create"]
    assert not setup
    number, death = 0, None
    while death is None or death.signal is not None:
        number += 1
        folder = tmp_path / str(number)
        place = NotebookLocation(new_url(engine, folder), folder / "states")
        death = trial(place, born, [operation], Kill(call=number), new=True)
    assert sum(point.startswith("CREATE") for point in death.points) > 10


@pytest.fixture(scope="module")
def server() -> Iterator[MortalServer]:
    with mortal_server() as started:
        yield started


@pytest.mark.parametrize("number", range(3))
def test_a_database_server_killed_in_an_operation_loses_nothing_acknowledged(
    number: int, tmp_path: Path, born: Nursery, server: MortalServer
) -> None:
    place = NotebookLocation(server.url(server.new_database()), tmp_path / "states", server)
    seed = f"server {number}"
    dice = random.Random(seed)
    plan = random_plan(Model(), seed, 12)
    unhurt = trial(place, born, plan, Kill())
    death = trial(place, born, plan, Kill(call=dice.randint(1, len(unhurt.points)), server=True))
    assert death.at is not None
    trial(place, born, plan, Kill(after=dice.uniform(0, unhurt.seconds), server=True))
