"""The options every benchmark takes, and how it tells its result."""

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
    """The options that all take: sizes, rounds, engines, URL, folder, JSON."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=list(sizes),
        metavar="N",
        help=f"{records} in the store",
    )
    made.add_argument("--rounds", type=int, default=rounds, help="requests timed, of each kind")
    made.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINES,
        default=ENGINES,
        dest="engines",
        help="by default both",
    )
    made.add_argument(
        "--url",
        metavar="postgresql://…",
        help="a PostgreSQL server, as a role that may create databases; by default one is started",
    )
    made.add_argument(
        "--folder", type=Path, help="where the stores are made; has to be on a real disk"
    )
    made.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="the result as JSON, in seconds: instead of the table, or into a file beside it",
    )
    return made


class Goal(NamedTuple):
    """What a median is held to: at most ``ratio`` times the one beside, or less than ``seconds``."""

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

    ``ours`` are the times of a store on ``engine`` with ``size`` records, ``baseline`` those of what is ``beside`` it.
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
        """Our median by the baseline's."""
        return None if self.baseline is None else self.ours.median / self.baseline.median

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        if self.goal is None:
            return None
        if self.goal.ratio is not None:
            return self.ratio is not None and self.ratio <= self.goal.ratio
        return self.goal.seconds is not None and self.ours.median < self.goal.seconds


def report(where: dict[str, Any], rows: Sequence[Row], *, json_to: str | None) -> None:
    """Print the result as a Markdown table, and where it was taken; or as JSON, see :func:`parser`."""
    lines = [{**plain(row), "ratio": row.ratio, "is_met": row.is_met} for row in rows]
    if written({"machine": where, "rows": lines}, json_to=json_to):
        return
    print("| | there | engine | median | p95 | beside | median | p95 | ratio | goal |")
    print("| --- | ---: | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    for row in rows:
        print(f"| {' | '.join(_cells(row))} |")
    print(f"\n{place(where)}")


def written(result: Any, *, json_to: str | None) -> bool:
    """Write ``result`` as :func:`parser` says; whether it is printed, so that nothing else is to be."""
    text = json.dumps(result, indent=2)
    if json_to == "-":
        print(text)
    elif json_to is not None:
        Path(json_to).write_text(text + "\n")
    return json_to == "-"


def plain(row: Any) -> dict[str, Any]:
    """A named tuple, and those within, as JSON has it."""
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
    """What the figures were taken on, in a sentence."""
    return (
        f"Python {where['python']}, {', '.join(where['versions'])}, {where['cores']} cores, {where['file_system']}; "
        f"4 kB write and fsync {milliseconds(where['fsync'])}; load {where['load']:.1f} at the start."
    )


def milliseconds(seconds: float) -> str:
    """Three digits of it; of a second and more in seconds."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
