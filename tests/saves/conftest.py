"""Servers for the tests of saves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.server_processes import Answer, Server

#: Fields that differ between two saves, or because of the embedded id.
_OWN = frozenset({"created", "last_modified", "size", "hash", "id"})


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with (
        Server(tmp_path_factory.mktemp("ours")).running() as ours,
        Server(tmp_path_factory.mktemp("bare"), extensions=()).running() as bare,
    ):
        ours.wait_for_its_store()
        yield ours, bare


@pytest.fixture
def server(_servers: tuple[Server, Server], folder: str) -> Server:
    """A server with the extension, shared by tests in separate folders."""
    return _servers[0]


@pytest.fixture
def bare(_servers: tuple[Server, Server], folder: str) -> Server:
    """A server without the extension."""
    return _servers[1]


@pytest.fixture
def folder(_servers: tuple[Server, Server], request: pytest.FixtureRequest) -> str:
    """The folder of one test below the root of the shared servers."""
    name = request.node.name.translate(str.maketrans("[]/", "---"))[:100]
    for server in _servers:
        (server.root / name).mkdir()
    return str(name)


@pytest.fixture
def both(server: Server, bare: Server) -> Callable[[Callable[[Server], Answer]], Answer]:
    """Sends a request to servers with and without the extension, and compares responses."""

    def do(act: Callable[[Server], Answer]) -> Answer:
        ours, theirs = act(server), act(bare)
        assert (ours.status, told(ours, server)) == (theirs.status, told(theirs, bare))
        return ours

    return do


def told(answer: Answer, server: Server) -> Any:
    """Return a response without server-specific fields."""
    if not answer.body:
        return None
    said = json.loads(answer.body.decode().replace(str(server.root), "<root>"))
    if isinstance(said, dict):
        said.pop("traceback", None)
    return _common(said)


def _common(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _common(inner) for name, inner in value.items() if name not in _OWN}
    return [_common(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers for one test, and stops them at its end."""
    started: list[Server] = []

    def start(name: str = "server", **given: Any) -> Server:
        started.append(Server(tmp_path / name, **given).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()
