"""State files in archives, and bundles."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from support.archives import archive_store, load_file
from support.factories import (
    code,
    create_checkpoint_with_state,
    new_notebook,
    new_save,
)

from jupyter_axon_notebooks.archive import write_bundle
from jupyter_axon_notebooks.errors import ArchiveRefused
from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import NotebookCheckpoint, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store


def storage(store: Store, folder: Path, **options: object) -> StateStorage:
    return StateStorage(folder, store_id=store.mark_id, **options)  # type: ignore[arg-type]


def train(store: Store, states: StateStorage, id: str = "c", content: bytes = b"weights") -> None:
    """Create a checkpoint of the notebook ``nb`` with a state file."""
    repository = NotebookRepository(store, states=states)
    if not store.notebooks.contains(doc_id="nb"):
        repository.create(new_notebook(id="nb"), new_save(code("a", "fit()")))
    create_checkpoint_with_state(repository, states, "nb", id, content, metrics={"loss": 0.5})


def read_state(store: Store, states: StateStorage, id: str = "c") -> bytes:
    checkpoint = NotebookRepository(store, states=states).get_checkpoint(id)
    assert checkpoint is not None
    with states.open(checkpoint.model_state_path, "nb") as file:
        return file.read()


@pytest.mark.parametrize("external", [False, True])
def test_state_files_are_restored_where_they_are_missing(
    store: Store, target: Store, file: Path, tmp_path: Path, external: bool
) -> None:
    mine = storage(store, tmp_path / "mine", other_roots=[tmp_path / "models"])
    train(store, mine)
    if external:
        (tmp_path / "models").mkdir()
        os.rename(tmp_path / "mine" / "nb" / "c" / "model.pt", tmp_path / "models" / "best.pt")
        path = str(tmp_path / "models" / "best.pt")
        store.checkpoints.update({"model_state_path": path}, doc_ids=["c"])
    summary = archive_store(store, file, states=mine)
    assert summary.problems == []
    theirs = storage(target, tmp_path / "theirs")
    report = load_file(target, file, states=theirs)
    assert (report.problems, report.states) == ([], 1)
    assert read_state(target, theirs) == b"weights"
    assert target.checkpoints.get(doc_id="c")["model_state_path"] == "nb/c/model.pt"
    assert os.listdir(tmp_path / "theirs" / "nb" / "c") == ["model.pt"]  # and no mark
    again = load_file(target, file, states=theirs)
    assert (again.problems, again.states) == ([], 0)
    (tmp_path / "theirs" / "nb" / "c" / "model.pt").unlink()
    assert load_file(target, file, states=theirs).states == 1
    assert read_state(target, theirs) == b"weights"


def test_states_of_unknown_checkpoints_are_not_restored(
    store: Store, target: Store, file: Path, tmp_path: Path
) -> None:
    mine = storage(store, tmp_path / "mine")
    train(store, mine)
    archive_store(store, file, states=mine)
    changed = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(changed, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "manifest.json":
                content = content.replace(b"states/nb/c/", b"states/nb/unknown/")
            copy.writestr(name.replace("states/nb/c/", "states/nb/unknown/"), content)
    theirs = storage(target, tmp_path / "theirs")
    assert load_file(target, changed, states=theirs).states == 0
    assert [path for path in (tmp_path / "theirs").rglob("*") if path.is_file()] == []


def test_a_missing_state_file_is_reported_and_the_others_are_archived(
    store: Store, memory: Store, file: Path, tmp_path: Path
) -> None:
    mine = storage(store, tmp_path / "mine")
    train(store, mine, "a")
    train(store, mine, "b")
    (tmp_path / "mine" / "nb" / "a" / "model.pt").unlink()
    [problem] = archive_store(store, file, states=mine).problems
    assert (problem.table, problem.id) == ("axonml_checkpoints", "a")
    theirs = storage(memory, tmp_path / "theirs")
    assert load_file(memory, file, states=theirs).states == 1
    assert read_state(memory, theirs, "b") == b"weights"


def test_a_damaged_state_file_is_refused_before_anything_is_stored(
    store: Store, memory: Store, file: Path, tmp_path: Path
) -> None:
    mine = storage(store, tmp_path / "mine")
    train(store, mine, content=b"weights" * 100)
    archive_store(store, file, states=mine)
    content = file.read_bytes()
    at = content.index(b"weights") + 12
    file.write_bytes(content[:at] + b"#" + content[at + 1 :])
    with pytest.raises(ArchiveRefused):
        load_file(memory, file, states=storage(memory, tmp_path / "theirs"))
    assert not len(memory.notebooks)
    assert not (tmp_path / "theirs").exists()


# Bundles


def trained(store: Store, states: StateStorage) -> tuple[NotebookRepository, NotebookCheckpoint]:
    """Create a checkpoint with provenance; return the repository and the checkpoint."""
    repository = NotebookRepository(store, states=states)
    train(store, states)
    packages = {"torch": "2.0", "NumPy": "1.26"}
    environment = Environment(python="3.11.9", platform="Linux", packages=packages)
    executed = [ExecutedCell(source="fit()", execution_count=1)]
    provenance_id = repository.provenance.add("nb", executed, environment)
    run = repository.runs.start("nb", config={"lr": 0.1})
    fields = {"provenance_id": provenance_id, "run_id": run.id}
    store.checkpoints.update(fields, doc_ids=["c"])
    checkpoint = repository.get_checkpoint("c")
    assert checkpoint is not None
    return repository, checkpoint


def test_a_bundle_holds_everything_about_a_checkpoint(
    store: Store, file: Path, tmp_path: Path
) -> None:
    states = storage(store, tmp_path / "states")
    repository, checkpoint = trained(store, states)
    repository.update("nb", UpdateNotebook(cells=[code("a", "saved later")]))
    with file.open("wb") as output:
        names = write_bundle(repository, checkpoint, states, output)
    with zipfile.ZipFile(file) as bundle:
        assert bundle.namelist() == names
        texts = {name: bundle.read(name) for name in names}
    name = next(name for name in names if name.endswith(".ipynb")).removesuffix(".ipynb")
    [cell] = json.loads(texts[f"{name}.ipynb"])["cells"]
    assert "".join(cell["source"]) == "fit()"
    assert b"fit()" in texts[f"{name}.py"]
    assert texts["requirements.txt"].decode().splitlines() == [
        "# CPython 3.11.9 on Linux",
        "NumPy==1.26",
        "torch==2.0",
    ]
    assert json.loads(texts["metrics.json"])["metrics"] == {"loss": 0.5}
    assert json.loads(texts["config.json"]) == {"lr": 0.1}
    assert json.loads(texts["provenance.json"])["executed"][0]["source"] == "fit()"
    assert texts["states/model.pt"] == b"weights"


def test_a_rejected_notebook_leaves_no_state_files(
    store: Store, memory: Store, file: Path, tmp_path: Path
) -> None:
    mine = storage(store, tmp_path / "mine")
    train(store, mine)
    archive_store(store, file, states=mine)
    NotebookRepository(memory).create(new_notebook(code("a", "another"), id="nb"))
    theirs = storage(memory, tmp_path / "theirs")
    report = load_file(memory, file, states=theirs)
    assert [one.kind for one in report.problems] == ["conflict"]
    assert report.states == 0
    assert [*(tmp_path / "theirs").rglob("*.pt")] == []


def test_a_pruned_checkpoint_stays_pruned(store: Store, file: Path, tmp_path: Path) -> None:
    mine = storage(store, tmp_path / "mine")
    train(store, mine)
    archive_store(store, file, states=mine)
    store.checkpoints.update({"model_state_path": ""}, doc_ids=["c"])
    (tmp_path / "mine" / "nb" / "c" / "model.pt").unlink()
    assert load_file(store, file, states=mine).states == 0
    assert [*(tmp_path / "mine").rglob("*.pt")] == []
