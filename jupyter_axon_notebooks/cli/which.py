"""From what a person types to the record that is meant."""

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

_CANDIDATES_SHOWN = 5
_KEYS_SHOWN = 8


class Ambiguous(NotFound):
    """A name that fits more than one."""

    def __init__(self, kind: str, name: str, ids: Sequence[str]) -> None:
        super().__init__(kind, name)
        listed = ", ".join(ids[:_CANDIDATES_SHOWN]) + (
            ", …" if len(ids) > _CANDIDATES_SHOWN else ""
        )
        self.args = (f"{name} could be any of {len(ids)} {kind}s: {listed}",)


def find_notebook(
    repository: NotebookRepository, which: str, *, outputs: bool = True
) -> TrainingNotebook:
    """The record that ``which`` names, whole or without outputs; raises as :func:`find_id`, and RecordDamaged."""
    notebook = repository.find_by_id(find_id(repository, which), outputs=outputs)
    if notebook is None:  # deleted meanwhile
        raise NotFound("notebook", which)
    return notebook


def find_id(repository: NotebookRepository, which: str) -> str:
    """The id of the record that ``which`` names: its id, the beginning of it that no other has, or its file's path.

    Raises
    ------
    NotFound
        When there is none; :class:`Ambiguous` when there are several.
    """
    if not which:
        raise _Nameless(
            "notebook",
            "an empty text names no record; give an id, the beginning of one, or a notebook's path",
        )
    ids = repository.find_ids(which)
    if which in ids:
        return which
    if _is_path(which):
        ids = _ids_at(repository, which)
    if not ids and Path(which).is_dir():
        raise _Nameless("notebook", f"{which} is a folder, not a notebook")
    return the_only(ids, "notebook", which)


def find_checkpoint(repository: NotebookRepository, which: str) -> NotebookCheckpoint:
    """The checkpoint that ``which`` names: its id, or the beginning of it that no other has; raises as :func:`find_id`."""
    if not which:
        raise _Nameless(
            "checkpoint", "an empty text names no checkpoint; give an id, or the beginning of one"
        )
    ids = repository.checkpoints.find_ids(which)
    found = repository.get_checkpoint(which if which in ids else the_only(ids, "checkpoint", which))
    if found is None:  # deleted meanwhile
        raise NotFound("checkpoint", which)
    return found


def find_run(repository: NotebookRepository, notebook_id: str, which: str) -> TrainingRun:
    """The run of a record that ``which`` names: its id, its key (the newest run with it), or the beginning of its id.

    Raises
    ------
    NotFound
        When there is none, with keys of its runs; :class:`Ambiguous` when there are several.
    """
    runs = repository.runs.list(notebook_id)
    found = [run for run in runs if run.id == which] or [run for run in runs if run.key == which][
        :1
    ]
    if which and not found:
        found = [run for run in runs if run.id.startswith(which)]
    if not found:
        keys = list(dict.fromkeys(run.key for run in runs if run.key is not None))
        listed = ", ".join(keys[:_KEYS_SHOWN]) + (", …" if len(keys) > _KEYS_SHOWN else "")
        known = f"; keys of its runs: {listed}" if keys else ""
        raise _Nameless("run", f"the record {notebook_id} has no run {which!r}{known}")
    if len(found) > 1:
        raise Ambiguous("run", which, [run.id for run in found])
    return found[0]


def deletion(notebook: NotebookHeader) -> datetime | None:
    """When a record's file was deleted; None where it was not, or nobody noted when."""
    noted = notebook.metadata.extra.get("axon")
    moment = noted.get("deleted_at") if isinstance(noted, dict) else None
    try:
        return (
            datetime.fromisoformat(moment.replace("Z", "+00:00"))
            if isinstance(moment, str)
            else None
        )
    except ValueError:
        return None


def _ids_at(repository: NotebookRepository, which: str) -> list[str]:
    path = real_path(which)
    if bound := repository.list_all(path=path):
        return [summary.id for summary in bound]
    deleted = repository.list_deleted(path)
    if not deleted and not Path(path).is_dir():
        raise _Nameless("notebook", f"no record is bound to the file {path}")
    if len(deleted) == 1:
        note(f"The file {path} was deleted. This is its record.")
    return [summary.id for summary in deleted]


def the_only(ids: Sequence[str], kind: str, name: str) -> str:
    """The one id in ``ids``; raises NotFound and Ambiguous."""
    if not ids:
        raise NotFound(kind, name)
    if len(ids) > 1:
        raise Ambiguous(kind, name, ids)
    return ids[0]


def _is_path(which: str) -> bool:
    separators = {os.sep, os.altsep or os.sep}
    return (
        which.endswith(".ipynb")
        or any(sign in which for sign in separators)
        or Path(which).is_file()
    )


class _Nameless(NotFound):
    """A name that cannot be one."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, "")
        self.args = (why,)
