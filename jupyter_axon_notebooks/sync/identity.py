"""Deciding which record a notebook file belongs to.

The decision uses the *origin* (the id of the Jupyter data directory), the file's *path* (absolute,
links resolved), the *embedded id* in its metadata, and renames that Jupyter reported. It never
joins two notebooks: where two records could claim a file, the file gets a new record.

========================================================== ========================================
observation                                                record
========================================================== ========================================
1. Jupyter renamed the file or a parent folder             the one that was bound to the old path
2. a record of this origin is bound to the path            that one, whatever id is embedded: a
                                                           branch was switched, or it was replaced
3. the embedded id belongs to a record of this origin and  that one, bound to the new path: the
   owner, its file is missing, and no other record was     file was moved outside Jupyter
   ever bound to the path
4. as 3, but the record's file still exists                a new one: this file is a copy
5. as 3, but the record has another origin                 a new one: the file came with a clone
6. as 3, but the record has another owner                  a new one
7. as 3, but another record was bound to the path before   a new one: the path was reused
8. as 4, but both paths are the same file                  that one (a link, or a file system that
                                                           ignores case)
9. as 3, for several records whose files are missing       the one whose file had this size and
                                                           time, else this name; else a new one
10. the embedded id belongs to no record                   a new one with that id
11. no valid id is embedded                                a new one
12. as 3, but the record's file was deleted in Jupyter,    a new one, unless the file has size and
    and another file carries the id too                    time of the deleted one
========================================================== ========================================

A copy that a program made to execute a notebook gets a new record in cases 3, 8, 9 and 10 too. The
new record of a file whose embedded id belongs to another record has that id as ``copied_from``. A
valid embedded id is never rewritten, because it shows the lineage. Invalid text in its place is
replaced by the next save through Jupyter; a value of another type is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..repository import Binding


@dataclass(frozen=True)
class ObservedFile:
    """The identifying properties of a notebook file.

    Attributes
    ----------
    path : str
        The absolute real path; the contents path for contents that are not files.
    owner : str
        The owner of a new record.
    embedded_id : str or None
        The valid record id in the file's metadata.
    file : dict
        The file's ``size`` in bytes and ``mtime`` in nanoseconds.
    """

    origin: str
    path: str
    owner: str
    embedded_id: str | None = None
    file: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ExistingRecord:
    """An existing record; if ``is_moved``, it must be bound to the file's path."""

    id: str
    is_moved: bool = False


@dataclass(frozen=True)
class NewRecord:
    """A new record, with a predetermined ``id`` or the id of the record it was ``copied_from``."""

    id: str | None = None
    copied_from: str | None = None


class BindingLookup(Protocol):
    """The queries on bindings that :func:`identify` needs."""

    def find_by_path(self, origin: str, path: str) -> Binding | None:
        """Return the binding to a file."""

    def find_by_embedded_id(self, embedded_id: str) -> Sequence[Binding]:
        """Return the bindings of files with an embedded id, and of the record with that id."""

    def find_former(self, origin: str, path: str) -> Sequence[Binding]:
        """Return the bindings that a file had before."""


def identify(
    file: ObservedFile,
    bindings: BindingLookup,
    is_gone: Callable[[str, str], bool] | None = None,
) -> ExistingRecord | NewRecord:
    """Return the record that a file belongs to; see the table in the module's docstring.

    Parameters
    ----------
    is_gone : callable, optional
        Returns whether the first path is missing or leads to the same file as the second;
        :func:`file_is_gone` by default.
    """
    bound = bindings.find_by_path(file.origin, file.path)
    if bound is not None:
        return ExistingRecord(bound.id)
    if file.embedded_id is None:
        return NewRecord()
    carrying = bindings.find_by_embedded_id(file.embedded_id)
    if not carrying:
        return NewRecord(id=file.embedded_id)
    gone = is_gone or file_is_gone

    def is_movable(binding: Binding) -> bool:
        if (binding.origin, binding.user_id) != (file.origin, file.owner):
            return False
        if binding.path is None:  # deleted in Jupyter
            return len(carrying) == 1 or _had_same_file(binding, file)
        return gone(binding.path, file.path)

    movable = [binding for binding in carrying if is_movable(binding)]
    if movable:
        former_ids = {b.id for b in bindings.find_former(file.origin, file.path)}
        movable = [binding for binding in movable if former_ids <= {binding.id}]
    name = os.path.basename(file.path)
    same_file = [binding for binding in movable if _had_same_file(binding, file)]
    same_name = [binding for binding in movable if os.path.basename(binding.path or "") == name]
    for candidates in (movable, same_file, same_name):
        if len(candidates) == 1:
            return ExistingRecord(candidates[0].id, is_moved=True)
    return NewRecord(copied_from=file.embedded_id)


def _had_same_file(binding: Binding, file: ObservedFile) -> bool:
    return bool(file.file) and binding.file == file.file


def file_is_gone(path: str, observed_path: str) -> bool:
    """Return whether no file is at ``path``, or only the one that is also at ``observed_path``.

    Returns False if this cannot be determined: treating a file as a copy is always safe.
    """
    if not os.path.isabs(path):
        return False
    try:
        return os.path.samefile(path, observed_path)
    except FileNotFoundError:
        return not os.path.exists(path)
    except OSError:
        return False
