"""How the cells of a notebook are kept: contents stored once, and versions that list them.

A cell is kept in two parts, its source (type, source, metadata, attachments) and its outputs, each a document of
``axonml_contents`` under its hash, so what does not change between saves is stored once per notebook. A version is a
list of ``[cell id, source hash, outputs hash, execution count]`` and the metadata. Execution counts are no part of the
outputs: re-running a notebook that prints the same stores nothing but the list.

Versions of a notebook are numbered (``ordinal``), and a content carries the number of the version that first had it.
A save that changes outputs alone replaces the newest version under the same number; the contents that bear this number
and are no longer listed belong to nobody else, and go with it. So no version lists a content of a higher number than
its own, and what bears a number that no version has (yet) was written ahead of one. Old versions go one day
(:mod:`.housekeeping`), and what is still listed then keeps its number: a content belongs to one version alone if it is
newer than every version before that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from tinydb import where

from ..errors import InvalidData, RecordDamaged
from ..mapping import cell_status
from ..records import (
    CellOutput,
    CellStatus,
    CellType,
    NotebookCell,
    NotebookMetadata,
    NotebookVersion,
    VersionSummary,
    format_time,
    new_id,
    now,
)
from ..store import Document, Store, document, retried
from ..store.codec import encode
from .damage import damage_named

#: The key in ``metadata.extra`` whose value is a content of its own, since it may be large.
FILE_KEY = "nbformat"
_SOURCE_FIELDS = [
    name
    for name in NotebookCell.__struct_fields__
    if name not in ("id", "outputs", "status", "execution_count")
]
#: Characters of content in one transaction; what a save has beyond that is written ahead of it.
_BATCH_LENGTH = 4_000_000
#: Characters from which a text is hashed as it is. Shorter ones are hashed within the JSON they are part of.
_LONG = 1024
#: What stands in that JSON for a text that is hashed as it is, before its hash.
_HASHED = "sha256:"
#: How deep long texts are looked for: the values of MIME bundles lie this deep in an outputs part.
_DEPTH = 4
#: Hexadecimal digits of a content's hash: 160 bits.
_DIGEST_LENGTH = 40


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

    @property
    def length(self) -> int:
        """How long all contents are, in characters of JSON."""
        return sum(content.length for content in self.contents.values())

    def listed(self) -> set[str]:
        """The digests of all contents the notebook consists of."""
        digests = {digest for entry in self.entries for digest in (entry.source, entry.outputs) if digest}
        if FILE_KEY in (extra := self.metadata.get("extra", {})):
            digests.add(extra[FILE_KEY])
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
    if FILE_KEY in extra:
        extra[FILE_KEY] = _put(contents, {FILE_KEY: extra[FILE_KEY]})
    described["extra"] = extra
    return Parts(entries, described, contents, statuses)


def _put(contents: dict[str, Content], part: dict[str, Any]) -> str:
    lengths: list[int] = []
    text = encode(_abridged(part, _DEPTH, lengths))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    contents[digest] = Content(part, len(text) + sum(lengths))
    return digest


def _abridged(value: Any, depth: int, lengths: list[int]) -> Any:
    """``value`` with its long texts replaced by their hashes, one to one; ``lengths`` gets theirs.

    Images and logs are most of a large notebook. As JSON they take several times as long as their hash does, and
    hold the interpreter meanwhile.
    """
    if type(value) is str:
        if len(value) < _LONG and not value.startswith(_HASHED):
            return value
        lengths.append(len(value))
        return _HASHED + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    if depth and type(value) is dict:
        return {name: _abridged(inner, depth - 1, lengths) for name, inner in value.items()}
    if depth and type(value) is list:
        return [_abridged(inner, depth - 1, lengths) for inner in value]
    return value


def _derived_status(cell: NotebookCell) -> CellStatus:
    if cell.cell_type is not CellType.CODE:
        return CellStatus.IDLE
    return cell_status(cell.outputs, executed=cell.execution_count is not None)


def _source_part(cell: NotebookCell) -> dict[str, Any]:
    part = {name: value for name in _SOURCE_FIELDS if (value := getattr(cell, name)) is not None}
    return {**part, "cell_type": cell.cell_type.value}


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

    def write_ahead(self, notebook_id: str, parts: Parts, lock: Callable[[], str | None]) -> None:
        """Store the bulk of a large notebook's new contents, so that the transaction to come is a short one.

        Until a version lists them nobody sees them; should none ever do, the next version to begin removes them.

        Parameters
        ----------
        lock : callable
            Locks the notebook for one transaction and returns its current version's id, None where there is none yet.
            What it raises ends the writing.
        """
        if not self._store.admits_one_writer or parts.length <= _BATCH_LENGTH:
            return  # a transaction that holds up nobody may take its time
        for batch in _batches(parts, self._missing(notebook_id, parts.contents)):
            self._write_batch(notebook_id, parts, batch, lock)

    @retried
    def _write_batch(
        self, notebook_id: str, parts: Parts, digests: list[str], lock: Callable[[], str | None]
    ) -> None:
        with self._store.transaction():
            ordinal, _ = self._place(self._current(lock()), parts)
            self._insert(notebook_id, parts, self._missing(notebook_id, digests), ordinal)

    def write(
        self, notebook_id: str, current_id: str | None, parts: Parts, version_id: str | None = None
    ) -> str:
        """Make ``parts`` the newest version, inside the caller's transaction; its id, which may be given.

        ``current_id`` is the version the record has now. It stays when nothing changed. It is replaced when only
        outputs, counts or metadata did and no checkpoint refers to it. Otherwise a new one begins.
        """
        entries = [list(entry) for entry in parts.entries]
        current = self._current(current_id)
        known: set[str] = set()
        if current is not None:
            if current["cells"] == entries and encode(current["metadata"]) == encode(parts.metadata):
                return str(current["id"])
            known = _parts(current).listed()
        ordinal, replaces = self._place(current, parts)
        if replaces:
            self._store.versions.discard([str(current_id)])
            # Written ahead of a version that did not begin after all. Of that number none may be left.
            self._drop(self.ahead(notebook_id, ordinal))
        elif current is not None:
            # Written ahead of a replacement of the current version that did not come to be. Of the numbers up to the
            # current one nobody else can list them, and from now on nobody would look there.
            own = self._store.leftovers.unshared(notebook_id, ordinal - 1)
            newer = self._store.leftovers.unshared(notebook_id, ordinal)
            self._drop(own - newer - {content_id(notebook_id, digest) for digest in known})
        listed = {content_id(notebook_id, digest) for digest in parts.listed()}
        self._drop(self._store.leftovers.unshared(notebook_id, ordinal) - listed)
        # Those written ahead as well: a sweep may have taken them.
        missing = self._missing(notebook_id, parts.contents.keys() - known)
        self._insert(notebook_id, parts, missing, ordinal)
        version_id = version_id or new_id()
        version = version_document(version_id, notebook_id, parts, ordinal, format_time(now()))
        self._store.versions.insert_new(version)
        return version_id

    def forget(self, notebook_id: str) -> None:
        """Remove what was written ahead of a notebook that did not come to be, inside the caller's transaction."""
        self._store.contents.remove(where("notebook_id") == notebook_id)

    def _current(self, version_id: str | None) -> Document | None:
        return None if version_id is None else self._version(version_id)

    def _place(self, current: Document | None, parts: Parts) -> tuple[int, bool]:
        """The number of the version to come, and whether it replaces the current one."""
        if current is None:
            return 0, False
        same_sources = [e[:2] for e in current["cells"]] == [[e.cell_id, e.source] for e in parts.entries]
        if same_sources and not self._store.checkpoints.has(version_id=current["id"]):
            return int(current["ordinal"]), True
        return int(current["ordinal"]) + 1, False

    def _missing(self, notebook_id: str, digests: Iterable[str]) -> list[str]:
        ids = {content_id(notebook_id, digest): digest for digest in digests}
        present = self._store.contents.present(ids)
        return [digest for content_id, digest in ids.items() if content_id not in present]

    def _insert(self, notebook_id: str, parts: Parts, digests: Iterable[str], ordinal: int) -> None:
        documents = (
            content_document(notebook_id, digest, parts.contents[digest], ordinal) for digest in digests
        )
        self._store.contents.insert_new(*documents)

    def _drop(self, content_ids: set[str]) -> None:
        if content_ids:
            self._store.contents.discard(content_ids)

    # Reading

    def ahead(self, notebook_id: str, newest: int) -> set[str]:
        """The ids of contents that were written ahead of the version after the ``newest`` one; -1: there is none."""
        following = where("ordinal") == newest + 1
        return self._store.contents.ids((where("notebook_id") == notebook_id) & following)

    def newest(self, notebook_id: str) -> int:
        """The number of a notebook's newest version; -1 where it has none."""
        of_notebook = where("notebook_id") == notebook_id
        found = self._store.versions.search(of_notebook, sort=["-ordinal"], limit=1)
        return int(found[0]["ordinal"]) if found else -1

    def listed(self, version_ids: Iterable[str]) -> dict[str, set[str]]:
        """The ids of the contents that each of these versions lists; of those versions that there are."""
        return {
            str(version.doc_id): listed_contents(version)
            for version in self._store.versions.get(doc_ids=list(version_ids))
        }

    def parts(self, version_id: str) -> Parts:
        """A version's parts without the contents, which are in the store already.

        Raises
        ------
        RecordDamaged
            When the store has no such version.
        """
        return _parts(self._version(version_id))

    def read(self, version_id: str) -> tuple[list[NotebookCell], NotebookMetadata]:
        """The cells and metadata of a version; cell statuses follow from outputs and counts.

        Raises
        ------
        RecordDamaged
            When the version, or a content it lists, is missing from the store.
        """
        version = self._version(version_id)
        with damage_named(f"version {version_id}"):
            return self._put_together(version)

    def cell(self, notebook_id: str, entry: Entry) -> NotebookCell:
        """One cell of a version; raises as :meth:`read` does."""
        digests = {digest for digest in (entry.source, entry.outputs) if digest}
        with damage_named(f"cell {entry.cell_id} of notebook {notebook_id}"):
            return _cell(entry, self._contents(notebook_id, digests))

    def _version(self, version_id: str) -> Document:
        version: Document | None = self._store.versions.get(doc_id=version_id)
        if version is None:
            raise RecordDamaged(f"version {version_id} is missing from the store")
        return version

    def _put_together(self, version: Document) -> tuple[list[NotebookCell], NotebookMetadata]:
        parts = _parts(version)
        contents = self._contents(version["notebook_id"], parts.listed())
        metadata = NotebookMetadata.from_json(parts.metadata)
        if FILE_KEY in metadata.extra:
            metadata.extra[FILE_KEY] = contents[metadata.extra[FILE_KEY]][FILE_KEY]
        return [_cell(entry, contents) for entry in parts.entries], metadata

    def _contents(self, notebook_id: str, digests: set[str]) -> dict[str, Any]:
        ids = {content_id(notebook_id, digest): digest for digest in digests}
        found = {
            ids[str(content.doc_id)]: content["content"]
            for content in self._store.contents.get(doc_ids=list(ids))
        }
        if missing := digests - set(found):
            raise RecordDamaged(
                f"contents of notebook {notebook_id} are missing from the store: {sorted(missing)}"
            )
        return found

    @retried
    def get(self, notebook_id: str, version_id: str) -> NotebookVersion | None:
        """A version of a notebook, whole; None where it has no such version."""
        with self._store.snapshot():
            version = self._store.versions.get(doc_id=version_id)
            if version is None or version["notebook_id"] != notebook_id:
                return None
            with damage_named(f"version {version_id}"):
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


def listed_contents(version: Mapping[str, Any]) -> set[str]:
    """The ids of the contents that a version's document lists."""
    return {content_id(version["notebook_id"], digest) for digest in _parts(version).listed()}


def _batches(parts: Parts, digests: Iterable[str]) -> Iterator[list[str]]:
    """``digests`` in full batches; what would be less than one at the end is left out."""
    batch: list[str] = []
    length = 0
    for digest in digests:
        batch.append(digest)
        length += parts.contents[digest].length
        if length > _BATCH_LENGTH:
            yield batch
            batch, length = [], 0


def _parts(version: Mapping[str, Any]) -> Parts:
    with damage_named(f"version {version.get('id')}"):
        return Parts([Entry(*entry) for entry in version["cells"]], version["metadata"], {}, {})


def version_document(id: str, notebook_id: str, parts: Parts, ordinal: int, created_at: str) -> Document:
    """The stored form of a version."""
    fields = {
        "id": id,
        "notebook_id": notebook_id,
        "created_at": created_at,
        "ordinal": ordinal,
        "cells": [list(entry) for entry in parts.entries],
        "metadata": parts.metadata,
    }
    return document(id, fields)


def content_document(notebook_id: str, digest: str, content: Content, ordinal: int) -> Document:
    """The stored form of a content that the version of number ``ordinal`` is the first to list."""
    fields = {"notebook_id": notebook_id, "ordinal": ordinal, "content": content.document}
    return document(content_id(notebook_id, digest), fields)


def content_id(notebook_id: str, digest: str) -> str:
    """The id of a content's document."""
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
    with damage_named(f"version {version.doc_id}"):
        return VersionSummary.from_json({**version, "cell_count": len(version["cells"])})
