"""Files that appear complete and durable under their name, or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
#: The longest part of a file's name that its temporary name repeats.
_MAX_NAME: Final = 100


@contextlib.contextmanager
def open_atomic(
    path: str | os.PathLike[str], *, overwrite: bool = True, mode: int | None = 0o600
) -> Iterator[BinaryIO]:
    """Open a temporary file for writing that becomes ``path`` when the block ends without an error.

    The temporary file ``.NAME.HEX.tmp`` is in the same folder. It is removed on errors, and remains
    only if the process is killed.

    Parameters
    ----------
    overwrite : bool
        Whether an existing file is replaced.
    mode : int, optional
        The permissions of the file; None for those of the file that is replaced, or the default
        permissions of new files.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is false.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
    try:
        descriptor = os.open(temporary, _CREATE, 0o600)
    except OSError as error:
        error.filename = str(path)  # the temporary name means nothing to the user
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if os.name == "posix":
                with contextlib.suppress(PermissionError):  # FAT has no permissions
                    os.fchmod(file.fileno(), _default_mode(path) if mode is None else mode)
            flush(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            _link_or_rename(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(
    path: str | os.PathLike[str],
    content: bytes,
    *,
    overwrite: bool = True,
    mode: int | None = 0o600,
) -> None:
    """Write ``content`` to a file; parameters and errors are those of :func:`open_atomic`."""
    with open_atomic(path, overwrite=overwrite, mode=mode) as file:
        file.write(content)


def temporary_name(name: str) -> str:
    """Return a unique hidden name for the temporary file of the file ``name``."""
    return f".{name[:_MAX_NAME]}.{uuid.uuid4().hex}.tmp"


def _link_or_rename(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, this fails if the file exists
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists") from None
        os.rename(temporary, path)


def _default_mode(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk, if the file system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            flush(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str], timeout: float | None = None) -> Iterator[None]:
    """Lock a folder, where the system and its file system support it.

    After ``timeout`` seconds the block runs without the lock; None waits for ever.
    """
    if os.name != "posix":  # a folder cannot be opened
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        end = None if timeout is None else time.monotonic() + timeout
        while not lock(descriptor, wait=end is None) and time.monotonic() < (end or 0):
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def lock(fd: int, *, wait: bool) -> bool:  # noqa: ARG001 - the signature of other systems
        """Return True: there are no such locks on Windows."""
        return True

    def flush(fd: int) -> None:
        """Flush an open file to the disk."""
        os.fsync(fd)

else:
    import fcntl

    def lock(fd: int, *, wait: bool) -> bool:
        """Lock an open file or folder until it is closed; return False if another process has it.

        Returns True on file systems without locks.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def flush(fd: int) -> None:
        """Flush an open file or folder to the disk."""
        if sys.platform == "darwin":  # fsync leaves the data in the drive's cache there
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
        os.fsync(fd)
