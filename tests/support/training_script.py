"""A training in which each value depends on all earlier values, and checks of its result."""

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
WAIT = "threading.Event().wait()"


def train(epochs: int = EPOCHS, stops_at: int | None = None, stops: str = WAIT) -> str:
    """Return the code of the training, which executes ``stops`` before the epoch ``stops_at``."""
    return (
        TRAIN.replace("EPOCHS", str(epochs))
        .replace("STOPS_AT", str(stops_at))
        .replace("STOPS", stops)
    )


def list_runs(records: NotebookRepository) -> list[TrainingRun]:
    """List the runs of the only notebook, oldest first."""
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def list_branch(records: NotebookRepository, run: TrainingRun) -> list[NotebookCheckpoint]:
    """List the checkpoints of a run and those that it was resumed from, oldest first."""
    branch: list[NotebookCheckpoint] = []
    end: NotebookCheckpoint | None = None
    current: TrainingRun | None = run
    while current is not None:
        checkpoints = records.list_checkpoints(current.notebook_id, run_id=current.id)
        branch += [one for one in checkpoints if end is None or one.created_at <= end.created_at]
        parent_id = current.parent_checkpoint_id
        end = None if parent_id is None else records.get_checkpoint(parent_id)
        current = None if end is None else records.runs.get(end.notebook_id, str(end.run_id))
    return branch[::-1]


def assert_equals_uninterrupted(
    records: NotebookRepository, uninterrupted: tuple[list[float], bytes]
) -> None:
    """Check that the branch of the last run equals an uninterrupted training."""
    losses, weights = uninterrupted
    branch = list_branch(records, list_runs(records)[-1])
    assert [checkpoint.epoch for checkpoint in branch] == list(range(EPOCHS))
    assert [checkpoint.metrics["loss"] for checkpoint in branch] == losses
    assert load_file(branch[-1].model_state_path)["w"].tobytes() == weights
