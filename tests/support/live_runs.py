"""Runs that train at the same time, as the store sees them: rows are logged and checkpoints added.

``PYTHONPATH=tests python -m support.live_runs STORE_URL NOTEBOOK_ID`` trains by hand.
"""

from __future__ import annotations

import argparse
import math
import time
from contextlib import closing

from jupyter_axon_notebooks.records import NewCheckpoint, RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import open_store


class LiveRuns:
    """Runs of one notebook, of which each logs a row per tick."""

    def __init__(self, repository: NotebookRepository, notebook_id: str, count: int) -> None:
        self._repository = repository
        self._notebook_id = notebook_id
        self._ticks = 0
        self.ids = [
            repository.runs.start(
                notebook_id, name=f"live {number}", config={"lr": 10 ** -(1 + number % 4)}
            ).id
            for number in range(count)
        ]

    def tick(self, *, checkpoints: bool = False) -> float:
        """Log one row in each run, and optionally add a checkpoint to each; return the loss of the first."""
        tick = self._ticks
        for number, run_id in enumerate(self.ids):
            values = {"loss": _loss(tick, number), "acc": 1 - _loss(tick, number) / 2}
            self._repository.series.append(
                self._notebook_id,
                run_id,
                [Row(tick, time.time(), values)],
                spool="live",
                begin=tick,
                end=tick + 1,
            )
            if checkpoints:
                self._repository.create_checkpoint(
                    NewCheckpoint(
                        notebook_id=self._notebook_id,
                        run_id=run_id,
                        epoch=tick,
                        step=tick,
                        metrics=values,
                    )
                )
        self._ticks += 1
        return _loss(tick, 0)

    def finish(self) -> None:
        for run_id in self.ids:
            self._repository.runs.update_status(self._notebook_id, run_id, RunStatus.COMPLETED)


def _loss(tick: int, number: int) -> float:
    return round(math.exp(-tick / (10 + number)), 4)


def main() -> None:
    """Train the runs that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("notebook")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--ticks", type=int, default=60)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two ticks")
    arguments = parser.parse_args()
    with closing(open_store(arguments.store)) as store:
        runs = LiveRuns(NotebookRepository(store), arguments.notebook, arguments.runs)
        for tick in range(arguments.ticks):
            runs.tick(checkpoints=tick % 5 == 4)
            print(tick, time.time(), flush=True)
            time.sleep(arguments.interval)
        runs.finish()


if __name__ == "__main__":
    main()
