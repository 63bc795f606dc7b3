"""What is left when processes are killed in the middle of their work, hundreds of times."""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from suites import Death, Kill, Model, Nursery, Place, mortal_server, nursery, random_plan, trial
from timing import workplace

#: Operations in a plan.
_LENGTH = 30


@dataclass
class Tally:
    """What came of the kills of one kind."""

    kills: int = 0
    acknowledged: int = 0
    took_effect: int = 0
    undone: int = 0
    refused: int = 0
    failures: int = 0
    seconds: float = 0.0

    def count(self, death: Death, seconds: float) -> None:
        """Add a kill."""
        self.kills += 1
        self.acknowledged += death.returned
        self.took_effect += death.took_effect is True
        self.undone += death.took_effect is False
        self.refused += death.refused is not None
        self.seconds += seconds


@dataclass
class Kind:
    """A way to be killed: how one of them is drawn, and whether the store is a new one each time."""

    draw: Callable[[random.Random], Kill]
    new: bool = False
    tally: Tally = field(default_factory=Tally)


def main() -> None:
    chosen = _options()
    with workplace(chosen.folder) as folder, nursery() as born, ExitStack() as stack:
        server = stack.enter_context(mortal_server()) if chosen.url == "postgresql" else None
        numbers = itertools.count()

        def places() -> Iterator[Place]:
            for number in numbers:
                states = folder / str(number) / "states"
                states.parent.mkdir()
                if server is not None:
                    yield Place(server.url(server.new_database(empty=True)), states, server)
                elif chosen.url == "sqlite":
                    yield Place(f"sqlite:///{states.parent}/axon.db", states)
                else:
                    yield Place(chosen.url, states)

        made = places()
        kinds = _kinds(*_measured(next(made), born, chosen.seed), url=chosen.url)
        _kill(chosen, made, born, kinds)
    _report(chosen, kinds)
    sys.exit(any(kind.tally.failures for kind in kinds.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument(
        "--seed", default="0", help="what is drawn follows from it, but for the instants"
    )
    parser.add_argument(
        "--url",
        default="sqlite",
        help="sqlite, a file of its own; postgresql, a server of its own, which is killed as well; or the URL of a store "
        "with nothing in it",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; has to be on a real disk"
    )
    return parser.parse_args()


def _measured(place: Place, born: Nursery, seed: str) -> tuple[int, float]:
    """How many calls a plan has in which a process can be killed, and how many seconds it takes."""
    deaths = [
        trial(place, born, random_plan(Model(), f"{seed} measured {n}", _LENGTH), Kill())
        for n in range(3)
    ]
    return max(len(death.points) for death in deaths), max(death.seconds for death in deaths)


def _kinds(points: int, seconds: float, *, url: str) -> dict[str, Kind]:
    kinds = {
        "before a call": Kind(lambda dice: Kill(call=dice.randint(1, points))),
        "at an instant": Kind(lambda dice: Kill(after=dice.uniform(0, seconds))),
        "while the store is made": Kind(lambda dice: Kill(call=dice.randint(1, 60)), new=True),
    }
    if url == "sqlite":
        kinds["in the midst of a write"] = Kind(
            lambda dice: Kill(beyond=int(10 ** dice.uniform(4, 5.7)))
        )
    if url == "postgresql":
        kinds["the server, before a call"] = Kind(
            lambda dice: Kill(call=dice.randint(1, points), server=True)
        )
        kinds["the server, at an instant"] = Kind(
            lambda dice: Kill(after=dice.uniform(0, seconds), server=True)
        )
    if not url.isalpha():  # somebody's own database cannot be made anew
        del kinds["while the store is made"]
    return kinds


def _kill(
    chosen: argparse.Namespace, places: Iterator[Place], born: Nursery, kinds: dict[str, Kind]
) -> None:
    place = next(places)
    turns = itertools.cycle(kinds.values())
    attempts = itertools.count()
    for _ in track(range(chosen.kills), description="kills", console=Console(stderr=True)):
        kind = next(turns)
        killed = False
        while (
            not killed
        ):  # a process may be done before it comes to the place it was to be killed at
            seed = f"{chosen.seed}.{next(attempts)}"
            dice = random.Random(seed)
            here = next(places) if kind.new else place
            began = time.monotonic()
            try:
                kill = kind.draw(dice)
                death = trial(here, born, random_plan(Model(), seed, _LENGTH), kill, new=kind.new)
            except AssertionError as failure:
                print(f"seed {seed}: {failure}\n", file=sys.stderr)
                kind.tally.failures += 1
                place = next(places)
                break
            killed = (
                death.signal is not None
                or death.at is not None
                or (kill.server and kill.after is not None)
            )
            if killed:
                kind.tally.count(death, time.monotonic() - began)


def _report(chosen: argparse.Namespace, kinds: dict[str, Kind]) -> None:
    print(
        "| killed | kills | acknowledged before | cut short: there, whole | cut short: not there | refused "
        "| lost, twice, torn or left over | seconds each |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, kind in kinds.items():
        tally = kind.tally
        counts = [
            tally.kills,
            tally.acknowledged,
            tally.took_effect,
            tally.undone,
            tally.refused,
            tally.failures,
        ]
        each = tally.seconds / max(1, tally.kills)
        print(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {each:.2f} |")
    print(f"\n{chosen.url}, seed {chosen.seed}, plans of {_LENGTH} operations.")


if __name__ == "__main__":
    main()
