"""Reasons why running a notebook from top to bottom may not reproduce a checkpoint. Pure.

Flags are derived from the cells that the kernel executed, the notebook as it was saved when the
checkpoint was made, and the notebook as it is now. A notebook that was run once from top to bottom
and saved has no flags. Sources that differ only in blank lines and trailing white space are equal.
Edits that were never saved are unknown, and code that ran after a save is not compared with that
save.

The *training cell* is the cell that made the checkpoint: the last one that was executed. If it had
not been saved yet, its position is unknown and all cells count as above it. The *last execution* of
a cell is its last one before the checkpoint.

Some executions do not count, because they cannot have an effect on the training, as far as
:mod:`.effects` can tell:

- Executions before a *complete pass*: the last executions of the cells above the training cell,
  each once and in the order of the notebook, and then the training cell. Cells that only import
  and define may have run earlier. An earlier execution still counts if it may have changed a name
  that the pass uses before assigning it.
- Executions of cells below the training cell, unless they write a name that the training, or a cell
  above that ran later, uses before assigning it.
- Code that is no longer in the notebook, unless it may have changed such a name.

``drifted``
    The source of an executed cell has changed since its last execution, but is not ``edited``.
``edited``
    A cell above the training cell was executed, and later saved with a source that was not
    executed.
``out_of_order``
    The last executions had another order than the cells in the notebook: the cell is below the
    training cell, or is not in the longest sequence of cells above it that ran in order. If two
    cells ran in reverse order, the one that ran later has the flag. If a cell is harmless to run
    again (see ``rerun``), it is enough that one of its executions ran in order.
``rerun``
    A cell was executed more than once, so effects of earlier executions may remain. A cell is
    not flagged if it had the same source each time and only imports, defines functions and classes,
    or sets up the notebook, as ``%matplotlib`` and ``!pip install`` do. ``!python make_data.py``,
    ``%run`` and ``%cd`` may have other effects.
``unseeded``
    A complete pass draws random numbers before it sets a seed, so that they depend on executions
    before it; or their seed differs in each execution, as that of ``default_rng()`` does.
``deleted``
    An executed cell is no longer in the notebook.
``not_run``
    A cell above the training cell was not executed. Cells with only comments do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ..alignment import longest_increasing
from ..provenance import ExecutedCell, Flag, FlagKind
from ..records import NotebookCell
from .cell_matching import code_sources, match_cells, normalize_source
from .effects import EffectReader
from .magics import (
    MAX_PARSED,
    command_statement,
    is_harmless,
    is_harmless_cell,
    parse,
    read_cell,
    setup_statement,
)
from .randomness import GENERATORS

_RESTART: Final = "Restart the kernel and run all cells."


class SavedCells(NamedTuple):
    """The cells of a saved notebook, and the time of the save if it is known."""

    cells: Sequence[NotebookCell]
    at: datetime | None = None


def find_flags(
    executed: Sequence[ExecutedCell], saved: SavedCells, current: SavedCells
) -> list[Flag]:
    """Return the flags of a checkpoint by kind, in the order of the notebook or of execution.

    Parameters
    ----------
    executed : sequence of ExecutedCell
        In order, the training cell last.
    saved, current : SavedCells
        The notebook as it was saved when the checkpoint was made, and as it is now.
    """
    if not executed:
        return []
    finder = _FlagFinder(executed, saved, current)
    return [
        *finder.drifted(),
        *finder.edited(),
        *finder.out_of_order(),
        *finder.rerun(),
        *finder.unseeded(),
        *finder.deleted(),
        *finder.not_run(),
    ]


class _FlagFinder:
    """The executions of each cell, compared with the saved and the current notebook."""

    def __init__(
        self, executed: Sequence[ExecutedCell], saved: SavedCells, current: SavedCells
    ) -> None:
        self._saved, self._current = code_sources(saved.cells), code_sources(current.cells)
        self._saved_at, self._current_at = saved.at, current.at
        self._source_saved = {cell.id: cell.source for cell in saved.cells}
        self._source_current = {cell.id: cell.source for cell in current.cells}
        self._numbers = {cell.id: number for number, cell in enumerate(current.cells, 1)}
        self._executed = executed
        self._matches = match_cells(executed, self._saved, self._current)
        self._training = self._matches[-1]
        cells = list(self._saved)
        self._is_saved = self._training in self._saved
        self._above = cells[: cells.index(str(self._training))] if self._is_saved else cells
        #: Those that do more than import and define.
        self._working = [
            cell_id
            for cell_id in self._above
            if not _is_comment(self._saved[cell_id]) and not _only_defines(self._saved[cell_id])
        ]
        #: The random generators that a complete pass continues.
        self._unseeded: set[str] = set()
        #: The sources of entropy that a complete pass draws from, by the positions of cells.
        self._entropy: dict[int, frozenset[str]] = {}
        self._executions: dict[str, list[ExecutedCell]] = {}
        self._unmatched: dict[str, ExecutedCell] = {}
        positions: dict[str, list[int]] = {}
        for position in self._find_counted():
            cell, cell_id = executed[position], self._matches[position]
            if cell_id is None:
                self._unmatched[cell.cell_id or normalize_source(cell.source)] = cell
            else:
                self._executions.setdefault(cell_id, []).append(cell)
                positions.setdefault(cell_id, []).append(position)
        # Only the last execution of a cell counts, unless it is harmless to run again.
        counted = {
            position: cell_id
            for cell_id, runs in self._executions.items()
            for position in positions[cell_id][0 if _is_idempotent(runs) else -1 :]
        }
        self._execution_order = [counted[position] for position in sorted(counted)]

    def _find_counted(self) -> list[int]:
        """Return the positions of the executions that count."""
        last, start = len(self._executed) - 1, self._find_pass()
        below = (
            self._saved.keys() - set(self._above) - {self._training} if self._is_saved else set()
        )
        doubtful = {
            position
            for position, cell_id in enumerate(self._matches[:last])
            if position < start or cell_id is None or cell_id in below
        }
        if not doubtful or not self._is_saved:
            return [*range(last + 1)]
        kept = {
            cell.source
            for cell, cell_id in zip(self._executed, self._matches, strict=True)
            if cell_id is not None and cell_id not in below
        }
        reader = EffectReader((cell.source for cell in self._executed), kept)
        needed: set[str] = set()
        definitions = set(self._above) - set(self._working)
        is_again = not {*self._working, self._training}.isdisjoint(self._matches[:start])
        found, seen = [], dict[str | None, str]()
        for position in range(last, -1, -1):
            cell, cell_id = self._executed[position], self._matches[position]
            effects = reader.read(cell.source)
            # Cells that only import and define may have run before the pass.
            source = normalize_source(cell.source)
            is_definition = cell_id in definitions and seen.setdefault(cell_id, source) == source
            is_earlier = position < start and not is_definition
            if is_earlier or cell_id is None or cell_id in below:
                if effects is None:
                    touched = set() if cell_id in below else {""}
                else:
                    touched = needed & (effects.writes if cell_id in below else effects.changes)
                if position < start:
                    self._unseeded |= touched & GENERATORS.keys()
                    touched -= GENERATORS.keys()
                if not touched:
                    continue
            found.append(position)
            if effects is not None:
                unseeded = needed & effects.unseeded.keys()
                entropy = effects.entropy | {effects.unseeded[name] for name in unseeded}
                if entropy and is_again and position >= start:
                    self._entropy[position] = entropy
                needed = needed - effects.assigns | effects.uses
        return sorted(found)

    def _find_pass(self) -> int:
        """Return the position at which the last complete pass begins; 0 if there is none."""
        expected = list(self._working)
        others = {*expected, self._training}
        position = len(self._matches) - 1
        while expected and position > 0:
            position -= 1
            if self._matches[position] == expected[-1]:
                expected.pop()
            elif self._matches[position] in others:
                return 0
        return 0 if expected else position

    def drifted(self) -> Iterator[Flag]:
        """Yield flags for cells that have changed since they ran."""
        edited = {flag.cell_id for flag in self.edited()}
        for cell_id, source in self._current.items():
            if cell_id not in self._executions or cell_id in edited:
                continue
            last = self._executions[cell_id][-1]
            if normalize_source(last.source) != source and not _ran_after(last, self._current_at):
                yield self._flag(
                    FlagKind.DRIFTED,
                    "{} has changed since it ran for the checkpoint. Open the version that ran, or "
                    "train again.",
                    cell_id,
                    [last],
                    self._source_current[cell_id],
                )

    def edited(self) -> Iterator[Flag]:
        """Yield flags for cells that were edited and not run."""
        for cell_id in self._above:
            runs = self._executions.get(cell_id, [])
            source = self._saved[cell_id]
            if not runs or source in {normalize_source(run.source) for run in runs}:
                continue
            last = runs[-1]
            # The executed code may just not have been saved yet: it ran after the save, or is
            # what was saved later.
            is_saved_later = self._current.get(cell_id) == normalize_source(last.source)
            if not is_saved_later and not _ran_after(last, self._saved_at):
                yield self._flag(
                    FlagKind.EDITED,
                    "{} was edited after it ran, and not run again before the training. Run it, "
                    "and train again.",
                    cell_id,
                    [last],
                    self._source_saved[cell_id],
                )

    def out_of_order(self) -> Iterator[Flag]:
        """Yield flags for cells that ran in another order than they have in the notebook."""
        positions = {cell_id: position for position, cell_id in enumerate(self._saved)}
        ran = [cell_id for cell_id in self._execution_order if cell_id in positions]
        above = set(self._above)
        ran_above = [cell_id for cell_id in ran if cell_id in above]
        increasing = longest_increasing([positions[cell_id] for cell_id in ran_above])
        in_order = {ran_above[index] for index in increasing}
        for cell_id in sorted(set(ran) - in_order - {self._training}, key=positions.__getitem__):
            message = "{} did not run in the order of the notebook. " + _RESTART
            if cell_id not in above:
                message = (
                    "{} is below the training, and changed what the training uses. Move it above "
                    "the training, or restart the kernel and run the cells up to the training."
                )
            yield self._flag(
                FlagKind.OUT_OF_ORDER, message, cell_id, self._executions[cell_id][-1:]
            )

    def rerun(self) -> Iterator[Flag]:
        """Yield flags for cells that ran more than once."""
        for cell_id, runs in self._executions.items():
            if len(runs) >= 2 and not _is_idempotent(runs):
                message = "{} ran again, and effects of the earlier run may remain. " + _RESTART
                yield self._flag(FlagKind.RERUN, message, cell_id, runs)

    def unseeded(self) -> Iterator[Flag]:
        """Yield flags for random numbers that running all cells again would not draw again."""
        if self._unseeded:
            generators = [one for one in GENERATORS if one in self._unseeded]
            names = " and ".join(generators)
            seeds = " and ".join(f"`{GENERATORS[generator]}`" for generator in generators)
            yield Flag(
                kind=FlagKind.UNSEEDED,
                message=f"{names} numbers continue those of earlier executions in this kernel. Set "
                f"the seed before they are used, with {seeds}, or restart the kernel and run all "
                "cells.",
            )
        for position, functions in sorted(self._entropy.items()):
            seeds = " and ".join(f"`{function}()`" for function in sorted(functions))
            yield self._flag(
                FlagKind.UNSEEDED,
                f"{{}} uses a random seed that differs in each execution: {seeds}. Use a fixed "
                "seed, such as 0, and train again.",
                self._matches[position],
                [self._executed[position]],
            )

    def deleted(self) -> Iterator[Flag]:
        """Yield flags for code that is no longer in the notebook."""
        deleted: list[tuple[str | None, ExecutedCell]] = [
            (cell_id, runs[-1])
            for cell_id, runs in self._executions.items()
            if cell_id not in self._current
        ]
        deleted += [(None, cell) for cell in self._unmatched.values()]
        for cell_id, last in deleted:
            if not _ran_after(last, self._current_at) and normalize_source(last.source):
                message = "{} is no longer in the notebook. Put it back, or r" + _RESTART[1:]
                yield self._flag(FlagKind.DELETED, message, cell_id, [last])

    def not_run(self) -> Iterator[Flag]:
        """Yield flags for cells above the training cell that had not run."""
        for cell_id in self._above if self._is_saved else ():
            if cell_id not in self._executions and not _is_comment(self._saved[cell_id]):
                yield self._flag(
                    FlagKind.NOT_RUN,
                    "{} is above the training and was not run. Run it and train again, or move it "
                    "below the training.",
                    cell_id,
                    [],
                    self._source_saved[cell_id],
                )

    def _flag(
        self,
        kind: FlagKind,
        message: str,
        cell_id: str | None,
        runs: Sequence[ExecutedCell],
        source: str | None = None,
    ) -> Flag:
        """Return a flag; the message has braces for the name of the cell."""
        counts = [run.execution_count for run in runs if run.execution_count is not None]
        number = self._numbers.get(cell_id or "")
        name = "Code that ran" if number is None else f"Cell {number}"
        prompts = f" ({', '.join(f'In [{count}]' for count in counts)})" if counts else ""
        return Flag(
            kind=kind,
            message=message.format(name + prompts),
            cell_id=cell_id,
            cell_number=number,
            executed=runs[-1].source if runs else None,
            source=source,
            execution_counts=counts,
        )


def _ran_after(cell: ExecutedCell, moment: datetime | None) -> bool:
    """Return whether a cell ran after a save, which may therefore lack its source."""
    return moment is not None and cell.executed_at is not None and cell.executed_at > moment


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
    """Return whether code only imports, defines functions and classes, or sets up the notebook.

    False for code that is too long to parse.
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
