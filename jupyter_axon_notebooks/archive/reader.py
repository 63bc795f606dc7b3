"""Read archives, and JSON files with the tables of a store."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import ArchiveRefused, InvalidData
from ..states.layout import STATE_NAMES, can_name_folders
from ..store.schema import NOTEBOOKS, SCHEMA_VERSION
from ..userfiles import open_regular
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
    TableDigest,
    split_document_id,
)

_CHUNK = 1 << 20
#: The largest manifest, and the longest document, in bytes and characters.
_LONGEST = 1 << 29
#: Deflate reaches ratios of up to 1,032 on repetitive data. Records with that ratio are accepted up to this size.
_MAX_RATIO, _UNSUSPICIOUS_SIZE = 200, 1 << 30
#: Documents that are in memory at a time.
_BATCH = 500


class ArchiveReader:
    """A verified archive, open for reading.

    Opening it reads all of it: nothing of a file that is not complete gets into a store. Documents are kept in a
    temporary database on the disk, so memory use does not depend on their number.

    Attributes
    ----------
    manifest : Manifest or None
        None for a JSON file without one, whose completeness cannot be verified.
    digests : dict
        The number and digest of the documents that were found, by table.
    unknown_tables : list of str
        Tables that no store has; they are not loaded.
    problems : list of DocumentProblem
        Documents that cannot be loaded.

    Raises
    ------
    ArchiveRefused
        If it is not an archive, not complete, or written by a newer version.
    OSError
        If it cannot be read.
    """

    def __init__(
        self, path: Path, progress: Callable[[int, int | None], None] = lambda _done, _total: None
    ) -> None:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ArchiveRefused(f"{path} is {kind}; expected an archive")
        self.path = path
        self.manifest: Manifest | None = None
        self.digests = {name: TableDigest() for name in TABLES}
        self.unknown_tables: list[str] = []
        self.problems: list[DocumentProblem] = []
        self._progress = progress
        self._zip: zipfile.ZipFile | None = None
        self._file = open_regular(path)
        # An empty name is a temporary file that SQLite removes.
        self._documents = sqlite3.connect("", check_same_thread=False)
        try:
            self._read()
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

    # The documents

    def notebook_ids(self) -> list[str]:
        """Return the ids of all notebooks that have documents, in the order of the file."""
        rows = self._documents.execute(
            "SELECT notebook_id FROM documents GROUP BY notebook_id ORDER BY min(position)"
        )
        return [json.loads(id) for (id,) in rows]

    def count(self, notebook_id: str | None = None) -> int:
        """Return the number of documents, of one notebook or of all."""
        of_one = "" if notebook_id is None else " WHERE notebook_id = ?"
        values = () if notebook_id is None else (json.dumps(notebook_id),)
        sql = f"SELECT count(*) FROM documents{of_one}"  # noqa: S608 - no input is in it
        return int(self._documents.execute(sql, values).fetchone()[0])

    def notebook(self, id: str) -> dict[str, Any] | None:
        """Return the document of a notebook, or None if the archive has only documents that belong to it."""
        for batch in self.documents(NOTEBOOKS.name, id):
            return batch[0]
        return None

    def documents(self, table: str, notebook_id: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the documents of a notebook in one of the tables, in batches."""
        with closing(self._documents.cursor()) as cursor:
            cursor.execute(
                "SELECT text FROM documents WHERE notebook_id = ? AND name = ? ORDER BY position",
                (json.dumps(notebook_id), table),
            )
            while rows := cursor.fetchmany(_BATCH):
                yield [json.loads(text) for (text,) in rows]

    # The state files

    def states(self, notebook_id: str) -> Iterator[tuple[str, str, MemberDigest]]:
        """Yield checkpoint id, file name and digest of the archived state files of a notebook."""
        for name, digest in (self.manifest.members if self.manifest is not None else {}).items():
            parts = name.split("/")
            if parts[0] == STATES and parts[1] == notebook_id:
                yield parts[2], parts[3], digest

    def open_state(self, notebook_id: str, checkpoint_id: str, name: str) -> IO[bytes]:
        """Open an archived state file."""
        assert self._zip is not None
        return self._zip.open(f"{STATES}/{notebook_id}/{checkpoint_id}/{name}")

    @property
    def states_size(self) -> int:
        """The size of all archived state files, in bytes."""
        members = self.manifest.members if self.manifest is not None else {}
        return sum(one.size for name, one in members.items() if name != RECORDS)

    # Reading and verifying

    def _refused(self, reason: str) -> ArchiveRefused:
        return ArchiveRefused(f"{self.path} cannot be loaded: {reason}")

    def _read(self) -> None:
        self._documents.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE documents (position INTEGER PRIMARY KEY, notebook_id TEXT, name TEXT, id TEXT, text TEXT);"
            "CREATE UNIQUE INDEX by_notebook ON documents (notebook_id, name, id);"
        )
        if os.fstat(self._file.fileno()).st_size == 0:
            raise self._refused("the file is empty")
        is_zip = self._file.read(4) == b"PK\x03\x04"
        self._file.seek(0)
        try:
            if is_zip:
                self._read_zip()
            else:
                self._read_records(_HashingReader(self._file))
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise self._refused(f"it is not a complete zip file: {error}") from None
        except sqlite3.Error as error:
            folder = tempfile.gettempdir()
            raise self._refused(
                f"it cannot be unpacked into {folder}: {error}. Free some space there, or set TMPDIR to another folder"
            ) from None
        self._documents.commit()

    def _read_zip(self) -> None:
        self._zip = zipfile.ZipFile(self._file)
        found = {info.filename: info for info in self._zip.infolist()}
        if len(found) < len(self._zip.infolist()):
            raise self._refused("it has two members of the same name")
        if MANIFEST not in found:
            raise self._refused(
                f"it has no {MANIFEST}, so it is not an archive. To load records that were edited, unpack {RECORDS} and load that"
            )
        manifest = self._read_manifest(self._zip, found.pop(MANIFEST))
        for name in sorted(found.keys() | manifest.members.keys()):
            if name not in found:
                raise self._refused(f"its member {name} is missing")
            if name not in manifest.members or not _is_known_member(name):
                raise self._refused(
                    f"it has an unexpected member {name[:80]!r}; a newer version may have written it: upgrade "
                    "jupyter-axon-notebooks"
                )
        self._check_sizes(found, manifest)
        if RECORDS not in found:
            raise self._refused(f"its member {RECORDS} is missing")
        for name, expected in manifest.members.items():
            with self._zip.open(name) as member:
                verified = _HashingReader(member)
                if name == RECORDS:
                    self._read_records(verified)
                verified.drain()
            if (verified.size, verified.digest) != (expected.size, expected.sha256):
                raise self._refused(f"its member {name} is damaged: its SHA-256 differs")

    def _read_manifest(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Manifest:
        if info.file_size > _LONGEST:
            raise self._refused(f"its {MANIFEST} is larger than {_LONGEST:,} bytes")
        try:
            document = json.loads(archive.read(info))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"its {MANIFEST} is not JSON: {error}") from None
        return self._check_manifest(document, MANIFEST)

    def _check_manifest(self, document: Any, source: str) -> Manifest:
        for name, known in (("format", FORMAT), ("schema_version", SCHEMA_VERSION)):
            value = document.get(name) if isinstance(document, dict) else None
            if not isinstance(value, int):
                raise self._refused(f"its {source} has no {name}")
            if value > known:
                raise self._refused(
                    f"its {name.replace('_', ' ')} is {value}, this version of the package reads up to {known}: "
                    "upgrade jupyter-axon-notebooks"
                )
        try:
            self.manifest = Manifest.from_json(document)
        except InvalidData as error:
            raise self._refused(f"its {source} is damaged: {error}") from None
        return self.manifest

    def _check_sizes(self, found: dict[str, zipfile.ZipInfo], manifest: Manifest) -> None:
        """Refuse members whose sizes are not those in the manifest, or that unpack to suspiciously much."""
        whole = os.fstat(self._file.fileno()).st_size
        if sum(info.compress_size for info in found.values()) > whole:
            raise self._refused("its members overlap")
        for name, info in found.items():
            if info.file_size != manifest.members[name].size:
                raise self._refused(f"its member {name} is damaged: its size differs")
            if name != RECORDS and info.compress_type != zipfile.ZIP_STORED:
                raise self._refused(f"its member {name} is compressed; state files never are")
        size = found[RECORDS].file_size if RECORDS in found else 0
        if size > max(_UNSUSPICIOUS_SIZE, _MAX_RATIO * found[RECORDS].compress_size if size else 0):
            raise self._refused(
                f"{RECORDS} would unpack to {size:,} bytes, more than {_MAX_RATIO} times its size in the file"
            )
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if size > free:
            raise self._refused(
                f"{RECORDS} takes {size:,} bytes in {tempfile.gettempdir()}, which has {free:,}. Free some space "
                "there, or set TMPDIR to another folder"
            )

    def _read_records(self, file: _HashingReader) -> None:
        """Read all documents into the temporary database, and verify their number and digests."""
        seen: set[str] = set()
        text = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8", newline="")
        documents = JsonTables(text)
        legacy: Any = None
        try:
            for number, (table, key, document) in enumerate(documents, 1):
                seen.add(table)
                self._progress(number, None)
                if table == MANIFEST_TABLE:
                    legacy = document
                elif table in self.digests:
                    self._add(table, key, document)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"it is not JSON of a store's tables: {error}") from None
        finally:
            text.detach().detach()
        seen |= documents.tables
        if not seen & {*TABLES, MANIFEST_TABLE}:
            raise ArchiveRefused(
                f"{self.path} is not an archive: it has none of the tables {', '.join(TABLES)}"
            )
        self.unknown_tables = sorted(seen - {*TABLES, MANIFEST_TABLE})
        if MANIFEST_TABLE in seen and self._zip is None:
            self._check_manifest(legacy, f"table {MANIFEST_TABLE}")
        if self.manifest is not None:
            self._verify_tables(self.manifest)

    def _add(self, table: str, key: str, document: Any) -> None:
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
            self.problems.append(DocumentProblem(table, id, str(error)))

    def _verify_tables(self, manifest: Manifest) -> None:
        faults = []
        for name, found in self.digests.items():
            expected = manifest.tables.get(name, TableDigest())
            if found.count != expected.count:
                faults.append(
                    f"table {name} should have {expected.count} documents, and has {found.count}"
                )
            elif found.sha256 != expected.sha256:
                faults.append(f"documents of table {name} were changed")
        if faults:
            advice = "" if self._zip is not None else (
                f". If it was changed on purpose, remove its table {MANIFEST_TABLE}; it is then loaded unverified"
            )
            raise self._refused("; ".join(faults) + advice)


def _is_known_member(name: str) -> bool:
    parts = name.split("/")
    return name == RECORDS or (
        len(parts) == 4
        and parts[0] == STATES
        and can_name_folders(parts[1], parts[2])
        and parts[3] in STATE_NAMES
    )


class _HashingReader(io.RawIOBase):
    """Hashes what is read from a member of a zip file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._source = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._source.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._digest.update(chunk)
        self.size += len(chunk)
        return len(chunk)

    def drain(self) -> None:
        """Read and hash what is left."""
        while self.read(_CHUNK):
            pass


class JsonTables:
    """The documents of a JSON object of tables, in any layout, with little in memory at a time.

    Iterating yields table, key and document; it raises ValueError where the text is not such an object.
    ``tables`` are the names that were read so far, including those of empty tables.
    """

    _SPACE = re.compile(r"[ \t\r\n]*")
    _DECODER = json.JSONDecoder()

    def __init__(self, file: IO[str]) -> None:
        self.tables: set[str] = set()
        self._file = file
        self._buffer = ""
        self._position = 0
        self._removed = 0

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        for table in self._keys():
            self.tables.add(table)
            for key in self._keys():
                yield table, key, self._value()
        if self._next():
            raise ValueError(f"something follows the end, at character {self._removed + self._position}")

    def _keys(self) -> Iterator[str]:
        """Yield the keys of an object; the caller reads the value after each."""
        self._expect("{")
        if self._next() == "}":
            self._position += 1
            return
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise ValueError("a key is not a text")
            self._expect(":")
            yield key
            if self._expect(",}") == "}":
                return

    def _next(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            match = self._SPACE.match(self._buffer, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._fill():
                return ""

    def _expect(self, characters: str) -> str:
        found = self._next()
        if not found:
            raise ValueError("it was cut off")
        if found not in characters:
            where = self._removed + self._position
            raise ValueError(f"expected {' or '.join(characters)} at character {where}, got {found!r}")
        self._position += 1
        return found

    def _value(self) -> Any:
        while True:
            self._next()
            try:
                value, end = self._DECODER.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                # An error near the end of the buffer may be due to what has not been read yet.
                is_final = not error.msg.startswith("Unterminated") and (
                    error.pos < len(self._buffer) - 16
                )
                if is_final:
                    where = self._removed + error.pos
                    raise ValueError(f"{error.msg} at character {where}") from None
                if not self._fill():
                    raise ValueError("it was cut off, or is not JSON") from None
                continue
            if end == len(self._buffer) and self._fill():
                continue  # a number may go on
            self._position = min(end, len(self._buffer))
            return value

    def _fill(self) -> bool:
        """Read more, and forget what was consumed; return whether there was more."""
        rest = len(self._buffer) - self._position
        if rest > _LONGEST:
            raise ValueError(f"a document is longer than {_LONGEST:,} characters")
        chunk = self._file.read(max(_CHUNK, rest))  # twice as much each time, or it takes too long
        self._removed += self._position
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)
