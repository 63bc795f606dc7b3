"""``jupyter axon export``: a record as a notebook file, or what led to a checkpoint as a script."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import NotFound
from ...mapping import export_notebook, notebook_file_name, notebook_text
from ...records import NotebookVersion, TrainingNotebook
from ...repository import NotebookRepository
from ..files import write_file
from ..output import write_line
from ..session import Session, with_session
from ..which import find_checkpoint, find_notebook, the_only


@click.command()
@with_session
@click.argument("which", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to; - is standard output. By default NAME.ipynb (or .py), here.",
)
@click.option(
    "--version",
    "version",
    metavar="VERSION_ID",
    help="This version in place of the newest; `jupyter axon show` lists them.",
)
@click.option(
    "--checkpoint",
    metavar="CHECKPOINT_ID",
    help="The notebook as it had been saved when this checkpoint was made; the beginning of an id will do.",
)
@click.option(
    "--script",
    is_flag=True,
    help="With --checkpoint: the code as it was executed before it, in that order.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def command(
    session: Session,
    which: str | None,
    output: str | None,
    version: str | None,
    checkpoint: str | None,
    script: bool,
    force: bool,
) -> None:
    """Write a record as a notebook file, and print the file's name.

    WHICH is its id, the beginning of its id, or the path of its notebook file. A checkpoint needs none.
    """
    if (which is None) == (checkpoint is None):
        raise click.UsageError("name either a record or, with --checkpoint, a checkpoint")
    if script and checkpoint is None:
        raise click.UsageError("--script is what led to a checkpoint: it needs --checkpoint")
    if version is not None and checkpoint is not None:
        raise click.UsageError(
            "a checkpoint has its version: give one of --version and --checkpoint"
        )
    with session.reading() as repository:
        if which is not None:
            name, text = _record(repository, which, version)
        else:
            name, text = _led_to(repository, checkpoint or "", script)
    octets = text.encode("utf-8", "backslashreplace")  # a script may quote half surrogate pairs
    if output == "-":
        click.echo(octets, nl=False)
        return
    path = Path(output) if output is not None else Path(name)
    write_file(path, octets, force=force)
    write_line(str(path))


def _record(repository: NotebookRepository, which: str, version: str | None) -> tuple[str, str]:
    """A file's name and its text."""
    notebook = find_notebook(repository, which, outputs=version is None)
    chosen: TrainingNotebook | NotebookVersion = notebook
    if version is not None:
        chosen = find_version(repository, notebook.id, version)
    return notebook_file_name(notebook.name), notebook_text(
        export_notebook(chosen.cells, chosen.metadata)
    )


def _led_to(repository: NotebookRepository, which: str, script: bool) -> tuple[str, str]:
    """A file's name and its text: the notebook of a checkpoint, or its script."""
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


def find_version(repository: NotebookRepository, notebook_id: str, version: str) -> NotebookVersion:
    """The version whose id is, or begins with, ``version``; raises NotFound."""
    ids = [one.id for one in repository.versions.list(notebook_id)]
    matching = [id for id in ids if id == version] or [
        id for id in ids if version and id.startswith(version)
    ]
    found = repository.versions.get(notebook_id, the_only(matching, "version", version))
    if found is None:  # gone meanwhile
        raise NotFound("version", version)
    return found
