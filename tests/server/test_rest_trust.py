"""Tests of trust in outputs during edits over REST."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_server.utils import ensure_async
from nbformat.sign import MemorySignatureStore
from support.rest_client import Client

pytestmark = pytest.mark.filterwarnings(
    "ignore:The synchronous ContentsManager classes:DeprecationWarning"
)

SCRIPT = {
    "output_type": "display_data",
    "data": {"text/html": "<script>window.hacked = true</script>", "text/plain": "shown"},
    "metadata": {},
}
OTHER = {**SCRIPT, "data": {"text/html": "<b>other</b>"}}
MARKS: list[Any] = [True, "True"]


@pytest.fixture
def jp_server_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    name = getattr(request, "param", "AsyncLargeFileManager")
    manager = f"jupyter_server.services.contents.largefilemanager.{name}"
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_axon_notebooks": True},
            "contents_manager_class": manager,
        },
        "AxonNotebooks": {"user_id": "ada"},
        "NotebookNotary": {"store_factory": MemorySignatureStore},
    }


class Notebook:
    """A notebook file of two cells with rich outputs and one without, and its record."""

    def __init__(self, axon: Client, server: Any, file: Path, record: Any) -> None:
        self.axon = axon
        self.file = file
        self.path = f"/notebooks/{record['id']}"
        self.record = record
        self.ids = [cell["id"] for cell in record["cells"]]
        self._contents = server.contents_manager

    async def trusted(self) -> list[bool]:
        """Return the trust of each cell as JupyterLab reads it."""
        model = await ensure_async(self._contents.get(self.file.name, content=True))
        return [cell["metadata"]["trusted"] for cell in model["content"]["cells"]]

    async def trust(self) -> None:
        """As the user does by `jupyter trust`, or by running all cells."""
        await ensure_async(self._contents.trust_notebook(self.file.name))
        assert all(await self.trusted())


@pytest.fixture(params=[4, 5], ids=["without ids", "with ids"])
def notebook(
    request: pytest.FixtureRequest,
    axon: Client,
    jp_serverapp: Any,
    jp_root_dir: Path,
    jp_asyncio_loop: asyncio.AbstractEventLoop,
) -> Notebook:
    cells = [
        nbformat.v4.new_code_cell(
            source, outputs=[nbformat.from_dict(output) for output in outputs]
        )
        for source, outputs in (("one", [SCRIPT]), ("two", [OTHER]), ("three", []))
    ]
    for cell in cells[: None if request.param == 4 else 0]:
        del cell["id"]
    file = jp_root_dir / "n.ipynb"
    content = nbformat.v4.new_notebook(cells=cells, nbformat_minor=request.param)
    file.write_text(json.dumps(content))
    synced = jp_asyncio_loop.run_until_complete(axon.post("/notebooks/sync", {"path": file.name}))
    record = synced.json
    return Notebook(axon, jp_serverapp, file, record)


async def edit_source(notebook: Notebook) -> None:
    reply = await notebook.axon.put(
        f"{notebook.path}/cells/{notebook.ids[0]}", {"source": "edited"}
    )
    assert reply.status == 200


async def edit_metadata(notebook: Notebook) -> None:
    given = {"metadata": {"tags": ["t"], "trusted": True}}
    assert (
        await notebook.axon.put(f"{notebook.path}/cells/{notebook.ids[1]}", given)
    ).status == 200


async def add(notebook: Notebook) -> None:
    await notebook.axon.created(f"{notebook.path}/cells", {"source": "new", "position": 1})


async def delete(notebook: Notebook) -> None:
    assert (await notebook.axon.delete(f"{notebook.path}/cells/{notebook.ids[1]}")).status == 204


async def move(notebook: Notebook) -> None:
    moved = {"cells": notebook.record["cells"][::-1], "name": "renamed", "tags": ["t"]}
    assert (await notebook.axon.put(notebook.path, moved)).status == 200


async def clear(notebook: Notebook) -> None:
    given = {"outputs": [], "execution_count": None}
    assert (
        await notebook.axon.put(f"{notebook.path}/cells/{notebook.ids[1]}", given)
    ).status == 200


EDITS: list[Callable[[Notebook], Awaitable[None]]] = [
    edit_source,
    edit_metadata,
    clear,
    add,
    delete,
    move,
]


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_preserves_trust(
    edit: Callable[[Notebook], Awaitable[None]], notebook: Notebook
) -> None:
    await notebook.trust()
    before = notebook.file.read_bytes()
    await edit(notebook)
    assert notebook.file.read_bytes() != before
    assert all(await notebook.trusted())
    assert "trusted" not in notebook.file.read_text()


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_adds_no_trust(
    edit: Callable[[Notebook], Awaitable[None]], notebook: Notebook
) -> None:
    await edit(notebook)
    assert not any(await notebook.trusted())


@pytest.mark.parametrize("mark", MARKS)
async def test_outputs_over_rest_are_not_trusted(mark: Any, notebook: Notebook) -> None:
    new = {**SCRIPT, "data": {"text/html": "<script>new</script>"}, "metadata": {"trusted": mark}}
    await notebook.trust()
    added = {
        "source": "x",
        "outputs": [new],
        "metadata": {"trusted": mark, "jupyter": {"trusted": mark}},
    }
    cell = await notebook.axon.created(f"{notebook.path}/cells", added)
    assert not any(await notebook.trusted())
    # What was trusted before is not known to be any more: Jupyter signs notebooks, not cells.
    assert (await notebook.axon.delete(f"{notebook.path}/cells/{cell['id']}")).status == 204
    assert not any(await notebook.trusted())
    assert "trusted" not in json.dumps(cell)


@pytest.mark.parametrize("mark", MARKS)
async def test_marks_of_trust_over_rest_are_ignored(mark: Any, notebook: Notebook) -> None:
    marked = [
        {**cell, "metadata": {"trusted": mark, "jupyter": {"trusted": mark, "source_hidden": True}}}
        for cell in notebook.record["cells"]
    ]
    changed = (await notebook.axon.put(notebook.path, {"cells": marked})).json
    assert [cell["metadata"] for cell in changed["cells"]] == [
        {"jupyter": {"source_hidden": True}}
    ] * 3
    assert not any(await notebook.trusted())


async def test_a_changed_output_is_not_trusted(notebook: Notebook) -> None:
    await notebook.trust()
    changed = {"outputs": [{**SCRIPT, "data": {"text/html": "<script>changed</script>"}}]}
    assert (
        await notebook.axon.put(f"{notebook.path}/cells/{notebook.ids[0]}", changed)
    ).status == 200
    assert not any(await notebook.trusted())


async def test_marks_of_trust_in_a_new_file_are_ignored(axon: Client, jp_serverapp: Any) -> None:
    metadata = {"trusted": True}
    cells = [{"source": "x", "outputs": [{**SCRIPT, "metadata": metadata}], "metadata": metadata}]
    extra = {"nbformat": {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata}}
    given = {"path": "new.ipynb", "cells": cells, "metadata": {"extra": extra}}
    created = await axon.created("/notebooks", given)
    model = await ensure_async(jp_serverapp.contents_manager.get("new.ipynb", content=True))
    assert [cell["metadata"] for cell in model["content"]["cells"]] == [{"trusted": False}]
    assert "trusted" not in json.dumps(created)


@pytest.mark.parametrize("mark", MARKS)
async def test_records_have_no_marks_of_trust(
    mark: Any, axon: Client, jp_root_dir: Path, jp_fetch: Any
) -> None:
    metadata = {"trusted": mark, "jupyter": {"trusted": mark}}
    cell = nbformat.v4.new_code_cell(
        "x", metadata=metadata, outputs=[nbformat.from_dict({**SCRIPT, "metadata": metadata})]
    )
    raw = nbformat.v4.new_raw_cell("y", metadata=metadata)
    content = nbformat.v4.new_notebook(cells=[cell, raw], metadata=metadata)
    imported = await axon.created("/notebooks/import", {"content": json.dumps(content)})
    await jp_fetch(
        "api/contents/saved.ipynb",
        method="PUT",
        body=json.dumps({"type": "notebook", "content": content}),
    )
    (jp_root_dir / "copied.ipynb").write_text(json.dumps(content))
    saved, copied = [
        (await axon.post("/notebooks/sync", {"path": path})).json
        for path in ("saved.ipynb", "copied.ipynb")
    ]
    for record in (imported, saved, copied):
        url = f"/notebooks/{record['id']}"
        version = (await axon.get(f"{url}/versions/{record['version_id']}")).json
        exported = (await axon.get(f"{url}/export")).json["content"]
        assert "trusted" not in json.dumps([record, version]) + exported
