"""The index and the notebook records: list, create, read, change, delete."""

from __future__ import annotations

from functools import cache, partial
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import url_path_join
from msgspec.structs import replace
from tornado import web

from .._version import __version__
from ..errors import Forbidden, InvalidData
from ..mapping import notebook_name
from ..records import (
    NewNotebook,
    NotebookStatus,
    NotebookSummary,
    Record,
    TrainingNotebook,
    UpdateNotebook,
)
from .base import AxonHandler
from .context import RequestContext
from .file_edits import create_with_file, edit_cells
from .paths import validate_path
from .requests import Page
from .responses import NO_CONTENT, Response, list_response, polled

_NAME: Final = "jupyter-axon-notebooks"
_SPECIFICATION: Final = "openapi.yaml"
_DOCUMENTATION: Final = "https://jupyter-axon-notebooks.readthedocs.io"
_SOURCE: Final = "https://github.com/jupyter-axon/jupyter-axon-notebooks"
#: Fields that the server sets, whatever a body says.
_SERVER_FIELDS: Final = ("id", "origin", "path", "user_id")


class _NotebookQuery(Page):
    status: NotebookStatus | None = None
    tag: str | None = None
    q: str | None = None
    path: str | None = None


class _OutputsQuery(Record):
    outputs: bool = True


class IndexHandler(AxonHandler):
    """The index of the REST API."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return name, version and links."""
        base = url_path_join(self.base_url, "axon")
        index = {
            "name": _NAME,
            "version": __version__,
            "openapi": url_path_join(base, _SPECIFICATION),
            "notebooks": url_path_join(base, "notebooks"),
            "documentation": _DOCUMENTATION,
            "source": _SOURCE,
        }
        await self.send_response(Response(index))


@cache
def _read_specification() -> bytes:
    return resources.files(__package__).joinpath(_SPECIFICATION).read_bytes()


def get_specification(_context: RequestContext) -> Response:
    """Return ``openapi.yaml``."""
    return Response(_read_specification(), media_type="application/yaml")


class NotebooksHandler(AxonHandler):
    """All records that the user may see."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """List records, newest ``updated_at`` first."""
        await self.respond(_list)

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create a record, and its file if the body has a ``path``."""
        context = self.context
        new, path = await self.run(partial(_parse_new, context), is_write=False)
        if path is None:
            created = await self.run(partial(context.repository.create, new))
        else:
            created = await create_with_file(self, path, new)
        await self.send_response(notebook_response(context, created, HTTPStatus.CREATED))


class NotebookHandler(AxonHandler):
    """One record."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Return the record, with or without the outputs of its cells."""
        has_outputs = self.context.query(_OutputsQuery).outputs
        respond = self.respond_large if has_outputs else self.respond
        await respond(polled(_OutputsQuery, _get), notebook_id)

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str) -> None:
        """Change fields of the record; cells of a bound record are changed in its file too."""
        context = self.context
        updates = await self.run(
            lambda: UpdateNotebook.from_json(context.parse_body()), is_write=False
        )
        if updates.cells is None:
            await self.respond(_update, notebook_id, updates)
            return
        cells = updates.cells

        def update(version: str | None) -> TrainingNotebook:
            return context.repository.update(notebook_id, updates, expected_version=version)

        other_updates = replace(updates, cells=None)
        updated = await edit_cells(
            self, notebook_id, lambda _: cells, other_updates, edit_record=update
        )
        await self.send_response(notebook_response(context, updated))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str) -> None:
        """Delete the record with its checkpoints; its file stays."""
        await self.respond(_delete, notebook_id)


def notebook_response(
    context: RequestContext, notebook: TrainingNotebook, status: int = HTTPStatus.OK
) -> Response:
    """Return a record; its tag is its version, for If-Match."""
    return Response(context.to_json(notebook), status, {"ETag": f'"{notebook.version_id}"'})


def _list(context: RequestContext) -> Response:
    query, repository = context.query(_NotebookQuery), context.repository
    owner = None if context.is_admin else context.user_id
    filters: dict[str, Any] = {"status": query.status, "tag": query.tag, "text": query.q}
    if query.path is not None:
        filters["path"] = context.paths.to_stored_path(validate_path(query.path, "path"))
        filters["origin"] = context.server.sync.origin  # other machines have equal paths

    def find() -> list[NotebookSummary]:
        if owner is None:
            return repository.list_all(query.limit, query.offset, **filters)
        return repository.list_by_user(owner, query.limit, query.offset, **filters)

    found = find()
    ids = [record.id for record in found if record.path is not None]
    if context.refresh(repository.bindings.get_many(ids)):
        found = find()
    response = list_response([], repository.count(owner, **filters))
    return response._replace(body=[context.to_json(summary) for summary in found])


def _parse_new(context: RequestContext) -> tuple[NewNotebook, str | None]:
    """Return the record to create, and the path of the file to create with it."""
    body = context.parse_body()
    path = None if body.get("path") is None else validate_path(body["path"])
    owner = body.get("user_id") or context.user_id
    if not isinstance(owner, str):
        raise InvalidData("$.user_id", "expected str")
    if owner != context.user_id:
        if not context.is_admin:
            raise Forbidden("only an administrator may create a record for another user")
        if path is not None:
            raise InvalidData(
                "$.user_id", "a record with a file belongs to the user who creates it"
            )
    fields = {
        name: value
        for name, value in body.items()
        if name not in _SERVER_FIELDS and value is not None
    }
    if path is not None:
        fields.setdefault("name", notebook_name(path))
    return NewNotebook.from_json({**fields, "user_id": owner}), path


def _get(context: RequestContext, notebook_id: str) -> Response:
    has_outputs = context.query(_OutputsQuery).outputs
    notebook = context.get_notebook(notebook_id, outputs=has_outputs)
    response = notebook_response(context, notebook)
    if not has_outputs:
        for cell in response.body["cells"]:
            del cell["outputs"]  # an empty list would mean that there are none
    return response


def _update(context: RequestContext, notebook_id: str, updates: UpdateNotebook) -> Response:
    context.check_current(notebook_id)  # If-Match may name the version that the file has now
    updated = context.repository.update(
        notebook_id, updates, expected_version=context.expected_version()
    )
    return notebook_response(context, updated)


def _delete(context: RequestContext, notebook_id: str) -> Response:
    context.check_access(notebook_id)
    context.repository.delete(notebook_id)
    return NO_CONTENT
