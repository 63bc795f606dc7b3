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
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from databases import insert_statement
from servers import Client
from stores import metrics

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
try:
    import mlflow
    from mlflow.entities import Metric, RunTag
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
