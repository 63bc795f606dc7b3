"""Notebook records: create, change and delete them and their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from tinydb import where

from ..errors import AxonError, Conflict
from ..records import (
    CellStatus,
    NewCheckpoint,
    NewNotebook,
    NotebookCell,
    NotebookCheckpoint,
    NotebookHeader,
    NotebookMetadata,
    NotebookStatus,
    NotebookSummary,
    TrainingNotebook,
    UpdateNotebook,
    new_id,
    now,
)
from ..store import Store, document, retried
from .bindings import BindingRepository
from .checkpoints import CheckpointRepository
from .garbage import GarbageRepository
from .headers import (
    HeaderEdit,
    change_header,
    change_summary,
    file_lock,
    get_notes,
    header_document,
    lock_header,
    set_notes,
)
from .parts import FILE_KEY, Parts, split
from .provenance import ProvenanceRepository
from .reading import NotebookReader
from .retention import Retention
from .saved import SavedNotebook, comparable, file_fields, merge_metadata
from .series import SeriesRepository
from .starter import STARTER_CELLS, starter_cells, starter_metadata
from .states import States, files_remain

_UPDATABLE = ("name", "description", "model_id", "dataset_id", "status")


class NotebookRepository(NotebookReader):
    """The operations on the records of a store.

    It is synchronous, and any thread may call it. Each operation that writes is one transaction,
    so concurrent processes lose no change, and the change is on disk when the operation returns.

    Timestamps increase even if the clock is set back: each checkpoint and run of a notebook is
    later than the previous one, and so is each change of a record. So "newest first" means "last
    committed first".

    Attributes
    ----------
    checkpoints : CheckpointRepository
    runs : RunRepository
    series : SeriesRepository
    versions : VersionRepository
    provenance : ProvenanceRepository
    retention : Retention
    bindings : BindingRepository
    garbage : GarbageRepository
        The operations on these kinds of records.

    Parameters
    ----------
    store : Store
        The store of the records.
    states : States, optional
        The storage of state files. Files are removed with their checkpoints. Without a storage, no
        files are removed, and paths are returned as stored: relative to the root of the state
        files.
    starter_cells : sequence of (str, str)
        Type and source of the cells of a notebook that is created without any.
    """

    def __init__(
        self,
        store: Store,
        *,
        states: States | None = None,
        starter_cells: Sequence[tuple[str, str]] = STARTER_CELLS,
    ) -> None:
        super().__init__(store)
        self._states = states = states or States()
        self._starter_cells = starter_cells
        self.bindings = BindingRepository(store)
        self.checkpoints = CheckpointRepository(store, states, self.runs)
        self.series = SeriesRepository(store, self.runs)
        self.retention = Retention(store, states, self.checkpoints, self.runs)
        self.provenance = ProvenanceRepository(store, self.checkpoints, self.runs, self.versions)
        self.garbage = GarbageRepository(store, self.versions)

    @property
    def store(self) -> Store:
        """The store of the records."""
        return self._store

    # Records

    def create(self, new: NewNotebook, saved: SavedNotebook | None = None) -> TrainingNotebook:
        """Create a record, optionally with the content of its saved file.

        A record without cells gets the starter cells. A record without metadata gets the upstream's
        kernel.

        Raises
        ------
        Conflict
            When its id, or the file it is bound to, belongs to another record.
        InvalidData
            When two of its cells share an id.
        """
        moment = now()
        notebook = TrainingNotebook(
            id=new.id or new_id(),
            user_id=new.user_id,
            name=new.name,
            description=new.description,
            cells=new.cells,
            metadata=new.metadata or starter_metadata(),
            model_id=new.model_id,
            dataset_id=new.dataset_id,
            status=new.status or NotebookStatus.DRAFT,
            created_at=moment,
            updated_at=moment,
            path=new.path,
            origin=new.origin,
            version_id=new_id(),
        )
        fields: dict[str, Any] = {}
        if saved is not None:
            notebook.cells, notebook.metadata = saved.cells, saved.metadata
            notebook.status, notebook.synced_at = saved.status, saved.synced_at
            fields = file_fields(saved)
        elif not notebook.cells and FILE_KEY not in notebook.metadata.extra:
            notebook.cells = starter_cells(self._starter_cells)
        parts = split(notebook.cells, notebook.metadata)
        stored = {**header_document(notebook), **fields, **_cell_fields(parts)}
        try:
            self.versions.stage(notebook.id, parts, lambda: self._check_is_free(notebook))
            self._insert(notebook, stored, parts)
        except BaseException:
            with suppress(AxonError):  # report the first error
                if self.versions.needs_staging(parts):
                    self.discard_staged(notebook.id)
            raise
        return notebook

    @retried
    def _insert(self, notebook: TrainingNotebook, stored: dict[str, Any], parts: Parts) -> None:
        with self._store.transaction():
            self._check_is_free(notebook)
            # The record first: row-level security rejects versions of a notebook without an owner.
            self._store.notebooks.insert(document(notebook.id, stored))
            self.versions.write(notebook.id, None, parts, stored["version_id"])

    def _check_is_free(self, notebook: TrainingNotebook) -> None:
        self._store.lock(f"notebook {notebook.id}")
        if notebook.path is not None:
            self._store.lock(file_lock(notebook.origin, notebook.path))
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
    def discard_staged(self, id: str) -> None:
        """Remove the contents that were staged for a record, unless the record exists."""
        if self._store.contents.find_one(notebook_id=id) is None:
            return  # without waiting for the lock
        with self._store.transaction():
            self._store.lock(f"notebook {id}")
            if not self._store.notebooks.contains(doc_id=id):
                self._store.contents.remove_notebook(id)

    def save(
        self, id: str, saved: SavedNotebook, *, unless_read: Sequence[Mapping[str, int]] = ()
    ) -> NotebookSummary:
        """Update a record from its saved file.

        Its name, description, links and the tags that were set on the record stay. ``updated_at``
        changes only if the save changed something else than ``synced_at``.

        Parameters
        ----------
        unless_read : sequence of dict
            States of the file, as in ``saved.file``. Raise Conflict if the record was updated from
            one of them: then another process has read what this one wrote or something later, and
            may have changed the record since.

        Raises
        ------
        NotFound
            When there is no such record.
        Conflict
            See ``unless_read``.
        """
        parts = split(saved.cells, saved.metadata)
        self._stage(id, parts)

        def edit(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            file = stored.get("file")
            if file and file in unless_read:
                raise Conflict(f"notebook {id} was updated from this state of its file already")
            is_reread = bool(file) and file == saved.file
            before = comparable(header, stored)
            version_id, cell_statuses = stored["version_id"], stored["cell_statuses"]
            status = header.status
            header.metadata = merge_metadata(
                header.metadata, saved.metadata, stored.get("file_tags", [])
            )
            is_running = status is NotebookStatus.RUNNING
            if not is_running or not self.runs.update_expired(id):
                header.status = saved.status
            header.synced_at = saved.synced_at
            stored.update(file_fields(saved))
            self._set_version(stored, parts)
            if is_reread and stored["version_id"] == version_id and not is_running:
                # The file has not changed: keep statuses that were set by hand.
                header.status, stored["cell_statuses"] = status, cell_statuses
            return comparable(header, stored) != before

        return change_summary(self._store, id, edit)

    def update(
        self, id: str, updates: UpdateNotebook, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Change those fields of a record that ``updates`` sets.

        Raises
        ------
        NotFound
            When there is no such record.
        Stale
            When ``expected_version`` is not None and is not its current version.
        InvalidData
            When two of its cells would share an id.
        """
        fields = {name: getattr(updates, name) for name in _UPDATABLE}
        cells = None if updates.cells is None else split(updates.cells, NotebookMetadata())
        if cells is not None:
            self._stage(id, cells, expected_version)

        def edit(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            for name, value in fields.items():
                if value is not None:
                    setattr(header, name, value)
            if updates.tags is not None:
                header.metadata.tags = updates.tags
            if cells is not None:
                metadata = self.versions.read_parts(stored["version_id"]).metadata
                self._edit_version(stored, cells._replace(metadata=metadata))
            return True

        return self._change(id, edit, expected_version)

    def update_status(self, id: str, status: NotebookStatus) -> TrainingNotebook:
        """Change a record's status; raises NotFound."""
        return self.update(id, UpdateNotebook(status=status))

    def annotate(self, id: str, **notes: Any) -> NotebookSummary:
        """Add or replace notes in ``extra.axon`` of a record; raises NotFound."""

        def edit(header: NotebookHeader, _stored: dict[str, Any]) -> bool:
            set_notes(header, {**get_notes(header), **notes})
            return False

        return change_summary(self._store, id, edit)

    def delete(self, id: str) -> None:
        """Remove a record with its checkpoints, versions, runs and state files.

        Raises
        ------
        NotFound
            When there is no such record.
        StateError
            When the record was removed, but not its state files.
        """
        self._delete(id)
        with files_remain(f"notebook {id}"):
            self._states.remove_notebook(id)

    @retried
    def _delete(self, id: str) -> None:
        store = self._store
        with store.transaction():
            lock_header(store, id)
            tables = store.checkpoints, store.runs, store.versions, store.contents, store.provenance
            for table in tables:
                table.remove_notebook(id)
            store.notebooks.remove(doc_ids=[id])
            self._states.mark_unrecorded(id)

    # Cells

    def update_cell(
        self, notebook_id: str, cell: NotebookCell, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Replace the cell that has ``cell``'s id.

        Raises NotFound for the notebook or the cell, and Stale.
        """
        new = split([cell], NotebookMetadata())
        return self._edit_cells(
            notebook_id, lambda parts: (parts.find_span(cell.id), new), expected_version
        )

    def change_cell(
        self,
        notebook_id: str,
        cell_id: str,
        change: Callable[[NotebookCell], NotebookCell],
        *,
        expected_version: str | None = None,
    ) -> TrainingNotebook:
        """Replace a cell by ``change(cell)``; its id stays.

        ``change`` runs inside the transaction, so that no concurrent change of the cell is lost. It
        must be quick. Raises NotFound for the notebook or the cell, and Stale.
        """

        def edit(parts: Parts) -> tuple[slice, Parts]:
            span = parts.find_span(cell_id)
            cell = self.versions.read_cell(notebook_id, parts.entries[span][0])
            if cell_id in parts.statuses:
                cell.status = CellStatus(parts.statuses[cell_id])
            changed = msgspec.structs.replace(change(cell), id=cell_id)
            return span, split([changed], NotebookMetadata())

        return self._edit_cells(notebook_id, edit, expected_version)

    def add_cell(
        self,
        notebook_id: str,
        cell: NotebookCell,
        position: int | None = None,
        *,
        expected_version: str | None = None,
    ) -> TrainingNotebook:
        """Insert a cell at ``position``, or append it if there is no such position.

        Raises NotFound, Stale, and Conflict when the notebook has a cell of that id.
        """
        new = split([cell], NotebookMetadata())

        def edit(parts: Parts) -> tuple[slice, Parts]:
            count = len(parts.entries)
            if cell.id in {entry.cell_id for entry in parts.entries}:
                raise Conflict(f"notebook {notebook_id} has a cell {cell.id} already")
            at = position if position is not None and 0 <= position < count else count
            return slice(at, at), new

        return self._edit_cells(notebook_id, edit, expected_version)

    def delete_cell(
        self, notebook_id: str, cell_id: str, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Remove a cell. Raises NotFound for the notebook or the cell, and Stale."""
        nothing = split([], NotebookMetadata())
        return self._edit_cells(
            notebook_id, lambda parts: (parts.find_span(cell_id), nothing), expected_version
        )

    def _edit_cells(
        self,
        id: str,
        edit_cells: Callable[[Parts], tuple[slice, Parts]],
        expected_version: str | None,
    ) -> TrainingNotebook:
        """Replace cells without reading or writing the others."""

        def edit(_header: NotebookHeader, stored: dict[str, Any]) -> bool:
            parts = self.versions.read_parts(stored["version_id"])
            parts.statuses.update(stored["cell_statuses"])
            self._edit_version(stored, parts.splice(*edit_cells(parts)))
            return True

        return self._change(id, edit, expected_version)

    @retried
    def _change(self, id: str, edit: HeaderEdit, expected_version: str | None) -> TrainingNotebook:
        """Apply ``edit`` and return the record, in one transaction."""
        with self._store.transaction():
            stored = change_header(self._store, id, edit, expected_version)
            return self.with_current_status(self.assemble(stored))[0]

    def _stage(self, id: str, parts: Parts, expected_version: str | None = None) -> None:
        def lock() -> str:
            return str(lock_header(self._store, id, expected_version)["version_id"])

        self.versions.stage(id, parts, lock)

    def _edit_version(self, stored: dict[str, Any], parts: Parts) -> None:
        """Write a version that does not come from the file.

        Without the file's ``size`` and ``mtime``, the file counts as changed and is read again.
        """
        version_id = stored["version_id"]
        self._set_version(stored, parts)
        if "file" in stored and stored["version_id"] != version_id:
            stored["file"] = {}

    def _set_version(self, stored: dict[str, Any], parts: Parts) -> None:
        stored["version_id"] = self.versions.write(stored["id"], stored.get("version_id"), parts)
        stored.update(_cell_fields(parts))

    # Checkpoints, under the upstream's names

    def create_checkpoint(
        self, new: NewCheckpoint, *, overwrite: bool = False, made_at: datetime | None = None
    ) -> NotebookCheckpoint:
        """Store a checkpoint; see :meth:`.CheckpointRepository.add`."""
        return self.checkpoints.add(new, overwrite=overwrite, made_at=made_at)

    def get_checkpoint(self, id: str) -> NotebookCheckpoint | None:
        """Return a checkpoint, or None."""
        return self.checkpoints.get(id)

    def list_checkpoints(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        since: datetime | None = None,
        run_id: str | None = None,
    ) -> list[NotebookCheckpoint]:
        """Return checkpoints, newest first; see :meth:`.CheckpointRepository.list`."""
        return self.checkpoints.list(notebook_id, limit, offset, since=since, run_id=run_id)

    def get_best_checkpoint(
        self, notebook_id: str, metric_key: str, minimize: bool
    ) -> NotebookCheckpoint | None:
        """Return the best checkpoint, or None; see :meth:`.CheckpointRepository.list_best`."""
        return next(iter(self.checkpoints.list_best(notebook_id, metric_key, minimize, 1)), None)

    def delete_checkpoint(self, id: str) -> None:
        """Remove a checkpoint and its state files; see :meth:`.CheckpointRepository.delete`."""
        self.checkpoints.delete(id)


def _cell_fields(parts: Parts) -> dict[str, Any]:
    return {"cell_count": len(parts.entries), "cell_statuses": parts.statuses}
