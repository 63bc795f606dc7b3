"""Time registering a checkpoint and finding the best, beside MLflow on SQLite."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from databases import Databases, databases
from reporting import Goal, Row, parser, report
from servers import Client, jupyter_server, mlflow_server
from stores import RUN, USER, metrics, new_store_of_checkpoints, open_at, state_path
from timing import Timed, describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

if TYPE_CHECKING:
    from tracked import Tracked

#: The largest number of checkpoints for which MLflow is measured.
_MLFLOW_MOST = 10_000
_METRIC = "loss"
_MLFLOW = "mlflow"


class Way(NamedTuple):
    """A measured operation, its transport, and the engine or MLflow function that executes it."""

    what: str
    over: str
    by: str


_Ways = dict[Way, Callable[[int], Any]]


def main() -> None:
    options = parser(
        str(__doc__), sizes=(1_000, 10_000, 100_000), rounds=100, records="checkpoints"
    )
    options.add_argument("--without-mlflow", action="store_true", help="measure this project alone")
    chosen = options.parse_args()
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        versions = [one.version for one in measured]
        if not chosen.without_mlflow:
            from tracked import VERSION

            versions.append(VERSION)
        where = describe_machine(folder, versions)
        rows = []
        for size in chosen.sizes:
            beside = size <= _MLFLOW_MOST and not chosen.without_mlflow
            rows += measure(measured, folder / str(size), size, chosen.rounds, beside=beside)
    report(where, rows, json_to=chosen.json)


def measure(
    measured: list[Databases], folder: Path, size: int, rounds: int, *, beside: bool
) -> list[Row]:
    """Time all ways with `size` checkpoints, including MLflow's if `beside`."""
    folder.mkdir()
    with ExitStack() as made:
        ways: _Ways = {}
        for one in measured:
            ways |= made.enter_context(ours(one, folder / one.engine, size))
        if beside:
            ways |= made.enter_context(open_mlflow(folder / _MLFLOW, size))
        best = {way: ask(0) for way, ask in ways.items() if way.what == "best"}
        if len(set(best.values())) != 1:
            sys.exit(f"they do not agree on which is best: {best}")
        os.sync()
        timed = time_side_by_side(ways, rounds, warm_up=10)
    return compare_ways(timed, [one.engine for one in measured], size)


def compare_ways(timed: dict[Way, Timed], engines: list[str], size: int) -> list[Row]:
    """Pair each way of this project with each of MLflow's ways of the same operation."""
    rows = []
    for way, ours in timed.items():
        if way.by not in engines:
            continue
        others = {
            other.by: t
            for other, t in timed.items()
            if other[:2] == way[:2] and other.by not in engines
        }
        goal = Goal(seconds=0.006) if way[:2] == ("register", "HTTP") else None
        for beside, baseline in (others or {"": None}).items():
            rows.append(Row(f"{way.what}, {way.over}", size, way.by, ours, beside, baseline, goal))
    order = [row.what for row in rows]
    return sorted(rows, key=lambda row: order.index(row.what))


@contextmanager
def ours(databases: Databases, folder: Path, size: int) -> Iterator[_Ways]:
    """Open a store in this process, and a copy of it in a Jupyter server."""
    url, notebook_id = new_store_of_checkpoints(databases, size)
    copied = databases.copy(url)
    databases.settle(copied)
    settings = {"AxonNotebooks": {"store_url": copied, "user_id": USER}}
    with (
        open_at(url) as store,
        jupyter_server(folder, ["jupyter_axon_notebooks"], settings) as server,
    ):
        repository = NotebookRepository(store)
        epochs = iter(range(size, sys.maxsize))
        checkpoints = f"/axon/notebooks/{notebook_id}/checkpoints"

        def register(_round: int) -> None:
            repository.create_checkpoint(new_checkpoint(next(epochs)))

        def new_checkpoint(epoch: int) -> NewCheckpoint:
            return NewCheckpoint(
                notebook_id=notebook_id,
                run_id=RUN,
                epoch=epoch,
                step=epoch * 100,
                metrics=metrics(epoch),
                tags=[state_path(notebook_id, epoch)],
            )

        def post(_round: int) -> None:
            said = new_checkpoint(next(epochs)).to_json()
            del said["notebook_id"], said["model_state_path"]  # only the server knows
            server.say("POST", checkpoints, said)

        def best(_round: int) -> float:
            found = repository.get_best_checkpoint(notebook_id, _METRIC, minimize=True)
            assert found is not None
            return float(found.metrics[_METRIC])

        def get_best(_round: int) -> float:
            found = server.say("GET", f"{checkpoints}/best?metric={_METRIC}&minimize=true")
            return float(found["metrics"][_METRIC])

        yield {
            Way("register", "in-process", databases.engine): register,
            Way("register", "HTTP", databases.engine): post,
            Way("best", "in-process", databases.engine): best,
            Way("best", "HTTP", databases.engine): get_best,
        }


@contextmanager
def open_mlflow(folder: Path, size: int) -> Iterator[_Ways]:
    """Open MLflow's store in this process, and a copy of it in its server."""
    from tracked import Tracked

    tracked = Tracked(folder, size)
    with mlflow_server(folder / "server", tracked.copy(folder / "copy.db")) as server:

        def at(ask: Callable[[Tracked, Client], Any]) -> Callable[[int], Any]:
            return lambda _round: ask(tracked, server)

        yield {
            Way("register", "in-process", "MLflow, log_batch"): tracked.log,
            Way("register", "HTTP", "MLflow, log_batch"): at(Tracked.log_to),
            Way("best", "in-process", "MLflow, search_runs"): tracked.search,
            Way("best", "HTTP", "MLflow, search_runs"): at(Tracked.search_at),
            Way("best", "in-process", "MLflow, metric history"): tracked.history,
            Way("best", "HTTP", "MLflow, metric history"): at(Tracked.history_at),
        }


if __name__ == "__main__":
    main()
