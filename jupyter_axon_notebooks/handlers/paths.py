"""Paths of notebooks: what clients see, and what is stored.

Over REST a path is what the contents API calls one: relative to the server's root, separated by ``/``. In the store it
is the file's absolute real path. A contents manager without files knows only the first, which is then stored as well.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, Final

from jupyter_server.services.contents.manager import ContentsManager
from jupyter_server.utils import ensure_async

from ..errors import InvalidData
from ..userfiles import real_path
from .bodies import text_fault

_SUFFIX: Final = ".ipynb"
#: Bytes in a file's name that every file system in use takes.
_LONGEST_NAME: Final = 255
#: Bytes in a path that operating systems take.
_LONGEST_PATH: Final = 4000


def check_path(path: Any, field: str = "$.path") -> str:
    """``path`` in its one form, if it can be a notebook's path in the contents API.

    Raises
    ------
    InvalidData
        At ``field``, for what is no text or leads anywhere else.
    """
    if not isinstance(path, str):
        raise InvalidData(field, "expected str")
    normal = path.strip("/")
    names = normal.split("/")
    if not normal:
        raise InvalidData(field, "is empty")
    if reason := text_fault(normal):
        raise InvalidData(field, reason)
    if any(name in ("", ".", "..") for name in names):
        raise InvalidData(
            field, "must be relative to the server's root, without empty names, `.` and `..`"
        )
    if not normal.endswith(_SUFFIX) or names[-1] == _SUFFIX:
        raise InvalidData(field, f"expected the path of a notebook, ending in {_SUFFIX}")
    if (
        any(len(name.encode()) > _LONGEST_NAME for name in names)
        or len(normal.encode()) > _LONGEST_PATH
    ):
        raise InvalidData(field, "is too long")
    return normal


async def is_hidden(manager: ContentsManager, path: str) -> bool:
    """Whether the contents manager hides a file; a link that leads nowhere is told by who reads it."""
    try:
        return bool(await ensure_async(manager.is_hidden(path)))
    except (OSError, RuntimeError):  # a link in a circle
        return False


class NotebookPaths:
    """From the contents API's paths to stored ones and back."""

    def __init__(self, contents_manager: ContentsManager) -> None:
        self._os_path = getattr(contents_manager, "_get_os_path", None)
        self._root = str(contents_manager.root_dir)

    def os_path(self, path: str) -> str:
        """Where the file is; the path itself where there are no files."""
        return path if self._os_path is None else str(self._os_path(path))

    def stored(self, path: str) -> str:
        """What a record that is bound to the file has as its path."""
        return path if self._os_path is None else real_path(self._os_path(path))

    def shown(self, stored: str) -> str | None:
        """The contents API's path of a stored one; None for a file outside the server's root."""
        if self._os_path is None:
            return stored
        try:
            return PurePath(stored).relative_to(os.path.realpath(self._root)).as_posix()
        except ValueError:
            return None
