"""The table of runs, and the code and the flags of several runs."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from support.factories import code, new_checkpoint, new_notebook, new_save
from support.many_runs import fill_store

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import RunStatus, TrainingRun, UpdateRun, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery, run_key
from jupyter_axon_notebooks.spool import Row


@pytest.fixture
def notebook(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("c1", "x = 1"), code("c2", "fit(x)"), id="nb")).id


def log(repository: NotebookRepository, run: TrainingRun, **metrics: float) -> None:
    rows = [
        Row(step, 0.0, {name: value + step for name, value in metrics.items()}) for step in (0, 1)
    ]
    repository.series.append(run.notebook_id, run.id, rows, spool=run.id, begin=0, end=1)


def table(repository: NotebookRepository, where: str = "", **options: Any) -> list[dict[str, Any]]:
    found = repository.runs.read_table(RunQuery(where=where, **options))
    return list(msgspec.to_builtins(found.runs))


def test_the_table_agrees_with_the_search(repository: NotebookRepository) -> None:
    fill_store(repository.store, 120, 3, rows=100)
    found = repository.runs.search(RunQuery(sort="-val_acc.max", user_id="ada"))
    rows = table(repository, sort="-val_acc.max", user_id="ada")
    keys, total = repository.runs.search_ids(RunQuery(sort="-val_acc.max", user_id="ada"))
    assert keys == [(row["notebook_id"], row["id"]) for row in rows]
    assert keys == [(one.run.notebook_id, one.run.id) for one in found.runs]
    assert total == found.total == 120
    for row, one in zip(rows, found.runs, strict=True):
        whole = one.run.to_json()
        for name in ("notebook_id", "number", "status", "started_at", "ended_at", "group", "tags"):
            assert row.get(name) == whole.get(name)
        assert row["metrics"] == whole.get("metrics", {})
        assert (row["checkpoint_count"], row["size"]) == (one.checkpoint_count, one.size)
        checkpoints = repository.list_checkpoints(one.run.notebook_id, run_id=one.run.id)
        assert row["pinned_count"] == sum(checkpoint.pinned for checkpoint in checkpoints)
    names = {row["name"] for row in rows}
    assert {"baseline 10", "run 1"} <= names


def test_odd_values_of_runs_are_in_the_table(repository: NotebookRepository, notebook: str) -> None:
    config = {"a": {"b": math.nan}, "half \ud800": "\ud800", "large": 10**40, "list": [1, [2]]}
    run = repository.runs.start(notebook, id="\ud800", name="\x00é", config=config, notes="x\x01")
    log(repository, run, loss=math.inf, other=math.nan)
    [row] = table(repository)
    assert (row["id"], row["name"], row["notes"]) == ("\ud800", "\x00é", "x\x01")
    assert math.isnan(row["config"].pop("a.b"))
    assert row["config"] == {"half \ud800": "\ud800", "large": 10**40, "list": [1, [2]]}
    summary = {"last_step": 1, "min_step": 0, "max_step": 0}
    infinity = dict.fromkeys(("last", "min", "max"), "Infinity")
    assert row["metrics"] == {
        "loss": {**infinity, **summary},
        "other": {"last": "NaN", "last_step": 1},
    }


def test_damaged_runs_are_not_in_the_table(repository: NotebookRepository, notebook: str) -> None:
    kept, *others = (repository.runs.start(notebook) for _ in range(3))
    for run, fields in zip(others, ({"status": 7}, {"started_at": "x" * 26 + "Z"}), strict=True):
        repository.store.runs.update(fields, [run_key(notebook, run.id)])
    assert [row["id"] for row in table(repository)] == [kept.id]


def test_an_expired_run_is_stopped_in_the_table(
    repository: NotebookRepository, notebook: str
) -> None:
    until = now() - timedelta(minutes=1)
    repository.runs.start(notebook, started_at=until - timedelta(hours=1), lease_until=until)
    [row] = table(repository)
    [found] = repository.runs.search(RunQuery()).runs
    assert (row["status"], row["ended_at"]) == ("stopped", found.run.to_json()["ended_at"])


def test_archived_runs_are_found_by_a_filter_or_by_id(
    repository: NotebookRepository, notebook: str
) -> None:
    first, second = repository.runs.start(notebook), repository.runs.start(notebook)
    repository.runs.update(notebook, first.id, UpdateRun(archived=True))
    assert [row["id"] for row in table(repository)] == [second.id]
    assert [row["id"] for row in table(repository, "archived == True")] == [first.id]
    assert [row["archived"] for row in table(repository, ids=[first.id])] == [True]
    assert len(table(repository, with_archived=True)) == 2
    assert repository.runs.get(notebook, first.id).archived is True
    assert len(repository.runs.list(notebook)) == 2
    repository.runs.update(notebook, first.id, UpdateRun(archived=False))
    assert len(table(repository)) == 2


def test_the_code_and_the_flags_of_runs_are_summarized(
    repository: NotebookRepository, notebook: str
) -> None:
    def train(*sources: str) -> TrainingRun:
        run = repository.runs.start(notebook)
        cells = [
            ExecutedCell(source=source, cell_id=f"c{number}", execution_count=number)
            for number, source in enumerate(sources, 1)
        ]
        id = repository.provenance.add(notebook, cells, Environment(python="3.11"))
        for step in (0, 1):
            new = new_checkpoint(notebook, run_id=run.id, step=step, provenance_id=id)
            repository.create_checkpoint(new)
        return run

    base, other = train("x = 1", "fit(x)"), train("x = 2", "fit(x)")
    recorded_nothing, without = repository.runs.start(notebook), repository.runs.start(notebook)
    repository.create_checkpoint(new_checkpoint(notebook, run_id=recorded_nothing.id))
    listed = [other, base, recorded_nothing, without]

    def summarize() -> list[tuple[bool, int | None, list[str]]]:
        found = repository.provenance.summarize_runs(listed, [base])
        assert [one.run_id for one in found] == [run.id for run in listed]
        return [
            (one.is_recorded, one.changed_cells, [flag.message for flag in one.flags])
            for one in found
        ]

    changed = (
        "Cell 1 (In [1]) was edited after it ran, and not run again before the training. Run it, "
        "and train again."
    )
    assert summarize()[:2] == [(True, 1, [changed]), (True, 0, [])]
    assert summarize()[2:] == [(False, 0, []), (False, None, [])]
    repository.save(notebook, new_save(code("c1", "x = 2"), code("c2", "fit(x)")))
    [_, (_, _, [message])] = summarize()[:2]
    assert message.startswith("Cell 1 (In [1]) has changed since it ran")
    repository.store.provenance.remove(repository.store.provenance.ids_with_prefix("nb/"))
    assert NotebookRepository(repository.store).provenance.summarize_runs([base])[0].flags == []


def test_series_of_several_runs_are_read(repository: NotebookRepository, notebook: str) -> None:
    first, second, deleted = (repository.runs.start(notebook) for _ in range(3))
    log(repository, first, loss=0.5, acc=1.0)
    log(repository, second, loss=2.0)
    repository.runs.update_status(notebook, deleted.id, RunStatus.COMPLETED)
    repository.checkpoints.delete_run(notebook, deleted.id)
    found = repository.series.read_runs([second, first, deleted], ["loss", "acc"], points=10)
    assert [{name: one.values.tolist() for name, one in run.items()} for run in found] == [
        {"loss": [2.0, 3.0]},
        {"loss": [0.5, 1.5], "acc": [1.0, 2.0]},
        {},
    ]
    every = repository.series.read_runs(repository.runs.list(notebook), [], points=10)
    assert [sorted(run) for run in every] == [["loss"], ["acc", "loss"]]
