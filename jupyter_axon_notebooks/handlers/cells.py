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
#: Changes one cell.
Change = Callable[[NotebookCell], NotebookCell]


class CellsHandler(AxonHandler):
    """The cells of a notebook."""

    @web.authenticated
    @authorized
    async def post(self, notebook_id: str) -> None:
        """Add a cell at ``position`` or at the end."""
        context = self.context
        cell, position = await self.run(partial(_parse_new, context), is_write=False)
        notebook = await edit_cells(
            self,
            notebook_id,
            partial(_add, context, notebook_id, cell, position),
            partial(_insert, notebook_id, cell, position),
        )
        await self.send_response(_cell_response(notebook, cell.id, HTTPStatus.CREATED))


class CellHandler(AxonHandler):
    """One cell."""

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, cell_id: str) -> None:
        """Change fields of the cell."""
        context = self.context
        change = await self.run(partial(_parse_change, context), is_write=False)
        notebook = await edit_cells(
            self,
            notebook_id,
            partial(_change, context, notebook_id, cell_id, change),
            partial(_replace, cell_id, change),
        )
        await self.send_response(_cell_response(notebook, cell_id))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str, cell_id: str) -> None:
        """Delete the cell."""
        delete = partial(_delete, self.context, notebook_id, cell_id)
        await edit_cells(self, notebook_id, delete, partial(_remove, cell_id))
        await self.send_response(NO_CONTENT)


class _Position(Record):
    position: Annotated[int, msgspec.Meta(ge=0)] | None = None


def _parse_new(context: RequestContext) -> tuple[NotebookCell, int | None]:
    fields = {name: value for name, value in context.parse_body().items() if value is not None}
    cell = NotebookCell.from_json(fields)
    if not is_valid_id(cell.id):
        raise InvalidData("$.id", "expected 1 to 64 letters, digits, `-` and `_`")
    return cell, _Position.from_json(fields).position


def _parse_change(context: RequestContext) -> Change:
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


def _add(
    context: RequestContext, notebook_id: str, cell: NotebookCell, position: int | None
) -> TrainingNotebook:
    context.check_access(notebook_id)
    return context.repository.add_cell(
        notebook_id, cell, position, expected_version=context.expected_version()
    )


def _change(
    context: RequestContext, notebook_id: str, cell_id: str, change: Change
) -> TrainingNotebook:
    context.check_access(notebook_id)
    return context.repository.change_cell(
        notebook_id, cell_id, change, expected_version=context.expected_version()
    )


def _delete(context: RequestContext, notebook_id: str, cell_id: str) -> TrainingNotebook:
    context.check_access(notebook_id)
    return context.repository.delete_cell(
        notebook_id, cell_id, expected_version=context.expected_version()
    )


# The same edits in memory, for notebooks with a file.


def _insert(
    notebook_id: str, cell: NotebookCell, position: int | None, cells: list[NotebookCell]
) -> list[NotebookCell]:
    if any(other.id == cell.id for other in cells):
        raise Conflict(f"notebook {notebook_id} already has a cell {cell.id}")
    index = len(cells) if position is None else position
    return [*cells[:index], cell, *cells[index:]]


def _replace(cell_id: str, change: Change, cells: list[NotebookCell]) -> list[NotebookCell]:
    index = _find(cell_id, cells)
    changed = msgspec.structs.replace(change(cells[index]), id=cell_id)
    return [*cells[:index], changed, *cells[index + 1 :]]


def _remove(cell_id: str, cells: list[NotebookCell]) -> list[NotebookCell]:
    index = _find(cell_id, cells)
    return [*cells[:index], *cells[index + 1 :]]


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
