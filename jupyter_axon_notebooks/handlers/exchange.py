"""Import and export of notebook files, and updating a record from its file."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Literal

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
from ..records import NewNotebook, NotebookVersion, Record, TrainingNotebook
from .base import AxonHandler
from .context import RequestContext
from .history import find_version
from .notebooks import notebook_response
from .paths import is_hidden, validate_path
from .requests import required_field
from .responses import Response, attachment

_MEDIA_TYPES: Final = {"ipynb": "application/x-ipynb+json", "py": "text/x-python"}


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


class _Import(Record):
    content: str
    format: Literal["ipynb"] = "ipynb"
    name: str | None = None


class _ExportQuery(Record):
    format: Literal["ipynb", "py"] = "ipynb"
    checkpoint: str | None = None
    version: str | None = None
    download: bool = False


def import_notebook(context: RequestContext) -> Response:
    """Create a record; what is invalid in the notebook is repaired in the record."""
    body = _Import.from_json(context.parse_body())
    try:
        mapped = map_notebook(read_for_import(body.content))
    except InvalidData as error:
        raise InvalidData("$.content", f"not a valid notebook: {error}") from None
    new = NewNotebook(
        user_id=context.user_id,
        name=body.name or "Untitled",
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
    )
    return notebook_response(context, context.repository.create(new), HTTPStatus.CREATED)


def _sync(context: RequestContext, path: str) -> Response:
    bindings, origin = context.repository.bindings, context.server.sync.origin
    if (bound := bindings.find_by_path(origin, context.paths.to_stored_path(path))) is not None:
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


def export(context: RequestContext, notebook_id: str) -> Response:
    """Return the file's text in JSON, or with ``download=1`` the file."""
    context.check_current(notebook_id)
    query, repository = context.query(_ExportQuery), context.repository
    if query.checkpoint is not None and query.version is not None:
        raise InvalidData("version", "cannot be used together with the argument `checkpoint`")
    if query.checkpoint is not None:
        context.get_checkpoint(notebook_id, query.checkpoint)
    header = repository.find_summary(notebook_id)
    if header is None:
        raise NotFound("notebook", notebook_id)
    filename = notebook_file_name(header.name)
    if query.format == "py":
        if query.checkpoint is None:
            raise InvalidData("format", "py requires the argument `checkpoint`")
        script = repository.provenance.get_script(query.checkpoint)
        if script is None:
            raise NotFound("code of checkpoint", query.checkpoint)
        text, filename = script, f"{filename.removesuffix('.ipynb')}.py"
    else:
        exported: TrainingNotebook | NotebookVersion
        if query.checkpoint is not None:
            exported = repository.provenance.get_notebook(query.checkpoint)
        elif query.version is not None:
            exported = find_version(context, notebook_id, query.version)
        else:
            exported = context.get_notebook(notebook_id)
        text = notebook_text(export_notebook(exported.cells, exported.metadata))
    if not query.download:
        return Response({"content": text, "format": query.format, "filename": filename})
    return Response(
        text.encode("utf-8", "backslashreplace"),  # a script may quote half surrogate pairs
        headers={"Content-Disposition": attachment(filename)},
        media_type=_MEDIA_TYPES[query.format],
    )
