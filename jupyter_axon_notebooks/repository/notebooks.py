"""Notebook records: creating, finding, listing, changing and deleting them, and their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypedDict, TypeVar

import msgspec
from tinydb import Query, where
from tinydb.queries import QueryInstance

from ..errors import AxonError, Conflict, NotFound, Stale
from ..records import (
    NewNotebook,
    NotebookCell,
    NotebookHeader,
    NotebookMetadata,
    NotebookStatus,
    NotebookSummary,
    Record,
    TrainingNotebook,
    UpdateNotebook,
    new_id,
    now,
    now_after,
)
from ..store import Document, Store, document, retried
from .damage import damage_named
from .parts import FILE_KEY, Parts, take_apart
from .runs import Runs
from .starter import starter_cells, starter_metadata
from .states import States, files_remain
from .versions import Versions

_HEADER = tuple(field.name for field in msgspec.structs.fields(NotebookHeader))
_R = TypeVar("_R", bound=Record)
_H = TypeVar("_H", bound=NotebookHeader)
_UPDATABLE = ("name", "description", "model_id", "dataset_id", "status")


class SavedNotebook(msgspec.Struct, kw_only=True):
    """What a save of a notebook file says of its record.

    Attributes
    ----------
    embedded_id : str or None
        The record id that the file carries in its own metadata.
    file : dict
        What tells that the file is still the one that was read: ``size`` in bytes and ``mtime`` in nanoseconds.
    """

    cells: list[NotebookCell]
    metadata: NotebookMetadata
    status: NotebookStatus
    synced_at: datetime
    embedded_id: str | None = None
    file: dict[str, int] = {}


class Notebooks:
    """The notebook half of the repository; :class:`.NotebookRepository` says what each operation promises."""

    def __init__(self, store: Store, states: States, templates: Sequence[tuple[str, str]]) -> None:
        self._store = store
        self._states = states
        self._templates = templates
        self._versions = Versions(store)
        self._runs = Runs(store)

    def create(self, new: NewNotebook, saved: SavedNotebook | None = None) -> TrainingNotebook:
        """Store a new record; ``saved`` is the file it stands for, if one does."""
        moment = now()
        notebook = TrainingNotebook(
            id=new.id or new_id(),
            user_id=new.user_id,
            name=new.name,
            description=new.description,
            cells=new.cells or ([] if _is_from_file(new) else starter_cells(self._templates)),
            metadata=new.metadata or starter_metadata(),
            model_id=new.model_id,
            dataset_id=new.dataset_id,
            status=new.status or NotebookStatus.DRAFT,
            created_at=moment,
            updated_at=moment,
            path=new.path,
            origin=new.origin,
        )
        fields: dict[str, Any] = {}
        if saved is not None:
            notebook.cells, notebook.metadata, notebook.status = (
                saved.cells,
                saved.metadata,
                saved.status,
            )
            notebook.synced_at = saved.synced_at
            fields = _file_fields(saved)
        parts = take_apart(notebook.cells, notebook.metadata)
        notebook.version_id = new_id()
        stored = {**header_document(notebook), **fields}
        _describe(stored, parts)
        try:
            self._versions.write_ahead(notebook.id, parts, lambda: self._check_free(notebook))
            self._insert(notebook, stored, parts)
        except BaseException:
            with suppress(AxonError):  # why there is no record matters more
                if self._versions.are_written_ahead(parts):
                    self.forget(notebook.id)
            raise
        return notebook

    @retried
    def _insert(self, notebook: TrainingNotebook, stored: dict[str, Any], parts: Parts) -> None:
        with self._store.transaction():
            self._check_free(notebook)
            # First, since a database that keeps users apart lets nobody add to a notebook that is not his.
            self._store.notebooks.insert(document(notebook.id, stored))
            self._versions.write(notebook.id, None, parts, stored["version_id"])

    def _check_free(self, notebook: TrainingNotebook) -> None:
        self._store.lock(f"notebook {notebook.id}")
        if notebook.path is not None:
            self._store.lock(binding_lock(notebook.origin, notebook.path))
        if self._store.notebooks.contains(doc_id=notebook.id):
            raise Conflict(f"notebook {notebook.id} exists already")
        if notebook.path is not None:
            here = (where("origin") == notebook.origin) & (where("path") == notebook.path)
            bound = self._store.notebooks.get(here)
            if bound is not None:
                raise Conflict(
                    f"the file {notebook.path} belongs to notebook {bound['id']} already"
                )

    @retried
    def forget(self, id: str) -> None:
        """Leave nothing that was written ahead, unless it has become the record of somebody who was quicker."""
        if not self._store.contents.has(notebook_id=id):
            return  # and nobody is kept waiting for a lock
        with self._store.transaction():
            self._store.lock(f"notebook {id}")
            if not self._store.notebooks.contains(doc_id=id):
                self._versions.forget(id)

    @retried
    def find(
        self, condition: QueryInstance | None = None, *, id: str | None = None, outputs: bool = True
    ) -> TrainingNotebook | None:
        """A record with its cells, by id or condition; without ``outputs`` those of the cells are not read."""
        with self._store.snapshot():
            stored = self._store.notebooks.get(condition, doc_id=id)
            return None if stored is None else self._live(self.whole(stored, outputs=outputs))[0]

    def whole(self, stored: Mapping[str, Any], *, outputs: bool = True) -> TrainingNotebook:
        """The record that a stored document describes, with its cells; raises RecordDamaged."""
        with damage_named(f"notebook {stored['id']}"):
            cells, metadata = self._versions.read(stored["version_id"], outputs=outputs)
            for cell in cells:
                if cell.id in stored["cell_statuses"]:
                    cell.status = type(cell.status)(stored["cell_statuses"][cell.id])
        notebook = _record(TrainingNotebook, {**stored, "cells": []})
        notebook.cells = cells
        if FILE_KEY in metadata.extra:
            notebook.metadata.extra[FILE_KEY] = metadata.extra[FILE_KEY]
        return notebook

    def summary(
        self, condition: QueryInstance | None = None, *, id: str | None = None
    ) -> NotebookSummary | None:
        """A record without its cells, by id or condition."""
        stored = self._store.notebooks.get(condition, doc_id=id)
        return None if stored is None else self._live(_record(NotebookSummary, stored))[0]

    def page(
        self, matching: QueryInstance, limit: int | None, offset: int
    ) -> list[NotebookSummary]:
        """The records that match, newest first."""
        order = ["-updated_at", "-id"]
        found = self._store.notebooks.search(matching, sort=order, limit=limit, skip=offset)
        return self._live(*(_record(NotebookSummary, stored) for stored in found))

    def _live(self, *records: _H) -> list[_H]:
        """The records with the status that their runs give them now: a run that lapsed leaves none ``running``."""
        running = [record.id for record in records if record.status is NotebookStatus.RUNNING]
        abandoned = self._runs.abandoned(running)
        for record in records:
            if record.id in abandoned:
                record.status = NotebookStatus.STOPPED
        return list(records)

    def ids_beginning(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``."""
        return self._store.notebooks.ids_beginning(prefix)

    def count(self, matching: QueryInstance) -> int:
        """How many records match."""
        return self._store.notebooks.count(matching)

    def update(self, id: str, updates: UpdateNotebook, expected: str | None) -> TrainingNotebook:
        """Change the given fields."""
        changed = {
            name: value for name in _UPDATABLE if (value := getattr(updates, name)) is not None
        }
        cells = None if updates.cells is None else take_apart(updates.cells, NotebookMetadata())
        if cells is not None:
            self._write_ahead(id, cells, expected)

        def apply(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            for name, value in changed.items():
                setattr(header, name, value)
            if updates.tags is not None:
                header.metadata.tags = updates.tags
            if cells is not None:
                metadata = self._versions.parts(stored["version_id"]).metadata
                self._edit_version(stored, cells._replace(metadata=metadata))
            return True

        return self._changed_whole(id, apply, expected)

    def edit_cells(
        self,
        id: str,
        edit: Callable[[list[str]], int],
        cell: NotebookCell | None,
        expected: str | None,
    ) -> TrainingNotebook:
        """Put ``cell`` where ``edit`` says, or take out what is there.

        ``edit`` is given the ids of the cells and returns a place among them. A cell of the same id at that place is
        replaced, otherwise ``cell`` is inserted before it; where ``cell`` is None, the one at that place is removed.
        No other cell is read or written.
        """
        given = take_apart([cell] if cell is not None else [], NotebookMetadata())

        def apply(_header: NotebookHeader, stored: dict[str, Any]) -> bool:
            parts = self._versions.parts(stored["version_id"])
            entries, statuses = parts.entries, dict(stored["cell_statuses"])
            place = edit([entry.cell_id for entry in entries])
            there = entries[place : place + 1]
            if cell is None or (there and there[0].cell_id == cell.id):
                statuses.pop(entries[place].cell_id, None)
                del entries[place]
            entries[place:place] = given.entries
            statuses.update(given.statuses)
            edited = Parts(
                entries, parts.metadata, given.contents, statuses, parts.failed_beside(given)
            )
            self._edit_version(stored, edited)
            return True

        return self._changed_whole(id, apply, expected)

    def change_cell(
        self,
        id: str,
        cell_id: str,
        change: Callable[[NotebookCell], NotebookCell],
        expected: str | None,
    ) -> TrainingNotebook:
        """Replace a cell by what ``change`` makes of it. No other cell is read or written."""

        def apply(_header: NotebookHeader, stored: dict[str, Any]) -> bool:
            parts = self._versions.parts(stored["version_id"])
            place = next(
                (at for at, entry in enumerate(parts.entries) if entry.cell_id == cell_id), None
            )
            if place is None:
                raise NotFound("cell", cell_id)
            cell = self._versions.cell(id, parts.entries[place])
            if cell_id in stored["cell_statuses"]:
                cell.status = type(cell.status)(stored["cell_statuses"][cell_id])
            changed = msgspec.structs.replace(change(cell), id=cell_id)
            given = take_apart([changed], NotebookMetadata())
            parts.entries[place : place + 1] = given.entries
            others = {
                other: status
                for other, status in stored["cell_statuses"].items()
                if other != cell_id
            }
            statuses = {**others, **given.statuses}
            failed = parts.failed_beside(given)
            self._edit_version(
                stored, Parts(parts.entries, parts.metadata, given.contents, statuses, failed)
            )
            return True

        return self._changed_whole(id, apply, expected)

    def save(self, id: str, saved: SavedNotebook, *, unless_read: bool = False) -> NotebookSummary:
        """Bring a record up to date with its file. ``updated_at`` moves only if anything but the time did."""
        parts = take_apart(saved.cells, saved.metadata)
        self._write_ahead(id, parts)

        def apply(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            is_reread = bool(saved.file) and stored.get("file") == saved.file
            if unless_read and is_reread:
                raise Conflict(
                    f"notebook {id} has been brought up to date with this very file already"
                )
            before = _summed_up(header, stored)
            version_id, cell_statuses, status = (
                stored["version_id"],
                stored["cell_statuses"],
                header.status,
            )
            header.metadata = _merged(header.metadata, saved.metadata, stored.get("file_tags", []))
            if header.status is not NotebookStatus.RUNNING or not self._runs.settle(id):
                header.status = saved.status
            header.synced_at = saved.synced_at
            stored.update(_file_fields(saved))
            self._set_version(stored, parts)
            if (
                is_reread
                and stored["version_id"] == version_id
                and status is not NotebookStatus.RUNNING
            ):
                # Nobody has saved anything, so what was given by hand stays.
                header.status, stored["cell_statuses"] = status, cell_statuses
            return bool(_summed_up(header, stored) != before)

        return self.changed_summary(id, apply)

    def delete(self, id: str) -> None:
        """Remove a record and all that belongs to it."""
        self._remove(id)
        with files_remain(f"notebook {id}"):
            self._states.remove_notebook(id)

    @retried
    def _remove(self, id: str) -> None:
        store = self._store
        with store.transaction():
            self._locked(id)
            for table in (
                store.checkpoints,
                store.runs,
                store.versions,
                store.contents,
                store.provenance,
            ):
                table.discard_of(id)
            store.notebooks.remove(doc_ids=[id])
            self._states.mark_unrecorded(id)

    def _locked(self, id: str, expected: str | None = None) -> Document:
        stored = self._store.notebooks.locked(id)
        if stored is None:
            raise NotFound("notebook", id)
        with damage_named(f"notebook {id}"):
            _ = stored["version_id"], dict(stored["cell_statuses"])
        if expected is not None and expected != stored["version_id"]:
            raise Stale(
                f"notebook {id} is at version {stored['version_id']}, no longer at {expected}"
            )
        return stored

    @retried
    def change(
        self,
        id: str,
        apply: Callable[[NotebookHeader, dict[str, Any]], bool],
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Let ``apply`` change a record's header and the rest of its stored form, in one transaction; that form then.

        ``apply`` tells whether what it did is a change that a user would call one, which moves ``updated_at``. It may
        be called again, with the form as it is then.
        """
        with self._store.transaction():
            stored: dict[str, Any] = dict(self._locked(id, expected))
            header = _record(NotebookHeader, stored)
            if apply(header, stored):
                header.updated_at = now_after(header.updated_at)
            header.version_id = stored["version_id"]
            changed = {
                name: value for name, value in stored.items() if name not in _HEADER
            } | header_document(header)
            self._store.notebooks.replace(document(id, changed))
        return changed

    @retried
    def _changed_whole(
        self,
        id: str,
        apply: Callable[[NotebookHeader, dict[str, Any]], bool],
        expected: str | None,
    ) -> TrainingNotebook:
        """Change a record as :meth:`change` does and return it whole, with its cells.

        It is read inside the transaction: after the commit somebody else may change or delete it.
        """
        with self._store.transaction():
            stored = self.change(id, apply, expected)
            return self._live(self.whole(stored))[0]

    def changed_summary(
        self, id: str, apply: Callable[[NotebookHeader, dict[str, Any]], bool]
    ) -> NotebookSummary:
        """As :meth:`change`; the record then, without its cells."""
        return _record(NotebookSummary, self.change(id, apply))

    def _write_ahead(self, id: str, parts: Parts, expected: str | None = None) -> None:
        self._versions.write_ahead(id, parts, lambda: str(self._locked(id, expected)["version_id"]))

    def _edit_version(self, stored: dict[str, Any], parts: Parts) -> None:
        """Set a version. The file, if there is one, does not have a new one yet: unless it is saved, it is read again."""
        version_id = stored["version_id"]
        self._set_version(stored, parts)
        if "file" in stored and stored["version_id"] != version_id:
            stored["file"] = {}

    def _set_version(self, stored: dict[str, Any], parts: Parts) -> None:
        stored["version_id"] = self._versions.write(stored["id"], stored.get("version_id"), parts)
        _describe(stored, parts)


def _describe(stored: dict[str, Any], parts: Parts) -> None:
    stored["cell_count"] = len(parts.entries)
    stored["cell_statuses"] = parts.statuses


def binding_lock(origin: str | None, path: str) -> str:
    """What stands for a file that a record may be bound to, whether one is or not; for :meth:`.Store.lock`."""
    return f"file {origin} {path}"


class NotebookFilters(TypedDict, total=False):
    """What a list of records may be narrowed by; ``text`` is looked for in names and descriptions, in any case."""

    status: NotebookStatus | None
    tag: str | None
    origin: str | None
    path: str | None
    text: str | None


def matching(
    user_id: str | None = None,
    *,
    status: NotebookStatus | None = None,
    tag: str | None = None,
    origin: str | None = None,
    path: str | None = None,
    text: str | None = None,
) -> QueryInstance:
    """The condition that a list is asked for; ``user_id`` None is everybody."""
    condition: QueryInstance = Query().noop()
    if user_id is not None:
        condition &= where("user_id") == user_id
    if status is not None:
        condition &= where("status") == status.value
    if origin is not None:
        condition &= where("origin") == origin
    if path is not None:
        condition &= where("path") == path
    if tag is not None:
        condition &= Query().metadata.tags.any([tag])
    if text is not None:
        wanted = text.casefold()

        def holds(value: Any) -> bool:
            return isinstance(value, str) and wanted in value.casefold()

        condition &= where("name").test(holds) | where("description").test(holds)
    return condition


def deleted_from(path: str) -> QueryInstance:
    """The condition that finds whose file was at ``path`` when it was deleted."""

    def last_was(paths: Any) -> bool:
        return isinstance(paths, list) and paths[-1:] == [path]

    return where("former_paths").test(last_was) & ~where("path").exists()


def _record(kind: type[_R], stored: Mapping[str, Any]) -> _R:
    with damage_named(f"notebook {stored.get('id')}"):
        return kind.from_json(stored)


def header_document(header: NotebookHeader) -> dict[str, Any]:
    """A header's stored form. What rebuilds the file is left to the version, since it may be large."""
    stored = header.to_json()
    stored.pop("cells", None)
    extra = {name: value for name, value in header.metadata.extra.items() if name != FILE_KEY}
    stored["metadata"] = {**stored["metadata"], "extra": extra}
    return stored


def _is_from_file(new: NewNotebook) -> bool:
    """Whether a file's content describes the new record: if that has no cells, the record has none."""
    return new.metadata is not None and FILE_KEY in new.metadata.extra


def _file_fields(saved: SavedNotebook) -> dict[str, Any]:
    fields: dict[str, Any] = {"file": saved.file, "file_tags": saved.metadata.tags}
    if saved.embedded_id is not None:
        fields["embedded_id"] = saved.embedded_id
    return fields


def _merged(
    ours: NotebookMetadata, file: NotebookMetadata, file_tags: list[str]
) -> NotebookMetadata:
    """The file's metadata, with the tags that were set on the record and not by the file."""
    own = [tag for tag in ours.tags if tag not in file_tags and tag not in file.tags]
    merged = msgspec.structs.replace(file, tags=[*file.tags, *own])
    if "axon" in ours.extra:
        kept = {name: value for name, value in ours.extra["axon"].items() if name != "notes"}
        if ours_and_theirs := {**kept, **file.extra.get("axon", {})}:
            merged.extra = {**file.extra, "axon": ours_and_theirs}
    return merged


def _summed_up(header: NotebookHeader, stored: dict[str, Any]) -> Any:
    return (
        stored["version_id"],
        stored["cell_statuses"],
        header_document(header)["metadata"],
        header.status,
    )
