"""Bindings: which file a record stands for, now and before.

A binding is (origin, path), unique in the store. A record remembers the paths it was bound to, and the id that its file
carries in its own metadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePath
from typing import Any

import msgspec
from tinydb import where

from ..errors import Conflict, NotFound
from ..records import NotebookHeader, NotebookSummary, format_time
from ..store import Document, Store, retried
from .damage import damage_named
from .notebooks import Notebooks, binding_lock


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What identity goes by, of one record.

    Attributes
    ----------
    path : str or None
        The file it is bound to; None when it is bound to none.
    former_paths : tuple of str
        The files it was bound to before.
    file : dict
        ``size`` and ``mtime`` of the file when it was last read, if it was.
    """

    id: str
    user_id: str
    origin: str | None = None
    path: str | None = None
    former_paths: tuple[str, ...] = ()
    embedded_id: str | None = None
    created_at: str | None = None
    synced_at: str | None = None
    file: dict[str, int] = {}


class Bindings:
    """The bindings of the records in a store; :class:`.NotebookRepository` says what each operation promises."""

    def __init__(self, store: Store, notebooks: Notebooks) -> None:
        self._store = store
        self._notebooks = notebooks

    def at(self, origin: str, path: str) -> Binding | None:
        """Who is bound to a file."""
        found = self._store.notebooks.one_having(origin=origin, path=path)
        return None if found is None else _binding(found)

    def of(self, id: str) -> Binding | None:
        """The binding of a record."""
        found = self._store.notebooks.get(doc_id=id)
        return None if found is None else _binding(found)

    def of_all(self, ids: Iterable[str]) -> list[Binding]:
        """The bindings of those records that there are."""
        return [_binding(found) for found in self._store.notebooks.get(doc_ids=list(ids))]

    def carrying(self, embedded_id: str) -> list[Binding]:
        """The records whose file carries an id, and the record of that id itself."""
        found = {
            b.id: b
            for b in map(
                _binding, self._store.notebooks.search(where("embedded_id") == embedded_id)
            )
        }
        own = self.of(embedded_id)
        return list(found.values()) if own is None or own.id in found else [own, *found.values()]

    def formerly_at(self, origin: str, path: str) -> list[Binding]:
        """Who was bound to a file before. Reads every record of the origin, so it is for rare questions."""
        was = (where("origin") == origin) & where("former_paths").any([path])
        return [_binding(found) for found in self._store.notebooks.search(was)]

    def all(self, origin: str, folder: str | None = None) -> list[Binding]:
        """The records of an origin that are bound to a file, beneath ``folder`` if one is given."""
        bound = (where("origin") == origin) & (where("path") >= "")
        if folder is not None:
            below = folder.rstrip("/") + "/"
            bound = (
                (where("origin") == origin)
                & (where("path") > below)
                & (where("path") < below[:-1] + "0")
            )
        # A server asks when it starts: what the documents take would stay with the process.
        return [_binding(found) for found in self._store.notebooks.each(bound)]

    def elsewhere(self, user_id: str | None, origin: str, path: str | None = None) -> list[Binding]:
        """The records of a user, or of everybody, that are bound to a file, or to that at ``path``, under another origin."""
        bound = where("path") >= "" if path is None else where("path") == path
        condition = bound & ((where("origin") < origin) | (where("origin") > origin))
        if user_id is not None:
            condition &= where("user_id") == user_id
        return [_binding(found) for found in self._store.notebooks.each(condition)]

    @retried
    def rebind(self, id: str, origin: str) -> Binding | None:
        """Bind a record to its file under another origin; whoever was bound there is released, and returned."""

        def apply(header: NotebookHeader, _stored: dict[str, Any]) -> bool:
            header.origin = origin
            return False  # the notebook is as it was

        with self._store.transaction():
            binding = self.of(id)
            if binding is None or binding.path is None:
                raise NotFound("notebook", id)
            there = self._held_under(origin, binding.path, id)
            if there is not None and there.user_id != binding.user_id:
                raise Conflict(
                    f"the file {binding.path} belongs to notebook {there.id} of another user"
                )
            if there is not None:
                self._release(there.id, {"replaced_by": id})
            self._notebooks.change(id, apply)
        return there

    @retried
    def bind(self, id: str, path: str, moment: datetime) -> NotebookSummary:
        """Bind a record to another file; whoever was bound there is released."""

        def apply(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            _remember(header, stored)
            if header.path is not None and header.name == PurePath(header.path).stem:
                header.name = PurePath(path).stem  # it was the file's, so it stays the file's
            header.path = path
            axon = {
                name: value
                for name, value in header.metadata.extra.get("axon", {}).items()
                if name != "deleted_at"
            }
            _set_axon(header, axon)
            return True

        with self._store.transaction():
            there = self._held_at(id, path)
            if there is not None:
                self.release(there.id, moment)
            return self._notebooks.changed_summary(id, apply)

    def _held_at(self, id: str, path: str) -> Binding | None:
        """Who else is bound to a file of the origin of ``id``; both records and the file are locked then."""
        binding = self.of(id)
        if binding is None or binding.origin is None:
            return None
        return self._held_under(binding.origin, path, id)

    def _held_under(self, origin: str, path: str, id: str) -> Binding | None:
        self._store.lock(binding_lock(origin, path))
        there = self.at(origin, path)
        if there is None or there.id == id:
            return None
        locked = [_binding(found) for found in self._store.notebooks.locked_some([id, there.id])]
        # It may have moved before it was locked.
        return next((one for one in locked if one.id != id and one.path == path), None)

    def annotate(self, id: str, notes: dict[str, Any]) -> NotebookSummary:
        """Add notes to those on a record."""

        def apply(header: NotebookHeader, _stored: dict[str, Any]) -> bool:
            _set_axon(header, {**header.metadata.extra.get("axon", {}), **notes})
            return False  # the notebook is as it was

        return self._notebooks.changed_summary(id, apply)

    def release(self, id: str, moment: datetime) -> NotebookSummary:
        """Bind a record to no file any more, and note since when."""
        return self._release(id, {"deleted_at": format_time(moment)})

    def _release(self, id: str, note: dict[str, str]) -> NotebookSummary:
        def apply(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            _remember(header, stored)
            header.path = None
            stored.pop("path", None)
            _set_axon(header, {**header.metadata.extra.get("axon", {}), **note})
            return True

        return self._notebooks.changed_summary(id, apply)


def _remember(header: NotebookHeader, stored: dict[str, Any]) -> None:
    if header.path is not None:
        former = [path for path in stored.get("former_paths", []) if path != header.path]
        stored["former_paths"] = [*former, header.path]


def _set_axon(header: NotebookHeader, axon: dict[str, Any]) -> None:
    extra = {name: value for name, value in header.metadata.extra.items() if name != "axon"}
    header.metadata.extra = {**extra, "axon": axon} if axon else extra


def _binding(found: Document) -> Binding:
    with damage_named(f"notebook {found.doc_id}"):
        return msgspec.convert(found, Binding)
