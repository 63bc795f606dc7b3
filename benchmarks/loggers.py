"""A loop that logs four metrics a step, with this project and with others, in a process of its own.

``python loggers.py time NAME FOLDER`` prints how long the calls took as JSON. ``python loggers.py
endless NAME FOLDER`` writes a line after each call that returned, until it is killed. ``python
loggers.py steps NAME FOLDER`` prints the steps that the logger's own reader finds in the folder.

They promise different things. :class:`JsonLines` is the baseline: a line of JSON, flushed to the
operating system. MLflow has written to its database when a synchronous call returns. Trackio and
W&B keep rows in memory, or hand them to another process, and TensorBoard keeps them for up to two
minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Metrics = Mapping[str, float]


class Logger(Protocol):
    """A logger of one run; it imports its package when it is created."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Log the metrics of a step, as its manual does."""

    def finish(self) -> None:
        """End the run, so that all its rows are where its reader looks for them."""

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Return the steps that its reader finds in a folder, after whatever it does to recover."""


class JsonLines:
    """A file of JSON lines, flushed after each."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "rows.jsonl").open("a")

    def log(self, step: int, metrics: Metrics) -> None:
        """Write a line."""
        row = {"step": step, "time": time.time(), **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def finish(self) -> None:
        """Sync the file."""
        os.fsync(self._file.fileno())

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Parse all lines."""
        lines = (folder / "rows.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]


class Axon:
    """A logger that uses this project on SQLite with its defaults, but without system metrics."""

    def __init__(self, folder: Path) -> None:
        notebook = folder / "train.ipynb"
        content = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        if not notebook.exists():
            notebook.write_text(json.dumps(content))
        for name in ("AXON_STORE_URL", "AXON_STATES_ROOT", "AXON_DATA_DIR"):
            os.environ.pop(name, None)
        os.environ |= {
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "AXON_NOTEBOOK": str(notebook),
            "AXON_USER": "ada",
            "AXON_SYSTEM_METRICS": "0",
        }
        import jupyter_axon_notebooks as axon

        self._axon = axon

    def log(self, step: int, metrics: Metrics) -> None:
        """Log a row."""
        self._axon.log(metrics, step=step)

    def finish(self) -> None:
        """Store the last rows, as the end of the process does."""
        from jupyter_axon_notebooks.training.session import current_session

        logs: Any = current_session().tracker._logs
        logs.finish()

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Store what a killed process left, and read the series of the newest run."""
        axon = Axon(folder)._axon
        from jupyter_axon_notebooks.cli.group import commands

        with contextlib.redirect_stdout(sys.stderr):
            commands(["recover"], standalone_mode=False)
        return axon.runs()[0].series("loss").steps.tolist()


class MLflow:
    """MLflow on SQLite: `log_metrics`, which returns when they are in the database."""

    is_synchronous = True

    def __init__(self, folder: Path) -> None:
        self._mlflow = _mlflow(folder)
        self._mlflow.set_experiment("training")
        self._mlflow.start_run()

    def log(self, step: int, metrics: Metrics) -> None:
        """Log a row."""
        self._mlflow.log_metrics(dict(metrics), step=step, synchronous=self.is_synchronous)

    def finish(self) -> None:
        """End the run."""
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Read the history of a metric."""
        client = _mlflow(folder).MlflowClient()
        experiment = client.get_experiment_by_name("training")
        [run] = client.search_runs([experiment.experiment_id])
        return [row.step for row in client.get_metric_history(run.info.run_id, "loss")]


class AsyncMLflow(MLflow):
    """MLflow on SQLite with asynchronous logging."""

    is_synchronous = False


class Trackio:
    """trackio without a Space, in SQLite."""

    def __init__(self, folder: Path) -> None:
        _set_up_trackio(folder)
        import trackio

        self._trackio = trackio
        with _quiet():
            trackio.init("training", embed=False, auto_log_cpu=False, auto_log_gpu=False)

    def log(self, step: int, metrics: Metrics) -> None:
        """Log a row."""
        self._trackio.log(dict(metrics), step=step)

    def finish(self) -> None:
        """Write the queue."""
        with _quiet():
            self._trackio.finish()

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Read the log as its dashboard does."""
        _set_up_trackio(folder)
        from trackio.sqlite_storage import SQLiteStorage

        [run] = SQLiteStorage.get_runs("training")
        return [row["step"] for row in SQLiteStorage.get_logs("training", run)]


class Wandb:
    """W&B without a server: `WANDB_MODE=offline`."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
        import wandb

        settings = wandb.Settings(x_disable_stats=True, console="off")
        self._run = wandb.init(project="training", settings=settings)

    def log(self, step: int, metrics: Metrics) -> None:
        """Log a row."""
        self._run.log(dict(metrics), step=step)

    def finish(self) -> None:
        """End the run."""
        self._run.finish()

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Read the file with `wandb leet inspect`."""
        [file] = (folder / "wandb").glob("offline-run-*/*.wandb")
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        records = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
        rows = [record["history"] for record in records if record["type"] == "history"]
        return [int(row["item"]["_step"]) for row in rows]


class TensorBoard:
    """TensorBoard's event files, written by tensorboardX, whose writer is that of PyTorch."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "events"))

    def log(self, step: int, metrics: Metrics) -> None:
        """Add a scalar for each metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Write the queue."""
        self._writer.close()

    @staticmethod
    def steps(folder: Path) -> list[int]:
        """Read the file as TensorBoard does."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0}).Reload()
        has_rows = "loss" in found.Tags()["scalars"]
        return [row.step for row in found.Scalars("loss")] if has_rows else []


#: The loggers by name; the first is the baseline, the second this project.
LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "JSON lines": JsonLines,
    "axon": Axon,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": MLflow,
    "mlflow async": AsyncMLflow,
    "tensorboard": TensorBoard,
}


def time_calls(name: str, folder: Path, rows: int, seconds: float, work: float) -> dict[str, Any]:
    """Log rows for a while, each after `work` seconds in Python; return times in seconds."""
    logger = LOGGERS[name](folder)
    logger.log(0, _metrics(0))  # which begins the run
    taken = []
    began = time.perf_counter()
    for step in range(1, rows + 1):
        metrics = _metrics(step)
        _compute(work)
        before = time.perf_counter()
        logger.log(step, metrics)
        after = time.perf_counter()
        taken.append(after - before)
        if after - began > seconds:
            break
    logger.finish()
    return {"calls": taken, "until_stored": time.perf_counter() - began}


def log_endlessly(name: str, folder: Path) -> None:
    """Log a row each millisecond, and write a line when its call has returned."""
    output = os.dup(1)
    logger = LOGGERS[name](folder)
    step = 0
    while True:
        logger.log(step, _metrics(step))
        os.write(output, b"%d\n" % step)
        _compute(0.001)
        step += 1


def _compute(seconds: float) -> None:
    """Compute in Python, which keeps the interpreter busy as a data loader may."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(100))


def _metrics(step: int) -> dict[str, float]:
    loss = 1 / (1 + step)
    return {"loss": loss, "val_loss": loss * 1.1, "accuracy": 1 - loss / 2, "lr": 1e-3}


def _mlflow(folder: Path) -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    return mlflow


def _set_up_trackio(folder: Path) -> None:
    os.environ |= {
        "TRACKIO_DIR": str(folder / "trackio"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
    }
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID"):
        os.environ.pop(name, None)


def _quiet() -> contextlib.redirect_stdout[Any]:
    return contextlib.redirect_stdout(sys.stderr)


def main() -> None:
    what, name, folder, *numbers = sys.argv[1:]
    os.chdir(folder)
    if what == "endless":
        log_endlessly(name, Path(folder))
    if what == "steps":
        with _quiet():
            steps = LOGGERS[name].steps(Path(folder))  # type: ignore[attr-defined]  # classes, typed as factories
        print(json.dumps(steps))
    else:
        rows, seconds, work = numbers
        with _quiet():
            timed = time_calls(name, Path(folder), int(rows), float(seconds), float(work))
        print(json.dumps(timed))
    sys.stdout.flush()
    os._exit(0)  # skip the end of the interpreter


if __name__ == "__main__":
    main()
