"""Read and verify archives, and JSON files with the tables of a store."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ..errors import ArchiveRefused, InvalidData
from ..states.layout import STATE_NAMES, can_name_folders
from ..store.schema import NOTEBOOKS, SCHEMA_VERSION
from ..userfiles import open_regular
from .documents import PLAIN_TABLES
from .format import (
    CHUNK,
    FORMAT,
    MANIFEST,
    MANIFEST_TABLE,
    RECORDS,
    SERIES,
    STATES,
    TABLES,
    DocumentProblem,
    Manifest,
    MemberDigest,
    Progress,
    TableSummary,
    digest,
    no_progress,
    series_name,
    split_document_id,
)

#: The largest JSON file that does not have one document a line, in bytes.
_MAX_SIZE = 1 << 30
#: Compressed data is suspicious if it unpacks to more than this, in bytes, and to this many times
#: its size.
_SUSPICIOUS_SIZE, _SUSPICIOUS_RATIO = 1 << 30, 200
_SERIES_NAME = re.compile(rf"{SERIES}/[0-9a-f]{{64}}\.bin")
#: The errors of zipfile for damaged members and for compressions that it does not know.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError)


class ArchiveReader:
    """A verified archive, open for reading.

    Opening it reads and verifies all of it. The documents are then in a temporary database on the
    disk, so memory use does not depend on their number.

    Attributes
    ----------
    manifest : Manifest or None
        None for plain documents, whose completeness cannot be verified.
    tables : dict
        The number and the digest of the documents that were found, by table.
    ignored_tables : list of str
        Tables that are not loaded: those that no store has, and of plain documents also histories
        and provenance.
    problems : list of DocumentProblem
        Documents that cannot be loaded.

    Raises
    ------
    ArchiveRefused
        If it is not an archive, not complete, or written by a newer version.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path, progress: Progress = no_progress) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        self.tables = {name: TableSummary() for name in TABLES}
        self.ignored_tables: list[str] = []
        self.problems: list[DocumentProblem] = []
        self._progress = progress
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            raise ArchiveRefused(f"{path} is a folder; expected an archive")
        self._file = open_regular(path)
        self._documents = sqlite3.connect("")  # a temporary file, which SQLite removes
        self._documents.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE documents (position INTEGER PRIMARY KEY, notebook_id, name, id, text);"
            "CREATE UNIQUE INDEX by_notebook ON documents (notebook_id, name, id);"
        )
        try:
            magic = self._file.read(4)
            self._file.seek(0)
            if not magic:
                raise self._refused("the file is empty")
            if magic == b"PK\x03\x04":
                self._read_zip()
            else:
                self._read_records(self._file)
        except _ZIP_ERRORS as error:
            self.close()
            raise self._refused(f"it is not a complete zip file: {error}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and remove the temporary database."""
        self._documents.close()
        self._file.close()

    def count_documents(self) -> dict[str, int]:
        """Return the number of documents by the id of their notebook, in the order of the file."""
        rows = self._documents.execute(
            "SELECT notebook_id, count(*) FROM documents GROUP BY notebook_id ORDER BY "
            "min(position)"
        )
        return {json.loads(id): count for id, count in rows}

    def documents(self, table: str, notebook_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a notebook in one of the tables."""
        with closing(self._documents.cursor()) as cursor:
            of_notebook = json.dumps(notebook_id), table
            sql = "SELECT text FROM documents WHERE notebook_id = ? AND name = ? ORDER BY position"
            for (text,) in cursor.execute(sql, of_notebook):
                yield json.loads(text)

    def states(self, notebook_id: str) -> Iterator[tuple[str, str, MemberDigest]]:
        """Yield checkpoint id, file name and digest of the state files of a notebook."""
        for name, expected in self.manifest.members.items() if self.manifest is not None else ():
            parts = name.split("/")
            if parts[:2] == [STATES, notebook_id]:
                yield parts[2], parts[3], expected

    def open_state(self, notebook_id: str, checkpoint_id: str, name: str) -> IO[bytes]:
        """Open a state file."""
        assert self._zip is not None
        return self._zip.open(f"{STATES}/{notebook_id}/{checkpoint_id}/{name}")

    def open_series(self, run_key: str) -> IO[bytes] | None:
        """Open the series of a run, by the id of its document; None if it has none."""
        name = series_name(run_key)
        if self._zip is None or name not in self._zip.NameToInfo:
            return None
        return self._zip.open(name)

    def _refused(self, reason: str) -> ArchiveRefused:
        return ArchiveRefused(f"{self.path} cannot be loaded: {reason}")

    def _read_zip(self) -> None:
        archive = self._zip = zipfile.ZipFile(self._file)
        names, packed = set[str](), 0
        for info in archive.infolist():
            name = info.filename
            if not _is_known_member(name):
                raise self._refused(
                    f"it has the unexpected member {name[:80]!r}. If a newer version wrote it, "
                    "upgrade jupyter-axon-notebooks"
                )
            if name in names:
                raise self._refused(f"it has two members {name}")
            if info.flag_bits & 1:
                raise self._refused("it is encrypted; unpack it, and pack it without a password")
            if info.file_size > max(_SUSPICIOUS_SIZE, _SUSPICIOUS_RATIO * info.compress_size):
                raise self._refused(
                    f"{name} unpacks to {info.file_size:,} bytes, over {_SUSPICIOUS_RATIO} times "
                    "its size"
                )
            if name.startswith(STATES) and info.compress_type != zipfile.ZIP_STORED:
                raise self._refused(f"its member {name} is compressed; state files never are")
            if info.header_offset < 0:  # zipfile would seek there
                raise self._refused(f"the position of its member {name} is damaged")
            packed += info.compress_size
            names.add(name)
        if packed > os.fstat(self._file.fileno()).st_size:
            raise self._refused("its members overlap")
        if MANIFEST not in names:
            raise self._refused(f"it has no {MANIFEST}, so it is not an archive")
        try:
            document = json.loads(archive.read(MANIFEST))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"its {MANIFEST} is not JSON: {error}") from None
        members = self._read_manifest(document).members
        if differing := sorted({RECORDS, *members} ^ (names - {MANIFEST})):
            raise self._refused(f"its member {differing[0]} is missing, or not in its {MANIFEST}")
        with archive.open(RECORDS) as file:
            self._read_records(file)
        for name in sorted(names - {MANIFEST}):
            with archive.open(name) as file:
                if members.get(name) != digest(iter(partial(file.read, CHUNK), b"")):
                    raise self._refused(f"its member {name} is damaged: its SHA-256 differs")

    def _read_manifest(self, document: Any) -> Manifest:
        for name, known in (("format", FORMAT), ("schema_version", SCHEMA_VERSION)):
            value = document.get(name) if isinstance(document, dict) else None
            if isinstance(value, int) and value > known:
                raise self._refused(
                    f"its {name.replace('_', ' ')} is {value}, and this version reads up to "
                    f"{known}: upgrade jupyter-axon-notebooks"
                )
        try:
            self.manifest = Manifest.from_json(document)
        except InvalidData as error:
            raise self._refused(f"its manifest is damaged: {error}") from None
        return self.manifest

    def _read_records(self, file: IO[bytes]) -> None:
        """Read all documents into the temporary database, and verify their number."""
        seen: set[str] = set()
        try:
            for number, (table, key, document) in enumerate(_tables(file), 1):
                seen.add(table)
                if table == MANIFEST_TABLE and key is not None:
                    if self.manifest is None:
                        self._read_manifest(document)
                elif table in TABLES and key is not None:
                    self._add_document(table, key, document)
                self._progress(number, None)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"it is not JSON, or was cut off: {error}") from None
        except sqlite3.Error as error:
            raise self._refused(
                f"it cannot be unpacked into {tempfile.gettempdir()}: {error}. Free some space "
                "there, or set TMPDIR to another folder"
            ) from None
        if not seen & {*TABLES, MANIFEST_TABLE}:
            raise ArchiveRefused(
                f"{self.path} is not an archive: it has none of the tables {', '.join(TABLES)}"
            )
        if self.manifest is None:
            self.ignored_tables = sorted(seen.difference(PLAIN_TABLES))
            return
        self.ignored_tables = sorted(seen.difference(TABLES, [MANIFEST_TABLE]))
        for name, found in self.tables.items():
            expected = self.manifest.tables.get(name, TableSummary())
            if found.count != expected.count:
                raise self._refused(
                    f"table {name} should have {expected.count} documents, and has {found.count}"
                )
            if found.sha256 != expected.sha256:
                raise self._refused(f"documents of table {name} are damaged, or were changed")

    def _add_document(self, table: str, key: str, document: Any) -> None:
        id = f"#{key}"
        try:
            if not isinstance(document, dict):
                raise InvalidData("$", "expected an object")
            self.tables[table].add(document)
            id, stored = split_document_id(document)
            owner = id if table == NOTEBOOKS.name else stored.get("notebook_id")
            if not isinstance(owner, str):
                raise InvalidData("$.notebook_id", "expected a text")
            inserted = self._documents.execute(
                "INSERT OR IGNORE INTO documents (notebook_id, name, id, text) VALUES (?, ?, ?, ?)",
                (json.dumps(owner), table, json.dumps(id), json.dumps(document)),
            )
            if not inserted.rowcount:
                raise InvalidData("$.id", "the file has another document with this id")
        except InvalidData as error:
            self.problems.append(DocumentProblem("damaged", table, id, str(error)))


def _is_known_member(name: str) -> bool:
    parts = name.split("/")
    is_state = len(parts) == 4 and parts[0] == STATES and parts[3] in STATE_NAMES
    is_known = name in (RECORDS, MANIFEST) or _SERIES_NAME.fullmatch(name) is not None
    return is_known or (is_state and can_name_folders(parts[1], parts[2]))


def _tables(file: IO[bytes]) -> Iterator[tuple[str, str | None, Any]]:
    """Yield table, key and document of each document, and the name alone of each table.

    Files with one document a line, as this package writes them, are read line by line, others at
    once. Raises ValueError or RecursionError if the file is not a JSON object of objects.
    """
    first, second = file.readline(CHUNK), file.readline(CHUNK)
    if first == b"{\n" and second.startswith(b'"'):
        yield from _tables_by_line(chain([second], file))
        return
    text = first + second + file.read(_MAX_SIZE)
    if len(text) > _MAX_SIZE:
        raise ValueError(f"it has more than {_MAX_SIZE:,} bytes, and not one document a line")
    tables = json.loads(text)
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise ValueError("expected an object of tables, which are objects themselves")
    for table, documents in tables.items():
        yield table, None, None
        for key, document in documents.items():
            yield table, key, document


def _tables_by_line(lines: Iterator[bytes]) -> Iterator[tuple[str, str | None, Any]]:
    table: str | None = None
    number = 1
    for number, line in enumerate(lines, 2):
        text = line.strip().removesuffix(b",").decode()
        try:
            if text == "}" and table is None:
                if any(map(bytes.strip, lines)):
                    raise ValueError("something follows the end")
                return
            if text == "}":
                table = None
            elif table is None:
                [table] = json.loads("{" + text + "}}")
                yield table, None, None
            else:
                [(key, document)] = json.loads("{" + text + "}").items()
                yield table, key, document
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    raise ValueError(f"it ends after line {number}")
