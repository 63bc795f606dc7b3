"""How long it takes to find the best checkpoint of a notebook, beside sorting its documents in memory."""

from __future__ import annotations

import sys
from pathlib import Path

from stores import add_checkpoints, new_notebook, new_store
from timing import Row, machine, options, report, side_by_side, workplace

from jupyter_axon_notebooks.metrics import rankable, resolve
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document

_RUN = "7d0c8f0e-1b57-4f5e-9d7e-0c9c1d8a5b10"
_METRIC = "loss"


def main() -> None:
    chosen = options(str(__doc__), sizes=(1_000, 10_000, 100_000), rounds=20)
    rows = []
    with workplace(chosen.folder) as folder:
        where = machine(folder)
        for size in chosen.sizes:
            for tied in (False, True):
                rows += measure(folder / f"{size}-{tied}", size, chosen.rounds, tied=tied)
    report(where, "sorted documents", rows, as_json=chosen.json)


def measure(folder: Path, size: int, rounds: int, *, tied: bool) -> list[Row]:
    """Times of the lowest and of the highest, of ``size`` checkpoints; ``tied``: all with the same value."""
    folder.mkdir()
    rows = []
    with new_store(folder / "axon.db") as store:
        repository = NotebookRepository(store)
        notebook_id = new_notebook(repository)
        add_checkpoints(store, notebook_id, size, run_id=_RUN, tied=tied)
        documents = store.checkpoints.all()
        for minimize in (True, False):

            def ours(_round: int, minimize: bool = minimize) -> str | None:
                best = repository.get_best_checkpoint(notebook_id, _METRIC, minimize)
                return None if best is None else best.id

            def plain(_round: int, minimize: bool = minimize) -> str:
                return by_sorting(documents, minimize=minimize)

            if ours(0) != plain(0):
                sys.exit("the two do not agree on which is best")
            timed = side_by_side({"ours": ours, "plain": plain}, rounds, warm_up=1, repeat=2)
            kind = f"{'lowest' if minimize else 'highest'} of {size:,}{', all tied' if tied else ''}"
            rows.append(Row(kind, timed["ours"], timed["plain"], "< 0.5 ms"))
    return rows


def by_sorting(documents: list[Document], *, minimize: bool) -> str:
    """The id of the best of ``documents``, which are in memory already."""

    def place(document: Document) -> tuple[float, str, str]:
        value = rankable(resolve(document["metrics"], _METRIC))
        assert value is not None
        return value if minimize else -value, document["created_at"], document["id"]

    return str(sorted(documents, key=place)[0]["id"])


if __name__ == "__main__":
    main()
