"""Several processes at work on one store at the same time, held to what they were told."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from suites import OTHERS, Ledger, Place, crowd, new_url
from timing import workplace


def main() -> None:
    chosen = _options()
    waiting = Console(stderr=True)
    lines, failed = [], False
    for engine in chosen.engines:
        with (
            workplace(chosen.folder) as folder,
            waiting.status(f"{chosen.processes} processes on {engine}"),
        ):
            place = Place(new_url(engine, folder), folder / "states")
            try:
                ledgers = crowd(
                    place, workers=chosen.processes, times=chosen.operations, seed=chosen.seed
                )
            except AssertionError as failure:
                print(f"{engine}: {failure}\n", file=sys.stderr)
                failed = True
            else:
                lines.append(_line(engine, ledgers))
    print(
        "| | processes | operations | seconds | a second | errors | lost or twice | longest call "
        "| reads meanwhile | sweeps meanwhile |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in lines:
        print(line)
    sys.exit(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--operations", type=int, default=500, help="of each process")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seed", default="0")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; has to be on a real disk"
    )
    return parser.parse_args()


def _line(engine: str, ledgers: dict[str, Ledger]) -> str:
    workers = [ledger for name, ledger in ledgers.items() if name not in OTHERS]
    operations = sum(ledger.operations for ledger in workers)
    slowest = max(ledger.seconds for ledger in workers)
    cells = [
        f"{len(workers)}",
        f"{operations:,}",
        f"{slowest:.1f}",
        f"{operations / slowest:.0f}",
        "0",  # `crowd` ends with an AssertionError where there is one
        "0",
        f"{max(ledger.longest for ledger in workers):.2f} s",
        f"{ledgers['reader'].operations:,}",
        f"{ledgers['sweeper'].operations:,}",
    ]
    return f"| {engine} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
