"""Measure a long series: a million logged rows of four metrics, their size, and reading a curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from databases import Databases, databases
from reporting import milliseconds, parser, place, plain, written
from stores import USER, metrics, open_at
from timing import describe_machine, summarize, temporary_folder

from jupyter_axon_notebooks.repository import NotebookRepository

_POINTS = 2_000
#: The goals: bytes per row of four metrics, and seconds to read a curve.
_SIZE_GOAL, _TIME_GOAL = 100, 0.1
_METRIC = "loss"


class Row(NamedTuple):
    """What a store of `size` rows takes.

    Attributes
    ----------
    logged : float
        Seconds of all calls of `axon.log` together.
    stored : float
        Seconds from the first call until the store has all rows.
    bytes_per_row : float
        By how much the store has grown, per row.
    read : float
        Seconds to read one curve at 2,000 points; the median.
    memory : int
        The memory that reading it adds to the peak of a process, in bytes.
    """

    size: int
    engine: str
    logged: float
    stored: float
    bytes_per_row: float
    read: float
    memory: int

    @property
    def is_met(self) -> bool:
        """Return whether both goals are met."""
        return self.bytes_per_row < _SIZE_GOAL and self.read <= _TIME_GOAL


def main() -> None:
    options = parser(str(__doc__), sizes=(100_000, 1_000_000), rounds=20, records="rows")
    chosen = options.parse_args()
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = describe_machine(folder, [one.version for one in measured])
        rows = [
            measure(one, folder / f"{one.engine}-{size}", size, chosen.rounds)
            for one in measured
            for size in chosen.sizes
        ]
    result = {"machine": where, "rows": [{**plain(row), "is_met": row.is_met} for row in rows]}
    if not written(result, json_to=chosen.json):
        print_table(rows)
        print(f"\n{place(where)}")


def measure(databases: Databases, folder: Path, size: int, rounds: int) -> Row:
    """Log rows in a new process, and read a curve in others."""
    folder.mkdir()
    (folder / "train.ipynb").write_text(
        json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    url = databases.new_url()
    with open_at(url):
        pass
    before = store_size(databases, url)
    logged = child("write", folder, url, size)
    databases.settle(url)
    grown = store_size(databases, url) - before
    read = child("read", folder, url, rounds)
    if read["rows"] != size:
        sys.exit(f"{databases.engine}: {read['rows']:,} of {size:,} rows are stored")
    memory = read["peak"] - child("read", folder, url, 0)["peak"]
    return Row(
        size,
        databases.engine,
        logged["logged"],
        logged["stored"],
        grown / size,
        summarize(read["times"]).median,
        memory,
    )


def store_size(databases: Databases, url: str) -> int:
    """Return the bytes of a store."""
    query = "SELECT pg_database_size(current_database())"
    if databases.engine == "sqlite":
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    with closing(databases.connect(url)) as connection:
        return int(connection.execute(query).fetchone()[0])


def child(what: str, folder: Path, url: str, number: int) -> Any:
    """Run this script in a process of its own, and return the JSON that it prints."""
    environment = {
        **os.environ,
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "AXON_NOTEBOOK": str(folder / "train.ipynb"),
        "AXON_STORE_URL": url,
        "AXON_USER": USER,
        "AXON_SYSTEM_METRICS": "0",
    }
    command = [sys.executable, __file__, what, url, str(number)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def write(size: int) -> dict[str, float]:
    """Log rows and wait until the store has them; return seconds."""
    import jupyter_axon_notebooks as axon
    from jupyter_axon_notebooks.training.session import current_session

    began = time.perf_counter()
    for step in range(size):
        axon.log(metrics(step), step=step)
    logged = time.perf_counter()
    logs: Any = current_session().tracker._logs
    if not logs.flush(600):
        sys.exit("the rows are not stored")
    return {"logged": logged - began, "stored": time.perf_counter() - began}


def read(url: str, rounds: int) -> dict[str, Any]:
    """Read a curve some times; return the seconds, its rows, and the peak of memory in bytes."""
    import resource

    import jupyter_axon_notebooks.series  # noqa: F401 - its import is not measured

    times = []
    count = 0
    with open_at(url) as store:
        repository = NotebookRepository(store)
        [notebook] = repository.list_all()
        [run] = repository.runs.list(notebook.id)
        for number in range(rounds + 1 if rounds else 0):
            began = time.perf_counter()
            repository.series.read(notebook.id, run.id, _METRIC, points=_POINTS)
            if number:
                times.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if rounds:
            count = len(repository.series.read(notebook.id, run.id, _METRIC))
    return {"times": times, "rows": count, "peak": peak}


def print_table(rows: Sequence[Row]) -> None:
    """Print the results as Markdown."""
    print("| rows | engine | logged in | stored in | bytes per row | read | memory | goal |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        cells = [
            f"{row.size:,}",
            row.engine,
            milliseconds(row.logged),
            milliseconds(row.stored),
            f"{row.bytes_per_row:.3g}",
            milliseconds(row.read),
            f"{row.memory / 1e6:.1f} MB",
            f"< {_SIZE_GOAL} bytes, ≤ {milliseconds(_TIME_GOAL)}{'' if row.is_met else ', missed'}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        print(json.dumps(write(int(sys.argv[3]))))
    elif sys.argv[1:2] == ["read"]:
        print(json.dumps(read(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
