"""The save hooks: they note what is saved and hand it over.

A hook that raises would turn the user's save into an error, and one that takes its time would hold up everybody on the
server. So these catch everything and do next to nothing: no store, no mapping, one look at the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from ..records import is_record_id
from .embedded import EmbeddedIds


class _Saving:
    """A save between its two hooks; gone with its request if it fails in between."""

    def __init__(self, path: str, model: dict[str, Any]) -> None:
        self.path = path
        self.model = model
        self.is_alone = True


#: What the current request saves, from the pre-save to the post-save hook.
_saving: ContextVar[_Saving | None] = ContextVar("axon_saving", default=None)


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
        self._under_way: WeakSet[_Saving] = WeakSet()

    def pre_save(self, *, path: str = "", model: Any = None, **_: Any) -> None:
        """Embed the notebook's id if it carries no valid one, and remember the model for :meth:`post_save`."""
        try:
            _saving.set(None)
            if not isinstance(model, dict) or model.get("type") != "notebook":
                return
            self._begin(_Saving(path.strip("/"), model))
            if self._ids is not None:
                self._embed(self._ids, path.strip("/"), model)
        except Exception:  # noqa: BLE001 - whatever it is, the save must go on
            self._log.warning(
                "axon: the notebook %s is saved without its record's id", path, exc_info=True
            )

    def _begin(self, saving: _Saving) -> None:
        # Of two saves of one file at a time, nobody can say whose content the file has in the end.
        for other in self._under_way:
            if other.path == saving.path:
                other.is_alone = saving.is_alone = False
        self._under_way.add(saving)
        _saving.set(saving)

    def _embed(self, ids: EmbeddedIds, path: str, model: dict[str, Any]) -> None:
        content = model.get("content")
        metadata = content.get("metadata") if isinstance(content, dict) else None
        if not isinstance(metadata, dict):
            return
        axon = metadata.get("axon", {})
        if not isinstance(axon, dict):
            return  # somebody else's key of the same name
        embedded = axon.get("notebook_id", "")
        if is_record_id(embedded):
            ids.note(path, embedded)
            return
        if not isinstance(embedded, str):
            return  # somebody else's as well
        id = ids.of(path)
        if id is not None:
            metadata["axon"] = {**axon, "notebook_id": id}

    def post_save(self, *, os_path: str = "", model: Any = None, **_: Any) -> None:
        """Hand over what was saved."""
        try:
            saving = _saving.get()
            _saving.set(None)
            if saving is not None:
                self._under_way.discard(saving)
            if not os_path.endswith(".ipynb"):
                return
            content = None
            if (
                saving is not None
                and saving.is_alone
                and saving.path == model.get("path", "").strip("/")
            ):
                content = saving.model.get("content")
            self._saved(os_path, content if isinstance(content, dict) else None)
        except Exception:  # noqa: BLE001 - whatever it is, the save has succeeded and must say so
            self._log.warning(
                "axon: the save of %s is not in its record yet", os_path, exc_info=True
            )
