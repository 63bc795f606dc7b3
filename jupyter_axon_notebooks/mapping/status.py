"""What a saved notebook says of how its execution went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import CellOutput, CellStatus, CellType, NotebookCell, NotebookStatus


def cell_status(outputs: Iterable[CellOutput], *, executed: bool) -> CellStatus:
    """The status of a code cell with these outputs; ``executed`` is whether it has an execution count.

    Outputs alone do not make a cell executed: a notebook saved while a cell runs holds them without a count.
    """
    if any(output.output_type == "error" for output in outputs):
        return CellStatus.ERROR
    return CellStatus.COMPLETED if executed else CellStatus.IDLE


def notebook_status(cells: Sequence[NotebookCell]) -> NotebookStatus:
    """The status that follows from the cells' own.

    An error makes it failed. It is completed when every code cell with a source is, and a draft otherwise;
    so also when none was ever executed.
    """
    code = [cell for cell in cells if cell.cell_type is CellType.CODE]
    if any(cell.status is CellStatus.ERROR for cell in code):
        return NotebookStatus.FAILED
    unfinished = any(
        cell.status is not CellStatus.COMPLETED and cell.source.strip() for cell in code
    )
    if unfinished or not any(cell.status is CellStatus.COMPLETED for cell in code):
        return NotebookStatus.DRAFT
    return NotebookStatus.COMPLETED
