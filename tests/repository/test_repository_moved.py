"""State files in a folder that was moved or copied since their paths were recorded."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.factories import code, create_checkpoint_with_state, new_checkpoint, new_notebook

from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.records import NotebookCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention_rules import Newest
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store


@pytest.fixture
def states(store: Store, tmp_path: Path) -> StateStorage:  # type: ignore[override]
    return StateStorage(tmp_path / "states", store_id=store.mark_id)


def save_state(
    repository: NotebookRepository, states: StateStorage, id: str, *, mark: bool = True
) -> NotebookCheckpoint:
    """Create a checkpoint of ``nb`` whose state is its id."""
    return create_checkpoint_with_state(repository, states, "nb", id, id.encode(), mark=mark)


def make_old(root: str) -> None:
    for path in Path(root).rglob("*"):
        os.utime(path, (1, 1))
    os.utime(root, (1, 1))


def read_states(repository: NotebookRepository, states: StateStorage) -> list[str]:
    """Return the contents of the model states, newest first."""
    contents = []
    for checkpoint in repository.list_checkpoints("nb"):
        with states.open(checkpoint.model_state_path, checkpoint.notebook_id) as file:
            contents.append(file.read().decode())
    return contents


@pytest.fixture(params=["relative", "absolute"])
def moved(
    request: Any, repository: NotebookRepository, store: Store, states: StateStorage, tmp_path: Path
) -> tuple[NotebookRepository, StateStorage]:
    """Three checkpoints whose state files were moved after they were recorded.

    Older releases recorded absolute paths.
    """
    repository.create(new_notebook(code("a"), id="nb"))
    recording = repository if request.param == "relative" else NotebookRepository(store)
    for id in "abc":
        save_state(recording, states, id)
    moved = StateStorage(tmp_path / "moved", store_id=store.mark_id)
    os.rename(states.root, moved.root)
    return NotebookRepository(store, states=moved), moved


def test_paths_are_stored_relative_and_returned_absolute(
    repository: NotebookRepository, store: Store, states: StateStorage
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    created = save_state(repository, states, "c")
    with states.open_writer("nb", "c", "optimizer") as writer:
        writer.write(b"momentum")
        attached = repository.checkpoints.attach_state(
            "c", "optimizer", writer.commit, writer.digest, lambda _: False
        )
    updated = repository.checkpoints.update("c", UpdateCheckpoint(tags=["t"]))
    assert updated == repository.get_checkpoint("c") == repository.list_checkpoints("nb")[0]
    model, optimizer = "nb/c/model.pt", "nb/c/optimizer.bin"
    assert created.model_state_path == updated.model_state_path == f"{states.root}/{model}"
    paths = (attached.optimizer_state_path, updated.optimizer_state_path)
    assert paths == (f"{states.root}/{optimizer}",) * 2
    stored = store.checkpoints.get(doc_id="c")
    assert (stored["model_state_path"], stored["optimizer_state_path"]) == (model, optimizer)
    registered = repository.create_checkpoint(
        new_checkpoint("nb", id="d", model_state_path="/models/w.pt")
    )
    assert registered.model_state_path == "/models/w.pt"
    assert store.checkpoints.get(doc_id="d")["model_state_path"] == "/models/w.pt"


def test_a_moved_state_is_not_written_again(moved: tuple[NotebookRepository, StateStorage]) -> None:
    repository, states = moved
    for checkpoint in repository.list_checkpoints("nb"):
        again = repository.checkpoints.attach_state(
            checkpoint.id,
            "model",
            lambda: pytest.fail("unexpected write"),
            checkpoint.digests["model"],
            lambda path: states.can_read(path, "nb"),
        )
        assert again == checkpoint


def test_states_on_another_machine_are_not_pruned(
    repository: NotebookRepository, store: Store, states: StateStorage, tmp_path: Path
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    for id in "ab":
        save_state(repository, states, id)
    other = StateStorage(tmp_path / "other machine", store_id=store.mark_id)
    assert NotebookRepository(store, states=other).retention.prune("nb", [Newest(1)]) == []
    assert read_states(repository, states) == ["b", "a"]
    assert [one.checkpoint.id for one in repository.retention.prune("nb", [Newest(1)])] == ["a"]


def test_a_sweep_keeps_moved_states(moved: tuple[NotebookRepository, StateStorage]) -> None:
    repository, states = moved
    save_state(repository, states, "killed", mark=False)
    make_old(states.root)
    report = sweep(states, repository.checkpoints.list_state_names)
    assert (report.folders, report.temporaries, report.problems) == ([], [], [])
    assert read_states(repository, states) == ["killed", "c", "b", "a"]


def test_a_copy_of_a_store_removes_no_states_of_the_original(tmp_path: Path) -> None:
    """Both stores have the same id and are configured with the same folder of states."""
    files = [tmp_path / name / "axon.db" for name in ("original", "copy")]
    for file in files:
        file.parent.mkdir()
    with closing(open_store(f"sqlite:///{files[0]}")) as store:
        NotebookRepository(store).create(new_notebook(code("a"), id="nb"))
    shutil.copy(*files)
    with (
        closing(open_store(f"sqlite:///{files[0]}")) as original,
        closing(open_store(f"sqlite:///{files[1]}")) as copy,
    ):
        root = tmp_path / "shared"
        states, states_of_copy = (
            StateStorage(root, store_id=store.mark_id) for store in (original, copy)
        )
        repository = NotebookRepository(original, states=states)
        save_state(repository, states, "marked")
        save_state(repository, states, "killed", mark=False)
        make_old(states.root)
        copied = NotebookRepository(copy, states=states_of_copy)
        report = sweep(states_of_copy, copied.checkpoints.list_state_names)
        assert (report.folders, report.freed, report.problems) == ([], 0, [])
        assert read_states(repository, states) == ["killed", "marked"]
