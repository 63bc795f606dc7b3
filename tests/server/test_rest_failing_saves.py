"""Tests of failing edits: they leave file and record unchanged."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.rest_client import Client, Reply
from tornado.web import HTTPError

from jupyter_axon_notebooks.records import TrainingNotebook
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
REFUSALS: list[tuple[Exception, int]] = [
    (HTTPError(503, "the object store is away"), 503),
    (OSError(errno.ENOSPC, "No space left on device"), 507),
    (RuntimeError("a bug"), 500),
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
    refusal: Exception,
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
        raise refusal

    monkeypatch.setattr(contents, "save", save)
    refused = await EDITS[edit](axon, path, cell)
    monkeypatch.undo()
    assert refused.status == status
    assert (file.read_bytes(), await shown(axon, path)) == before
    assert (await EDITS[edit](axon, path, cell)).status < 300


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


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_of_a_concurrently_saved_file_is_refused(
    edit: str, axon: Client, write_notebook: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cell, _ = await recorded(axon, write_notebook)
    find = NotebookRepository.find_by_id

    def find_after_somebody_saved(*given: Any, **options: Any) -> TrainingNotebook | None:
        write_notebook("n.ipynb", "theirs")
        return find(*given, **options)

    monkeypatch.setattr(NotebookRepository, "find_by_id", find_after_somebody_saved)
    began = time.monotonic()
    refused = await EDITS[edit](axon, path, cell)
    monkeypatch.undo()
    assert time.monotonic() - began < 15  # a save that cannot be recorded is waited for 30 s
    assert (refused.status, "saved by another program meanwhile" in refused.message) == (409, True)
    assert [cell["source"] for cell in (await axon.get(path)).json["cells"]] == ["theirs"]
