"""Tests of the upload and download of state files."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client
from tornado.httpclient import HTTPRequest

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.store import open_store

MIB = 1 << 20


async def checkpoint_path(axon: Client, **given: Any) -> str:
    notebook = await axon.created("/notebooks", {"name": "n"})
    body = {"epoch": 0, "step": 0, "metrics": {}, **given}
    checkpoint = await axon.created(f"/notebooks/{notebook['id']}/checkpoints", body)
    return f"/notebooks/{notebook['id']}/checkpoints/{checkpoint['id']}"


async def until(holds: Callable[[], bool]) -> None:
    """Let the server work until something holds; the test's time limit is the limit."""
    while not holds():
        await asyncio.sleep(0)


async def test_fifty_megabytes_are_streamed_in_bounded_memory(
    axon: Client, http_server_client: Any, jp_base_url: str
) -> None:
    path = await checkpoint_path(axon, format="safetensors")
    piece = bytes(range(256)) * (MIB // 256)
    count, sent, got = 50, hashlib.sha256(), hashlib.sha256()

    async def pieces(write: Callable[[bytes], Any]) -> None:
        for number in range(count):
            chunk = number.to_bytes(4, "big") + piece[4:]
            sent.update(chunk)
            await write(chunk)

    def request(method: str, **given: Any) -> HTTPRequest:
        url = http_server_client.get_url(f"{jp_base_url}axon{path}/states/model")
        return HTTPRequest(
            url, method, headers=given.pop("headers", axon.headers), request_timeout=120, **given
        )

    fetch = super(type(http_server_client), http_server_client).fetch
    tracemalloc.start()
    try:
        length = {**axon.headers, "Content-Length": str(count * MIB)}
        put = await fetch(request("PUT", headers=length, body_producer=pieces))
        get = await fetch(request("GET", streaming_callback=got.update))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert put.code == 201
    assert got.hexdigest() == sent.hexdigest()
    assert get.headers["ETag"] == put.headers["ETag"] == f'"{sent.hexdigest()}"'
    assert get.headers["Content-Length"] == str(count * MIB)
    assert get.headers["Content-Type"] == "application/octet-stream"
    assert peak < 20 * MIB
    record = (await axon.get(path)).json
    assert record["sizes"] == {"model": count * MIB}
    assert record["model_state_path"].endswith("/model.safetensors")


async def test_a_state_is_written_once(axon: Client) -> None:
    path = await checkpoint_path(axon)
    url = f"{path}/states/optimizer"
    assert (await axon.get(url)).status == 404
    first = await axon.put(url, body=b"one")
    assert (first.status, first.json["sizes"]) == (201, {"optimizer": 3})
    again = await axon.put(url, body=b"one")
    assert (again.status, again.json) == (200, first.json)
    assert (await axon.put(url, body=b"two")).status == 409
    assert (await axon.get(url)).body == b"one"
    assert [
        file.name for file in Path(first.json["optimizer_state_path"]).parent.glob("*optimizer*")
    ] == ["optimizer.bin"]


async def test_an_unchanged_state_is_304(axon: Client) -> None:
    path = f"{await checkpoint_path(axon, model_state_base64='AAAA')}/states/model"
    reply = await axon.get(path)
    assert (reply.status, reply.body) == (200, b"\0\0\0")
    assert reply.headers["Content-Disposition"].startswith("attachment;")
    unchanged = await axon.get(path, headers={"If-None-Match": reply.headers["ETag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert (await axon.get(path, headers={"If-None-Match": '"other"'})).status == 200
    head = await axon("HEAD", path)
    assert (head.headers["Content-Length"], head.headers["ETag"]) == ("3", reply.headers["ETag"])


async def test_concurrent_uploads_of_a_part_store_one_state(axon: Client) -> None:
    url = f"{await checkpoint_path(axon)}/states/model"
    replies = await asyncio.gather(*(axon.put(url, body=bytes([n])) for n in range(5)))
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409, 409]
    winner = next(n for n, reply in enumerate(replies) if reply.status == 201)
    assert (await axon.get(url)).body == bytes([winner])


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_interrupted_upload_leaves_nothing(
    chunked: bool, axon: Client, jp_http_port: int, jp_base_url: str, data: Path
) -> None:
    path = await checkpoint_path(axon)
    _, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {4 * MIB}"
    writer.write(
        f"PUT {jp_base_url}axon{path}/states/model HTTP/1.1\r\nHost: 127.0.0.1:{jp_http_port}\r\n"
        f"Authorization: {axon.headers['Authorization']}\r\n{framing}\r\n\r\n".encode()
    )
    octets = bytes(MIB)
    writer.write(b"%x\r\n%b\r\n" % (len(octets), octets) if chunked else octets)
    await writer.drain()
    folder = data / "axon_notebooks" / "states" / path.split("/")[2]
    await until(lambda: bool(list(folder.rglob("*.tmp"))))
    writer.transport.abort()
    await until(lambda: not folder.exists())
    assert (await axon.get(path)).json["model_state_path"] == ""


async def test_a_full_disk_is_reported_before_the_upload(
    axon: Client, jp_http_port: int, jp_base_url: str, stored: Callable[[], list[str]]
) -> None:
    path = await checkpoint_path(axon)
    before = stored()
    reader, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
    head = (
        f"PUT {jp_base_url}axon{path}/states/model HTTP/1.1\r\nHost: 127.0.0.1:{jp_http_port}\r\n"
        f"Authorization: {axon.headers['Authorization']}\r\nContent-Length: {2**60}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readline()
    writer.close()
    assert b"507" in answer
    assert stored() == before


async def test_a_state_file_that_changed_its_size_is_not_sent(axon: Client) -> None:
    path = await checkpoint_path(axon, model_state_base64="AAAA")
    file = Path((await axon.get(path)).json["model_state_path"])
    file.write_bytes(b"not the weights")
    assert "15 bytes instead of the 3" in (await axon.get(f"{path}/states/model")).message
    file.unlink()
    assert (await axon.get(f"{path}/states/model")).status == 404


async def test_only_models_and_optimizers_have_states(axon: Client) -> None:
    path = await checkpoint_path(axon)
    assert (await axon.get(f"{path}/states/scheduler")).status == 404


async def test_a_lost_state_can_be_uploaded_again(axon: Client) -> None:
    url = f"{await checkpoint_path(axon)}/states/model"
    stored = await axon.put(url, body=b"weights")
    Path(stored.json["model_state_path"]).unlink()
    assert (await axon.get(url)).status == 404
    assert (await axon.put(url, body=b"weights")).status == 201
    assert (await axon.get(url)).body == b"weights"


@pytest.mark.parametrize("part", ["model", "optimizer"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{outside}", "must lie inside one of the configured folders"),
        ("other/{id}/model.bin", "lies in the folder of another notebook"),
        ("../axon.db", "must not contain `..`"),
        ("/former/other/{id}/model.bin", "must lie inside one of the configured folders"),
        ("{root}/../axon.db", "must not contain `..`"),
        ("{root}/other/{id}/model.bin", "lies in the folder of another notebook"),
        ("{root}/{notebook}/{id}/link/model.bin", "symbolic link"),
        ("{root}/model.bin", "lies in no notebook's folder"),
        ("/" + "x" * 5000, "must lie inside one of the configured folders"),
        ("half \ud800", "got text that is not a valid path"),
    ],
)
async def test_a_path_that_is_not_served_is_refused_with_the_reason(
    path: str, reason: str, part: str, axon: Client, jp_serverapp: Any, jp_root_dir: Path
) -> None:
    notebook = (await axon.created("/notebooks", {"name": "n"}))["id"]
    services = jp_serverapp.web_app.settings["axon_services"]
    root = Path(services.config.states_root)
    outside = jp_root_dir / "secret.bin"
    outside.write_text("secret")
    for folder in (root / "other" / "c", root / notebook / "c"):
        folder.mkdir(parents=True)
        (folder / "model.bin").write_text("state")
    (root / notebook / "c" / "link").symlink_to(root / "other" / "c")
    (root / "model.bin").write_text("state")
    given = path.format(outside=outside, root=root, notebook=notebook, id="c")
    new = NewCheckpoint(id="c", notebook_id=notebook, epoch=0, step=0, metrics={})
    setattr(new, f"{part}_state_path", given)
    services.repository.create_checkpoint(new)

    url = f"/notebooks/{notebook}/checkpoints/c/states/{part}"
    refused = await axon.get(url)
    assert (refused.status, reason in refused.message) == (409, True)
    assert f"the {part} state of checkpoint c is not served" in refused.message
    assert "secret" not in refused.message.replace(str(outside), "")
    assert (await axon.get(f"{url}?download=1", headers={"If-None-Match": "*"})).status == 409
    head = await axon("HEAD", url)
    assert (head.status, head.body) == (409, b"")
    assert (await axon.get(f"/notebooks/{notebook}/checkpoints/c/provenance")).status == 200
    assert (await axon.put(url, headers={}, body=b"new")).status in (409, 201)
    assert outside.read_text() == "secret"


@pytest.mark.parametrize(
    "path", ["{notebook}/c/model.bin", "/former/states/{notebook}/c/model.bin"]
)
async def test_a_state_is_served_from_any_configured_root(
    path: str, axon: Client, jp_serverapp: Any
) -> None:
    notebook = (await axon.created("/notebooks", {"name": "n"}))["id"]
    services = jp_serverapp.web_app.settings["axon_services"]
    file = Path(services.config.states_root, notebook, "c", "model.bin")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    given = path.format(notebook=notebook)
    new = NewCheckpoint(
        id="c",
        notebook_id=notebook,
        epoch=0,
        step=0,
        metrics={},
        model_state_path=given,
        digests={"model": digest},
    )
    services.repository.create_checkpoint(new)
    url = f"/notebooks/{notebook}/checkpoints/c"
    assert (await axon.get(f"{url}/states/model")).body == b"weights"
    assert (await axon.put(f"{url}/states/model", body=b"weights")).status == 200
    assert (await axon.get(url)).json["model_state_path"] == (
        given if given.startswith("/") else str(file)
    )


async def test_paths_are_absolute_in_responses_and_relative_in_the_store(
    axon: Client, jp_serverapp: Any
) -> None:
    path = await checkpoint_path(axon, model_state_base64="AAAA")
    await axon.put(f"{path}/states/optimizer", body=b"weights")
    answered = (await axon.get(path)).json
    url = jp_serverapp.web_app.settings["axon_services"].config.store_url
    with closing(open_store(url)) as store:
        stored = store.checkpoints.get(doc_id=answered["id"])
    for name in ("model_state_path", "optimizer_state_path"):
        assert Path(answered[name]).is_file()
        assert answered[name].endswith(f"/{stored[name]}")
        assert stored[name].startswith(f"{answered['notebook_id']}/{answered['id']}/")


async def test_a_server_registers_its_states_root(
    axon: Client, jp_serverapp: Any, data: Path
) -> None:
    path = await checkpoint_path(axon)
    listed = data / "axon_notebooks" / "states_roots.txt"
    assert not listed.exists()
    assert (await axon.put(f"{path}/states/model", body=b"weights")).status == 201
    root = jp_serverapp.web_app.settings["axon_services"].config.states_root
    assert listed.read_text() == f"{root}\n"
