"""Tests of the notebook routes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.factories import new_notebook
from support.rest_client import Client


async def test_a_record_has_starter_cells_by_default(axon: Client) -> None:
    reply = await axon.post("/notebooks", {"name": "MNIST"})
    made = reply.json
    assert reply.status == 201
    assert reply.headers["ETag"] == f'"{made["version_id"]}"'
    assert (made["name"], made["user_id"], made["status"]) == ("MNIST", "ada", "draft")
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code"]
    assert (await axon.get(f"/notebooks/{made['id']}")).json == made


async def test_a_record_is_returned_without_outputs_on_request(axon: Client) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": "hi\n"}
    cells = [{"source": "print('hi')", "outputs": [output], "status": "completed"}, {"source": "1"}]
    made = await axon.created("/notebooks", {"name": "n", "cells": cells})
    bare = await axon.get(f"/notebooks/{made['id']}?outputs=false")
    for cell in made["cells"]:
        del cell["outputs"]
    assert (bare.json, bare.headers["ETag"].partition(".")[0]) == (made, f'"{made["version_id"]}')
    whole = await axon.get(f"/notebooks/{made['id']}?outputs=true")
    assert whole.json["cells"][0]["outputs"] == [output]
    refused = await axon.get(f"/notebooks/{made['id']}?outputs=none")
    assert refused.status == 400
    assert "outputs" in refused.json["message"]


async def test_records_are_listed_newest_first_with_pages(axon: Client) -> None:
    ids = [(await axon.created("/notebooks", {"name": f"n{i}"}))["id"] for i in range(3)]
    everything = await axon.get("/notebooks")
    assert [item["id"] for item in everything.json] == ids[::-1]
    assert "cells" not in everything.json[0]
    page = await axon.get("/notebooks?limit=1&offset=1")
    assert ([item["id"] for item in page.json], page.headers["X-Total-Count"]) == ([ids[1]], "3")


async def test_a_record_can_be_read_changed_and_sent_back(axon: Client) -> None:
    made = await axon.created("/notebooks", {"name": "n"})
    made["cells"][1]["source"] = "changed"
    made["name"] = "renamed"
    changed = (await axon.put(f"/notebooks/{made['id']}", made)).json
    assert (changed["name"], changed["cells"]) == ("renamed", made["cells"])
    assert changed["version_id"] != made["version_id"]


async def test_a_change_of_another_version_is_refused(axon: Client) -> None:
    made = await axon.created("/notebooks", {"name": "n"})
    path, tag = f"/notebooks/{made['id']}", {"If-Match": f'"{made["version_id"]}"'}
    cells = [{"source": "one"}]
    assert (await axon.put(path, {"cells": cells}, headers=tag)).status == 200
    stale = await axon.put(path, {"cells": [{"source": "two"}]}, headers=tag)
    assert stale.status == 412
    assert (await axon.get(path)).json["cells"][0]["source"] == "one"
    assert (await axon.put(path, {"name": "x"}, headers={"If-Match": "*"})).status == 200
    assert (await axon.put(path, {"name": "x"}, headers={"If-Match": '"a", "b"'})).status == 400


@pytest.mark.parametrize("outputs", ["", "?outputs=false"])
async def test_an_unchanged_record_is_not_sent_again(axon: Client, outputs: str) -> None:
    made = await axon.created("/notebooks", {"name": "n"})
    path = f"/notebooks/{made['id']}"
    first = await axon.get(f"{path}{outputs}")
    tag, revision = first.headers["ETag"], first.headers["X-Axon-Revision"]
    again = await axon.get(f"{path}{outputs}", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert (again.headers["ETag"], again.headers["X-Axon-Revision"]) == (tag, revision)
    # The name changes, the version does not.
    assert (await axon.put(path, {"name": "m"}, headers={"If-Match": tag})).status == 200
    changed = await axon.get(f"{path}{outputs}", headers={"If-None-Match": tag})
    assert (changed.status, changed.json["name"]) == (200, "m")
    assert changed.headers["ETag"] != tag
    assert changed.headers["X-Axon-Revision"] != revision


async def test_the_revision_changes_with_every_commit(axon: Client) -> None:
    made = await axon.created("/notebooks", {"name": "n"})
    path = f"/notebooks/{made['id']}"
    before = await axon.get(f"{path}?outputs=false")
    checkpoint = {"epoch": 0, "step": 0, "metrics": {}, "run_id": "r"}
    await axon.created(f"{path}/checkpoints", checkpoint)
    after = await axon.get(
        f"{path}?outputs=false", headers={"If-None-Match": before.headers["ETag"]}
    )
    assert after.headers["X-Axon-Revision"] != before.headers["X-Axon-Revision"]


async def test_a_record_is_deleted_with_its_checkpoints(axon: Client, data: Path) -> None:
    made = await axon.created("/notebooks", {"name": "n"})
    path = f"/notebooks/{made['id']}"
    state = {"epoch": 0, "step": 0, "metrics": {}, "model_state_base64": "AAAA"}
    checkpoint = await axon.created(f"{path}/checkpoints", state)
    assert Path(checkpoint["model_state_path"]).is_relative_to(data)
    gone = await axon.delete(path)
    assert (gone.status, gone.body) == (204, b"")
    assert (await axon.get(path)).status == 404
    assert not Path(checkpoint["model_state_path"]).parent.exists()
    assert (await axon.delete(path)).message == f"notebook {made['id']} not found"


async def test_a_record_with_a_path_has_a_file(axon: Client, jp_root_dir: Path) -> None:
    (jp_root_dir / "sub folder").mkdir()
    given = {
        "path": "sub folder/päth %.ipynb",
        "name": "Named",
        "description": "d",
        "cells": [{"source": "import torch"}, {"source": "# hi", "cell_type": "markdown"}],
    }
    made = await axon.created("/notebooks", given)
    assert (made["path"], made["name"], made["description"]) == (given["path"], "Named", "d")
    file = nbformat.read(jp_root_dir / given["path"], as_version=4)
    nbformat.validate(file)
    assert [(cell.id, cell.source) for cell in file.cells] == [
        (cell["id"], cell["source"]) for cell in made["cells"]
    ]
    listed = await axon.get("/notebooks")
    assert [item["id"] for item in listed.json] == [made["id"]]
    by_path = await axon.get("/notebooks?path=sub%20folder/p%C3%A4th%20%25.ipynb")
    assert [item["id"] for item in by_path.json] == [made["id"]]


async def test_a_path_finds_the_record_of_this_machine(
    axon: Client, jp_serverapp: Any, write_notebook: Callable[..., Path]
) -> None:
    file = write_notebook("same.ipynb", "1")
    ours = (await axon.post("/notebooks/sync", {"path": "same.ipynb"})).json
    repository = jp_serverapp.web_app.settings["axon_services"].repository
    theirs = new_notebook(name="theirs", path=str(file.resolve()), origin="another")
    repository.create(theirs)
    assert len((await axon.get("/notebooks")).json) == 2
    by_path = await axon.get("/notebooks?path=same.ipynb")
    assert [item["id"] for item in by_path.json] == [ours["id"]]
    assert by_path.headers["X-Total-Count"] == "1"


async def test_a_file_that_exists_is_not_overwritten(
    axon: Client, write_notebook: Callable[..., Path], stored: Callable[[], list[str]]
) -> None:
    write_notebook("there.ipynb", "mine")
    before = stored()
    assert (await axon.post("/notebooks", {"path": "there.ipynb"})).status == 409
    assert stored() == before


async def test_an_imported_notebook_is_exported_unchanged(axon: Client) -> None:
    content = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("1/0", outputs=[nbformat.v4.new_output("stream", text="x")]),
            nbformat.v4.new_raw_cell("raw"),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "own": {"a": None},
        },
    )
    text = nbformat.writes(content)
    made = await axon.created(
        "/notebooks/import", {"content": text, "format": "ipynb", "name": "In"}
    )
    assert (made["name"], made["metadata"]["kernel"]) == ("In", "python3")
    assert made["cells"][0]["outputs"][0]["text"] == "x"
    exported = (await axon.get(f"/notebooks/{made['id']}/export?format=ipynb")).json
    assert (exported["format"], exported["filename"]) == ("ipynb", "In.ipynb")
    assert nbformat.reads(exported["content"], as_version=4) == nbformat.reads(text, as_version=4)


async def test_a_download_has_a_safe_file_name(axon: Client) -> None:
    made = await axon.created("/notebooks", {"name": '../a"b\r\n:c'})
    reply = await axon.get(f"/notebooks/{made['id']}/export?download=1")
    assert reply.headers["Content-Type"] == "application/x-ipynb+json"
    assert reply.headers["Content-Disposition"] == "attachment; filename*=utf-8''_a_b_c.ipynb"
    nbformat.validate(nbformat.reads(reply.body.decode(), as_version=4))


async def test_a_sync_creates_and_updates_the_record_of_a_file(
    axon: Client, write_notebook: Callable[..., Path]
) -> None:
    write_notebook("sub/file.ipynb", "one")
    made = (await axon.post("/notebooks/sync", {"path": "sub/file.ipynb"})).json
    assert (made["path"], made["name"], made["user_id"]) == ("sub/file.ipynb", "file", "ada")
    write_notebook("sub/file.ipynb", "one", "two")
    synced = (await axon.post("/notebooks/sync", {"path": "sub/file.ipynb"})).json
    assert synced["id"] == made["id"]
    assert [cell["source"] for cell in synced["cells"]] == ["one", "two"]


async def test_a_save_is_in_the_next_response(axon: Client) -> None:
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("saved")])
    model = json.dumps({"type": "notebook", "format": "json", "content": content})
    assert (await axon.raw("PUT", "/api/contents/saved.ipynb", body=model)).status == 201
    listed = (await axon.get("/notebooks")).json
    assert [(item["path"], item["cell_count"]) for item in listed] == [("saved.ipynb", 1)]


async def test_versions_are_listed_read_and_compared(axon: Client) -> None:
    made = await axon.created(
        "/notebooks", {"name": "n", "cells": [{"source": "a"}, {"source": "b"}]}
    )
    path = f"/notebooks/{made['id']}"
    cell = made["cells"][1]["id"]
    await axon.put(f"{path}/cells/{cell}", {"source": "c"})
    versions = await axon.get(f"{path}/versions")
    newest, oldest = versions.json
    assert (oldest["id"], versions.headers["X-Total-Count"]) == (made["version_id"], "2")
    whole = (await axon.get(f"{path}/versions/{oldest['id']}")).json
    assert [c["source"] for c in whole["cells"]] == ["a", "b"]
    compared = (await axon.get(f"{path}/diff?from={oldest['id']}&to={newest['id']}")).json
    assert compared["changes"] == [
        {"cell_id": cell, "change": "changed", "before": "b", "after": "c"}
    ]
    assert (
        await axon.get(f"{path}/diff?from={oldest['id']}&to=nothing")
    ).message == "version nothing not found"
    assert (
        await axon.get(f"{path}/diff?from={oldest['id']}")
    ).message == "$.to: required, but missing"


@pytest.fixture
def with_starter_cell(jp_server_config: dict[str, Any]) -> None:
    cells = [{"cell_type": "code", "source": "import torch"}]
    jp_server_config["AxonNotebooks"]["starter_cells"] = cells


@pytest.mark.usefixtures("with_starter_cell")
@pytest.mark.parametrize("body", [{"name": "n"}, {"path": "n.ipynb"}])
async def test_starter_cells_are_configurable(body: dict[str, str], axon: Client) -> None:
    made = await axon.created("/notebooks", body)
    assert [cell["source"] for cell in made["cells"]] == ["import torch"]
