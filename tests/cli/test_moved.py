"""State files are found, or reported, after data folders or roots were moved or copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.factories import create_checkpoint_with_state, new_notebook

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store

from .conftest import Axon

IDS = ("first", "second", "third")


@pytest.fixture(params=["relative", "absolute"])
def trained(request: Any, db: Path, root: Path) -> str:
    """The id of a record with three checkpoints, with relative or absolute paths."""
    with closing(open_store(f"sqlite:///{db}")) as store:
        states = StateStorage(root, store_id=store.mark_id)
        repository = NotebookRepository(
            store, states=states if request.param == "relative" else None
        )
        notebook_id = repository.create(new_notebook(name="train")).id
        for epoch, id in enumerate(IDS):
            create_checkpoint_with_state(
                repository,
                states,
                notebook_id,
                id,
                id.encode(),
                metrics={"loss": epoch},
                epoch=epoch,
            )
    return notebook_id


@pytest.fixture
def restored(axon: Axon, tmp_path: Path) -> Callable[[], list[str]]:
    """Gives what the command line restores of each checkpoint."""

    def restore() -> list[str]:
        found = []
        for id in IDS:
            ran = axon("restore", id, "-o", tmp_path / "restored", "--force")
            assert ran.exit_code == 0, ran.stderr
            found.append((tmp_path / "restored" / "model.pt").read_text())
        return found

    return restore


def problems(axon: Axon) -> dict[str, Any]:
    ran = axon("doctor", "--json")
    assert ran.exit_code == (1 if ran.json["problems"] else 0)
    assert "delete the checkpoints" not in ran.stdout
    return {problem["code"]: problem for problem in ran.json["problems"]}


def configure(jupyter: Path, root: Path) -> None:
    config = jupyter / "config" / "jupyter_server_config.py"
    config.write_text(f"c.AxonNotebooks.states_root = {str(root)!r}\n")


def names(root: Path) -> set[str]:
    return {file.parent.name for file in root.rglob("model.pt")}


@pytest.mark.parametrize("original", ["stays", "is on another machine"])
def test_a_copied_data_folder_has_all_that_was_copied(
    axon: Axon,
    jupyter: Path,
    root: Path,
    trained: str,
    restored: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    original: str,
) -> None:
    copied = jupyter / "copied"
    if original == "stays":
        shutil.copytree(jupyter / "data", copied)
    else:
        (jupyter / "data").rename(copied)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(copied))
    assert restored() == [*IDS]
    assert problems(axon) == {}
    ran = axon("prune", trained, "--keep-newest", 1, "--yes", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert names(copied / "axon_notebooks" / "states") == {"third"}
    assert names(root) == ({*IDS} if original == "stays" else set())
    assert problems(axon) == {}


def test_a_root_that_was_moved_with_its_configuration_is_as_before(
    axon: Axon,
    jupyter: Path,
    root: Path,
    trained: str,
    restored: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    now = tmp_path / "large disk" / "states"
    now.parent.mkdir()
    root.rename(now)
    configure(jupyter, now)
    assert restored() == [*IDS]
    assert problems(axon) == {}
    told = axon("doctor", "--json").json["facts"]["state files"]
    assert (told["size"], told["checkpoint folders"]) == (sum(map(len, IDS)), 3)
    assert axon("prune", trained, "--keep-newest", 1, "--yes").exit_code == 0
    assert names(now) == {"third"}


def test_a_dump_that_is_loaded_elsewhere_finds_the_states_that_were_copied_along(
    axon: Axon,
    jupyter: Path,
    root: Path,
    trained: str,
    restored: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert axon("dump", tmp_path / "dump.json").exit_code == 0
    other = jupyter / "other"
    shutil.copytree(root, other / "axon_notebooks" / "states")
    shutil.rmtree(jupyter / "data")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(other))
    loaded = axon("load", tmp_path / "dump.json")
    assert loaded.exit_code == 0, loaded.stderr
    assert restored() == [*IDS]
    assert problems(axon) == {}


def test_files_that_were_left_below_another_root_are_told_with_the_way_out(
    axon: Axon,
    jupyter: Path,
    root: Path,
    trained: str,
    restored: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    configure(jupyter, tmp_path / "new")
    assert axon("restore", "first").exit_code != 0
    found = problems(axon)
    told = found["state-files-elsewhere"]
    assert (
        f"3 recorded state files not below {tmp_path / 'new'}, but below {root}"
        in (told["message"])
    )
    assert f"copy or move the content of {root} to {tmp_path / 'new'}, or set" in told["advice"]
    root.rename(tmp_path / "new")
    assert problems(axon) == {}
    assert restored() == [*IDS]


def test_files_that_were_copied_in_part_are_told(axon: Axon, root: Path, trained: str) -> None:
    (root / trained / "second" / "model.pt").write_text("sec")
    found = problems(axon)
    assert found.keys() == {"altered-state-files"}
    assert "has 3 bytes instead of 6" in found["altered-state-files"]["message"]
    ran = axon("restore", "second")
    assert ran.exit_code != 0
    assert "model.pt is damaged: its SHA-256 differs from the recorded one" in ran.stderr.replace(
        "\n", " "
    )


def write_below(
    root: Path, db: Path, data_folder: Path | None = None, absolute: bool = False
) -> str:
    """Record a checkpoint whose state is below ``root``; return the record's id."""
    with closing(open_store(f"sqlite:///{db}")) as store:
        states = StateStorage(root, store_id=store.mark_id, data_folder=data_folder)
        repository = NotebookRepository(store, states=None if absolute else states)
        notebook_id = repository.create(new_notebook(name="scratch")).id
        create_checkpoint_with_state(repository, states, notebook_id, "c", b"scratch")
    return notebook_id


@pytest.mark.parametrize("recorded", ["relative", "absolute"])
def test_a_root_that_no_setting_names_any_more_is_told(
    axon: Axon, db: Path, root: Path, tmp_path: Path, recorded: str
) -> None:
    scratch = tmp_path / "scratch"
    if recorded == "relative":
        notebook_id = write_below(scratch, db, root.parent)
    else:
        notebook_id = write_below(scratch, db, absolute=True)
    found = problems(axon)
    assert found.keys() == {"state-files-elsewhere"}
    assert f"not below {root}, but below {scratch};" in found["state-files-elsewhere"]["message"]
    assert f"copy or move the content of {scratch}" in found["state-files-elsewhere"]["advice"]
    (scratch / notebook_id).rename(tmp_path / "unmounted")
    assert problems(axon).keys() == {"missing-state-files"}


def test_nothing_is_taken_from_a_root_that_no_setting_names(
    axon: Axon, db: Path, tmp_path: Path
) -> None:
    notebook_id = write_below(tmp_path / "scratch", db)
    file = tmp_path / "scratch" / notebook_id / "c" / "model.pt"
    assert axon("restore", "c").exit_code != 0
    axon("prune", notebook_id, "--keep-newest", 0, "--yes")
    assert file.read_text() == "scratch"
