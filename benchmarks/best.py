"""Time finding the best checkpoint of a notebook, beside sorting its documents in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from databases import Databases, databases
from reporting import Goal, Row, parser, report
from stores import metrics, new_store_of_checkpoints, open_at
from timing import describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.metrics import finite_number, resolve
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document

_METRIC = "loss"
_GOAL = Goal(seconds=0.0005)
#: The largest number of documents that are sorted in memory.
_MOST_SORTED = 100_000


def main() -> None:
    options = parser(
        str(__doc__), sizes=(1_000, 10_000, 100_000, 1_000_000), rounds=20, records="checkpoints"
    )
    chosen = options.parse_args()
    rows = []
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = describe_machine(folder, [one.version for one in measured])
        for one in measured:
            for size in chosen.sizes:
                for tied in (False, True):
                    rows += measure(one, size, chosen.rounds, tied=tied)
    report(where, rows, json_to=chosen.json)


def measure(databases: Databases, size: int, rounds: int, *, tied: bool) -> list[Row]:
    """Time finding the lowest and the highest of `size` checkpoints, all equal if `tied`."""
    rows = []
    url, notebook_id = new_store_of_checkpoints(databases, size, tied=tied)
    with open_at(url) as store:
        repository = NotebookRepository(store)
        documents = store.checkpoints.all() if size <= _MOST_SORTED else []
        for minimize in (True, False):

            def ours(_round: int, minimize: bool = minimize) -> int | None:
                best = repository.get_best_checkpoint(notebook_id, _METRIC, minimize)
                return None if best is None else best.epoch

            def plain(_round: int, minimize: bool = minimize) -> int:
                return by_sorting(documents, minimize=minimize)

            ways: dict[str, Callable[[int], Any]] = {"ours": ours}
            if documents:
                ways["plain"] = plain
            expected = plain(0) if documents else by_counting(size, minimize=minimize, tied=tied)
            if ours(0) != expected:
                sys.exit("the two do not agree on which is best")
            timed = time_side_by_side(ways, rounds, warm_up=1, repeat=2)
            direction = "lowest" if minimize else "highest"
            what = f"best checkpoint, {direction}{', all tied' if tied else ''}"
            beside = "sorting the documents" if documents else ""
            rows.append(
                Row(what, size, databases.engine, timed["ours"], beside, timed.get("plain"), _GOAL)
            )
    return rows


def by_sorting(documents: list[Document], *, minimize: bool) -> int:
    """Return the epoch of the best document, by sorting."""

    def place(document: Document) -> tuple[float, str, str]:
        value = finite_number(resolve(document["metrics"], _METRIC))
        assert value is not None
        return value if minimize else -value, document["created_at"], document["id"]

    return int(sorted(documents, key=place)[0]["epoch"])


def by_counting(size: int, *, minimize: bool, tied: bool) -> int:
    """Return the epoch of the best checkpoint, computed from how the metrics are generated."""

    def loss(epoch: int) -> float:
        return metrics(epoch, tied=tied)[_METRIC]

    return min(range(size), key=loss) if minimize else max(range(size), key=loss)


if __name__ == "__main__":
    main()
