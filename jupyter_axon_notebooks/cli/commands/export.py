"""``jupyter axon export``: a record as a notebook file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ...errors import NotFound
from ...mapping import export_notebook, notebook_file_name, notebook_text
from ...records import NotebookVersion, TrainingNotebook
from ...repository import NotebookRepository
from ..files import write_file
from ..session import Session, with_session
from ..which import find_notebook, the_only


@click.command()
@with_session
@click.argument("which")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to; - is standard output. By default NAME.ipynb, here."
)
@click.option(
    "--version",
    "version",
    metavar="VERSION_ID",
    help="This version in place of the newest; `jupyter axon show` lists them.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def command(session: Session, which: str, output: str | None, version: str | None, force: bool) -> None:
    """Write a record as a notebook file, and print the file's name.

    WHICH is its id, the beginning of its id, or the path of its notebook file.
    """
    with session.reading() as repository:
        notebook = find_notebook(repository, which)
        chosen: TrainingNotebook | NotebookVersion = notebook
        if version is not None:
            chosen = find_version(repository, notebook.id, version)
    text = notebook_text(export_notebook(chosen.cells, chosen.metadata))
    if output == "-":
        click.echo(text.encode(), nl=False)
        return
    path = Path(output) if output is not None else Path(notebook_file_name(notebook.name))
    write_file(path, text.encode(), force=force)
    click.echo(str(path).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def find_version(repository: NotebookRepository, notebook_id: str, version: str) -> NotebookVersion:
    """The version whose id is, or begins with, ``version``; raises NotFound."""
    ids = [one.id for one in repository.list_versions(notebook_id)]
    matching = [id for id in ids if id == version] or [id for id in ids if version and id.startswith(version)]
    found = repository.get_version(notebook_id, the_only(matching, "version", version))
    if found is None:  # gone meanwhile
        raise NotFound("version", version)
    return found
