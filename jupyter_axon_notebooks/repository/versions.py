"""How the cells of a notebook are kept: contents stored once, and versions that list them.

A cell is kept in two parts, its source (type, source, metadata, attachments) and its outputs, each a document of
``axonml_contents`` under its hash, so what does not change between saves is stored once per notebook. A version is a
list of ``[cell id, source hash, outputs hash, execution count]`` and the metadata. Execution counts are no part of the
outputs: re-running a notebook that prints the same stores nothing but the list.

Versions of a notebook are numbered (``ordinal``), and a content carries the number of the version that first had it.
A save that changes outputs alone replaces the newest version under the same number; the contents that bear this number
and are no longer listed belong to nobody else, and go with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import msgspec
from tinydb import where

from ..errors import InvalidData, StoreError
from ..mapping import cell_status
from ..records import (
    CellChange,
    CellOutput,
    NotebookCell,
    NotebookMetadata,
    NotebookVersion,
    VersionSummary,
    format_time,
    new_id,
    now,
)
from ..store import Document, Store, document
from ..store.codec import encode

#: The key in ``metadata.extra`` whose value is a content of its own, since it may be large.
_FILE_KEY = "nbformat"
#: Characters of content in one transaction; what a save has beyond that is written ahead of it.
_BATCH_LENGTH = 4_000_000


class Entry(NamedTuple):
    """A cell in a version: its id, and where its parts are."""

    cell_id: str
    source: str
    outputs: str | None
    execution_count: int | None


class Content(NamedTuple):
    """A part of a cell, and how long it is, in characters of JSON."""

    document: dict[str, Any]
    length: int


class Parts(NamedTuple):
    """A notebook taken apart, ready to be stored.

    ``contents`` are those that may have to be written, by digest. ``statuses`` are the cell statuses that do not
    follow from outputs and execution count, by cell id; they belong to the record, since no version begins with them.
    """

    entries: list[Entry]
    metadata: dict[str, Any]
    contents: dict[str, Content]
    statuses: dict[str, str]

    def listed(self) -> set[str]:
        """The digests of all contents the notebook consists of."""
        digests = {digest for entry in self.entries for digest in (entry.source, entry.outputs) if digest}
        if _FILE_KEY in self.metadata["extra"]:
            digests.add(self.metadata["extra"][_FILE_KEY])
        return digests


def take_apart(cells: Sequence[NotebookCell], metadata: NotebookMetadata) -> Parts:
    """The parts of a notebook. Pure, and where the work on a large one is: nothing is locked meanwhile.

    Raises
    ------
    InvalidData
        When two cells share an id.
    """
    entries: list[Entry] = []
    contents: dict[str, Content] = {}
    statuses: dict[str, str] = {}
    seen: dict[str, int] = {}
    for index, cell in enumerate(cells):
        if cell.id in seen:
            raise InvalidData(f"$.cells[{index}].id", f"{cell.id} is the id of cell {seen[cell.id]} already")
        seen[cell.id] = index
        if cell.status is not _derived_status(cell):
            statuses[cell.id] = cell.status.value
        outputs = _put(contents, {"outputs": _outputs_part(cell)}) if cell.outputs else None
        entries.append(Entry(cell.id, _put(contents, _source_part(cell)), outputs, cell.execution_count))
    described = metadata.to_json()
    extra = dict(metadata.extra)
    if _FILE_KEY in extra:
        extra[_FILE_KEY] = _put(contents, {_FILE_KEY: extra[_FILE_KEY]})
    described["extra"] = extra
    return Parts(entries, described, contents, statuses)


def _put(contents: dict[str, Content], part: dict[str, Any]) -> str:
    text = encode(part)
    digest = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    contents[digest] = Content(part, len(text))
    return digest


def _derived_status(cell: NotebookCell) -> Any:
    return cell_status(cell.outputs, executed=cell.execution_count is not None)


def _source_part(cell: NotebookCell) -> dict[str, Any]:
    part = cell.to_json()
    for name in ("id", "outputs", "status", "execution_count"):
        part.pop(name, None)
    return part


def _outputs_part(cell: NotebookCell) -> list[dict[str, Any]]:
    part = []
    for output in cell.outputs:
        fields = output.to_json()
        if output.execution_count is not None and output.execution_count == cell.execution_count:
            fields["execution_count"] = True  # the cell's, whatever it is
        part.append(fields)
    return part


class Versions:
    """The versions and contents of the notebooks in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Writing

    def write_ahead(self, notebook_id: str, parts: Parts) -> None:
        """Store the bulk of a large notebook's new contents, so that the transaction to come is a short one.

        Until a version lists them nobody sees them; should none ever do, they go with the notebook.
        """
        if sum(content.length for content in parts.contents.values()) <= _BATCH_LENGTH:
            return
        # Numbered as the newest version is, never higher: a number must not promise that no older version lists it.
        ordinal = self._newest_ordinal(notebook_id)
        batch: list[str] = []
        length = 0
        for digest in self._missing(notebook_id, parts):
            batch.append(digest)
            length += parts.contents[digest].length
            if length > _BATCH_LENGTH:
                self._insert(notebook_id, parts, batch, ordinal)
                batch, length = [], 0

    def write(self, notebook_id: str, current_id: str | None, parts: Parts) -> str:
        """Make ``parts`` the newest version, inside the caller's transaction; its id.

        ``current_id`` is the version the record has now. It stays when nothing changed. It is replaced when only
        outputs, counts or metadata did and no checkpoint refers to it. Otherwise a new one begins.
        """
        entries = [list(entry) for entry in parts.entries]
        current = self._store.versions.get(doc_id=current_id) if current_id is not None else None
        ordinal = 0
        if current is not None:
            ordinal = current["ordinal"]
            if current["cells"] == entries and encode(current["metadata"]) == encode(parts.metadata):
                return str(current["id"])
            same_sources = [e[:2] for e in current["cells"]] == [e[:2] for e in entries]
            if same_sources and not self._store.checkpoints.count(where("version_id") == current_id):
                self._store.versions.remove(doc_ids=[current_id])
                self._drop_unlisted(notebook_id, ordinal, parts)
            else:
                ordinal += 1
        self._insert(notebook_id, parts, self._missing(notebook_id, parts), ordinal)
        version_id = new_id()
        version = {
            "id": version_id,
            "notebook_id": notebook_id,
            "created_at": format_time(now()),
            "ordinal": ordinal,
            "cells": entries,
            "metadata": parts.metadata,
        }
        self._store.versions.insert(document(version_id, version))
        return version_id

    def _missing(self, notebook_id: str, parts: Parts) -> list[str]:
        ids = {_content_id(notebook_id, digest): digest for digest in parts.contents}
        present = self._store.contents.present(ids)
        return [digest for content_id, digest in ids.items() if content_id not in present]

    def _insert(self, notebook_id: str, parts: Parts, digests: Iterable[str], ordinal: int) -> None:
        documents = (
            document(
                _content_id(notebook_id, digest),
                {"notebook_id": notebook_id, "ordinal": ordinal, "content": parts.contents[digest].document},
            )
            for digest in digests
        )
        self._store.contents.insert_multiple(documents)

    def _newest_ordinal(self, notebook_id: str) -> int:
        newest = self._store.versions.search(where("notebook_id") == notebook_id, sort=["-ordinal"], limit=1)
        return int(newest[0]["ordinal"]) if newest else 0

    def _drop_unlisted(self, notebook_id: str, ordinal: int, parts: Parts) -> None:
        listed = {_content_id(notebook_id, digest) for digest in parts.listed()}
        bearing = (where("notebook_id") == notebook_id) & (where("ordinal") == ordinal)
        unlisted = self._store.contents.ids(bearing) - listed
        self._store.contents.remove(doc_ids=unlisted)

    # Reading

    def parts(self, version_id: str) -> Parts:
        """A version's parts without the contents, which are in the store already.

        Raises
        ------
        StoreError
            When the store has no such version.
        """
        return _parts(self._version(version_id))

    def read(self, version_id: str) -> tuple[list[NotebookCell], NotebookMetadata]:
        """The cells and metadata of a version; cell statuses follow from outputs and counts.

        Raises
        ------
        StoreError
            When the version, or a content it lists, is missing from the store.
        """
        return self._put_together(self._version(version_id))

    def _version(self, version_id: str) -> Document:
        version: Document | None = self._store.versions.get(doc_id=version_id)
        if version is None:
            raise StoreError(f"version {version_id} is missing from the store")
        return version

    def _put_together(self, version: Document) -> tuple[list[NotebookCell], NotebookMetadata]:
        parts = _parts(version)
        contents = self._contents(version["notebook_id"], parts.listed())
        metadata = NotebookMetadata.from_json(parts.metadata)
        if _FILE_KEY in metadata.extra:
            metadata.extra[_FILE_KEY] = contents[metadata.extra[_FILE_KEY]][_FILE_KEY]
        return [_cell(entry, contents) for entry in parts.entries], metadata

    def _contents(self, notebook_id: str, digests: set[str]) -> dict[str, Any]:
        ids = {_content_id(notebook_id, digest): digest for digest in digests}
        found = {
            ids[str(content.doc_id)]: content["content"]
            for content in self._store.contents.get(doc_ids=list(ids))
        }
        if missing := digests - set(found):
            raise StoreError(
                f"contents of notebook {notebook_id} are missing from the store: {sorted(missing)}"
            )
        return found

    def get(self, notebook_id: str, version_id: str) -> NotebookVersion | None:
        """A version of a notebook, whole; None where it has no such version."""
        version = self._store.versions.get(doc_id=version_id)
        if version is None or version["notebook_id"] != notebook_id:
            return None
        cells, metadata = self._put_together(version)
        return NotebookVersion(**msgspec.structs.asdict(_summary(version)), cells=cells, metadata=metadata)

    def count(self, notebook_id: str) -> int:
        """How many versions of a notebook are kept."""
        return self._store.versions.count(where("notebook_id") == notebook_id)

    def summaries(self, notebook_id: str, limit: int | None, offset: int) -> list[VersionSummary]:
        """The versions of a notebook, newest first."""
        of_notebook = where("notebook_id") == notebook_id
        found = self._store.versions.search(of_notebook, sort=["-ordinal"], limit=limit, skip=offset)
        return [_summary(version) for version in found]


def _parts(version: Document) -> Parts:
    return Parts([Entry(*entry) for entry in version["cells"]], version["metadata"], {}, {})


def _content_id(notebook_id: str, digest: str) -> str:
    return f"{notebook_id}/{digest}"


def _cell(entry: Entry, contents: dict[str, Any]) -> NotebookCell:
    cell = NotebookCell.from_json({**contents[entry.source], "id": entry.cell_id})
    cell.execution_count = entry.execution_count
    if entry.outputs is not None:
        for output in contents[entry.outputs]["outputs"]:
            counted = output.get("execution_count") is True
            given = {**output, "execution_count": entry.execution_count} if counted else output
            cell.outputs.append(CellOutput.from_json(given))
    cell.status = _derived_status(cell)
    return cell


def _summary(version: Document) -> VersionSummary:
    return VersionSummary.from_json({**version, "cell_count": len(version["cells"])})


def diff(before: Sequence[NotebookCell], after: Sequence[NotebookCell]) -> list[CellChange]:
    """What changed in the sources from one version to another: cells removed first, then in the order of ``after``.

    A cell whose source stayed but whose place among the others did not is ``moved``.
    """
    old = {cell.id: cell for cell in before}
    new = {cell.id: cell for cell in after}
    removed = [
        CellChange(cell_id=cell.id, change="removed", before=cell.source)
        for cell in before
        if cell.id not in new
    ]
    staying = _in_place([i for i in old if i in new], [i for i in new if i in old])
    return removed + list(_changes(old, new, staying))


def _changes(
    old: dict[str, NotebookCell], new: dict[str, NotebookCell], staying: set[str]
) -> Iterator[CellChange]:
    for cell_id, cell in new.items():
        was = old.get(cell_id)
        if was is None:
            yield CellChange(cell_id=cell_id, change="added", after=cell.source)
        elif (was.source, was.cell_type) != (cell.source, cell.cell_type):
            yield CellChange(cell_id=cell_id, change="changed", before=was.source, after=cell.source)
        elif cell_id not in staying:
            yield CellChange(cell_id=cell_id, change="moved", before=was.source, after=cell.source)


def _in_place(before: list[str], after: list[str]) -> set[str]:
    blocks: Iterable[Any] = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return {cell_id for block in blocks for cell_id in before[block.a : block.a + block.size]}
