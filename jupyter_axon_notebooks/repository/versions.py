"""The versions of a notebook in the store, and the contents that they list; what they look like is in :mod:`.parts`.

Versions of a notebook are numbered (``ordinal``), each higher than all before it, and a content carries the number of
the version that it was written for. So no version lists a content of a higher number than its own, what is newer than
the newest version was written ahead of one, and a content belongs to one version alone if it is newer than every
version before that. A save that changes outputs alone replaces the newest version, under the next number; what is newer
than the versions that stay, and no longer listed, goes with it. Old versions go one day (:mod:`.housekeeping`), and
what is still listed then keeps its number. Of a file that does not promise this, a load makes it so (:mod:`.numbering`).
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
    without_trust,
)
from ..store import Document, Store, retried
from ..store.codec import encode
from .damage import damage_named
from .diff import diff, with_ids_of
from .parts import (
    FILE_KEY,
    Entry,
    Parts,
    bare_cell_of,
    cell_of,
    content_document,
    content_id,
    has_failed,
    listed_contents,
    parts_of,
    version_document,
)

#: Characters of content in one transaction; what a save has beyond that is written ahead of it.
_BATCH_LENGTH = 4_000_000


class VersionRepository:
    """The versions and contents of the notebooks in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Writing

    def stage(self, notebook_id: str, parts: Parts, lock: Callable[[], str | None]) -> None:
        """Store the bulk of a large notebook's new contents, so that the transaction to come is a short one.

        Until a version lists them nobody sees them; should none ever do, the next version removes them, or a sweep.

        Parameters
        ----------
        lock : callable
            Locks the notebook for one transaction and returns its current version's id, None where there is none yet.
            What it raises ends the writing.
        """
        if not self.is_staged(parts):
            return
        for batch in _batches(parts, self._missing(notebook_id, parts.contents)):
            self._write_batch(notebook_id, parts, batch, lock)

    def is_staged(self, parts: Parts) -> bool:
        """Whether some of ``parts`` may be stored ahead: a transaction that holds up nobody may take its time."""
        return self._store.admits_one_writer and parts.length > _BATCH_LENGTH

    @retried
    def _write_batch(
        self,
        notebook_id: str,
        parts: Parts,
        digests: builtins.list[str],
        lock: Callable[[], str | None],
    ) -> None:
        with self._store.transaction():
            ordinal = _following(self._current(lock()))
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
            if current["cells"] == entries and encode(current["metadata"]) == encode(
                parts.metadata
            ):
                return str(current["id"])
            known = parts_of(current).listed()
            if self._is_replaced(current, parts):
                self._store.versions.discard([str(current_id)])
        ordinal = _following(current)
        # What no other version can list: of the version that is replaced, and whatever was written ahead.
        listed = {content_id(notebook_id, digest) for digest in parts.listed()}
        self._drop(self._store.leftovers.unshared(notebook_id, ordinal) - listed)
        # Those written ahead as well: a sweep may have taken them.
        missing = self._missing(notebook_id, parts.contents.keys() - known)
        self._insert(notebook_id, parts, missing, ordinal)
        version_id = version_id or new_id()
        version = version_document(version_id, notebook_id, parts, ordinal, format_time(now()))
        self._store.versions.insert_new(version)
        return version_id

    def discard_all(self, notebook_id: str) -> None:
        """Remove what was written ahead of a notebook that did not come to be, inside the caller's transaction."""
        self._store.contents.remove(where("notebook_id") == notebook_id)

    def _current(self, version_id: str | None) -> Document | None:
        return None if version_id is None else self._version(version_id)

    def _is_replaced(self, current: Document, parts: Parts) -> bool:
        """Whether the current version gives way to the one to come."""
        same_sources = [e[:2] for e in current["cells"]] == [
            [e.cell_id, e.source] for e in parts.entries
        ]
        return same_sources and not self._store.checkpoints.has(version_id=current["id"])

    def _missing(self, notebook_id: str, digests: Iterable[str]) -> builtins.list[str]:
        ids = {content_id(notebook_id, digest): digest for digest in digests}
        present = self._store.contents.present(ids)
        return [digest for content_id, digest in ids.items() if content_id not in present]

    def _insert(self, notebook_id: str, parts: Parts, digests: Iterable[str], ordinal: int) -> None:
        documents = (
            content_document(notebook_id, digest, parts.contents[digest], ordinal)
            for digest in digests
        )
        self._store.contents.insert_new(*documents)

    def _drop(self, content_ids: set[str]) -> None:
        if content_ids:
            self._store.contents.discard(content_ids)

    # Reading

    def listed(self, version_ids: Iterable[str]) -> dict[str, set[str]]:
        """The ids of the contents that each of these versions lists; of those versions that there are."""
        return {
            str(version.doc_id): listed_contents(version)
            for version in self._store.versions.get(doc_ids=list(version_ids))
        }

    def read_parts(self, version_id: str) -> Parts:
        """A version's parts without the contents, which are in the store already.

        Raises
        ------
        RecordDamaged
            When the store has no such version.
        """
        return parts_of(self._version(version_id))

    def read(
        self, version_id: str, *, outputs: bool = True
    ) -> tuple[builtins.list[NotebookCell], NotebookMetadata]:
        """The cells and metadata of a version, whole or without outputs; cell statuses follow from outputs and counts.

        Raises
        ------
        RecordDamaged
            When the version, or a content it lists, is missing from the store.
        """
        version = self._version(version_id)
        with damage_named(f"version {version_id}"):
            return self._put_together(version, outputs=outputs)

    def read_cell(self, notebook_id: str, entry: Entry) -> NotebookCell:
        """One cell of a version; raises as :meth:`read` does."""
        digests = {digest for digest in (entry.source, entry.outputs) if digest}
        with damage_named(f"cell {entry.cell_id} of notebook {notebook_id}"):
            return cell_of(entry, self._contents(notebook_id, digests))

    def _version(self, version_id: str) -> Document:
        version: Document | None = self._store.versions.get(doc_id=version_id)
        if version is None:
            raise RecordDamaged(f"version {version_id} is missing from the store")
        return version

    def _put_together(
        self, version: Document, *, outputs: bool = True
    ) -> tuple[builtins.list[NotebookCell], NotebookMetadata]:
        parts, notebook_id = parts_of(version), version["notebook_id"]
        listed = (
            parts
            if outputs
            else parts._replace(entries=[e._replace(outputs=None) for e in parts.entries])
        )
        contents = self._contents(notebook_id, listed.listed())
        metadata = NotebookMetadata.from_json(parts.metadata)
        if FILE_KEY in metadata.extra:
            metadata.extra[FILE_KEY] = without_trust(contents[metadata.extra[FILE_KEY]][FILE_KEY])
        if outputs:
            return [cell_of(entry, contents) for entry in parts.entries], metadata
        failed = self._failed(notebook_id, parts)
        cells = [
            bare_cell_of(entry, contents, failed=entry.cell_id in failed) for entry in parts.entries
        ]
        return cells, metadata

    def _failed(self, notebook_id: str, parts: Parts) -> set[str]:
        """The ids of the cells whose outputs hold an error."""
        if parts.failed is not None:
            return parts.failed
        return {  # an older store's version: one cell's outputs are in memory at a time
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
        """A version of a notebook, whole or without its outputs, which may be large; None where it has no such version."""
        with self._store.snapshot():
            version = self._store.versions.get(doc_id=version_id)
            if version is None or version["notebook_id"] != notebook_id:
                return None
            with damage_named(f"version {version_id}"):
                cells, metadata = self._put_together(version, outputs=outputs)
        return NotebookVersion(
            **msgspec.structs.asdict(_summary(version)), cells=cells, metadata=metadata
        )

    def diff(self, notebook_id: str, before: str, after: str) -> builtins.list[CellChange]:
        """Return the changes in the sources between two versions of a notebook.

        A cell that got another id, as when the notebook was converted to nbformat 4.5, is recognized by its source.
        Raises NotFound.
        """
        old, new = (self._cells(notebook_id, id) for id in (before, after))
        return diff(with_ids_of(old, new), new)

    def _cells(self, notebook_id: str, version_id: str) -> builtins.list[NotebookCell]:
        version = self.get(notebook_id, version_id, outputs=False)
        if version is None:
            raise NotFound("version", version_id)
        return version.cells

    def count(self, notebook_id: str) -> int:
        """How many versions of a notebook are kept."""
        return self._store.versions.count(where("notebook_id") == notebook_id)

    def list(
        self, notebook_id: str, limit: int | None = None, offset: int = 0
    ) -> builtins.list[VersionSummary]:
        """The versions of a notebook, newest first."""
        of_notebook = where("notebook_id") == notebook_id
        found = self._store.versions.search(
            of_notebook, sort=["-ordinal"], limit=limit, skip=offset
        )
        return [_summary(version) for version in found]


def _following(current: Document | None) -> int:
    """The number of the version after the current one."""
    return 0 if current is None else int(current["ordinal"]) + 1


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


def _summary(version: Document) -> VersionSummary:
    with damage_named(f"version {version.doc_id}"):
        return VersionSummary.from_json({**version, "cell_count": len(version["cells"])})
