"""Which cell of a notebook each execution was of. Pure.

A front end may name the cell by the id that it has in the file (JupyterLab), by an id of its own (Visual Studio Code),
or not at all (nbclient, papermill). So ids go first, and equal sources come after.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from ..provenance import ExecutedCell
from ..records import CellType, NotebookCell


def plain_source(source: str) -> str:
    """``source`` as far as it matters: without blank lines, and white space at the ends of lines."""
    return "\n".join(stripped for line in source.splitlines() if (stripped := line.rstrip()))


def code_of(cells: Sequence[NotebookCell]) -> dict[str, str]:
    """The plain sources of the code cells that hold any, by cell id, in their order."""
    found = {
        cell.id: plain_source(cell.source) for cell in cells if cell.cell_type is CellType.CODE
    }
    return {cell_id: source for cell_id, source in found.items() if source}


def homes(executed: Sequence[ExecutedCell], *notebooks: Mapping[str, str]) -> list[str | None]:
    """The cell that each execution was of, by its id in the notebook; None where it is in none.

    Parameters
    ----------
    executed : sequence of ExecutedCell
        In order.
    *notebooks : mapping
        The notebook at different times, each as :func:`code_of` gives it; the first is asked first.
    """
    found: list[str | None] = [None] * len(executed)
    known = {cell_id for notebook in notebooks for cell_id in notebook}
    for index, cell in enumerate(executed):
        if cell.cell_id in known:
            found[index] = cell.cell_id
        elif (
            cell.execution_count is None and len(known) == 1
        ):  # a script is the only cell of its record
            [found[index]] = known
    for notebook in notebooks:
        _find_by_source(executed, notebook, found)
    return found


def _find_by_source(
    executed: Sequence[ExecutedCell], notebook: Mapping[str, str], found: list[str | None]
) -> None:
    """Find the executions whose source stands in the notebook; of equal cells one after the other is taken.

    What a front end gives one id is one cell, and not another one that has been found already.
    """
    order = {cell_id: place for place, cell_id in enumerate(notebook)}
    cells = list(notebook)
    standing: dict[str, list[int]] = {}
    for place, source in enumerate(notebook.values()):
        standing.setdefault(source, []).append(place)
    named = {
        cell.cell_id: at for cell, at in zip(executed, found, strict=True) if cell.cell_id and at
    }
    taken = {at for at in found if at is not None}
    free = {
        source: [one for one in places if cells[one] not in taken]
        for source, places in standing.items()
    }
    last = -1
    for index, cell in enumerate(executed):
        at = found[index] or named.get(cell.cell_id or "")
        if at is None:
            source = plain_source(cell.source)
            equal = free.get(source) or (
                [] if cell.cell_id is not None else standing.get(source, [])
            )
            if equal:
                below = bisect_right(equal, last)
                at = cells[equal[below if below < len(equal) else 0]]
        if at is not None:
            found[index] = at
            if at in order and at not in taken:
                places = free[notebook[at]]
                del places[bisect_left(places, order[at])]
            taken.add(at)
            if cell.cell_id is not None:
                named[cell.cell_id] = at
            last = order.get(at, last)
    for index, cell in enumerate(executed):  # those that were executed before their cell was found
        found[index] = found[index] or named.get(cell.cell_id or "")
