"""Marks of state folders that several users share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.factories import create_checkpoint_with_state, new_checkpoint
from support.shared_database import create_trained_notebook

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, document


def test_a_conflict_names_the_columns_despite_row_level_security(
    open_as: Callable[[str], Store],
) -> None:
    store = open_as("alice")
    alice = NotebookRepository(store)
    notebook_id, checkpoint_id = create_trained_notebook(alice, "alice")
    again = new_checkpoint(notebook_id, epoch=1, step=1, run_id="run of alice")
    with pytest.raises(
        Conflict, match="run run of alice has a checkpoint at epoch 1, step 1 already"
    ):
        alice.create_checkpoint(again)
    with pytest.raises(Conflict, match=r"^axonml_checkpoints\.id exists already$"):
        store.checkpoints.insert(
            document(checkpoint_id, {"id": checkpoint_id, "notebook_id": notebook_id})
        )


def test_garbage_collection_keeps_state_files_of_other_users(
    open_as: Callable[[str], Store], tmp_path: Path
) -> None:
    stores = {role: open_as(role) for role in ("alice", "bob_role", "boss", "postgres")}
    repositories = {role: NotebookRepository(store) for role, store in stores.items()}
    notebook_id, _ = create_trained_notebook(repositories["bob_role"], "bob")

    def states(role: str) -> StateStorage:
        return StateStorage(tmp_path / "shared", store_id=stores[role].mark_id)

    def write_unmarked(role: str, checkpoint_id: str) -> Path:
        created = create_checkpoint_with_state(
            repositories[role], states(role), notebook_id, checkpoint_id, mark=False
        )
        path = Path(created.model_state_path)
        for aged in (path, *path.parent.iterdir(), path.parent):
            os.utime(aged, (1, 1))
        return path

    files = [write_unmarked(role, f"by_{role}") for role in ("bob_role", "boss", "postgres")]
    for role, repository in repositories.items():
        report = sweep(states(role), repository.checkpoints.list_state_names)
        assert (report.folders, report.problems) == ([], []), role
    assert all(file.exists() for file in files)
