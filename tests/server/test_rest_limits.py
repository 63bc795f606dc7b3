"""Tests of the limit on body sizes."""

from __future__ import annotations

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

    assert (await axon.post("/notebooks", body_producer=pieces)).status == 413


async def test_states_have_no_limit(axon: Client) -> None:
    path = f"/notebooks/{(await axon.created('/notebooks', {'name': 'n'}))['id']}/checkpoints"
    made = await axon.created(path, {"epoch": 0, "step": 0, "metrics": {}})
    octets = bytes(LIMIT * 10)
    assert (await axon.put(f"{path}/{made['id']}/states/model", body=octets)).status == 201
    assert (await axon.get(f"{path}/{made['id']}/states/model")).body == octets
