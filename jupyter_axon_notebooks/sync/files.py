"""Notebook files as the worker meets them: where they really are, whether they changed, and what is in them.

A path that is not absolute is one of a contents manager without files. Nothing on the disk is asked about it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ..errors import InvalidData, NotFound, Unreadable
from ..mapping import has_own_ids, read_notebook
from ..records import is_record_id
from ..repository import Binding
from ..userfiles import read_regular, real_path

#: What tells a notebook's file from a script's.
NOTEBOOK_SUFFIX: Final = ".ipynb"
#: The largest notebook that is read, in bytes: as large as what Jupyter Server saves (``ServerApp.max_body_size``, 512 MiB).
MAX_NOTEBOOK: Final = 512 << 20
#: The largest script that is read, in bytes.
MAX_SCRIPT: Final = 16 << 20
#: Seconds between attempts to read a file that is being written by somebody else.
_REREAD: Final = (0.05, 0.2, 0.5)


def resolved(path: str) -> str:
    """A file's real path, as :func:`.userfiles.real_path` tells it."""
    return real_path(path) if os.path.isabs(path) else path


def fingerprint(path: str) -> dict[str, int]:
    """What tells a file from what it was before: ``size`` in bytes and ``mtime`` in nanoseconds; empty for none."""
    if not os.path.isabs(path):
        return {}
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return _fingerprint(found)


def _fingerprint(found: os.stat_result) -> dict[str, int]:
    return {"size": found.st_size, "mtime": found.st_mtime_ns}


class Sight(NamedTuple):
    """A file as a hook sees it.

    Attributes
    ----------
    path : str
        Its real path.
    file : dict
        Its :func:`fingerprint`.
    folder : str or None
        The folder it was named in, where what is known of that was only remembered; None where the disk was asked.
    """

    path: str
    file: dict[str, int]
    folder: str | None


class RealFolders:
    """Where folders really are, remembered: to ask the disk about each step on the way down is most of a hook's time.

    A symbolic link that is changed behind Jupyter's back outdates what is remembered. Whoever has the time finds out.
    """

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def look_at(self, path: str) -> Sight:
        """A file, for one question to the disk."""
        if not os.path.isabs(path):
            return Sight(path, {}, None)
        folder, name = os.path.split(path)
        try:
            found = os.lstat(path)
        except OSError:
            return Sight(resolved(path), {}, None)
        if stat.S_ISLNK(found.st_mode):
            return Sight(resolved(path), fingerprint(path), None)
        real = self._real.get(folder) or self.look_up(folder)
        return Sight(os.path.join(real, name), _fingerprint(found), folder)

    def look_up(self, folder: str) -> str:
        """Where a folder really is by now."""
        self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def forget(self) -> None:
        """Folders were moved."""
        self._real.clear()


def was_changed(binding: Binding) -> bool:
    """Whether the file a record is bound to is there and not as it was when it was last read."""
    if binding.path is None:
        return False
    found = fingerprint(binding.path)
    return bool(found) and found != binding.file


def file_state(path: str) -> tuple[int, ...]:
    """What tells a file from any other, and from what it was before any change, of its permissions too; empty for none."""
    if not os.path.isabs(path):
        return ()
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def is_notebook_file(path: str) -> bool:
    """Whether a file with the name of a notebook is there."""
    return path.endswith(NOTEBOOK_SUFFIX) and os.path.isabs(path) and os.path.isfile(path)


def read_file(path: str) -> Mapping[str, Any]:
    """The notebook in a file; a script, which trains as well, as a notebook of one cell.

    Raises
    ------
    NotFound
        When there is no such file.
    Unreadable
        When it cannot be read: it is no regular file, or larger than :data:`MAX_NOTEBOOK` or :data:`MAX_SCRIPT`.
    InvalidData
        When it is neither; a notebook may be half-written.
    """
    limit = MAX_NOTEBOOK if path.endswith(NOTEBOOK_SUFFIX) else MAX_SCRIPT
    try:
        text = read_regular(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("file", path) from None
    except OSError as error:
        raise Unreadable("$", f"{path} cannot be read: {error.strerror}") from error
    try:
        return read_notebook(text)
    except InvalidData:
        if path.endswith(NOTEBOOK_SUFFIX) or b"\0" in text:
            raise
    return _script_content(text.decode("utf-8-sig", "backslashreplace"))


def _script_content(source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": "script",
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    metadata = {"language_info": {"name": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [cell]}


def read_settled(
    path: str,
    read: Callable[[str], Mapping[str, Any]] = read_file,
    wait: Callable[[float], object] = time.sleep,
) -> Mapping[str, Any]:
    """As ``read``, but gives a file that somebody else is writing just now the time that it takes.

    One that stays the same is read once, however large it is.
    """
    failed: InvalidData | None = None
    seen: tuple[int, ...] = ()
    for delay in (*_REREAD, None):
        found = file_state(path)
        if failed is None or not found or found != seen:
            seen = found
            try:
                return read(path)
            except Unreadable:
                raise
            except InvalidData as error:
                failed = error
        if delay is not None:
            wait(delay)
    assert failed is not None
    raise failed


def is_as_saved(content: Mapping[str, Any]) -> bool:
    """Whether a saved content is what the file holds: Jupyter repairs what is not v4 or lacks ids as it writes."""
    if content.get("nbformat") != 4:
        return False
    minor = content.get("nbformat_minor")
    needs_ids = not isinstance(minor, int) or minor >= 5
    return not needs_ids or has_own_ids(content)


def embedded_id(content: Mapping[str, Any]) -> str | None:
    """The record id that a notebook carries; None for a text that is none."""
    metadata = content.get("metadata")
    axon = metadata.get("axon") if isinstance(metadata, dict) else None
    id = axon.get("notebook_id") if isinstance(axon, dict) else None
    return id if is_record_id(id) else None
