"""The options of the benchmarks, and the tables of their results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from databases import ENGINES
from timing import Timed


def parser(
    description: str, *, sizes: Sequence[int], rounds: int, records: str
) -> argparse.ArgumentParser:
    """Return a parser with the common options: sizes, rounds, engines, URL, folder, JSON."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=list(sizes),
        metavar="N",
        help=f"number of {records} in the store",
    )
    made.add_argument(
        "--rounds", type=int, default=rounds, help="number of timed requests of each kind"
    )
    made.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINES,
        default=ENGINES,
        dest="engines",
        help="measure this engine; default: all",
    )
    made.add_argument(
        "--url",
        metavar="postgresql://…",
        help="a PostgreSQL server and a role that may create databases; default: start a server",
    )
    made.add_argument("--folder", type=Path, help="folder for the stores, on a real disk")
    made.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return made


class Goal(NamedTuple):
    """The goal of a median: at most `ratio` times the baseline, or less than `seconds`."""

    ratio: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return (
            f"≤ {self.ratio:g} ×"
            if self.ratio is not None
            else f"< {milliseconds(self.seconds or 0)}"
        )


class Row(NamedTuple):
    """A line of the result.

    `ours` are the times of a store on `engine` with `size` records, `baseline` those of `beside`.
    """

    what: str
    size: int
    engine: str
    ours: Timed
    beside: str = ""
    baseline: Timed | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Return this project's median divided by the baseline's."""
        return None if self.baseline is None else self.ours.median / self.baseline.median

    @property
    def is_met(self) -> bool | None:
        """Return whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        if self.goal.ratio is not None:
            return self.ratio is not None and self.ratio <= self.goal.ratio
        return self.goal.seconds is not None and self.ours.median < self.goal.seconds


def report(where: dict[str, Any], rows: Sequence[Row], *, json_to: str | None) -> None:
    """Print the result as a Markdown table with the machine, or as JSON."""
    lines = [{**plain(row), "ratio": row.ratio, "is_met": row.is_met} for row in rows]
    if written({"machine": where, "rows": lines}, json_to=json_to):
        return
    print("| | there | engine | median | p95 | beside | median | p95 | ratio | goal |")
    print("| --- | ---: | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    for row in rows:
        print(f"| {' | '.join(_cells(row))} |")
    print(f"\n{place(where)}")


def written(result: Any, *, json_to: str | None) -> bool:
    """Write the result as JSON to a file or to standard output; return whether it was printed."""
    text = json.dumps(result, indent=2)
    if json_to == "-":
        print(text)
    elif json_to is not None:
        Path(json_to).write_text(text + "\n")
    return json_to == "-"


def plain(row: Any) -> dict[str, Any]:
    """Convert a named tuple and its nested tuples to dicts."""
    return {
        name: plain(value) if hasattr(value, "_asdict") else value
        for name, value in row._asdict().items()
    }


def _cells(row: Row) -> list[str]:
    other = ["", "", ""]
    if row.baseline is not None:
        other = [
            milliseconds(row.baseline.median),
            milliseconds(row.baseline.p95),
            f"{row.ratio:.2g}",
        ]
    goal = "" if row.goal is None else f"{row.goal}{'' if row.is_met else ', missed'}"
    times = [milliseconds(row.ours.median), milliseconds(row.ours.p95)]
    return [row.what, f"{row.size:,}", row.engine, *times, row.beside, *other, goal]


def place(where: dict[str, Any]) -> str:
    """Describe the machine in a sentence."""
    return (
        f"Python {where['python']}, {', '.join(where['versions'])}, {where['cores']} cores, "
        f"{where['file_system']}; 4 kB write and fsync {milliseconds(where['fsync'])}; "
        f"load {where['load']:.1f} at the start."
    )


def milliseconds(seconds: float) -> str:
    """Format a time with three digits, in ms or s."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
