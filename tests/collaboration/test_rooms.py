"""Claims about notebooks that several people have open at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.collaboration import QUIET, Rooms, add, embedded_id, eventually, sources
from support.rest_client import Client

Write = Callable[..., Path]


async def find_or_create_record(axon: Client, path: str) -> Any:
    return (await axon.post("/notebooks/sync", {"path": path})).json


async def recorded(axon: Client, id: str) -> list[str]:
    return [cell["source"] for cell in (await axon.get(f"/notebooks/{id}")).json["cells"]]


def saved(file: Path) -> list[str]:
    return [cell["source"] for cell in nbformat.read(file, as_version=4).cells]


async def test_what_is_open_in_a_room_is_changed_there_only(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "one")
    notebook = await find_or_create_record(axon, "n.ipynb")
    path, cell = f"/notebooks/{notebook['id']}", notebook["cells"][0]["id"]
    async with rooms.entered("n.ipynb") as document:
        before = file.read_bytes()
        for refused in (
            await axon.put(path, {"cells": [{"source": "two"}]}),
            await axon.post(f"{path}/cells", {"source": "two"}),
            await axon.put(f"{path}/cells/{cell}", {"source": "two"}),
            await axon.delete(f"{path}/cells/{cell}"),
        ):
            assert (refused.status, "n.ipynb is open for collaboration" in refused.message) == (
                409,
                True,
            )
        assert file.read_bytes() == before
        assert sources(document) == ["one"]
        assert (await axon.get(path)).json["cells"] == notebook["cells"]


async def test_what_never_touches_the_file_can_be_changed_while_a_room_has_it_open(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "one")
    path = f"/notebooks/{(await find_or_create_record(axon, 'n.ipynb'))['id']}"
    async with rooms.entered("n.ipynb"):
        before = file.read_bytes()
        given = {
            "name": "renamed",
            "description": "described",
            "status": "stopped",
            "model_id": "model",
            "dataset_id": "dataset",
            "tags": ["tag"],
        }
        assert (await axon.put(path, given)).status == 200
        shown = (await axon.get(path)).json
        shown["tags"] = shown["metadata"]["tags"]
        assert {name: shown[name] for name in given} == given
        assert file.read_bytes() == before


async def test_a_room_is_no_hindrance_to_other_notebooks(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    write_notebook("open.ipynb", "one")
    other = write_notebook("other.ipynb", "one")
    id = (await find_or_create_record(axon, "other.ipynb"))["id"]
    async with rooms.entered("open.ipynb"):
        await axon.created(f"/notebooks/{id}/cells", {"source": "two"})
    assert saved(other) == ["one", "two"]


async def test_once_the_room_is_gone_the_cells_can_be_changed_again(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "one")
    path = f"/notebooks/{(await find_or_create_record(axon, 'n.ipynb'))['id']}"
    async with rooms.left(), rooms.entered("n.ipynb"):
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
    await axon.created(f"{path}/cells", {"source": "two"})
    assert saved(file) == ["one", "two"]
    async with rooms.entered("n.ipynb") as document:
        assert sources(document) == ["one", "two"]


async def test_the_room_stays_until_the_last_one_has_left(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    write_notebook("n.ipynb", "one")
    path = f"/notebooks/{(await find_or_create_record(axon, 'n.ipynb'))['id']}"
    async with rooms.left(), rooms.entered("n.ipynb"):
        async with rooms.entered("n.ipynb"):
            assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
    await axon.created(f"{path}/cells", {"source": "two"})


@pytest.mark.parametrize(("format", "type"), [("json", "notebook"), ("text", "file")])
async def test_a_room_is_known_by_its_file_whatever_it_is_opened_as_and_by_which_name(
    axon: Client, rooms: Rooms, write_notebook: Write, jp_root_dir: Path, format: str, type: str
) -> None:
    file = write_notebook("n.ipynb", "one")
    (jp_root_dir / "link.ipynb").symlink_to(file)
    path = f"/notebooks/{(await find_or_create_record(axon, 'n.ipynb'))['id']}"
    async with rooms.entered("link.ipynb", format, type):
        assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409


async def test_a_room_is_known_after_its_notebook_was_renamed(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    write_notebook("old.ipynb", "one")
    id = (await find_or_create_record(axon, "old.ipynb"))["id"]
    async with rooms.entered("old.ipynb") as document:
        renamed = json.dumps({"path": "new.ipynb"})
        assert (await axon.raw("PATCH", "/api/contents/old.ipynb", body=renamed)).status == 200
        refused = await axon.post(f"/notebooks/{id}/cells", {"source": "two"})
        assert (refused.status, "new.ipynb" in refused.message) == (409, True)
        add(document, "by hand")

        async def shown() -> bool:
            return await recorded(axon, id) == ["one", "by hand"]

        await eventually(shown)
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_what_two_people_do_at_once_is_all_in_the_record(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "shared")
    id = (await find_or_create_record(axon, "n.ipynb"))["id"]
    async with AsyncExitStack() as people:
        ada, bob = [await people.enter_async_context(rooms.entered("n.ipynb")) for _ in range(2)]
        ada.ycells[0]["source"].insert(0, "ada ")
        bob.ycells[0]["source"].insert(len("shared"), " bob")
        add(ada, "of ada")
        add(bob, "of bob")

        async def shown() -> bool:
            first, *others = await recorded(axon, id)
            return first == "ada shared bob" and sorted(others) == ["of ada", "of bob"]

        await eventually(shown)
        assert await recorded(axon, id) == saved(file) == sources(ada) == sources(bob)
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_the_embedded_id_stays_over_many_saves_and_the_room_takes_none_for_somebody_elses(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "start")
    id = (await find_or_create_record(axon, "n.ipynb"))["id"]
    expected = ["start"]
    seen = set()
    async with AsyncExitStack() as people:
        ada, bob = [await people.enter_async_context(rooms.entered("n.ipynb")) for _ in range(2)]
        for n in range(8):
            known_to = (ada, bob)[n % 2]
            save = rooms.save()
            add(known_to, str(n))
            expected.append(str(n))
            await save
            assert (await recorded(axon, id)) == expected == saved(file)
            seen.add(embedded_id(file))

            async def both() -> bool:
                await axon.get(f"/notebooks/{id}")
                return sources(ada) == sources(bob)

            await eventually(both)
    assert len(seen - {None}) == 1
    assert None not in seen
    assert {said.get("action") for said in rooms.heard} <= QUIET
    assert {said["level"] for said in rooms.heard} == {"INFO"}
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_a_room_that_is_opened_again_has_the_embedded_id_and_every_edit(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "start")
    id = (await find_or_create_record(axon, "n.ipynb"))["id"]
    expected = ["start"]
    ids = []
    for n in range(3):
        async with rooms.left(), rooms.entered("n.ipynb") as document:
            assert sources(document) == expected
            save = rooms.save()
            add(document, str(n))
            expected.append(str(n))
            await save
        ids.append(embedded_id(file))
        assert await recorded(axon, id) == saved(file) == expected
    assert ids == [ids[0]] * 3
    assert document.get()["metadata"]["axon"]["notebook_id"] == ids[0]
    assert {said.get("action") for said in rooms.heard} <= QUIET


async def test_a_notebook_opened_and_edited_over_rest_at_once_has_one_content_in_the_end(
    axon: Client, rooms: Rooms, write_notebook: Write
) -> None:
    file = write_notebook("n.ipynb", "start")
    id = (await find_or_create_record(axon, "n.ipynb"))["id"]

    async def work_in_the_room(n: int) -> None:
        async with rooms.left(), rooms.entered("n.ipynb") as document:
            add(document, f"room {n}")

            async def settled() -> bool:
                return await recorded(axon, id) == sources(document)

            await eventually(settled)

    for n in range(5):
        edit = axon.post(f"/notebooks/{id}/cells", {"source": f"rest {n}"})
        reply, _ = await asyncio.gather(edit, work_in_the_room(n))
        assert reply.status in (201, 409)
        assert await recorded(axon, id) == saved(file)
        assert (f"rest {n}" in saved(file)) == (reply.status == 201)
