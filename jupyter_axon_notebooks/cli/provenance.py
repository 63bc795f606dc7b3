"""The commands about the code and environment of checkpoints: provenance, diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import click
from rich.text import Text

from ..metrics import format_number
from ..printable import printable
from ..provenance import (
    Change,
    CheckpointDiff,
    CheckpointProvenance,
    Environment,
    ExecutedCell,
    MetricChange,
    ResumedFrom,
)
from ..records import CellChange, NotebookCheckpoint
from . import options
from .lookup import find_checkpoint
from .output import (
    fields,
    first_line,
    local_time,
    short_ids,
    status_text,
    table,
    write,
    write_json,
)
from .session import Session, with_session

#: The number of lines that are matched with each other.
_MAX_MATCHED = 4000
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@with_session
@click.argument("checkpoint")
@options.as_json
def provenance(session: Session, checkpoint: str, as_json: bool) -> None:
    """Show code and environment of a checkpoint, and why it may not be reproducible.

    CHECKPOINT is its id, or the beginning of its id. `export --checkpoint` writes the notebook and
    the script.
    """
    with session.read() as repository:
        found = find_checkpoint(repository, checkpoint)
        result = repository.provenance.get(found.id)
    if as_json:
        document = result.to_json()
        document.pop("version", None)
        write_json(document)
        return
    write(*_provenance_report(found, result))


def _provenance_report(
    checkpoint: NotebookCheckpoint, found: CheckpointProvenance
) -> Iterator[Any]:
    yield fields(_header(checkpoint, found.environment))
    if found.resumed_from is not None:
        yield from _resumed_from(found.resumed_from)
    yield ""
    if not found.executed:
        yield Text("The executed code is not known: the checkpoint was not created in a kernel.")
        return
    if found.flags:
        names = [flag.kind.value.replace("_", " ") for flag in found.flags]
        flags = zip(names, found.flags, strict=True)
        yield table([{"flag": name, "meaning": flag.message} for name, flag in flags])
    else:
        yield Text(
            "No reproducibility problems: the cells were executed in order and have not changed."
        )
    yield ""
    yield table([_executed(cell) for cell in found.executed])


def _header(
    checkpoint: NotebookCheckpoint, environment: Environment | None
) -> Iterator[tuple[str, Any]]:
    yield "checkpoint", checkpoint.id
    yield "notebook", checkpoint.notebook_id
    yield "epoch, step", f"{checkpoint.epoch}, {checkpoint.step}"
    yield "created", local_time(checkpoint.created_at)
    if environment is None:
        return
    yield "python", f"{environment.implementation} {environment.python} on {environment.platform}"
    yield "packages", len(environment.packages)
    yield "graphics", ", ".join(environment.gpus)
    yield "cuda", environment.cuda
    if (git := environment.git) is not None and git.commit is not None:
        branch = f" on {git.branch}" if git.branch else ""
        yield "git", f"{git.commit[:12]}{branch}{', with changes' if git.dirty else ''}"


def _resumed_from(resumed: ResumedFrom) -> Iterator[Text]:
    epoch = ", which was deleted" if resumed.epoch is None else f" (epoch {resumed.epoch})"
    run = "" if resumed.run_id is None else f" of run {resumed.run_id}"
    yield Text(printable(f"resumed from checkpoint {resumed.checkpoint_id}{run}{epoch}"))
    if resumed.code_changed:
        command = f"jupyter axon diff {resumed.checkpoint_id} {resumed.last_checkpoint_id}"
        yield Text(printable(f"the code was changed in between: `{command}` shows the changes"))


def _executed(cell: ExecutedCell) -> dict[str, Any]:
    return {
        "run": "" if cell.execution_count is None else cell.execution_count,
        "status": status_text("" if cell.status is None else cell.status.value),
        "source": first_line(cell.source),
    }


@click.command()
@with_session
@click.argument("before")
@click.argument("after")
@options.as_json
def diff(session: Session, before: str, after: str, as_json: bool) -> None:
    """Compare the code, the metrics and the environment of two checkpoints.

    BEFORE and AFTER are the ids of checkpoints, or beginnings of them.
    """
    with session.read() as repository:
        pair = find_checkpoint(repository, before), find_checkpoint(repository, after)
        changes = repository.provenance.diff(pair[0].id, pair[1].id)
    if as_json:
        document = changes.to_json()
        write_json({"from": document.pop("before"), "to": document.pop("after"), **document})
        return
    write(*_diff_report(changes, pair))


def _diff_report(
    changes: CheckpointDiff, pair: tuple[NotebookCheckpoint, NotebookCheckpoint]
) -> Iterator[Any]:
    short = short_ids([one.id for one in pair])
    rows = [
        {
            "": side,
            "checkpoint": short[one.id],
            "epoch": one.epoch,
            "step": one.step,
            "created": local_time(one.created_at),
        }
        for side, one in zip(("before", "after"), pair, strict=True)
    ]
    yield table(rows)
    compared = "executed cells" if changes.executed else "the saved notebooks"
    if changes.sources:
        yield Text(f"\nCode ({compared})", style="bold")
        for change in changes.sources:
            yield _cell_diff(change)
    else:
        yield Text(f"\nThe code is the same ({compared}).")
    if changes.metrics:
        yield ""
        yield table(
            [{"metric": one.name, **_sides(one), "change": _delta(one)} for one in changes.metrics]
        )
    if changes.environment is None:
        yield Text("\nThe environments cannot be compared: they are not known for both.")
    elif changed := [*changes.environment.values, *changes.environment.packages]:
        yield ""
        yield table([{"environment": one.name, **_sides(one)} for one in changed])
    else:
        yield Text("\nThe environment is the same.")


def _cell_diff(change: CellChange) -> Text:
    """Return the change of a cell as a unified diff."""
    text = Text("\n").append(f"cell {printable(change.cell_id)}: {change.change}", style="bold")
    if change.change != "moved":
        before, after = ((one or "").splitlines() for one in (change.before, change.after))
        for line in _diff_lines(before, after):
            style = _DIFF_STYLES.get(line[:1])
            text.append("\n" + printable(line, keep="\t"), style=style)
    return text


def _diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    """Return a unified diff; of long texts, for which difflib is too slow, one range of lines."""
    if len(before) + len(after) <= _MAX_MATCHED:
        return islice(difflib.unified_diff(before, after, lineterm=""), 2, None)  # no file names
    start = _common_length(before, after)
    removed, added = before[start:], after[start:]
    if end := _common_length(removed[::-1], added[::-1]):
        removed, added = removed[:-end], added[:-end]
    header = f"@@ -{start + 1},{len(removed)} +{start + 1},{len(added)} @@"
    return [header, *(f"-{line}" for line in removed), *(f"+{line}" for line in added)]


def _common_length(before: Sequence[str], after: Sequence[str]) -> int:
    pairs = enumerate(zip(before, after, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(before), len(after)))


def _delta(change: MetricChange) -> str:
    return "" if change.delta is None else format_number(change.delta, "+")


def _sides(change: Change) -> dict[str, str]:
    return {"before": _value(change.before), "after": _value(change.after)}


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, (int, float)) else str(value)
