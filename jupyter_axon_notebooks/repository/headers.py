"""Headers: notebook records without their cells, their stored form, and changes to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from ..errors import NotFound, Stale
from ..records import NotebookHeader, NotebookSummary, Record, now_after
from ..store import Document, Store, document
from .damage import check_damage
from .parts import FILE_KEY

_HEADER_FIELDS = tuple(field.name for field in msgspec.structs.fields(NotebookHeader))
_R = TypeVar("_R", bound=Record)

#: Changes a header and the other stored fields in place. Returns whether to update ``updated_at``.
HeaderEdit = Callable[[NotebookHeader, dict[str, Any]], bool]


def header_document(header: NotebookHeader) -> dict[str, Any]:
    """Return the stored form of a header, without the fields that are stored in its version."""
    stored = header.to_json()
    stored.pop("cells", None)
    extra = {name: value for name, value in header.metadata.extra.items() if name != FILE_KEY}
    stored["metadata"] = {**stored["metadata"], "extra": extra}
    return stored


def decode_header(kind: type[_R], stored: Mapping[str, Any]) -> _R:
    """Return the record that a stored document describes; raises RecordDamaged."""
    with check_damage(f"notebook {stored.get('id')}"):
        return kind.from_json(stored)


def lock_header(store: Store, id: str, expected_version: str | None = None) -> Document:
    """Lock a record in the open transaction and return its stored form.

    Raises
    ------
    NotFound
        When there is no such record.
    Stale
        When ``expected_version`` is not None and is not its current version.
    """
    stored = store.notebooks.get_for_update(id)
    if stored is None:
        raise NotFound("notebook", id)
    with check_damage(f"notebook {id}"):
        _ = stored["version_id"], dict(stored["cell_statuses"])
    if expected_version is not None and expected_version != stored["version_id"]:
        raise Stale(
            f"notebook {id} is at version {stored['version_id']}, no longer at {expected_version}"
        )
    return stored


def change_header(
    store: Store, id: str, edit: HeaderEdit, expected_version: str | None = None
) -> dict[str, Any]:
    """Apply ``edit`` to a record inside the caller's transaction and return its new stored form.

    Raises the errors of :func:`lock_header`.
    """
    stored: dict[str, Any] = dict(lock_header(store, id, expected_version))
    header = decode_header(NotebookHeader, stored)
    if edit(header, stored):
        header.updated_at = now_after(header.updated_at)
    header.version_id = stored["version_id"]
    others = {name: value for name, value in stored.items() if name not in _HEADER_FIELDS}
    changed = others | header_document(header)
    store.notebooks.replace(document(id, changed))
    return changed


def change_summary(store: Store, id: str, edit: HeaderEdit) -> NotebookSummary:
    """Apply ``edit`` in a new transaction, and return the new summary."""

    def attempt() -> dict[str, Any]:
        with store.transaction():
            return change_header(store, id, edit)

    return decode_header(NotebookSummary, store.retry(attempt))


def set_notes(header: NotebookHeader, notes: Mapping[str, Any]) -> None:
    """Replace ``extra.axon``, the notes that this package keeps on a record."""
    extra = {name: value for name, value in header.metadata.extra.items() if name != "axon"}
    header.metadata.extra = {**extra, "axon": dict(notes)} if notes else extra


def get_notes(header: NotebookHeader) -> dict[str, Any]:
    """Return ``extra.axon``, the notes that this package keeps on a record."""
    notes: dict[str, Any] = header.metadata.extra.get("axon", {})
    return notes


def file_lock(origin: str | None, path: str) -> str:
    """Return the name of the lock (:meth:`.Store.lock`) on the binding to a file."""
    return f"file {origin} {path}"
