"""Timing two or more ways of doing the same, side by side, and the place to do so."""

from __future__ import annotations

import math
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jupyter_axon_notebooks.store.sqlite.files import file_system

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

    Each round begins with another of them, and every second one goes in the opposite order, since what precedes a
    request decides what it finds in the processor's caches. Each is called with the number of the round; ``prepare``
    likewise, before each round, and is not timed. Of ``repeat`` requests in a row the last is timed: where one way
    goes through so much memory that the processor's caches are empty afterwards, the other is not to pay for it.
    """
    taken: dict[_Name, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(-warm_up, rounds):
        prepare(number)
        first = (number // 2) % len(names)
        turns = names[first:] + names[:first]
        for name in turns if number % 2 else reversed(turns):
            for _ in range(repeat):
                began = time.perf_counter()
                ways[name](number)
                elapsed = time.perf_counter() - began
            if number >= 0:
                taken[name].append(elapsed)
    return {name: summed_up(times) for name, times in taken.items()}


def summed_up(times: Sequence[float]) -> Timed:
    """What is told of times that were taken."""
    ordered = sorted(times)
    return Timed(
        statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1], len(ordered)
    )


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """An empty folder on a disk, removed at the end, also when that is a SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if folder is None:
        places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
        folder = next(
            (place for place in places if place.is_dir() and not in_memory(place)), places[-1]
        )
    with tempfile.TemporaryDirectory(prefix="axon-benchmark-", dir=folder) as made:
        yield Path(made)


def in_memory(folder: Path) -> bool:
    """Whether ``folder`` is on a file system that is no disk."""
    return file_system(folder) in _IN_MEMORY


def machine(folder: Path, versions: Sequence[str] = ()) -> dict[str, Any]:
    """What the numbers were taken on.

    ``fsync`` is the median of a bare 4 kB write and fsync, ``load`` how many processes wanted to run in the last minute,
    ``versions`` what was measured.
    """
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
        "versions": [*versions],
        "cores": os.cpu_count(),
        "file_system": file_system(folder),
        "fsync": statistics.median(taken),
        "load": os.getloadavg()[0],
    }
