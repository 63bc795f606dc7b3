"""The checkpoints of a training, stored by this project, MLflow and trackio.

Their promises differ. When this project returns, the record and the states are on the disk. So are
MLflow's metrics, but it copies artifacts without syncing them. `trackio.log` keeps metrics in
memory until a thread writes them, twice a second, into SQLite that may lose the last ones in a
power failure. Therefore it is timed twice: until it returns, and until its metrics are durable,
with `TRACKIO_SQLITE_SYNCHRONOUS=FULL` and the queue written at once. Its artifacts are not synced
either.

Nothing is imported before a tracker is created, so that the first checkpoint of a process can be
timed: `python trackers.py NAME FOLDER` ends as soon as its first checkpoint is stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "train",
            "metadata": {},
            "outputs": [],
            "execution_count": 1,
            "source": "model = train(data)",
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class Tracker(Protocol):
    """A tracker that stores checkpoints of a run; each call is the next step."""

    def keep_metrics(self) -> None:
        """Store four metrics."""

    def keep_state(self) -> None:
        """Store four metrics and the weights of a tiny model."""

    def count(self) -> int:
        """Return the number of steps on the disk."""

    def close(self) -> None:
        """End the run."""


class Training:
    """The input of every tracker: steps, metrics, and weights that change with every step."""

    def __init__(self) -> None:
        self.step = -1
        self.weights = {
            "weight": np.zeros((64, 10), dtype=np.float32),
            "bias": np.zeros(10, dtype=np.float32),
        }

    def train(self) -> dict[str, float]:
        """Make a step and return its metrics."""
        self.step += 1
        for array in self.weights.values():
            array += 1
        loss = 1 / (1 + self.step)
        return {
            "loss": loss,
            "val_loss": loss * 1.1,
            "accuracy": 1 - loss / 2,
            "learning_rate": 1e-3,
        }


class Axon:
    """A tracker that uses this project on SQLite with its defaults."""

    def __init__(self, folder: Path) -> None:
        notebook = folder / "train.ipynb"
        if not notebook.exists():
            notebook.write_text(json.dumps(_NOTEBOOK))
        for name in ("AXON_STORE_URL", "AXON_STATES_ROOT", "AXON_DATA_DIR"):
            os.environ.pop(name, None)
        os.environ |= {
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "AXON_NOTEBOOK": str(notebook),
            "AXON_USER": "ada",
        }
        import jupyter_axon_notebooks as axon
        from jupyter_axon_notebooks.training import execution

        self._axon, self._executed = axon, execution
        self._training = Training()

    def keep_metrics(self) -> None:
        """Store a checkpoint without a model."""
        metrics = self._training.train()
        self._axon.checkpoint(None, epoch=self._training.step, metrics=metrics)

    def keep_state(self) -> None:
        """Store a checkpoint of the weights, with the random number generators."""
        metrics = self._training.train()
        self._axon.checkpoint(self._training.weights, epoch=self._training.step, metrics=metrics)

    def count(self) -> int:
        """Return the number of steps in the store."""
        return len(self._axon.checkpoints())

    def close(self) -> None:
        """End the run, which would otherwise end with the process."""
        self._executed._script().cell.end(None)


class MLflow:
    """MLflow on SQLite in this process: `log_metrics`, and the weights as an artifact."""

    def __init__(self, folder: Path) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        import mlflow

        self._mlflow = mlflow
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        found = mlflow.get_experiment_by_name("training")
        artifacts = (folder / "artifacts").as_uri()
        id = found.experiment_id if found else mlflow.create_experiment("training", artifacts)
        self._run = mlflow.start_run(experiment_id=id).info.run_id
        self._training = Training()
        self._file = folder / "model.npz"

    def keep_metrics(self) -> None:
        """Store them in one call."""
        metrics = self._training.train()
        self._mlflow.log_metrics(metrics, step=self._training.step, synchronous=True)

    def keep_state(self) -> None:
        """Write the weights to a file and log it as an artifact."""
        self.keep_metrics()
        np.savez(self._file, **self._training.weights)
        self._mlflow.log_artifact(str(self._file), str(self._training.step))

    def count(self) -> int:
        """Return the number of steps in the database."""
        return len(self._mlflow.MlflowClient().get_metric_history(self._run, "loss"))

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class Trackio:
    """trackio without a Space: a SQLite database and a folder of artifacts.

    Attributes
    ----------
    returned : list of float
        The seconds after which `trackio.log` returned, for each step.
    """

    def __init__(self, folder: Path) -> None:
        os.environ |= {
            "TRACKIO_DIR": str(folder / "trackio"),
            "TRACKIO_SQLITE_SYNCHRONOUS": "FULL",
            "HF_HOME": str(folder / "huggingface"),
            "HF_HUB_OFFLINE": "1",
        }
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID"):
            os.environ.pop(name, None)
        import trackio

        self._trackio = trackio
        self._folder = folder
        with _quiet():  # it prints how to open its dashboard
            self._run = trackio.init(
                "training", embed=False, auto_log_cpu=False, auto_log_gpu=False
            )
        self._training = Training()
        self._file = folder / "model.npz"
        self.returned: list[float] = []

    def keep_metrics(self) -> None:
        """Store them in one call, then write the queue as its thread would within half a second."""
        metrics = self._training.train()
        began = time.perf_counter()
        self._trackio.log(metrics, step=self._training.step)
        self.returned.append(time.perf_counter() - began)
        with self._run._client_lock:  # as its thread does; the only public way is to end the run
            self._run._flush_queues_inline()

    def keep_state(self) -> None:
        """Write the weights to a file and log it as a new version of an artifact."""
        self.keep_metrics()
        np.savez(self._file, **self._training.weights)
        self._trackio.log_artifact(str(self._file), "model", "model")

    def count(self) -> int:
        """Return the number of steps in the database; trackio reports failures only by warnings."""
        [database] = (self._folder / "trackio").glob("*.db")
        with closing(sqlite3.connect(database)) as connection:
            [(count,)] = connection.execute(
                "SELECT count(*) FROM metrics WHERE run_name = ?", (self._run.name,)
            )
        return int(count)

    def close(self) -> None:
        """End the run and its thread."""
        with _quiet():
            self._trackio.finish()


#: The trackers by package name; the first is this project.
TRACKERS: dict[str, type[Tracker]] = {
    "jupyter_axon_notebooks": Axon,
    "mlflow": MLflow,
    "trackio": Trackio,
}


@contextmanager
def tracking(name: str, folder: Path) -> Iterator[Any]:
    """Start a tracker that stores in `folder`, and close it at the end."""
    folder.mkdir(exist_ok=True)
    with closing(TRACKERS[name](folder)) as tracker:
        yield tracker


def _quiet() -> contextlib.redirect_stdout[Any]:
    return contextlib.redirect_stdout(sys.stderr)


if __name__ == "__main__":
    TRACKERS[sys.argv[1]](Path(sys.argv[2])).keep_state()
    os._exit(0)  # skip the end of the interpreter, which nobody waits for
