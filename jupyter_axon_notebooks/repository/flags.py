"""Reasons why running a notebook from top to bottom may not reproduce a checkpoint. Pure.

Flags are derived from the cells that the kernel executed, the notebook as it was saved when the
checkpoint was made, and the notebook as it is now. A notebook that was run once from top to bottom
and saved has no flags. Sources that differ only in blank lines and trailing white space are equal.
Edits that were never saved are unknown, and code that ran after a save is not compared with that
save.

*The training cell* is the last one that was executed, which made the checkpoint. If it had not
been saved yet, its position is unknown and all cells count as above it. *A cell's last execution*
is the last one before the checkpoint.

``drifted``
    The source of an executed cell has changed since its last execution.
``edited``
    A cell above the training cell was executed, and then saved with a source that it had not been
    executed with.
``out_of_order``
    By last executions, a cell ran in another order than it has in the notebook: it is below the
    training cell, or not in the longest sequence of cells above it that ran in order. Of two cells
    that changed places it is the later one. For a cell that is harmless to run again (see
    ``rerun``), the execution that is in order counts.
``rerun``
    A cell was executed more than once, so that effects of earlier executions may remain. A cell
    that only imports, defines and sets up the notebook, with the same source each time, does not
    count. ``%matplotlib`` and ``!pip install`` set up the notebook; ``!python make_data.py``,
    ``%run`` and ``%cd`` do more.
``deleted``
    An executed cell is no longer in the notebook.
``not_run``
    A cell above the training cell was not executed. Cells with only comments do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from ..alignment import longest_increasing
from ..provenance import ExecutedCell, Flag, FlagKind
from ..records import NotebookCell
from .cell_matching import code_sources, match_cells, normalize_source
from .magics import (
    MAX_PARSED,
    command_statement,
    is_harmless,
    is_harmless_cell,
    parse,
    read_cell,
    setup_statement,
)


class SavedCells(NamedTuple):
    """The cells of a saved notebook, and when they were saved if that is known."""

    cells: Sequence[NotebookCell]
    at: datetime | None = None


def find_flags(executed: Sequence[ExecutedCell], then: SavedCells, now: SavedCells) -> list[Flag]:
    """Return the flags of a checkpoint by kind, in the order of the notebook or of execution.

    Parameters
    ----------
    executed : sequence of ExecutedCell
        In order, the training cell last.
    then, now : SavedCells
        The notebook as it was saved when the checkpoint was made, and as it is now.
    """
    if not executed:
        return []
    executions = _Executions(executed, then, now)
    return [
        *executions.drifted(),
        *executions.edited(),
        *executions.out_of_order(),
        *executions.rerun(),
        *executions.deleted(),
        *executions.not_run(),
    ]


class _Executions:
    """The executions by cell, compared with two states of the notebook."""

    def __init__(self, executed: Sequence[ExecutedCell], then: SavedCells, now: SavedCells) -> None:
        self._then, self._now = code_sources(then.cells), code_sources(now.cells)
        self._then_at, self._now_at = then.at, now.at
        self._source_then = {cell.id: cell.source for cell in then.cells}
        self._source_now = {cell.id: cell.source for cell in now.cells}
        self._executions: dict[str, list[ExecutedCell]] = {}
        self._unmatched: dict[str, ExecutedCell] = {}
        found = match_cells(executed, self._then, self._now)
        turns: dict[str, list[int]] = {}
        for turn, (cell, at) in enumerate(zip(executed, found, strict=True)):
            if at is None:
                self._unmatched[cell.cell_id or normalize_source(cell.source)] = cell
            else:
                self._executions.setdefault(at, []).append(cell)
                turns.setdefault(at, []).append(turn)
        turns_that_count = {
            turn: at
            for at, runs in self._executions.items()
            for turn in (turns[at] if _is_idempotent(runs) else turns[at][-1:])
        }
        self._in_turn = [turns_that_count[turn] for turn in sorted(turns_that_count)]
        self._training = found[-1]
        order = list(self._then)
        self._is_placed = self._training in self._then
        self._above = order[: order.index(str(self._training))] if self._is_placed else order

    def drifted(self) -> Iterator[Flag]:
        """Yield flags for cells that have changed since they ran."""
        for cell_id, source in self._now.items():
            if cell_id not in self._executions:
                continue
            last = self._executions[cell_id][-1]
            if normalize_source(last.source) != source and not _after(last, self._now_at):
                yield Flag(
                    kind=FlagKind.DRIFTED,
                    message=f"This cell has changed since it ran{_when(last)} for the checkpoint.",
                    cell_id=cell_id,
                    executed=last.source,
                    source=self._source_now[cell_id],
                    execution_counts=_counts([last]),
                )

    def edited(self) -> Iterator[Flag]:
        """Yield flags for cells that were edited and not run."""
        for cell_id in self._above:
            runs = self._executions.get(cell_id, [])
            source = self._then[cell_id]
            if not runs or source in {normalize_source(run.source) for run in runs}:
                continue
            last = runs[-1]
            # Code that ran after the save, or was saved later as it ran, had only not been saved
            # yet.
            if not _after(last, self._then_at) and self._now.get(cell_id) != normalize_source(
                last.source
            ):
                yield Flag(
                    kind=FlagKind.EDITED,
                    message=f"This cell was edited after it ran{_when(last)} and not run again.",
                    cell_id=cell_id,
                    executed=last.source,
                    source=self._source_then[cell_id],
                    execution_counts=_counts([last]),
                )

    def out_of_order(self) -> Iterator[Flag]:
        """Yield flags for cells that ran in another order than they have in the notebook."""
        place = {cell_id: index for index, cell_id in enumerate(self._then)}
        ran = [cell_id for cell_id in self._in_turn if cell_id in place]
        above = set(self._above)
        upwards = [cell_id for cell_id in ran if cell_id in above]
        in_order = {
            upwards[index] for index in longest_increasing([place[cell_id] for cell_id in upwards])
        }
        for cell_id in sorted(set(ran), key=place.__getitem__):
            if cell_id == self._training or cell_id in in_order:
                continue
            last = self._executions[cell_id][-1]
            yield Flag(
                kind=FlagKind.OUT_OF_ORDER,
                message=f"This cell ran in another order than it has in the notebook{_when(last)}.",
                cell_id=cell_id,
                executed=last.source,
                execution_counts=_counts([last]),
            )

    def rerun(self) -> Iterator[Flag]:
        """Yield flags for cells that ran more than once."""
        for cell_id, runs in self._executions.items():
            if len(runs) < 2 or _is_idempotent(runs):
                continue
            yield Flag(
                kind=FlagKind.RERUN,
                message=f"This cell ran {len(runs)} times{_when(*runs)}; "
                "effects of earlier runs may remain.",
                cell_id=cell_id,
                executed=runs[-1].source,
                execution_counts=_counts(runs),
            )

    def deleted(self) -> Iterator[Flag]:
        """Yield flags for code that is no longer in the notebook."""
        gone = [
            (cell_id, runs[-1])
            for cell_id, runs in self._executions.items()
            if cell_id not in self._now
        ]
        for cell_id, last in [*gone, *((None, cell) for cell in self._unmatched.values())]:
            if not _after(last, self._now_at) and normalize_source(last.source):
                yield Flag(
                    kind=FlagKind.DELETED,
                    message=f"Code that ran{_when(last)} is no longer in the notebook.",
                    cell_id=cell_id,
                    executed=last.source,
                    execution_counts=_counts([last]),
                )

    def not_run(self) -> Iterator[Flag]:
        """Yield flags for cells that had not run."""
        if not self._is_placed:
            return
        for cell_id in self._above:
            source = self._then[cell_id]
            if cell_id not in self._executions and not _is_comment(source):
                yield Flag(
                    kind=FlagKind.NOT_RUN,
                    message="This cell above the training cell was not run.",
                    cell_id=cell_id,
                    source=self._source_then[cell_id],
                )


def _after(cell: ExecutedCell, moment: datetime | None) -> bool:
    """Return whether a cell ran after a save, so that the save may lack its source."""
    return moment is not None and cell.executed_at is not None and cell.executed_at > moment


def _when(*runs: ExecutedCell) -> str:
    named = ", ".join(f"In [{count}]" for count in _counts(runs))
    return f" ({named})" if named else ""


def _counts(runs: Sequence[ExecutedCell]) -> list[int]:
    return [run.execution_count for run in runs if run.execution_count is not None]


_DEFINING = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Pass,
)


def _is_idempotent(runs: Sequence[ExecutedCell]) -> bool:
    """Return whether executions after the first one have no effect."""
    return len({normalize_source(run.source) for run in runs}) == 1 and _only_defines(
        runs[0].source
    )


def _only_defines(source: str) -> bool:
    """Return whether code only imports, defines and sets up the notebook.

    Shell commands and magics count as setup if :func:`.is_harmless` recognizes them; a source that
    is too long to parse does not.
    """
    if len(source) > MAX_PARSED:
        return False
    cell = read_cell(source)
    if cell.foreign:
        return is_harmless_cell(cell)
    lines = [setup_statement(head) or "" for head in cell.heads]
    for line in cell.lines:
        if isinstance(line, str):
            lines.append(line)
            continue
        statement = command_statement(line)
        if statement is None and not is_harmless(line):
            return False
        lines.append(line.indent + ("pass" if statement is None else statement))
    tree = parse("\n".join(lines))
    return tree is not None and all(
        isinstance(statement, _DEFINING)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in tree.body
    )


def _is_comment(source: str) -> bool:
    return all(line.lstrip().startswith("#") for line in source.splitlines())
