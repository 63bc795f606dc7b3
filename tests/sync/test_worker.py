"""Claims about the worker: what is saved becomes a record, and what cannot be stored yet is tried again."""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StoreBusy, StoreDamaged, StoreError
from jupyter_axon_notebooks.records import NotebookStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.sync import NotebookSync, worker
from jupyter_axon_notebooks.sync.files import read_file

LOG = logging.getLogger("test")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[NotebookRepository]:
    store = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    yield NotebookRepository(store)
    store.close()


@dataclass
class Home:
    repository: NotebookRepository
    origin: str = "this machine"
    is_lost: bool = False

    def close(self) -> None:
        """The store is the test's."""


def syncing(repository: NotebookRepository) -> NotebookSync[Home]:
    return NotebookSync("the store", lambda: Home(repository), LOG)


@pytest.fixture
def sync(repository: NotebookRepository) -> Iterator[NotebookSync[Home]]:
    sync = syncing(repository)
    sync.start()
    sync.drain()
    yield sync
    sync.stop()


def notebook(*sources: str, **metadata: Any) -> dict[str, Any]:
    cells = [new_code_cell(source, id=f"cell-{index}") for index, source in enumerate(sources)]
    return json.loads(json.dumps(new_notebook(cells=cells, metadata=metadata)))  # type: ignore[no-any-return]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def sources(repository: NotebookRepository, origin: str, path: Path) -> list[str]:
    summary = repository.find_by_path(origin, os.path.realpath(path))
    assert summary is not None
    notebook = repository.find_by_id(summary.id)
    assert notebook is not None
    return [cell.source for cell in notebook.cells]


def test_a_saved_notebook_is_a_record(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
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
    assert sources(repository, sync.origin, path) == ["import torch"]


def test_the_next_save_brings_the_same_record_up_to_date(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.ipynb", notebook("1"))
    first = sync.sync_file(str(path), "ada")
    content = notebook("1", "2")
    content["cells"][1]["execution_count"] = 1
    content["cells"][1]["outputs"] = [new_output("error", ename="E", evalue="v", traceback=[])]
    sync.notebook_saved(str(write(path, content)), "somebody else", content)
    sync.drain()
    [record] = repository.list_all()
    assert (record.id, record.user_id, record.status) == (first.id, "ada", NotebookStatus.FAILED)
    assert sources(repository, sync.origin, path) == ["1", "2"]


def test_of_a_hundred_saves_at_once_the_last_one_is_recorded(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.ipynb", notebook("last"))
    for number in range(99):
        sync.notebook_saved(str(path), "ada", notebook(str(number)))
    sync.notebook_saved(str(path), "ada", notebook("last"))
    sync.drain()
    assert sources(repository, sync.origin, path) == ["last"]


def test_the_embedded_id_becomes_the_records_where_it_is_free(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    content = notebook("1", axon={"notebook_id": "0d1991cb-4986-4fd7-958e-684f68b23ece"})
    original = sync.sync_file(str(write(tmp_path / "a.ipynb", content)), "ada")
    copy = sync.sync_file(str(write(tmp_path / "b.ipynb", content)), "ada")
    assert original.id == "0d1991cb-4986-4fd7-958e-684f68b23ece"
    assert copy.id != "0d1991cb-4986-4fd7-958e-684f68b23ece"
    assert copy.metadata.extra["axon"]["copied_from"] == "0d1991cb-4986-4fd7-958e-684f68b23ece"
    assert (
        sync.sync_file(str(tmp_path / "a.ipynb"), "ada").id
        == "0d1991cb-4986-4fd7-958e-684f68b23ece"
    )


def test_a_notebook_reached_by_two_names_has_one_record(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "real" / "train.ipynb", notebook("1"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert (
        sync.sync_file(str(path), "ada").id
        == sync.sync_file(str(tmp_path / "link" / "train.ipynb"), "ada").id
    )


def test_a_folder_link_that_leads_elsewhere_since_the_last_save_takes_no_record_along(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / place)
        content = notebook(f"in {place}")
        sync.notebook_saved(str(write(link / "train.ipynb", content)), "ada", content)
        sync.drain()
    assert {record.path for record in repository.list_all()} == {
        os.path.realpath(tmp_path / place / "train.ipynb") for place in ("one", "other")
    }
    for place in ("one", "other"):
        assert sources(repository, sync.origin, tmp_path / place / "train.ipynb") == [f"in {place}"]


def test_a_save_is_of_the_file_that_its_folder_led_to_then(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    sync = syncing(repository)  # which does not work yet
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    saved = notebook("saved")
    sync.notebook_saved(str(write(tmp_path / "link" / "train.ipynb", saved)), "ada", saved)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    write(tmp_path / "link" / "train.ipynb", notebook("somebody else's"))
    sync.start()
    sync.drain()
    assert sources(repository, sync.origin, tmp_path / "one" / "train.ipynb") == ["saved"]
    assert sync.stop()
    assert len(repository.list_all()) == 1


def test_cells_without_ids_keep_the_ids_they_were_given(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    def content(*sources: str) -> dict[str, Any]:
        made = notebook(*sources)
        for cell in made["cells"]:
            del cell["id"]
        return {**made, "nbformat_minor": 4}

    path = write(tmp_path / "old.ipynb", content("a", "b"))
    first = repository.find_by_id(sync.sync_file(str(path), "ada").id)
    write(path, content("new", "a", "b"))
    second = repository.find_by_id(sync.sync_file(str(path), "ada").id)
    assert first is not None
    assert second is not None
    assert [cell.id for cell in second.cells[1:]] == [cell.id for cell in first.cells]


@pytest.mark.parametrize("id", ["my cell", "x" * 65, ""])
def test_an_edit_of_a_cell_whose_id_nbformat_refuses_is_a_change_of_it(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path, id: str
) -> None:
    path = tmp_path / "a.ipynb"
    for sources in (("a", "b"), ("a", "edited")):
        content = notebook(*sources)
        content["cells"][1]["id"] = id
        record = sync.sync_file(str(write(path, content)), "ada").id
    after, before = repository.versions.list(record)
    [change] = repository.versions.diff(record, before.id, after.id)
    assert (change.change, change.before, change.after) == ("changed", "b", "edited")


def test_an_invalid_save_is_recorded_as_jupyter_wrote_it(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    content = notebook("a", "b")
    del content["cells"][1]["id"]
    repaired = notebook("a", "b")
    repaired["cells"][1]["id"] = "repaired"
    path = write(tmp_path / "a.ipynb", repaired)
    sync.notebook_saved(str(path), "ada", content)
    sync.drain()
    record = repository.find_by_path(sync.origin, os.path.realpath(path))
    assert record is not None
    whole = repository.find_by_id(record.id)
    assert whole is not None
    assert [cell.id for cell in whole.cells] == ["cell-0", "repaired"]


def test_a_file_that_is_still_being_written_is_read_again(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    text = json.dumps(notebook("whole"))
    path = write(tmp_path / "slow.ipynb", text[:20])

    def read(given: str) -> Mapping[str, Any]:
        try:
            return read_file(given)
        finally:
            path.write_text(text)

    sync = NotebookSync("the store", lambda: Home(repository), LOG, read=read)
    sync.start()
    assert sync.sync_file(str(path), "ada").cell_count == 1
    sync.stop()


def test_what_is_not_a_notebook_is_said_to_be_none(
    sync: NotebookSync[Home], tmp_path: Path
) -> None:
    with pytest.raises(InvalidData):
        sync.sync_file(str(write(tmp_path / "a.ipynb", "not json")), "ada")
    with pytest.raises(NotFound, match=r"gone\.ipynb"):
        sync.sync_file(str(tmp_path / "gone.ipynb"), "ada")
    assert sync.sync_file(str(write(tmp_path / "b.ipynb", notebook("1"))), "ada").cell_count == 1


def test_two_servers_that_see_a_new_file_at_once_make_one_record(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    servers = [syncing(repository) for _ in range(2)]
    paths = [write(tmp_path / f"{number}.ipynb", notebook("1")) for number in range(20)]
    for path in paths:
        for server in servers:
            server.notebook_saved(str(path), "ada", notebook("1"))
    for server in servers:
        server.start()
    for server in servers:
        assert server.stop()
    assert (
        len({record.path for record in repository.list_all()}) == repository.count() == len(paths)
    )


def test_stopping_finishes_what_was_handed_over(
    repository: NotebookRepository, tmp_path: Path
) -> None:
    sync = syncing(repository)
    for number in range(10):
        sync.notebook_saved(
            str(write(tmp_path / f"{number}.ipynb", notebook("1"))), "ada", notebook("1")
        )
    sync.start()
    assert sync.stop()
    assert repository.count() == 10


def test_a_save_that_the_store_refuses_is_tried_again_until_it_is_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"sqlite:///{tmp_path}/store/axon.db", busy_timeout=0.05)
    sync = syncing(NotebookRepository(store))
    path = write(tmp_path / "a.ipynb", notebook("1"))
    other = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    with other.transaction():
        sync.start()
        with pytest.raises(StoreBusy):
            sync.sync_file(str(path), "ada")
    done = sync.sync_file(str(path), "ada")
    assert sources(NotebookRepository(other), sync.origin, path) == ["1"]
    assert done.cell_count == 1
    assert "not recorded for now" in caplog.text
    sync.stop()
    other.close()
    store.close()


def test_a_store_that_is_lost_is_told_of_once(
    repository: NotebookRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    homes = [Home(repository) for _ in range(2)]
    opened = iter(homes)
    sync = NotebookSync("the store", lambda: next(opened), LOG)
    sync.start()
    path = write(tmp_path / "a.ipynb", notebook("1"))
    sync.sync_file(str(path), "ada")
    assert "deleted or replaced" not in caplog.text
    homes[0].is_lost = True
    for _ in range(2):
        sync.sync_file(str(path), "ada")
    sync.stop()
    assert caplog.text.count("deleted or replaced while it was in use") == 1


def test_the_owner_is_who_saved_first_however_soon_somebody_else_does(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("2"))
    sync.notebook_saved(str(path), "ada", notebook("1"))
    sync.notebook_saved(str(path), "bob", notebook("2"))
    sync.drain()
    [record] = repository.list_all()
    assert record.user_id == "ada"


def test_a_file_saved_before_its_names_deletion_was_heard_of_gets_its_record(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("old"))
    old = sync.sync_file(str(path), "ada").id
    sync.notebook_saved(str(write(path, notebook("new"))), "ada", notebook("new"))
    sync.file_deleted(str(path))
    sync.drain()
    sync.drain()  # what is found in the first pass is looked at in the second
    found = repository.find_by_path(sync.origin, os.path.realpath(path))
    assert found is not None
    assert found.id != old
    assert sources(repository, sync.origin, path) == ["new"]


def test_a_file_saved_under_the_old_name_during_a_rename_gets_its_record(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("renamed"))
    renamed = sync.sync_file(str(path), "ada").id
    path.rename(tmp_path / "b.ipynb")
    sync.notebook_saved(str(write(path, notebook("saved"))), "ada", notebook("saved"))
    sync.file_renamed(str(path), str(tmp_path / "b.ipynb"))
    sync.drain()
    sync.drain()
    sync.queue_changed_files([renamed])
    sync.drain()
    assert sources(repository, sync.origin, path) == ["saved"]
    assert sources(repository, sync.origin, tmp_path / "b.ipynb") == ["renamed"]


def test_a_record_deleted_while_its_file_is_saved_is_made_again(
    sync: NotebookSync[Home],
    repository: NotebookRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1"))
    first = sync.sync_file(str(path), "ada").id
    save = repository.save

    def delete_first(id: str, *rest: Any, **given: Any) -> Any:
        if repository.find_summary(id) is not None:
            repository.delete(id)
        return save(id, *rest, **given)

    monkeypatch.setattr(repository, "save", delete_first)
    assert sync.sync_file(str(path), "ada").id != first


def test_what_opening_the_store_raises_is_what_everybody_is_told_until_it_works(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/folder/axon.db"
    (tmp_path / "folder").write_text("a file in the way")
    stores: list[Store] = []

    def open_home() -> Home:
        stores.append(open_store(url))
        return Home(NotebookRepository(stores[-1]))

    sync = NotebookSync(url, open_home, LOG)
    with pytest.raises(StoreError, match="still being opened"):
        _ = sync.session
    sync.start()
    sync.drain()
    assert not sync.is_open
    with pytest.raises(StoreError, match="cannot be created"):
        sync.sync_file(str(write(tmp_path / "a.ipynb", notebook("1"))), "ada")
    (tmp_path / "folder").unlink()
    sync.drain()
    assert sync.is_open
    assert sync.sync_file(str(tmp_path / "a.ipynb"), "ada").cell_count == 1
    assert sync.stop()
    stores[0].close()


def test_a_store_that_is_opened_for_the_first_time_is_not_waited_for_for_long(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def open_later() -> Home:
        assert go_on.wait(30)
        return Home(repository)

    monkeypatch.setattr(worker, "READ_TIMEOUT", 0.0)
    sync = NotebookSync("the store", open_later, LOG)
    sync.start()
    sync.drain()
    with pytest.raises(StoreBusy, match="still being opened"):
        _ = sync.session
    go_on.set()
    assert sync.stop()
    assert sync.is_open


def test_a_store_that_is_opened_again_is_waited_for_as_saves_are(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Home] = []
    again, go_on = threading.Event(), threading.Event()

    def open_again() -> Home:
        if opened:
            again.set()
            assert go_on.wait(30)
        opened.append(Home(repository))
        return opened[-1]

    sync = NotebookSync("the store", open_again, LOG)
    sync.start()
    sync.drain()
    monkeypatch.setattr(worker, "READ_TIMEOUT", 0.0)
    opened[0].is_lost = True
    sync.reopen()
    assert again.wait(30)
    with ThreadPoolExecutor(1) as pool:
        settled = pool.submit(sync.drain)
        try:
            while not sync._queue._changed._waiters:  # type: ignore[attr-defined]
                assert not settled.done()
        finally:
            go_on.set()
    assert sync.is_open
    assert sync.stop()


def test_of_two_servers_that_write_a_file_at_once_the_one_that_records_last_looks_at_it(
    sync: NotebookSync[Home], repository: NotebookRepository, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("written last"))
    sync.notebook_saved(str(path), "ada", notebook("written last"))
    sync.drain()
    sync.notebook_saved(str(path), "ada", notebook("written before that"))
    sync.drain()
    assert sources(repository, sync.origin, path) == ["written last"]


def test_while_a_part_of_the_store_is_damaged_other_notebooks_are_recorded(
    tmp_path: Path,
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    damaged = Home(Damaged(store, "bad.ipynb"))
    homes = iter([damaged, Home(NotebookRepository(store))])
    sync = NotebookSync("the store", lambda: next(homes), LOG)
    sync.start()
    for _ in range(2):
        for name in ("bad", "good"):
            path = write(tmp_path / f"{name}.ipynb", notebook(name))
            sync.notebook_saved(str(path), "ada", None)
        sync.drain()
        assert sources(NotebookRepository(store), "this machine", tmp_path / "good.ipynb")
    with pytest.raises(StoreDamaged):
        sync.sync_file(str(tmp_path / "bad.ipynb"), "ada")
    damaged.is_lost = True
    sync.drain()
    assert sources(NotebookRepository(store), "this machine", tmp_path / "bad.ipynb") == ["bad"]
    sync.stop()
    store.close()


class Damaged(NotebookRepository):
    """One in which the records of some files cannot be found."""

    def __init__(self, store: Store, *names: str) -> None:
        super().__init__(store)
        find_by_path = self.bindings.find_by_path

        def find(origin: str, path: str) -> Any:
            if path.endswith(names):
                raise StoreDamaged("a page is malformed")
            return find_by_path(origin, path)

        self.bindings.find_by_path = find  # type: ignore[method-assign]


def test_a_file_saved_under_an_old_name_gets_its_record_whatever_becomes_of_the_next_rename(
    sync: NotebookSync[Home],
    repository: NotebookRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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


def test_who_is_bound_to_a_file_is_asked_once_a_save(
    sync: NotebookSync[Home],
    repository: NotebookRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(tmp_path / "a.ipynb", notebook("1"))
    sync.sync_file(str(path), "ada")
    asked: list[str] = []
    binding_at = repository.bindings.find_by_path

    def noted(origin: str, path: str) -> Any:
        asked.append(path)
        return binding_at(origin, path)

    monkeypatch.setattr(repository.bindings, "find_by_path", noted)
    sync.notebook_saved(str(write(path, notebook("1", "2"))), "ada", notebook("1", "2"))
    sync.drain()
    assert sources(repository, sync.origin, path) == ["1", "2"]
    assert asked == [os.path.realpath(path)]
