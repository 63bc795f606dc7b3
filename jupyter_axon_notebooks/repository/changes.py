"""What changed from one checkpoint to another: code, metrics, environment. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..metrics import named_values, rankable, spell_nonfinite
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
from .diff import diff, with_ids_of

_SURROUNDINGS = ("python", "implementation", "platform", "cuda", "cudnn", "driver")


def diff_checkpoints(
    before: NotebookCheckpoint,
    known_before: CheckpointProvenance,
    after: NotebookCheckpoint,
    known_after: CheckpointProvenance,
) -> CheckpointDiff:
    """What changed from one checkpoint to another, given what is known of where they came from."""
    was, became = known_before.environment, known_after.environment
    executed = bool(known_before.executed and known_after.executed)
    changes = _executed_changes if executed else _saved_changes
    return CheckpointDiff(
        before=before.id,
        after=after.id,
        executed=executed,
        sources=changes(known_before, known_after),
        metrics=list(_metric_changes(before.metrics, after.metrics)),
        environment=None if was is None or became is None else diff_environments(was, became),
    )


def is_code_changed(before: CheckpointProvenance, after: CheckpointProvenance) -> bool:
    """Whether a cell that was executed for both has another source in ``after``."""
    if not before.executed or not after.executed:
        return False
    return any(change.change == "changed" for change in _executed_changes(before, after))


def _saved_changes(before: CheckpointProvenance, after: CheckpointProvenance) -> list[CellChange]:
    if before.version is None or after.version is None:
        return []
    return diff(with_ids_of(before.version.cells, after.version.cells), after.version.cells)


def _executed_changes(
    before: CheckpointProvenance, after: CheckpointProvenance
) -> list[CellChange]:
    was, became = _last_executions(before), _last_executions(after)
    return [
        change
        for change in diff(with_ids_of(was, became), became)
        if change.change != "changed"
        or normalize_source(change.before or "") != normalize_source(change.after or "")
    ]


def _last_executions(known: CheckpointProvenance) -> list[NotebookCell]:
    """The last execution of each cell, in order, under the cell's id; of code that is in no cell, under its hash."""
    code = code_sources(known.version.cells) if known.version is not None else {}
    last: dict[str, NotebookCell] = {}
    for cell, at in zip(known.executed, match_cells(known.executed, code), strict=True):
        cell_id = at or cell.cell_id or _hash(cell.source)
        last.pop(cell_id, None)
        last[cell_id] = NotebookCell(id=cell_id, source=cell.source)
    return list(last.values())


def _hash(source: str) -> str:
    return hashlib.sha256(normalize_source(source).encode("utf-8", "surrogatepass")).hexdigest()[
        :12
    ]


def _metric_changes(before: Any, after: Any) -> Iterator[MetricChange]:
    was, became = named_values(before), named_values(after)
    for name in dict.fromkeys([*was, *became]):
        one, other = was.get(name), became.get(name)
        number, becoming = rankable(one), rankable(other)
        delta = None if number is None or becoming is None else becoming - number
        if delta is None and one == other:
            continue
        yield MetricChange(
            name=name,
            before=spell_nonfinite(one)[0],
            after=spell_nonfinite(other)[0],
            delta=rankable(delta),  # of two very large numbers there is none
        )


def diff_environments(before: Environment, after: Environment) -> EnvironmentDiff:
    """What differs between two environments."""
    values = [
        Change(name=name, before=was, after=became)
        for name, was, became in _surroundings(before, after)
        if was != became
    ]
    return EnvironmentDiff(
        values=values, packages=list(_package_changes(before.packages, after.packages))
    )


def _surroundings(before: Environment, after: Environment) -> Iterator[tuple[str, Any, Any]]:
    for name in _SURROUNDINGS:
        yield name, getattr(before, name), getattr(after, name)
    yield "gpus", ", ".join(before.gpus) or None, ", ".join(after.gpus) or None
    for name in ("commit", "branch", "dirty"):
        yield f"git {name}", getattr(before.git, name, None), getattr(after.git, name, None)


def _package_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}, key=str.lower):
        if before.get(name) != after.get(name):
            yield Change(name=name, before=before.get(name), after=after.get(name))
