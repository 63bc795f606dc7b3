"""Read and verify archives, and JSON files with the tables of a store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import ArchiveRefused, InvalidData
from ..states.layout import STATE_NAMES, can_name_folders
from ..store.schema import NOTEBOOKS, SCHEMA_VERSION
from ..userfiles import open_regular
from .documents import PLAIN_TABLES
from .format import (
    FORMAT,
    MANIFEST,
    MANIFEST_TABLE,
    RECORDS,
    STATES,
    TABLES,
    DocumentProblem,
    Manifest,
    MemberDigest,
    Progress,
    TableDigest,
    no_progress,
    split_document_id,
)

_CHUNK = 1 << 20
#: The largest manifest, and the largest JSON file that does not have one document a line, in bytes.
_MAX_SIZE = 1 << 30
#: Compressed data is suspicious if it unpacks to more than this, in bytes, and to this many times
#: its size.
_SUSPICIOUS_SIZE, _SUSPICIOUS_RATIO = 1 << 30, 200


class ArchiveReader:
    """A verified archive, open for reading.

    Opening it reads and verifies all of it. The documents are then in a temporary database on the
    disk, so memory use does not depend on their number.

    Attributes
    ----------
    manifest : Manifest or None
        None for plain documents, whose completeness cannot be verified.
    digests : dict
        The number and digest of the documents that were found, by table.
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
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ArchiveRefused(f"{path} is {kind}; expected an archive")
        self.path = path
        self.manifest: Manifest | None = None
        self.digests = {name: TableDigest() for name in TABLES}
        self.ignored_tables: list[str] = []
        self.problems: list[DocumentProblem] = []
        self._progress = progress
        self._zip: zipfile.ZipFile | None = None
        self._file = open_regular(path)
        self._documents = sqlite3.connect("")  # a temporary file, which SQLite removes
        self._documents.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE documents (position INTEGER PRIMARY KEY, notebook_id, name, id, text);"
            "CREATE UNIQUE INDEX by_notebook ON documents (notebook_id, name, id);"
        )
        try:
            self._read()
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
            EOFError,
        ) as error:
            self.close()
            raise self._refused(f"it is not a complete zip file: {error}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def states(self, notebook_id: str | None = None) -> Iterator[tuple[str, str, MemberDigest]]:
        """Yield checkpoint id, file name and digest of state files, of one notebook or of all."""
        for name, digest in self.manifest.members.items() if self.manifest is not None else ():
            parts = name.split("/")
            if parts[0] == STATES and notebook_id in (None, parts[1]):
                yield parts[2], parts[3], digest

    def open_state(self, notebook_id: str, checkpoint_id: str, name: str) -> IO[bytes]:
        """Open a state file."""
        assert self._zip is not None
        return self._zip.open(f"{STATES}/{notebook_id}/{checkpoint_id}/{name}")

    def _refused(self, reason: str) -> ArchiveRefused:
        return ArchiveRefused(f"{self.path} cannot be loaded: {reason}")

    def _read(self) -> None:
        if os.fstat(self._file.fileno()).st_size == 0:
            raise self._refused("the file is empty")
        magic = self._file.read(4)
        self._file.seek(0)
        if magic != b"PK\x03\x04":
            self._read_records(self._file)
            return
        self._zip = zipfile.ZipFile(self._file)
        members = {info.filename: info for info in self._zip.infolist()}
        if MANIFEST not in members:
            raise self._refused(f"it has no {MANIFEST}, so it is not an archive")
        if members[MANIFEST].file_size > _MAX_SIZE:
            raise self._refused(f"its {MANIFEST} is larger than {_MAX_SIZE:,} bytes")
        try:
            document = json.loads(self._zip.read(members.pop(MANIFEST)))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"its {MANIFEST} is not JSON: {error}") from None
        manifest = self._read_manifest(document, MANIFEST)
        self._check_members(members, manifest)
        with self._zip.open(RECORDS) as file:
            self._read_records(file)
        for name, expected in manifest.members.items():
            digest = hashlib.sha256()
            with self._zip.open(name) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != expected.sha256:
                raise self._refused(f"its member {name} is damaged: its SHA-256 differs")

    def _read_manifest(self, document: Any, source: str) -> Manifest:
        for name, known in (("format", FORMAT), ("schema_version", SCHEMA_VERSION)):
            value = document.get(name) if isinstance(document, dict) else None
            if not isinstance(value, int):
                raise self._refused(f"its {source} has no {name}")
            if value > known:
                raise self._refused(
                    f"its {name.replace('_', ' ')} is {value}, and this version reads up to "
                    f"{known}: "
                    "upgrade jupyter-axon-notebooks"
                )
        try:
            self.manifest = Manifest.from_json(document)
        except InvalidData as error:
            raise self._refused(f"its {source} is damaged: {error}") from None
        return self.manifest

    def _check_members(self, found: dict[str, zipfile.ZipInfo], manifest: Manifest) -> None:
        """Refuse members that are not in the manifest, or that unpack to too much."""
        if missing := sorted({RECORDS, *manifest.members} - found.keys()):
            raise self._refused(f"its member {missing[0]} is missing")
        for name, info in found.items():
            if name not in manifest.members or not _is_known_member(name):
                raise self._refused(
                    f"it has the unexpected member {name[:80]!r}. If a newer version wrote it, "
                    f"upgrade "
                    "jupyter-axon-notebooks"
                )
            if info.file_size != manifest.members[name].size:
                raise self._refused(f"its member {name} is damaged: its size differs")
            if name != RECORDS and info.compress_type != zipfile.ZIP_STORED:
                raise self._refused(f"its member {name} is compressed; state files never are")
        if (
            sum(info.compress_size for info in found.values())
            > os.fstat(self._file.fileno()).st_size
        ):
            raise self._refused("its members overlap")
        size, temporary = found[RECORDS].file_size, tempfile.gettempdir()
        if size > max(_SUSPICIOUS_SIZE, _SUSPICIOUS_RATIO * found[RECORDS].compress_size):
            raise self._refused(
                f"{RECORDS} unpacks to {size:,} bytes, over {_SUSPICIOUS_RATIO} times its size"
            )
        if size > (free := shutil.disk_usage(temporary).free):
            raise self._refused(
                f"{RECORDS} takes {size:,} bytes in {temporary}, which has {free:,} left. Free "
                f"some space there, "
                "or set TMPDIR to another folder"
            )

    def _read_records(self, file: IO[bytes]) -> None:
        """Read all documents into the temporary database, and verify their number and digests."""
        seen: set[str] = set()
        legacy_manifest: Any = None
        try:
            for number, (table, key, document) in enumerate(_tables(file), 1):
                seen.add(table)
                if table == MANIFEST_TABLE:
                    legacy_manifest = document
                elif table in self.digests and key is not None:
                    self._add_document(table, key, document)
                self._progress(number, None)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"it is not JSON, or was cut off: {error}") from None
        except sqlite3.Error as error:
            raise self._refused(
                f"it cannot be unpacked into {tempfile.gettempdir()}: {error}. Free some space "
                f"there, or set TMPDIR "
                "to another folder"
            ) from None
        if not seen & {*TABLES, MANIFEST_TABLE}:
            raise ArchiveRefused(
                f"{self.path} is not an archive: it has none of the tables {', '.join(TABLES)}"
            )
        if MANIFEST_TABLE in seen and self.manifest is None:
            self._read_manifest(legacy_manifest, f"table {MANIFEST_TABLE}")
        known = PLAIN_TABLES if self.manifest is None else TABLES
        self.ignored_tables = sorted(seen - {*known, MANIFEST_TABLE})
        tables = {} if self.manifest is None else self.manifest.tables
        for name, found in self.digests.items() if self.manifest is not None else ():
            expected = tables.get(name, TableDigest())
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
            self.digests[table].add(document)
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
    if name == RECORDS:
        return True
    parts = name.split("/")
    is_state = len(parts) == 4 and parts[0] == STATES and parts[3] in STATE_NAMES
    return is_state and can_name_folders(parts[1], parts[2])


def _tables(file: IO[bytes]) -> Iterator[tuple[str, str | None, Any]]:
    """Yield table, key and document of each document, and the name alone of each table.

    Files with one document a line, as this package writes them, are read line by line, others at
    once.

    Raises
    ------
    ValueError, RecursionError
        If the file is not a JSON object of objects.
    """
    first, second = file.readline(_CHUNK), file.readline(_CHUNK)
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
