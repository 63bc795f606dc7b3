"""The versions of notebooks, and the contents that they list.

Versions are numbered by an increasing ``ordinal``. A content has the ordinal of the first version
that lists it. Therefore:

* A version lists no content with a higher ordinal than its own.
* Contents with a higher ordinal than the newest version are staged for the next one.
* Contents with the ordinal of the newest version are listed only by it.

A save that changes only outputs replaces the newest version by one with the next ordinal, and
removes the replaced version's own contents.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from tinydb import where

from ..errors import NotFound, RecordDamaged
from ..records import (
    CellChange,
    NotebookCell,
    NotebookMetadata,
    NotebookVersion,
    VersionSummary,
    format_time,
    new_id,
    now,
)
from ..store import Document, Store, retried
from ..store.codec import encode
from ..trust import without_trust
from .damage import check_damage
from .diff import diff_cells, match_ids
from .parts import (
    FILE_KEY,
    Entry,
    Parts,
    assemble_cell,
    assemble_cell_without_outputs,
    content_document,
    content_id,
    content_ids,
    decode_parts,
    has_failed,
    version_document,
)

#: The maximum number of characters of content in one transaction. More is staged before it.
_BATCH_LENGTH = 4_000_000


class VersionRepository:
    """The versions and contents of the notebooks in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def stage(self, notebook_id: str, parts: Parts, lock: Callable[[], str | None]) -> None:
        """Store a large notebook's contents in advance, so that the next transaction is short.

        They are invisible until a version lists them. If none does, the next version or garbage
        collection removes them.

        Parameters
        ----------
        lock : callable
            Locks the notebook in the open transaction and returns the id of its current version,
            or None. An exception that it raises ends the staging.
        """
        if self.needs_staging(parts):
            for batch in _batches(parts, self._missing(notebook_id, parts.contents)):
                self._write_batch(notebook_id, parts, batch, lock)

    def needs_staging(self, parts: Parts) -> bool:
        """Return whether contents are large and a transaction would block all writers."""
        return self._store.admits_one_writer and parts.length > _BATCH_LENGTH

    @retried
    def _write_batch(
        self, notebook_id: str, parts: Parts, digests: list[str], lock: Callable[[], str | None]
    ) -> None:
        with self._store.transaction():
            ordinal = _next_ordinal(self._find(lock()))
            self._insert(notebook_id, parts, self._missing(notebook_id, digests), ordinal)

    def write(
        self, notebook_id: str, current_id: str | None, parts: Parts, version_id: str | None = None
    ) -> str:
        """Make ``parts`` the newest version inside the caller's transaction; return its id.

        If nothing changed, the current version stays. It is replaced if only outputs, execution
        counts or metadata changed and no checkpoint refers to it.
        """
        current = self._find(current_id)
        known: set[str] = set()
        if current is not None:
            same_cells = current["cells"] == [list(entry) for entry in parts.entries]
            if same_cells and encode(current["metadata"]) == encode(parts.metadata):
                return str(current["id"])
            known = decode_parts(current).digests()
            if self._is_replaced(current, parts):
                self._store.versions.remove([str(current_id)])
        ordinal = _next_ordinal(current)
        # Staged contents, and those that only the replaced version listed.
        listed = {content_id(notebook_id, digest) for digest in parts.digests()}
        unlisted = self._store.garbage.contents_since(notebook_id, ordinal) - listed
        if unlisted:
            self._store.contents.remove(unlisted)
        # Garbage collection may have removed staged contents.
        missing = self._missing(notebook_id, parts.contents.keys() - known)
        self._insert(notebook_id, parts, missing, ordinal)
        version_id = version_id or new_id()
        version = version_document(version_id, notebook_id, parts, ordinal, format_time(now()))
        self._store.versions.insert(version)
        return version_id

    def _is_replaced(self, current: Document, parts: Parts) -> bool:
        sources = [[entry.cell_id, entry.source] for entry in parts.entries]
        is_same_code = [entry[:2] for entry in current["cells"]] == sources
        return is_same_code and self._store.checkpoints.find_one(version_id=current["id"]) is None

    def _missing(self, notebook_id: str, digests: Iterable[str]) -> builtins.list[str]:
        ids = {content_id(notebook_id, digest): digest for digest in digests}
        present = self._store.contents.existing_ids(ids)
        return [digest for content_id, digest in ids.items() if content_id not in present]

    def _insert(self, notebook_id: str, parts: Parts, digests: Iterable[str], ordinal: int) -> None:
        documents = (
            content_document(notebook_id, digest, parts.contents[digest], ordinal)
            for digest in digests
        )
        self._store.contents.insert(*documents)

    def content_ids(self, version_ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the ids of the contents that versions list, by version."""
        versions = self._store.versions.get(doc_ids=list(version_ids))
        return {str(version.doc_id): content_ids(version) for version in versions}

    def read_parts(self, version_id: str) -> Parts:
        """Return a version's parts without the contents; raises RecordDamaged."""
        return decode_parts(self._get(version_id))

    def read(
        self, version_id: str, *, outputs: bool = True
    ) -> tuple[builtins.list[NotebookCell], NotebookMetadata]:
        """Return the cells and metadata of a version, with or without outputs.

        Raises RecordDamaged when the version, or a content that it lists, is missing.
        """
        version = self._get(version_id)
        with check_damage(f"version {version_id}"):
            return self._assemble(version, outputs=outputs)

    def read_cell(self, notebook_id: str, entry: Entry) -> NotebookCell:
        """Return one cell of a version; raises RecordDamaged."""
        digests = {digest for digest in (entry.source, entry.outputs) if digest}
        with check_damage(f"cell {entry.cell_id} of notebook {notebook_id}"):
            return assemble_cell(entry, self._contents(notebook_id, digests))

    def _find(self, version_id: str | None) -> Document | None:
        return None if version_id is None else self._get(version_id)

    def _get(self, version_id: str) -> Document:
        version: Document | None = self._store.versions.get(doc_id=version_id)
        if version is None:
            raise RecordDamaged(f"version {version_id} is missing from the store")
        return version

    def _assemble(
        self, version: Document, *, outputs: bool
    ) -> tuple[builtins.list[NotebookCell], NotebookMetadata]:
        parts, notebook_id = decode_parts(version), version["notebook_id"]
        entries = parts.entries if outputs else [e._replace(outputs=None) for e in parts.entries]
        contents = self._contents(notebook_id, parts._replace(entries=entries).digests())
        metadata = NotebookMetadata.from_json(parts.metadata)
        if FILE_KEY in metadata.extra:
            metadata.extra[FILE_KEY] = without_trust(contents[metadata.extra[FILE_KEY]][FILE_KEY])
        if outputs:
            return [assemble_cell(entry, contents) for entry in entries], metadata
        failed = self._failed_cells(notebook_id, parts)
        cells = [
            assemble_cell_without_outputs(entry, contents, failed=entry.cell_id in failed)
            for entry in entries
        ]
        return cells, metadata

    def _failed_cells(self, notebook_id: str, parts: Parts) -> set[str]:
        if parts.failed is not None:
            return parts.failed
        # Older stores lack `failed`. Outputs are read cell by cell to limit the memory used.
        return {
            entry.cell_id
            for entry in parts.entries
            if entry.outputs is not None
            and has_failed(
                output.get("output_type")
                for output in self._contents(notebook_id, {entry.outputs})[entry.outputs]["outputs"]
            )
        }

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
    def get(
        self, notebook_id: str, version_id: str, *, outputs: bool = True
    ) -> NotebookVersion | None:
        """Return a version with its cells, or None if the notebook has no such version."""
        with self._store.snapshot():
            version = self._store.versions.get(doc_id=version_id)
            if version is None or version["notebook_id"] != notebook_id:
                return None
            with check_damage(f"version {version_id}"):
                cells, metadata = self._assemble(version, outputs=outputs)
        fields = msgspec.structs.asdict(_summary(version))
        return NotebookVersion(**fields, cells=cells, metadata=metadata)

    def list(
        self, notebook_id: str, limit: int | None = None, offset: int = 0
    ) -> builtins.list[VersionSummary]:
        """Return the versions of a notebook, newest first."""
        condition = where("notebook_id") == notebook_id
        found = self._store.versions.search(condition, sort=["-ordinal"], limit=limit, skip=offset)
        return [_summary(version) for version in found]

    def count(self, notebook_id: str) -> int:
        """Return the number of versions of a notebook."""
        return self._store.versions.count(where("notebook_id") == notebook_id)

    def diff(self, notebook_id: str, before: str, after: str) -> builtins.list[CellChange]:
        """Return the changes in the sources between two versions of a notebook.

        Cells whose ids changed, as by a conversion to nbformat 4.5, are matched by source. Raises
        NotFound.
        """
        old, new = (self._cells(notebook_id, id) for id in (before, after))
        return diff_cells(match_ids(old, new), new)

    def _cells(self, notebook_id: str, version_id: str) -> builtins.list[NotebookCell]:
        version = self.get(notebook_id, version_id, outputs=False)
        if version is None:
            raise NotFound("version", version_id)
        return version.cells


def _next_ordinal(current: Document | None) -> int:
    return 0 if current is None else int(current["ordinal"]) + 1


def _batches(parts: Parts, digests: Iterable[str]) -> Iterator[list[str]]:
    """Yield ``digests`` in full batches; the transaction of the save writes the rest."""
    batch: list[str] = []
    length = 0
    for digest in digests:
        batch.append(digest)
        length += parts.contents[digest].length
        if length > _BATCH_LENGTH:
            yield batch
            batch, length = [], 0


def _summary(version: Document) -> VersionSummary:
    with check_damage(f"version {version.doc_id}"):
        return VersionSummary.from_json({**version, "cell_count": len(version["cells"])})
