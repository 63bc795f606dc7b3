"""Import and export of notebook files, and updating a record from its file."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import Conflict, InvalidData, NotFound, Unreadable
from ..mapping import (
    export_notebook,
    map_notebook,
    notebook_file_name,
    notebook_text,
    read_for_import,
)
from ..records import NewNotebook, NotebookHeader, NotebookVersion, TrainingNotebook
from .base import AxonHandler
from .context import RequestContext
from .notebooks import notebook_response
from .paths import is_hidden, validate_path
from .request_bodies import required_field
from .responses import Response

_NOTEBOOK: Final = "ipynb"
_SCRIPT: Final = "py"
_MEDIA_TYPES: Final = {_NOTEBOOK: "application/x-ipynb+json", _SCRIPT: "text/x-python"}


class ImportHandler(AxonHandler):
    """Records from the text of a notebook file."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create a record; what is invalid in the notebook is repaired and noted in the record."""
        await self.respond(_import)


class SyncHandler(AxonHandler):
    """Records from notebook files."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create or update the record of a file."""
        await self.check_contents("read")
        context, manager = self.context, self.contents
        path = await self.run(
            lambda: validate_path(required_field(context.parse_body(), "path")), is_write=False
        )
        is_refused = not manager.allow_hidden and await is_hidden(manager, path)
        if is_refused or await ensure_async(manager.dir_exists(path)):
            raise NotFound("file", path)
        await self.respond(_sync, path)


class ExportHandler(AxonHandler):
    """Records as notebook files, and the code that led to checkpoints as scripts."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Return the file's text in JSON, or with ``download=1`` the file."""
        context = self.context
        if not await self.run(lambda: context.query.flag("download", default=False)):
            await self.respond_large(_export, notebook_id)
            return
        exported = (await self.run_large(partial(_export, context, notebook_id))).body
        self.set_attachment_header(exported["filename"])
        # A script may quote half surrogate pairs.
        data = exported["content"].encode("utf-8", "backslashreplace")
        self.finish(data, set_content_type=_MEDIA_TYPES[exported["format"]])


def _import(context: RequestContext) -> Response:
    body = context.parse_body()
    if body.get("format", _NOTEBOOK) != _NOTEBOOK:
        raise InvalidData("$.format", f"expected {_NOTEBOOK!r}")
    content = required_field(body, "content")
    name = body.get("name") or "Untitled"
    for field, value in (("content", content), ("name", name)):
        if not isinstance(value, str):
            raise InvalidData(f"$.{field}", "expected str")
    try:
        mapped = map_notebook(read_for_import(content))
    except InvalidData as error:
        raise InvalidData("$.content", f"not a valid notebook: {error}") from None
    new = NewNotebook(
        user_id=context.user_id,
        name=name,
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
    )
    return notebook_response(context, context.repository.create(new), HTTPStatus.CREATED)


def _sync(context: RequestContext, path: str) -> Response:
    stored_path = context.paths.to_stored_path(path)
    bound = context.repository.find_by_path(context.server.sync.origin, stored_path)
    if bound is not None:
        context.check_owner(bound)
    try:
        # A second time if the record was deleted at once.
        synced = _sync_file(context, path) or _sync_file(context, path)
    except NotFound as error:
        if error.kind != "file":
            raise
        raise NotFound("file", path) from None
    except Unreadable as error:
        # The reason has the path on this machine, which is not for clients.
        reason = error.reason.rpartition(" cannot be read: ")[2]
        raise InvalidData("$.path", f"{path} cannot be read: {reason}") from None
    except InvalidData as error:
        raise InvalidData("$.path", f"the file is not a notebook: {error}") from None
    if synced is None:
        raise Conflict(f"the record of {path} was deleted while it was created; try again")
    context.check_owner(synced)
    return notebook_response(context, synced)


def _sync_file(context: RequestContext, path: str) -> TrainingNotebook | None:
    summary = context.server.sync.sync_file(context.paths.to_os_path(path), context.user_id)
    return context.repository.find_by_id(summary.id)


def _export(context: RequestContext, notebook_id: str) -> Response:
    format = context.query.text("format") or _NOTEBOOK
    if format not in _MEDIA_TYPES:
        raise InvalidData("format", f"expected {_NOTEBOOK} or {_SCRIPT}, got {format[:80]!r}")
    checkpoint_id = context.query.text("checkpoint")
    header: NotebookHeader
    exported: TrainingNotebook | NotebookVersion
    if checkpoint_id is None:
        exported = header = context.get_notebook(notebook_id)
        if format == _SCRIPT:
            raise InvalidData("format", f"{_SCRIPT} requires the argument `checkpoint`")
    else:
        header = context.check_access(notebook_id)
        context.get_checkpoint(notebook_id, checkpoint_id)
        if format == _SCRIPT:
            return _export_script(context, header.name, checkpoint_id)
        exported = context.repository.provenance.get_notebook(checkpoint_id)
    text = notebook_text(export_notebook(exported.cells, exported.metadata))
    filename = notebook_file_name(header.name)
    return Response({"content": text, "format": _NOTEBOOK, "filename": filename})


def _export_script(context: RequestContext, name: str, checkpoint_id: str) -> Response:
    script = context.repository.provenance.get_script(checkpoint_id)
    if script is None:
        raise NotFound("code of checkpoint", checkpoint_id)
    filename = f"{notebook_file_name(name).removesuffix('.ipynb')}.py"
    return Response({"content": script, "format": _SCRIPT, "filename": filename})
