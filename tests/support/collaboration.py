"""Clients of the rooms of jupyter-collaboration, and the events of the rooms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nbformat
from jupyter_ydoc import YNotebook, YUnicode, ydocs
from pycrdt import Provider
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from support.rest_client import Client

#: Seconds after which something counts as never happening.
TIMEOUT = 20.0


class Channel:
    """A web socket with the interface that pycrdt expects."""

    def __init__(self, socket: WebSocketClientConnection, path: str) -> None:
        self._socket = socket
        self.path = path

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        message = await self._socket.read_message()
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        return message

    async def recv(self) -> bytes:
        return await self.__anext__()

    async def send(self, message: bytes) -> None:
        await self._socket.write_message(message, binary=True)


class Rooms:
    """The rooms of the server; ``events`` are those they have emitted."""

    def __init__(self, axon: Client, port: int, base_url: str) -> None:
        self._axon = axon
        self._url = f"ws://127.0.0.1:{port}{base_url}api/collaboration/room"
        self._waiting: list[tuple[str, str, asyncio.Future[None]]] = []
        self.events: list[dict[str, Any]] = []

    async def on_event(self, *, data: dict[str, Any], **_: Any) -> None:
        """Listen to the events of the server."""
        self.events.append(data)
        for action, message, future in self._waiting:
            if not future.done() and (action, message) == (data.get("action"), data.get("msg")):
                future.set_result(None)

    def next_event(self, action: str, message: str) -> Awaitable[None]:
        """Return an awaitable for the next event of a kind."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((action, message, future))
        return asyncio.wait_for(future, TIMEOUT)

    @asynccontextmanager
    async def join(
        self, path: str, format: str = "json", type: str = "notebook"
    ) -> AsyncIterator[Any]:
        """Open a file in its room as another user; yields the shared document."""
        body = json.dumps({"format": format, "type": type})
        session = (
            await self._axon.raw("PUT", f"/api/collaboration/session/{path}", body=body)
        ).json
        name = f"{session['format']}:{session['type']}:{session['fileId']}"
        request = HTTPRequest(
            f"{self._url}/{name}?sessionId={session['sessionId']}", headers=self._axon.headers
        )
        socket = await websocket_connect(request)
        document: YNotebook | YUnicode = ydocs[type]()
        try:
            async with Provider(document.ydoc, Channel(socket, name)) as provider:
                await asyncio.wait_for(provider.synced.wait(), TIMEOUT)
                yield document
        finally:
            socket.close()

    @asynccontextmanager
    async def wait_for_deletion(self) -> AsyncIterator[None]:
        """Wait at the end of the ``with`` block until the room that was left in it is deleted."""
        deletion = self.next_event("clean", "Room deleted.")
        yield
        await deletion


async def wait_until(is_true: Callable[[], Any]) -> None:
    """Wait until a coroutine function returns something true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    while not await is_true():
        assert loop.time() < deadline, "timed out"


def get_sources(document: YNotebook) -> list[str]:
    return [cell["source"] for cell in document.get()["cells"]]


def append_cell(document: YNotebook, source: str) -> None:
    document.append_cell(dict(nbformat.v4.new_code_cell(source)))
