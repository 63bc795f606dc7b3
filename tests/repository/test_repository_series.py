"""Metric series: the metrics of a run's checkpoints as columns."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.factories import code, new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.records import NotebookCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository


@pytest.fixture
def notebook_id(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("a"), id="nb")).id


def record_metrics(repository: NotebookRepository, *metrics: Any) -> dict[str, Any]:
    """Create a checkpoint of run ``r`` for each of ``metrics``; return the columns of the run."""
    for epoch, values in enumerate(metrics):
        new = new_checkpoint("nb", epoch=epoch, run_id="r")
        new.metrics = values
        repository.create_checkpoint(new)
    (series,) = repository.series.list("nb", run_id="r")
    return dict(series.metrics)


def test_large_steps_are_distinguished(repository: NotebookRepository, notebook_id: str) -> None:
    def create(step: int, **options: Any) -> NotebookCheckpoint:
        new = new_checkpoint("nb", {"loss": -step}, step=step, run_id="r")
        return repository.create_checkpoint(new, **options)

    steps = [2**32 - 1, 5_000_000_000, 6_000_000_000, 2**53 - 1]
    checkpoints = [create(step) for step in steps]
    assert [one.step for one in reversed(repository.list_checkpoints("nb"))] == steps
    (series,) = repository.series.list("nb")
    assert series.step == steps
    assert repository.get_best_checkpoint("nb", "loss", True).step == 2**53 - 1
    with pytest.raises(Conflict, match="at epoch 0, step 5000000000 already"):
        create(5_000_000_000)
    again = create(5_000_000_000, overwrite=True)
    pinned = repository.checkpoints.update(checkpoints[2].id, UpdateCheckpoint(pinned=True))
    assert (again.step, pinned.step) == (5_000_000_000, 6_000_000_000)
    first, _, third, fourth = (checkpoint.id for checkpoint in checkpoints)
    found = {checkpoint.id for checkpoint in repository.list_checkpoints("nb")}
    assert found == {first, again.id, third, fourth}


def test_the_names_of_finite_metrics_are_listed(
    repository: NotebookRepository, notebook_id: str
) -> None:
    record_metrics(
        repository,
        {"loss": 1, "val": {"acc": 2}},
        {"nan": math.nan, "x\x00y": 1},
        {"loss": 1, "note": "text"},
    )
    assert repository.checkpoints.list_metric_names("nb") == {"loss", "val.acc", "x\x00y"}
    assert repository.checkpoints.list_metric_names("nowhere") == set()
