"""A training's checkpoints, kept by this project, by MLflow and by trackio, each as a notebook would have it do so.

What they promise is not the same. When ours returns, the record and the states are on the disk. MLflow's metrics are, in
SQLite as MLflow sets it up; of an artifact it makes a copy, which nothing syncs. ``trackio.log`` keeps its metrics in memory
until a thread writes them, twice a second, into SQLite set up to lose the last ones with the power. So it is timed
twice: until it returns, and until its metrics are as durable as ours, with ``TRACKIO_SQLITE_SYNCHRONOUS=FULL`` and written at once,
by the function that its thread calls. Its artifacts are not synced either.

None is imported before one is made, so that the first of a process can be timed: ``python trackers.py NAME FOLDER`` ends at
once when its first checkpoint is kept.
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
    """Keeps checkpoints of a run; each call is the next step."""

    def keep_metrics(self) -> None:
        """Keep four metrics."""

    def keep_state(self) -> None:
        """Keep four metrics, and the weights of a tiny model."""

    def count(self) -> int:
        """Steps that were kept, as the disk has it."""

    def close(self) -> None:
        """End the run."""


class Training:
    """What every tracker is given: steps, metrics, and weights that change from step to step."""

    def __init__(self) -> None:
        self.step = -1
        self.weights = {
            "weight": np.zeros((64, 10), dtype=np.float32),
            "bias": np.zeros(10, dtype=np.float32),
        }

    def train(self) -> dict[str, float]:
        """Go on by a step; its metrics."""
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
    """This project on SQLite, its defaults."""

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
        """A checkpoint without a model."""
        metrics = self._training.train()
        self._axon.checkpoint(None, epoch=self._training.step, metrics=metrics)

    def keep_state(self) -> None:
        """A checkpoint of the weights, with the states of the random number generators, as always."""
        metrics = self._training.train()
        self._axon.checkpoint(self._training.weights, epoch=self._training.step, metrics=metrics)

    def count(self) -> int:
        """As the store has them."""
        return len(self._axon.checkpoints())

    def close(self) -> None:
        """End the run, which in a notebook ends with its cell, and in a script with the process: too late here."""
        self._executed._script().cell.end(None)


class MLflow:
    """MLflow on SQLite, in this process: ``log_metrics``, and a file of weights as an artifact."""

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
        """All in one call."""
        metrics = self._training.train()
        self._mlflow.log_metrics(metrics, step=self._training.step, synchronous=True)

    def keep_state(self) -> None:
        """The weights are written to a file, of which the artifact is a copy."""
        self.keep_metrics()
        np.savez(self._file, **self._training.weights)
        self._mlflow.log_artifact(str(self._file), str(self._training.step))

    def count(self) -> int:
        """As the database has them."""
        return len(self._mlflow.MlflowClient().get_metric_history(self._run, "loss"))

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class Trackio:
    """trackio without a Space: a SQLite database and a folder of artifacts.

    Attributes
    ----------
    returned : list of float
        Seconds after which ``trackio.log`` returned, of each step.
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
        """All in one call, then what its thread would do within half a second."""
        metrics = self._training.train()
        began = time.perf_counter()
        self._trackio.log(metrics, step=self._training.step)
        self.returned.append(time.perf_counter() - began)
        with self._run._client_lock:  # as its thread does; there is no other way but to end the run
            self._run._flush_queues_inline()

    def keep_state(self) -> None:
        """The weights are written to a file, of which the artifact, a new version each time, is a copy."""
        self.keep_metrics()
        np.savez(self._file, **self._training.weights)
        self._trackio.log_artifact(str(self._file), "model", "model")

    def count(self) -> int:
        """As the database has them: it tells of failures by warnings only."""
        [database] = (self._folder / "trackio").glob("*.db")
        with closing(sqlite3.connect(database)) as connection:
            [(count,)] = connection.execute(
                "SELECT count(*) FROM metrics WHERE run_name = ?", (self._run.name,)
            )
        return int(count)

    def close(self) -> None:
        """End the run, and its thread."""
        with _quiet():
            self._trackio.finish()


#: By the names of their packages; the first is this project.
TRACKERS: dict[str, type[Tracker]] = {
    "jupyter_axon_notebooks": Axon,
    "mlflow": MLflow,
    "trackio": Trackio,
}


@contextmanager
def tracking(name: str, folder: Path) -> Iterator[Any]:
    """One that keeps what it is given in ``folder``."""
    folder.mkdir(exist_ok=True)
    with closing(TRACKERS[name](folder)) as tracker:
        yield tracker


def _quiet() -> contextlib.redirect_stdout[Any]:
    return contextlib.redirect_stdout(sys.stderr)


if __name__ == "__main__":
    TRACKERS[sys.argv[1]](Path(sys.argv[2])).keep_state()
    os._exit(0)  # what comes now, the interpreter's end, is nothing that anybody waits for
