"""What is noted while the store cannot be had is recorded once, whoever tries, and only what is noted in its own place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jupyter_axon_notebooks.records import (
    NewCheckpoint,
    NewNotebook,
    NotebookStatus,
    RunProcess,
    RunStatus,
    TrainingRun,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateFiles
from jupyter_axon_notebooks.states.notes import NOTE, move_checkpoint
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.training.recovery import Recovery, Unrecorded, find_unrecorded, recover

ORIGIN = "an-origin"
NOTEBOOK, RUN = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def states(tmp_path: Path) -> StateFiles:
    return StateFiles(tmp_path / "states")


@pytest.fixture
def records(states: StateFiles) -> Iterator[NotebookRepository]:
    store = open_store("memory://")
    yield NotebookRepository(store, states=states)
    store.close()


Leave = Callable[..., Unrecorded]


@pytest.fixture
def leave(states: StateFiles) -> Leave:
    """Leaves a checkpoint that no store has, as a training does."""

    def leave(
        id: str, epoch: int = 0, *, path: str | None = None, status: RunStatus = RunStatus.RUNNING
    ) -> Unrecorded:
        with states.writer(NOTEBOOK, id, "model", format="safetensors") as writer:
            writer.write(b"weights of " + id.encode())
            stored = writer.commit()
        noted = Unrecorded(
            checkpoint=NewCheckpoint(
                id=id,
                notebook_id=NOTEBOOK,
                run_id=RUN,
                epoch=epoch,
                step=epoch,
                metrics={"loss": 1.0},
                model_state_path=stored.path,
                digests={"model": stored.digest},
                sizes={"model": stored.size},
            ),
            made_at=now(),
            run=TrainingRun(id=RUN, notebook_id=NOTEBOOK, started_at=now(), status=status),
            store_url="memory://",
            owner="ada",
            origin=ORIGIN,
            path=path,
            kind="notebook",
        )
        noted.write(states)
        return noted

    return leave


def take_in(records: NotebookRepository, states: StateFiles) -> list[Recovery]:
    found = list(find_unrecorded(states))
    noted = [one for one in found if isinstance(one, Unrecorded)]
    return [*recover(records, states, ORIGIN, noted), *(one for one in found if isinstance(one, Recovery))]


def test_what_was_noted_is_recorded_in_its_order(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    for epoch, id in enumerate(["c", "a", "b"]):
        leave(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.FAILED)
    assert [done.trouble for done in take_in(records, states)] == [None] * 3
    made = records.list_checkpoints(NOTEBOOK)
    assert [(one.id, one.epoch) for one in made] == [("b", 2), ("a", 1), ("c", 0)]
    assert all(states.holds(one.model_state_path, NOTEBOOK) for one in made)
    (run,) = records.list_runs(NOTEBOOK)
    assert (run.id, run.status) == (RUN, RunStatus.FAILED)
    assert take_in(records, states) == []


def test_it_is_recorded_once_even_if_its_note_stays(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    noted = leave("a")
    assert take_in(records, states)[0].trouble is None
    noted.write(states)  # as if the process had been killed before it could remove the note
    assert take_in(records, states)[0].trouble is None
    assert records.count_checkpoints(NOTEBOOK) == 1
    assert list(find_unrecorded(states)) == []


def test_a_run_whose_process_is_gone_is_stopped(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    noted = leave("a")
    assert noted.run is not None
    noted.run.process = RunProcess(host="elsewhere, or before it was started anew", pid=1, started_at=now())
    noted.made_at = now() - timedelta(days=1)
    noted.write(states)
    take_in(records, states)
    assert records.list_runs(NOTEBOOK)[0].status is RunStatus.STOPPED
    assert records.find_summary(NOTEBOOK).status is not NotebookStatus.RUNNING  # type: ignore[union-attr]


def test_what_was_made_before_does_not_become_the_newest(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    noted = leave("monday")
    noted.made_at = now() - timedelta(days=1)
    assert noted.run is not None
    noted.run.started_at = noted.made_at
    noted.write(states)
    records.create(NewNotebook(id=NOTEBOOK, user_id="ada", name="train"))
    today = records.create_checkpoint(
        NewCheckpoint(notebook_id=NOTEBOOK, run_id="today", epoch=50, step=50, metrics={})
    )
    (done,) = take_in(records, states)
    assert done.checkpoint is not None
    assert done.checkpoint.created_at == noted.made_at
    assert records.latest_checkpoint(NOTEBOOK) == today
    assert [run.id for run in records.list_runs(NOTEBOOK)] == ["today", RUN]


def test_how_a_run_ended_is_recorded_even_if_its_checkpoints_are(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    leave("a")
    take_in(records, states)
    leave("a", status=RunStatus.COMPLETED)  # the process that made it learns nothing of that, and ends
    take_in(records, states)
    assert records.list_runs(NOTEBOOK)[0].status is RunStatus.COMPLETED
    assert list(find_unrecorded(states)) == []


def test_its_folder_goes_to_the_notebook_that_its_file_belongs_to(
    records: NotebookRepository, states: StateFiles, leave: Leave, tmp_path: Path
) -> None:
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    leave("a", 0, path=str(file))
    leave("b", 1, path=str(file))
    assert [done.trouble for done in take_in(records, states)] == [None, None]
    (notebook,) = records.list_all()
    assert notebook.path == str(file)
    assert [one.id for one in records.list_checkpoints(notebook.id)] == ["b", "a"]
    for one in records.list_checkpoints(notebook.id):
        assert one.model_state_path.startswith(f"{states.root}/{notebook.id}/{one.id}/")
        assert states.holds(one.model_state_path, notebook.id)
    assert os.listdir(states.root) == [notebook.id]


def test_a_move_that_was_cut_short_is_finished(
    records: NotebookRepository, states: StateFiles, leave: Leave, tmp_path: Path
) -> None:
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    leave("a", path=str(file))
    other = "33333333-3333-4333-8333-333333333333"
    move_checkpoint(states.root, "a", NOTEBOOK, other)
    assert [done.trouble for done in take_in(records, states)] == [None]
    (notebook,) = records.list_all()
    assert states.holds(records.list_checkpoints(notebook.id)[0].model_state_path, notebook.id)


def test_a_note_leads_nowhere_but_to_its_own_folder(
    records: NotebookRepository, states: StateFiles, leave: Leave, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"not yours")
    noted = leave("a")
    noted.checkpoint.model_state_path = str(secret)
    noted.write(states)
    (done,) = take_in(records, states)
    assert "secret.safetensors not found" in str(done.trouble)
    link = Path(states.root) / NOTEBOOK / "a" / "secret.safetensors"
    link.symlink_to(secret)
    (done,) = take_in(records, states)
    assert done.trouble is not None
    assert records.get_checkpoint("a") is None


def test_ids_in_a_note_do_not_count(records: NotebookRepository, states: StateFiles, leave: Leave) -> None:
    noted = leave("a")
    noted.checkpoint.id = "../../elsewhere"
    document = noted.to_json()
    (Path(states.root) / NOTEBOOK / "a" / NOTE).write_text(json.dumps(document))
    (done,) = take_in(records, states)
    assert done.checkpoint is not None
    assert done.checkpoint.id == "a"


def test_a_state_that_is_not_whole_is_not_recorded(
    records: NotebookRepository, states: StateFiles, leave: Leave
) -> None:
    noted = leave("a")
    Path(noted.checkpoint.model_state_path).write_bytes(b"half")
    (done,) = take_in(records, states)
    assert "has 4 bytes" in str(done.trouble)
    assert records.get_checkpoint("a") is None


@pytest.mark.parametrize("text", ["", "[]", '{"checkpoint": 3}', "{" * 100_000])
def test_a_note_that_cannot_be_read_is_named_and_stays(
    records: NotebookRepository, states: StateFiles, leave: Leave, text: str
) -> None:
    leave("a")
    leave("b", 1)
    broken = Path(states.root) / NOTEBOOK / "a" / NOTE
    broken.write_text(text)
    recorded, trouble = take_in(records, states)
    assert recorded.checkpoint is not None
    assert trouble.trouble is not None
    assert broken.exists()


def test_no_sweep_takes_what_is_noted(states: StateFiles, leave: Leave) -> None:
    noted = leave("a")
    folder = os.path.dirname(noted.checkpoint.model_state_path)
    report = StateFiles(Path(states.root)).sweep(lambda _notebook, _checkpoint: None, older_than=-1)
    assert report.folders == []
    assert os.path.exists(os.path.join(folder, NOTE))
