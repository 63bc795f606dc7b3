"""Kill processes, or database servers, in the middle of operations, and check what they leave."""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from suites import (
    SCENARIOS,
    CrashingServer,
    Kill,
    Outcome,
    Site,
    check_everything_goes,
    check_kill,
    execute,
    execute_and_kill,
    expected_states,
)
from timing import temporary_folder


@dataclass
class Tally:
    """The outcomes of the kills of one kind."""

    kills: int = 0
    took_effect: int = 0
    undone: int = 0
    refused: int = 0
    failures: int = 0
    seconds: float = 0.0

    def count(self, outcome: Outcome, seconds: float) -> None:
        """Add a kill."""
        self.kills += 1
        self.took_effect += outcome.took_effect
        self.undone += not outcome.took_effect
        self.refused += outcome.refused is not None
        self.seconds += seconds


@dataclass
class Kind:
    """A way to kill, drawn from the calls and the duration of an undisturbed operation."""

    draw: Callable[[random.Random, Outcome], Kill]
    tally: Tally = field(default_factory=Tally)


def main() -> None:
    """Kill processes in turn in each way, and print a table."""
    options = _parse_options()
    with temporary_folder(options.folder) as folder, ExitStack() as stack:
        server = None
        if options.url == "postgresql":
            server = stack.enter_context(closing(CrashingServer()))
        kinds = _kinds(options.url)
        sites = _sites(options.url, folder, server)
        dice = random.Random(options.seed)
        site = next(sites)
        turns = itertools.cycle(kinds.values())
        for _ in track(range(options.kills), description="kills", console=Console(stderr=True)):
            if not _kill_once(site, next(turns), dice):
                site = next(sites)
    _report(options, kinds)
    sys.exit(any(kind.tally.failures for kind in kinds.values()))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", default="0", help="determines the operations and kill points")
    parser.add_argument(
        "--url",
        default="sqlite",
        help="sqlite, postgresql (a new server, which is killed too), or the URL of an empty store",
    )
    parser.add_argument("--folder", type=Path, help="folder for the stores, on a real disk")
    return parser.parse_args()


def _sites(url: str, folder: Path, server: CrashingServer | None) -> Iterator[Site]:
    for number in itertools.count():
        states = folder / str(number) / "states"
        states.parent.mkdir()
        if server is not None:
            yield Site(server.url(server.new_database(empty=True)), states, server)
        elif url == "sqlite":
            yield Site(f"sqlite:///{states.parent}/axon.db", states)
        else:
            yield Site(url, states)


def _kinds(url: str) -> dict[str, Kind]:
    def before_a_call(dice: random.Random, outcome: Outcome, **options: bool) -> Kill:
        return Kill(call=dice.randint(1, len(outcome.calls)), **options)

    def after_a_time(dice: random.Random, outcome: Outcome, **options: bool) -> Kill:
        return Kill(after=dice.uniform(0, outcome.seconds), **options)

    kinds = {"before a call": Kind(before_a_call), "after a time": Kind(after_a_time)}
    if url == "sqlite":
        kinds["in a write"] = Kind(lambda dice, _: Kill(file_size=int(10 ** dice.uniform(4, 5.7))))
    if url == "postgresql":
        kinds["the server, before a call"] = Kind(
            lambda dice, outcome: before_a_call(dice, outcome, server=True)
        )
        kinds["the server, after a time"] = Kind(
            lambda dice, outcome: after_a_time(dice, outcome, server=True)
        )
    return kinds


def _kill_once(site: Site, kind: Kind, dice: random.Random) -> bool:
    """Kill one process, which may take several attempts; return whether the check passed."""
    while True:
        name = dice.choice(list(SCENARIOS))
        setup, operation = SCENARIOS[name]
        began = time.monotonic()
        try:
            before, after = expected_states(site, setup, operation)
            with site.open() as opened:
                execute(opened, *setup)
            undisturbed = execute_and_kill(site, operation, Kill())
            kill = kind.draw(dice, undisturbed)
            with site.open() as opened:
                check_everything_goes(opened)
                execute(opened, *setup)
            outcome = check_kill(site, operation, kill, before, after)
            with site.open() as opened:
                check_everything_goes(opened)
        except AssertionError as failure:
            print(f"{name}: {failure}\n", file=sys.stderr)
            kind.tally.failures += 1
            return False
        if outcome.signal is not None or outcome.killed_at is not None or kill.server:
            kind.tally.count(outcome, time.monotonic() - began)
            return True


def _report(options: argparse.Namespace, kinds: dict[str, Kind]) -> None:
    print("| killed | kills | took effect | undone | refused | failed checks | seconds each |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, kind in kinds.items():
        tally = kind.tally
        counts = [tally.kills, tally.took_effect, tally.undone, tally.refused, tally.failures]
        each = tally.seconds / max(1, tally.kills)
        print(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {each:.2f} |")
    print(f"\n{options.url}, seed {options.seed}.")


if __name__ == "__main__":
    main()
