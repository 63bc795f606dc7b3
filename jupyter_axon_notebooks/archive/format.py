"""The format of archives: member names, the manifest, and how documents are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import InvalidData
from ..records import Moment, Record
from ..store.schema import COLLECTIONS, RUNS

#: Increased whenever an older reader could misread an archive. Format 1 was JSON without a zip file around it.
FORMAT: Final = 2
#: The tables of an archive, in the order in which they are written.
TABLES: Final = tuple(collection.name for collection in COLLECTIONS)
RECORDS: Final = "records.json"
MANIFEST: Final = "manifest.json"
STATES: Final = "states"
#: The table that holds the manifest in format 1.
MANIFEST_TABLE: Final = "axonml_dump"
_ID: Final = "axon_id"


class DocumentProblem(NamedTuple):
    """A document that cannot be archived or loaded as it is, and the reason."""

    table: str
    id: str
    reason: str


class TableDigest(Record, kw_only=True):
    """The number of documents of a table, and the sum of their SHA-256 digests modulo 2²⁵⁶.

    The sum depends neither on the order of the documents nor on the layout of the file, so it still holds after TinyDB
    has rewritten the file.
    """

    count: int = 0
    sha256: str = f"{0:064x}"

    def add(self, document: Mapping[str, Any]) -> None:
        """Include a document."""
        digest = hashlib.sha256(canonical_json(document).encode()).hexdigest()
        self.count += 1
        self.sha256 = f"{(int(self.sha256, 16) + int(digest, 16)) % 2**256:064x}"


class MemberDigest(Record, kw_only=True):
    """The size and SHA-256 of a member of the zip file."""

    size: int
    sha256: str


class Manifest(Record, kw_only=True):
    """The content of an archive, to verify it by.

    ``notebooks`` and ``runs`` are the ids that were asked for; None stands for all.
    """

    format: int
    schema_version: int
    package: str
    created_at: Moment
    store_id: str
    tables: dict[str, TableDigest]
    notebooks: list[str] | None = None
    runs: list[str] | None = None
    members: dict[str, MemberDigest] = msgspec.field(default_factory=dict)


def canonical_json(value: Any) -> str:
    """Return JSON that is equal for equal values: keys sorted, ASCII only, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def add_document_id(doc_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the archived form of a stored document, which contains its id."""
    if document.get("id") == doc_id and _ID not in document:
        return dict(document)
    return {_ID: doc_id, **{name: value for name, value in document.items() if name != _ID}}


def split_document_id(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the id and the stored form of an archived document.

    Raises
    ------
    InvalidData
        If it has no id.
    """
    stored = dict(document)
    name = _ID if _ID in stored else "id"
    doc_id = stored.pop(_ID) if name == _ID else stored.get("id")
    if not isinstance(doc_id, str):
        raise InvalidData(
            f"$.{name}", "required, but missing" if doc_id is None else "expected a text"
        )
    return doc_id, stored


def archived_id(table: str, doc_id: str, document: Mapping[str, Any]) -> str:
    """Return the id of a document in an archive: of a run its own id, from which the store's key is derived."""
    own = document.get("id") if table == RUNS.name else None
    return own if isinstance(own, str) else doc_id


def state_member(notebook_id: str, checkpoint_id: str, name: str) -> str:
    """Return the name of the member that holds a state file."""
    return f"{STATES}/{notebook_id}/{checkpoint_id}/{name}"
