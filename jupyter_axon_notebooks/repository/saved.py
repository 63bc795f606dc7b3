"""The content of a saved notebook file, and its merging into a record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ..records import NotebookCell, NotebookHeader, NotebookMetadata, NotebookStatus
from .headers import header_document


class SavedNotebook(msgspec.Struct, kw_only=True):
    """The content of a saved notebook file.

    Attributes
    ----------
    embedded_id : str or None
        The record id that the file carries in its own metadata.
    file : dict
        ``size`` in bytes and ``mtime`` in nanoseconds, to detect changes of the file.
    """

    cells: list[NotebookCell]
    metadata: NotebookMetadata
    status: NotebookStatus
    synced_at: datetime
    embedded_id: str | None = None
    file: dict[str, int] = {}


def file_fields(saved: SavedNotebook) -> dict[str, Any]:
    """Return the stored fields of a record that come from its file."""
    fields: dict[str, Any] = {"file": saved.file, "file_tags": saved.metadata.tags}
    if saved.embedded_id is not None:
        fields["embedded_id"] = saved.embedded_id
    return fields


def merge_metadata(
    record: NotebookMetadata, file: NotebookMetadata, file_tags: list[str]
) -> NotebookMetadata:
    """Return the file's metadata with the tags and notes that were set on the record."""
    tags = [tag for tag in record.tags if tag not in file_tags and tag not in file.tags]
    merged = msgspec.structs.replace(file, tags=[*file.tags, *tags])
    if "axon" in record.extra:
        notes = {name: value for name, value in record.extra["axon"].items() if name != "notes"}
        if both := {**notes, **file.extra.get("axon", {})}:
            merged.extra = {**file.extra, "axon": both}
    return merged


def comparable(header: NotebookHeader, stored: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values whose changes count as changes of the record."""
    metadata = header_document(header)["metadata"]
    return stored["version_id"], stored["cell_statuses"], metadata, header.status
