"""Timing several ways of the same operation side by side."""

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

#: File systems in memory, on which durability costs nothing.
_IN_MEMORY = {"tmpfs", "ramfs"}


_Name = TypeVar("_Name", bound=Hashable)


class Timed(NamedTuple):
    """The median and the 95th percentile of a request, in seconds."""

    median: float
    p95: float
    rounds: int


def time_side_by_side(
    ways: Mapping[_Name, Callable[[int], Any]],
    rounds: int,
    *,
    warm_up: int = 5,
    repeat: int = 1,
    prepare: Callable[[int], Any] = lambda _round: None,
) -> dict[_Name, Timed]:
    """Time several ways, one request of each in turn, so that other load affects them equally.

    Each round begins with another way, and every second round is reversed, because the previous
    request determines what is in the processor's caches. Each way is called with the number of the
    round; so is `prepare`, untimed, before each round. Of `repeat` requests in a row only the last
    is timed, for ways that empty the caches for the others.
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
    return {name: summarize(times) for name, times in taken.items()}


def summarize(times: Sequence[float]) -> Timed:
    """Return the summary of measured times."""
    ordered = sorted(times)
    return Timed(
        statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1], len(ordered)
    )


@contextmanager
def temporary_folder(folder: Path | None) -> Iterator[Path]:
    """Create an empty folder on a disk, and remove it at the end or on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if folder is None:
        places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
        folder = next(
            (place for place in places if place.is_dir() and not is_in_memory(place)), places[-1]
        )
    with tempfile.TemporaryDirectory(prefix="axon-benchmark-", dir=folder) as made:
        yield Path(made)


def is_in_memory(folder: Path) -> bool:
    """Return whether a folder is on a file system in memory."""
    return file_system(folder) in _IN_MEMORY


def describe_machine(folder: Path, versions: Sequence[str] = ()) -> dict[str, Any]:
    """Return a description of the machine.

    `fsync` is the median time of a bare 4 kB write with fsync in seconds, `load` the load average
    of the last minute.
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
