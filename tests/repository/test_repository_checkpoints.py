"""Create, list, rank, label and delete checkpoints; start and end runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
from support.factories import (
    RecordedStates,
    code,
    count_rows,
    create_notebooks,
    new_checkpoint,
    new_notebook,
)

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound
from jupyter_axon_notebooks.records import NotebookCheckpoint, RunStatus, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store


class StoredState(NamedTuple):
    path: str
    digest: str
    size: int


@pytest.fixture
def notebook_id(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("a", "1"), id="nb")).id


def ids(checkpoints: list[NotebookCheckpoint]) -> list[str]:
    return [checkpoint.id for checkpoint in checkpoints]


def create(
    repository: NotebookRepository, id: str, metrics: Any = None, **fields: Any
) -> NotebookCheckpoint:
    return repository.create_checkpoint(new_checkpoint("nb", metrics, id=id, **fields))


# Creating


def test_a_checkpoint_is_read_as_it_was_returned(
    repository: NotebookRepository, notebook_id: str
) -> None:
    fields = {
        "epoch": 2**32 - 1,
        "step": 7,
        "model_state_path": "/m",
        "optimizer_state_path": "/o",
        "digests": {"model": "ab"},
        "sizes": {"model": 5},
        "format": "safetensors",
        "tags": ["t"],
        "pinned": True,
        "run_id": "r",
    }
    created = create(repository, "cp", {"loss": 0.5, "nested": {"a": None, "b": [1]}}, **fields)
    assert repository.get_checkpoint("cp") == created
    assert {name: getattr(created, name) for name in fields} == fields
    assert repository.get_checkpoint("nowhere") is None


def test_nonfinite_metrics_are_read_as_floats(
    repository: NotebookRepository, notebook_id: str
) -> None:
    metrics = {"a": math.nan, "b": math.inf, "c": {"d": -math.inf}, "e": "NaN", "f": 1}
    create(repository, "cp", metrics)
    found = repository.get_checkpoint("cp")
    assert repr(found.metrics) == repr(metrics)
    assert found.nonfinite == ["a", "b", "c.d"]
    assert found.to_json()["metrics"]["c"] == {"d": "-Infinity"}
    assert repr(repository.list_checkpoints("nb")[0].metrics) == repr(metrics)


def test_a_checkpoint_refers_only_to_versions_of_its_notebook(
    repository: NotebookRepository, notebook_id: str
) -> None:
    first = create(repository, "1").version_id
    repository.add_cell("nb", code("b"))
    assert create(repository, "2", version_id=first).version_id == first
    foreign = repository.create(new_notebook()).version_id
    for version_id in (foreign, "none", ""):
        with pytest.raises(InvalidData, match="version") as raised:
            create(repository, "3", version_id=version_id, run_id="new")
        assert raised.value.path == "$.version_id"
    assert repository.get_checkpoint("3") is None
    assert repository.runs.get("nb", "new") is None


def test_epoch_and_step_are_unique_within_a_run(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create(repository, "1", epoch=1, step=1, run_id="r")
    with pytest.raises(Conflict, match=r"run r .*epoch 1, step 1"):
        create(repository, "2", epoch=1, step=1, run_id="r")
    create(repository, "3", epoch=1, step=2, run_id="r")
    create(repository, "4", epoch=2, step=1, run_id="r")
    create(repository, "5", epoch=1, step=1, run_id="other")
    for id in ("without a run", "also without"):
        create(repository, id, epoch=1, step=1)
    assert repository.checkpoints.count("nb") == 6
    repository.delete_checkpoint("1")
    create(repository, "6", epoch=1, step=1, run_id="r")


def test_metrics_are_added_to_a_checkpoint(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create(repository, "a", {"loss": 1.0, "val": {"loss": 3.0}}, tags=["first"])
    later = create(repository, "b", {"loss": 2.0})
    added = repository.checkpoints.add_metrics(
        "a", {"loss": 0.5, "val": {"f1": 0.25, "loss": math.nan}}, ["first", "best"]
    )
    assert added == repository.get_checkpoint("a")
    assert added.created_at > later.created_at
    assert added.tags == ["first", "best"]
    assert (added.metrics["loss"], added.metrics["val"]["f1"]) == (0.5, 0.25)
    assert math.isnan(added.metrics["val"]["loss"])
    for name, best in (("loss", "a"), ("val.f1", "a"), ("val.loss", None)):
        found = repository.get_best_checkpoint(notebook_id, name, minimize=True)
        assert (found and found.id) == best
    with pytest.raises(NotFound, match="checkpoint nowhere"):
        repository.checkpoints.add_metrics("nowhere", {"loss": 1.0})


def test_large_steps_are_distinguished(repository: NotebookRepository, notebook_id: str) -> None:
    def create_at(step: int, **options: Any) -> NotebookCheckpoint:
        new = new_checkpoint("nb", {"loss": -step}, step=step, run_id="r")
        return repository.create_checkpoint(new, **options)

    steps = [2**32 - 1, 5_000_000_000, 6_000_000_000, 2**53 - 1]
    checkpoints = [create_at(step) for step in steps]
    assert [one.step for one in reversed(repository.list_checkpoints("nb"))] == steps
    (series,) = repository.series.list("nb")
    assert series.step == steps
    assert repository.get_best_checkpoint("nb", "loss", True).step == 2**53 - 1
    with pytest.raises(Conflict, match="at epoch 0, step 5000000000 already"):
        create_at(5_000_000_000)
    again = create_at(5_000_000_000, overwrite=True)
    pinned = repository.checkpoints.update(checkpoints[2].id, UpdateCheckpoint(pinned=True))
    assert (again.step, pinned.step) == (5_000_000_000, 6_000_000_000)
    first, _, third, fourth = (checkpoint.id for checkpoint in checkpoints)
    found = {checkpoint.id for checkpoint in repository.list_checkpoints("nb")}
    assert found == {first, again.id, third, fourth}


# Listing


# Ranking


def find_best(repository: NotebookRepository, key: str, minimize: bool) -> str | None:
    found = repository.get_best_checkpoint("nb", key, minimize)
    return None if found is None else found.id


def test_a_dotted_key_names_a_nested_metric_unless_a_literal_key_exists(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create(repository, "path", {"val": {"loss": 2, "top": {"k": 5}}})
    assert find_best(repository, "val.loss", True) == "path"
    assert find_best(repository, "val.top.k", True) == "path"
    assert find_best(repository, "val", True) is None
    create(repository, "exact", {"val.loss": 3, "val": {"loss": 0}})
    create(repository, "longer", {"val.top": {"k": 6}, "val": {"top.k": 1, "top": {"k": 0}}})
    create(repository, "hidden", {"val.loss": "text", "val": {"loss": -9}})
    assert find_best(repository, "val.loss", True) == "path"
    assert find_best(repository, "val.loss", False) == "exact"
    assert find_best(repository, "val.top.k", False) == "longer"


@pytest.mark.parametrize(
    ("minimize", "count", "expected"),
    [(True, 3, "bdc"), (False, 3, "afc"), (True, 99, "bdcaf"), (True, 0, "")],
)
def test_the_best_checkpoints_are_listed_best_first(
    repository: NotebookRepository, notebook_id: str, minimize: bool, count: int, expected: str
) -> None:
    for id, loss in zip("abcdef", [3, 1, 2, 1, math.nan, 3], strict=True):
        create(repository, id, {"loss": loss})
    found = repository.checkpoints.list_best("nb", "loss", minimize, count)
    assert ids(found) == list(expected)


# Labels and states


def test_states_are_attached_separately(repository: NotebookRepository, notebook_id: str) -> None:
    create(repository, "cp")
    repository.checkpoints.attach_state("cp", "model", lambda: StoredState("/m", "aa", 3), "aa")
    both = repository.checkpoints.attach_state(
        "cp", "optimizer", lambda: StoredState("/o", "bb", 4), "bb"
    )
    assert (both.model_state_path, both.optimizer_state_path) == ("/m", "/o")
    assert both.digests == {"model": "aa", "optimizer": "bb"}
    assert both.sizes == {"model": 3, "optimizer": 4}
    assert repository.get_checkpoint("cp") == both


def test_a_different_state_of_the_same_part_is_rejected(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create(repository, "cp")
    create(repository, "registered", model_state_path="/theirs")
    state = StoredState("/m", "aa", 3)
    attached = repository.checkpoints.attach_state("cp", "model", lambda: state, "aa")
    for id in ("cp", "registered"):
        with pytest.raises(Conflict, match=f"{id} has a model state"):
            repository.checkpoints.attach_state(id, "model", _never, "bb")
    assert repository.get_checkpoint("cp") == attached
    assert repository.checkpoints.attach_state("cp", "model", _never, "aa") == attached


def test_a_state_that_cannot_be_written_leaves_the_record_unchanged(
    repository: NotebookRepository, notebook_id: str
) -> None:
    def fail() -> StoredState:
        raise OSError("no space")

    created = create(repository, "cp")
    with pytest.raises(OSError, match="no space"):
        repository.checkpoints.attach_state("cp", "model", fail, "aa")
    assert repository.get_checkpoint("cp") == created
    with pytest.raises(NotFound, match="checkpoint x not found"):
        repository.checkpoints.attach_state("x", "model", _never, "aa")


def _never() -> StoredState:
    raise AssertionError("an existing state is written again")


def test_deleting_a_checkpoint_removes_everything_of_it(
    repository: NotebookRepository, store: Store, states: RecordedStates, notebook_id: str
) -> None:
    create(repository, "kept", {"loss": 1})
    before = count_rows(store)
    create(repository, "gone", {"loss": 0, "a": {"b": 2}, "nan": math.nan})
    repository.delete_checkpoint("gone")
    assert count_rows(store) == before
    assert states.removed == [("nb", "gone")]
    assert find_best(repository, "loss", True) == "kept"
    with pytest.raises(NotFound, match="checkpoint gone not found"):
        repository.delete_checkpoint("gone")
    assert len(states.removed) == 1


# Runs


def test_the_first_checkpoint_starts_its_run(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create(repository, "1", run_id="r")
    run = repository.runs.get("nb", "r")
    assert (run.notebook_id, run.status) == ("nb", RunStatus.RUNNING)
    assert (run.parent_checkpoint_id, run.ended_at) == (None, None)
    create(repository, "2", epoch=1, run_id="r")
    assert repository.runs.get("nb", "r") == run
    assert repository.runs.list("nb") == [run]


def test_runs_of_two_notebooks_may_share_an_id(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create_notebooks(repository, "other")
    run = repository.runs.start("other", id="r")
    create(repository, "cp", run_id="r", epoch=1)
    repository.create_checkpoint(new_checkpoint("other", id="of other", run_id="r", epoch=1))
    with pytest.raises(Conflict, match="notebook nb has a run r already"):
        repository.runs.start("nb", id="r")
    repository.runs.update_status("nb", "r", RunStatus.FAILED)
    assert repository.runs.get("other", "r") == run
    assert [one.status for one in repository.runs.list("nb")] == [RunStatus.FAILED]
    assert [one.id for one in repository.list_checkpoints("other", run_id="r")] == ["of other"]
    repository.delete("nb")
    assert repository.runs.get("nb", "r") is None
    assert repository.runs.list("other") == [run]
    assert repository.checkpoints.count("other", run_id="r") == 1


def test_a_run_continues_a_checkpoint_of_its_notebook(
    repository: NotebookRepository, notebook_id: str
) -> None:
    create_notebooks(repository, "other")
    create(repository, "parent")
    run = repository.runs.start("nb", parent_checkpoint_id="parent")
    assert run.parent_checkpoint_id == "parent"
    for id, parent in (("other", "parent"), ("nb", "none")):
        with pytest.raises(NotFound, match=f"checkpoint {parent} not found"):
            repository.runs.start(id, parent_checkpoint_id=parent)
    with pytest.raises(NotFound, match="notebook x not found"):
        repository.runs.start("x")
    assert repository.runs.get("nb", "none") is None


def test_a_run_can_be_ended_and_reopened(repository: NotebookRepository, notebook_id: str) -> None:
    run = repository.runs.start("nb", id="r")
    for status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED):
        ended = repository.runs.update_status("nb", "r", status)
        assert ended.status is status
        assert ended.ended_at is not None
        assert ended.ended_at >= run.started_at
        assert repository.runs.get("nb", "r") == ended
    assert repository.runs.update_status("nb", "r", RunStatus.RUNNING) == run
    with pytest.raises(NotFound, match="run x not found"):
        repository.runs.update_status("nb", "x", RunStatus.FAILED)
