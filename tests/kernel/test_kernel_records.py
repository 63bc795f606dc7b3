"""The record of the notebook that trains, which is the record that a save of the file updates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.engines import store, store_url
from support.server_processes import notebook, write
from support.sync import ORIGIN, create_sync

from jupyter_axon_notebooks.errors import Forbidden, NotFound
from jupyter_axon_notebooks.records import NewNotebook, NotebookSummary, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.training.discovery.location import NotebookLocation
from jupyter_axon_notebooks.training.discovery.record import find_or_create_record

__all__ = ["store", "store_url"]  # fixtures

Find = Callable[..., NotebookSummary]


@pytest.fixture
def repository(store: Store) -> NotebookRepository:
    return NotebookRepository(store)


@pytest.fixture
def find(repository: NotebookRepository) -> Find:
    """Find or create the record of a file."""

    def find(path: Path, source: str = "session") -> NotebookSummary:
        location = NotebookLocation("notebook", source, str(path))
        return find_or_create_record(repository, location, ORIGIN, "ada", None)

    return find


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "train.ipynb", notebook("import torch", "train()"))


def test_a_file_gets_the_record_that_a_save_would_create(
    find: Find, repository: NotebookRepository, file: Path
) -> None:
    record = find(file)
    assert (record.name, record.user_id) == ("train", "ada")
    assert (record.path, record.origin) == (str(file), ORIGIN)
    assert (record.cell_count, record.metadata.framework) == (2, "pytorch")
    sync = create_sync(repository)
    sync.start()
    try:
        assert sync.sync_file(str(file), "ada").version_id == record.version_id
        assert repository.list_all()[0].id == record.id
    finally:
        sync.stop()


def test_a_copy_gets_its_own_record(find: Find, tmp_path: Path) -> None:
    content = notebook("train()", axon={"notebook_id": new_id()})
    original = find(write(tmp_path / "a.ipynb", content))
    copy = find(write(tmp_path / "b.ipynb", content))
    assert copy.metadata.extra["axon"]["copied_from"] == original.id != copy.id


def test_concurrent_calls_create_one_record(
    find: Find, repository: NotebookRepository, file: Path
) -> None:
    start = threading.Barrier(6)

    def find_id(_: int) -> str:
        start.wait()
        return find(file).id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(find_id, range(6)))) == 1
    assert len(repository.list_all()) == 1


def test_a_deleted_file_keeps_its_record(
    find: Find, repository: NotebookRepository, file: Path
) -> None:
    record = find(file)
    file.unlink()
    repository.bindings.unbind(record.id)
    assert find(file).id == record.id
    assert find(file, "AXON_NOTEBOOK").id == record.id


def test_only_its_owner_uses_a_record_by_its_id(repository: NotebookRepository) -> None:
    record = repository.create(NewNotebook(user_id="ada", name="n"))
    by_id = NotebookLocation("notebook", "use", record_id=record.id)
    assert find_or_create_record(repository, by_id, ORIGIN, "ada", None).id == record.id
    with pytest.raises(Forbidden, match="does not belong to bob"):
        find_or_create_record(repository, by_id, ORIGIN, "bob", None)
    repository.delete(record.id)
    with pytest.raises(NotFound, match=record.id):
        find_or_create_record(repository, by_id, ORIGIN, "ada", None)
