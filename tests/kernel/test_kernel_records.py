"""The record of the notebook that trains, which is the one that a save of the file updates."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.engines import store, store_url
from support.server_processes import notebook, write

from jupyter_axon_notebooks.errors import Forbidden, InvalidData, NotFound
from jupyter_axon_notebooks.records import NewNotebook, NotebookSummary, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.sync import NotebookSync, files
from jupyter_axon_notebooks.training.discovery import location
from jupyter_axon_notebooks.training.discovery import record as record_module
from jupyter_axon_notebooks.training.discovery.location import NotebookLocation, find_location
from jupyter_axon_notebooks.training.discovery.record import PreviousRecord, find_or_create_record

__all__ = ["store", "store_url"]  # fixtures

ORIGIN = "this machine"


@pytest.fixture
def repository(store: Store) -> NotebookRepository:
    return NotebookRepository(store)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "train.ipynb", notebook("import torch", "train()"))


@dataclass(frozen=True)
class Home:
    repository: NotebookRepository
    origin: str = ORIGIN
    is_lost: bool = False

    def close(self) -> None:
        """The test closes the store."""


def at(path: Path, source: str = "session") -> NotebookLocation:
    return NotebookLocation("notebook", source, str(path))


def record_of(
    repository: NotebookRepository, path: Path, owner: str = "ada", **given: Any
) -> NotebookSummary:
    return find_or_create_record(repository, at(path, **given), ORIGIN, owner)


def test_a_file_gets_the_record_that_a_save_would_give_it(
    repository: NotebookRepository, file: Path
) -> None:
    made = record_of(repository, file)
    assert (made.name, made.user_id, made.path, made.origin) == ("train", "ada", str(file), ORIGIN)
    assert (made.cell_count, made.metadata.framework) == (2, "pytorch")
    sync = NotebookSync("the store", lambda: Home(repository), logging.getLogger("test"))
    sync.start()
    try:
        assert sync.sync_file(str(file), "ada").version_id == made.version_id
        assert repository.list_all()[0].id == made.id
    finally:
        sync.stop()


def test_an_unchanged_file_is_not_read_again(
    repository: NotebookRepository, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record_of(repository, file)
    monkeypatch.setattr(record_module, "NotebookRecorder", None)
    assert record_of(repository, file) == made


def test_a_changed_file_is_a_new_version(repository: NotebookRepository, file: Path) -> None:
    made = record_of(repository, file)
    write(file, notebook("import jax"))
    after = record_of(repository, file)
    assert (after.id, after.metadata.framework) == (made.id, "jax")
    assert after.version_id != made.version_id


def test_a_copy_has_a_record_of_its_own(repository: NotebookRepository, tmp_path: Path) -> None:
    content = notebook("train()", axon={"notebook_id": new_id()})
    first = record_of(repository, write(tmp_path / "a.ipynb", content))
    copy = record_of(repository, write(tmp_path / "b.ipynb", content))
    assert copy.metadata.extra["axon"]["copied_from"] == first.id != copy.id


def test_concurrent_calls_create_one_record(repository: NotebookRepository, file: Path) -> None:
    together = threading.Barrier(6)

    def ask(_: int) -> str:
        together.wait()
        return record_of(repository, file).id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    assert len(repository.list_all()) == 1


def test_a_half_written_file_leaves_the_record_as_it_is(
    repository: NotebookRepository, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_RETRY_DELAYS", (0.0, 0.0))
    made = record_of(repository, file)
    file.write_text(file.read_text()[:-20])
    assert record_of(repository, file) == made
    (tmp_path / "new.ipynb").write_text("{")
    with pytest.raises(InvalidData):
        record_of(repository, tmp_path / "new.ipynb")


def test_an_old_format_is_recorded_as_by_a_save(repository: NotebookRepository) -> None:
    old = Path(__file__).parents[1] / "data/corpus/nbformat/test3.ipynb"
    assert record_of(repository, old).cell_count > 0


def test_a_file_that_was_renamed_is_found_by_its_old_name(
    repository: NotebookRepository, file: Path
) -> None:
    made = record_of(repository, file)
    repository.bindings.bind(made.id, str(file.rename(file.with_name("after.ipynb"))))
    assert record_of(repository, file).id == made.id


def test_a_file_that_is_gone_leaves_its_record(repository: NotebookRepository, file: Path) -> None:
    made = record_of(repository, file)
    file.unlink()
    assert record_of(repository, file) == made


def test_a_file_that_was_deleted_in_jupyter_leaves_its_record(
    repository: NotebookRepository, file: Path
) -> None:
    made = record_of(repository, file)
    file.unlink()
    repository.bindings.unbind(made.id)
    assert record_of(repository, file).id == made.id
    assert record_of(repository, file, source="AXON_NOTEBOOK").id == made.id


@pytest.mark.parametrize("lost", ["a server that is gone", "a file that is gone"])
def test_a_process_keeps_its_record_if_no_other_notebook_is_found(
    repository: NotebookRepository, file: Path, tmp_path: Path, lost: str
) -> None:
    made = record_of(repository, file)
    previous = PreviousRecord(NotebookLocation("notebook", "session", str(file)), made.id)
    gone = NotebookLocation("notebook", "JPY_SESSION_NAME", str(tmp_path / "earlier.ipynb"))
    found_location = (
        NotebookLocation("unknown", "nothing") if lost == "a server that is gone" else gone
    )
    write(file, notebook("edited()"))
    found = find_or_create_record(repository, found_location, ORIGIN, "ada", previous)
    assert (found.id, found.version_id != made.version_id) == (made.id, True)
    other = write(tmp_path / "other.ipynb", notebook("another()"))
    elsewhere = NotebookLocation("notebook", "session", str(other))
    assert find_or_create_record(repository, elsewhere, ORIGIN, "ada", previous).id != made.id
    repository.delete(made.id)
    assert record_of(repository, file).id != made.id


def test_notes_on_a_record_outlive_a_save(repository: NotebookRepository, file: Path) -> None:
    made = record_of(repository, file)
    repository.annotate(made.id, executed_from={"program": "papermill"})
    write(file, notebook("edited()"))
    after = record_of(repository, file)
    assert after.version_id != made.version_id
    assert after.metadata.extra["axon"]["executed_from"] == {"program": "papermill"}


def test_a_former_name_of_two_notebooks_is_ambiguous(
    repository: NotebookRepository, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_UNBOUND_ID", new_id())
    ids = set()
    for name in ("a.ipynb", "b.ipynb"):
        made = record_of(repository, write(file, notebook(name)))
        repository.bindings.bind(made.id, str(file.rename(file.with_name(name))))
        ids.add(made.id)
    unbound = record_of(repository, file)
    assert (unbound.path, unbound.name, len(ids | {unbound.id})) == (None, "train", 3)
    with pytest.raises(NotFound, match=r"train\.ipynb"):
        record_of(repository, file, source="AXON_NOTEBOOK")


def test_an_unknown_notebook_has_one_record_for_the_process(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(record_module, "_UNBOUND_ID", new_id())
    monkeypatch.chdir(tmp_path)
    unknown = NotebookLocation("unknown", "nothing")
    first = find_or_create_record(repository, unknown, ORIGIN, "ada")
    assert (first.path, first.cell_count, first.name) == (None, 0, f"a notebook in {tmp_path.name}")
    assert find_or_create_record(repository, unknown, ORIGIN, "ada") == first


def test_the_working_directory_may_be_deleted(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alone: Path
) -> None:
    monkeypatch.setattr(record_module, "_UNBOUND_ID", new_id())
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert (
        find_or_create_record(
            repository, NotebookLocation("unknown", "nothing"), ORIGIN, "ada"
        ).path
        is None
    )
    monkeypatch.setattr(location, "WORKING_FOLDER", str(tmp_path))
    monkeypatch.setenv("AXON_NOTEBOOK", "train.ipynb")
    assert find_location() == NotebookLocation(
        "notebook", "AXON_NOTEBOOK", str(tmp_path / "train.ipynb")
    )


def test_a_record_is_used_by_its_id_by_its_owner_only(repository: NotebookRepository) -> None:
    made = repository.create(NewNotebook(user_id="ada", name="n"))
    named = NotebookLocation("notebook", "use", record_id=made.id)
    assert find_or_create_record(repository, named, ORIGIN, "ada").id == made.id
    with pytest.raises(Forbidden, match="belongs to another user than bob"):
        find_or_create_record(repository, named, ORIGIN, "bob")
    repository.delete(made.id)
    with pytest.raises(NotFound, match=made.id):
        find_or_create_record(repository, named, ORIGIN, "ada")


def test_a_script_is_a_notebook_of_one_cell(repository: NotebookRepository, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"\xef\xbb\xbf# \xff\r\nimport sklearn\r\n")
    made = find_or_create_record(
        repository, NotebookLocation("script", "script", str(script)), ORIGIN, "ada"
    )
    assert (made.name, made.metadata.kernel, made.metadata.language) == ("train", None, "python")
    assert made.metadata.framework == "scikit-learn"
    whole = repository.find_by_id(made.id)
    assert whole is not None
    assert [cell.source for cell in whole.cells] == ["# \\xff\r\nimport sklearn\r\n"]
    os.utime(script, ns=(1, 1))
    assert find_or_create_record(
        repository, NotebookLocation("script", "script", str(script)), ORIGIN, "ada"
    ).version_id == (made.version_id)


def test_other_files_are_rejected(repository: NotebookRepository, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    with pytest.raises(InvalidData):
        record_of(repository, tmp_path / "weights.bin")
