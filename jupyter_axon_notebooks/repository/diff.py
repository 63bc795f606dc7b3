"""The differences between two versions of a notebook and between two checkpoints. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..alignment import align, longest_increasing, pair_equal
from ..metrics import encode_nonfinite, finite_number, flatten_metrics
from ..provenance import (
    Change,
    CheckpointDiff,
    CheckpointProvenance,
    Environment,
    EnvironmentDiff,
    MetricChange,
)
from ..records import CellChange, NotebookCell, NotebookCheckpoint
from .cell_matching import code_sources, match_cells, normalize_source

_ENVIRONMENT_FIELDS = ("python", "implementation", "platform", "cuda", "cudnn", "driver")


def diff_cells(before: Sequence[NotebookCell], after: Sequence[NotebookCell]) -> list[CellChange]:
    """Return the changes in the sources of cells: removed cells first, then in order of ``after``.

    A cell is ``moved`` if its source is the same and its order among the other cells has changed.
    """
    old = {cell.id: cell for cell in before}
    new = {cell.id: cell for cell in after}
    changes = [
        CellChange(cell_id=cell.id, change="removed", before=cell.source)
        for cell in before
        if cell.id not in new
    ]
    positions = {cell_id: position for position, cell_id in enumerate(old)}
    shared = [cell_id for cell_id in new if cell_id in old]
    rising = longest_increasing([positions[cell_id] for cell_id in shared])
    unmoved = {shared[index] for index in rising}
    for cell_id, cell in new.items():
        if cell_id not in old:
            changes.append(CellChange(cell_id=cell_id, change="added", after=cell.source))
            continue
        former = old[cell_id]
        is_edited = (former.source, former.cell_type) != (cell.source, cell.cell_type)
        if is_edited or cell_id not in unmoved:
            kind = "changed" if is_edited else "moved"
            changes.append(
                CellChange(cell_id=cell_id, change=kind, before=former.source, after=cell.source)
            )
    return changes


def match_ids(before: Sequence[NotebookCell], after: Sequence[NotebookCell]) -> list[NotebookCell]:
    """Return ``before`` with the ids of ``after``, which may be another notebook.

    A cell whose id is not in ``after`` gets the id of a cell there with the same normalized source.
    """
    old_ids, new_ids = {cell.id for cell in before}, {cell.id for cell in after}
    old = [index for index, cell in enumerate(before) if cell.id not in new_ids]
    new = [cell for cell in after if cell.id not in old_ids]
    keys = [(before[index].cell_type, normalize_source(before[index].source)) for index in old]
    others = [(cell.cell_type, normalize_source(cell.source)) for cell in new]
    pairs = align(keys, others)
    aligned, used = {i for i, _ in pairs}, {j for _, j in pairs}
    pairs += pair_equal(
        keys,
        others,
        [i for i in range(len(old)) if i not in aligned],
        [j for j in range(len(new)) if j not in used],
    )
    ids = {old[i]: new[j].id for i, j in pairs}
    return [
        NotebookCell(id=ids[index], cell_type=cell.cell_type, source=cell.source)
        if index in ids
        else cell
        for index, cell in enumerate(before)
    ]


def diff_checkpoints(
    before: NotebookCheckpoint,
    provenance_before: CheckpointProvenance,
    after: NotebookCheckpoint,
    provenance_after: CheckpointProvenance,
) -> CheckpointDiff:
    """Return the changes between two checkpoints with their provenance."""
    old, new = provenance_before.environment, provenance_after.environment
    executed = bool(provenance_before.executed and provenance_after.executed)
    diff_sources = _diff_executed if executed else _diff_saved
    return CheckpointDiff(
        before=before.id,
        after=after.id,
        executed=executed,
        sources=diff_sources(provenance_before, provenance_after),
        metrics=list(_diff_metrics(before.metrics, after.metrics)),
        environment=None if old is None or new is None else diff_environments(old, new),
    )


def count_changes(before: CheckpointProvenance, after: CheckpointProvenance) -> int | None:
    """Return the number of cells whose code differs, or None if the code of one is unknown."""
    if before.executed and after.executed:
        return len(_diff_executed(before, after))
    if before.version is None or after.version is None:
        return None
    return len(_diff_saved(before, after))


def is_code_changed(before: CheckpointProvenance, after: CheckpointProvenance) -> bool:
    """Return whether a cell that was executed for both checkpoints has changed."""
    if not before.executed or not after.executed:
        return False
    return any(change.change == "changed" for change in _diff_executed(before, after))


def _diff_saved(before: CheckpointProvenance, after: CheckpointProvenance) -> list[CellChange]:
    if before.version is None or after.version is None:
        return []
    return diff_cells(match_ids(before.version.cells, after.version.cells), after.version.cells)


def _diff_executed(before: CheckpointProvenance, after: CheckpointProvenance) -> list[CellChange]:
    old, new = _last_executions(before), _last_executions(after)
    return [
        change
        for change in diff_cells(match_ids(old, new), new)
        if change.change != "changed"
        or normalize_source(change.before or "") != normalize_source(change.after or "")
    ]


def _last_executions(provenance: CheckpointProvenance) -> list[NotebookCell]:
    """Return the last execution of each cell, in order. Unknown cells get a hash as id."""
    cells = [] if provenance.version is None else provenance.version.cells
    last: dict[str, NotebookCell] = {}
    matches = match_cells(provenance.executed, code_sources(cells))
    for cell, match in zip(provenance.executed, matches, strict=True):
        source = normalize_source(cell.source).encode("utf-8", "surrogatepass")
        cell_id = match or cell.cell_id or hashlib.sha256(source).hexdigest()[:12]
        last.pop(cell_id, None)
        last[cell_id] = NotebookCell(id=cell_id, source=cell.source)
    return list(last.values())


def _diff_metrics(before: Any, after: Any) -> Iterator[MetricChange]:
    old, new = flatten_metrics(before), flatten_metrics(after)
    for name in dict.fromkeys([*old, *new]):
        value, other = old.get(name), new.get(name)
        number, other_number = finite_number(value), finite_number(other)
        delta = None if number is None or other_number is None else other_number - number
        if delta is None and value == other:
            continue
        yield MetricChange(
            name=name,
            before=encode_nonfinite(value)[0],
            after=encode_nonfinite(other)[0],
            delta=finite_number(delta),  # None if the difference overflows
        )


def diff_environments(before: Environment, after: Environment) -> EnvironmentDiff:
    """Return the differences between two environments."""
    old, new = dict(_values(before)), dict(_values(after))
    return EnvironmentDiff(
        values=_diff_values(old, new, old),
        packages=_diff_values(
            before.packages,
            after.packages,
            sorted({*before.packages, *after.packages}, key=str.lower),
        ),
    )


def _values(environment: Environment) -> Iterator[tuple[str, Any]]:
    for name in _ENVIRONMENT_FIELDS:
        yield name, getattr(environment, name)
    yield "gpus", ", ".join(environment.gpus) or None
    for name in ("commit", "branch", "dirty"):
        yield f"git {name}", getattr(environment.git, name, None)


def _diff_values(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]
) -> list[Change]:
    return [
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]
