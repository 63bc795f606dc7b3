"""Notebook files on disk: their paths, fingerprints and content.

A path that is not absolute belongs to a contents manager without files; the disk is not accessed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import InvalidData, NotFound, Unreadable
from ..mapping import has_own_ids, read_notebook
from ..records import is_record_id
from ..userfiles import read_regular, real_path

NOTEBOOK_SUFFIX: Final = ".ipynb"
#: The largest notebook that is read, in bytes; also the limit of Jupyter Server for saves.
MAX_NOTEBOOK: Final = 512 << 20
#: The largest script that is read, in bytes.
MAX_SCRIPT: Final = 16 << 20
#: Seconds between attempts to read a file that another program is writing.
_RETRY_DELAYS: Final = (0.05, 0.2, 0.5)


def resolve_path(path: str) -> str:
    """Return the real path of a file; a path that is not absolute stays as it is."""
    return real_path(path) if os.path.isabs(path) else path


def fingerprint(path: str) -> dict[str, int]:
    """Return the ``size`` of a file in bytes and its ``mtime`` in nanoseconds; empty if missing."""
    found = _stat(path)
    return {} if found is None else {"size": found.st_size, "mtime": found.st_mtime_ns}


def file_state(path: str) -> tuple[int, ...]:
    """Return a value that differs after any change of a file; empty if the file is missing."""
    found = _stat(path)
    if found is None:
        return ()
    identity = found.st_dev, found.st_ino, found.st_mode
    return (*identity, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _stat(path: str) -> os.stat_result | None:
    if not os.path.isabs(path):
        return None
    try:
        return os.stat(path)
    except OSError:
        return None


def is_notebook_file(path: str) -> bool:
    """Return whether a file exists and has the suffix of a notebook."""
    return path.endswith(NOTEBOOK_SUFFIX) and os.path.isabs(path) and os.path.isfile(path)


def read_file(path: str) -> Mapping[str, Any]:
    """Return the notebook in a file; a script is returned as a notebook of one cell.

    Raises
    ------
    NotFound
        If there is no such file.
    Unreadable
        If it is not a regular file, is too large, or cannot be read.
    InvalidData
        If it is not a valid notebook. It may be half written.
    """
    is_notebook = path.endswith(NOTEBOOK_SUFFIX)
    try:
        text = read_regular(path, MAX_NOTEBOOK if is_notebook else MAX_SCRIPT)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("file", path) from None
    except OSError as error:
        raise Unreadable("$", f"{path} cannot be read: {error.strerror}") from error
    try:
        return read_notebook(text)
    except InvalidData:
        if is_notebook or b"\0" in text:
            raise
    cell: dict[str, Any] = {
        "id": "script",
        "cell_type": "code",
        "metadata": {},
        "source": text.decode("utf-8-sig", "backslashreplace"),
        "outputs": [],
        "execution_count": None,
    }
    metadata = {"language_info": {"name": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [cell]}


def read_stable(
    path: str,
    read: Callable[[str], Mapping[str, Any]] = read_file,
    sleep: Callable[[float], object] = time.sleep,
) -> Mapping[str, Any]:
    """Read a file, and retry while it is invalid and another program is still writing it.

    A file that does not change is read only once.
    """
    error: InvalidData | None = None
    last_state: tuple[int, ...] = ()
    for delay in (*_RETRY_DELAYS, None):
        state = file_state(path)
        if error is None or not state or state != last_state:
            last_state = state
            try:
                return read(path)
            except Unreadable:
                raise
            except InvalidData as failure:
                error = failure
        if delay is not None:
            sleep(delay)
    assert error is not None
    raise error


def matches_file(content: Mapping[str, Any]) -> bool:
    """Return whether Jupyter writes a content as it is, without upgrading it or adding cell ids."""
    if content.get("nbformat") != 4:
        return False
    minor = content.get("nbformat_minor")
    needs_ids = not isinstance(minor, int) or minor >= 5
    return not needs_ids or has_own_ids(content)


def embedded_id(content: Mapping[str, Any]) -> str | None:
    """Return the record id in a notebook's metadata; None if there is no valid one."""
    metadata = content.get("metadata")
    axon = metadata.get("axon") if isinstance(metadata, dict) else None
    id = axon.get("notebook_id") if isinstance(axon, dict) else None
    return id if is_record_id(id) else None
