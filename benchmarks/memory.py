"""Measure the memory of a Jupyter server with the extension, beside one without it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from databases import databases
from notebooks import TrainingNotebook
from reporting import parser, place, plain, written
from servers import Client, jupyter_server
from stores import ORIGIN, USER, new_store_of_notebooks
from timing import describe_machine, temporary_folder

_EXTENSION = "jupyter_axon_notebooks"
#: The goal: bytes more than without the extension.
_GOAL = 60_000_000
#: The size of a page of the list, the number of saves, and the size of the saved notebook in bytes.
_PAGE, _SAVES, _SIZE = 100, 50, 100_000


def main() -> None:
    options = parser(str(__doc__), sizes=(10_000,), rounds=3, records="notebooks")
    chosen = options.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("memory is read from /proc/PID/smaps_rollup, which Linux has")
    rows = []
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = describe_machine(folder, [one.version for one in measured])
        bare = [observed(folder / "bare") for _ in range(chosen.rounds)]
        for one in measured:
            for size in chosen.sizes:
                home = folder / f"{one.engine}-{size}"
                url = new_store_of_notebooks(one, size, users=1, root=home.resolve() / "root")
                keep_origin(home)
                seen = [observed(home, url) for _ in range(chosen.rounds)]
                rows += [compared(moment, size, one.engine, seen, bare) for moment in seen[0]]
    result = {"machine": where, "rows": [plain(row) for row in rows]}
    if not written(result, json_to=chosen.json):
        print_table(where, rows)


class Memory(NamedTuple):
    """The memory of a process in bytes: resident, proportional (PSS) and unique (USS)."""

    rss: int
    pss: int
    uss: int


class Row(NamedTuple):
    """The median bytes with the extension (`ours`) and without it (`bare`), and the difference."""

    what: str
    size: int
    engine: str
    ours: Memory
    bare: Memory
    more: int
    is_met: bool


def keep_origin(home: Path) -> None:
    """Give the server in `home` the origin of the notebooks, so that it keeps their paths."""
    file = home / "data" / "axon_notebooks" / "origin"
    file.parent.mkdir(parents=True)
    file.write_text(ORIGIN + "\n")


def observed(folder: Path, url: str | None = None) -> dict[str, Memory]:
    """Return the memory of a server at several moments, with the extension if `url` is given."""
    seen = {}
    extensions = [] if url is None else [_EXTENSION]
    settings = {} if url is None else {"AxonNotebooks": {"store_url": url, "user_id": USER}}
    with jupyter_server(folder, extensions, settings) as client:
        client.say("GET", "/api/status")
        seen["after the start"] = memory(client.pid)
        if url is not None:
            list_all(client)
        seen["after listing all"] = memory(client.pid)
        notebook = TrainingNotebook(_SIZE)
        for _ in range(_SAVES):
            client.ask("PUT", "/api/contents/train.ipynb", notebook.body())
        if url is not None:
            list_all(client)
        seen[f"after {_SAVES} saves of {_SIZE // 1000} KB"] = memory(client.pid)
    return seen


def list_all(client: Client) -> None:
    """Page through all notebooks. The answers wait for the saves before."""
    offset = 0
    while client.say("GET", f"/axon/notebooks?limit={_PAGE}&offset={offset}"):
        offset += _PAGE


def memory(pid: int) -> Memory:
    """Return the present memory of a process."""
    lines = (
        line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    found = {line[0]: int(line[1]) * 1024 for line in lines}
    return Memory(found["Rss:"], found["Pss:"], found["Private_Clean:"] + found["Private_Dirty:"])


def compared(
    moment: str,
    size: int,
    engine: str,
    ours: Sequence[dict[str, Memory]],
    bare: Sequence[dict[str, Memory]],
) -> Row:
    """Return the medians over several servers."""
    with_it, without = (
        Memory(
            *(
                int(statistics.median(values))
                for values in zip(*(seen[moment] for seen in all_seen), strict=True)
            )
        )
        for all_seen in (ours, bare)
    )
    more = with_it.pss - without.pss
    return Row(moment, size, engine, with_it, without, more, more < _GOAL)


def print_table(where: dict[str, Any], rows: Sequence[Row]) -> None:
    """Print the result as Markdown."""
    print(
        "| | there | engine | PSS | USS | RSS | bare server, PSS | USS | RSS | more, PSS | goal |"
    )
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        cells = [megabytes(value) for m in (row.ours, row.bare) for value in (m.pss, m.uss, m.rss)]
        goal = f"< {_GOAL // 1_000_000} MB{'' if row.is_met else ', missed'}"
        named = f"{row.what} | {row.size:,} | {row.engine}"
        print(f"| {named} | {' | '.join(cells)} | {megabytes(row.more)} | {goal} |")
    print(f"\n{place(where)}")


def megabytes(size: int) -> str:
    """Format bytes as megabytes."""
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
