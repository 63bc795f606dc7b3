"""Run several processes on one store, and compare it with what was acknowledged to them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from suites import OTHERS, Log, new_site, run_workload
from timing import temporary_folder


def main() -> None:
    """Run the workload on each engine, and print a table."""
    options = _parse_options()
    console = Console(stderr=True)
    lines, failed = [], False
    for engine in options.engines:
        with (
            temporary_folder(options.folder) as folder,
            console.status(f"{options.processes} processes on {engine}"),
        ):
            try:
                logs = run_workload(
                    new_site(engine, folder, empty=True),
                    workers=options.processes,
                    times=options.operations,
                    seed=options.seed,
                )
            except AssertionError as failure:
                print(f"{engine}: {failure}\n", file=sys.stderr)
                failed = True
            else:
                lines.append(_line(engine, logs))
    print(
        "| | processes | operations | seconds | per second | longest call "
        "| concurrent reads | concurrent collections |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in lines:
        print(line)
    sys.exit(failed)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--operations", type=int, default=500, help="per process")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seed", default="0")
    parser.add_argument("--folder", type=Path, help="folder for the stores, on a real disk")
    return parser.parse_args()


def _line(engine: str, logs: dict[str, Log]) -> str:
    workers = [log for name, log in logs.items() if name not in OTHERS]
    operations = sum(log.operations for log in workers)
    slowest = max(log.seconds for log in workers)
    cells = [
        f"{len(workers)}",
        f"{operations:,}",
        f"{slowest:.1f}",
        f"{operations / slowest:.0f}",
        f"{max(log.longest for log in workers):.2f} s",
        f"{logs['reader'].operations:,}",
        f"{logs['collector'].operations:,}",
    ]
    return f"| {engine} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
