"""Time registering a checkpoint durably, beside a bare transaction with the same rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from databases import Databases, databases
from reporting import Goal, Row, parser, report
from stores import RUN, RawCopy, metrics, new_store_of_checkpoints, open_at, state_path
from timing import describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

_CHECKPOINTS, _METRICS = "axonml_checkpoints", "axonml_metrics"


def main() -> None:
    options = parser(
        str(__doc__), sizes=(1_000, 100_000, 1_000_000), rounds=300, records="checkpoints"
    )
    chosen = options.parse_args()
    rows = []
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = describe_machine(folder, [one.version for one in measured])
        for one in measured:
            rows += measure(one, chosen.sizes, chosen.rounds)
    report(where, rows, json_to=chosen.json)


def measure(databases: Databases, sizes: list[int], rounds: int) -> list[Row]:
    """Time registering in stores of several sizes, and compare the largest with the smallest."""
    with ExitStack() as made:
        pairs = {size: made.enter_context(Pair.made(databases, size)) for size in sizes}
        os.sync()  # nothing may be written back while something is timed

        def prepare(_round: int) -> None:
            for pair in pairs.values():
                pair.look_up()

        ways: dict[tuple[int, str], Callable[[int], None]] = {}
        for size, pair in pairs.items():
            ways |= {(size, "ours"): pair.register, (size, "raw"): pair.write_raw}
        # The sizes take turns too, because they are compared with each other.
        timed = time_side_by_side(ways, rounds, warm_up=20, prepare=prepare)
        for pair in pairs.values():
            pair.check()
    engine, what, goal = databases.engine, "register a checkpoint", Goal(ratio=2.5)
    rows = [
        Row(what, size, engine, timed[size, "ours"], databases.driver, timed[size, "raw"], goal)
        for size in sizes
    ]
    smallest, largest = min(sizes), max(sizes)
    if smallest != largest:
        few, many = timed[smallest, "ours"], timed[largest, "ours"]
        rows.append(
            Row(what, largest, engine, many, f"the same, {smallest:,} there", few, Goal(ratio=1.5))
        )
    return rows


class Pair:
    """A repository with checkpoints, and a bare database to which the same rows are written."""

    def __init__(
        self, repository: NotebookRepository, notebook_id: str, raw: RawCopy, size: int
    ) -> None:
        self._repository = repository
        self._notebook_id = notebook_id
        self._raw = raw
        self._epoch = size
        self._written = ""
        self._inserts: list[Any] = []
        self.register()

    @classmethod
    @contextmanager
    def made(cls, databases: Databases, size: int) -> Iterator[Pair]:
        """Create a pair with `size` checkpoints each."""
        url, notebook_id = new_store_of_checkpoints(databases, size)
        with closing(RawCopy(databases, url)) as raw, open_at(url) as store:
            yield cls(NotebookRepository(store), notebook_id, raw, size)

    def register(self, _round: int = 0) -> None:
        """Register a checkpoint."""
        self._epoch += 1
        registered = self._repository.create_checkpoint(
            NewCheckpoint(
                notebook_id=self._notebook_id,
                run_id=RUN,
                epoch=self._epoch,
                step=self._epoch * 100,
                metrics=metrics(self._epoch),
                model_state_path=state_path(self._notebook_id, self._epoch),
            )
        )
        self._written = registered.id

    def look_up(self) -> None:
        """Read the rows that the repository wrote last, for `write_raw`."""
        ranks = [
            {
                "notebook_id": self._notebook_id,
                "name": name,
                "value": value,
                "checkpoint_id": self._written,
            }
            for name, value in metrics(self._epoch).items()
        ]
        self._inserts = [
            self._raw.replay(_CHECKPOINTS, {"id": self._written}),
            self._raw.replay(_METRICS, *ranks),
        ]

    def write_raw(self, _round: int = 0) -> None:
        """Write these rows to the bare database."""
        self._raw.write(self._inserts)

    def check(self) -> None:
        """Exit if the two databases do not hold the same numbers of rows."""
        self.look_up()
        self.write_raw()
        if difference := self._raw.difference([_CHECKPOINTS, _METRICS]):
            sys.exit(f"not the same rows were written: {difference}")


if __name__ == "__main__":
    main()
