"""Find the records, checkpoints and runs that are named on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ..errors import NotFound
from ..records import NotebookCheckpoint, NotebookHeader, TrainingNotebook, TrainingRun
from ..repository import NotebookRepository
from ..userfiles import real_path
from .output import note

_MAX_CANDIDATES = 5


def choose(ids: Sequence[str], kind: str, name: str) -> str:
    """Return the one of the ``ids`` that ``name`` is or uniquely begins; raises NotFound."""
    if not name:
        raise NotFound(kind, name, f"an empty name; give the id of a {kind}, or its beginning")
    if name in ids:
        return name
    if not ids:
        raise NotFound(kind, name)
    if len(ids) > 1:
        candidates = ", ".join(ids[:_MAX_CANDIDATES]) + (", …" if ids[_MAX_CANDIDATES:] else "")
        message = f"{name} could be any of {len(ids)} {kind}s: {candidates}"
        raise NotFound(kind, name, message)
    return ids[0]


def find_notebook(
    repository: NotebookRepository, which: str, *, outputs: bool = True
) -> TrainingNotebook:
    """Return the record that ``which`` names; see :func:`find_notebook_id`."""
    notebook = repository.find_by_id(find_notebook_id(repository, which), outputs=outputs)
    if notebook is None:  # deleted meanwhile
        raise NotFound("notebook", which)
    return notebook


def find_notebook_id(repository: NotebookRepository, which: str) -> str:
    """Return the id of the record that an id, a unique beginning of one, a path or a name names.

    Raises
    ------
    NotFound
        If there is none, or more than one.
    """
    ids = repository.find_ids(which)
    is_path = which.endswith(".ipynb") or os.sep in which or (os.altsep or os.sep) in which
    if which not in ids and which and (is_path or Path(which).exists()):
        ids = _find_ids_at(repository, real_path(which))
    elif not ids and which:
        ids = [summary.id for summary in repository.list_all(name=which)]
    return choose(ids, "notebook", which)


def _find_ids_at(repository: NotebookRepository, path: str) -> list[str]:
    if bound := repository.list_all(path=path):
        return [summary.id for summary in bound]
    if Path(path).is_dir():
        raise NotFound("notebook", path, f"{path} is a folder, not a notebook")
    deleted = repository.list_deleted(path)
    if not deleted:
        raise NotFound("notebook", path, f"no record is bound to the file {path}")
    if len(deleted) == 1:
        note(f"The file {path} was deleted. This is its record.")
    return [summary.id for summary in deleted]


def find_checkpoint(repository: NotebookRepository, which: str) -> NotebookCheckpoint:
    """Return the checkpoint that an id or a unique beginning of one names; raises NotFound."""
    id = choose(repository.checkpoints.find_ids(which), "checkpoint", which)
    found = repository.get_checkpoint(id)
    if found is None:  # deleted meanwhile
        raise NotFound("checkpoint", which)
    return found


def find_run(
    repository: NotebookRepository,
    which: str,
    notebook_id: str | None = None,
    owner: str | None = None,
) -> TrainingRun:
    """Return the run that a key, name, number, id, or NOTEBOOK#RUN names.

    Raises
    ------
    NotFound
        If there is none, or more than one.
    """
    try:
        return repository.runs.find(which, notebook_id, owner)
    except ValueError as error:
        hint = "" if notebook_id else "; give a longer id, or NOTEBOOK#NUMBER"
        raise NotFound("run", which, f"{error}{hint}") from error
    except NotFound:
        notebook, separator, name = which.rpartition("#")
        if notebook_id is not None or not separator:
            raise
    return find_run(repository, name, find_notebook_id(repository, notebook), owner)


def find_notebook_and_run(
    repository: NotebookRepository, which: str, run: str | None
) -> tuple[str, str | None]:
    """Return the ids of a record and of one of its runs, if one is named; raises NotFound."""
    id = find_notebook_id(repository, which)
    return id, None if run is None else find_run(repository, run, id).id


def deleted_at(notebook: NotebookHeader) -> datetime | None:
    """Return when the file of a record was deleted, or None."""
    axon = notebook.metadata.extra.get("axon")
    moment = axon.get("deleted_at") if isinstance(axon, dict) else None
    try:
        return datetime.fromisoformat(moment.replace("Z", "+00:00")) if moment else None
    except (AttributeError, ValueError):
        return None
