"""The record of the notebook that trains, which is the record that a save of the file updates."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
UNKNOWN = NotebookLocation("unknown", "nothing")


class Finder:
    """Finds or creates records in the store of a test."""

    def __init__(self, repository: NotebookRepository) -> None:
        self.repository = repository

    def at(
        self, location: NotebookLocation, owner: str = "ada", previous: PreviousRecord | None = None
    ) -> NotebookSummary:
        return find_or_create_record(self.repository, location, ORIGIN, owner, previous)

    def of_file(self, path: Path, source: str = "session") -> NotebookSummary:
        return self.at(NotebookLocation("notebook", source, str(path)))


@pytest.fixture
def repository(store: Store) -> NotebookRepository:
    return NotebookRepository(store)


@pytest.fixture
def find(repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch) -> Finder:
    """Find records in a process that has found none yet."""
    monkeypatch.setattr(record_module, "_UNBOUND_ID", new_id())
    return Finder(repository)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "train.ipynb", notebook("import torch", "train()"))


@dataclass(frozen=True)
class SyncStore:
    """The store of a :class:`NotebookSync`, which the test closes."""

    repository: NotebookRepository
    origin: str = ORIGIN
    is_lost: bool = False

    def close(self) -> None: ...


# Files


def test_a_file_gets_the_record_that_a_save_would_create(
    find: Finder, repository: NotebookRepository, file: Path
) -> None:
    record = find.of_file(file)
    assert (record.name, record.user_id) == ("train", "ada")
    assert (record.path, record.origin) == (str(file), ORIGIN)
    assert (record.cell_count, record.metadata.framework) == (2, "pytorch")
    sync = NotebookSync("the store", lambda: SyncStore(repository), logging.getLogger("test"))
    sync.start()
    try:
        assert sync.sync_file(str(file), "ada").version_id == record.version_id
        assert repository.list_all()[0].id == record.id
    finally:
        sync.stop()


def test_an_unchanged_file_is_not_read_again(
    find: Finder, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = find.of_file(file)
    monkeypatch.setattr(record_module, "NotebookRecorder", None)
    assert find.of_file(file) == record


def test_a_changed_file_is_a_new_version_that_keeps_annotations(
    find: Finder, repository: NotebookRepository, file: Path
) -> None:
    record = find.of_file(file)
    repository.annotate(record.id, executed_from={"program": "papermill"})
    write(file, notebook("import jax"))
    changed = find.of_file(file)
    assert (changed.id, changed.metadata.framework) == (record.id, "jax")
    assert changed.version_id != record.version_id
    assert changed.metadata.extra["axon"]["executed_from"] == {"program": "papermill"}


def test_a_copy_gets_its_own_record(find: Finder, tmp_path: Path) -> None:
    content = notebook("train()", axon={"notebook_id": new_id()})
    original = find.of_file(write(tmp_path / "a.ipynb", content))
    copy = find.of_file(write(tmp_path / "b.ipynb", content))
    assert copy.metadata.extra["axon"]["copied_from"] == original.id != copy.id


def test_concurrent_calls_create_one_record(
    find: Finder, repository: NotebookRepository, file: Path
) -> None:
    start = threading.Barrier(6)

    def find_id(_: int) -> str:
        start.wait()
        return find.of_file(file).id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(find_id, range(6)))) == 1
    assert len(repository.list_all()) == 1


def test_a_half_written_file_does_not_change_its_record(
    find: Finder, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_RETRY_DELAYS", (0.0, 0.0))
    record = find.of_file(file)
    file.write_text(file.read_text()[:-20])
    assert find.of_file(file) == record
    (tmp_path / "new.ipynb").write_text("{")
    with pytest.raises(InvalidData):
        find.of_file(tmp_path / "new.ipynb")


def test_a_notebook_of_an_old_format_is_recorded(find: Finder) -> None:
    old = Path(__file__).parents[1] / "data/corpus/nbformat/test3.ipynb"
    assert find.of_file(old).cell_count > 0


def test_other_files_are_rejected(find: Finder, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    with pytest.raises(InvalidData):
        find.of_file(tmp_path / "weights.bin")


# Files that were renamed or deleted


def test_a_renamed_file_is_found_by_its_old_name(
    find: Finder, repository: NotebookRepository, file: Path
) -> None:
    record = find.of_file(file)
    repository.bindings.bind(record.id, str(file.rename(file.with_name("after.ipynb"))))
    assert find.of_file(file).id == record.id


@pytest.mark.parametrize("is_unbound", [True, False], ids=["in Jupyter", "in a shell"])
def test_a_deleted_file_keeps_its_record(
    find: Finder, repository: NotebookRepository, file: Path, is_unbound: bool
) -> None:
    record = find.of_file(file)
    file.unlink()
    if is_unbound:
        repository.bindings.unbind(record.id)
    assert find.of_file(file).id == record.id
    assert find.of_file(file, "AXON_NOTEBOOK").id == record.id


def test_a_former_name_of_two_notebooks_is_ambiguous(
    find: Finder, repository: NotebookRepository, file: Path
) -> None:
    ids = set()
    for name in ("a.ipynb", "b.ipynb"):
        record = find.of_file(write(file, notebook(name)))
        repository.bindings.bind(record.id, str(file.rename(file.with_name(name))))
        ids.add(record.id)
    unbound = find.of_file(file)
    assert (unbound.path, unbound.name, len(ids | {unbound.id})) == (None, "train", 3)
    with pytest.raises(NotFound, match=r"train\.ipynb"):
        find.of_file(file, "AXON_NOTEBOOK")


@pytest.mark.parametrize("is_known", [True, False], ids=["file is gone", "server is gone"])
def test_a_process_keeps_its_record_if_no_other_notebook_is_found(
    find: Finder, repository: NotebookRepository, file: Path, tmp_path: Path, is_known: bool
) -> None:
    record = find.of_file(file)
    previous = PreviousRecord(NotebookLocation("notebook", "session", str(file)), record.id)
    earlier = NotebookLocation("notebook", "JPY_SESSION_NAME", str(tmp_path / "earlier.ipynb"))
    write(file, notebook("edited()"))
    edited = find.at(earlier if is_known else UNKNOWN, previous=previous)
    assert edited.id == record.id
    assert edited.version_id != record.version_id
    other = str(write(tmp_path / "other.ipynb", notebook("another()")))
    other_record = find.at(NotebookLocation("notebook", "session", other), previous=previous)
    assert other_record.id != record.id
    repository.delete(record.id)
    assert find.of_file(file).id != record.id


# Processes without a notebook file


def test_an_unknown_notebook_has_one_record_for_the_process(
    find: Finder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    record = find.at(UNKNOWN)
    assert (record.path, record.cell_count) == (None, 0)
    assert record.name == f"a notebook in {tmp_path.name}"
    assert find.at(UNKNOWN) == record


def test_the_working_directory_may_be_deleted(
    find: Finder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_folder: Path
) -> None:
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()
    assert find.at(UNKNOWN).path is None
    monkeypatch.setattr(location, "WORKING_FOLDER", str(tmp_path))
    monkeypatch.setenv("AXON_NOTEBOOK", "train.ipynb")
    assert find_location().path == str(tmp_path / "train.ipynb")


def test_only_its_owner_uses_a_record_by_its_id(
    find: Finder, repository: NotebookRepository
) -> None:
    record = repository.create(NewNotebook(user_id="ada", name="n"))
    by_id = NotebookLocation("notebook", "use", record_id=record.id)
    assert find.at(by_id).id == record.id
    with pytest.raises(Forbidden, match="does not belong to bob"):
        find.at(by_id, "bob")
    repository.delete(record.id)
    with pytest.raises(NotFound, match=record.id):
        find.at(by_id)


def test_a_script_is_recorded_as_a_notebook_with_one_cell(
    find: Finder, repository: NotebookRepository, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"\xef\xbb\xbf# \xff\r\nimport sklearn\r\n")
    script_location = NotebookLocation("script", "script", str(script))
    record = find.at(script_location)
    metadata = record.metadata
    assert (record.name, metadata.kernel, metadata.language) == ("train", None, "python")
    assert metadata.framework == "scikit-learn"
    whole = repository.find_by_id(record.id)
    assert whole is not None
    assert [cell.source for cell in whole.cells] == ["# \\xff\r\nimport sklearn\r\n"]
    os.utime(script, ns=(1, 1))
    assert find.at(script_location).version_id == record.version_id
