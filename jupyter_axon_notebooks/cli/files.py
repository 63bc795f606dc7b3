"""Notebook files as commands write them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ..errors import Conflict


def write_file(path: Path, content: bytes, *, force: bool) -> None:
    """Put ``content`` into the file ``path``, whole or not at all.

    Raises
    ------
    Conflict
        When the file is there and ``force`` is not given.
    OSError
        When it cannot be written.
    """
    if path.is_symlink() and force:
        path = path.resolve()
    if os.path.lexists(path) and not force:
        raise _exists(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode(path))
        _publish(temporary, path, force)
    finally:
        temporary.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _publish(temporary: Path, path: Path, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, path)  # unlike a rename, refuses what somebody made just now
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # no links on this file system
            if path.exists():
                raise _exists(path) from None
        else:
            return
    temporary.replace(path)


def _exists(path: Path) -> Conflict:
    return Conflict(f"{path} is there already; --force replaces it")
