"""Convert between notebooks as they are stored and as they are archived.

A stored notebook document has no cells: they are in its version. An archived one has them besides,
so that upstream can read it. Plain documents, without a manifest, have nothing but their cells: a
version is derived from these, the same one each time the file is loaded.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any

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
)
from ..repository import NotebookRepository
from ..repository.bindings import Binding
from ..repository.damage import check_damage
from ..repository.headers import header_document
from ..repository.parts import FILE_KEY, content_document, content_id, split, version_document
from ..repository.provenance import provenance_ids
from ..repository.run_queries import run_key
from ..store import Store
from ..store.codec import encode
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from .format import split_document_id

_NAMESPACE = uuid.UUID("0d5b1f8e-6a0f-4a36-8f0b-5e1c1f0a7d21")
#: Leaves room for the ordinals of all later saves within 63 bits.
_Ordinal = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Version(Record, kw_only=True):
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


class _Additions(Binding, frozen=True, kw_only=True):
    """The fields of a notebook that no record type declares and the repository relies on."""

    cell_statuses: dict[str, str] = msgspec.field(default_factory=dict)


_KINDS: dict[str, type[Record]] = {
    CHECKPOINTS.name: NotebookCheckpoint,
    RUNS.name: TrainingRun,
    VERSIONS.name: _Version,
    CONTENTS.name: _Content,
}
#: The tables that plain documents may be in.
PLAIN_TABLES = (NOTEBOOKS.name, CHECKPOINTS.name, RUNS.name)

#: Documents by id.
Documents = dict[str, dict[str, Any]]


def assemble_notebook(store: Store, id: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's document with its cells, and the metadata from which its file is rebuilt.

    Raises
    ------
    RecordDamaged
        If the version, a content, or a field of the document is missing.
    """
    with check_damage(f"notebook {id}"):
        notebook = NotebookRepository(store).assemble(stored)
        document = {**stored, "cells": [cell.to_json() for cell in notebook.cells]}
        if FILE_KEY in notebook.metadata.extra:
            file = {FILE_KEY: notebook.metadata.extra[FILE_KEY]}
            extra = {**stored["metadata"]["extra"], **file}
            document["metadata"] = {**stored["metadata"], "extra": extra}
    return document


def read_document(table: str, document: Any, *, is_plain: bool) -> tuple[str, dict[str, Any]]:
    """Return the id and the stored form of a document that belongs to a notebook.

    Raises
    ------
    InvalidData
        If it is not a valid document of its table.
    """
    doc_id, stored = split_document_id(document)
    if table == PROVENANCE.name:
        provenance_ids(stored)
        return doc_id, stored
    kind = _KINDS[table]
    record = kind.from_json(stored)
    if isinstance(record, _Version) and not isinstance(
        record.metadata.extra.get(FILE_KEY, ""), str
    ):
        raise InvalidData(f"$.metadata.extra.{FILE_KEY}", "expected the hash of a content")
    if table == CONTENTS.name and not doc_id.startswith(content_id(stored["notebook_id"], "")):
        raise InvalidData("$.id", "expected the id of its notebook, and a hash")
    if isinstance(record, TrainingRun):
        doc_id = run_key(record.notebook_id, record.id)
    if is_plain:
        stored = {**_additional_fields(stored, kind), **record.to_json()}
    return doc_id, stored


def read_notebook(document: Any) -> dict[str, Any]:
    """Return the stored form of an archived notebook; raises InvalidData."""
    _, stored = split_document_id(document)
    stored.pop("cells", None)
    NotebookHeader.from_json(stored)
    extra = stored["metadata"].get("extra", {})
    stored["metadata"] = {
        **stored["metadata"],
        "extra": {name: value for name, value in extra.items() if name != FILE_KEY},
    }
    _check_additions(stored)
    return stored


def read_plain_notebook(document: Any) -> tuple[dict[str, Any], dict[str, Documents]]:
    """Return the stored form of a plain notebook, and its version and contents by table.

    Raises
    ------
    InvalidData
        If it is not a valid notebook.
    """
    id, plain = split_document_id(document)
    cells = {"cells": _add_cell_ids(id, plain["cells"])} if "cells" in plain else {}
    notebook = TrainingNotebook.from_json({**plain, **cells})
    _check_additions(plain)
    parts = split(notebook.cells, notebook.metadata)
    entries = encode([id, parts.entries, parts.metadata])
    version_id = notebook.version_id or str(uuid.uuid5(_NAMESPACE, entries))
    stored = {
        **_additional_fields(plain, TrainingNotebook),
        **header_document(notebook),
        "version_id": version_id,
        "cell_count": len(parts.entries),
        "cell_statuses": parts.statuses,
    }
    version = version_document(version_id, id, parts, 0, stored["updated_at"])
    contents = {
        content_id(id, digest): dict(content_document(id, digest, content, 0))
        for digest, content in parts.contents.items()
    }
    return stored, {CONTENTS.name: contents, VERSIONS.name: {version_id: dict(version)}}


def _additional_fields(document: Mapping[str, Any], kind: type[Record]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in kind.__struct_fields__}


def _check_additions(document: Mapping[str, Any]) -> None:
    try:
        msgspec.convert(document, _Additions)
    except msgspec.ValidationError as error:
        raise InvalidData("$", str(error).replace("`", "")) from None


def _add_cell_ids(notebook_id: str, cells: Any) -> Any:
    """Return the cells; those without an id get one that is the same each time."""
    if not isinstance(cells, list):
        return cells
    return [
        {**cell, "id": str(uuid.uuid5(_NAMESPACE, encode([notebook_id, index])))}
        if isinstance(cell, dict) and "id" not in cell
        else cell
        for index, cell in enumerate(cells)
    ]
