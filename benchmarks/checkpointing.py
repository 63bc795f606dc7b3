"""Time checkpoints in the training process, and the import, beside other trackers."""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from reporting import Goal, milliseconds, place, plain, written
from timing import Timed, describe_machine, summarize, temporary_folder, time_side_by_side
from trackers import TRACKERS, tracking

_OURS, *_OTHERS = TRACKERS
_TRACKERS = Path(__file__).with_name("trackers.py")
_BARE = "bare Python"
#: The goal of `import`: seconds beyond a bare Python.
_GOAL = Goal(seconds=0.150)


class Row(NamedTuple):
    """A line of the result: the time that tracker `by` took for `what`.

    `ratio` is the median of this project divided by the median of `by`; `more` is the time beyond a
    bare interpreter, in seconds.
    """

    what: str
    by: str
    timed: Timed
    ratio: float | None = None
    more: float | None = None
    goal: Goal | None = None

    @property
    def is_met(self) -> bool | None:
        """Return whether the goal is met; None without a goal."""
        if self.goal is None or self.goal.seconds is None or self.more is None:
            return None
        return self.more < self.goal.seconds


def main() -> None:
    chosen = options()
    names = [_OURS, *chosen.beside]
    with temporary_folder(chosen.folder) as folder:
        packages = ["numpy", *chosen.beside]
        versions = [
            f"SQLite {sqlite3.sqlite_version}",
            *(f"{name} {version(name)}" for name in packages),
        ]
        where = describe_machine(folder, versions)
        rows = each(folder, names, chosen.rounds)
        rows += first(folder, names, chosen.processes)
        rows += imports(names, chosen.processes)
    lines = [{**plain(row), "is_met": row.is_met} for row in rows]
    if not written({"machine": where, "rows": lines}, json_to=chosen.json):
        print_table(rows)
        print(f"\n{place(where)}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=200, help="number of timed checkpoints of each kind"
    )
    parser.add_argument(
        "--processes", type=int, default=10, help="number of processes of each kind"
    )
    parser.add_argument(
        "--beside", nargs="*", choices=_OTHERS, default=_OTHERS, help="trackers to compare with"
    )
    parser.add_argument("--folder", type=Path, help="folder for the stores, on a real disk")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return parser.parse_args()


def each(folder: Path, names: list[str], rounds: int) -> list[Row]:
    """Time one checkpoint of many: metrics alone, and metrics with the state of a tiny model."""
    warm_up = max(10, rounds // 10)
    with ExitStack() as opened:
        trackers = {name: opened.enter_context(tracking(name, folder / name)) for name in names}
        metrics = time_side_by_side(
            {name: _ignoring(tracker.keep_metrics) for name, tracker in trackers.items()},
            rounds,
            warm_up=warm_up,
        )
        rows = _beside("metrics", metrics)
        if "trackio" in trackers:
            returned = summarize(trackers["trackio"].returned[-rounds:])
            ratio = metrics[_OURS].median / returned.median
            rows.append(Row("metrics", "trackio, in memory only", returned, ratio))
        states = time_side_by_side(
            {name: _ignoring(tracker.keep_state) for name, tracker in trackers.items()},
            rounds,
            warm_up=warm_up,
        )
        kept = {name: tracker.count() for name, tracker in trackers.items()}
        if set(kept.values()) != {2 * (warm_up + rounds)}:
            sys.exit(f"not all was kept: {kept}")
    return rows + _beside("metrics and a state", states)


def _ignoring(keep: Callable[[], None]) -> Callable[[int], None]:
    return lambda _round: keep()


def first(folder: Path, names: list[str], processes: int) -> list[Row]:
    """Time a new Python process until its first checkpoint with a state is stored."""
    commands = {_BARE: ["-c", "import numpy, os; os._exit(0)"]} | {
        name: [str(_TRACKERS), name, str(folder / name)] for name in names
    }
    return _beside("first of a process", _started(commands, processes))


def imports(names: list[str], processes: int) -> list[Row]:
    """Time a new Python process until the package is imported."""
    lines = {_BARE: ""} | {name: f"import {name}" for name in names}
    lines[f"{_OURS}, axon.checkpoint"] = f"import {_OURS} as axon; axon.checkpoint"
    commands = {by: ["-c", f"import os; {line}\nos._exit(0)"] for by, line in lines.items()}
    rows = _beside("import", _started(commands, processes))
    return [row._replace(goal=_GOAL) if row.by == _OURS else row for row in rows]


def _started(commands: dict[str, list[str]], processes: int) -> dict[str, Timed]:
    def run(arguments: list[str]) -> None:
        ended = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            sys.exit(ended.stderr)

    return time_side_by_side(
        {
            by: (lambda _round, arguments=arguments: run(arguments))
            for by, arguments in commands.items()
        },
        processes,
        warm_up=1,  # create the stores and compile the modules
    )


def _beside(what: str, timed: dict[str, Timed]) -> list[Row]:
    """Return one row per way, less the time of a bare Python if that was measured."""
    bare = timed.get(_BARE)
    spent = {
        by: one.median - (bare.median if bare else 0) for by, one in timed.items() if by != _BARE
    }
    rows = [] if bare is None else [Row(what, _BARE, bare)]
    for by, seconds in spent.items():
        ratio = None if by.startswith(_OURS) else spent[_OURS] / seconds
        rows.append(Row(what, by, timed[by], ratio, seconds if bare else None))
    return rows


def print_table(rows: list[Row]) -> None:
    """Print the result as Markdown."""
    print("| | by | median | p95 | more than bare Python | ours by theirs | goal |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        more = "" if row.more is None else milliseconds(row.more)
        ratio = "" if row.ratio is None else f"{row.ratio:.2g}"
        goal = "" if row.goal is None else f"{row.goal}{'' if row.is_met else ', missed'}"
        times = [milliseconds(row.timed.median), milliseconds(row.timed.p95)]
        print(f"| {' | '.join([row.what, row.by, *times, more, ratio, goal])} |")


if __name__ == "__main__":
    main()
