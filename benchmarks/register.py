"""How long it takes to register a checkpoint, durably, beside a bare SQLite transaction of the same rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stores import RawCopy, add_checkpoints, metrics, new_notebook, new_store
from timing import Row, machine, options, report, side_by_side, workplace

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

_RUN = "7d0c8f0e-1b57-4f5e-9d7e-0c9c1d8a5b10"


def main() -> None:
    chosen = options(str(__doc__), sizes=(1_000, 100_000), rounds=300)
    with workplace(chosen.folder) as folder, ExitStack() as opened:
        where = machine(folder)
        pairs = {size: opened.enter_context(Pair.made(folder / str(size), size)) for size in chosen.sizes}

        def prepare(_round: int) -> None:
            for pair in pairs.values():
                pair.look_up()

        ways: dict[tuple[int, str], Callable[[int], None]] = {}
        for size, pair in pairs.items():
            ways |= {(size, "ours"): pair.register, (size, "raw"): pair.write_raw}
        # All sizes in turn too: what they have to do with each other is a question of its own.
        timed = side_by_side(ways, chosen.rounds, warm_up=20, prepare=prepare)
        for pair in pairs.values():
            pair.check()
    rows = [
        Row(f"register a checkpoint, {size:,} there", timed[size, "ours"], timed[size, "raw"], "≤ 2.5")
        for size in pairs
    ]
    smallest, largest = min(pairs), max(pairs)
    if smallest != largest:
        what = f"the same, {largest:,} there, beside {smallest:,} there"
        rows.append(Row(what, timed[largest, "ours"], timed[smallest, "ours"], "≤ 1.5"))
    report(where, "raw sqlite3", rows, as_json=chosen.json)


class Pair:
    """A repository with checkpoints, and the bare database that writes after it what it wrote."""

    def __init__(self, repository: NotebookRepository, notebook_id: str, raw: RawCopy, size: int) -> None:
        self._repository = repository
        self._notebook_id = notebook_id
        self._raw = raw
        self._epoch = size
        self._written = ""
        self._inserts: list[Any] = []
        self.register()

    @classmethod
    @contextmanager
    def made(cls, folder: Path, size: int) -> Iterator[Pair]:
        """A pair with ``size`` checkpoints each."""
        folder.mkdir()
        with new_store(folder / "axon.db") as store:
            repository = NotebookRepository(store)
            notebook_id = new_notebook(repository)
            repository.create_run(notebook_id, id=_RUN)
            add_checkpoints(store, notebook_id, size, run_id=_RUN)
            raw = RawCopy(folder / "axon.db", folder / "raw.db")
            yield cls(repository, notebook_id, raw, size)
            raw.close()

    def register(self, _round: int = 0) -> None:
        """Register a checkpoint."""
        self._epoch += 1
        registered = self._repository.create_checkpoint(
            NewCheckpoint(
                notebook_id=self._notebook_id,
                run_id=_RUN,
                epoch=self._epoch,
                step=self._epoch * 100,
                metrics=metrics(self._epoch),
                model_state_path=f"/states/{self._notebook_id}/{self._epoch}/model.safetensors",
            )
        )
        self._written = registered.id

    def look_up(self) -> None:
        """Read the rows that the repository wrote last, for :meth:`write_raw`."""
        self._inserts = [
            self._raw.replay("axonml_checkpoints", "id", self._written),
            self._raw.replay("axonml_metrics", "checkpoint_id", self._written),
        ]

    def write_raw(self, _round: int = 0) -> None:
        """Write these rows to the bare database."""
        self._raw.write(self._inserts)

    def check(self) -> None:
        """Exit if the two databases do not hold the same numbers of rows."""
        self.look_up()
        self.write_raw()
        if difference := self._raw.difference():
            sys.exit(f"not the same rows were written: {difference}")


if __name__ == "__main__":
    main()
