"""``jupyter axon provenance``: where a checkpoint came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.text import Text

from ...printable import printable
from ...provenance import CheckpointProvenance, Environment, ExecutedCell, Flag, ResumedFrom
from ...records import NotebookCheckpoint
from ..output import Column, fields, first_line, local_time, status_text, table, write, write_json
from ..session import Session, with_session
from ..which import find_checkpoint


@click.command()
@with_session
@click.argument("checkpoint")
@click.option(
    "--json", "as_json", is_flag=True, help="All of it as JSON, packages and sources included."
)
def command(session: Session, checkpoint: str, as_json: bool) -> None:
    """Show where a checkpoint came from: what was executed, in what, and what speaks against getting it again.

    CHECKPOINT is its id, or the beginning of it. `export --checkpoint` gives the notebook and the script.
    """
    with session.reading() as repository:
        found = find_checkpoint(repository, checkpoint)
        provenance = repository.provenance.get(found.id)
    if as_json:
        document = provenance.to_json()
        document.pop("version", None)
        write_json(document)
        return
    write(*_report(found, provenance))


def _report(checkpoint: NotebookCheckpoint, provenance: CheckpointProvenance) -> Iterator[Any]:
    yield fields(_header(checkpoint, provenance.environment))
    if (resumed := provenance.resumed_from) is not None:
        yield from _resumed(resumed)
    yield ""
    if not provenance.executed:
        yield Text("What was executed is not known: the checkpoint was not made in a kernel.")
        return
    if provenance.flags:
        yield table(["flag", "what it says"], map(_flag, provenance.flags))
    else:
        yield Text("Nothing speaks against it: the notebook ran as it stands, in order.")
    yield ""
    columns: list[Column] = [
        ("run", {"justify": "right"}),
        ("status", {"no_wrap": True}),
        ("source", {"overflow": "ellipsis", "no_wrap": True}),
    ]
    yield table(columns, map(_executed, provenance.executed))


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
        state = {True: ", with changes", False: "", None: ""}[git.dirty]
        yield "git", f"{git.commit[:12]}{f' on {git.branch}' if git.branch else ''}{state}"


def _resumed(resumed: ResumedFrom) -> Iterator[Text]:
    epoch = (
        ", which is not there any more" if resumed.epoch is None else f" (epoch {resumed.epoch})"
    )
    run = "" if resumed.run_id is None else f" of run {resumed.run_id}"
    yield Text(printable(f"resumed from checkpoint {resumed.checkpoint_id}{epoch}{run}"))
    if resumed.code_changed:
        command = f"jupyter axon diff {resumed.checkpoint_id} {resumed.last_checkpoint_id}"
        yield Text(printable(f"the code was changed in between: `{command}` shows it"))


def _flag(flag: Flag) -> list[Any]:
    return [Text(flag.kind.value.replace("_", " "), style="yellow"), flag.message]


def _executed(cell: ExecutedCell) -> list[Any]:
    status = "" if cell.status is None else cell.status.value
    count = "" if cell.execution_count is None else cell.execution_count
    return [count, status_text(status), first_line(cell.source)]
