"""The save hooks: they note what is saved and hand it over.

A hook that raises would turn the user's save into an error, and one that takes its time would hold up everybody on the
server. So these catch everything and do next to nothing: no store, no disk, no mapping.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..records import new_id

#: Path and model of what the current request saves, from the pre-save to the post-save hook.
_saving: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("axon_saving", default=None)


class EmbeddedIds:
    """The id that each file carries in its metadata, as far as it is known in memory.

    JupyterLab does not see what a hook puts into a notebook, so every save of an open notebook comes without the id,
    and has to be given the same one again.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, path: str, id: str) -> None:
        """Remember that the file at ``path`` carries ``id``."""
        with self._lock:
            self._ids[path] = id

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

    def of(self, path: str) -> str:
        """The id for the file at ``path``: the one it is known to carry, or a new one."""
        with self._lock:
            return self._ids.setdefault(path, new_id())


class SaveHooks:
    """The two hooks of a contents manager.

    Parameters
    ----------
    saved : callable
        Called with the file's absolute path and the content saved (None where it is not at hand); must not block.
    ids : EmbeddedIds or None
        Gives the ids to embed; None embeds nothing.
    """

    def __init__(
        self,
        saved: Callable[[str, dict[str, Any] | None], None],
        ids: EmbeddedIds | None,
        log: logging.Logger,
    ) -> None:
        self._saved = saved
        self._ids = ids
        self._log = log

    def pre_save(self, *, path: str = "", model: Any = None, **_: Any) -> None:
        """Embed the notebook's id if it carries none, and remember the model for :meth:`post_save`."""
        try:
            _saving.set(None)
            if not isinstance(model, dict) or model.get("type") != "notebook":
                return
            _saving.set((path.strip("/"), model))
            if self._ids is not None:
                self._embed(self._ids, path.strip("/"), model)
        except Exception:  # noqa: BLE001 - whatever it is, the save must go on
            self._log.warning("axon: the notebook %s is saved without its record's id", path, exc_info=True)

    def _embed(self, ids: EmbeddedIds, path: str, model: dict[str, Any]) -> None:
        content = model.get("content")
        metadata = content.get("metadata") if isinstance(content, dict) else None
        if not isinstance(metadata, dict):
            return
        axon = metadata.get("axon", {})
        if not isinstance(axon, dict):
            return  # somebody else's key of the same name
        if "notebook_id" in axon:
            if isinstance(axon["notebook_id"], str):
                ids.note(path, axon["notebook_id"])
            return
        metadata["axon"] = {**axon, "notebook_id": ids.of(path)}

    def post_save(self, *, os_path: str = "", model: Any = None, **_: Any) -> None:
        """Hand over what was saved."""
        try:
            saving = _saving.get()
            _saving.set(None)
            if not os_path.endswith(".ipynb"):
                return
            path, saved = saving or ("", {})
            content = saved.get("content") if path == model.get("path", "").strip("/") else None
            self._saved(os_path, content if isinstance(content, dict) else None)
        except Exception:  # noqa: BLE001 - whatever it is, the save has succeeded and must say so
            self._log.warning("axon: the save of %s is not in its record yet", os_path, exc_info=True)
