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
from ..records import NewNotebook, NotebookStatus, NotebookSummary, TrainingNotebook, UpdateNotebook
from .base import AxonHandler
from .context import RequestContext
from .file_edits import create_with_file, edit_cells
from .paths import validate_path
from .queries import Query
from .responses import NO_CONTENT, Response, list_response

_NAME: Final = "jupyter-axon-notebooks"
_SPECIFICATION: Final = "openapi.yaml"
_DOCUMENTATION: Final = "https://jupyter-axon-notebooks.readthedocs.io"
_SOURCE: Final = "https://github.com/jupyter-axon/jupyter-axon-notebooks"
#: Fields that the server sets, whatever a body says.
_SERVER_FIELDS: Final = ("id", "origin", "path", "user_id")


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


class SpecificationHandler(AxonHandler):
    """The OpenAPI specification."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return ``openapi.yaml``."""
        text = await self.run(_read_specification)
        self.finish(text, set_content_type="application/yaml")


@cache
def _read_specification() -> bytes:
    return resources.files(__package__).joinpath(_SPECIFICATION).read_bytes()


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
        has_outputs = _has_outputs(self.context.query)
        await self.respond_cached(notebook_id, _has_outputs, _get, large=has_outputs)

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str) -> None:
        """Change fields of the record; cells of a bound record are changed in its file too."""
        context = self.context
        updates = await self.run(
            lambda: UpdateNotebook.from_json(context.parse_body()), is_write=False
        )
        if updates.cells is None:
            work = partial(_update_bound, context, notebook_id, updates)
            updated = await self.run(work, drain=True)
        else:
            cells = updates.cells
            updated = await edit_cells(
                self,
                notebook_id,
                partial(_update, context, notebook_id, updates),
                lambda _: cells,
                replace(updates, cells=None),
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
    query, repository = context.query, context.repository
    page = query.page()
    path = query.text("path")
    owner = None if context.is_admin else context.user_id
    filters: dict[str, Any] = {
        "status": query.choice("status", NotebookStatus),
        "tag": query.text("tag"),
        "text": query.text("q"),
    }
    if path is not None:
        filters["path"] = context.paths.to_stored_path(validate_path(path, "path"))
        filters["origin"] = context.server.sync.origin  # other machines have equal paths

    def find() -> list[NotebookSummary]:
        if owner is None:
            return repository.list_all(*page, **filters)
        return repository.list_by_user(owner, *page, **filters)

    found = find()
    if context.refresh_stale(found):
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


def _has_outputs(query: Query) -> bool:
    return query.flag("outputs", default=True)


def _get(context: RequestContext, notebook_id: str, has_outputs: bool) -> Response:
    notebook = context.get_notebook(notebook_id, outputs=has_outputs)
    response = notebook_response(context, notebook)
    if not has_outputs:
        for cell in response.body["cells"]:
            del cell["outputs"]  # an empty list would mean that there are none
    return response


def _update(context: RequestContext, notebook_id: str, updates: UpdateNotebook) -> TrainingNotebook:
    context.check_access(notebook_id)
    return context.repository.update(
        notebook_id, updates, expected_version=context.expected_version()
    )


def _update_bound(
    context: RequestContext, notebook_id: str, updates: UpdateNotebook
) -> TrainingNotebook:
    context.get_summary(notebook_id)  # If-Match may name the version that the file has now
    return _update(context, notebook_id, updates)


def _delete(context: RequestContext, notebook_id: str) -> Response:
    context.check_access(notebook_id)
    context.repository.delete(notebook_id)
    return NO_CONTENT
