"""What the contents manager says happened: renames and deletions, and saves where no hook runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .embedded import EmbeddedIds

#: The schema under which Jupyter Server announces what happened to contents.
CONTENTS_SCHEMA = "https://events.jupyter.org/jupyter_server/contents_service/v1"


class ContentsEvents:
    """A listener for Jupyter's contents events.

    Parameters
    ----------
    saved, renamed, deleted : callable
        Called with contents paths; must not block. ``saved`` is None where a hook tells of saves.
    """

    def __init__(
        self,
        ids: EmbeddedIds,
        log: logging.Logger,
        *,
        saved: Callable[[str], None] | None,
        renamed: Callable[[str, str], None],
        deleted: Callable[[str], None],
    ) -> None:
        self._ids = ids
        self._log = log
        self._saved = saved
        self._renamed = renamed
        self._deleted = deleted

    async def __call__(self, *, data: dict[str, Any], **_: Any) -> None:
        """Take note of one event; never raises, since Jupyter would stop listening."""
        try:
            path = data["path"].strip("/")
            match data["action"]:
                case "rename":
                    old_path = data["source_path"].strip("/")
                    self._ids.move(old_path, path)
                    self._renamed(old_path, path)
                case "delete":
                    self._ids.forget(path)
                    self._deleted(path)
                case "save" | "upload" if self._saved is not None and path.endswith(".ipynb"):
                    self._saved(path)
        except Exception:  # noqa: BLE001 - whatever it is, the contents manager has done its work
            self._log.warning("axon: not recorded: %s", data, exc_info=True)
