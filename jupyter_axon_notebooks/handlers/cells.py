"""Cells of a notebook."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from jupyter_server.auth.decorator import authorized
from tornado import web

from ..errors import Conflict, InvalidData, NotFound
from ..mapping import is_valid_id
from ..records import CellType, NotebookCell, Record, TrainingNotebook
from .base import AxonHandler
from .context import RequestContext
from .file_edits import edit_cells
from .responses import NO_CONTENT, Response

_CHANGEABLE: Final = (
    "cell_type",
    "source",
    "outputs",
    "status",
    "execution_count",
    "metadata",
    "attachments",
    "nbformat_type",
)


class CellsHandler(AxonHandler):
    """The cells of a notebook."""

    @web.authenticated
    @authorized
    async def post(self, notebook_id: str) -> None:
        """Add a cell at ``position`` or at the end."""
        cell, position = await self.run(partial(_parse_new, self.context), is_write=False)

        def insert(cells: list[NotebookCell]) -> list[NotebookCell]:
            if any(other.id == cell.id for other in cells):
                raise Conflict(f"notebook {notebook_id} has a cell {cell.id} already")
            index = len(cells) if position is None else position
            return [*cells[:index], cell, *cells[index:]]

        def add(version: str | None) -> TrainingNotebook:
            repository = self.context.repository
            return repository.add_cell(notebook_id, cell, position, expected_version=version)

        notebook = await edit_cells(self, notebook_id, insert, edit_record=add)
        await self.send_response(_cell_response(notebook, cell.id, HTTPStatus.CREATED))


class CellHandler(AxonHandler):
    """One cell."""

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, cell_id: str) -> None:
        """Change fields of the cell."""
        change = await self.run(partial(_parse_change, self.context), is_write=False)

        def replace(cells: list[NotebookCell]) -> list[NotebookCell]:
            index = _find(cell_id, cells)
            return [*cells[:index], change(cells[index]), *cells[index + 1 :]]

        def change_stored(version: str | None) -> TrainingNotebook:
            repository = self.context.repository
            return repository.change_cell(notebook_id, cell_id, change, expected_version=version)

        notebook = await edit_cells(self, notebook_id, replace, edit_record=change_stored)
        await self.send_response(_cell_response(notebook, cell_id))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str, cell_id: str) -> None:
        """Delete the cell."""

        def remove(cells: list[NotebookCell]) -> list[NotebookCell]:
            index = _find(cell_id, cells)
            return [*cells[:index], *cells[index + 1 :]]

        def delete(version: str | None) -> TrainingNotebook:
            repository = self.context.repository
            return repository.delete_cell(notebook_id, cell_id, expected_version=version)

        await edit_cells(self, notebook_id, remove, edit_record=delete)
        await self.send_response(NO_CONTENT)


class _Position(Record):
    position: Annotated[int, msgspec.Meta(ge=0)] | None = None


def _parse_new(context: RequestContext) -> tuple[NotebookCell, int | None]:
    fields = {name: value for name, value in context.parse_body().items() if value is not None}
    cell = NotebookCell.from_json(fields)
    if not is_valid_id(cell.id):
        raise InvalidData("$.id", "expected 1 to 64 letters, digits, `-` and `_`")
    return cell, _Position.from_json(fields).position


def _parse_change(context: RequestContext) -> Callable[[NotebookCell], NotebookCell]:
    """Return the change in a body; null clears an optional field."""
    body = context.parse_body()
    fields = {name: body[name] for name in _CHANGEABLE if name in body}
    parsed = NotebookCell.from_json({"source": "", **fields})
    values: dict[str, Any] = {name: getattr(parsed, name) for name in fields}

    def change(cell: NotebookCell) -> NotebookCell:
        changed = msgspec.structs.replace(cell, **values)
        if changed.cell_type is CellType.CODE:
            changed.nbformat_type = None  # it describes a cell that is not code
        return changed

    return change


def _find(cell_id: str, cells: list[NotebookCell]) -> int:
    for index, cell in enumerate(cells):
        if cell.id == cell_id:
            return index
    raise NotFound("cell", cell_id)


def _cell_response(
    notebook: TrainingNotebook, cell_id: str, status: int = HTTPStatus.OK
) -> Response:
    """Return a cell; its tag is the notebook's version, for If-Match."""
    for cell in notebook.cells:
        if cell.id == cell_id:
            return Response(cell.to_json(), status, {"ETag": f'"{notebook.version_id}"'})
    raise Conflict(
        f"the file was saved without cell {cell_id} just after this change; load it and try again"
    )
