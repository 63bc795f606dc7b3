"""The format of archives: member names, the manifest, and the ids of documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Final, Literal, NamedTuple

import msgspec

from ..errors import InvalidData
from ..records import Moment, Record
from ..store.schema import COLLECTIONS

#: Increased whenever an older reader could misread an archive. Format 1 was JSON without a zip file
#: around it.
FORMAT: Final = 2
#: The tables of an archive, in the order in which they are written.
TABLES: Final = tuple(collection.name for collection in COLLECTIONS)
RECORDS: Final = "records.json"
MANIFEST: Final = "manifest.json"
STATES: Final = "states"
SERIES: Final = "series"
#: The table that holds the manifest in format 1.
MANIFEST_TABLE: Final = "axonml_dump"
#: The size of the pieces in which members are read, in bytes.
CHUNK: Final = 1 << 20
_ID: Final = "axon_id"

#: Called with the number of documents that are done, and with the number of all, if that is known.
Progress = Callable[[int, int | None], None]


def no_progress(_done: int, _total: int | None) -> None:
    """Report nothing."""


class DocumentProblem(NamedTuple):
    """A document that cannot be archived or loaded.

    It is damaged, in conflict with the store, or of a foreign user, whose records the database does
    not let us write.
    """

    kind: Literal["damaged", "conflict", "foreign"]
    table: str
    id: str
    reason: str


class TableSummary(Record, kw_only=True):
    """The number of documents of a table, and the sum of their SHA-256 digests modulo 2²⁵⁶.

    The sum does not depend on the order and layout of the documents, so it holds after TinyDB has
    rewritten the file.
    """

    count: int = 0
    sha256: str = f"{0:064x}"

    def add(self, document: Mapping[str, Any]) -> None:
        """Include a document."""
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        added = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        self.count += 1
        self.sha256 = f"{(int(self.sha256, 16) + added) % 2**256:064x}"


class MemberDigest(Record, kw_only=True):
    """The size and SHA-256 of a member of the zip file."""

    size: int
    sha256: str


class Manifest(Record, kw_only=True):
    """The content of an archive, with the ids that were asked for, or None for all."""

    format: int
    schema_version: int
    package: str
    created_at: Moment
    store_id: str
    tables: dict[str, TableSummary]
    notebooks: list[str] | None = None
    runs: list[str] | None = None
    members: dict[str, MemberDigest] = msgspec.field(default_factory=dict)


def digest(chunks: Iterable[bytes], target: IO[bytes] | None = None) -> MemberDigest:
    """Return the size and digest of ``chunks``, which are also written to ``target``."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return MemberDigest(size=size, sha256=sha256.hexdigest())


def series_name(run_key: str) -> str:
    """Return the name of the member with the series of a run, by the id of its document."""
    digest = hashlib.sha256(run_key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{SERIES}/{digest}.bin"


def add_document_id(doc_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the archived form of a stored document, which contains its id."""
    if document.get("id") == doc_id and _ID not in document:
        return dict(document)
    return {_ID: doc_id, **{name: value for name, value in document.items() if name != _ID}}


def split_document_id(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the id and the stored form of an archived document; raises InvalidData."""
    stored = dict(document)
    doc_id = stored.pop(_ID) if _ID in stored else stored.get("id")
    if not isinstance(doc_id, str):
        raise InvalidData("$.id", "required, but missing or not a text")
    return doc_id, stored
