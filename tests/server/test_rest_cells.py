"""Tests of the cell routes, for records with and without a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.rest_client import Client

Write = Callable[..., Path]
Sources = Callable[[Path], list[str]]


async def made(axon: Client, *sources: str) -> tuple[str, list[str]]:
    """The path of a new unbound record, and the ids of its cells."""
    cells = [{"source": source} for source in sources]
    notebook = await axon.created("/notebooks", {"name": "n", "cells": cells})
    return f"/notebooks/{notebook['id']}", [cell["id"] for cell in notebook["cells"]]


async def sources(axon: Client, path: str) -> list[str]:
    return [cell["source"] for cell in (await axon.get(path)).json["cells"]]


async def test_a_cell_is_added_at_its_position_or_at_the_end(axon: Client) -> None:
    path, _ = await made(axon, "a", "b")
    added = await axon.created(
        f"{path}/cells", {"source": "first", "position": 0, "cell_type": "markdown"}
    )
    assert (added["cell_type"], added["status"], added["outputs"]) == ("markdown", "idle", [])
    await axon.created(f"{path}/cells", {"source": "last", "metadata": {"k": None}})
    await axon.created(f"{path}/cells", {"source": "beyond", "position": 99})
    assert await sources(axon, path) == ["first", "a", "b", "last", "beyond"]


async def test_other_fields_of_a_cell_stay(axon: Client) -> None:
    path, (cell, _) = await made(axon, "a", "b")
    output = {
        "output_type": "execute_result",
        "data": {"text/plain": "1"},
        "execution_count": 3,
        "metadata": {},
    }
    ran = {"outputs": [output], "execution_count": 3, "status": "completed"}
    assert (await axon.put(f"{path}/cells/{cell}", ran)).json == {
        "id": cell,
        "cell_type": "code",
        "source": "a",
        "metadata": {},
        **ran,
    }
    changed = (await axon.put(f"{path}/cells/{cell}", {"source": "c", "id": "other"})).json
    assert (changed["id"], changed["source"], changed["outputs"]) == (cell, "c", [output])
    cleared = (
        await axon.put(f"{path}/cells/{cell}", {"outputs": [], "execution_count": None})
    ).json
    assert "execution_count" not in cleared
    assert await sources(axon, path) == ["c", "b"]


async def test_concurrent_changes_of_a_cell_lose_nothing(axon: Client) -> None:
    path, (cell,) = await made(axon, "a")
    fields = [
        {"source": "new"},
        {"metadata": {"k": 1}},
        {"status": "running"},
        {"execution_count": 7},
    ]
    replies = await asyncio.gather(*(axon.put(f"{path}/cells/{cell}", field) for field in fields))
    assert [reply.status for reply in replies] == [200] * 4
    (after,) = (await axon.get(path)).json["cells"]
    assert {name: after[name] for field in fields for name in field} == {
        k: v for f in fields for k, v in f.items()
    }


async def test_concurrent_changes_of_all_cells_are_all_accepted(axon: Client) -> None:
    path, _ = await made(axon, "a")
    bodies = [{"cells": [{"source": str(number)}], "name": str(number)} for number in range(12)]
    replies = await asyncio.gather(*(axon.put(path, body) for body in bodies))
    assert [reply.status for reply in replies] == [200] * 12
    after = (await axon.get(path)).json
    assert after["name"] == after["cells"][0]["source"]


async def test_edits_of_another_version_are_refused(axon: Client) -> None:
    path, (cell,) = await made(axon, "a")
    version = (await axon.get(path)).headers["ETag"]
    changed = await axon.put(f"{path}/cells/{cell}", {"source": "b"}, headers={"If-Match": version})
    assert changed.status == 200
    assert changed.headers["ETag"] != version
    stale = {"If-Match": version}
    assert (await axon.put(f"{path}/cells/{cell}", {"source": "c"}, headers=stale)).status == 412
    assert (await axon.post(f"{path}/cells", {"source": "c"}, headers=stale)).status == 412
    assert (await axon.delete(f"{path}/cells/{cell}", headers=stale)).status == 412
    assert await sources(axon, path) == ["b"]


async def test_edits_of_a_bound_record_are_written_to_its_file(
    axon: Client, write_notebook: Write, read_sources: Sources
) -> None:
    file = write_notebook("bound.ipynb", "one", "two")
    notebook = (await axon.post("/notebooks/sync", {"path": "bound.ipynb"})).json
    path, (one, two) = f"/notebooks/{notebook['id']}", [cell["id"] for cell in notebook["cells"]]

    added = await axon.created(f"{path}/cells", {"source": "zero", "position": 0})
    assert read_sources(file) == ["zero", "one", "two"]
    assert (await axon.put(f"{path}/cells/{one}", {"source": "uno"})).json["source"] == "uno"
    assert read_sources(file) == ["zero", "uno", "two"]
    assert (await axon.delete(f"{path}/cells/{two}")).status == 204
    assert read_sources(file) == ["zero", "uno"]
    replaced = (await axon.put(path, {"cells": [{"source": "all new"}]})).json
    assert read_sources(file) == ["all new"]

    nbformat.validate(nbformat.read(file, as_version=4))
    assert [cell["source"] for cell in replaced["cells"]] == ["all new"]
    assert added["id"] not in {cell["id"] for cell in replaced["cells"]}
    assert (await axon.get("/notebooks")).headers["X-Total-Count"] == "1"


async def test_an_edit_starts_from_the_file_on_disk(
    axon: Client, write_notebook: Write, read_sources: Sources
) -> None:
    write_notebook("bound.ipynb", "one")
    notebook = (await axon.post("/notebooks/sync", {"path": "bound.ipynb"})).json
    path = f"/notebooks/{notebook['id']}"
    file = write_notebook("bound.ipynb", "by git")
    await axon.created(f"{path}/cells", {"source": "by REST"})
    assert read_sources(file) == ["by git", "by REST"]
    file = write_notebook("bound.ipynb", "by git again")
    seen = {"If-Match": notebook["version_id"]}
    assert (await axon.post(f"{path}/cells", {"source": "late"}, headers=seen)).status == 412
    assert read_sources(file) == ["by git again"]
    assert await sources(axon, path) == ["by git again"]


async def test_concurrent_edits_of_a_bound_record_lose_nothing(
    axon: Client, write_notebook: Write, read_sources: Sources
) -> None:
    file = write_notebook("bound.ipynb", "0")
    notebook = (await axon.post("/notebooks/sync", {"path": "bound.ipynb"})).json
    path = f"/notebooks/{notebook['id']}"
    await asyncio.gather(*(axon.created(f"{path}/cells", {"source": str(n)}) for n in range(1, 9)))
    assert sorted(read_sources(file)) == [str(n) for n in range(9)]
    assert sorted(await sources(axon, path)) == [str(n) for n in range(9)]


async def test_a_record_with_a_missing_file_is_not_edited(
    axon: Client, write_notebook: Write
) -> None:
    file = write_notebook("bound.ipynb", "one")
    notebook = (await axon.post("/notebooks/sync", {"path": "bound.ipynb"})).json
    path = f"/notebooks/{notebook['id']}"
    file.unlink()
    refused = await axon.post(f"{path}/cells", {"source": "two"})
    assert (refused.status, "is missing" in refused.message) == (409, True)
    file.write_text("{}")
    assert (await axon.post(f"{path}/cells", {"source": "two"})).status == 409
    assert await sources(axon, path) == ["one"]
    assert not (await axon.get("/notebooks?path=other.ipynb")).json


async def test_a_file_outside_the_root_is_neither_written_nor_named(
    axon: Client, write_notebook: Write, jp_root_dir: Path
) -> None:
    outside = write_notebook("n.ipynb", "one").rename(jp_root_dir.parent / "outside.ipynb")
    (jp_root_dir / "link.ipynb").symlink_to(outside)
    before = outside.read_bytes()
    notebook = (await axon.post("/notebooks/sync", {"path": "link.ipynb"})).json
    assert "path" not in notebook
    assert (await axon.post(f"/notebooks/{notebook['id']}/cells", {"source": "two"})).status == 409
    assert outside.read_bytes() == before


@pytest.mark.parametrize("damage", [{"nbformat": 5}, {"cells": [{"cell_type": "code", "id": "a"}]}])
async def test_an_invalid_notebook_is_not_edited(
    axon: Client, jp_root_dir: Path, damage: dict[str, Any]
) -> None:
    file = jp_root_dir / "bad.ipynb"
    file.write_text(
        json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **damage})
    )
    before = file.read_bytes()
    notebook = (await axon.post("/notebooks/sync", {"path": "bad.ipynb"})).json
    path = f"/notebooks/{notebook['id']}"
    refused = await axon.post(f"{path}/cells", {"source": "two"})
    assert refused.status in (400, 409)
    assert file.read_bytes() == before
    assert (await axon.get(path)).json["cells"] == notebook["cells"]
