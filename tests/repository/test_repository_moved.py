"""State files whose folder was moved, or copied, since their paths were recorded."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.factories import code, new_checkpoint, new_notebook

from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.records import NotebookCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention import Newest
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store


@pytest.fixture
def states(store: Store, tmp_path: Path) -> StateStorage:  # type: ignore[override]
    return StateStorage(tmp_path / "states", store_id=store.mark_id)


def put(
    repository: NotebookRepository, states: StateStorage, id: str, *, notes: bool = True
) -> NotebookCheckpoint:
    """Make a checkpoint of ``nb`` as a kernel does, which is killed before it notes that it is recorded without ``notes``."""
    with states.open_writer("nb", id, "model", format="torch") as writer:
        writer.write(id.encode())
        stored = writer.commit()
    new = new_checkpoint(
        "nb", id=id, model_state_path=stored.path, digests={"model": stored.digest}
    )
    new.sizes = {"model": stored.size}
    made = repository.create_checkpoint(new)
    if notes:
        states.mark_recorded("nb", id)
    return made


def age(root: str) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (1, 1))


def read(states: StateStorage, one: NotebookCheckpoint | None) -> bytes:
    assert one is not None
    with states.open(one.model_state_path, one.notebook_id) as file:
        return file.read()


@pytest.fixture(params=["relative", "absolute"])
def moved(
    request: Any, repository: NotebookRepository, store: Store, states: StateStorage, tmp_path: Path
) -> tuple[NotebookRepository, StateStorage]:
    """Three checkpoints, recorded by this version or by one that recorded absolute paths, whose root was moved then."""
    repository.create(new_notebook(code("a"), id="nb"))
    recording = repository if request.param == "relative" else NotebookRepository(store)
    for id in "abc":
        put(recording, states, id)
    now = StateStorage(tmp_path / "now", store_id=store.mark_id)
    os.rename(states.root, now.root)
    return NotebookRepository(store, states=now), now


def test_paths_are_stored_relative_and_given_absolute(
    repository: NotebookRepository, store: Store, states: StateStorage
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    made = put(repository, states, "c")
    assert made.model_state_path == os.path.join(states.root, "nb", "c", "model.pt")
    assert store.checkpoints.get(doc_id="c")["model_state_path"] == "nb/c/model.pt"
    with states.open_writer("nb", "c", "optimizer") as writer:
        writer.write(b"momentum")
        attached = repository.checkpoints.attach_state(
            "c", "optimizer", writer.commit, writer.digest, lambda _: False
        )
    assert attached.optimizer_state_path == os.path.join(states.root, "nb", "c", "optimizer.bin")
    assert store.checkpoints.get(doc_id="c")["optimizer_state_path"] == "nb/c/optimizer.bin"
    labelled = repository.checkpoints.update("c", UpdateCheckpoint(tags=["t"]))
    assert labelled == repository.get_checkpoint("c") == repository.list_checkpoints("nb")[0]
    assert (labelled.model_state_path, labelled.optimizer_state_path) == (
        made.model_state_path,
        attached.optimizer_state_path,
    )
    registered = repository.create_checkpoint(
        new_checkpoint("nb", id="d", model_state_path="/models/w.pt")
    )
    assert registered.model_state_path == "/models/w.pt"
    assert store.checkpoints.get(doc_id="d")["model_state_path"] == "/models/w.pt"


def test_states_are_read_where_they_were_moved_to(
    moved: tuple[NotebookRepository, StateStorage],
) -> None:
    repository, states = moved
    assert [read(states, one) for one in repository.list_checkpoints("nb")] == [b"c", b"b", b"a"]


def test_a_moved_state_is_not_written_again(
    moved: tuple[NotebookRepository, StateStorage],
) -> None:
    repository, states = moved

    def commit() -> Any:
        raise AssertionError("it is there")

    for one in repository.list_checkpoints("nb"):
        digest = one.digests["model"]  # type: ignore[index]
        again = repository.checkpoints.attach_state(
            one.id, "model", commit, digest, lambda path: states.can_read(path, "nb")
        )
        assert again == one


def test_pruning_removes_moved_states(moved: tuple[NotebookRepository, StateStorage]) -> None:
    repository, states = moved
    planned = repository.retention.plan("nb", [Newest(1)])
    assert [one.checkpoint.id for one in planned.prunable] == ["b", "a"]
    assert planned.size == 2
    repository.retention.prune("nb", [Newest(1)])
    assert [path.parent.name for path in Path(states.root).rglob("*.pt")] == ["c"]
    assert not any(path for path in Path(states.root).rglob(".*"))


def test_states_on_another_machine_are_not_pruned(
    repository: NotebookRepository, store: Store, states: StateStorage, tmp_path: Path
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    for id in "ab":
        put(repository, states, id)
    there = NotebookRepository(
        store, states=StateStorage(tmp_path / "another home", store_id=store.mark_id)
    )
    assert there.retention.prune("nb", [Newest(1)]) == []
    assert [read(states, one) for one in repository.list_checkpoints("nb")] == [b"b", b"a"]
    assert [one.checkpoint.id for one in repository.retention.prune("nb", [Newest(1)])] == ["a"]


def test_a_sweep_keeps_moved_states(moved: tuple[NotebookRepository, StateStorage]) -> None:
    repository, states = moved
    put(repository, states, "killed", notes=False)
    age(states.root)
    report = sweep(states, repository.checkpoints.list_state_names)
    assert (report.folders, report.temporaries, report.problems) == ([], [], [])
    assert {read(states, one) for one in repository.list_checkpoints("nb")} == {
        b"a",
        b"b",
        b"c",
        b"killed",
    }


def test_sweeps_understand_paths_of_all_systems(
    repository: NotebookRepository, store: Store, states: StateStorage
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    put(repository, states, "c", notes=False)
    foreign = "C:\\states\\nb\\c\\model.pt"
    store.checkpoints.update({"model_state_path": foreign}, doc_ids=["c"])
    age(states.root)
    assert sweep(states, repository.checkpoints.list_state_names).freed == 0
    assert read(states, repository.get_checkpoint("c")) == b"c"


def test_a_copy_of_a_store_removes_no_states_of_the_original(tmp_path: Path) -> None:
    """Both have one id, and here, by configuration, one root."""
    files = [tmp_path / name / "axon.db" for name in ("original", "copy")]
    for file in files:
        file.parent.mkdir()
    with closing(open_store(f"sqlite:///{files[0]}")) as store:
        NotebookRepository(store).create(new_notebook(code("a"), id="nb"))
    shutil.copy(*files)
    with (
        closing(open_store(f"sqlite:///{files[0]}")) as first,
        closing(open_store(f"sqlite:///{files[1]}")) as second,
    ):
        homes = [
            StateStorage(tmp_path / "shared", store_id=store.mark_id) for store in (first, second)
        ]
        originals, copies = (
            NotebookRepository(store, states=states)
            for store, states in zip((first, second), homes, strict=True)
        )
        put(originals, homes[0], "noted")
        put(originals, homes[0], "killed", notes=False)
        age(homes[0].root)
        report = sweep(homes[1], copies.checkpoints.list_state_names)
        assert (report.folders, report.freed, report.problems) == ([], 0, [])
        assert [read(homes[0], one) for one in originals.list_checkpoints("nb")] == [
            b"killed",
            b"noted",
        ]


def test_states_with_marks_of_older_releases_are_removed(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'axon.db'}")) as store:
        assert store.former_mark_id is not None
        assert store.mark_id != store.former_mark_id
        records = NotebookRepository(store)
        records.create(new_notebook(code("a"), id="nb"))
        before = StateStorage(tmp_path / "states", store_id=store.former_mark_id)
        put(NotebookRepository(store, states=before), before, "recorded", notes=False)
        with before.open_writer("nb", "killed", "model", format="torch") as writer:
            writer.write(b"killed")
            writer.commit()
        age(before.root)
        now = StateStorage(
            tmp_path / "states", store_id=store.mark_id, former_store_id=store.former_mark_id
        )
        report = sweep(now, records.checkpoints.list_state_names)
        assert [Path(one).name for one in report.folders] == ["killed"]
        assert [read(now, one) for one in records.list_checkpoints("nb")] == [b"recorded"]
