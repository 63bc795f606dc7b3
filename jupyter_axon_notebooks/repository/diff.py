"""What changed in the sources from one version of a notebook to another. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..alignment import align, longest_rising, pair_equal
from ..records import CellChange, NotebookCell
from .cell_matching import normalize_source


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
    places = {cell_id: place for place, cell_id in enumerate(old)}
    shared = [cell_id for cell_id in new if cell_id in old]
    staying = {shared[index] for index in longest_rising([places[cell_id] for cell_id in shared])}
    return removed + list(_changes(old, new, staying))


def with_ids_of(
    before: Sequence[NotebookCell], after: Sequence[NotebookCell]
) -> list[NotebookCell]:
    """Return ``before`` with the ids that its cells have in ``after``, which may be of another notebook.

    A cell whose id ``after`` does not have takes that of a cell with the same source, white space at line ends and blank lines aside.
    """
    ids, later = {cell.id for cell in before}, {cell.id for cell in after}
    old = [index for index, cell in enumerate(before) if cell.id not in later]
    new = [cell for cell in after if cell.id not in ids]
    keys = [(before[index].cell_type, normalize_source(before[index].source)) for index in old]
    others = [(cell.cell_type, normalize_source(cell.source)) for cell in new]
    pairs = align(keys, others)
    aligned, taken = {i for i, _ in pairs}, {j for _, j in pairs}
    pairs += pair_equal(
        keys,
        others,
        [i for i in range(len(old)) if i not in aligned],
        [j for j in range(len(new)) if j not in taken],
    )
    found = {old[i]: new[j].id for i, j in pairs}
    return [
        NotebookCell(id=found[index], cell_type=cell.cell_type, source=cell.source)
        if index in found
        else cell
        for index, cell in enumerate(before)
    ]


def _changes(
    old: dict[str, NotebookCell], new: dict[str, NotebookCell], staying: set[str]
) -> Iterator[CellChange]:
    for cell_id, cell in new.items():
        was = old.get(cell_id)
        if was is None:
            yield CellChange(cell_id=cell_id, change="added", after=cell.source)
        elif (was.source, was.cell_type) != (cell.source, cell.cell_type):
            yield CellChange(
                cell_id=cell_id, change="changed", before=was.source, after=cell.source
            )
        elif cell_id not in staying:
            yield CellChange(cell_id=cell_id, change="moved", before=was.source, after=cell.source)
