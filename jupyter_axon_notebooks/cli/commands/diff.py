"""``jupyter axon diff``: what changed from one checkpoint to another."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.text import Text

from ...alignment import align
from ...metrics import format_number
from ...printable import printable
from ...provenance import Change, CheckpointDiff, MetricChange
from ...records import CellChange, NotebookCheckpoint
from ..output import Column, local_time, short_ids, table, write, write_json
from ..session import Session, with_session
from ..which import find_checkpoint

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@with_session
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="The changes as JSON.")
def command(session: Session, before: str, after: str, as_json: bool) -> None:
    """Compare two checkpoints: code, metrics and environment.

    BEFORE and AFTER are the ids of checkpoints, or beginnings of them.
    """
    with session.reading() as repository:
        pair = find_checkpoint(repository, before), find_checkpoint(repository, after)
        changes = repository.provenance.diff(pair[0].id, pair[1].id)
    if as_json:
        document = changes.to_json()
        write_json({"from": document.pop("before"), "to": document.pop("after"), **document})
        return
    write(*_report(changes, pair))


def _report(
    changes: CheckpointDiff, pair: tuple[NotebookCheckpoint, NotebookCheckpoint]
) -> Iterator[Any]:
    yield _header(pair)
    compared = "what was executed" if changes.executed else "the notebook as it had been saved"
    if changes.sources:
        yield Text(f"\nCode: {compared}", style="bold")
        for change in changes.sources:
            yield _source(change)
    else:
        yield Text(f"\nThe same code: {compared}")
    if changes.metrics:
        yield ""
        yield _metrics(changes.metrics)
    if changes.environment is None:
        yield Text("\nThe environment is not known of both.")
    elif rows := [*changes.environment.values, *changes.environment.packages]:
        yield ""
        yield table(["environment", "before", "after"], [_row(change) for change in rows])
    else:
        yield Text("\nThe same environment")


def _header(pair: Sequence[NotebookCheckpoint]) -> Any:
    short = short_ids([one.id for one in pair])
    columns: list[Column] = [
        "",
        ("checkpoint", {"no_wrap": True}),
        ("epoch", {"justify": "right"}),
        ("step", {"justify": "right"}),
        "created",
    ]
    rows = [
        [side, short[one.id], one.epoch, one.step, local_time(one.created_at)]
        for side, one in zip(("before", "after"), pair, strict=True)
    ]
    return table(columns, rows)


def _source(change: CellChange) -> Text:
    """A cell's change as a unified diff."""
    said = Text("\n").append(f"cell {printable(change.cell_id)}: {change.change}", style="bold")
    if change.change == "moved":
        return said
    before, after = (
        source.splitlines() if source else [] for source in (change.before, change.after)
    )
    for line in _unified(before, after):
        said.append("\n" + printable(line, keep="\t"), style=_STYLES.get(line[:1]))
    return said


class _Aligned(difflib.SequenceMatcher[str]):
    """A matcher that takes near-linear time, however much is alike."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__(None, before, after)
        self._blocks: list[difflib.Match] = []
        begin_before = begin_after = size = 0
        for i, j in [*align(before, after), (-1, -1)]:
            if (i, j) == (begin_before + size, begin_after + size):
                size += 1
                continue
            if size:
                self._blocks.append(difflib.Match(begin_before, begin_after, size))
            begin_before, begin_after, size = i, j, 1
        self._blocks.append(difflib.Match(len(before), len(after), 0))

    def get_matching_blocks(self) -> list[difflib.Match]:
        """Return the aligned lines, the end of both texts last."""
        return self._blocks


def _unified(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for group in _Aligned(before, after).get_grouped_opcodes():
        yield f"@@ -{_range(group[0][1], group[-1][2])} +{_range(group[0][3], group[-1][4])} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[i1:i2])
            else:
                yield from (f"-{line}" for line in before[i1:i2])
                yield from (f"+{line}" for line in after[j1:j2])


def _range(start: int, stop: int) -> str:
    length = stop - start
    first = start + 1 if length else start  # an empty range begins at the line before it
    return str(first) if length == 1 else f"{first},{length}"


def _metrics(changes: Sequence[MetricChange]) -> Any:
    right = {"justify": "right", "no_wrap": True}
    columns: list[Column] = ["metric", ("before", right), ("after", right), ("change", right)]
    rows = [
        [*_row(change), "" if change.delta is None else format_number(change.delta, "+")]
        for change in changes
    ]
    return table(columns, rows)


def _row(change: Change) -> list[str]:
    return [change.name, _value(change.before), _value(change.after)]


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, (int, float)) else str(value)
