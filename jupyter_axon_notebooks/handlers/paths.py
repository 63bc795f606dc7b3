"""Conversion between contents paths, file paths and stored paths of notebooks.

Clients use contents paths, relative to the server's root and separated by ``/``. The store has the
file's absolute real path, or the contents path if the contents manager has no files.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, Final

from jupyter_server.services.contents.manager import ContentsManager
from jupyter_server.utils import ensure_async

from ..errors import InvalidData
from ..userfiles import real_path
from .requests import check_text

_SUFFIX: Final = ".ipynb"
#: The longest name and path, in bytes, that common file systems accept.
_MAX_NAME: Final = 255
_MAX_PATH: Final = 4000


def validate_path(path: Any, field: str = "$.path") -> str:
    """Return a normalized contents path of a notebook; raise InvalidData at ``field``."""
    if not isinstance(path, str):
        raise InvalidData(field, "expected str")
    normal = path.strip("/")
    names = normal.split("/")
    if not normal:
        raise InvalidData(field, "is empty")
    check_text(normal, field)
    if any(name in ("", ".", "..") for name in names):
        raise InvalidData(
            field, "must be relative to the server's root, without empty names, `.` and `..`"
        )
    if not normal.endswith(_SUFFIX) or names[-1] == _SUFFIX:
        raise InvalidData(field, f"expected the path of a notebook, ending in {_SUFFIX}")
    if max(len(name.encode()) for name in names) > _MAX_NAME or len(normal.encode()) > _MAX_PATH:
        raise InvalidData(field, "is too long")
    return normal


async def is_hidden(manager: ContentsManager, path: str) -> bool:
    """Return whether the contents manager hides a file; False for a broken link."""
    try:
        return bool(await ensure_async(manager.is_hidden(path)))
    except (OSError, RuntimeError):  # a circle of links
        return False


class NotebookPaths:
    """The paths of a contents manager."""

    def __init__(self, contents_manager: ContentsManager) -> None:
        self._get_os_path = getattr(contents_manager, "_get_os_path", None)
        self._root = str(contents_manager.root_dir)

    def to_os_path(self, path: str) -> str:
        """Return the file path of a contents path."""
        return path if self._get_os_path is None else str(self._get_os_path(path))

    def to_stored_path(self, path: str) -> str:
        """Return the path that a record of the file has."""
        return path if self._get_os_path is None else real_path(self._get_os_path(path))

    def to_contents_path(self, stored: str) -> str | None:
        """Return the contents path of a stored path; None for a file outside the server's root."""
        if self._get_os_path is None:
            return stored
        try:
            return PurePath(stored).relative_to(os.path.realpath(self._root)).as_posix()
        except ValueError:
            return None
