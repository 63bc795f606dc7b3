"""What is where in a dump, by notebook: all that is kept of it in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

from ..errors import InvalidData
from ..store.dumpfile import DumpFile, Found
from ..store.dumpformat import undumped
from ..store.schema import CHECKPOINTS, NOTEBOOKS
from .dump import Fault

#: Documents, and characters in them, that a short transaction takes.
_MANY = 500
_LONG = 4_000_000


class Group:
    """Where in the file a notebook is, and what belongs to it.

    Attributes
    ----------
    referring : dict
        By version, the first checkpoint that refers to it: where that is.
    """

    def __init__(self) -> None:
        self.notebook: int | None = None
        self.places: dict[str, array[int]] = {}
        self.referring: dict[str, int] = {}
        self._length = 0

    def add(self, found: Found) -> None:
        """Note where a document is; raises InvalidData where the notebook is there twice."""
        self._length += found.length
        if found.table != NOTEBOOKS.name:
            self.places.setdefault(found.table, array("q")).append(found.place)
            version_id = found.document.get("version_id")
            if found.table == CHECKPOINTS.name and isinstance(version_id, str):
                self.referring.setdefault(version_id, found.place)
        elif self.notebook is None:
            self.notebook = found.place
        else:
            raise InvalidData("$.id", "another notebook of the file has it already")

    def __len__(self) -> int:
        return sum(map(len, self.places.values())) + (self.notebook is not None)

    @property
    def is_large(self) -> bool:
        """Whether to store it takes longer than others should have to wait."""
        return len(self) > _MANY or self._length > _LONG


class Sorted(NamedTuple):
    """A file that was read through and found good: what is where in it, by notebook, and what is damaged."""

    file: DumpFile
    groups: dict[str, Group]
    damaged: list[Fault]


def sort_dump(file: DumpFile, progress: Callable[[int], None] = lambda _done: None) -> Sorted:
    """Read a file through, and find out what belongs to which notebook; only that is kept in memory.

    Raises
    ------
    DumpRefused
        As :meth:`.store.dumpfile.DumpFile.scan` does.
    """
    groups: dict[str, Group] = {}
    damaged: list[Fault] = []
    for number, found in enumerate(file.scan(), 1):
        progress(number)
        named = f"#{found.key}"
        try:
            if not isinstance(found.document, dict):
                raise InvalidData("$", "expected an object")
            named, own = undumped(found.document)
            owner = named if found.table == NOTEBOOKS.name else own.get("notebook_id")
            if not isinstance(owner, str):
                raise InvalidData("$.notebook_id", "expected a text")
            groups.setdefault(owner, Group()).add(found)
        except InvalidData as error:
            damaged.append(Fault(found.table, named, str(error)))
    return Sorted(file, groups, damaged)
