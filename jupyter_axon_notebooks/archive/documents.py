"""Convert between documents as they are stored and as they are archived.

A stored notebook document has no cells: they are in its version. An archived one has them besides, so that upstream
can read it. Documents without a manifest, which may be upstream's or edited by hand, are completed: what they lack
is derived from the document itself, so that loading a file twice gives the same result.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
from ..repository.bindings import Binding
from ..repository.damage import damage_named
from ..repository.notebooks import Notebooks, header_document
from ..repository.parts import (
    FILE_KEY,
    Parts,
    content_document,
    content_id,
    listed_contents,
    take_apart,
    version_document,
)
from ..repository.runs import run_key
from ..repository.states import NoStates
from ..repository.stored_provenance import listed_provenance
from ..store import Store
from ..store.codec import encode
from ..store.schema import CHECKPOINTS, CONTENTS, PROVENANCE, RUNS, VERSIONS
from .format import split_document_id

_NAMESPACE = uuid.UUID("0d5b1f8e-6a0f-4a36-8f0b-5e1c1f0a7d21")
#: Leaves room for the ordinals of all later saves within 63 bits.
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
_UPSTREAM_KINDS = (NotebookCheckpoint, TrainingRun)


class DocumentAssembler:
    """Adds to stored notebook documents what is kept in their versions."""

    def __init__(self, store: Store) -> None:
        self._notebooks = Notebooks(store, NoStates(), ())

    def assemble(self, id: str, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return a notebook's document with its cells, and the metadata from which its file is rebuilt.

        Raises
        ------
        RecordDamaged
            If the version, a content, or a field of the document is missing.
        """
        with damage_named(f"notebook {id}"):
            notebook = self._notebooks.whole(stored)
            document = {**stored, "cells": [cell.to_json() for cell in notebook.cells]}
            if FILE_KEY in notebook.metadata.extra:
                extra = {
                    **stored["metadata"]["extra"],
                    FILE_KEY: notebook.metadata.extra[FILE_KEY],
                }
                document["metadata"] = {**stored["metadata"], "extra": extra}
        return document


@dataclass
class IncomingNotebook:
    """A notebook to be stored.

    Attributes
    ----------
    stored : dict
        Its document.
    derived : dict
        Documents that follow from its cells and that the archive lacks, by table and id: contents, and a version.
    ordinals : dict or None
        The highest ordinal that each content may have; None to keep the archived ones.
    """

    id: str
    stored: dict[str, Any]
    derived: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    ordinals: dict[str, int] | None = None

    def limit_ordinal(self, content_id: str, content: dict[str, Any]) -> dict[str, Any]:
        """Return a content whose ordinal is not above that of any version that lists it.

        Saves and garbage collection take a content with a higher ordinal for one that no older version lists.
        """
        if self.ordinals is None:
            return content
        limit = self.ordinals.get(content_id, self.ordinals[""])
        return {**content, "ordinal": min(content["ordinal"], limit)}


def read_document(table: str, document: Any, *, verified: bool) -> tuple[str, dict[str, Any]]:
    """Return the document id and the stored form of a document that belongs to a notebook.

    Raises
    ------
    InvalidData
        If it is not a valid document of its table.
    """
    doc_id, stored = split_document_id(document)
    kind = _KINDS[table]
    record = kind.from_json(stored)
    if isinstance(record, _Provenance):
        listed_provenance(stored)
    if isinstance(record, _Version) and not isinstance(
        record.metadata.extra.get(FILE_KEY, ""), str
    ):
        raise InvalidData(f"$.metadata.extra.{FILE_KEY}", "expected the hash of a content")
    if isinstance(record, _Content) and not doc_id.startswith(content_id(record.notebook_id, "")):
        raise InvalidData("$.id", "expected the id of its notebook, and a hash")
    if isinstance(record, TrainingRun):
        doc_id = run_key(record.notebook_id, record.id)
    if verified or kind not in _UPSTREAM_KINDS:
        return doc_id, stored
    return doc_id, {**_additional_fields(stored, kind), **record.to_json()}


def read_notebook_document(
    document: Any,
    *,
    verified: bool,
    versions: Mapping[str, Mapping[str, Any]],
    contents: Collection[str],
) -> IncomingNotebook:
    """Return a notebook to be stored.

    Parameters
    ----------
    verified : bool
        Whether a manifest vouches for the archive. If not, a version of the cells is derived where the archive has none.
    versions, contents : mapping, collection of str
        The versions of the notebook in the archive, and the ids of its contents; used if it is not verified.

    Raises
    ------
    InvalidData
        If it is not a valid notebook.
    """
    id, archived = split_document_id(document)
    bare = _without_cells(archived)
    header = NotebookHeader.from_json(bare)
    _check_additions(archived)
    if verified:
        return IncomingNotebook(id, bare)
    highest = max((int(version["ordinal"]) for version in versions.values()), default=-1)
    known = versions.get(header.version_id or "")
    if "cells" not in archived and known is not None:
        if known["ordinal"] < highest:
            raise InvalidData(
                "$.version_id",
                "the file has a newer version of this notebook, and the record has no cells",
            )
        stored = {**_additional_fields(bare, NotebookHeader), **header_document(header)}
        return IncomingNotebook(id, stored, ordinals=_ordinals(versions.values()))
    notebook = TrainingNotebook.from_json({**archived, "cells": _add_cell_ids(id, archived)})
    parts = take_apart(notebook.cells, notebook.metadata)
    version_id, ordinal, is_new = _find_version(id, header.version_id, parts, versions, highest)
    stored = {
        **_additional_fields(bare, NotebookHeader),
        **header_document(notebook),
        "version_id": version_id,
        "cell_count": len(parts.entries),
        "cell_statuses": parts.statuses,
    }
    version = version_document(version_id, id, parts, ordinal, stored["updated_at"])
    derived = {
        VERSIONS.name: {version_id: dict(version)} if is_new else {},
        CONTENTS.name: {
            content_id(id, digest): dict(content_document(id, digest, content, ordinal))
            for digest, content in parts.contents.items()
            if content_id(id, digest) not in contents
        },
    }
    return IncomingNotebook(id, stored, derived, _ordinals([*versions.values(), version]))


def _ordinals(versions: Collection[Mapping[str, Any]]) -> dict[str, int]:
    """Return the ordinal of the first version that lists each content, and under "" the next one."""
    first: dict[str, int] = {"": 0}
    for version in sorted(versions, key=lambda one: int(one["ordinal"])):
        first[""] = version["ordinal"] + 1
        for listed in listed_contents(version):
            first.setdefault(listed, version["ordinal"])
    return first


def _without_cells(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document from which :meth:`DocumentAssembler.assemble` made ``document``."""
    bare = {name: value for name, value in document.items() if name != "cells"}
    metadata = bare.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("extra"), dict):
        extra = {name: value for name, value in metadata["extra"].items() if name != FILE_KEY}
        bare["metadata"] = {**metadata, "extra": extra}
    return bare


def _additional_fields(document: Mapping[str, Any], kind: type[Record]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in kind.__struct_fields__}


def _check_additions(document: Mapping[str, Any]) -> None:
    """Check the fields that no record type declares and that the repository relies on."""
    try:
        msgspec.convert(document, Binding)
        if "cell_statuses" in document:
            msgspec.convert(document["cell_statuses"], dict[str, str])
    except msgspec.ValidationError as error:
        raise InvalidData("$", str(error).replace("`", "")) from None


def _add_cell_ids(notebook_id: str, notebook: Mapping[str, Any]) -> Any:
    """Return the cells; those without an id get one that is the same each time."""
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        return cells
    return [
        {**cell, "id": str(uuid.uuid5(_NAMESPACE, encode([notebook_id, index])))}
        if isinstance(cell, dict) and "id" not in cell
        else cell
        for index, cell in enumerate(cells)
    ]


def _find_version(
    notebook_id: str,
    version_id: str | None,
    parts: Parts,
    versions: Mapping[str, Mapping[str, Any]],
    highest: int,
) -> tuple[str, int, bool]:
    """Return id and ordinal of the version with these parts, and whether the archive lacks it.

    That is the newest version if it has these parts, and otherwise one after it.
    """
    known = versions.get(version_id) if version_id is not None else None
    entries = [list(entry) for entry in parts.entries]
    if known is not None and known["ordinal"] == highest:
        file_key = known["metadata"].get("extra", {}).get(FILE_KEY)
        if known["cells"] == entries and file_key == parts.metadata["extra"].get(FILE_KEY):
            return str(version_id), highest, False
    if version_id is not None and known is None:
        return version_id, highest + 1, True
    content = [notebook_id, highest + 1, entries, parts.metadata]
    return str(uuid.uuid5(_NAMESPACE, encode(content))), highest + 1, True
