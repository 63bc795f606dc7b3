"""``jupyter axon import``: notebook files as records of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ...errors import AxonError, InvalidData
from ...mapping import map_notebook, notebook_name, read_for_import
from ...records import NewNotebook
from ...repository import NotebookRepository
from ...sync.files import MAX_NOTEBOOK
from ..files import read_file
from ..group import FAILED
from ..output import note, progress, write_json, write_line
from ..session import Session, with_session

#: Repairs that are told of one file.
_SHOWN = 3


@click.command()
@with_session
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", help="The record's name; by default the file's. For a single file only.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A JSON array of {file, id} or {file, error}; {repaired} says what was.",
)
def command(session: Session, files: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """Make a record of each notebook file, outputs and all, and print its id.

    The records are not bound to the files: later changes of a file do not reach them. What Jupyter opens is imported; what was
    wrong in it is repaired in the record, which is said in one line. A file that is no notebook is reported, and the others
    are imported.
    """
    if name is not None and len(files) > 1:
        raise click.UsageError("--name is for a single file")
    results: list[dict[str, Any]] = []
    with session.writing() as repository, progress("Importing") as bar:
        for file in bar.track(files):
            try:
                results.append({"file": file, **_import(repository, session, file, name)})
            except (AxonError, OSError) as error:
                results.append({"file": file, "error": _reason(error)})
    for result in results:
        if "repaired" in result:
            note(f"{result['file']}: imported with repairs: {_in_a_line(result['repaired'])}")
    failed = [result for result in results if "error" in result]
    if as_json:
        write_json(results)
    else:
        for result in results:
            if "id" in result:
                line = result["id"] if len(files) == 1 else f"{result['id']}  {result['file']}"
                write_line(line)
    for result in failed:
        note(f"{result['file']}: {result['error']}")
    if failed:
        if len(files) > 1:
            note(f"{len(failed)} of {len(files)} files were not imported.")
        raise click.exceptions.Exit(FAILED)


def _import(
    repository: NotebookRepository, session: Session, file: str, name: str | None
) -> dict[str, Any]:
    mapped = map_notebook(read_for_import(read_file(file, MAX_NOTEBOOK)))
    new = NewNotebook(
        user_id=session.config.user_id,
        name=name if name is not None else notebook_name(file),
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
    )
    repaired = {"repaired": mapped.notes} if mapped.notes else {}
    return {"id": repository.create(new).id, **repaired}


def _in_a_line(notes: Sequence[str]) -> str:
    more = f"; and {len(notes) - _SHOWN} more" if len(notes) > _SHOWN else ""
    return "; ".join(notes[:_SHOWN]) + more


def _reason(error: AxonError | OSError) -> str:
    if isinstance(error, InvalidData):
        what = error.reason if error.path == "$" else str(error)
        return f"not a valid notebook: {what.removeprefix('not a notebook: ')}"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
