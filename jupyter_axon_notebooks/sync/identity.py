"""Which record does a notebook file belong to?

A file is told by four things: the *origin* (which data folder, so which person and machine, sees it), its *path*
(absolute, with links resolved), the *id embedded* in its metadata, and what happened to it, if Jupyter said so. The
answer is never a guess that could join two notebooks: where two records would claim a file, it gets one of its own.

============================================================ ======================================================
what is seen                                                 whose it is
============================================================ ======================================================
1. Jupyter renamed the file, or a folder above it            the record's that was bound to the old path
2. a record of this origin is bound to the path              that record's, whatever id the file carries: a branch
                                                             was switched, or somebody else's version put there
3. the embedded id is that of a record of this origin and    that record's, and it moves here: the file was moved
   owner, whose file is gone, and no other record was ever   outside Jupyter, or is back after it was deleted
   bound to the path
4. as 3, but the record's file is still there                a new record's: this one is a copy
5. as 3, but the record has another origin                   a new record's: the notebook came with a clone
6. as 3, but the record belongs to somebody else             a new record's
7. as 3, but another record was bound to the path before     a new record's: the name was used before
8. as 3, but "still there" is the same file by another name  the record's (a link, or a file system that ignores case)
9. as 3, for several records whose files are gone            the one's whose file had this size and time when it was
                                                             last read, else the one's whose file had this name; a
                                                             new record's where neither tells one from the others
10. the embedded id is nobody's                              a new record's, which takes that id
11. no id is embedded, or a text that is no record id        a new record's
12. as 3, but the record's file was deleted in Jupyter, and  a new record's, unless the file has the size and time
    another record's file carries the id as well             that the deleted one had: it may be a copy of that other
============================================================ ======================================================

A file that a program made of a notebook to execute it (:attr:`.Save.is_copy`) gets a new record in cases 3, 8, 9 and 10 too.
A new record of a file whose embedded id is another's notes it as ``copied_from``. An embedded id, once present and valid,
is never rewritten: it is lineage. What stands in its place and is no record id is never remembered: the next save through
Jupyter replaces a text by the record's id, and leaves any other value alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..repository import Binding


@dataclass(frozen=True)
class Sighting:
    """A notebook file, as it was seen.

    Attributes
    ----------
    path : str
        Absolute, with links resolved; for contents that are not files, the contents API's path.
    owner : str
        Who owns the record, should it be a new one.
    embedded_id : str or None
        The record id that the file carries; None where it carries none, or a text that is none.
    file : dict
        ``size`` in bytes and ``mtime`` in nanoseconds.
    """

    origin: str
    path: str
    owner: str
    embedded_id: str | None = None
    file: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The file belongs to the record ``id``; ``moved``: which has to be bound to it first."""

    id: str
    moved: bool = False


@dataclass(frozen=True)
class New:
    """The file gets a record of its own, under ``id`` where one is free, and notes whose copy it is."""

    id: str | None = None
    copied_from: str | None = None


class KnownBindings(Protocol):
    """What identity asks of the store; :class:`.BindingRepository` answers it."""

    def find_by_path(self, origin: str, path: str) -> Binding | None:
        """Who is bound to a file."""

    def find_by_embedded_id(self, embedded_id: str) -> Sequence[Binding]:
        """The records whose file carries an id, and the record of that id itself."""

    def find_former(self, origin: str, path: str) -> Sequence[Binding]:
        """Who was bound to a file before."""


def identify(
    seen: Sighting,
    known: KnownBindings,
    is_gone: Callable[[str, str], bool] | None = None,
    *,
    bound: Binding | None = None,
) -> Known | New:
    """The record that a file belongs to; the cases are in the module's docstring.

    Parameters
    ----------
    is_gone : callable
        Whether what was at the first path is no longer there, or is what is seen at the second.
    bound : Binding, optional
        Who is bound to the path, where that was asked already.
    """
    bound = bound or known.find_by_path(seen.origin, seen.path)
    if bound is not None:
        return Known(bound.id)
    if seen.embedded_id is None:
        return New()
    carrying = known.find_by_embedded_id(seen.embedded_id)
    if not carrying:
        return New(id=seen.embedded_id)
    movable = [
        binding
        for binding in carrying
        if (binding.origin, binding.user_id) == (seen.origin, seen.owner)
        and _could_be_here(binding, seen, is_gone or file_is_gone, alone=len(carrying) == 1)
    ]
    if movable:
        others = {b.id for b in known.find_former(seen.origin, seen.path)}
        movable = [binding for binding in movable if others <= {binding.id}]
    moved = _the_one(movable, seen)
    return New(copied_from=seen.embedded_id) if moved is None else Known(moved.id, moved=True)


def _could_be_here(
    binding: Binding, seen: Sighting, is_gone: Callable[[str, str], bool], *, alone: bool
) -> bool:
    if binding.path is None:
        return alone or _is_same_file(binding, seen)
    return is_gone(binding.path, seen.path)


def _the_one(movable: Sequence[Binding], seen: Sighting) -> Binding | None:
    """The record that a file was moved away from, if that can be told."""
    name = os.path.basename(seen.path)
    same_file = [binding for binding in movable if _is_same_file(binding, seen)]
    same_name = [binding for binding in movable if os.path.basename(binding.path or "") == name]
    return next((found[0] for found in (movable, same_file, same_name) if len(found) == 1), None)


def _is_same_file(binding: Binding, seen: Sighting) -> bool:
    return bool(seen.file) and binding.file == seen.file


def file_is_gone(path: str, seen_path: str) -> bool:
    """Whether no file is at ``path`` any more, or only the one that is at ``seen_path`` too.

    Of contents that are not files it cannot be told, and a copy is never wrong.
    """
    if not os.path.isabs(path):
        return False
    try:
        return os.path.samefile(path, seen_path)
    except FileNotFoundError:
        return not os.path.exists(path)
    except OSError:
        return False  # it cannot be told
