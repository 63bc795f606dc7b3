"""Tests of the worker: what is saved is recorded, and what cannot be stored yet is tried again."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_output
from support.sync import LOG, ORIGIN, StoreSession, create_sync, notebook, recorded_sources, write

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StoreBusy, StoreError
from jupyter_axon_notebooks.records import NotebookStatus, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.sync import NotebookSync, recorder, worker
from jupyter_axon_notebooks.sync.files import read_file

Sync = NotebookSync[StoreSession]


def save(sync: Sync, path: Path, *sources: str, owner: str = "ada") -> None:
    """Save a notebook as Jupyter does."""
    content = notebook(*sources)
    sync.notebook_saved(str(write(path, content)), owner, content)


def test_a_saved_notebook_is_recorded(
    sync: Sync, repository: NotebookRepository, tmp_path: Path
) -> None:
    content = notebook("import torch", kernelspec={"name": "python3", "display_name": "Python 3"})
    path = write(tmp_path / "train.ipynb", content)
    sync.notebook_saved(str(path), "ada", content)
    sync.drain()
    [record] = repository.list_all()
    assert (record.name, record.user_id, record.path) == ("train", "ada", os.path.realpath(path))
    assert (record.metadata.kernel, record.metadata.framework) == ("python3", "pytorch")
    assert (record.cell_count, record.status) == (1, NotebookStatus.DRAFT)
    assert record.synced_at is not None
    assert recorded_sources(repository, path) == ["import torch"]


def test_a_second_save_updates_the_record_and_keeps_its_owner(
    sync: Sync, repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.ipynb", notebook("1"))
    first = sync.sync_file(str(path), "ada")
    content = notebook("1", "2")
    content["cells"][1]["execution_count"] = 1
    content["cells"][1]["outputs"] = [new_output("error", ename="E", evalue="v", traceback=[])]
    sync.notebook_saved(str(write(path, content)), "bob", content)
    sync.drain()
    [record] = repository.list_all()
    assert (record.id, record.user_id, record.status) == (first.id, "ada", NotebookStatus.FAILED)
    assert recorded_sources(repository, path) == ["1", "2"]


def test_a_free_embedded_id_becomes_the_id_of_the_record(sync: Sync, tmp_path: Path) -> None:
    id = new_id()
    content = notebook("1", axon={"notebook_id": id})
    for _ in range(2):
        assert sync.sync_file(str(write(tmp_path / "a.ipynb", content)), "ada").id == id
    copy = sync.sync_file(str(write(tmp_path / "b.ipynb", content)), "ada")
    assert (copy.id != id, copy.metadata.extra["axon"]["copied_from"]) == (True, id)


def test_invalid_and_missing_files_are_reported(sync: Sync, tmp_path: Path) -> None:
    with pytest.raises(InvalidData):
        sync.sync_file(str(write(tmp_path / "a.ipynb", "not json")), "ada")
    with pytest.raises(NotFound, match=r"gone\.ipynb"):
        sync.sync_file(str(tmp_path / "gone.ipynb"), "ada")
    assert sync.sync_file(str(write(tmp_path / "b.ipynb", notebook("1"))), "ada").cell_count == 1


def test_two_servers_that_record_a_file_at_once_create_one_record(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    servers = [create_sync(repository) for _ in range(2)]
    for number, server in itertools.product(range(20), servers):
        save(server, tmp_path / f"{number}.ipynb", "1")
    for server in servers:
        server.start()
    for server in servers:
        assert server.stop()  # records what was saved
    assert len({record.path for record in repository.list_all()}) == repository.count() == 20


def test_the_server_that_records_last_records_the_content_of_the_file(
    sync: Sync, repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("last"))
    for source in ("last", "before"):
        sync.notebook_saved(str(path), "ada", notebook(source))
        sync.drain()
    assert recorded_sources(repository, path) == ["last"]


def test_a_server_that_records_late_keeps_the_later_save_of_another(
    sync: Sync, repository: NotebookRepository, tmp_path: Path
) -> None:
    path = tmp_path / "a.ipynb"
    late = create_sync(repository)
    for server, source in ((sync, "first"), (late, "second"), (sync, "third")):
        save(server, path, source)
        sync.drain()
    late.start()
    assert late.stop()
    assert recorded_sources(repository, path) == ["third"]


@pytest.mark.parametrize("is_read", [False, True], ids=["from the save", "from the file"])
def test_a_later_save_is_kept_that_is_recorded_while_an_earlier_one_is(
    sync: Sync,
    repository: NotebookRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_read: bool,
) -> None:
    path = tmp_path / "a.ipynb"
    save(sync, path, "first")
    sync.drain()
    late = create_sync(repository)
    late.start()
    late.drain()
    find_record = recorder.identify

    def identify(*args: Any, **options: Any) -> Any:
        """Let the other server save and record when the late one has looked for the record."""
        monkeypatch.undo()
        save(sync, path, "third")
        sync.drain()
        return find_record(*args, **options)

    monkeypatch.setattr(recorder, "identify", identify)
    second = notebook("second")
    late.notebook_saved(str(write(path, second)), "ada", None if is_read else second)
    late.drain()
    assert late.stop()
    assert recorded_sources(repository, path) == ["third"]


def test_a_save_is_recorded_when_the_store_is_no_longer_locked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"sqlite:///{tmp_path}/store/axon.db", busy_timeout=0.05)
    sync = create_sync(NotebookRepository(store))
    path = write(tmp_path / "a.ipynb", notebook("1"))
    other = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    with other.transaction():
        sync.start()
        with pytest.raises(StoreBusy):
            sync.sync_file(str(path), "ada")
    assert sync.sync_file(str(path), "ada").cell_count == 1
    assert recorded_sources(NotebookRepository(other), path) == ["1"]
    assert "not recorded for now" in caplog.text
    assert sync.stop()
    other.close()
    store.close()


def test_a_lost_store_is_opened_again_and_reported_once(
    repository: NotebookRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = [StoreSession(repository) for _ in range(2)]
    opened = iter(sessions)
    sync = NotebookSync("the store", lambda: next(opened), LOG)
    sync.start()
    path = write(tmp_path / "a.ipynb", notebook("1"))
    sync.sync_file(str(path), "ada")
    assert "deleted or replaced" not in caplog.text
    sessions[0].is_lost = True
    for _ in range(2):
        sync.sync_file(str(path), "ada")
    assert sync.stop()
    assert caplog.text.count("deleted or replaced while it was in use") == 1


@pytest.mark.parametrize("event", ["delete", "rename"])
def test_a_file_that_is_saved_again_before_its_event_arrives_gets_a_new_record(
    sync: Sync, repository: NotebookRepository, tmp_path: Path, event: str
) -> None:
    path, renamed = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    old = sync.sync_file(str(write(path, notebook("old"))), "ada").id
    path.rename(renamed)
    save(sync, path, "new")
    if event == "delete":
        sync.file_deleted(str(path))
    else:
        sync.file_renamed(str(path), str(renamed))
    sync.drain()
    sync.queue_changed_files(repository.bindings.get_many([old]))
    sync.drain()
    assert recorded_sources(repository, path) == ["new"]
    found = repository.find_by_path(ORIGIN, os.path.realpath(path))
    assert found is not None
    assert found.id != old
    if event == "rename":
        assert recorded_sources(repository, renamed) == ["old"]


def test_a_failed_rename_in_a_folder_loses_no_save(
    sync: Sync, repository: NotebookRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / "old" / f"{name}.ipynb", notebook("renamed")) for name in "ab"]
    ids = [sync.sync_file(str(path), "ada").id for path in paths]
    bind, times = repository.bindings.bind, itertools.count()

    def bind_unless_busy(id: str, path: str) -> Any:
        if next(times) == 1:
            raise StoreBusy("not now")
        return bind(id, path)

    monkeypatch.setattr(repository.bindings, "bind", bind_unless_busy)
    sync.file_renamed(str(tmp_path / "old"), str(tmp_path / "new"))
    for _ in range(3):
        sync.drain()
    recorded = {record.path for record in repository.list_all() if record.id not in ids}
    assert recorded == {os.path.realpath(path) for path in paths}


def test_a_store_that_opens_slowly_is_waited_for(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = StoreSession(repository)
    opening, go_on = threading.Event(), threading.Event()

    def open_session() -> StoreSession:
        opening.set()
        assert go_on.wait(30)
        return session

    sync = NotebookSync("the store", open_session, LOG)
    sync.start()
    assert opening.wait(30)
    monkeypatch.setattr(worker, "READ_TIMEOUT", 0.0)  # it has been waited for already
    assert not sync.drain()
    with pytest.raises(StoreBusy, match="still being opened"):
        sync.wait_for_session(0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync.wait_for_session, 30)
        go_on.set()
        assert waiting.result(30) is session
    assert sync.stop()


def test_a_store_that_cannot_be_opened_is_not_waited_for() -> None:
    def open_session() -> StoreSession:
        raise StoreError("there is no disk")

    sync = NotebookSync("the store", open_session, LOG)
    sync.start()
    for _ in range(2):
        with pytest.raises(StoreError, match="there is no disk"):
            sync.wait_for_session(60)
    assert sync.stop()


def test_a_half_written_file_is_read_again(repository: NotebookRepository, tmp_path: Path) -> None:
    text = json.dumps(notebook("whole"))
    path = write(tmp_path / "slow.ipynb", text[:20])

    def read(name: str) -> Mapping[str, Any]:
        try:
            return read_file(name)
        finally:
            path.write_text(text)

    sync = create_sync(repository, read=read)
    sync.start()
    assert sync.sync_file(str(path), "ada").cell_count == 1
    assert sync.stop()
