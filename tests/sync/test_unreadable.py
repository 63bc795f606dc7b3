"""Tests of notebook files that were replaced by something unreadable."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.sync import StoreSession, create_sync, notebook, recorded_sources, write

from jupyter_axon_notebooks.errors import InvalidData, NotFound
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.sync import NotebookSync
from jupyter_axon_notebooks.sync.files import read_file, read_stable

Sync = NotebookSync[StoreSession]
_numbers = itertools.count()


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/tmp/axon-{os.getpid()}-{next(_numbers)}")  # socket paths must be short
        os.rename(listener.getsockname(), path)


REPLACEMENTS: dict[str, Callable[[Path], None]] = {
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a terabyte": make_sparse,
    "invalid JSON": lambda path: path.write_text("{") and None,
}


@pytest.fixture(params=REPLACEMENTS)
def replace(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    def replace_file(path: Path) -> None:
        path.unlink()
        REPLACEMENTS[request.param](path)

    return replace_file


@pytest.mark.parametrize("restarts", [False, True])
def test_an_unreadable_file_keeps_its_record_and_does_not_affect_others(
    sync: Sync,
    repository: NotebookRepository,
    tmp_path: Path,
    replace: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    restarts: bool,
) -> None:
    bad, good = (write(tmp_path / f"{name}.ipynb", notebook("1")) for name in ("bad", "good"))
    ids = [sync.sync_file(str(path), "ada").id for path in (bad, good)]
    replace(bad)
    write(good, notebook("1", "2"))
    caplog.clear()
    running = sync
    if restarts:
        assert sync.stop()
        running = create_sync(repository)
        running.start()
        running.drain()
    for _ in range(5):
        running.queue_changed_files(repository.bindings.get_many(ids))
        running.drain()
    assert recorded_sources(repository, good) == ["1", "2"]
    record = repository.find_by_id(ids[0])
    assert record is not None
    assert [cell.source for cell in record.cells] == ["1"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) <= 1
    with pytest.raises((InvalidData, NotFound), match=r"bad\.ipynb|not JSON"):
        running.sync_file(str(bad), "ada")
    assert running.stop()


def test_a_file_that_is_readable_again_has_the_same_record(
    sync: Sync, repository: NotebookRepository, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1"))
    record = sync.sync_file(str(path), "ada")
    replace(path)
    sync.queue_changed_files(repository.bindings.get_many([record.id]))
    sync.drain()
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    write(path, notebook("1", "2"))
    sync.queue_changed_files(repository.bindings.get_many([record.id]))
    sync.drain()
    assert recorded_sources(repository, path) == ["1", "2"]
    assert repository.count() == 1


def test_a_file_with_an_invalid_id_gets_the_id_of_its_record(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1", axon={"notebook_id": "../../x"}))
    ids = []
    for _ in range(2):  # the second server loads the id from the store
        sync = create_sync(repository)
        sync.start()
        ids.append(sync.sync_file(str(path), "ada").id)
        assert sync._ids.get_or_create(str(path)) == ids[0]
        assert sync.stop()
    assert ids[0] == ids[1]
    [binding] = repository.bindings.get_many(ids[:1])
    assert binding.embedded_id is None


def test_an_invalid_file_is_read_again_only_after_a_change(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", "{")
    reads: list[str] = []

    def read(name: str) -> Mapping[str, Any]:
        reads.append(name)
        return read_file(name)

    with pytest.raises(InvalidData):
        read_stable(str(path), read, lambda _: None)
    assert len(reads) == 1
    assert read_stable(str(path), read, lambda _: write(path, notebook("1")))["cells"]
