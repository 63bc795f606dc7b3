"""How much memory a Jupyter server with the extension and many notebooks takes, beside the same server without it."""

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
from timing import machine, workplace

_EXTENSION = "jupyter_axon_notebooks"
#: What a server with the extension may take more than one without, in bytes.
_GOAL = 60_000_000
#: Notebooks on a page of the list, saves of a notebook, and its bytes.
_PAGE, _SAVES, _SIZE = 100, 50, 100_000


def main() -> None:
    options = parser(str(__doc__), sizes=(10_000,), rounds=3, records="notebooks")
    chosen = options.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("memory is read from /proc/PID/smaps_rollup, which Linux has")
    rows = []
    with (
        workplace(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = machine(folder, [one.version for one in measured])
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
    """Bytes of a process: resident, its share of what it has in common with others, and what it has alone."""

    rss: int
    pss: int
    uss: int


class Row(NamedTuple):
    """Median bytes with the extension (``ours``) and without (``bare``), and how much more the first are."""

    what: str
    size: int
    engine: str
    ours: Memory
    bare: Memory
    more: int
    is_met: bool


def keep_origin(home: Path) -> None:
    """Have the server in ``home`` take the notebooks of the store for its own, which it keeps in mind."""
    file = home / "data" / "axon_notebooks" / "origin"
    file.parent.mkdir(parents=True)
    file.write_text(ORIGIN + "\n")


def observed(folder: Path, url: str | None = None) -> dict[str, Memory]:
    """What a server takes at several moments; ``url``: with the extension, on that store."""
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
    """Page through the notebooks, which takes the store's worker long enough to have saved what was saved before."""
    offset = 0
    while client.say("GET", f"/axon/notebooks?limit={_PAGE}&offset={offset}"):
        offset += _PAGE


def memory(pid: int) -> Memory:
    """What a process takes now."""
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
    """Medians of several servers."""
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
    """Markdown."""
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
    """In millions of bytes."""
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
