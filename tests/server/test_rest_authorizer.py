"""Tests of the server's authorizer with the resource ``axon``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from jupyter_server.auth import Authorizer
from support.rest_client import Client
from test_rest_access import OPERATIONS, WRITES, body_of


class ReadOnly(Authorizer):
    """Lets everybody read, and write whatever is not ours."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return action == "read" or resource != "axon"


class NotOurs(Authorizer):
    """Lets everybody do whatever is not ours."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource != "axon"


class NoFiles(Authorizer):
    """Lets everybody do everything but touch files."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource != "contents"


@pytest.fixture
def authorizer() -> type[Authorizer]:
    return ReadOnly


@pytest.fixture
def jp_server_config(authorizer: type[Authorizer]) -> dict[str, Any]:
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_axon_notebooks": True},
            "authorizer_class": authorizer,
        }
    }


@pytest.mark.parametrize("authorizer", [NotOurs])
async def test_a_user_without_read_permission_gets_403(axon: Client) -> None:
    for verb, path in OPERATIONS:
        reply = await axon(verb, path, body=body_of(verb))
        assert reply.status == 403, (verb, path)
        assert verb == "HEAD" or "not authorized" in reply.message, (verb, path)


async def test_a_user_without_write_permission_changes_nothing(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    assert (await axon.get("/notebooks")).json == []  # the store is open
    before = stored()
    for verb, path in WRITES:
        reply = await axon(verb, path, body=body_of(verb))
        assert (reply.status, "not authorized" in reply.message) == (403, True), (verb, path)
    assert (await axon.get("/notebooks")).json == []
    assert stored() == before


async def test_an_unauthorized_upload_is_refused_before_its_body(
    axon: Client, jp_http_port: int, jp_base_url: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
    writer.write(
        f"PUT {jp_base_url}axon/notebooks/n/checkpoints/c/states/model HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        f"Authorization: {axon.headers['Authorization']}\r\nContent-Length: 1000\r\n\r\n".encode()
    )
    assert b"403" in await reader.readline()
    writer.close()


@pytest.mark.parametrize("authorizer", [NoFiles])
async def test_records_give_no_access_to_files_without_permission(
    axon: Client,
    write_notebook: Callable[..., Any],
    read_sources: Callable[[Any], list[str]],
    jp_root_dir: Any,
) -> None:
    file = write_notebook("a.ipynb", "1")
    synced = await axon.post("/notebooks/sync", {"path": "a.ipynb"})
    made = await axon.post("/notebooks", {"name": "b", "path": "b.ipynb"})
    assert (synced.status, made.status) == (403, 403)
    assert "contents" in synced.message
    assert not (jp_root_dir / "b.ipynb").exists()
    assert read_sources(file) == ["1"]
    assert (await axon.post("/notebooks", {"name": "without a file"})).status == 201
