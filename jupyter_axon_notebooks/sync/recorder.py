"""Updating the record of a notebook file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import Conflict, NotFound
from ..mapping import has_own_ids, map_notebook, notebook_name
from ..records import NewNotebook, NotebookCell, NotebookSummary, now
from ..repository import Binding, NotebookRepository, SavedNotebook
from .contents import EmbeddedIds
from .files import embedded_id, fingerprint, is_notebook_file, matches_file, read_stable
from .identity import ExistingRecord, NewRecord, ObservedFile, identify

#: Attempts to record a file while other processes create, bind or delete its record.
_ATTEMPTS: Final = 3


class NotebookRecorder:
    """Creates and updates the records of notebook files.

    Parameters
    ----------
    origin : str
        The id of this Jupyter data directory; records are bound to (origin, real path).
    warn : callable
        Called with a sentence about a file that has a record under another origin.
    read : callable
        Reads a notebook by its path; raises as :func:`.files.read_file` does.
    ids : EmbeddedIds, optional
        Updated with the ids that files carry.

    Attributes
    ----------
    owners : dict
        The owner of each recorded file, by path.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        origin: str,
        warn: Callable[[str], object],
        *,
        read: Callable[[str], Mapping[str, Any]] = read_stable,
        ids: EmbeddedIds | None = None,
    ) -> None:
        self.owners: dict[str, str] = {}
        self._repository = repository
        self._origin = origin
        self._warn = warn
        self._read = read
        self._ids = EmbeddedIds() if ids is None else ids

    def record(
        self,
        path: str,
        owner: str,
        *,
        content: Mapping[str, Any] | None = None,
        file: dict[str, int] | None = None,
        previous: Sequence[NotebookCell] | None = None,
        is_copy: bool = False,
    ) -> NotebookSummary:
        """Create or update the record of a file.

        Parameters
        ----------
        path : str
            The absolute real path; the contents path for contents that are not files.
        owner : str
            The owner of a new record.
        content : mapping, optional
            The saved notebook; by default the file is read.
        file : dict, optional
            The fingerprint of the file that holds ``content``.
        previous : sequence of NotebookCell, optional
            The cells that the file was made from; by default those of the record. Cells without
            ids of their own take the ids of these.
        is_copy : bool
            Whether a program made the file to execute another notebook.

        Raises
        ------
        NotFound
            If there is no such file.
        InvalidData
            If it is not a valid notebook.
        StoreError
            If the store cannot be written.
        """
        self.owners.setdefault(path, owner)
        saved_content = None if content is None or not matches_file(content) else content
        content = saved_content
        for attempt in range(1, _ATTEMPTS + 1):
            if content is None:
                # Taken before the content is read, so that a later change is noticed.
                file = fingerprint(path)
                content = self._read(path)
                if (id := embedded_id(content)) is not None and fingerprint(path) == file:
                    self._ids.set_stored(path, id)
            observed = ObservedFile(
                self._origin, path, owner, embedded_id(content), {} if file is None else file
            )
            found = identify(observed, self._repository.bindings)
            if is_copy and (isinstance(found, NewRecord) or found.is_moved):
                found = NewRecord(copied_from=observed.embedded_id)
            if attempt == _ATTEMPTS and isinstance(found, NewRecord) and found.id is not None:
                # The id belongs to a record that row-level security hides from this user.
                found = NewRecord(copied_from=found.id)
            try:
                if isinstance(found, ExistingRecord):
                    # Another server may have saved the file since, and recorded that already.
                    states = [fingerprint(path)]
                    if content is saved_content:
                        states.append(observed.file)
                    elif states == [observed.file]:
                        states = []
                    summary = self._update(found, observed, content, previous, states)
                else:
                    summary = self._create(found, observed, content)
            except (Conflict, NotFound):  # another process changed the record or the file
                if attempt == _ATTEMPTS:
                    raise
                content = None
            else:
                if observed.embedded_id is None and fingerprint(path) == file:
                    self._ids.set_stored(path, summary.id, overwrite=False)
                return summary
        raise AssertionError("the last attempt returns or raises")

    def rename(self, old_path: str, new_path: str) -> Iterator[tuple[str, str]]:
        """Bind the records of a renamed file or folder to the new paths.

        Yields path and owner of each notebook that was saved at an old path meanwhile.
        """
        for binding in self._bindings_below(old_path):
            path = new_path + str(binding.path)[len(old_path) :]
            self._repository.bindings.bind(binding.id, path)
            self.owners[path] = binding.user_id
            yield from self._unbound(binding)

    def delete(self, path: str) -> Iterator[tuple[str, str]]:
        """Unbind the records of a deleted file or folder.

        Yields path and owner of each notebook that was saved at a deleted path meanwhile.
        """
        for binding in self._bindings_below(path):
            self._repository.bindings.unbind(binding.id)
            yield from self._unbound(binding)

    def _bindings_below(self, path: str) -> list[Binding]:
        exact = self._repository.bindings.find_by_path(self._origin, path)
        below = self._repository.bindings.list(self._origin, folder=path)
        return below if exact is None else [exact, *below]

    def _unbound(self, binding: Binding) -> Iterator[tuple[str, str]]:
        path = str(binding.path)
        self.owners.pop(path, None)
        if is_notebook_file(path):
            yield path, binding.user_id

    def _update(
        self,
        found: ExistingRecord,
        observed: ObservedFile,
        content: Mapping[str, Any],
        previous: Sequence[NotebookCell] | None,
        unless_read: Sequence[Mapping[str, int]],
    ) -> NotebookSummary:
        if found.is_moved:
            self._repository.bindings.bind(found.id, observed.path)
        if previous is None and not has_own_ids(content):
            record = self._repository.find_by_id(found.id, outputs=False)
            previous = None if record is None else record.cells
        saved = _map(content, observed, previous or ())
        return self._repository.save(found.id, saved, unless_read=unless_read)

    def _create(
        self, found: NewRecord, observed: ObservedFile, content: Mapping[str, Any]
    ) -> NotebookSummary:
        saved = _map(content, observed)
        links = {
            "copied_from": found.copied_from,
            "other_record": self._find_other_record(observed),
        }
        if links := {name: id for name, id in links.items() if id is not None}:
            axon = {**saved.metadata.extra.get("axon", {}), **links}
            saved.metadata.extra = {**saved.metadata.extra, "axon": axon}
        new = NewNotebook(
            id=found.id,
            user_id=observed.owner,
            name=notebook_name(observed.path),
            path=observed.path,
            origin=observed.origin,
        )
        return self._repository.create(new, saved).summary()

    def _find_other_record(self, observed: ObservedFile) -> str | None:
        """Return the id of the file's oldest record under another origin, after a warning."""
        if not os.path.isabs(observed.path):
            return None
        others = self._repository.bindings.list_other_origins(
            observed.owner, observed.origin, observed.path
        )
        if not others:
            return None
        oldest = min(others, key=lambda binding: binding.created_at or "")
        self._warn(
            f"{observed.path} gets a new record, although {observed.owner} already has record "
            f"{oldest.id} of it under another origin ({oldest.origin}). Unless another machine "
            "uses that origin, the origin of this data directory was lost: run `jupyter axon "
            "doctor --rebind` to bind the file to that record"
        )
        return oldest.id


def _map(
    content: Mapping[str, Any], observed: ObservedFile, previous: Sequence[NotebookCell] = ()
) -> SavedNotebook:
    mapped = map_notebook(content, previous=previous)
    return SavedNotebook(
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
        synced_at=now(),
        embedded_id=observed.embedded_id,
        file=observed.file,
    )
