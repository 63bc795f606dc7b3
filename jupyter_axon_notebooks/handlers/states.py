"""State files, streamed both ways: of any size, never whole in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import BinaryIO, Final, NamedTuple, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.auth.utils import HTTP_METHOD_TO_AUTH_ACTION
from tornado import web
from tornado.iostream import StreamClosedError

from ..errors import AxonError, Conflict, InvalidData, NotFound, StateCorrupt
from ..states import Part, StateWriter, StoredState
from .call import Call
from .handler import AxonHandler
from .responses import Answer

#: Bytes that are read or written in one go.
_CHUNK: Final = 1 << 20
_NO_LIMIT: Final = 2**63 - 1
#: Characters of a path in a message.
_LONGEST_PATH: Final = 300
_OCTETS: Final = "application/octet-stream"


class StateHandler(AxonHandler):
    """A model's or an optimizer's state."""

    def initialize(self) -> None:
        """Begin without an upload."""
        super().initialize()
        self._upload: Upload | None = None

    async def prepare_body(self) -> None:
        """Before a byte of a state is taken, see that it may come: from whom, to where, and whether it fits."""
        if self.request.method != "PUT":
            await super().prepare_body()
            return
        await self._authorize()
        notebook_id, checkpoint_id, part = self.path_args
        open_upload = partial(
            _open_upload,
            self.call,
            notebook_id,
            checkpoint_id,
            cast(Part, part),
            self.declared_size(),
        )
        self.take_at_most(_NO_LIMIT)
        self._upload = Upload(self, await self.run(open_upload, writes=False))

    async def _authorize(self) -> None:
        """Ask the authorizer, as the verb's decorator will; that one would ask only after the body has come."""
        action = HTTP_METHOD_TO_AUTH_ACTION["PUT"]
        allowed = self.authorizer.is_authorized(self, self.current_user, action, self.auth_resource)
        if not await ensure_async(allowed):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN, f"User is not authorized to {action} {self.auth_resource}"
            )

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Write a piece of the upload."""
        return super().data_received(chunk) if self._upload is None else self._upload.write(chunk)

    def on_connection_close(self) -> None:
        """Leave nothing of an upload that breaks off."""
        super().on_connection_close()
        self._abort_upload()

    def on_finish(self) -> None:
        """Leave nothing of an upload that was refused after all."""
        super().on_finish()
        self._abort_upload()

    def _abort_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            self._aborting = asyncio.ensure_future(upload.abort())

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, checkpoint_id: str, part: str) -> None:
        """Send the state."""
        await self._send(notebook_id, checkpoint_id, cast(Part, part))

    @web.authenticated
    @authorized
    async def head(self, notebook_id: str, checkpoint_id: str, part: str) -> None:
        """Say how large the state is, and its digest."""
        await self._send(notebook_id, checkpoint_id, cast(Part, part))

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, checkpoint_id: str, part: str) -> None:
        """Attach the state that came: 201, or 200 when this very state is there already."""
        upload, self._upload = self._upload, None
        assert upload is not None  # made in prepare
        await self.answer(
            await upload.finish(self.call, notebook_id, checkpoint_id, cast(Part, part))
        )

    async def _send(self, notebook_id: str, checkpoint_id: str, part: Part) -> None:
        state = await self.run(partial(_open_state, self.call, notebook_id, checkpoint_id, part))
        with state.file:
            self.set_header("Cache-Control", "private, no-cache")
            if state.digest is not None:
                self.set_header("ETag", f'"{state.digest}"')
            if web.RequestHandler.check_etag_header(self):
                self.set_status(HTTPStatus.NOT_MODIFIED)
            else:
                self.set_attachment_header(f"{checkpoint_id}-{state.name}")
                self.set_header("Content-Length", str(state.size))
                self.set_header("Content-Type", _OCTETS)
                if self.request.method != "HEAD":
                    await self._stream(state)
        self.finish(set_content_type=_OCTETS)

    async def _stream(self, state: OpenState) -> None:
        left = state.size
        try:
            while left and (chunk := await self.run(partial(state.read, left))):
                left -= len(chunk)
                self.write(chunk)
                await self.flush()
        except StreamClosedError:
            raise web.Finish from None  # the client has gone


class OpenState(NamedTuple):
    """A state file to be sent; ``digest`` is its SHA-256 in hex, if that is known."""

    file: BinaryIO
    name: str
    size: int
    digest: str | None

    def read(self, left: int) -> bytes:
        """The next piece of the ``left`` bytes to come. With the last one the file is closed."""
        chunk = self.file.read(min(left, _CHUNK))
        if len(chunk) == left:
            self.file.close()  # a client that has it all may go before we are called again
        return chunk


class Upload:
    """A state on its way in.

    Pieces are gathered before a worker thread writes them. An error is kept until the verb runs: what still comes is
    thrown away.
    """

    def __init__(self, handler: StateHandler, writer: StateWriter) -> None:
        self._handler = handler
        self._writer = writer
        self._gathered = bytearray()
        self._error: BaseException | None = None
        self._lock = asyncio.Lock()  # a connection may close in the middle of a write

    async def write(self, chunk: bytes) -> None:
        """Take a piece."""
        async with self._lock:
            if self._error is None:
                self._gathered += chunk
                if len(self._gathered) >= _CHUNK:
                    await self._write_gathered()

    async def _write_gathered(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        try:
            await self._handler.run(partial(self._writer.write, gathered), writes=False)
        except (AxonError, OSError, RuntimeError) as error:
            self._error = error

    async def abort(self) -> None:
        """Throw away what has come."""
        async with self._lock:
            self._error = self._error or StreamClosedError()
            await self._handler.run(self._writer.abort, writes=False)

    async def finish(self, call: Call, notebook_id: str, checkpoint_id: str, part: Part) -> Answer:
        """Attach what has come to its checkpoint."""
        async with self._lock:
            if self._error is None:
                await self._write_gathered()
            if self._error is not None:
                await self._handler.run(self._writer.abort, writes=False)
                raise self._error
            return await self._handler.run(
                partial(_attach, call, notebook_id, checkpoint_id, part, self._writer)
            )


def _open_upload(
    call: Call, notebook_id: str, checkpoint_id: str, part: Part, size: int | None
) -> StateWriter:
    checkpoint = call.checkpoint(notebook_id, checkpoint_id)
    return call.services.states.open_writer(
        notebook_id, checkpoint_id, part, format=checkpoint.format, expected_size=size
    )


def _attach(
    call: Call, notebook_id: str, checkpoint_id: str, part: Part, writer: StateWriter
) -> Answer:
    committed = False

    def commit() -> StoredState:
        nonlocal committed
        committed = True
        return writer.commit()

    with writer:
        writer.prepare()
        digest = writer.digest
        states = call.services.states
        checkpoint = call.repository.checkpoints.attach_state(
            checkpoint_id, part, commit, digest, lambda path: states.can_read(path, notebook_id)
        )
        states.mark_recorded(notebook_id, checkpoint_id)
    status = HTTPStatus.CREATED if committed else HTTPStatus.OK
    return Answer(checkpoint.to_json(), status, {"ETag": f'"{digest}"'})


def _open_state(call: Call, notebook_id: str, checkpoint_id: str, part: Part) -> OpenState:
    checkpoint = call.checkpoint(notebook_id, checkpoint_id)
    path = checkpoint.model_state_path if part == "model" else checkpoint.optimizer_state_path
    if not path:
        raise NotFound(f"{part} state of checkpoint", checkpoint_id)
    try:
        file = call.services.states.open(path, notebook_id)
    except InvalidData as error:
        raise Conflict(
            f"the {part} state of checkpoint {checkpoint_id} is not served: its path {path[:_LONGEST_PATH]!r} {error.reason}. "
            "To have it served, put the file into a folder of AxonNotebooks.extra_states_roots, and record that path"
        ) from error
    recorded = (checkpoint.sizes or {}).get(part)
    size = os.fstat(file.fileno()).st_size
    if recorded is not None and recorded != size:
        file.close()
        raise StateCorrupt(
            f"the {part} state of checkpoint {checkpoint_id} has {size} bytes, not the {recorded} that were stored"
        )
    name = os.path.basename(path).encode(errors="replace").decode()
    return OpenState(file, name, size, (checkpoint.digests or {}).get(part))
