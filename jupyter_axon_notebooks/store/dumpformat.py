"""Dumps: the tables of a store as JSON that plain TinyDB opens.

A dump of :class:`DumpWriter`'s has each document on a line of its own, so it is written and read line by line, however
large it is. TinyDB numbers documents, and ours have texts for ids: the number is the key, the id stands in the
document's ``id``, or where that is missing or another, in ``axon_id``. The last table, ``axonml_dump``, tells what a
whole dump has: for each table how many documents, and a sum over them which does not depend on their order or on how
the file is laid out. TinyDB may thus write the file anew, and it is still known for the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import IO, Any

from .._version import __version__
from ..errors import InvalidData
from ..records import Moment, Record, now
from .codec import encode
from .schema import COLLECTIONS, SCHEMA_VERSION

#: Raised whenever a reader of the format before could misread a dump.
FORMAT = 1
#: The tables of a dump, in this order, and the one that follows them.
TABLES = tuple(collection.name for collection in COLLECTIONS)
ABOUT = "axonml_dump"
_ID = "axon_id"


def canonical(value: Any) -> str:
    """``value`` as JSON that is the same for the same value: keys sorted, nothing but ASCII, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class Total:
    """How many documents, and the sum of the SHA-256 digests of their canonical JSON, modulo 2²⁵⁶."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, document: Mapping[str, Any]) -> None:
        """Count a document in."""
        self.count += 1
        self._sum += int.from_bytes(hashlib.sha256(canonical(document).encode()).digest(), "big")

    def merge(self, other: Total) -> None:
        """Count in what ``other`` has."""
        self.count += other.count
        self._sum += other._sum

    @property
    def sha256(self) -> str:
        """The sum, in hex."""
        return f"{self._sum % 2**256:064x}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``axonml_dump``."""
        return {"count": self.count, "sha256": self.sha256}


class TableAbout(Record, kw_only=True):
    """What a whole dump has of one table."""

    count: int
    sha256: str


class About(Record, kw_only=True):
    """What a dump says of itself; ``notebooks`` are the ids it was asked for, None when it was all of the store."""

    format: int
    schema_version: int
    package: str
    created_at: Moment
    store_id: str
    tables: dict[str, TableAbout]
    notebooks: list[str] | None = None

    def has(self, table: str, total: Total) -> bool:
        """Whether ``total`` is what the dump has of ``table``."""
        expected = self.tables.get(table)
        return total.to_json() == (Total() if expected is None else expected).to_json()


def dumped(doc_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A document as a dump has it, with its id in it."""
    if document.get("id") == doc_id and _ID not in document:
        return dict(document)
    return {_ID: doc_id, **{name: value for name, value in document.items() if name != _ID}}


def undumped(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and document of what :func:`dumped` made; raises InvalidData where it has no id."""
    own = dict(document)
    name = _ID if _ID in own else "id"
    doc_id = own.pop(_ID) if name == _ID else own.get("id")
    if not isinstance(doc_id, str):
        raise InvalidData(
            f"$.{name}", "required, but missing" if doc_id is None else "expected a text"
        )
    return doc_id, own


class DumpWriter:
    """Writes a dump, document by document.

    Each table is begun once; :meth:`finish` makes the dump a whole one.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._between = b"{\n"
        self.totals: dict[str, Total] = {}

    def begin(self, table: str) -> None:
        """Begin a table; what is added next belongs to it."""
        self.totals[table] = Total()
        self._begin(table)

    def _begin(self, table: str) -> None:
        self._file.write(self._between + f'"{table}": {{'.encode())
        self._between, self._number = b"\n},\n", 0

    def add(self, document: Mapping[str, Any]) -> None:
        """Write a document, as :func:`dumped` made it."""
        self.totals[next(reversed(self.totals))].add(document)
        self._add(document)

    def _add(self, document: Mapping[str, Any]) -> None:
        self._number += 1
        comma = "," if self._number > 1 else ""
        self._file.write(f'{comma}\n"{self._number}": {encode(document)}'.encode())

    def finish(self, store_id: str, notebooks: list[str] | None) -> About:
        """Write what the dump is, as its end."""
        tables = {name: TableAbout(**total.to_json()) for name, total in self.totals.items()}
        about = About(
            format=FORMAT,
            schema_version=SCHEMA_VERSION,
            package=__version__,
            created_at=now(),
            store_id=store_id,
            tables=tables,
            notebooks=notebooks,
        )
        self._begin(ABOUT)
        self._add(
            {**about.to_json(), "tables": {name: table.to_json() for name, table in tables.items()}}
        )
        self._file.write(b"\n}\n}\n")
        return about
