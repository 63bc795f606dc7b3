"""Time filtered and sorted runs of all notebooks: pages beside MLflow on SQLite, and the table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from databases import Databases, databases
from reporting import Goal, Row, parser, report
from servers import Client, jupyter_server
from stores import USER, new_store_of_runs, open_at
from timing import describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery

#: The filters, and the corresponding ones of MLflow if it has any: its parameters are texts, and it
#: has neither `or` nor comparisons of two columns.
_FILTERS = {
    "all": ("", ""),
    "a number of the configuration": ("config.lr < 0.01", None),
    "a text of the configuration": (
        'config.optimizer == "adamw"',
        "params.optimizer = 'adamw'",
    ),
    "a metric": ("val_acc.max > 0.9", "metrics.val_acc > 0.9"),
    "a tag": ('"baseline" in tags', "tags.baseline = 'true'"),
    "a part of the name": ('"7" in name', "attributes.run_name LIKE '%7%'"),
    "and": (
        'config.optimizer == "adamw" and val_acc.max > 0.9 and "baseline" in tags',
        "params.optimizer = 'adamw' and metrics.val_acc > 0.9 and tags.baseline = 'true'",
    ),
    "and, or, not": (
        'config.lr < 0.01 and (val_acc.max > 0.9 or not "baseline" in tags)',
        None,
    ),
    "two columns, without an index": ("metric_1.min < metric_2.max", None),
}
_SORT, _MLFLOW_SORT = "-val_acc", "metrics.val_acc DESC"
_LIMIT = 100
_GOAL = Goal(seconds=0.1)
#: What the page of all runs asks for: all runs, and the ids of those that match a filter.
_TABLES = {
    "the table": ({}, Goal(seconds=0.4)),
    "the first 200 of the table": ({"limit": 200}, Goal(seconds=0.1)),
    "the ids of a filter": (
        {"where": "config.lr < 0.01 and val_acc.max > 0.5", "sort": _SORT, "only_ids": "true"},
        Goal(seconds=0.06),
    ),
}
_MLFLOW = "MLflow, search_runs"
_Ask = Callable[[int], list[float]]


def main() -> None:
    options = parser(str(__doc__), sizes=(10_000,), rounds=20, records="runs")
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
            rows += measure(
                measured, folder / str(size), size, chosen.rounds, beside=not chosen.without_mlflow
            )
    report(where, rows, json_to=chosen.json)


def measure(
    measured: list[Databases], folder: Path, size: int, rounds: int, *, beside: bool
) -> list[Row]:
    """Time all filters with `size` runs, in turn in this process, over HTTP, and with MLflow."""
    folder.mkdir()
    rows = []
    with ExitStack() as opened:
        asking, servers = {}, {}
        for one in measured:
            found = opened.enter_context(ours(one, folder / one.engine, size))
            asking |= {(one.engine, over): ask for over, ask in found.asking.items()}
            servers[one.engine] = found.server
        mlflow = None
        if beside:
            from tracked import SearchedRuns

            mlflow = SearchedRuns(folder / "mlflow", size)
        for what, (filter, mlflow_filter) in _FILTERS.items():
            ways: dict[Any, _Ask] = {way: ask(filter) for way, ask in asking.items()}
            if mlflow is not None and mlflow_filter is not None:
                ways[_MLFLOW] = mlflow.ask(mlflow_filter, _MLFLOW_SORT, _LIMIT)
            pages = {way: ask(0) for way, ask in ways.items()}
            if any(page != pages[next(iter(ways))] for page in pages.values()):
                sys.exit(f"{filter}: they do not agree")
            timed = time_side_by_side(ways, rounds, warm_up=2)
            theirs = timed.get(_MLFLOW)
            for engine, over in asking:
                name = f"{what}, {over}"
                by = _MLFLOW if theirs else ""
                rows.append(Row(name, size, engine, timed[engine, over], by, theirs, _GOAL))
        for what, (arguments, goal) in _TABLES.items():
            path = f"/axon/runs/table?{urlencode(arguments)}"
            ways = {engine: partial(_get, server, path) for engine, server in servers.items()}
            for engine, timing in time_side_by_side(ways, rounds, warm_up=2).items():
                rows.append(Row(f"{what}, HTTP", size, engine, timing, "", None, goal))
    return rows


def _get(server: Client, path: str, _round: int) -> None:
    server.ask("GET", path)


class _Ours(NamedTuple):
    """The ways to ask for a page, and the server."""

    asking: Mapping[str, Callable[[str], _Ask]]
    server: Client


@contextmanager
def ours(databases: Databases, folder: Path, size: int) -> Iterator[_Ours]:
    """Open a store in this process and in a Jupyter server; each returns metrics of a page."""
    url = new_store_of_runs(databases, size)
    settings = {"AxonNotebooks": {"store_url": url, "user_id": USER}}
    with (
        open_at(url) as store,
        jupyter_server(folder, ["jupyter_axon_notebooks"], settings) as server,
    ):
        repository = NotebookRepository(store)

        def search(filter: str) -> _Ask:
            query = RunQuery(where=filter, sort=_SORT, limit=_LIMIT, user_id=USER)

            def ask(_round: int) -> list[float]:
                page = repository.runs.search(query)
                return [float((found.run.metrics or {})["val_acc"].last) for found in page.runs]

            return ask

        def get(filter: str) -> _Ask:
            query = urlencode({"where": filter, "sort": _SORT, "limit": _LIMIT})

            def ask(_round: int) -> list[float]:
                found = server.say("GET", f"/axon/runs?{query}")
                return [one["run"]["metrics"]["val_acc"]["last"] for one in found]

            return ask

        yield _Ours({"in-process": search, "HTTP": get}, server)


if __name__ == "__main__":
    main()
