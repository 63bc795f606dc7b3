"""The stored form of a notebook's cells: split cells into parts, and assemble them. Pure.

A cell is stored in two parts: its source (type, source, metadata, attachments) and its outputs.
Each part is a document of ``axonml_contents`` under its hash, so a part that does not change
between saves is stored once per notebook. A version is a list of ``[cell id, source hash, outputs
hash, execution count]`` and the metadata. The list has the execution counts, so that a notebook
that is run again with the same outputs has no new contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InvalidData, NotFound
from ..mapping import cell_status
from ..records import CellOutput, CellStatus, CellType, NotebookCell, NotebookMetadata
from ..store import Document, document
from ..store.codec import encode
from .damage import check_damage

#: The key in ``metadata.extra`` of the data that rebuilds the file. It is stored as a content since
#: it may be large.
FILE_KEY = "nbformat"
_SOURCE_FIELDS = [
    name
    for name in NotebookCell.__struct_fields__
    if name not in ("id", "outputs", "status", "execution_count")
]
#: Before a part is hashed, strings of at least this length are replaced by a prefix and their hash.
_MIN_HASHED = 1024
_HASH_PREFIX = "sha256:"
#: The number of nested containers in which long strings are replaced: down to MIME bundles.
_HASHED_LEVELS = 4
#: The type of an output that reports an exception.
_ERROR = "error"
#: Hexadecimal digits of a content's hash: 160 bits.
DIGEST_LENGTH = 40


class Entry(NamedTuple):
    """A cell in a version: its id, the digests of its parts and its execution count."""

    cell_id: str
    source: str
    outputs: str | None
    execution_count: int | None


class Content(NamedTuple):
    """A part of a cell, and its length in characters of JSON."""

    document: dict[str, Any]
    length: int


class Parts(NamedTuple):
    """The parts of a notebook.

    Attributes
    ----------
    contents : dict
        The contents to store, by digest. Those that are stored already may be missing.
    statuses : dict
        The statuses that do not follow from outputs and execution counts, by cell id. They are
        stored in the record.
    failed : set of str or None
        The ids of cells with an error output, to know their status without reading their outputs.
        None if unknown, as for versions of older stores.
    """

    entries: list[Entry]
    metadata: dict[str, Any]
    contents: dict[str, Content]
    statuses: dict[str, str]
    failed: set[str] | None = None

    @property
    def length(self) -> int:
        """The length of all contents in characters of JSON."""
        return sum(content.length for content in self.contents.values())

    def find_span(self, cell_id: str) -> slice:
        """Return the position of a cell's entry as a slice; raises NotFound."""
        for index, entry in enumerate(self.entries):
            if entry.cell_id == cell_id:
                return slice(index, index + 1)
        raise NotFound("cell", cell_id)

    def splice(self, span: slice, new: Parts) -> Parts:
        """Return the parts with the entries in ``span`` replaced by those of ``new``."""
        removed = {entry.cell_id for entry in self.entries[span]}
        entries = [*self.entries[: span.start], *new.entries, *self.entries[span.stop :]]
        statuses = {id: status for id, status in self.statuses.items() if id not in removed}
        failed = None
        if self.failed is not None and new.failed is not None:
            failed = (self.failed - removed) | new.failed
        return Parts(entries, self.metadata, new.contents, statuses | new.statuses, failed)

    def digests(self) -> set[str]:
        """Return the digests of all contents of the notebook."""
        found = {
            digest for entry in self.entries for digest in (entry.source, entry.outputs) if digest
        }
        if FILE_KEY in (extra := self.metadata.get("extra", {})):
            found.add(extra[FILE_KEY])
        return found


def split(cells: Sequence[NotebookCell], metadata: NotebookMetadata) -> Parts:
    """Split a notebook into parts.

    Expensive: call it outside of transactions.

    Raises
    ------
    InvalidData
        When two cells share an id.
    """
    entries: list[Entry] = []
    contents: dict[str, Content] = {}
    statuses: dict[str, str] = {}
    failed: set[str] = set()
    seen: dict[str, int] = {}
    for index, cell in enumerate(cells):
        if cell.id in seen:
            raise InvalidData(
                f"$.cells[{index}].id", f"{cell.id} is the id of cell {seen[cell.id]} already"
            )
        seen[cell.id] = index
        if cell.status is not _derived_status(cell):
            statuses[cell.id] = cell.status.value
        if has_failed(output.output_type for output in cell.outputs):
            failed.add(cell.id)
        outputs = _add_content(contents, {"outputs": _outputs_part(cell)}) if cell.outputs else None
        entries.append(
            Entry(
                cell.id, _add_content(contents, _source_part(cell)), outputs, cell.execution_count
            )
        )
    metadata_fields = metadata.to_json()
    extra = dict(metadata.extra)
    if FILE_KEY in extra:
        extra[FILE_KEY] = _add_content(contents, {FILE_KEY: extra[FILE_KEY]})
    metadata_fields["extra"] = extra
    return Parts(entries, metadata_fields, contents, statuses, failed)


def _add_content(contents: dict[str, Content], part: dict[str, Any]) -> str:
    lengths: list[int] = []
    text = encode(_hash_long_strings(part, _HASHED_LEVELS, lengths))
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    contents[digest] = Content(part, len(text) + sum(lengths))
    return digest


def _hash_long_strings(value: Any, depth: int, lengths: list[int]) -> Any:
    """Replace long strings in ``value`` by their hashes, and append their lengths to ``lengths``.

    Most of a large notebook is images and logs. Encoding them as JSON takes several times as long
    as hashing them, and holds the interpreter lock.
    """
    if type(value) is str:
        if len(value) < _MIN_HASHED and not value.startswith(_HASH_PREFIX):
            return value
        lengths.append(len(value))
        return _HASH_PREFIX + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    if depth and type(value) is dict:
        return {
            name: _hash_long_strings(inner, depth - 1, lengths) for name, inner in value.items()
        }
    if depth and type(value) is list:
        return [_hash_long_strings(inner, depth - 1, lengths) for inner in value]
    return value


def _derived_status(cell: NotebookCell) -> CellStatus:
    if cell.cell_type is not CellType.CODE:
        return CellStatus.IDLE
    return cell_status(cell.outputs, executed=cell.execution_count is not None)


def has_failed(output_types: Iterable[Any]) -> bool:
    """Return whether outputs of these types include an error."""
    return any(kind == _ERROR for kind in output_types)


def _source_part(cell: NotebookCell) -> dict[str, Any]:
    part = {name: value for name in _SOURCE_FIELDS if (value := getattr(cell, name)) is not None}
    return {**part, "cell_type": cell.cell_type.value}


def _outputs_part(cell: NotebookCell) -> list[dict[str, Any]]:
    part = []
    for output in cell.outputs:
        fields = output.to_json()
        if output.execution_count is not None and output.execution_count == cell.execution_count:
            fields["execution_count"] = True  # the same as that of the cell
        part.append(fields)
    return part


def decode_parts(version: Mapping[str, Any]) -> Parts:
    """Return the parts of a version's document, without contents; raises RecordDamaged."""
    with check_damage(f"version {version.get('id')}"):
        failed = None if version.get("failed") is None else set(version["failed"])
        return Parts(
            [Entry(*entry) for entry in version["cells"]], version["metadata"], {}, {}, failed
        )


def assemble_cell(entry: Entry, contents: Mapping[str, Any]) -> NotebookCell:
    """Return the cell of an entry, with the status that follows from outputs and count."""
    cell = NotebookCell.from_json({**contents[entry.source], "id": entry.cell_id})
    cell.execution_count = entry.execution_count
    if entry.outputs is not None:
        for output in contents[entry.outputs]["outputs"]:
            if output.get("execution_count") is True:
                output = {**output, "execution_count": entry.execution_count}
            cell.outputs.append(CellOutput.from_json(output))
    cell.status = _derived_status(cell)
    return cell


def assemble_cell_without_outputs(
    entry: Entry, contents: Mapping[str, Any], *, failed: bool
) -> NotebookCell:
    """Return the cell of an entry without its outputs; ``failed`` if they include an error."""
    cell = assemble_cell(entry._replace(outputs=None), contents)
    if failed and cell.cell_type is CellType.CODE:
        cell.status = CellStatus.ERROR
    return cell


def content_ids(version: Mapping[str, Any]) -> set[str]:
    """Return the ids of the contents that a version's document lists."""
    return {
        content_id(version["notebook_id"], digest) for digest in decode_parts(version).digests()
    }


def version_document(
    id: str, notebook_id: str, parts: Parts, ordinal: int, created_at: str
) -> Document:
    """Return the stored form of a version."""
    fields = {
        "id": id,
        "notebook_id": notebook_id,
        "created_at": created_at,
        "ordinal": ordinal,
        "cells": [list(entry) for entry in parts.entries],
        "metadata": parts.metadata,
    }
    if parts.failed is not None:
        fields["failed"] = sorted(parts.failed)
    return document(id, fields)


def content_document(notebook_id: str, digest: str, content: Content, ordinal: int) -> Document:
    """Return the stored form of a content; the version ``ordinal`` is the first that lists it."""
    fields = {"notebook_id": notebook_id, "ordinal": ordinal, "content": content.document}
    return document(content_id(notebook_id, digest), fields)


def content_id(notebook_id: str, digest: str) -> str:
    """Return the id of a content's document."""
    return f"{notebook_id}/{digest}"
