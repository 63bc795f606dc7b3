"""Upload and download of state files, streamed so that they are never whole in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import BinaryIO, Final, NamedTuple, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.iostream import StreamClosedError

from ..errors import AxonError, Conflict, InvalidData, NotFound, StateCorrupt
from ..states import Part, StateWriter, StoredState
from .base import AxonHandler
from .context import RequestContext
from .responses import Response

_CHUNK_SIZE: Final = 1 << 20
_NO_LIMIT: Final = 2**63 - 1
#: The longest path in a message, in characters.
_MAX_PATH: Final = 300
_MEDIA_TYPE: Final = "application/octet-stream"


class StateHandler(AxonHandler):
    """A state file of a checkpoint: of the model or of the optimizer."""

    def initialize(self) -> None:
        """Start without an upload."""
        super().initialize()
        self._upload: _Upload | None = None

    async def prepare_body(self) -> None:
        """Check authorization, checkpoint and free space before an upload is received."""
        if self.request.method != "PUT":
            await super().prepare_body()
            return
        # The decorator of the verb would check only after the upload.
        allowed = self.authorizer.is_authorized(
            self, self.current_user, "write", self.auth_resource
        )
        if not await ensure_async(allowed):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN, f"User is not authorized to write {self.auth_resource}"
            )
        notebook_id, checkpoint_id, part = self.path_args
        work = partial(
            _open_writer,
            self.context,
            notebook_id,
            checkpoint_id,
            cast(Part, part),
            self.declared_size(),
        )
        self.limit_body(_NO_LIMIT)
        self._upload = _Upload(self, await self.run(work, is_write=False))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Write a chunk of an upload."""
        return super().data_received(chunk) if self._upload is None else self._upload.write(chunk)

    def on_connection_close(self) -> None:
        """Remove an incomplete upload."""
        super().on_connection_close()
        self._abort_upload()

    def on_finish(self) -> None:
        """Remove a refused upload."""
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
        await self._send_state(notebook_id, checkpoint_id, cast(Part, part))

    @web.authenticated
    @authorized
    async def head(self, notebook_id: str, checkpoint_id: str, part: str) -> None:
        """Send size and digest of the state."""
        await self._send_state(notebook_id, checkpoint_id, cast(Part, part))

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, checkpoint_id: str, part: str) -> None:
        """Attach the uploaded state; 201, or 200 if the checkpoint has this state already."""
        upload, self._upload = self._upload, None
        assert upload is not None  # opened in prepare_body
        response = await upload.finish(notebook_id, checkpoint_id, cast(Part, part))
        await self.send_response(response)

    async def _send_state(self, notebook_id: str, checkpoint_id: str, part: Part) -> None:
        work = partial(_open_state, self.context, notebook_id, checkpoint_id, part)
        state = await self.run(work)
        with state.file:
            self.set_header("Cache-Control", "private, no-cache")
            if state.digest is not None:
                self.set_header("ETag", f'"{state.digest}"')
            if web.RequestHandler.check_etag_header(self):
                self.set_status(HTTPStatus.NOT_MODIFIED)
            else:
                self.set_attachment_header(f"{checkpoint_id}-{state.name}")
                self.set_header("Content-Length", str(state.size))
                self.set_header("Content-Type", _MEDIA_TYPE)
                if self.request.method != "HEAD":
                    await self._stream(state)
        self.finish(set_content_type=_MEDIA_TYPE)

    async def _stream(self, state: _OpenState) -> None:
        left = state.size
        try:
            while left and (chunk := await self.run(partial(state.read, left))):
                left -= len(chunk)
                self.write(chunk)
                await self.flush()
        except StreamClosedError:
            raise web.Finish from None  # the client has disconnected


class _OpenState(NamedTuple):
    """An open state file; ``digest`` is its SHA-256 in hex, if known."""

    file: BinaryIO
    name: str
    size: int
    digest: str | None

    def read(self, left: int) -> bytes:
        """Return the next chunk of the ``left`` bytes; close the file after the last one."""
        chunk = self.file.read(min(left, _CHUNK_SIZE))
        if len(chunk) == left:
            self.file.close()  # a client that has everything may disconnect before the next call
        return chunk


class _Upload:
    """A state that is being received.

    Chunks are collected, and written in a worker thread. After an error the rest is received and
    discarded, and the error is raised when the verb runs.
    """

    def __init__(self, handler: StateHandler, writer: StateWriter) -> None:
        self._handler = handler
        self._writer = writer
        self._buffer = bytearray()
        self._error: BaseException | None = None
        self._lock = asyncio.Lock()  # the connection may close during a write

    async def write(self, chunk: bytes) -> None:
        """Receive a chunk."""
        async with self._lock:
            if self._error is None:
                self._buffer += chunk
                if len(self._buffer) >= _CHUNK_SIZE:
                    await self._write_buffer()

    async def _write_buffer(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        try:
            await self._handler.run(partial(self._writer.write, buffer), is_write=False)
        except (AxonError, OSError, RuntimeError) as error:
            self._error = error

    async def abort(self) -> None:
        """Discard what was received."""
        async with self._lock:
            self._error = self._error or StreamClosedError()
            await self._handler.run(self._writer.abort, is_write=False)

    async def finish(self, notebook_id: str, checkpoint_id: str, part: Part) -> Response:
        """Attach the state to its checkpoint."""
        async with self._lock:
            if self._error is None:
                await self._write_buffer()
            if self._error is not None:
                await self._handler.run(self._writer.abort, is_write=False)
                raise self._error
            context = self._handler.context
            return await self._handler.run(
                partial(_attach, context, notebook_id, checkpoint_id, part, self._writer)
            )


def _open_writer(
    context: RequestContext, notebook_id: str, checkpoint_id: str, part: Part, size: int | None
) -> StateWriter:
    checkpoint = context.get_checkpoint(notebook_id, checkpoint_id)
    return context.server.states.open_writer(
        notebook_id, checkpoint_id, part, format=checkpoint.format, expected_size=size
    )


def _attach(
    context: RequestContext, notebook_id: str, checkpoint_id: str, part: Part, writer: StateWriter
) -> Response:
    committed = False

    def commit() -> StoredState:
        nonlocal committed
        committed = True
        return writer.commit()

    states = context.server.states
    with writer:
        writer.prepare()
        digest = writer.digest
        checkpoint = context.repository.checkpoints.attach_state(
            checkpoint_id, part, commit, digest, lambda path: states.can_read(path, notebook_id)
        )
        states.mark_recorded(notebook_id, checkpoint_id)
    status = HTTPStatus.CREATED if committed else HTTPStatus.OK
    return Response(checkpoint.to_json(), status, {"ETag": f'"{digest}"'})


def _open_state(
    context: RequestContext, notebook_id: str, checkpoint_id: str, part: Part
) -> _OpenState:
    checkpoint = context.get_checkpoint(notebook_id, checkpoint_id)
    path = checkpoint.model_state_path if part == "model" else checkpoint.optimizer_state_path
    if not path:
        raise NotFound(f"{part} state of checkpoint", checkpoint_id)
    try:
        file = context.server.states.open(path, notebook_id)
    except InvalidData as error:
        raise Conflict(
            f"the {part} state of checkpoint {checkpoint_id} is not served: its path "
            f"{path[:_MAX_PATH]!r} {error.reason}. Move the file into a folder of "
            "AxonNotebooks.extra_states_roots and record the new path"
        ) from error
    recorded = (checkpoint.sizes or {}).get(part)
    size = os.fstat(file.fileno()).st_size
    if recorded is not None and recorded != size:
        file.close()
        raise StateCorrupt(
            f"the {part} state of checkpoint {checkpoint_id} has {size} bytes instead of the "
            f"{recorded} that were stored; restore the file from a backup"
        )
    name = os.path.basename(path).encode(errors="replace").decode()
    return _OpenState(file, name, size, (checkpoint.digests or {}).get(part))
