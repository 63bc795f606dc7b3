"""Notebook records: find and list them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from tinydb import Query, where
from tinydb.queries import QueryInstance

from ..records import CellStatus, NotebookHeader, NotebookStatus, NotebookSummary, TrainingNotebook
from ..store import Store, retried
from .damage import check_damage
from .headers import decode_header
from .parts import FILE_KEY
from .runs import RunRepository
from .versions import VersionRepository

if TYPE_CHECKING:
    from typing_extensions import Unpack

_H = TypeVar("_H", bound=NotebookHeader)


class NotebookFilters(TypedDict, total=False):
    """Filters of a list of records; ``text`` is searched in names and descriptions."""

    status: NotebookStatus | None
    tag: str | None
    origin: str | None
    path: str | None
    name: str | None
    text: str | None


class NotebookReader:
    """The operations that read records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.runs = RunRepository(store)
        self.versions = VersionRepository(store)

    @retried
    def find_by_id(self, id: str, *, outputs: bool = True) -> TrainingNotebook | None:
        """Return a record with its cells, or None.

        With ``outputs=False`` the outputs are not read and are empty.
        """
        with self._store.snapshot():
            stored = self._store.notebooks.get(doc_id=id)
            if stored is None:
                return None
            return self.with_current_status(self.assemble(stored, outputs=outputs))[0]

    def find_by_path(self, origin: str, path: str) -> NotebookSummary | None:
        """Return the record that is bound to a file, without its cells, or None."""
        condition = (where("origin") == origin) & (where("path") == path)
        return self._summary(self._store.notebooks.get(condition))

    def find_summary(self, id: str) -> NotebookSummary | None:
        """Return a record without its cells, or None."""
        return self._summary(self._store.notebooks.get(doc_id=id))

    def _summary(self, stored: Mapping[str, Any] | None) -> NotebookSummary | None:
        if stored is None:
            return None
        return self.with_current_status(decode_header(NotebookSummary, stored))[0]

    def find_ids(self, prefix: str) -> list[str]:
        """Return the ids of records that begin with ``prefix``."""
        return self._store.notebooks.ids_with_prefix(prefix)

    def list_deleted(self, path: str) -> list[NotebookSummary]:
        """Return the records whose file was ``path`` when it was deleted. Scans all records."""

        def was_last(paths: Any) -> bool:
            return isinstance(paths, list) and paths[-1:] == [path]

        return self._list(where("former_paths").test(was_last) & ~where("path").exists())

    def list_by_user(
        self,
        user_id: str,
        limit: int | None = None,
        offset: int = 0,
        **filters: Unpack[NotebookFilters],
    ) -> list[NotebookSummary]:
        """Return a user's records, newest ``updated_at`` first."""
        return self._list(_matching(user_id, **filters), limit, offset)

    def list_all(
        self, limit: int | None = None, offset: int = 0, **filters: Unpack[NotebookFilters]
    ) -> list[NotebookSummary]:
        """Return everybody's records, newest ``updated_at`` first."""
        return self._list(_matching(**filters), limit, offset)

    def count(self, user_id: str | None = None, **filters: Unpack[NotebookFilters]) -> int:
        """Return the number of records of a user, or of everybody with None."""
        return self._store.notebooks.count(_matching(user_id, **filters))

    def _list(
        self, condition: QueryInstance, limit: int | None = None, offset: int = 0
    ) -> list[NotebookSummary]:
        order = ["-updated_at", "-id"]
        found = self._store.notebooks.search(condition, sort=order, limit=limit, skip=offset)
        return self.with_current_status(
            *(decode_header(NotebookSummary, stored) for stored in found)
        )

    def assemble(self, stored: Mapping[str, Any], *, outputs: bool = True) -> TrainingNotebook:
        """Return the record of a stored document with its cells; raises RecordDamaged."""
        with check_damage(f"notebook {stored['id']}"):
            cells, metadata = self.versions.read(stored["version_id"], outputs=outputs)
            for cell in cells:
                if cell.id in stored["cell_statuses"]:
                    cell.status = CellStatus(stored["cell_statuses"][cell.id])
        notebook = decode_header(TrainingNotebook, {**stored, "cells": []})
        notebook.cells = cells
        if FILE_KEY in metadata.extra:
            notebook.metadata.extra[FILE_KEY] = metadata.extra[FILE_KEY]
        return notebook

    def with_current_status(self, *records: _H) -> list[_H]:
        """Set records whose runs have all expired to ``stopped``; return all records."""
        running = [record.id for record in records if record.status is NotebookStatus.RUNNING]
        expired = self.runs.find_expired(running)
        for record in records:
            if record.id in expired:
                record.status = NotebookStatus.STOPPED
        return list(records)


def _matching(
    user_id: str | None = None,
    *,
    status: NotebookStatus | None = None,
    tag: str | None = None,
    text: str | None = None,
    **equal: str | None,
) -> QueryInstance:
    condition: QueryInstance = Query().noop()
    fields = {"user_id": user_id, "status": None if status is None else status.value, **equal}
    for name, value in fields.items():
        if value is not None:
            condition &= where(name) == value
    if tag is not None:
        condition &= Query().metadata.tags.any([tag])
    if text is not None:
        wanted = text.casefold()

        def contains(value: Any) -> bool:
            return isinstance(value, str) and wanted in value.casefold()

        condition &= where("name").test(contains) | where("description").test(contains)
    return condition
