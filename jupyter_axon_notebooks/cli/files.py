"""Files as commands write them."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import Conflict
from ..states.folders import flush


def write_file(path: Path, content: bytes, *, force: bool) -> None:
    """Put ``content`` into the file ``path``, whole or not at all; raises as :func:`new_file` does."""
    with new_file(path, force=force) as file:
        file.write(content)


@contextmanager
def new_file(path: Path, *, force: bool, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A file to write, which takes the name ``path`` when it is whole and on the disk; else nothing is left of it.

    Parameters
    ----------
    mode : int, optional
        Its permissions; by default those of the file that was there, else what is usual.

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
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        error.filename = str(path.parent)  # the temporary name says nothing to anybody
        raise
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            flush(file.fileno())
        temporary.chmod(_mode(path) if mode is None else mode)
        _publish(temporary, path, force)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            flush(descriptor)
    finally:
        os.close(descriptor)


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
