"""What the documents of a file become in a store. Pure.

What a verified dump has was stored before, and is stored again to the letter. What anybody else wrote, upstream or a
person, is read as over REST and stored as if it had been written here; a notebook's cells then become a version. All
that is made up for it follows from the document, so that loading a file twice makes the same of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from ..errors import InvalidData
from ..records import (
    U32,
    Moment,
    NotebookCheckpoint,
    NotebookHeader,
    NotebookMetadata,
    Record,
    TrainingNotebook,
    TrainingRun,
    without_trust,
)
from ..store import Document
from ..store.codec import encode
from ..store.dumpformat import undumped
from ..store.schema import CHECKPOINTS, CONTENTS, PROVENANCE, RUNS, VERSIONS
from .bindings import Binding
from .dump import bare_document
from .headers import header_document
from .numbering import Numbering
from .parts import FILE_KEY, Parts, content_document, content_id, split, version_document
from .provenance import provenance_ids
from .runs import run_key

_MADE = uuid.UUID("0d5b1f8e-6a0f-4a36-8f0b-5e1c1f0a7d21")
#: With room for the numbers of all saves to come, in the 63 bits that engines have.
_Ordinal = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Version(Record, kw_only=True):
    id: str
    notebook_id: str
    created_at: Moment
    ordinal: _Ordinal
    cells: list[tuple[str, str, str | None, U32 | None]]
    metadata: NotebookMetadata
    failed: list[str] | None = None


class _Content(Record, kw_only=True):
    notebook_id: str
    ordinal: _Ordinal
    content: dict[str, Any]


class _Provenance(Record, kw_only=True):
    notebook_id: str


_KINDS: dict[str, type[Record]] = {
    CHECKPOINTS.name: NotebookCheckpoint,
    RUNS.name: TrainingRun,
    VERSIONS.name: _Version,
    CONTENTS.name: _Content,
    PROVENANCE.name: _Provenance,
}
_UPSTREAMS = (NotebookCheckpoint, TrainingRun)


class IncomingNotebook(NamedTuple):
    """A notebook to be stored.

    Attributes
    ----------
    stored : dict
        Its document.
    dumped : dict or None
        What a dump of it has to look like; None where that is not known.
    made : dict
        What its cells make beside what the file has, by table: contents, and a version of them.
    numbering : Numbering or None
        What its contents are numbered by; None where they keep the numbers that they have in the file.
    """

    id: str
    stored: dict[str, Any]
    dumped: dict[str, Any] | None
    made: dict[str, list[Document]]
    numbering: Numbering | None


def incoming(table: str, document: Any, *, verbatim: bool) -> tuple[str, dict[str, Any]]:
    """Document id and stored form of what belongs to a notebook; raises InvalidData."""
    doc_id, own = undumped(_object(document))
    kind = _KINDS[table]
    record = kind.from_json(own)
    if isinstance(record, _Provenance):
        provenance_ids(own)
    if isinstance(record, _Version) and not isinstance(
        record.metadata.extra.get(FILE_KEY, ""), str
    ):
        raise InvalidData(f"$.metadata.extra.{FILE_KEY}", "expected the hash of a content")
    if isinstance(record, _Content) and not doc_id.startswith(content_id(record.notebook_id, "")):
        raise InvalidData("$.id", "expected the id of its notebook, and a hash")
    if isinstance(record, TrainingRun):
        doc_id = run_key(record.notebook_id, record.id)
    if verbatim or kind not in _UPSTREAMS:
        return doc_id, own
    return doc_id, {**_beside(own, kind), **record.to_json()}


def incoming_notebook(
    document: Any,
    *,
    verbatim: bool,
    versions: Mapping[str, Mapping[str, Any]],
    contents: Collection[str],
) -> IncomingNotebook:
    """A notebook, given the versions that the file has of it and the ids of the contents; raises InvalidData."""
    doc_id, own = undumped(_object(document))
    bare = bare_document(own)
    header = NotebookHeader.from_json(bare)
    _check_binding(own)
    if verbatim:
        return IncomingNotebook(doc_id, bare, _as_read(own), {}, None)
    known = versions.get(header.version_id or "")
    if "cells" not in own and known is not None:
        if known["ordinal"] < _highest(versions):
            raise InvalidData(
                "$.version_id", "the file has a newer version of it, and here are no cells"
            )
        stored = {**_beside(bare, NotebookHeader), **header_document(header)}
        return IncomingNotebook(doc_id, stored, None, {}, Numbering(versions.values(), contents))
    notebook = TrainingNotebook.from_json({**own, "cells": _named(doc_id, own.get("cells"))})
    parts = split(notebook.cells, notebook.metadata)
    version_id, ordinal, is_new = _place(doc_id, header.version_id, parts, versions)
    stored = {
        **_beside(bare, NotebookHeader),
        **header_document(notebook),
        "version_id": version_id,
        "cell_count": len(parts.entries),
        "cell_statuses": parts.statuses,
    }
    version = version_document(version_id, doc_id, parts, ordinal, stored["updated_at"])
    made = {content_id(doc_id, digest): digest for digest in parts.contents}
    numbering = Numbering([*versions.values(), version], {*contents, *made})
    return IncomingNotebook(
        doc_id,
        stored,
        {
            **stored,
            "cells": [cell.to_json() for cell in notebook.cells],
            "metadata": notebook.metadata.to_json(),
        },
        {
            VERSIONS.name: [version] if is_new else [],
            CONTENTS.name: [
                content_document(doc_id, digest, parts.contents[digest], ordinal)
                for id, digest in made.items()
                if id not in contents
            ],
        },
        numbering,
    )


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidData("$", "expected an object")
    return document


def _as_read(document: dict[str, Any]) -> dict[str, Any]:
    """What a notebook's document looks like when it is read from the store: no cell or output is marked as trusted."""
    read = {name: without_trust(value) for name, value in document.items() if name == "cells"}
    if isinstance(metadata := document.get("metadata"), dict) and isinstance(
        metadata.get("extra"), dict
    ):
        read["metadata"] = {**metadata, "extra": without_trust(metadata["extra"])}
    return {**document, **read}


def _beside(document: Mapping[str, Any], kind: type[Record]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in kind.__struct_fields__}


def _check_binding(document: Mapping[str, Any]) -> None:
    # What no record has a field for, and the rest of the project relies on.
    try:
        msgspec.convert(document, Binding)
        if "cell_statuses" in document:
            msgspec.convert(document["cell_statuses"], dict[str, str])
    except msgspec.ValidationError as error:
        raise InvalidData("$", str(error).replace("`", "")) from None


def _named(notebook_id: str, cells: Any) -> Any:
    """``cells``, those without an id with one that is the same each time."""
    if not isinstance(cells, list):
        return cells
    return [
        {**cell, "id": str(uuid.uuid5(_MADE, encode([notebook_id, at])))}
        if isinstance(cell, dict) and "id" not in cell
        else cell
        for at, cell in enumerate(cells)
    ]


def _place(
    notebook_id: str, given: str | None, parts: Parts, versions: Mapping[str, Mapping[str, Any]]
) -> tuple[str, int, bool]:
    """Id and number of the version that has ``parts``, and whether the file lacks it: the newest, or one after it."""
    known = versions.get(given) if given is not None else None
    entries = [list(entry) for entry in parts.entries]
    highest = _highest(versions)
    if known is not None and known["ordinal"] == highest:
        same_file = known["metadata"].get("extra", {}).get(FILE_KEY) == parts.metadata["extra"].get(
            FILE_KEY
        )
        if known["cells"] == entries and same_file:
            return str(given), highest, False
    if given is not None and known is None:
        return given, highest + 1, True
    made_of = [notebook_id, highest + 1, entries, parts.metadata]
    return str(uuid.uuid5(_MADE, encode(made_of))), highest + 1, True


def _highest(versions: Mapping[str, Mapping[str, Any]]) -> int:
    return max((int(version["ordinal"]) for version in versions.values()), default=-1)
