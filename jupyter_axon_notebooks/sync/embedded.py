"""The ids that files carry in their own metadata, as far as they are known in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from ..records import is_record_id, new_id


class EmbeddedIds:
    """Which id each notebook carries, by its path in the contents API.

    JupyterLab does not see what a hook puts into a notebook, so every save of an open notebook comes without the id,
    and has to be given the same one again. Only record ids are remembered, whatever a file carries: a text that is none could
    make each later save of the file fail.

    Parameters
    ----------
    to_path : callable
        The path of a stored one, as a record is bound to; None for a file that this server does not serve.
    """

    def __init__(self, to_path: Callable[[str], str | None] = lambda stored: stored) -> None:
        self._to_path = to_path
        self._ids: dict[str, str] = {}
        self._is_complete = False
        self._lock = threading.Lock()

    def learn(self, stored: Mapping[str, str]) -> None:
        """Take in the id for each file that has a record, by stored path; from then on a file that is not known has none."""
        known = {self._to_path(path): id for path, id in stored.items()}
        with self._lock:
            for path, id in known.items():
                if path is not None and is_record_id(id):
                    self._ids.setdefault(path, id)  # what a save has said since is newer
            self._is_complete = True

    def read(self, stored: str, id: str) -> None:
        """Remember that the file at a stored path was seen to carry ``id``."""
        path = self._to_path(stored)
        if path is not None:
            self.note(path, id)

    def note(self, path: str, id: str) -> None:
        """Remember that the file at ``path`` carries ``id``, if that is a record id."""
        if is_record_id(id):
            with self._lock:
                self._ids[path] = id

    def offer(self, stored: str, id: str) -> None:
        """Have the file at a stored path, which carries no record id, get ``id`` with its next save."""
        path = self._to_path(stored)
        if path is not None and is_record_id(id):
            with self._lock:
                self._ids.setdefault(path, id)

    def move(self, old_path: str, new_path: str) -> None:
        """A file, or a folder with all beneath it, was renamed."""
        with self._lock:
            for path in self._beneath(old_path):
                self._ids[new_path + path[len(old_path) :]] = self._ids.pop(path)

    def forget(self, path: str) -> None:
        """A file, or a folder with all beneath it, was deleted: what is saved there next is another notebook."""
        with self._lock:
            for gone in self._beneath(path):
                del self._ids[gone]

    def _beneath(self, path: str) -> list[str]:
        return [known for known in self._ids if known == path or known.startswith(path + "/")]

    def of(self, path: str) -> str | None:
        """The id for the file at ``path``: the one it is known to carry, or a new one.

        None as long as it may carry one that the store has not told yet: two ids for one notebook would be worse than
        none until its next save.
        """
        with self._lock:
            if self._is_complete:
                return self._ids.setdefault(path, new_id())
            return self._ids.get(path)
