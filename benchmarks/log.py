"""Time logging four metrics a step beside other loggers, and count rows that a kill loses."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from loggers import LOGGERS
from reporting import place, plain, written
from timing import describe_machine, temporary_folder

_BASELINE, _OURS, *_OTHERS = LOGGERS
_LOGGERS = Path(__file__).with_name("loggers.py")
_PACKAGES = {
    "trackio": "trackio",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "mlflow async": "mlflow",
    "tensorboard": "tensorboardX",
}
#: The goals of `axon.log`, called in a loop that does nothing else: seconds.
_MEDIAN_GOAL, _P99_GOAL = 10e-6, 50e-6
#: Seconds of computing before each call, by the description of the loop.
_LOOPS = {"nothing else": 0.0, "1 ms of Python": 0.001}
#: The largest number of seconds for which one loop logs.
_SECONDS = 5.0


class Row(NamedTuple):
    """What one logger took; medians over the rounds.

    Attributes
    ----------
    loop : str
        What the loop did between two calls.
    median, p99 : float
        Seconds of a call.
    rate : float
        Rows per second from the first call until all rows are stored.
    ratio : float or None
        `median` divided by that of the baseline.
    is_met : bool or None
        Whether the goal of `axon.log` is met.
    """

    loop: str
    by: str
    median: float
    p99: float
    rate: float
    rows: int
    ratio: float | None = None
    is_met: bool | None = None


class Kill(NamedTuple):
    """A process that was killed: the rows whose calls had returned, and those of them lost."""

    by: str
    acknowledged: int
    lost: int


def main() -> None:
    chosen = options()
    names = [_BASELINE, _OURS, *chosen.beside]
    packages = sorted({_PACKAGES[name] for name in chosen.beside})
    with temporary_folder(chosen.folder) as folder:
        where = describe_machine(folder, [f"{name} {version(name)}" for name in packages])
        folders = (folder / str(number) for number in count())
        rows = [
            row
            for loop, work in _LOOPS.items()
            for row in time_loops(names, loop, work, chosen, folders)
        ]
        kills = [kill(name, next(folders), chosen.kill_after) for name in names]
    result = {
        "machine": where,
        "rows": [plain(row) for row in rows],
        "kills": [plain(one) for one in kills],
    }
    if not written(result, json_to=chosen.json):
        print_tables(rows, kills)
        print(f"\n{place(where)}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of processes of each kind")
    parser.add_argument("--rows", type=int, default=20_000, help="number of rows of a process")
    parser.add_argument(
        "--kill-after", type=int, default=2_000, metavar="N", help="kill a process after N rows"
    )
    parser.add_argument(
        "--beside", nargs="*", choices=_OTHERS, default=_OTHERS, help="loggers to compare with"
    )
    parser.add_argument("--folder", type=Path, help="folder for the files, on a real disk")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return parser.parse_args()


def time_loops(
    names: Sequence[str], loop: str, work: float, chosen: argparse.Namespace, folders: Any
) -> list[Row]:
    """Log in new processes, those of all loggers in turn; return the medians over the rounds."""
    seen: dict[str, list[Row]] = {name: [] for name in names}
    # A loop that computes takes longer, and needs fewer rows for the same precision.
    rows = chosen.rows if not work else max(chosen.rows // 4, 1)
    for _ in range(chosen.rounds):
        for name in names:
            folder = next(folders)
            timed = child("time", name, folder, rows, _SECONDS, work)
            calls = sorted(timed["calls"])
            stored = len(set(child("steps", name, folder)))
            if stored != len(calls) + 1:
                sys.exit(f"{name}: {stored:,} of {len(calls) + 1:,} rows are stored")
            p99 = calls[math.ceil(0.99 * len(calls)) - 1]
            rate = len(calls) / timed["until_stored"]
            row = Row(loop, name, statistics.median(calls), p99, rate, len(calls))
            seen[name].append(row)
    medians = {name: _median(rows) for name, rows in seen.items()}
    baseline = medians[_BASELINE].median
    return [
        row._replace(ratio=None if name == _BASELINE else row.median / baseline, is_met=_met(row))
        for name, row in medians.items()
    ]


def _median(rows: Sequence[Row]) -> Row:
    columns = {
        name: statistics.median(getattr(row, name) for row in rows)
        for name in ("median", "p99", "rate")
    }
    return rows[0]._replace(**columns, rows=min(row.rows for row in rows))


def _met(row: Row) -> bool | None:
    if row.by != _OURS or _LOOPS[row.loop]:
        return None
    return row.median <= _MEDIAN_GOAL and row.p99 <= _P99_GOAL


def kill(name: str, folder: Path, rows: int) -> Kill:
    """Kill a process that logs after some rows, and count those that its reader lacks."""
    folder.mkdir()
    command = [sys.executable, str(_LOGGERS), "endless", name, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        acknowledged = []
        for line in process.stdout:
            if line.strip().isdigit():  # some loggers print
                acknowledged.append(int(line))
            if len(acknowledged) == rows:
                os.kill(process.pid, signal.SIGKILL)
    found = set(child("steps", name, folder))
    return Kill(name, len(acknowledged), len(set(acknowledged) - found))


def child(what: str, name: str, folder: Path, *numbers: float) -> Any:
    """Run `loggers.py` and return the JSON that it prints."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, _LOGGERS, what, name, folder, *map(str, numbers)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{name}: {ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def print_tables(rows: Sequence[Row], kills: Sequence[Kill]) -> None:
    """Print the results as Markdown."""
    lost = {one.by: f"{one.lost:,} of {one.acknowledged:,}" for one in kills}
    print(
        "| by | between calls | median | p99 | beside JSON lines | rows/s | lost by a kill | goal |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2g}"
        goal = ""
        if row.is_met is not None:
            goal = f"≤ {_microseconds(_MEDIAN_GOAL)}, p99 ≤ {_microseconds(_P99_GOAL)}"
            goal += "" if row.is_met else ", missed"
        times = [_microseconds(row.median), _microseconds(row.p99), ratio, f"{row.rate:,.0f}"]
        print(f"| {' | '.join([row.by, row.loop, *times, lost[row.by], goal])} |")


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.3g} ms"


if __name__ == "__main__":
    main()
