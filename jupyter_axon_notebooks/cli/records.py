"""The commands about notebook records: list, show, import, export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ..errors import AxonError, InvalidData, NotFound
from ..mapping import (
    export_notebook,
    map_notebook,
    notebook_file_name,
    notebook_name,
    notebook_text,
    read_for_import,
)
from ..printable import shorten
from ..records import (
    CellType,
    NewNotebook,
    NotebookCell,
    NotebookStatus,
    NotebookSummary,
    NotebookVersion,
    TrainingNotebook,
    TrainingRun,
)
from ..repository import NotebookRepository
from ..repository.run_queries import config_text
from ..sync.files import MAX_NOTEBOOK
from . import options
from .checkpoints import checkpoint_table, name_runs
from .files import new_file, read_file
from .group import FAILED
from .lookup import choose, deleted_at, find_checkpoint, find_notebook
from .output import (
    fields,
    first_line,
    fit,
    local_time,
    note,
    progress,
    short_ids,
    status_text,
    table,
    write,
    write_json,
    write_line,
)
from .session import Session, with_session

#: Versions, runs and checkpoints that `show` lists, and the metric by which it shows the best.
_MAX_LISTED = 5
#: Repairs that are listed for one imported file.
_MAX_REPAIRS = 3
_RANKED_BY = "loss"
_MAX_PARAMETER = 60
_MAX_CONFIG = 120


@click.command()
@with_session
@click.option("--all-users", is_flag=True, help="Include the records of all users.")
@click.option("--user", metavar="NAME", help="List the records of this user.")
@click.option(
    "--status",
    type=click.Choice([status.value for status in NotebookStatus]),
    help="Only records with this status.",
)
@click.option("--tag", help="Only records with this tag.")
@click.option(
    "--search", metavar="TEXT", help="Only records with this text in their name or description."
)
@options.limit
@options.as_json
def list_records(
    session: Session,
    all_users: bool,
    user: str | None,
    status: str | None,
    tag: str | None,
    search: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List notebook records, the last changed first."""
    if all_users and user is not None:
        raise click.UsageError("--all-users and --user cannot be used together")
    session.user = owner = None if all_users else user or session.settings.user_id
    wanted = NotebookStatus(status) if status is not None else None
    with session.read() as repository:
        if owner is None:
            found = repository.list_all(limit, status=wanted, tag=tag, text=search)
        else:
            found = repository.list_by_user(owner, limit, status=wanted, tag=tag, text=search)
        total = repository.count(owner, status=wanted, tag=tag, text=search)
    if as_json:
        write_json([summary.to_json() for summary in found])
    elif found:
        _write_records(found, all_users)
    else:
        conditions = [
            *([f"the status {status}"] if status is not None else []),
            *([f"the tag {tag}"] if tag is not None else []),
            *([f"{search!r} in its name or description"] if search is not None else []),
        ]
        of_owner = "" if owner is None else f" of {owner}"
        has = f" has {' and '.join(conditions)}" if conditions else ""
        note(f"No record{of_owner}{has}." if conditions else f"No records{of_owner}.")
    if total > len(found):
        note(f"{len(found)} of {total}; --limit shows more.")


def _write_records(found: Sequence[NotebookSummary], with_owner: bool) -> None:
    short = short_ids([summary.id for summary in found])
    rows = []
    for summary in found:
        deleted = deleted_at(summary)
        rows.append(
            {
                "name": summary.name,
                **({"owner": summary.user_id} if with_owner else {}),
                "status": status_text(summary.status.value),
                "cells": summary.cell_count,
                "updated": local_time(summary.updated_at),
                "id": short[summary.id],
                "path": summary.path or (f"deleted {local_time(deleted)}" if deleted else ""),
            }
        )
    write(table(rows))


@click.command()
@with_session
@click.argument("which")
@options.as_json
def show(session: Session, which: str, as_json: bool) -> None:
    """Show one record.

    WHICH is its id, the beginning of its id, or the path of its notebook file.
    """
    with session.read() as repository:
        notebook = find_notebook(repository, which)
        if as_json:
            write_json(notebook.to_json())
            return
        newest = repository.list_checkpoints(notebook.id, _MAX_LISTED)
        best = repository.get_best_checkpoint(notebook.id, _RANKED_BY, True)
        versions = repository.versions.list(notebook.id, _MAX_LISTED)
        runs = repository.runs.list(notebook.id, _MAX_LISTED, with_metrics=False)
        names = name_runs(repository, [*newest, *([] if best is None else [best])])
        write(fields(_header(notebook, repository)))
    if notebook.cells:
        cells = enumerate(notebook.cells, 1)
        write("", table([_cell_row(number, cell) for number, cell in cells]))
    if len(versions) > 1:
        ids = short_ids([one.id for one in versions])
        rows = [
            {"version": ids[one.id], "cells": one.cell_count, "created": local_time(one.created_at)}
            for one in versions
        ]
        write("", table(rows))
    if runs:
        write("", _run_table(runs))
    if newest:
        write("", checkpoint_table(newest, runs=names))
    if best is not None:
        write("", f"Best {_RANKED_BY}:", checkpoint_table([best], [_RANKED_BY], runs=names))


def _header(
    notebook: TrainingNotebook, repository: NotebookRepository
) -> Iterator[tuple[str, Any]]:
    metadata = notebook.metadata
    axon = metadata.extra.get("axon")
    axon = axon if isinstance(axon, dict) else {}
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
    if isinstance(source := axon.get("executed_from"), dict):
        yield "executed by", source.get("program")
        yield "input", source.get("path")
        yield "input record", source.get("notebook_id")
        parameters = source.get("parameters")
        values = parameters.items() if isinstance(parameters, dict) else ()
        texts = (f"{name}={shorten(json.dumps(one), _MAX_PARAMETER)}" for name, one in values)
        yield "parameters", ", ".join(texts)
    for name in ("copied_from", "other_record", "replaced_by"):
        yield name.replace("_", " "), axon.get(name)
    yield "file deleted", local_time(deleted_at(notebook))
    yield "versions", repository.versions.count(notebook.id)
    yield "runs", repository.runs.count(notebook.id)
    yield "checkpoints", repository.checkpoints.count(notebook.id)
    notes = axon.get("notes")
    for remark in notes if isinstance(notes, list) else []:
        yield "note", remark


def _cell_row(number: int, cell: NotebookCell) -> dict[str, Any]:
    return {
        "cell": number,
        "type": cell.nbformat_type or cell.cell_type.value,
        "status": status_text(cell.status.value) if cell.cell_type is CellType.CODE else "",
        "run": "" if cell.execution_count is None else cell.execution_count,
        "source": first_line(cell.source),
        "outputs": summarize_outputs(cell),
    }


def _run_table(runs: Sequence[TrainingRun]) -> Any:
    ids = short_ids([run.id for run in runs])
    rows = [
        {
            "number": "" if run.number is None else run.number,
            "name": run.display_name,
            "status": status_text(run.status.value),
            "config": _describe_config(run),
            "started": local_time(run.started_at),
            "id": ids[run.id],
        }
        for run in runs
    ]
    return table(fit(rows, ["started"])[0])


def _describe_config(run: TrainingRun) -> str:
    """Return the configuration, behind a remark if it was not given by the user."""
    text = config_text(run, _MAX_CONFIG)
    label = "" if run.config_source is None else run.config_source.label
    return f"{label}: {text}" if text and label else text


def summarize_outputs(cell: NotebookCell) -> str:
    """Return the kinds of a cell's outputs: ``2 stream, image/png, ValueError``."""
    kinds: Counter[str] = Counter()
    for output in cell.outputs:
        if output.output_type == "error":
            kinds[output.error_name or "error"] += 1
        elif isinstance(output.data, dict) and output.data:
            rich = (kind for kind in output.data if not kind.startswith("text/plain"))
            kinds[next(rich, "text/plain")] += 1
        else:
            kinds[output.name or output.output_type] += 1
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())


@click.command()
@with_session
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", help="The record's name, by default the file's. For a single file only.")
@options.as_json
def import_files(session: Session, files: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """Create a record from each notebook file, with its outputs, and print its id.

    The records are not bound to the files: later changes of a file do not change its record. Errors
    in a notebook that Jupyter can open are repaired in the record, and reported. A file that is not
    a notebook is reported, and the other files are imported.
    """
    if name is not None and len(files) > 1:
        raise click.UsageError("--name can be used with a single file only")
    results: list[dict[str, Any]] = []
    with session.open(create=True) as opened, progress("Importing") as bar:
        for file in bar.track(files):
            try:
                mapped = map_notebook(read_for_import(read_file(file, MAX_NOTEBOOK)))
                new = NewNotebook(
                    user_id=session.settings.user_id,
                    name=name if name is not None else notebook_name(file),
                    cells=mapped.cells,
                    metadata=mapped.metadata,
                    status=mapped.status,
                )
                repaired = {"repaired": mapped.notes} if mapped.notes else {}
                results.append({"file": file, "id": opened.repository.create(new).id, **repaired})
            except AxonError as error:
                results.append({"file": file, "error": _import_error(error)})
            except OSError as error:
                results.append({"file": file, "error": error.strerror or str(error)})
    if as_json:
        write_json(results)
    for result in results:
        if repairs := result.get("repaired"):
            more = f"; and {len(repairs) - _MAX_REPAIRS} more" if repairs[_MAX_REPAIRS:] else ""
            listed = "; ".join(repairs[:_MAX_REPAIRS]) + more
            note(f"{result['file']}: imported with repairs: {listed}")
        if "error" in result:
            note(f"{result['file']}: {result['error']}")
        elif not as_json:
            write_line(result["id"] if len(files) == 1 else f"{result['id']}  {result['file']}")
    if failed := sum("error" in result for result in results):
        if len(files) > 1:
            note(f"{failed} of {len(files)} files were not imported.")
        raise click.exceptions.Exit(FAILED)


def _import_error(error: AxonError) -> str:
    if isinstance(error, InvalidData):
        reason = error.reason if error.path == "$" else str(error)
        return f"not a valid notebook: {reason.removeprefix('not a notebook: ')}"
    return str(error)


@click.command()
@with_session
@click.argument("which", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The file to write; - is standard output. By default NAME.ipynb or NAME.py in the "
    "current folder.",
)
@click.option(
    "--version",
    "version",
    metavar="VERSION_ID",
    help="Export this version instead of the newest; `jupyter axon show` lists them.",
)
@click.option(
    "--checkpoint",
    metavar="CHECKPOINT_ID",
    help="Export the notebook as it was saved when this checkpoint was made. The beginning of "
    "an id suffices.",
)
@click.option(
    "--script",
    is_flag=True,
    help="With --checkpoint: export the code that was executed before it, in that order.",
)
@options.force
def export_record(
    session: Session,
    which: str | None,
    output: str | None,
    version: str | None,
    checkpoint: str | None,
    script: bool,
    force: bool,
) -> None:
    """Write a record to a notebook file, and print the file's name.

    WHICH is its id, the beginning of its id, or the path of its notebook file. It is not needed
    with --checkpoint.
    """
    if (which is None) == (checkpoint is None):
        raise click.UsageError("name either a record or, with --checkpoint, a checkpoint")
    if script and checkpoint is None:
        raise click.UsageError("--script needs --checkpoint")
    if version is not None and checkpoint is not None:
        raise click.UsageError("--version and --checkpoint cannot be used together")
    with session.read() as repository:
        if which is not None:
            name, text = _export_notebook(repository, which, version)
        else:
            name, text = _export_checkpoint(repository, checkpoint or "", script)
    octets = text.encode("utf-8", "backslashreplace")  # a script may quote half surrogate pairs
    if output == "-":
        click.echo(octets, nl=False)
        return
    path = Path(output) if output is not None else Path(name)
    with new_file(path, force=force) as file:
        file.write(octets)
    write_line(str(path))


def _export_notebook(
    repository: NotebookRepository, which: str, version: str | None
) -> tuple[str, str]:
    """Return the name and the text of a notebook file."""
    notebook = find_notebook(repository, which, outputs=version is None)
    exported: TrainingNotebook | NotebookVersion = notebook
    if version is not None:
        exported = _find_version(repository, notebook.id, version)
    text = notebook_text(export_notebook(exported.cells, exported.metadata))
    return notebook_file_name(notebook.name), text


def _export_checkpoint(repository: NotebookRepository, which: str, script: bool) -> tuple[str, str]:
    """Return the name and the text of the notebook file of a checkpoint, or of its script."""
    checkpoint = find_checkpoint(repository, which)
    notebook = repository.find_summary(checkpoint.notebook_id)
    if notebook is None:
        raise NotFound("notebook", checkpoint.notebook_id)
    name = notebook_file_name(notebook.name)
    if not script:
        saved = repository.provenance.get_notebook(checkpoint.id)
        return name, notebook_text(export_notebook(saved.cells, saved.metadata))
    text = repository.provenance.get_script(checkpoint.id)
    if text is None:
        raise NotFound("code of checkpoint", checkpoint.id)
    return f"{name.removesuffix('.ipynb')}.py", text


def _find_version(
    repository: NotebookRepository, notebook_id: str, version: str
) -> NotebookVersion:
    """Return the version whose id is, or uniquely begins with, ``version``; raises NotFound."""
    listed = repository.versions.list(notebook_id)
    matching = [one.id for one in listed if one.id.startswith(version)]
    found = repository.versions.get(notebook_id, choose(matching, "version", version))
    if found is None:  # removed meanwhile
        raise NotFound("version", version)
    return found
