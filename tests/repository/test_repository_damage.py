"""Damaged records are named, and do not affect others."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from support.factories import code, count_rows, new_checkpoint, new_notebook, new_save

from jupyter_axon_notebooks.errors import RecordDamaged, StateError
from jupyter_axon_notebooks.records import NotebookStatus, RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository, States
from jupyter_axon_notebooks.repository.runs import run_key
from jupyter_axon_notebooks.store import Store


@pytest.mark.parametrize("table", ["axonml_versions", "axonml_contents"])
def test_a_notebook_without_its_cells_is_damaged(store: Store, table: str) -> None:
    repository = NotebookRepository(store)
    damaged = repository.create(new_notebook(code("a", "1")))
    lost = store.table(table)
    lost.remove(doc_ids=[document.doc_id for document in lost.all()])
    sound = repository.create(new_notebook(code("a", "1")))
    with pytest.raises(RecordDamaged, match="missing from the store"):
        repository.find_by_id(damaged.id)
    assert repository.find_by_id(sound.id) == sound


def test_a_notebook_with_a_damaged_checkpoint_can_be_deleted(store: Store) -> None:
    repository = NotebookRepository(store)
    repository.create(new_notebook(id="nb"))
    repository.create_checkpoint(new_checkpoint("nb"))
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE axonml_checkpoints SET document = '{'")
    repository.delete("nb")
    assert not any(count_rows(store).values())


def test_checkpoints_and_runs_with_invalid_fields_are_named(store: Store) -> None:
    repository = NotebookRepository(store)
    run = repository.runs.start(repository.create(new_notebook()).id)
    checkpoint = repository.create_checkpoint(new_checkpoint(run.notebook_id, run_id=run.id))
    store.checkpoints.update({"epoch": "third"}, doc_ids=[checkpoint.id])
    store.runs.update({"status": "asleep"}, doc_ids=[run_key(run.notebook_id, run.id)])
    with pytest.raises(RecordDamaged, match=f"checkpoint {checkpoint.id} is damaged in the store"):
        repository.get_checkpoint(checkpoint.id)
    for read in (
        lambda: repository.runs.get(run.notebook_id, run.id),
        lambda: repository.runs.list(run.notebook_id),
        lambda: repository.runs.update_status(run.notebook_id, run.id, RunStatus.COMPLETED),
    ):
        with pytest.raises(RecordDamaged, match=f"run {run.id} is damaged in the store"):
            read()


def test_a_damaged_run_does_not_affect_others(store: Store) -> None:
    repository = NotebookRepository(store)
    id = repository.create(new_notebook(), new_save()).id
    for run_id in ("damaged", "lapsed"):
        repository.runs.start(id, id=run_id, lease_until=datetime(2999, 1, 1, tzinfo=timezone.utc))
    repository.runs.renew(id, "lapsed", datetime(2020, 1, 1, tzinfo=timezone.utc))
    store.runs.update({"lease_until": "soon"}, doc_ids=[run_key(id, "damaged")])
    assert [one.status for one in repository.list_all()] == [NotebookStatus.STOPPED]
    assert repository.runs.finish_expired() == 1
    repository.runs.update_status(id, "lapsed", RunStatus.RUNNING)
    assert repository.save(id, new_save()).status is NotebookStatus.RUNNING


def test_state_files_that_remain_after_a_deletion_are_reported(store: Store) -> None:
    class UndeletableStates(States):
        def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
            raise StateError("disk failure")

        def remove_notebook(self, notebook_id: str) -> None:
            raise StateError("disk failure")

    repository = NotebookRepository(store, states=UndeletableStates())
    notebook = repository.create(new_notebook())
    checkpoint = repository.create_checkpoint(new_checkpoint(notebook.id))
    message = "is deleted, but state files of it remain: disk failure"
    with pytest.raises(StateError, match=f"checkpoint {checkpoint.id} {message}"):
        repository.delete_checkpoint(checkpoint.id)
    assert repository.get_checkpoint(checkpoint.id) is None
    with pytest.raises(StateError, match=f"notebook {notebook.id} is deleted, but"):
        repository.delete(notebook.id)
    assert repository.find_summary(notebook.id) is None
