"""``jupyter axon show``: one record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.text import Text

from ...printable import shorten
from ...records import CellType, NotebookCell, NotebookCheckpoint, TrainingNotebook, VersionSummary
from ...repository import NotebookRepository
from ..checkpoints import metrics_text
from ..output import (
    Column,
    fields,
    first_line,
    local_time,
    short_ids,
    status_text,
    table,
    write,
    write_json,
)
from ..session import Session, with_session
from ..which import deletion, find_notebook

_NEWEST = 5
_RANKED_BY = "loss"
#: Characters of a parameter's value that are shown.
_LONGEST = 60


@click.command()
@with_session
@click.argument("which")
@click.option(
    "--json", "as_json", is_flag=True, help="The record as JSON, cells and outputs included."
)
def command(session: Session, which: str, as_json: bool) -> None:
    """Show one record.

    WHICH is its id, the beginning of its id, or the path of its notebook file.
    """
    with session.reading() as repository:
        notebook = find_notebook(repository, which)
        if as_json:
            write_json(notebook.to_json())
            return
        newest = repository.list_checkpoints(notebook.id, _NEWEST)
        best = repository.get_best_checkpoint(notebook.id, _RANKED_BY, True)
        versions = repository.versions.list(notebook.id, _NEWEST)
        write(fields(_header(notebook, repository)))
    if notebook.cells:
        write("", _cells(notebook.cells))
    if len(versions) > 1:
        write("", _versions(versions))
    if newest:
        write("", _checkpoints(newest, best))


def _versions(newest: Sequence[VersionSummary]) -> Any:
    short = short_ids([one.id for one in newest])
    columns: list[Column] = [
        ("version", {"no_wrap": True}),
        ("cells", {"justify": "right", "no_wrap": True}),
        ("created", {"no_wrap": True}),
        ("id", {"no_wrap": True}),
    ]
    rows = [
        ["newest" if index == 0 else "", one.cell_count, local_time(one.created_at), short[one.id]]
        for index, one in enumerate(newest)
    ]
    return table(columns, rows)


def _header(
    notebook: TrainingNotebook, repository: NotebookRepository
) -> Iterator[tuple[str, Any]]:
    metadata = notebook.metadata
    noted = metadata.extra.get("axon")
    noted = noted if isinstance(noted, dict) else {}
    yield "name", Text(notebook.name, style="bold")
    yield "id", notebook.id
    yield "status", status_text(notebook.status.value)
    yield "owner", notebook.user_id
    yield "description", notebook.description
    yield "kernel", metadata.kernel
    yield "language", metadata.language
    yield "framework", metadata.framework
    yield "tags", ", ".join(metadata.tags)
    yield "model", notebook.model_id
    yield "dataset", notebook.dataset_id
    yield "path", notebook.path
    yield "created", local_time(notebook.created_at)
    yield "updated", local_time(notebook.updated_at)
    yield "last sync", local_time(notebook.synced_at)
    yield from _executed_from(noted.get("executed_from"))
    yield "copied from", noted.get("copied_from")
    yield "other record", noted.get("other_record")
    yield "replaced by", noted.get("replaced_by")
    yield "file deleted", local_time(deletion(notebook))
    yield "versions", repository.versions.count(notebook.id)
    yield "checkpoints", repository.checkpoints.count(notebook.id)
    notes = noted.get("notes")
    for remark in notes if isinstance(notes, list) else []:
        yield "note", remark


def _executed_from(link: Any) -> Iterator[tuple[str, Any]]:
    """What a program executed a copy of, and with which parameters."""
    if not isinstance(link, dict):
        return
    parameters = link.get("parameters")
    given = parameters.items() if isinstance(parameters, dict) else ()
    yield "executed by", link.get("program")
    yield "input", link.get("path")
    yield "input record", link.get("notebook_id")
    yield (
        "parameters",
        ", ".join(f"{name}={shorten(json.dumps(value), _LONGEST)}" for name, value in given),
    )


def _cells(cells: Sequence[NotebookCell]) -> Any:
    columns: list[Column] = [
        ("cell", {"justify": "right"}),
        "type",
        ("status", {"no_wrap": True}),
        ("run", {"justify": "right"}),
        ("source", {"overflow": "ellipsis", "no_wrap": True}),
        "outputs",
    ]
    rows = [
        [
            number,
            cell.nbformat_type or cell.cell_type.value,
            status_text(cell.status.value) if cell.cell_type is CellType.CODE else "",
            "" if cell.execution_count is None else cell.execution_count,
            first_line(cell.source),
            outputs_summary(cell),
        ]
        for number, cell in enumerate(cells, 1)
    ]
    return table(columns, rows)


def outputs_summary(cell: NotebookCell) -> str:
    """What a cell put out, in a few words: ``2 stream, image/png, ValueError``."""
    kinds: Counter[str] = Counter()
    for output in cell.outputs:
        if output.output_type == "error":
            kinds[output.error_name or "error"] += 1
        elif isinstance(output.data, dict) and output.data:
            kinds[_richest(output.data)] += 1
        else:
            kinds[output.name or output.output_type] += 1
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())


def _richest(bundle: dict[str, Any]) -> str:
    return next((kind for kind in bundle if not kind.startswith("text/plain")), "text/plain")


def _checkpoints(newest: Sequence[NotebookCheckpoint], best: NotebookCheckpoint | None) -> Any:
    labelled = [("newest" if index == 0 else "", one) for index, one in enumerate(newest)]
    if best is not None:
        labelled.append((f"best {_RANKED_BY}", best))
    short = short_ids([one.id for _, one in labelled])
    columns: list[Column] = [
        ("checkpoint", {"no_wrap": True}),
        ("epoch", {"justify": "right", "no_wrap": True}),
        ("step", {"justify": "right", "no_wrap": True}),
        "metrics",
        ("created", {"no_wrap": True}),
        ("id", {"no_wrap": True}),
    ]
    rows = [
        [
            label,
            one.epoch,
            one.step,
            metrics_text(one.metrics),
            local_time(one.created_at),
            short[one.id],
        ]
        for label, one in labelled
    ]
    return table(columns, rows)
