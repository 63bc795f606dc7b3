"""What happened to a notebook file, done to its record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import Conflict, NotFound
from ..mapping import MappedNotebook, has_own_ids, map_notebook, notebook_name
from ..records import NewNotebook, NotebookCell, NotebookSummary, now
from ..repository import Binding, NotebookRepository, SavedNotebook
from .embedded import EmbeddedIds
from .files import RealFolders, embedded_id, fingerprint, is_as_saved, is_notebook_file
from .identity import Known, New, Sighting, identify
from .queue import Save

#: Attempts at a record that somebody else makes, binds or removes at the same time.
_ATTEMPTS = 3


class Recorder:
    """Brings the records of notebook files up to date.

    Parameters
    ----------
    origin : str
        The id of this Jupyter data folder; records are bound to (origin, real path).
    files : dict
        Which files have a record, each with its owner; kept up to date.
    ids : EmbeddedIds
        Told which ids files carry.
    read : callable
        Reads a notebook by its path, and raises as :func:`.files.read_file` does.
    tell : callable
        Told, in a sentence, of a file that has a record under another origin.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        origin: str,
        files: dict[str, str],
        folders: RealFolders,
        ids: EmbeddedIds,
        read: Callable[[str], Mapping[str, Any]],
        tell: Callable[[str], object],
    ) -> None:
        self._repository = repository
        self._origin = origin
        self._files = files
        self._folders = folders
        self._ids = ids
        self._read = read
        self._tell = tell

    def rename(self, old_path: str, new_path: str) -> Iterator[Save]:
        """A file, or a folder, was renamed: its records go along, one by one. Yields what is to be recorded besides."""
        for binding in self._bound(old_path):
            path = new_path + str(binding.path)[len(old_path) :]
            self._repository.bindings.bind(binding.id, path)
            self._forget(binding)
            self._files[path] = binding.user_id
            yield from _saved_since(binding)

    def delete(self, path: str) -> Iterator[Save]:
        """A file, or a folder, was deleted: its records are released. Yields what is to be recorded besides."""
        for binding in self._bound(path):
            self._repository.bindings.unbind(binding.id)
            self._forget(binding)
            yield from _saved_since(binding)

    def _bound(self, path: str) -> list[Binding]:
        """Who is bound to a file, or to files beneath a folder."""
        exactly = self._repository.bindings.find_by_path(self._origin, path)
        beneath = self._repository.bindings.list(self._origin, folder=path)
        return beneath if exactly is None else [exactly, *beneath]

    def _forget(self, binding: Binding) -> None:
        self._files.pop(str(binding.path), None)

    def save(self, save: Save) -> NotebookSummary:
        """A file was saved, or has to be read: its record is brought up to date, or made."""
        path, content, file = self._place(save), save.content, save.file
        self._files.setdefault(path, save.owner)
        bound = None
        if content is not None and path == save.path and is_as_saved(content):
            bound = self._repository.bindings.find_by_path(self._origin, path)
            if bound is not None and file and bound.file == file:
                content = None  # recorded already: two servers wrote it at once, and one was later
        else:
            content = None
        if content is None:
            bound, file = (
                None,
                fingerprint(path),
            )  # before reading: what is written meanwhile is then noticed
            content = self._read(path)
            self._note_embedded(path, content, file)
        seen = Sighting(self._origin, path, save.owner, embedded_id(content), file)
        for attempt in range(1, _ATTEMPTS + 1):
            is_told = content is save.content
            found = identify(seen, self._repository.bindings, bound=bound)
            if save.is_copy and (isinstance(found, New) or found.moved):
                found = New(copied_from=seen.embedded_id)
            if attempt == _ATTEMPTS and isinstance(found, New) and found.id is not None:
                # Taken, though by nobody who can be seen: a record of another user, whom the database keeps apart.
                found = New(copied_from=found.id)
            try:
                if isinstance(found, Known):
                    summary = self._update(found, seen, content, save.previous, is_told=is_told)
                else:
                    summary = self._create(found, seen, content)
                self._offer_id(summary.id, seen)
                return summary
            except (Conflict, NotFound):
                # Somebody else was quicker: with the file, with the id, or with removing the record.
                bound = None
                if attempt == _ATTEMPTS:
                    raise
                file = fingerprint(path)
                content = self._read(path)
                seen = Sighting(self._origin, path, save.owner, embedded_id(content), file)
        raise AssertionError("the last attempt returns or raises")

    def _place(self, save: Save) -> str:
        """The real path of what was saved: as the hook knew it, unless its folder turns out to be elsewhere."""
        if save.folder is None or fingerprint(save.path) == save.file:
            return save.path
        return os.path.join(self._folders.look_up(save.folder), os.path.basename(save.path))

    def _note_embedded(self, path: str, content: Mapping[str, Any], file: dict[str, int]) -> None:
        # Not of a file that has gone since: its name may be another notebook's next.
        id = embedded_id(content)
        if id is not None and fingerprint(path) == file:
            self._ids.read(path, id)

    def _offer_id(self, id: str, seen: Sighting) -> None:
        if seen.embedded_id is None and fingerprint(seen.path) == seen.file:
            self._ids.offer(seen.path, id)

    def _update(
        self,
        found: Known,
        seen: Sighting,
        content: Mapping[str, Any],
        previous: Sequence[NotebookCell] | None,
        *,
        is_told: bool,
    ) -> NotebookSummary:
        if found.moved:
            self._repository.bindings.bind(found.id, seen.path)
        if previous is None and not has_own_ids(content):
            known = self._repository.find_by_id(found.id, outputs=False)
            previous = None if known is None else known.cells
        mapped = map_notebook(content, previous=previous or ())
        return self._repository.save(found.id, _saved(mapped, seen), unless_read=is_told)

    def _create(self, found: New, seen: Sighting, content: Mapping[str, Any]) -> NotebookSummary:
        saved = _saved(map_notebook(content), seen)
        if found.copied_from is not None:
            axon = {**saved.metadata.extra.get("axon", {}), "copied_from": found.copied_from}
            saved.metadata.extra = {**saved.metadata.extra, "axon": axon}
        self._note_other_origin(saved, seen)
        name = notebook_name(seen.path)
        new = NewNotebook(
            id=found.id, user_id=seen.owner, name=name, path=seen.path, origin=seen.origin
        )
        return self._repository.create(new, saved).summary()

    def _note_other_origin(self, saved: SavedNotebook, seen: Sighting) -> None:
        """Tell, and note, that a file that gets a new record has one already, under another origin."""
        if not os.path.isabs(seen.path):
            return
        others = self._repository.bindings.list_other_origins(seen.owner, seen.origin, seen.path)
        if not others:
            return
        first = min(others, key=lambda binding: binding.created_at or "")
        self._tell(
            f"{seen.path} gets a new record, although {seen.owner} has the record {first.id} of it under another origin "
            f"({first.origin}). If that is no other machine's, the origin of this data folder was lost: "
            "`jupyter axon doctor --rebind` binds the file to that record"
        )
        axon = {**saved.metadata.extra.get("axon", {}), "other_record": first.id}
        saved.metadata.extra = {**saved.metadata.extra, "axon": axon}


def _saved_since(binding: Binding) -> Iterator[Save]:
    """What has been saved where a record's file was, if that was before we heard of its going."""
    if is_notebook_file(path := str(binding.path)):
        yield Save(path, binding.user_id)


def _saved(mapped: MappedNotebook, seen: Sighting) -> SavedNotebook:
    return SavedNotebook(
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
        synced_at=now(),
        embedded_id=seen.embedded_id,
        file=seen.file,
    )
