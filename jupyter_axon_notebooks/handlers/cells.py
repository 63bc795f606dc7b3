"""Cells of a notebook, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from jupyter_server.auth.decorator import authorized
from tornado import web

from ..errors import Conflict, InvalidData, NotFound
from ..mapping.identity import is_valid_id
from ..records import CellType, NotebookCell, Record, TrainingNotebook
from .call import Call
from .handler import AxonHandler
from .responses import NO_CONTENT, Answer
from .writethrough import write_through

#: What a PUT changes.
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
        """Add one, at ``position`` or at the end."""
        call = self.call
        cell, position = await self.run(partial(_decode_new, call), writes=False)
        notebook = await write_through(
            self,
            notebook_id,
            partial(_add, call, notebook_id, cell, position),
            partial(_with_cell, notebook_id, cell, position),
        )
        await self.answer(_cell_answer(notebook, cell.id, HTTPStatus.CREATED))


class CellHandler(AxonHandler):
    """One cell."""

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, cell_id: str) -> None:
        """Change the given fields."""
        call = self.call
        change = await self.run(partial(_decode_change, call), writes=False)
        notebook = await write_through(
            self,
            notebook_id,
            partial(_change, call, notebook_id, cell_id, change),
            partial(_with_change, cell_id, change),
        )
        await self.answer(_cell_answer(notebook, cell_id))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str, cell_id: str) -> None:
        """Remove it."""
        delete = partial(_delete, self.call, notebook_id, cell_id)
        await write_through(self, notebook_id, delete, partial(_without_cell, cell_id))
        await self.answer(NO_CONTENT)


class _Place(Record):
    position: Annotated[int, msgspec.Meta(ge=0)] | None = None


def _decode_new(call: Call) -> tuple[NotebookCell, int | None]:
    given = {name: value for name, value in call.body().items() if value is not None}
    cell = NotebookCell.from_json(given)
    if not is_valid_id(cell.id):
        raise InvalidData("$.id", "expected 1 to 64 letters, digits, `-` and `_`")
    return cell, _Place.from_json(given).position


def _decode_change(call: Call) -> Callable[[NotebookCell], NotebookCell]:
    """What a body asks to be changed in a cell. A null empties what a cell can be without."""
    body = call.body()
    given = {name: body[name] for name in _CHANGEABLE if name in body}
    read = NotebookCell.from_json({"source": "", **given})
    values: dict[str, Any] = {name: getattr(read, name) for name in given}

    def change(cell: NotebookCell) -> NotebookCell:
        changed = msgspec.structs.replace(cell, **values)
        if changed.cell_type is CellType.CODE:
            changed.nbformat_type = None  # what it says is of a cell that was not code
        return changed

    return change


def _add(
    call: Call, notebook_id: str, cell: NotebookCell, position: int | None
) -> TrainingNotebook:
    call.check(notebook_id)
    return call.repository.add_cell(
        notebook_id, cell, position, expected_version=call.expected_version()
    )


def _change(
    call: Call, notebook_id: str, cell_id: str, change: Callable[[NotebookCell], NotebookCell]
) -> TrainingNotebook:
    call.check(notebook_id)
    return call.repository.change_cell(
        notebook_id, cell_id, change, expected_version=call.expected_version()
    )


def _delete(call: Call, notebook_id: str, cell_id: str) -> TrainingNotebook:
    call.check(notebook_id)
    return call.repository.delete_cell(
        notebook_id, cell_id, expected_version=call.expected_version()
    )


# The same in memory, for a notebook whose file is to be saved with it.


def _with_cell(
    notebook_id: str, cell: NotebookCell, position: int | None, cells: list[NotebookCell]
) -> list[NotebookCell]:
    if any(other.id == cell.id for other in cells):
        raise Conflict(f"notebook {notebook_id} has a cell {cell.id} already")
    place = len(cells) if position is None else position
    return [*cells[:place], cell, *cells[place:]]


def _with_change(
    cell_id: str, change: Callable[[NotebookCell], NotebookCell], cells: list[NotebookCell]
) -> list[NotebookCell]:
    place = _place_of(cell_id, cells)
    changed = msgspec.structs.replace(change(cells[place]), id=cell_id)
    return [*cells[:place], changed, *cells[place + 1 :]]


def _without_cell(cell_id: str, cells: list[NotebookCell]) -> list[NotebookCell]:
    place = _place_of(cell_id, cells)
    return [*cells[:place], *cells[place + 1 :]]


def _place_of(cell_id: str, cells: list[NotebookCell]) -> int:
    for place, cell in enumerate(cells):
        if cell.id == cell_id:
            return place
    raise NotFound("cell", cell_id)


def _cell_answer(notebook: TrainingNotebook, cell_id: str, status: int = HTTPStatus.OK) -> Answer:
    """A cell; the tag is the notebook's version, which If-Match takes."""
    for cell in notebook.cells:
        if cell.id == cell_id:
            return Answer(cell.to_json(), status, {"ETag": f'"{notebook.version_id}"'})
    raise Conflict(
        f"the file was saved by somebody else right after, without cell {cell_id}; try again"
    )
