"""Tests of failing edits: they leave file and record unchanged."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.factories import new_notebook
from support.rest_client import Client, Reply
from tornado.web import HTTPError

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.records import TrainingNotebook, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository

Write = Callable[..., Path]
Edit = Callable[[Client, str, str], Awaitable[Reply]]

EVERYTHING = {
    "cells": [{"source": "new"}],
    "name": "new",
    "description": "new",
    "model_id": "new",
    "dataset_id": "new",
    "status": "failed",
    "tags": ["new"],
}
EDITS: dict[str, Edit] = {
    "notebook": lambda axon, path, _: axon.put(path, EVERYTHING),
    "new cell": lambda axon, path, _: axon.post(f"{path}/cells", {"source": "new"}),
    "cell": lambda axon, path, cell: axon.put(f"{path}/cells/{cell}", {"source": "new"}),
    "no cell": lambda axon, path, cell: axon.delete(f"{path}/cells/{cell}"),
}
#: What a contents manager may say to a save, and what the client is told then.
REFUSALS: list[tuple[Exception | None, int]] = [
    (HTTPError(503, "the object store is away"), 503),
    (HTTPError(403, "read-only"), 403),
    (HTTPError(500, "broken"), 500),
    (HTTPError(409, "somebody else has it"), 409),
    (OSError(errno.EIO, "Input/output error"), 500),
    (OSError(errno.ENOSPC, "No space left on device"), 507),
    (OSError(errno.EROFS, "Read-only file system"), 500),
    (TimeoutError("took too long"), 500),
    (RuntimeError("a bug"), 500),
    (None, 409),  # says that all is well, and stores nothing
]


async def shown(axon: Client, path: str) -> Any:
    """All that is shown of a record, apart from when its file was last read."""
    record = (await axon.get(path)).json
    del record["synced_at"]
    return record, (await axon.get(f"{path}/versions")).json


async def recorded(
    axon: Client, write_notebook: Write, *, ids: bool = True
) -> tuple[str, str, Path]:
    """The path of the record of a notebook file, the id of its first cell, and the file."""
    file = write_notebook("n.ipynb", "one", "two")
    if not ids:
        content = nbformat.read(file, as_version=4)
        content.nbformat_minor = 4
        for cell in content.cells:
            del cell["id"]
        file.write_text(json.dumps(content))
    record = (await axon.post("/notebooks/sync", {"path": file.name})).json
    path = f"/notebooks/{record['id']}"
    labels = {
        "name": "old",
        "description": "old",
        "model_id": "old",
        "tags": ["old"],
        "status": "stopped",
    }
    assert (await axon.put(path, labels)).status == 200
    return path, record["cells"][0]["id"], file


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(("refusal", "status"), REFUSALS, ids=lambda value: repr(value)[:40])
async def test_an_edit_whose_save_fails_changes_nothing(
    refusal: Exception | None,
    status: int,
    edit: str,
    axon: Client,
    write_notebook: Write,
    jp_serverapp: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, cell, file = await recorded(axon, write_notebook)
    contents = jp_serverapp.contents_manager
    before = file.read_bytes(), await shown(axon, path)

    async def save(_model: Any, path: str = "") -> Any:
        if refusal is not None:
            raise refusal
        return await contents.get(path, content=False)

    monkeypatch.setattr(contents, "save", save)
    refused = await EDITS[edit](axon, path, cell)
    monkeypatch.undo()
    assert refused.status == status
    if refusal is None:
        assert "n.ipynb" in refused.message
        assert "unchanged" in refused.message
    assert (file.read_bytes(), await shown(axon, path)) == before
    assert (await EDITS[edit](axon, path, cell)).status < 300


@pytest.mark.parametrize("edit", EDITS)
async def test_a_dropped_save_is_detected_without_cell_ids(
    edit: str,
    axon: Client,
    write_notebook: Write,
    jp_serverapp: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, cell, file = await recorded(axon, write_notebook, ids=False)
    contents = jp_serverapp.contents_manager
    before = file.read_bytes(), await shown(axon, path)
    monkeypatch.setattr(contents, "save", lambda _model, path="": contents.get(path, content=False))
    assert (await EDITS[edit](axon, path, cell)).status == 409
    monkeypatch.undo()
    assert (file.read_bytes(), await shown(axon, path)) == before


@pytest.mark.parametrize("ids", [True, False], ids=["own ids", "no ids"])
@pytest.mark.parametrize("edit", EDITS)
async def test_a_hook_that_drops_an_edit_is_detected(
    edit: str, ids: bool, axon: Client, write_notebook: Write, jp_serverapp: Any
) -> None:
    path, cell, file = await recorded(axon, write_notebook, ids=ids)
    cells = json.loads(file.read_text())["cells"]

    def drop(model: Any, **_: Any) -> None:
        model["content"]["cells"] = cells

    jp_serverapp.contents_manager.register_pre_save_hook(drop)
    refused = await EDITS[edit](axon, path, cell)
    assert (refused.status, "dropped the change" in refused.message) == (409, True)
    assert [cell["source"] for cell in (await axon.get(path)).json["cells"]] == ["one", "two"]


async def test_an_edit_reads_the_notebook_once_from_the_contents_manager(
    axon: Client, write_notebook: Write, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cell, _ = await recorded(axon, write_notebook)
    contents, reads = jp_serverapp.contents_manager, 0
    get = contents.get

    async def counting(*given: Any, content: bool = True, **options: Any) -> Any:
        nonlocal reads
        reads += content
        return await get(*given, content=content, **options)

    monkeypatch.setattr(contents, "get", counting)
    assert (await axon.put(f"{path}/cells/{cell}", {"source": "new"})).status == 200
    assert reads == 1


async def test_an_edit_does_not_lock_the_store(
    axon: Client, write_notebook: Write, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_axon_notebooks.handlers import cells

    path, cell, file = await recorded(axon, write_notebook)
    repository: NotebookRepository = jp_serverapp.web_app.settings["axon_services"].repository
    find = cells._find

    def work_out(*given: Any) -> Any:
        # Another thread's write gets through meanwhile.
        other = ThreadPoolExecutor(1)
        writing = other.submit(repository.create, new_notebook(user_id="ada"))
        assert writing.result(timeout=10)
        other.shutdown()
        return find(*given)

    monkeypatch.setattr(cells, "_find", work_out)
    assert (await axon.put(f"{path}/cells/{cell}", {"source": "new"})).status == 200
    assert "new" in file.read_text()


async def test_an_edit_that_a_file_cannot_express_succeeds(
    axon: Client, write_notebook: Write, read_sources: Callable[[Path], list[str]]
) -> None:
    path, _, file = await recorded(axon, write_notebook, ids=False)
    cells = [{"source": "one"}, {"source": "two"}]  # with new ids, which this file has no place for
    changed = await axon.put(path, {"cells": cells, "name": "renamed"})
    assert (changed.status, changed.json["name"]) == (200, "renamed")
    ids = [cell["id"] for cell in (await axon.get(path)).json["cells"]]
    assert [cell["id"] for cell in changed.json["cells"]] == ids
    assert (await axon.put(f"{path}/cells/{ids[1]}", {"cell_type": "markdown"})).status == 200
    given = {"outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    unchanged = await axon.put(f"{path}/cells/{ids[1]}", given)  # only code has outputs
    assert (unchanged.status, unchanged.json["outputs"]) == (200, [])
    assert read_sources(file) == ["one", "two"]


async def test_a_save_that_fails_after_writing_is_undone(
    axon: Client,
    write_notebook: Write,
    read_sources: Callable[[Path], list[str]],
    jp_serverapp: Any,
) -> None:
    path, _, file = await recorded(axon, write_notebook)
    labels = (await axon.get(path)).json

    def fail(**_: Any) -> None:
        raise RuntimeError("the script could not be exported")

    jp_serverapp.contents_manager.register_post_save_hook(fail)
    assert (await axon.put(path, EVERYTHING)).status == 500
    assert read_sources(file) == ["one", "two"]
    after = (await axon.get(path)).json
    names = (
        "name",
        "description",
        "model_id",
        "cells",
    )  # the status is what the file says, since it was saved
    assert {name: after[name] for name in names} == {name: labels[name] for name in names}
    assert after["metadata"]["tags"] == ["old"]


async def test_a_failure_to_record_an_edit_restores_the_file(
    axon: Client,
    write_notebook: Write,
    read_sources: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, _, file = await recorded(axon, write_notebook)
    before = (await axon.get(path)).json
    update = NotebookRepository.update

    def fail(
        self: NotebookRepository, id: str, updates: UpdateNotebook, **options: Any
    ) -> TrainingNotebook:
        if updates.cells is None:
            assert read_sources(file) == ["new"]  # written already
            raise StoreBusy("locked")
        return update(self, id, updates, **options)

    monkeypatch.setattr(NotebookRepository, "update", fail)
    refused = await axon.put(path, EVERYTHING)
    monkeypatch.undo()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert read_sources(file) == ["one", "two"]
    after = (await axon.get(path)).json
    for changing in ("updated_at", "synced_at", "version_id", "status"):
        del before[changing], after[changing]
    assert after["metadata"].pop("extra")["nbformat"]["metadata"].keys() == {
        "axon"
    }  # the record's id
    del before["metadata"]["extra"]
    assert after == before
    assert (await axon.put(path, EVERYTHING)).json["name"] == "new"


async def test_an_impossible_edit_is_refused_before_writing(
    axon: Client, write_notebook: Write
) -> None:
    path, cell, file = await recorded(axon, write_notebook)
    before = file.read_bytes(), await shown(axon, path)
    twice = [{"source": "new", "id": "a"}, {"source": "new", "id": "a"}]
    assert (await axon.put(path, {**EVERYTHING, "cells": twice})).status == 400
    assert (await axon.post(f"{path}/cells", {"source": "new", "id": cell})).status == 409
    assert (await axon.put(f"{path}/cells/nowhere", {"source": "new"})).status == 404
    assert (await axon.delete(f"{path}/cells/nowhere")).status == 404
    stale = {"If-Match": "older"}
    assert (await axon.put(path, EVERYTHING, headers=stale)).status == 412
    assert (file.read_bytes(), await shown(axon, path)) == before


async def test_a_new_file_without_a_record_is_removed(
    axon: Client, jp_root_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: Any, **_options: Any) -> TrainingNotebook:
        assert (jp_root_dir / "new.ipynb").exists()
        raise StoreBusy("locked")

    monkeypatch.setattr(NotebookRepository, "update", fail)
    assert (await axon.post("/notebooks", {"path": "new.ipynb"})).status == 503
    monkeypatch.undo()
    assert not (jp_root_dir / "new.ipynb").exists()
    assert (await axon.get("/notebooks")).json == []
    assert (await axon.post("/notebooks", {"path": "new.ipynb"})).status == 201


async def test_a_file_that_was_not_created_has_no_record(
    axon: Client, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def save(model: Any, _path: str = "") -> Any:
        return model

    monkeypatch.setattr(jp_serverapp.contents_manager, "save", save)
    refused = await axon.post("/notebooks", {"path": "new.ipynb"})
    assert (refused.status, "there is no such file" in refused.message) == (409, True)
    assert (await axon.get("/notebooks")).json == []


async def test_a_record_deleted_during_a_sync_is_created_again(
    axon: Client, write_notebook: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook("n.ipynb", "one")
    find = NotebookRepository.find_by_id

    def find_after_somebody_deleted(self: NotebookRepository, id: str) -> TrainingNotebook | None:
        monkeypatch.undo()
        self.delete(id)
        return find(self, id)

    monkeypatch.setattr(NotebookRepository, "find_by_id", find_after_somebody_deleted)
    synced = await axon.post("/notebooks/sync", {"path": "n.ipynb"})
    assert synced.status == 200
    assert [record["id"] for record in (await axon.get("/notebooks")).json] == [synced.json["id"]]


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_of_a_concurrently_saved_file_is_refused(
    edit: str, axon: Client, write_notebook: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cell, _ = await recorded(axon, write_notebook)
    find = NotebookRepository.find_by_id

    def find_after_somebody_saved(self: NotebookRepository, id: str) -> TrainingNotebook | None:
        write_notebook("n.ipynb", "theirs")
        return find(self, id)

    monkeypatch.setattr(NotebookRepository, "find_by_id", find_after_somebody_saved)
    began = time.monotonic()
    refused = await EDITS[edit](axon, path, cell)
    monkeypatch.undo()
    assert time.monotonic() - began < 15  # a save that cannot be recorded is waited for 30 s
    assert (refused.status, "saved by another program meanwhile" in refused.message) == (409, True)
    assert [cell["source"] for cell in (await axon.get(path)).json["cells"]] == ["theirs"]


async def test_a_cell_removed_by_a_concurrent_save_is_a_conflict(
    axon: Client, write_notebook: Write, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = await recorded(axon, write_notebook)
    contents = jp_serverapp.contents_manager
    save = contents.save

    async def save_before_somebody_else(model: Any, path: str = "") -> Any:
        saved = await save(model, path)
        write_notebook("n.ipynb", "theirs")
        return saved

    monkeypatch.setattr(contents, "save", save_before_somebody_else)
    refused = await axon.post(f"{path}/cells", {"source": "new"})
    monkeypatch.undo()
    assert (refused.status, "saved without cell" in refused.message) == (409, True)
    assert [cell["source"] for cell in (await axon.get(path)).json["cells"]] == ["theirs"]


async def test_an_edit_of_a_record_that_is_deleted_at_once_succeeds(
    axon: Client, write_notebook: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cell, file = await recorded(axon, write_notebook)
    find = NotebookRepository.find_by_id

    def find_after_somebody_deleted(self: NotebookRepository, id: str) -> TrainingNotebook | None:
        if "new" not in file.read_text():
            return find(self, id)
        monkeypatch.undo()
        self.delete(id)
        return find(self, id)

    monkeypatch.setattr(NotebookRepository, "find_by_id", find_after_somebody_deleted)
    changed = await axon.put(f"{path}/cells/{cell}", {"source": "new"})
    assert (changed.status, changed.json["source"]) == (200, "new")
    assert "new" in file.read_text()
