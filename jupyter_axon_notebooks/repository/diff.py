"""What changed in the sources from one version of a notebook to another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from ..records import CellChange, NotebookCell


def diff(before: Sequence[NotebookCell], after: Sequence[NotebookCell]) -> list[CellChange]:
    """What changed in the sources from one version to another: cells removed first, then in the order of ``after``.

    A cell whose source stayed but whose place among the others did not is ``moved``.
    """
    old = {cell.id: cell for cell in before}
    new = {cell.id: cell for cell in after}
    removed = [
        CellChange(cell_id=cell.id, change="removed", before=cell.source)
        for cell in before
        if cell.id not in new
    ]
    staying = _in_place([i for i in old if i in new], [i for i in new if i in old])
    return removed + list(_changes(old, new, staying))


def _changes(
    old: dict[str, NotebookCell], new: dict[str, NotebookCell], staying: set[str]
) -> Iterator[CellChange]:
    for cell_id, cell in new.items():
        was = old.get(cell_id)
        if was is None:
            yield CellChange(cell_id=cell_id, change="added", after=cell.source)
        elif (was.source, was.cell_type) != (cell.source, cell.cell_type):
            yield CellChange(cell_id=cell_id, change="changed", before=was.source, after=cell.source)
        elif cell_id not in staying:
            yield CellChange(cell_id=cell_id, change="moved", before=was.source, after=cell.source)


def _in_place(before: list[str], after: list[str]) -> set[str]:
    blocks: Iterable[Any] = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return {cell_id for block in blocks for cell_id in before[block.a : block.a + block.size]}
