"""MLflow with as many steps of a run, and as many runs, as a store has checkpoints.

A checkpoint corresponds to a step of a run, whose best step is found in the metric's history, or to
a run of its own, which `search_runs` orders by a metric.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from databases import insert_statement
from servers import Client
from stores import metrics, run_config, run_metrics, run_tags

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
try:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
except ImportError:
    sys.exit(
        "MLflow is not installed: pip install '.[bench]', or leave it out with --without-mlflow"
    )

logging.getLogger("mlflow").setLevel(
    logging.WARNING
)  # it logs every migration of an empty database

#: The measured version.
VERSION = f"MLflow {mlflow.__version__}"
_TAG = "state_path"
_METRIC = "loss"


class Tracked:
    """MLflow's SQLite store with one run of `count` steps, and `count` runs of one step.

    Attributes
    ----------
    uri : str
        The tracking URI.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self._file = folder / "mlflow.db"
        self.uri = f"sqlite:///{self._file}"
        self._client = mlflow.MlflowClient(tracking_uri=self.uri)
        artifacts = (folder / "artifacts").as_uri()
        stepped = self._client.create_experiment("steps", artifact_location=artifacts)
        self._searched = self._client.create_experiment("runs", artifact_location=artifacts)
        self._run = self._client.create_run(stepped).info.run_id
        self._next = 0
        self.log()
        with closing(sqlite3.connect(self._file)) as connection, connection:
            _fill(connection, self._run, self._searched, count)
            # MLflow never runs ANALYZE. Without it `search_runs` compares all pairs of runs.
            connection.execute("ANALYZE")
        self._next = count

    def copy(self, file: Path) -> str:
        """Copy the store and return the URI of the copy."""
        shutil.copyfile(self._file, file)
        return f"sqlite:///{file}"

    def _step(self) -> tuple[int, dict[str, float], str]:
        step, self._next = self._next, self._next + 1
        return step, metrics(step), f"/states/{self._run}/{step}/model.safetensors"

    def log(self, _round: int = 0) -> None:
        """Log a step in one call: its metrics, and the newest state's path as a tag."""
        step, values, path = self._step()
        logged = [Metric(name, value, _time(step), step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=logged, tags=[RunTag(_TAG, path)])

    def log_to(self, server: Client) -> None:
        """Do the same over HTTP."""
        step, values, path = self._step()
        logged = [
            {"key": name, "value": value, "timestamp": _time(step), "step": step}
            for name, value in values.items()
        ]
        said = {"run_id": self._run, "metrics": logged, "tags": [{"key": _TAG, "value": path}]}
        server.say("POST", "/api/2.0/mlflow/runs/log-batch", said)

    def search(self, _round: int = 0) -> float:
        """Return the lowest value of the metric over all runs."""
        [run] = self._client.search_runs(
            [self._searched], order_by=[f"metrics.{_METRIC} ASC"], max_results=1
        )
        return float(run.data.metrics[_METRIC])

    def search_at(self, server: Client) -> float:
        """Do the same over HTTP."""
        said = {
            "experiment_ids": [self._searched],
            "order_by": [f"metrics.{_METRIC} ASC"],
            "max_results": 1,
        }
        [run] = server.say("POST", "/api/2.0/mlflow/runs/search", said)["runs"]
        return float({metric["key"]: metric["value"] for metric in run["data"]["metrics"]}[_METRIC])

    def history(self, _round: int = 0) -> float:
        """Return the lowest value of the metric over all steps."""
        return min(
            float(metric.value) for metric in self._client.get_metric_history(self._run, _METRIC)
        )

    def history_at(self, server: Client) -> float:
        """Do the same over HTTP."""
        url = f"/api/2.0/mlflow/metrics/get-history?run_id={self._run}&metric_key={_METRIC}"
        return min(
            float(metric["value"]) for metric in json.loads(server.ask("GET", url))["metrics"]
        )


class SearchedRuns:
    """MLflow's SQLite store with the runs of :func:`.stores.new_store_of_runs`."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        file = folder / "mlflow.db"
        self._client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}")
        self._experiment = self._client.create_experiment("runs")
        run = self._client.create_run(self._experiment, run_name="run 0").info.run_id
        self._client.log_batch(
            run,
            metrics=[Metric(name, value, _time(0), 99) for name, value in run_metrics(0).items()],
            params=[Param(name, str(value)) for name, value in run_config(0).items()],
            tags=[RunTag(tag, "true") for tag in run_tags(0)],
        )
        self._client.set_terminated(run)
        with closing(sqlite3.connect(file)) as connection, connection:
            _repeat_run(connection, run, count)
            connection.execute("ANALYZE")  # as above

    def ask(self, filter: str, order: str, limit: int) -> Callable[[int], list[float]]:
        """Return a function that returns a metric of the first page of a search."""

        def search(_round: int) -> list[float]:
            found = self._client.search_runs(
                [self._experiment], filter, order_by=[order], max_results=limit
            )
            return [float(run.data.metrics["val_acc"]) for run in found]

        return search


def _repeat_run(connection: sqlite3.Connection, run: str, count: int) -> None:
    """Repeat the rows that MLflow wrote for run 0, with the values of the others."""
    connection.row_factory = sqlite3.Row
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        found = connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,)).fetchall()
        statement = insert_statement(table, list(found[0].keys()), "?")
        for number in range(1, count):
            rows = (_of_run(table, dict(row), number) for row in found)
            connection.executemany(statement, [tuple(row.values()) for row in rows if row])


def _of_run(table: str, row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a row of run 0 as that of another; an empty one if the other has none."""
    row["run_uuid"] = f"{number:032x}"
    if table == "runs":
        row["name"] = f"run {number}"
        row["start_time"] = _time(number)
    elif table == "params":
        row["value"] = str(run_config(number)[row["key"]])
    elif table == "tags":
        if row["key"] in run_tags(0) and row["key"] not in run_tags(number):
            return {}
        if row["key"] == "mlflow.runName":
            row["value"] = f"run {number}"
    else:
        row["value"] = run_metrics(number)[row["key"]]
    return row


def _time(step: int) -> int:
    return 1_767_225_600_000 + step * 1000


def _fill(connection: sqlite3.Connection, run: str, experiment: str, count: int) -> None:
    """Repeat the rows that MLflow wrote for a run and its first step."""
    connection.row_factory = sqlite3.Row
    tables = ("runs", "tags", "metrics", "latest_metrics")
    first = {
        table: [
            dict(row)
            for row in connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
        ]
        for table in tables
    }

    def at_step(row: Mapping[str, Any], step: int) -> dict[str, Any]:
        return {**row, "value": metrics(step)[row["key"]], "step": step, "timestamp": _time(step)}

    def write(table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        statement = insert_statement(table, list(first[table][0]), "?")
        connection.executemany(statement, (tuple(row.values()) for row in rows))

    write("metrics", (at_step(row, step) for step in range(1, count) for row in first["metrics"]))
    connection.execute("DELETE FROM latest_metrics WHERE run_uuid = ?", (run,))
    write("latest_metrics", (at_step(row, count - 1) for row in first["latest_metrics"]))
    ids = [uuid.uuid4().hex for _ in range(count)]
    [described] = first["runs"]
    write("runs", ({**described, "run_uuid": id, "experiment_id": int(experiment)} for id in ids))
    write("tags", ({**row, "run_uuid": id} for id in ids for row in first["tags"]))
    for table in ("metrics", "latest_metrics"):
        write(
            table,
            (
                {**at_step(row, n), "run_uuid": id}
                for n, id in enumerate(ids)
                for row in first[table]
            ),
        )
