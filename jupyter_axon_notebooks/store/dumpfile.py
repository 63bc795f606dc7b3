"""Dumps that are read: line by line if laid out in lines, as this package writes them, else in memory, as TinyDB does.

What has no table ``axonml_dump``, as upstream's dumps and those that people make, is read as well, unverified.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import DumpRefused, InvalidData
from ..userfiles import FileTooLarge, open_regular, read_at_most
from .codec import encode
from .dumpformat import ABOUT, FORMAT, TABLES, About, TableAbout, Total
from .schema import SCHEMA_VERSION

#: How much is read at once: documents, and bytes.
_BATCH = 500
_BATCH_LENGTH = 4_000_000
#: The largest dump that is read in memory, and the longest line of one that is read by lines, in bytes.
_LONGEST = 2 << 30

_BEGINS_TABLE = re.compile(rb'"([^"\\]+)": \{\r?\n')
_DOCUMENT = re.compile(rb'"([^"\\]+)": ')


class Found(NamedTuple):
    """A document in a file: its table, its key there, where :meth:`DumpFile.batches` finds it again, and how long it is."""

    table: str
    key: str
    document: Any
    place: int
    length: int


class DumpFile:
    """A dump to be read; a context manager that closes it.

    Attributes
    ----------
    about : About or None
        Known after :meth:`scan`; None where the file does not say.
    totals : dict
        What the file has, by table; known after :meth:`scan`.
    unknown : list of str
        Tables that no store has.

    Raises
    ------
    OSError
        When the file cannot be read.
    DumpRefused
        For a folder, and for what can only be read once.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise DumpRefused(
                f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, not a dump"
            )
        self.path = path
        self.about: About | None = None
        self.totals = {name: Total() for name in TABLES}
        self.unknown: list[str] = []
        self._seen: set[str] = set()
        self._file = open_regular(path)
        # What is not laid out in lines, once it is read.
        self._documents: list[Any] | None = None

    def __enter__(self) -> DumpFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _refused(self, why: str) -> DumpRefused:
        return DumpRefused(f"{self.path} cannot be loaded: {why}")

    def scan(self) -> Iterator[Found]:
        """Every document of the tables that a store has, in the order of the file.

        Raises
        ------
        DumpRefused
            At the end at the latest, when the file is not JSON, not a dump, of a newer format, or not what
            ``axonml_dump`` says a whole one has.
        """
        if os.fstat(self._file.fileno()).st_size == 0:
            raise self._refused("the file is empty")
        about: Any = None
        for found in self._scan():
            if found.table == ABOUT:
                about = found.document
                self._check_format(about)
            elif found.table in self.totals:
                if isinstance(found.document, dict):
                    self.totals[found.table].add(found.document)
                yield found
        if not self._seen & {*TABLES, ABOUT}:
            raise DumpRefused(
                f"{self.path} is not a dump: it has none of the tables {', '.join(TABLES)}"
            )
        self.unknown = sorted(self._seen - {*TABLES, ABOUT})
        if ABOUT in self._seen:
            self._verify(about)

    def _check_format(self, about: Any) -> None:
        for name, known in (("format", FORMAT), ("schema_version", SCHEMA_VERSION)):
            given = about.get(name) if isinstance(about, dict) else None
            if not isinstance(given, int):
                raise self._refused(f"its table {ABOUT} has no {name}")
            if given > known:
                raise self._refused(
                    f"its {name.replace('_', ' ')} is {given}, this package knows up to {known}: "
                    "upgrade jupyter-axon-notebooks"
                )

    def _verify(self, about: Any) -> None:
        try:
            self.about = About.from_json(about)
        except InvalidData as error:
            raise self._refused(f"its table {ABOUT} is damaged: {error}") from None
        faults = [
            _fault(name, total, self.about.tables.get(name))
            for name, total in self.totals.items()
            if not self.about.has(name, total)
        ]
        if faults:
            raise self._refused(
                f"{'; '.join(faults)}. If it was changed on purpose, remove its table {ABOUT}: "
                "it is then loaded unverified"
            )

    def _scan(self) -> Iterator[Found]:
        self._file.seek(0)
        if self._file.read(3) != b'{\n"':
            yield from self._scan_whole()
            return
        self._file.seek(0)
        try:
            yield from self._scan_lines()
        except _OtherLayout:
            self._seen.clear()
            yield from self._scan_whole()

    def _scan_lines(self) -> Iterator[Found]:
        table: str | None = None
        documents = place = 0
        for number, line in enumerate(iter(lambda: self._file.readline(_LONGEST + 1), b""), 1):
            if len(line) > _LONGEST:
                raise self._refused(f"line {number} has more than {_LONGEST:,} bytes")
            stripped = line.strip()
            if number > 1 and table is None:
                if stripped == b"}":
                    if self._file.read(4096).strip():
                        raise self._refused(
                            f"line {number + 1}: something follows the end of the dump"
                        )
                    return
                begins = _BEGINS_TABLE.fullmatch(line)
                if begins is None:
                    raise self._broken(number, line, "not the beginning of a table")
                table, documents = begins[1].decode(errors="replace"), 0
                self._seen.add(table)
            elif table is not None and stripped in (b"}", b"},"):
                table = None
            elif table is not None:
                try:
                    key, document = _parsed(line)
                except ValueError as error:
                    if not documents and len(self._seen) == 1 and line.endswith(b"\n"):
                        raise _OtherLayout from None
                    raise self._broken(number, line, f"in table {table}: {error}") from None
                documents += 1
                yield Found(table, key, document, place, len(line))
            place += len(line)
        where = (
            "between two tables"
            if table is None
            else f"in table {table}, after {documents} documents"
        )
        raise self._refused(f"it was cut off {where}")

    def _broken(self, number: int, line: bytes, what: str) -> DumpRefused:
        if not line.endswith(b"\n"):
            return self._refused(f"it was cut off in line {number}")
        return self._refused(f"line {number}: {what}")

    def _scan_whole(self) -> Iterator[Found]:
        self._file.seek(0)
        try:
            tables = json.loads(read_at_most(self._file, _LONGEST, self.path))
        except FileTooLarge as error:
            raise self._refused(f"{error.strerror}, and is not laid out in lines") from None
        except (ValueError, RecursionError) as error:
            raise self._refused(f"it is not JSON: {error}") from None
        if not isinstance(tables, dict) or not all(
            isinstance(table, dict) for table in tables.values()
        ):
            raise DumpRefused(
                f"{self.path} is not a dump: expected an object of tables, objects themselves"
            )
        self._seen.update(tables)
        self._documents = []
        for table, documents in tables.items():
            for key, document in documents.items():
                self._documents.append(document)
                yield Found(table, key, document, len(self._documents) - 1, len(encode(document)))

    def batches(self, places: Iterable[int]) -> Iterator[list[Any]]:
        """The documents at ``places``, so many at once as fit into memory in any case."""
        batch: list[Any] = []
        length = 0
        for place in places:
            if self._documents is not None:
                batch.append(self._documents[place])
            else:
                self._file.seek(place)
                line = self._file.readline()
                length += len(line)
                batch.append(_parsed(line)[1])
            if len(batch) >= _BATCH or length >= _BATCH_LENGTH:
                yield batch
                batch, length = [], 0
        if batch:
            yield batch


def _fault(table: str, total: Total, expected: TableAbout | None) -> str:
    count = 0 if expected is None else expected.count
    if total.count != count:
        return f"table {table} should have {count} documents, and has {total.count}"
    return f"documents of table {table} are not as they were dumped"


class _OtherLayout(Exception):
    """A file that only begins as one in lines does."""


def _parsed(line: bytes) -> tuple[str, Any]:
    """Key and document of a line; raises ValueError."""
    begins = _DOCUMENT.match(line)
    if begins is None:
        raise ValueError("not a document on a line of its own")
    text = line[begins.end() :].rstrip(b"\r\n").removesuffix(b",")
    try:
        return begins[1].decode(), json.loads(text.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in column {begins.end() + error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
