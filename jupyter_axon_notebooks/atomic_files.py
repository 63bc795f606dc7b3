"""Atomic writing of small files."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_atomic(file: Path, data: bytes, *, overwrite: bool = True, mode: int = 0o600) -> None:
    """Write a whole file durably; readers find the old content or the new, never a part.

    Parameters
    ----------
    overwrite : bool
        Replace an existing file. If False, an existing file is kept, also if another process creates
        it at the same time.
    mode : int
        The permissions of the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            os.replace(draft, file)
        else:
            _link(draft, file)
        sync_folder(file.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _link(draft: Path, file: Path) -> None:
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not os.path.lexists(file):
            os.rename(draft, file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the operating system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
