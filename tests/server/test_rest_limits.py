"""Tests of the limit on body sizes."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from support.rest_client import Client

LIMIT = 100_000


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_axon_notebooks": True}},
        "AxonNotebooks": {"max_body_size": LIMIT},
    }


def body(size: int) -> bytes:
    frame = b'{"name": "%b"}'
    return frame % (b"x" * (size - len(frame) + 2))


async def test_a_body_over_the_limit_is_refused(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    assert (await axon.post("/notebooks", body=body(LIMIT))).status == 201
    before = stored()
    for size in (LIMIT + 1, LIMIT * 7, LIMIT * 30):
        reply = await axon.post("/notebooks", body=body(size))
        assert (reply.status, str(LIMIT) in reply.message) == (413, True)
    assert stored() == before


async def test_a_body_of_unknown_length_is_refused_over_the_limit(axon: Client) -> None:
    async def pieces(write: Callable[[bytes], Any]) -> None:
        for _ in range(7):
            await write(b" " * LIMIT)

    tracemalloc.start()
    try:
        reply = await axon.post("/notebooks", body_producer=pieces)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reply.status == 413
    assert peak < 6 * LIMIT


async def test_expect_100_continue_is_refused_over_the_limit(
    axon: Client, jp_http_port: int, jp_base_url: str
) -> None:
    for length in (LIMIT + 1, 2**62):
        reader, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
        writer.write(
            (
                f"POST {jp_base_url}axon/notebooks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Expect: 100-continue\r\nAuthorization: {axon.headers['Authorization']}\r\n"
                f"Content-Length: {length}\r\n\r\n"
            ).encode()
        )
        assert b"413" in await reader.readline()
        writer.close()


async def test_states_have_no_limit(axon: Client) -> None:
    path = f"/notebooks/{(await axon.created('/notebooks', {'name': 'n'}))['id']}/checkpoints"
    made = await axon.created(path, {"epoch": 0, "step": 0, "metrics": {}})
    octets = bytes(LIMIT * 10)
    assert (await axon.put(f"{path}/{made['id']}/states/model", body=octets)).status == 201
    assert (await axon.get(f"{path}/{made['id']}/states/model")).body == octets
