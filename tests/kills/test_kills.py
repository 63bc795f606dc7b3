"""A process may be killed anywhere: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import ENGINES, new_url

from .model import Model
from .nursery import Nursery, nursery
from .plans import SCENARIOS, random_plan
from .points import Kill
from .trial import Place, trial

ON_DISK = tuple(engine for engine in ENGINES if engine != "memory")


@pytest.fixture(scope="module")
def born() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.fixture(params=ON_DISK)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(new_url(request.param, tmp_path, empty=False), tmp_path / "states")


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_operation_killed_anywhere_is_done_or_not(name: str, place: Place, born: Nursery) -> None:
    setup, operation = SCENARIOS[name]
    number, death = 1, trial(place, born, [operation], Kill(call=1), setup=setup)
    while death.signal is not None:
        number += 1
        death = trial(place, born, [operation], Kill(call=number), setup=setup)
    assert len(death.points) == number - 1 > 2


@pytest.mark.parametrize("number", range(12))
def test_a_process_killed_at_any_instant_loses_nothing_acknowledged(
    number: int, place: Place, born: Nursery
) -> None:
    seed = f"instant {number}"
    dice = random.Random(seed)
    unhurt = trial(place, born, random_plan(Model(), seed, 30), Kill())
    assert unhurt.signal is None
    for again in range(2):
        plan = random_plan(Model(), f"{seed}.{again}", 30)
        trial(place, born, plan, Kill(after=dice.uniform(0, unhurt.seconds)))


@pytest.mark.parametrize("number", range(6))
def test_a_process_killed_in_the_midst_of_a_write_loses_nothing_acknowledged(
    number: int, place: Place, born: Nursery
) -> None:
    seed = f"write {number}"
    dice = random.Random(seed)
    for again in range(3):
        plan = random_plan(Model(), f"{seed}.{again}", 30)
        death = trial(place, born, plan, Kill(beyond=int(10 ** dice.uniform(4.5, 6))))
        assert death.signal in (None, signal.SIGXFSZ)


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
        place = Place(new_url(engine, folder), folder / "states")
        death = trial(place, born, [operation], Kill(call=number), new=True)
    assert sum(point.startswith("CREATE") for point in death.points) > 10
