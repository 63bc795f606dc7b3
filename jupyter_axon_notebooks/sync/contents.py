"""The connection to Jupyter's contents manager: save hooks, contents events, embedded record ids.

Hooks and listeners run in the event loop. They never raise, and they only note what happened: no
store access and no mapping.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

from ..records import is_record_id, new_id

#: The schema of the events that Jupyter Server emits for contents operations.
CONTENTS_SCHEMA: Final = "https://events.jupyter.org/jupyter_server/contents_service/v1"


class EmbeddedIds:
    """A thread-safe map from contents paths to the record ids in the files' metadata.

    JupyterLab does not see what a hook adds to a notebook. Every save of an open notebook therefore
    arrives without the id and must be given the same one again. Only valid record ids are kept.

    Parameters
    ----------
    to_contents_path : callable
        Converts a stored path to a contents path; returns None for a file outside the server's
        root.
    """

    def __init__(
        self, to_contents_path: Callable[[str], str | None] = lambda stored: stored
    ) -> None:
        self._to_contents_path = to_contents_path
        self._ids: dict[str, str] = {}
        self._is_complete = False
        self._lock = threading.Lock()

    def load(self, stored: Mapping[str, str]) -> None:
        """Add the ids of all recorded files, by stored path; ids that are already known win."""
        for path, id in stored.items():
            self.set_stored(path, id, overwrite=False)
        self._is_complete = True

    def set(self, path: str, id: str, *, overwrite: bool = True) -> None:
        """Set the id of the file at a contents path."""
        if is_record_id(id):
            with self._lock:
                if overwrite:
                    self._ids[path] = id
                else:
                    self._ids.setdefault(path, id)

    def set_stored(self, stored_path: str, id: str, *, overwrite: bool = True) -> None:
        """Set the id of the file at a stored path."""
        path = self._to_contents_path(stored_path)
        if path is not None:
            self.set(path, id, overwrite=overwrite)

    def get_or_create(self, path: str) -> str | None:
        """Return the id for a file, a new one if it has none.

        Returns None until :meth:`load` was called: the file may have an id that is not loaded yet,
        and two ids for one notebook would be worse than none until its next save.
        """
        with self._lock:
            if self._is_complete:
                return self._ids.setdefault(path, new_id())
            return self._ids.get(path)

    def rename(self, old_path: str, new_path: str) -> None:
        """Move the ids of a file, or of all files in a folder."""
        with self._lock:
            for path in self._below(old_path):
                self._ids[new_path + path[len(old_path) :]] = self._ids.pop(path)

    def delete(self, path: str) -> None:
        """Forget the ids of a file, or of all files in a folder."""
        with self._lock:
            for deleted in self._below(path):
                del self._ids[deleted]

    def _below(self, path: str) -> list[str]:
        return [known for known in self._ids if known == path or known.startswith(path + "/")]


class _Save:
    """A save between its two hooks; garbage-collected with its request if it fails in between."""

    def __init__(self, path: str, model: dict[str, Any]) -> None:
        self.path = path
        self.model = model
        self.is_concurrent = False


_current_save: ContextVar[_Save | None] = ContextVar("axon_current_save", default=None)


class SaveHooks:
    """The pre-save and post-save hooks of a contents manager.

    Parameters
    ----------
    on_save : callable
        Called with the file's absolute path and the saved content, or None where the content of the
        file is uncertain. Must not block.
    ids : EmbeddedIds or None
        The ids to embed; None embeds nothing.
    is_excluded : callable, optional
        Returns whether a contents path is ignored.
    """

    def __init__(
        self,
        on_save: Callable[[str, dict[str, Any] | None], None],
        ids: EmbeddedIds | None,
        log: logging.Logger,
        is_excluded: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self._on_save = on_save
        self._is_excluded = is_excluded
        self._ids = ids
        self._log = log
        self._active: WeakSet[_Save] = WeakSet()

    def pre_save(self, *, path: str = "", model: Any = None, **_: Any) -> None:
        """Embed an id if the notebook has none, and keep the model for :meth:`post_save`."""
        try:
            _current_save.set(None)
            if not isinstance(model, dict) or model.get("type") != "notebook":
                return
            if self._is_excluded(path.strip("/")):
                return
            save = _Save(path.strip("/"), model)
            for other in self._active:
                if other.path == save.path:  # either content may end up in the file
                    other.is_concurrent = save.is_concurrent = True
            self._active.add(save)
            _current_save.set(save)
            if self._ids is not None:
                _embed_id(self._ids, save.path, model)
        except Exception:  # noqa: BLE001 - the save must not fail
            self._log.warning(
                "axon: %s is saved without a record id in its metadata", path, exc_info=True
            )

    def post_save(self, *, os_path: str = "", model: Any = None, **_: Any) -> None:
        """Report a saved notebook."""
        try:
            save = _current_save.get()
            _current_save.set(None)
            if save is not None:
                self._active.discard(save)
            path = str((model or {}).get("path", "")).strip("/")
            if not os_path.endswith(".ipynb") or self._is_excluded(path):
                return
            content = None
            if save is not None and not save.is_concurrent and save.path == path:
                content = save.model.get("content")
            self._on_save(os_path, content if isinstance(content, dict) else None)
        except Exception:  # noqa: BLE001 - the save has succeeded
            self._log.warning(
                "axon: the save of %s was not recorded; it is recorded when its record is read",
                os_path,
                exc_info=True,
            )


def _embed_id(ids: EmbeddedIds, path: str, model: dict[str, Any]) -> None:
    content = model.get("content")
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        return
    axon = metadata.get("axon", {})
    embedded = axon.get("notebook_id", "") if isinstance(axon, dict) else None
    if is_record_id(embedded):
        ids.set(path, embedded)
    elif isinstance(embedded, str):  # values of other types belong to another tool
        id = ids.get_or_create(path)
        if id is not None:
            metadata["axon"] = {**axon, "notebook_id": id}


class ContentsListener:
    """A listener for contents events: renames and deletions, and saves where no hook runs.

    Parameters
    ----------
    on_save, on_rename, on_delete : callable
        Called with contents paths; must not block.
    """

    def __init__(
        self,
        ids: EmbeddedIds,
        log: logging.Logger,
        *,
        on_save: Callable[[str], None],
        on_rename: Callable[[str, str], None],
        on_delete: Callable[[str], None],
    ) -> None:
        self._ids = ids
        self._log = log
        self._on_save = on_save
        self._on_rename = on_rename
        self._on_delete = on_delete

    async def __call__(self, *, data: dict[str, Any], **_: Any) -> None:
        """Handle one event; never raise, because Jupyter would remove the listener."""
        try:
            path = data["path"].strip("/")
            match data["action"]:
                case "rename":
                    old_path = data["source_path"].strip("/")
                    self._ids.rename(old_path, path)
                    self._on_rename(old_path, path)
                case "delete":
                    self._ids.delete(path)
                    self._on_delete(path)
                case "save" | "upload" if path.endswith(".ipynb"):
                    self._on_save(path)
        except Exception:  # noqa: BLE001 - the contents operation has succeeded
            self._log.warning("axon: contents event not recorded: %s", data, exc_info=True)
