"""Match executions with the cells of a notebook.

Front ends name an executed cell by its id in the file (JupyterLab), by an id of their own (Visual
Studio Code), or not at all (nbclient, papermill). Ids are therefore matched first, and sources
afterwards.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from ..provenance import ExecutedCell
from ..records import CellType, NotebookCell


def normalize_source(source: str) -> str:
    """Return ``source`` without blank lines and without white space at the ends of lines."""
    return "\n".join(stripped for line in source.splitlines() if (stripped := line.rstrip()))


def code_sources(cells: Sequence[NotebookCell]) -> dict[str, str]:
    """Return the normalized sources of non-empty code cells, by cell id, in notebook order."""
    found = {
        cell.id: normalize_source(cell.source) for cell in cells if cell.cell_type is CellType.CODE
    }
    return {cell_id: source for cell_id, source in found.items() if source}


def match_cells(
    executed: Sequence[ExecutedCell], *notebooks: Mapping[str, str]
) -> list[str | None]:
    """Return for each execution the id of its cell, or None where no notebook has the cell.

    Parameters
    ----------
    executed : sequence of ExecutedCell
        In the order of execution.
    *notebooks : mapping
        The notebook at different times, each as :func:`code_sources` returns it. Earlier ones take
        precedence.
    """
    matches: list[str | None] = [None] * len(executed)
    known = {cell_id for notebook in notebooks for cell_id in notebook}
    for index, cell in enumerate(executed):
        if cell.cell_id in known:
            matches[index] = cell.cell_id
        elif cell.execution_count is None and len(known) == 1:
            matches[index] = next(iter(known))  # a script, the only cell of its record
    for notebook in notebooks:
        _match_by_source(executed, notebook, matches)
    return matches


def _match_by_source(
    executed: Sequence[ExecutedCell], notebook: Mapping[str, str], matches: list[str | None]
) -> None:
    """Match the remaining executions by source.

    Cells with equal sources are assigned in notebook order. Executions with the same front-end id
    are executions of the same cell.
    """
    cells = list(notebook)
    positions = {cell_id: position for position, cell_id in enumerate(cells)}
    by_source: dict[str, list[int]] = {}
    for position, source in enumerate(notebook.values()):
        by_source.setdefault(source, []).append(position)
    by_front_end_id = {
        cell.cell_id: match
        for cell, match in zip(executed, matches, strict=True)
        if cell.cell_id and match
    }
    assigned = {match for match in matches if match is not None}
    free = {
        source: [position for position in equal if cells[position] not in assigned]
        for source, equal in by_source.items()
    }
    last = -1
    for index, cell in enumerate(executed):
        match = matches[index] or by_front_end_id.get(cell.cell_id or "")
        if match is None:
            source = normalize_source(cell.source)
            candidates = free.get(source) or (
                [] if cell.cell_id is not None else by_source.get(source, [])
            )
            if candidates:
                below = bisect_right(candidates, last)
                match = cells[candidates[below if below < len(candidates) else 0]]
        if match is not None:
            matches[index] = match
            if match in positions and match not in assigned:
                remaining = free[notebook[match]]
                del remaining[bisect_left(remaining, positions[match])]
            assigned.add(match)
            if cell.cell_id is not None:
                by_front_end_id[cell.cell_id] = match
            last = positions.get(match, last)
    # Executions before the one by which their front-end id was matched.
    for index, cell in enumerate(executed):
        matches[index] = matches[index] or by_front_end_id.get(cell.cell_id or "")
