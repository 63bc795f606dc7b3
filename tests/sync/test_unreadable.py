"""Claims about notebook files that somebody replaced by what cannot be read: each is that record's trouble alone."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_worker import Home, notebook, sources, syncing, write

from jupyter_axon_notebooks.errors import InvalidData, NotFound
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import NotebookSync
from jupyter_axon_notebooks.sync.files import read_file, read_stable

_numbers = itertools.count()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[NotebookRepository]:
    store = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    yield NotebookRepository(store)
    store.close()


@pytest.fixture
def sync(repository: NotebookRepository) -> Iterator[NotebookSync[Home]]:
    sync = syncing(repository)
    sync.start()
    sync.drain()
    yield sync
    assert sync.stop()


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/tmp/axon-{os.getpid()}-{next(_numbers)}")  # a path of few characters
        os.rename(listening.getsockname(), path)


REPLACEMENTS: dict[str, Callable[[Path], None]] = {
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a terabyte": sparse,
    "nothing that is a notebook": lambda path: path.write_text("{") and None,
}


@pytest.fixture(params=REPLACEMENTS)
def replace(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    made: Callable[[Path], None] = REPLACEMENTS[request.param]

    def put(path: Path) -> None:
        path.unlink()
        made(path)

    return put


def test_a_file_that_cannot_be_read_leaves_its_record_as_it_was_and_holds_up_no_other(
    sync: NotebookSync[Home],
    repository: NotebookRepository,
    tmp_path: Path,
    replace: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = (
        write(tmp_path / "bad.ipynb", notebook("1")),
        write(tmp_path / "good.ipynb", notebook("1")),
    )
    records = [sync.sync_file(str(path), "ada") for path in (bad, good)]
    replace(bad)
    write(good, notebook("1", "2"))
    caplog.clear()
    for _ in range(5):  # as a panel asks
        sync.queue_changed_files([record.id for record in records])
        sync.drain()
    assert sources(repository, sync.origin, good) == ["1", "2"]
    found = repository.find_by_id(records[0].id)
    assert found is not None
    assert [cell.source for cell in found.cells] == ["1"]
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) <= 1
    with pytest.raises((InvalidData, NotFound), match=r"bad\.ipynb|not JSON"):
        sync.sync_file(str(bad), "ada")
    assert sync.sync_file(str(good), "ada").cell_count == 2


def test_a_file_that_can_be_read_again_has_the_same_record(
    sync: NotebookSync[Home],
    repository: NotebookRepository,
    tmp_path: Path,
    replace: Callable[[Path], None],
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1"))
    record = sync.sync_file(str(path), "ada")
    replace(path)
    sync.queue_changed_files([record.id])
    sync.drain()
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    write(path, notebook("1", "2"))
    sync.queue_changed_files([record.id])
    sync.drain()
    assert sources(repository, sync.origin, path) == ["1", "2"]
    assert len(repository.list_all()) == 1


def test_a_start_beside_such_a_file_goes_on_to_the_others(
    repository: NotebookRepository,
    tmp_path: Path,
    replace: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = syncing(repository)
    first.start()
    bad, good = (
        write(tmp_path / "bad.ipynb", notebook("1")),
        write(tmp_path / "good.ipynb", notebook("1")),
    )
    for path in (bad, good):
        first.sync_file(str(path), "ada")
    first.stop()
    replace(bad)
    write(good, notebook("1", "2"))
    second = syncing(repository)
    second.start()
    second.drain()
    assert sources(repository, second.origin, good) == ["1", "2"]
    assert second.stop()
    assert len([one for one in caplog.records if "bad.ipynb" in one.message]) <= 1


def test_a_save_of_a_link_to_a_device_is_of_the_link(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = tmp_path / "a.ipynb"
    path.symlink_to("/dev/zero")
    sync.notebook_saved(str(path), "ada", None)
    sync.drain()
    assert repository.list_all() == []
    sync.file_renamed(str(path), str(tmp_path / "b.ipynb"))
    sync.file_deleted(str(path))
    sync.drain()
    assert sync.sync_file(str(write(tmp_path / "c.ipynb", notebook("1"))), "ada").cell_count == 1


def test_a_script_that_became_too_large_leaves_its_record_as_it_was(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.py", "print(1)")
    sync.sync_file(str(path), "ada")
    os.truncate(path, 1 << 40)
    with pytest.raises(
        InvalidData, match=r"train\.py cannot be read: it has more than 16,777,216 bytes"
    ):
        sync.sync_file(str(path), "ada")
    assert sources(repository, sync.origin, path) == ["print(1)"]


def test_a_record_of_a_file_with_no_valid_id_gives_it_its_own(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1", axon={"notebook_id": "../../x"}))
    ids = []
    for _ in range(2):  # a server, and the next one
        sync = syncing(repository)
        sync.start()
        ids.append(sync.sync_file(str(path), "ada").id)
        assert sync._ids.get_or_create(str(path)) == ids[0]
        sync.stop()
    assert ids[0] == ids[1]
    [binding] = repository.bindings.get_many(ids[:1])
    assert binding.embedded_id is None


def test_a_file_that_is_no_notebook_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("{")
    reads: list[str] = []

    def read(name: str) -> Mapping[str, Any]:
        reads.append(name)
        return read_file(name)

    with pytest.raises(InvalidData):
        read_stable(str(path), read, lambda _: None)
    assert len(reads) == 1
    assert read_stable(str(path), read, lambda _: write(path, notebook("1")))["cells"]
