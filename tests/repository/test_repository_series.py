"""Metric series: columns by run that say what the checkpoints say, however many there are."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.factories import code, create_ids, new_checkpoint, new_notebook
from tinydb import where

from jupyter_axon_notebooks.errors import Conflict, RecordDamaged
from jupyter_axon_notebooks.metrics import finite_metrics
from jupyter_axon_notebooks.records import RunStatus, UpdateCheckpoint, format_time
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store


@pytest.fixture
def notebook_id(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("a"), id="nb")).id


def measure(
    repository: NotebookRepository, *metrics: Any, run_id: str | None = "r"
) -> dict[str, Any]:
    """The columns of a run whose checkpoints measured so."""
    first = repository.checkpoints.count("nb")
    for n, measured in enumerate(metrics, first):
        new = new_checkpoint("nb", epoch=n, run_id=run_id)
        new.metrics = measured
        repository.create_checkpoint(new)
    (series,) = repository.series.list("nb", run_id=run_id)
    return dict(series.metrics)


def test_a_series_has_the_rows_of_its_run_oldest_first(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create_ids(repository, "other")
    repository.create_checkpoint(new_checkpoint("other", {"loss": 9}))
    made = [
        repository.create_checkpoint(
            new_checkpoint("nb", {"loss": n}, epoch=9 - n, step=n, run_id=run)
        )
        for n, run in enumerate("abab")
    ]
    repository.runs.update_status("nb", "a", RunStatus.FAILED)
    a, b = repository.series.list("nb")
    assert (a.run_id, a.status, b.run_id, b.status) == (
        "a",
        RunStatus.FAILED,
        "b",
        RunStatus.RUNNING,
    )
    assert a.checkpoint_id == [made[0].id, made[2].id]
    assert (a.epoch, a.step) == ([9, 7], [0, 2])
    assert a.created_at == [format_time(made[n].created_at) for n in (0, 2)]
    assert (a.metrics, b.metrics) == ({"loss": [0, 2]}, {"loss": [1, 3]})
    (newer,) = repository.series.list("nb", since=made[2].created_at)
    assert newer.checkpoint_id == [made[3].id]
    assert repository.series.list("nowhere") == []


def test_large_steps_are_told_apart_ordered_and_replaced(
    repository: NotebookRepository, notebook_id: str
) -> None:
    steps = [2**32 - 1, 5_000_000_000, 6_000_000_000, 2**53 - 1]
    made = [
        repository.create_checkpoint(
            new_checkpoint("nb", {"loss": -step}, epoch=0, step=step, run_id="r")
        )
        for step in steps
    ]
    assert [one.step for one in reversed(repository.list_checkpoints("nb"))] == steps
    (series,) = repository.series.list("nb")
    assert series.step == steps
    best = repository.get_best_checkpoint("nb", "loss", True)
    assert best is not None
    assert best.step == 2**53 - 1
    with pytest.raises(Conflict, match="at epoch 0, step 5000000000 already"):
        repository.create_checkpoint(new_checkpoint("nb", epoch=0, step=5_000_000_000, run_id="r"))
    again = repository.create_checkpoint(
        new_checkpoint("nb", epoch=0, step=5_000_000_000, run_id="r"), overwrite=True
    )
    pinned = repository.checkpoints.update(made[2].id, UpdateCheckpoint(pinned=True))
    assert (again.step, pinned.step) == (5_000_000_000, 6_000_000_000)
    assert {one.id for one in repository.list_checkpoints("nb")} == {
        made[0].id,
        again.id,
        made[2].id,
        made[3].id,
    }


def test_a_condition_on_steps_means_what_the_documents_say(
    repository: NotebookRepository, notebook_id: str, store: Store
) -> None:
    for step in (7, 2**32 - 1, 5_000_000_000):
        repository.create_checkpoint(new_checkpoint("nb", step=step, run_id="r"))
    assert store.checkpoints.count(where("step") == 2**32 - 1) == 2
    assert store.checkpoints.count(where("large_step") == 5_000_000_000) == 1
    assert store.checkpoints.count(where("step") < 8) == 1


def test_the_names_that_rank_are_those_of_all_checkpoints(
    repository: NotebookRepository, notebook_id: str
) -> None:
    measure(
        repository,
        {"loss": 1, "val": {"acc": 2}},
        {"nan": math.nan, "x\x00y": 1},
        {"loss": 1, "note": "text"},
    )
    assert repository.checkpoints.list_metric_names("nb") == {"loss", "val.acc", "x\x00y"}
    assert repository.checkpoints.list_metric_names("nowhere") == set()


def test_a_name_means_what_it_means_to_rankings(
    repository: NotebookRepository, notebook_id: str
) -> None:
    odd = [
        {"a.b": 1, "a": {"b": 2, "c": 3}},
        {"a": {"b": 4}, "x": {"": 5}, "": 6},
        {"a.b": "text", "a": {"b": 7}},
        {"a": {"b.c": 8, "b": {"c": 9}}, "a.b": {"c": 10}},
    ]
    columns = measure(repository, *odd)
    for row, metrics in enumerate(odd):
        here = {name: column[row] for name, column in columns.items() if column[row] is not None}
        assert here == finite_metrics(metrics)


def test_what_is_no_number_leaves_a_gap(repository: NotebookRepository, notebook_id: str) -> None:
    columns = measure(
        repository,
        None,
        [1],
        {"a": 1},
        {"a": True, "b": "NaN"},
        {"a": 10**400},
        {"a": None, "c": 2},
    )
    assert columns == {"a": [None, None, 1, None, None, None], "c": [None] * 5 + [2]}


def test_nonfinite_numbers_are_floats_and_in_json_their_names(
    repository: NotebookRepository, notebook_id: str
) -> None:
    columns = measure(
        repository, {"a": math.nan, "b": {"c": math.inf}}, {"a": 1, "b": {"c": -math.inf}}
    )
    assert math.isnan(columns["a"][0])
    assert columns["b.c"] == [math.inf, -math.inf]
    (series,) = repository.series.list("nb", ["b.c", "a"])
    assert list(series.to_json()["metrics"].items()) == [
        ("b.c", ["Infinity", "-Infinity"]),
        ("a", ["NaN", 1]),
    ]


def test_a_checkpoint_in_a_form_of_its_own_is_read_and_a_damaged_one_named(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    assert measure(repository, {"half \ud800": 1, "a": 2}) == {"half \ud800": [1], "a": [2]}
    store.checkpoints.update({"epoch": "third"}, doc_ids=[repository.list_checkpoints("nb")[0].id])
    with pytest.raises(RecordDamaged, match=r"checkpoint .* is damaged in the store"):
        repository.series.list("nb")
