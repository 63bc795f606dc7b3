"""A training in which each value depends on all before it, and the check of its result."""

from __future__ import annotations

from safetensors.numpy import load_file

from jupyter_axon_notebooks.records import NotebookCheckpoint, TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository

EPOCHS = 8
SET_UP = """
import pathlib, threading
import numpy as np
import jupyter_axon_notebooks as axon

np.random.seed(0)
model = {"w": np.zeros(8)}
optimizer = {"moment": np.zeros(8)}
"""
TRAIN = """
resumed = axon.resume(model, optimizer)
for epoch in range(resumed.epoch + 1 if resumed else 0, EPOCHS):
    if epoch == STOPS_AT:
        pathlib.Path("stopped").touch()
        STOPS
    gradient = model["w"] - np.random.normal(size=8)
    optimizer["moment"] *= 0.9
    optimizer["moment"] += gradient
    model["w"] -= 0.1 * optimizer["moment"]
    axon.checkpoint(model, optimizer, epoch=epoch, metrics={"loss": float((gradient**2).sum())})
"""
WAITS = "threading.Event().wait()"


def train(epochs: int = EPOCHS, stops_at: int | None = None, stops: str = WAITS) -> str:
    """Return the code of the training, which stops before an epoch."""
    return (
        TRAIN.replace("EPOCHS", str(epochs))
        .replace("STOPS_AT", str(stops_at))
        .replace("STOPS", stops)
    )


def list_branch(records: NotebookRepository, run: TrainingRun) -> list[NotebookCheckpoint]:
    """List the checkpoints of a run and those it was resumed from, oldest first."""
    checkpoints = records.list_checkpoints(run.notebook_id, run_id=run.id)
    end = checkpoints[0] if checkpoints else None
    found: list[NotebookCheckpoint] = []
    while end is not None:
        assert end.run_id is not None
        of_run = records.list_checkpoints(run.notebook_id, run_id=end.run_id)
        found += [one for one in of_run if one.created_at <= end.created_at]
        run_of_end = records.runs.get(run.notebook_id, end.run_id)
        assert run_of_end is not None
        end = (
            None
            if run_of_end.parent_checkpoint_id is None
            else records.get_checkpoint(run_of_end.parent_checkpoint_id)
        )
    return found[::-1]


def list_runs(records: NotebookRepository) -> list[TrainingRun]:
    """List the runs of the only notebook, oldest first."""
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def assert_equals_uninterrupted(
    records: NotebookRepository, uninterrupted: tuple[list[float], bytes]
) -> None:
    losses, weights = uninterrupted
    line = list_branch(records, list_runs(records)[-1])
    assert [one.epoch for one in line] == list(range(EPOCHS))
    assert [one.metrics["loss"] for one in line] == losses
    assert load_file(line[-1].model_state_path)["w"].tobytes() == weights
