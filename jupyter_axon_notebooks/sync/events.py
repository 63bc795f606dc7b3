"""What the contents manager says happened: renames and deletions, and saves where no hook runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .hooks import EmbeddedIds
from .worker import NotebookSync

#: The schema under which Jupyter Server announces what happened to contents.
CONTENTS_SCHEMA = "https://events.jupyter.org/jupyter_server/contents_service/v1"


class ContentsEvents:
    """A listener for Jupyter's contents events.

    Parameters
    ----------
    to_file : callable
        The file that a contents path stands for; the path itself where contents are no files.
    fetch : callable or None
        Gets the content of a notebook by its contents path, for a contents manager that runs no post-save hook.
    owner : callable
        Who acts in the current request.
    """

    def __init__(
        self,
        sync: NotebookSync,
        ids: EmbeddedIds,
        to_file: Callable[[str], str],
        fetch: Callable[[str], Awaitable[dict[str, Any]]] | None,
        owner: Callable[[], str],
        log: logging.Logger,
    ) -> None:
        self._sync = sync
        self._ids = ids
        self._to_file = to_file
        self._fetch = fetch
        self._owner = owner
        self._log = log

    async def __call__(self, *, data: dict[str, Any], **_: Any) -> None:
        """Take note of one event; never raises, since Jupyter would stop listening."""
        try:
            path = data["path"].strip("/")
            match data["action"]:
                case "rename":
                    old_path = data["source_path"].strip("/")
                    self._ids.move(old_path, path)
                    self._sync.renamed(self._to_file(old_path), self._to_file(path))
                case "delete":
                    self._ids.forget(path)
                    self._sync.deleted(self._to_file(path))
                case "save" | "upload" if self._fetch is not None and path.endswith(".ipynb"):
                    self._sync.saved(self._to_file(path), self._owner(), await self._fetch(path))
        except Exception:  # noqa: BLE001 - whatever it is, the contents manager has done its work
            self._log.warning("axon: not recorded: %s", data, exc_info=True)
