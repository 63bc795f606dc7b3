"""Timing two or more ways of doing the same, side by side, and telling the result."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jupyter_axon_notebooks.store.sqlite import file_system

#: File systems in memory, on which nothing durable can be timed.
_IN_MEMORY = {"tmpfs", "ramfs"}


_Name = TypeVar("_Name", bound=Hashable)


class Timed(NamedTuple):
    """Seconds a request took: the median, and what 95 of 100 stayed under."""

    median: float
    p95: float
    rounds: int


def side_by_side(
    ways: Mapping[_Name, Callable[[int], Any]],
    rounds: int,
    *,
    warm_up: int = 5,
    repeat: int = 1,
    prepare: Callable[[int], Any] = lambda _round: None,
) -> dict[_Name, Timed]:
    """Time ``ways``, one request of each in turn, so that what else the machine does meets them alike.

    In every second round they go in the opposite order. Each is called with the number of the round; ``prepare``
    likewise, before each round, and is not timed. Of ``repeat`` requests in a row the last is timed: where one way
    goes through so much memory that the processor's caches are empty afterwards, the other is not to pay for it.
    """
    taken: dict[_Name, list[float]] = {name: [] for name in ways}
    for number in range(-warm_up, rounds):
        prepare(number)
        for name in ways if number % 2 else reversed(list(ways)):
            for _ in range(repeat):
                began = time.perf_counter()
                ways[name](number)
                elapsed = time.perf_counter() - began
            if number >= 0:
                taken[name].append(elapsed)
    return {name: _summed_up(times) for name, times in taken.items()}


def _summed_up(times: list[float]) -> Timed:
    ordered = sorted(times)
    return Timed(statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))], len(ordered))


def options(description: str, *, sizes: Sequence[int], rounds: int) -> argparse.Namespace:
    """The options every benchmark takes: sizes, rounds, folder, json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(sizes), metavar="N", help="records in the store"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="requests timed, of each kind")
    parser.add_argument("--folder", type=Path, help="where the stores are made; has to be on a real disk")
    parser.add_argument("--json", action="store_true", help="print JSON, in seconds, instead of a table")
    return parser.parse_args()


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """An empty folder on a disk, removed at the end."""
    if folder is None:
        places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
        folder = next((place for place in places if place.is_dir() and not in_memory(place)), places[-1])
    with tempfile.TemporaryDirectory(prefix="axon-benchmark-", dir=folder) as made:
        yield Path(made)


def in_memory(folder: Path) -> bool:
    """Whether ``folder`` is on a file system that is no disk."""
    return file_system(folder) in _IN_MEMORY


def machine(folder: Path) -> dict[str, Any]:
    """What the numbers were taken on; ``fsync`` is the median of a bare 4 kB write and fsync."""
    taken = []
    with (folder / "probe").open("wb") as probe:
        for _ in range(50):
            began = time.perf_counter()
            probe.write(random.randbytes(4096))
            probe.flush()
            os.fsync(probe.fileno())
            taken.append(time.perf_counter() - began)
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": os.cpu_count(),
        "file_system": file_system(folder),
        "fsync": statistics.median(taken),
    }


class Row(NamedTuple):
    """A line of the result: what was measured, our times, the baseline's, and the measure it is held to."""

    what: str
    ours: Timed
    baseline: Timed
    goal: str

    @property
    def ratio(self) -> float:
        """Our median by the baseline's."""
        return self.ours.median / self.baseline.median


def report(where: dict[str, Any], baseline: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the result: a Markdown table, or JSON."""
    if as_json:
        lines = [
            {
                "what": r.what,
                "ours": r.ours._asdict(),
                "baseline": r.baseline._asdict(),
                "ratio": r.ratio,
                "goal": r.goal,
            }
            for r in rows
        ]
        print(json.dumps({"machine": where, "baseline": baseline, "rows": lines}, indent=2))
        return
    print(f"| | median | p95 | {baseline}, median | p95 | ratio | goal |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for r in rows:
        times = [r.ours.median, r.ours.p95, r.baseline.median, r.baseline.p95]
        print(f"| {r.what} | {' | '.join(map(milliseconds, times))} | {r.ratio:.2f} | {r.goal} |")
    print(
        f"\nPython {where['python']}, SQLite {where['sqlite']}, {where['cores']} cores, {where['file_system']}; "
        f"4 kB write and fsync {milliseconds(where['fsync'])}."
    )


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
