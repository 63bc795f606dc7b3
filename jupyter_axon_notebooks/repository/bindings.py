"""Bindings: the file that each notebook record belongs to.

A binding is (origin, path), unique in the store. A record also keeps the paths it was bound to
before and the record id that its file carries in its own metadata.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import msgspec
from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import Conflict, NotFound
from ..records import NotebookHeader, NotebookSummary, format_time, now
from ..store import Document, Store, retried
from .damage import check_damage
from .headers import change_header, change_summary, file_lock, get_notes, set_notes


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """The identifying fields of a record.

    Attributes
    ----------
    path : str or None
        The file that the record is bound to, if any.
    former_paths : tuple of str
        The files that it was bound to before.
    embedded_id : str or None
        The record id that the file carries in its metadata.
    file : dict
        ``size`` and ``mtime`` of the file when it was last read.
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


class BindingRepository:
    """The bindings between records and notebook files."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find_by_path(self, origin: str, path: str) -> Binding | None:
        """Return the binding to a file, or None."""
        found = self._store.notebooks.find_one(origin=origin, path=path)
        return None if found is None else _binding(found)

    def get_many(self, ids: Iterable[str]) -> builtins.list[Binding]:
        """Return the bindings of those of ``ids`` that exist."""
        return [_binding(found) for found in self._store.notebooks.get(doc_ids=[*ids])]

    def find_by_embedded_id(self, embedded_id: str) -> builtins.list[Binding]:
        """Return the record with an id, and the records whose file has this id in its metadata."""
        embedding = self._store.notebooks.search(where("embedded_id") == embedded_id)
        found = {one.id: one for one in map(_binding, embedding)}
        if embedded_id in found:
            return [*found.values()]
        return [*self.get_many([embedded_id]), *found.values()]

    def find_former(self, origin: str, path: str) -> builtins.list[Binding]:
        """Return the records that were bound to a file before. Scans all records of the origin."""
        condition = (where("origin") == origin) & where("former_paths").any([path])
        return [_binding(found) for found in self._store.notebooks.search(condition)]

    def list(self, origin: str, folder: str | None = None) -> builtins.list[Binding]:
        """Return the bindings of an origin, optionally only to files below ``folder``."""
        below = "" if folder is None else folder.rstrip("/") + "/"
        condition: QueryInstance = (where("origin") == origin) & (where("path") >= below)
        if folder is not None:
            condition &= where("path") < below[:-1] + "0"  # "0" follows "/"
        # `search` would hold all documents of a large store in memory.
        return [_binding(found) for found in self._store.notebooks.iterate(condition)]

    def list_other_origins(
        self, user_id: str | None, origin: str, path: str | None = None
    ) -> builtins.list[Binding]:
        """Return the bindings under other origins, optionally of one user and to one file."""
        bound = where("path") >= "" if path is None else where("path") == path
        condition = bound & ((where("origin") < origin) | (where("origin") > origin))
        if user_id is not None:
            condition &= where("user_id") == user_id
        return [_binding(found) for found in self._store.notebooks.iterate(condition)]

    @retried
    def change_origin(self, id: str, origin: str) -> Binding | None:
        """Bind a record to its file under another origin.

        If another record of the same user is bound to that file, it is unbound, and gets the id of
        this record as ``extra.axon.replaced_by``.

        Returns
        -------
        Binding or None
            The record that was unbound, if any.

        Raises
        ------
        NotFound
            When there is no such record, or it is bound to no file.
        Conflict
            When the file under ``origin`` belongs to a record of another user.
        """

        def edit(header: NotebookHeader, _stored: dict[str, Any]) -> bool:
            header.origin = origin
            return False

        with self._store.transaction():
            binding = next(iter(self.get_many([id])), None)
            if binding is None or binding.path is None:
                raise NotFound("notebook", id)
            other = self._lock_other(origin, binding.path, id)
            if other is not None and other.user_id != binding.user_id:
                raise Conflict(
                    f"the file {binding.path} belongs to notebook {other.id} of another user"
                )
            if other is not None:
                self._unbind(other.id, {"replaced_by": id})
            change_header(self._store, id, edit)
        return other

    @retried
    def bind(self, id: str, path: str) -> NotebookSummary:
        """Bind a record to another file of its origin, and unbind the record that was bound to it.

        A record that has the name of its file gets the new name. Raises NotFound.
        """

        def edit(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            _remember_path(header, stored)
            if header.path is not None and header.name == PurePath(header.path).stem:
                header.name = PurePath(path).stem
            header.path = path
            notes = get_notes(header)
            set_notes(header, {name: notes[name] for name in notes if name != "deleted_at"})
            return True

        with self._store.transaction():
            binding = next(iter(self.get_many([id])), None)
            if binding is not None and binding.origin is not None:
                other = self._lock_other(binding.origin, path, id)
                if other is not None:
                    self.unbind(other.id)
            return change_summary(self._store, id, edit)

    def unbind(self, id: str) -> NotebookSummary:
        """Unbind a record whose file was deleted and note the time as ``extra.axon.deleted_at``.

        The record and its checkpoints stay. Raises NotFound.
        """
        return self._unbind(id, {"deleted_at": format_time(now())})

    def _lock_other(self, origin: str, path: str, id: str) -> Binding | None:
        """Lock a file and return the record other than ``id`` that is bound to it, locked too."""
        self._store.lock(file_lock(origin, path))
        other = self.find_by_path(origin, path)
        if other is None or other.id == id:
            return None
        locked = [
            _binding(found) for found in self._store.notebooks.get_many_for_update([id, other.id])
        ]
        # It may have been bound to another file before it was locked.
        return next((one for one in locked if one.id != id and one.path == path), None)

    def _unbind(self, id: str, notes: dict[str, str]) -> NotebookSummary:
        def edit(header: NotebookHeader, stored: dict[str, Any]) -> bool:
            _remember_path(header, stored)
            header.path = None
            stored.pop("path", None)
            set_notes(header, {**get_notes(header), **notes})
            return True

        return change_summary(self._store, id, edit)


def _remember_path(header: NotebookHeader, stored: dict[str, Any]) -> None:
    if header.path is not None:
        former = [path for path in stored.get("former_paths", []) if path != header.path]
        stored["former_paths"] = [*former, header.path]


def _binding(found: Document) -> Binding:
    with check_damage(f"notebook {found.doc_id}"):
        return msgspec.convert(found, Binding)
