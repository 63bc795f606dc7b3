"""Upload and download of state files, streamed so that they are never whole in memory."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from http import HTTPStatus
from typing import BinaryIO, Final, NamedTuple, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.http1connection import HTTP1Connection
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


@web.stream_request_body
class StateHandler(AxonHandler):
    """A state file of a checkpoint: of the model or of the optimizer.

    Each chunk of an upload is written in a worker thread. After an error the rest is received and
    discarded, and the error is raised when the verb runs.
    """

    def initialize(self) -> None:
        """Start without an upload."""
        self._writer: StateWriter | None = None
        self._error: BaseException | None = None
        self._lock = asyncio.Lock()  # the connection may close during a write

    async def prepare(self) -> None:  # type: ignore[override]
        """Check authorization, checkpoint and free space before an upload is received."""
        await super().prepare()
        if self.request.method != "PUT":
            return
        # The decorators of the verb would check only after the upload.
        is_allowed = self.current_user and await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "write", self.auth_resource)
        )
        if not is_allowed:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN, f"not authorized to write {self.auth_resource}"
            )
        notebook_id, checkpoint_id, part = self.path_args
        size = int(self.request.headers.get("Content-Length", 0))
        self._writer = await self.run(
            partial(_open_writer, self.context, notebook_id, checkpoint_id, cast(Part, part), size)
        )
        cast(HTTP1Connection, self.request.connection).set_max_body_size(_NO_LIMIT)

    async def data_received(self, chunk: bytes) -> None:
        """Write a chunk of an upload."""
        async with self._lock:
            if self._writer is not None and self._error is None:
                try:
                    await self.run(partial(self._writer.write, chunk))
                except (AxonError, OSError, RuntimeError) as error:
                    self._error = error

    def on_connection_close(self) -> None:
        """Remove an incomplete upload."""
        super().on_connection_close()
        self._aborting = asyncio.ensure_future(self._abort())

    def on_finish(self) -> None:
        """Remove a refused upload."""
        super().on_finish()
        self._aborting = asyncio.ensure_future(self._abort())

    async def _abort(self) -> None:
        async with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                await self.run(writer.abort)

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, checkpoint_id: str, part: Part) -> None:
        """Send the state."""
        state = await self.run(partial(_open_state, self.context, notebook_id, checkpoint_id, part))
        with state.file:
            self.set_header("Cache-Control", "private, no-cache")
            if state.digest is not None:
                self.set_header("ETag", f'"{state.digest}"')
            if self.check_etag_header():
                self.set_status(HTTPStatus.NOT_MODIFIED)
            else:
                self.set_attachment_header(f"{checkpoint_id}-{state.name}")
                self.set_header("Content-Length", str(state.size))
                self.set_header("Content-Type", _MEDIA_TYPE)
                if self.request.method != "HEAD":
                    await self._stream(state)
        self.finish(set_content_type=_MEDIA_TYPE)

    head = get

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, checkpoint_id: str, part: Part) -> None:
        """Attach the uploaded state; 201, or 200 if the checkpoint has this state already."""
        async with self._lock:
            if self._error is not None:
                raise self._error
            assert self._writer is not None  # opened in prepare
            attach = partial(_attach, self.context, notebook_id, checkpoint_id, part, self._writer)
            response = await self.run(attach)
        await self.send(response)

    async def _stream(self, state: _OpenState) -> None:
        left = state.size
        try:
            while left and (chunk := await self.run(partial(state.file.read, _CHUNK_SIZE))):
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


def _open_writer(
    context: RequestContext, notebook_id: str, checkpoint_id: str, part: Part, size: int
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
