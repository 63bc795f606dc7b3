"""What people do in a collaboration room, and what the room says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_ydoc import YNotebook, YUnicode, ydocs
from pycrdt import Provider
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from support.rest_client import Client

#: Seconds after which something that should happen counts as never happening.
PATIENCE = 20.0

#: What a room says when all goes well. When it takes a file for changed by somebody else, it says "overwrite".
QUIET = {"initialize", "load", "save", "clean"}


class Channel:
    """A web socket as pycrdt wants it."""

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
    """The server's rooms: one enters them, and hears what they say."""

    def __init__(self, axon: Client, port: int, base_url: str) -> None:
        self._axon = axon
        self._url = f"ws://127.0.0.1:{port}{base_url}api/collaboration/room"
        self._awaited: list[tuple[str, str, asyncio.Future[None]]] = []
        self.heard: list[dict[str, Any]] = []

    async def listen(self, *, data: dict[str, Any], **_: Any) -> None:
        """A listener for the server's events."""
        self.heard.append(data)
        for action, message, said in self._awaited:
            if not said.done() and (action, message) == (data.get("action"), data.get("msg")):
                said.set_result(None)

    def saying(self, action: str, message: str) -> Awaitable[None]:
        """What to await for a room to say that from now on."""
        said = asyncio.get_running_loop().create_future()
        self._awaited.append((action, message, said))
        return asyncio.wait_for(said, PATIENCE)

    def save(self) -> Awaitable[None]:
        """What to await for the next save of a room."""
        return self.saying("save", "Content saved.")

    @asynccontextmanager
    async def entered(
        self, path: str, format: str = "json", type: str = "notebook"
    ) -> AsyncIterator[Any]:
        """The shared document of a file, as one more person who has opened it has it."""
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
                await asyncio.wait_for(provider.synced.wait(), PATIENCE)
                yield document
        finally:
            socket.close()

    @asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """The room that whoever is inside the ``with`` leaves last is gone at its end."""
        gone = self.saying("clean", "Room deleted.")
        yield
        await gone


async def eventually(claim: Callable[[], Any]) -> None:
    """Ask again and again until ``claim``, a coroutine function, gives something true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not await claim():
        assert loop.time() < deadline, "it never came true"


def sources(document: YNotebook) -> list[str]:
    return [cell["source"] for cell in document.get()["cells"]]


def add(document: YNotebook, source: str) -> None:
    document.append_cell(dict(nbformat.v4.new_code_cell(source)))


def embedded_id(file: Path) -> str | None:
    axon = json.loads(file.read_text())["metadata"].get("axon", {})
    return axon.get("notebook_id")
