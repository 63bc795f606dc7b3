"""From what a person types to the record that is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import NotFound
from ..records import NotebookSummary, TrainingNotebook
from ..repository import NotebookRepository

_CANDIDATES_SHOWN = 5


class Ambiguous(NotFound):
    """A name that fits more than one."""

    def __init__(self, kind: str, name: str, ids: Sequence[str]) -> None:
        super().__init__(kind, name)
        listed = ", ".join(ids[:_CANDIDATES_SHOWN]) + (", …" if len(ids) > _CANDIDATES_SHOWN else "")
        self.args = (f"{name} could be any of {len(ids)} {kind}s: {listed}",)


def find_notebook(repository: NotebookRepository, which: str) -> TrainingNotebook:
    """The record that ``which`` names: its id, the beginning of it that no other has, or the path of its file.

    Raises
    ------
    NotFound
        When there is none; :class:`Ambiguous` when there are several.
    """
    if (notebook := repository.find_by_id(which)) is not None:
        return notebook
    if _is_path(which):
        path = os.path.realpath(which)
        ids = [summary.id for summary in repository.list_all(path=path)]
        if not ids:
            raise _NoRecord(path)
    else:
        ids = matching_ids(which, repository.list_all())
    notebook = repository.find_by_id(the_only(ids, "notebook", which))
    if notebook is None:  # deleted meanwhile
        raise NotFound("notebook", which)
    return notebook


def matching_ids(prefix: str, items: Sequence[NotebookSummary]) -> list[str]:
    """The ids that begin with ``prefix``."""
    return [item.id for item in items if prefix and item.id.startswith(prefix)]


def the_only(ids: Sequence[str], kind: str, name: str) -> str:
    """The one id in ``ids``; raises NotFound and Ambiguous."""
    if not ids:
        raise NotFound(kind, name)
    if len(ids) > 1:
        raise Ambiguous(kind, name, ids)
    return ids[0]


def _is_path(which: str) -> bool:
    separators = {os.sep, os.altsep or os.sep}
    return which.endswith(".ipynb") or any(sign in which for sign in separators) or Path(which).is_file()


class _NoRecord(NotFound):
    def __init__(self, path: str) -> None:
        super().__init__("notebook", path)
        self.args = (f"no record is bound to the file {path}",)
