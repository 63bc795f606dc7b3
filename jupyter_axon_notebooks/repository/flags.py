"""What speaks against a checkpoint coming out again when its notebook is run from top to bottom. Pure.

Told from what was executed in the kernel, the notebook as it had been saved when the checkpoint was made, and the notebook
as it is now. A notebook that was run once from top to bottom and saved has no flags. Sources that differ only in blank
lines and white space at the ends of lines are the same. What was edited and not saved nobody knows: what ran after a save
is not held against what that save lacks.

*The training cell* is the last one that was executed, the one that made the checkpoint; where it had not been saved yet,
nobody knows what is above it, and all cells count as above. *A cell's last execution* is the last one before the checkpoint.

``drifted``
    A cell that was executed stands in the notebook now with another source than its last execution had.
``edited``
    Above the training cell, a cell had been executed, and then been saved with a source that it had not been executed with.
``out_of_order``
    By last executions, a cell did not run where it stands: it stands below the training cell, or is none of the most cells
    above it that did run in their order. Of two that changed places it is the later one. A cell that may run again, as
    said below, counts by whichever of its executions is in order.
``rerun``
    A cell was executed more than once, so that what earlier executions left may matter. One that only imports, defines and
    sets up the notebook, and was the same each time, is not counted. ``%matplotlib`` and ``!pip install`` set up the notebook;
    ``!python make_data.py``, ``%run`` and ``%cd`` do more.
``deleted``
    A cell was executed that is in the notebook no more.
``not_run``
    Above the training cell, a cell was not executed. Comments alone are nothing to execute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from ..alignment import longest_rising
from ..provenance import ExecutedCell, Flag, FlagKind
from ..records import NotebookCell
from .cell_matching import code_sources, match_cells, normalize_source
from .magics import (
    MAX_PARSED,
    is_harmless,
    is_harmless_cell,
    parsed,
    read_cell,
    setup_of,
    statement_of,
)


class Saved(NamedTuple):
    """A notebook as it was saved, and when; ``at`` is None where nobody knows."""

    cells: Sequence[NotebookCell]
    at: datetime | None = None


def flags(executed: Sequence[ExecutedCell], then: Saved, now: Saved) -> list[Flag]:
    """The flags of a checkpoint, by kind, each in the order of the notebook or of execution.

    Parameters
    ----------
    executed : sequence of ExecutedCell
        In order, the training cell last.
    then, now : Saved
        The notebook as it had been saved when the checkpoint was made, and as it is.
    """
    if not executed:
        return []
    seen = _Seen(executed, then, now)
    return [
        *seen.drifted(),
        *seen.edited(),
        *seen.out_of_order(),
        *seen.rerun(),
        *seen.deleted(),
        *seen.not_run(),
    ]


class _Seen:
    """What was executed, by cell."""

    def __init__(self, executed: Sequence[ExecutedCell], then: Saved, now: Saved) -> None:
        self._then, self._now = code_sources(then.cells), code_sources(now.cells)
        self._then_at, self._now_at = then.at, now.at
        self._written_then = {cell.id: cell.source for cell in then.cells}
        self._written_now = {cell.id: cell.source for cell in now.cells}
        self._executions: dict[str, list[ExecutedCell]] = {}
        self._homeless: dict[str, ExecutedCell] = {}
        found = match_cells(executed, self._then, self._now)
        turns: dict[str, list[int]] = {}
        for turn, (cell, at) in enumerate(zip(executed, found, strict=True)):
            if at is None:
                self._homeless[cell.cell_id or normalize_source(cell.source)] = cell
            else:
                self._executions.setdefault(at, []).append(cell)
                turns.setdefault(at, []).append(turn)
        counting = {
            turn: at
            for at, runs in self._executions.items()
            for turn in (turns[at] if _may_run_again(runs) else turns[at][-1:])
        }
        self._in_turn = [counting[turn] for turn in sorted(counting)]
        self._training = found[-1]
        order = list(self._then)
        self._is_placed = self._training in self._then
        self._above = order[: order.index(str(self._training))] if self._is_placed else order

    def drifted(self) -> Iterator[Flag]:
        """Cells that have changed since they ran."""
        for cell_id, source in self._now.items():
            if cell_id not in self._executions:
                continue
            last = self._executions[cell_id][-1]
            if normalize_source(last.source) != source and not _after(last, self._now_at):
                yield Flag(
                    kind=FlagKind.DRIFTED,
                    message=f"The checkpoint came from this cell as it was when it ran{_when(last)}; it has changed since.",
                    cell_id=cell_id,
                    executed=last.source,
                    source=self._written_now[cell_id],
                    execution_counts=_counts([last]),
                )

    def edited(self) -> Iterator[Flag]:
        """Cells that had been edited and not run."""
        for cell_id in self._above:
            runs = self._executions.get(cell_id, [])
            source = self._then[cell_id]
            if not runs or source in {normalize_source(run.source) for run in runs}:
                continue
            last = runs[-1]
            # What ran after the save, or was saved as it ran later on, had only not been saved yet.
            if not _after(last, self._then_at) and self._now.get(cell_id) != normalize_source(
                last.source
            ):
                yield Flag(
                    kind=FlagKind.EDITED,
                    message=f"This cell was edited after it ran{_when(last)}, and not run again.",
                    cell_id=cell_id,
                    executed=last.source,
                    source=self._written_then[cell_id],
                    execution_counts=_counts([last]),
                )

    def out_of_order(self) -> Iterator[Flag]:
        """Cells that did not run where they stand."""
        place = {cell_id: index for index, cell_id in enumerate(self._then)}
        ran = [cell_id for cell_id in self._in_turn if cell_id in place]
        above = set(self._above)
        upwards = [cell_id for cell_id in ran if cell_id in above]
        in_order = {
            upwards[index] for index in longest_rising([place[cell_id] for cell_id in upwards])
        }
        for cell_id in sorted(set(ran), key=place.__getitem__):
            if cell_id == self._training or cell_id in in_order:
                continue
            last = self._executions[cell_id][-1]
            yield Flag(
                kind=FlagKind.OUT_OF_ORDER,
                message=f"This cell ran out of the order of the notebook{_when(last)}.",
                cell_id=cell_id,
                executed=last.source,
                execution_counts=_counts([last]),
            )

    def rerun(self) -> Iterator[Flag]:
        """Cells that ran more than once."""
        for cell_id, runs in self._executions.items():
            if len(runs) < 2 or _may_run_again(runs):
                continue
            yield Flag(
                kind=FlagKind.RERUN,
                message=f"This cell ran {len(runs)} times{_when(*runs)}; what earlier runs left may matter.",
                cell_id=cell_id,
                executed=runs[-1].source,
                execution_counts=_counts(runs),
            )

    def deleted(self) -> Iterator[Flag]:
        """Code that is in the notebook no more."""
        gone = [
            (cell_id, runs[-1])
            for cell_id, runs in self._executions.items()
            if cell_id not in self._now
        ]
        for cell_id, last in [*gone, *((None, cell) for cell in self._homeless.values())]:
            if not _after(last, self._now_at) and normalize_source(last.source):
                yield Flag(
                    kind=FlagKind.DELETED,
                    message=f"Code that ran{_when(last)} is in the notebook no more.",
                    cell_id=cell_id,
                    executed=last.source,
                    execution_counts=_counts([last]),
                )

    def not_run(self) -> Iterator[Flag]:
        """Cells that had not run."""
        if not self._is_placed:
            return
        for cell_id in self._above:
            source = self._then[cell_id]
            if cell_id not in self._executions and not _is_comment(source):
                yield Flag(
                    kind=FlagKind.NOT_RUN,
                    message="This cell, above the one that trained, had not run.",
                    cell_id=cell_id,
                    source=self._written_then[cell_id],
                )


def _after(cell: ExecutedCell, moment: datetime | None) -> bool:
    """Whether a cell ran after a save, which therefore may lack what it ran."""
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


def _may_run_again(runs: Sequence[ExecutedCell]) -> bool:
    """Whether executions after the first one left things as they were."""
    return len({normalize_source(run.source) for run in runs}) == 1 and _only_defines(
        runs[0].source
    )


def _only_defines(source: str) -> bool:
    """Whether running it again leaves things as they are: it only imports, defines and sets up the notebook.

    What a magic such as ``%time`` runs counts as code of the cell. Shell commands and other magics count as setup only where
    :func:`.is_harmless` recognises them, and a source too long to be parsed does not.
    """
    if len(source) > MAX_PARSED:
        return False
    cell = read_cell(source)
    if cell.foreign:
        return is_harmless_cell(cell)
    lines = [setup_of(head) or "" for head in cell.heads]
    for line in cell.lines:
        if isinstance(line, str):
            lines.append(line)
            continue
        statement = statement_of(line)
        if statement is None and not is_harmless(line):
            return False
        lines.append(line.indent + ("pass" if statement is None else statement))
    tree = parsed("\n".join(lines))
    return tree is not None and all(
        isinstance(statement, _DEFINING)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in tree.body
    )


def _is_comment(source: str) -> bool:
    return all(line.lstrip().startswith("#") for line in source.splitlines())
