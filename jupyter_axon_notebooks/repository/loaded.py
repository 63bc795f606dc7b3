"""What becomes of a dump that is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..store.dumpformat import TABLES, About, Total
from .dump import Fault


@dataclass
class TableLoaded:
    """What became of the documents of one table.

    ``read`` sums up those of the file that are in the store now, ``found`` the same ones as they were then read back.
    """

    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    read: Total = field(default_factory=Total)
    found: Total = field(default_factory=Total)

    def merge(self, other: TableLoaded) -> None:
        """Count in what ``other`` has."""
        self.added += other.added
        self.unchanged += other.unchanged
        self.replaced += other.replaced
        self.read.merge(other.read)
        self.found.merge(other.found)


@dataclass
class Loaded:
    """What became of a file.

    Attributes
    ----------
    about : About or None
        What it says of itself; None where it does not, so that it could not be verified.
    conflicts : list of Fault
        What is in the store and differs, and was left alone. Of a notebook, all that belongs to it was, but for
        runs, checkpoints and provenance that it lacked: one that was saved since gets those.
    damaged : list of Fault
        What is not as it should be in the file, or in the store where it would go, and was left out. Of a notebook, all
        that belongs to it was.
    foreign : list of Fault
        Notebooks of others than the user whom the database lets in, in one that keeps users apart; left out likewise.
    """

    about: About | None = None
    tables: dict[str, TableLoaded] = field(
        default_factory=lambda: {name: TableLoaded() for name in TABLES}
    )
    conflicts: list[Fault] = field(default_factory=list)
    damaged: list[Fault] = field(default_factory=list)
    foreign: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is in the store, and there as it is in the file."""
        return not (self.conflicts or self.damaged or self.foreign or self.differing)

    @property
    def differing(self) -> list[str]:
        """The tables of which the store gave back something else than it was given. There should be none."""
        return [
            name
            for name, table in self.tables.items()
            if table.read.to_json() != table.found.to_json()
        ]

    def merge(self, other: Loaded) -> None:
        """Count in what ``other`` has."""
        for name, table in self.tables.items():
            table.merge(other.tables[name])
        self.conflicts += other.conflicts
        self.damaged += other.damaged
        self.foreign += other.foreign
