"""Notebooks that are open in a collaboration room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.collaboration import (
    Rooms,
    append_cell,
    get_sources,
    wait_until,
)
from support.rest_client import Client

Write = Callable[..., Path]


async def sync(axon: Client, path: str) -> Any:
    return (await axon.post("/notebooks/sync", {"path": path})).json


async def recorded_sources(axon: Client, id: str) -> list[str]:
    return [cell["source"] for cell in (await axon.get(f"/notebooks/{id}")).json["cells"]]


def saved_sources(file: Path) -> list[str]:
    return [cell["source"] for cell in nbformat.read(file, as_version=4).cells]


async def test_cells_of_an_open_notebook_are_not_changed_by_rest(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "one")
    notebook = await sync(axon, "n.ipynb")
    path, cell = f"/notebooks/{notebook['id']}", notebook["cells"][0]["id"]
    async with rooms.join("n.ipynb") as document:
        before = file.read_bytes()
        for response in (
            await axon.put(path, {"cells": [{"source": "two"}]}),
            await axon.post(f"{path}/cells", {"source": "two"}),
            await axon.put(f"{path}/cells/{cell}", {"source": "two"}),
            await axon.delete(f"{path}/cells/{cell}"),
        ):
            assert response.status == 409
            assert "n.ipynb is open for collaboration" in response.message
        assert file.read_bytes() == before
        assert get_sources(document) == ["one"]
        assert (await axon.get(path)).json["cells"] == notebook["cells"]


async def test_cells_are_changed_after_the_room_is_deleted(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "one")
    path = f"/notebooks/{(await sync(axon, 'n.ipynb'))['id']}"
    async with rooms.wait_for_deletion(), rooms.join("n.ipynb"):
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
    await axon.created(f"{path}/cells", {"source": "two"})
    assert saved_sources(file) == ["one", "two"]
    async with rooms.join("n.ipynb") as document:
        assert get_sources(document) == ["one", "two"]


async def test_a_room_exists_until_the_last_user_leaves(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    write_notebook("n.ipynb", "one")
    path = f"/notebooks/{(await sync(axon, 'n.ipynb'))['id']}"
    async with rooms.wait_for_deletion(), rooms.join("n.ipynb"):
        async with rooms.join("n.ipynb"):
            assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
    await axon.created(f"{path}/cells", {"source": "two"})


@pytest.mark.parametrize(("format", "type"), [("json", "notebook"), ("text", "file")])
async def test_a_room_is_found_by_its_file_for_every_format_and_name(
    axon: Client, rooms: Rooms, write_notebook: Write, jp_root_dir: Path, format: str, type: str
) -> None:
    file = write_notebook("n.ipynb", "one")
    (jp_root_dir / "link.ipynb").symlink_to(file)
    path = f"/notebooks/{(await sync(axon, 'n.ipynb'))['id']}"
    async with rooms.join("link.ipynb", format, type):
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409


async def test_a_room_is_found_after_its_notebook_is_renamed(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    write_notebook("old.ipynb", "one")
    id = (await sync(axon, "old.ipynb"))["id"]
    async with rooms.join("old.ipynb") as document:
        renamed = json.dumps({"path": "new.ipynb"})
        assert (await axon.raw("PATCH", "/api/contents/old.ipynb", body=renamed)).status == 200
        refused = await axon.post(f"/notebooks/{id}/cells", {"source": "two"})
        assert (refused.status, "new.ipynb" in refused.message) == (409, True)
        append_cell(document, "edited")

        async def is_recorded() -> bool:
            return await recorded_sources(axon, id) == ["one", "edited"]

        await wait_until(is_recorded)
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_concurrent_edits_of_two_users_are_all_recorded(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "shared")
    id = (await sync(axon, "n.ipynb"))["id"]
    async with AsyncExitStack() as users:
        ada, bob = [await users.enter_async_context(rooms.join("n.ipynb")) for _ in range(2)]
        ada.ycells[0]["source"].insert(0, "ada ")
        bob.ycells[0]["source"].insert(len("shared"), " bob")
        append_cell(ada, "of ada")
        append_cell(bob, "of bob")

        async def is_recorded() -> bool:
            first, *others = await recorded_sources(axon, id)
            return first == "ada shared bob" and sorted(others) == ["of ada", "of bob"]

        await wait_until(is_recorded)
        assert (
            await recorded_sources(axon, id)
            == saved_sources(file)
            == get_sources(ada)
            == get_sources(bob)
        )
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_concurrent_edits_in_a_room_and_by_rest_end_in_the_same_content(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "start")
    id = (await sync(axon, "n.ipynb"))["id"]

    async def edit_in_room(n: int) -> None:
        async with rooms.wait_for_deletion(), rooms.join("n.ipynb") as document:
            append_cell(document, f"room {n}")

            async def is_saved() -> bool:
                return await recorded_sources(axon, id) == get_sources(document)

            await wait_until(is_saved)

    for n in range(5):
        edit = axon.post(f"/notebooks/{id}/cells", {"source": f"rest {n}"})
        reply, _ = await asyncio.gather(edit, edit_in_room(n))
        assert reply.status in (201, 409)
        assert await recorded_sources(axon, id) == saved_sources(file)
        assert (f"rest {n}" in saved_sources(file)) == (reply.status == 201)
