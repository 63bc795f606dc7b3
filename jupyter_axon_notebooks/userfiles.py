"""Safe reading of files that a user or another program may replace at any time.

A path in a user's folder may lead to a FIFO that blocks its reader, to a device without an end, to
a file that grows while it is read, or to a sparse file of a terabyte. These functions open regular
files only, never block, and stop at a size limit. All failures are :class:`OSError` with a
``strerror`` that says what is wrong.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Final

_FLAGS: Final[int] = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
#: The smallest read in bytes, if the limit allows it.
_PIECE: Final = 1 << 16

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegular(OSError):
    """A path that does not lead to a regular file."""


class FileTooLarge(OSError):
    """A file that is larger than the limit."""


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    follow_links : bool
        Whether a link in place of the file is followed or refused.

    Raises
    ------
    NotRegular
        If the path leads to a folder, pipe, socket, device or refused link.
    OSError
        If the file cannot be opened.
    """
    try:
        check_regular(
            path, os.stat(path, follow_symlinks=follow_links)
        )  # opening a pipe or a device can have effects
        descriptor = os.open(
            path, _FLAGS if follow_links else _FLAGS | getattr(os, "O_NOFOLLOW", 0)
        )
    except ValueError as error:  # NUL or half a surrogate pair
        raise OSError(errno.EINVAL, "its path cannot be that of a file", os.fspath(path)) from error
    file = os.fdopen(descriptor, "rb")
    try:
        check_regular(path, os.fstat(descriptor))
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes; links are followed.

    Raises
    ------
    NotRegular, OSError
        As :func:`open_regular` does.
    FileTooLarge
        If the file is larger, or grows beyond the limit while it is read.
    """
    with open_regular(path) as file:
        return read_at_most(file, limit, path)


def read_at_most(file: BinaryIO, limit: int, path: str | os.PathLike[str]) -> bytes:
    """Return the rest of an open file; raise FileTooLarge if it has more than ``limit`` bytes."""
    size = os.fstat(file.fileno()).st_size
    pieces: list[bytes] = []
    taken = 0
    while taken <= limit and size <= limit:
        # One byte more, to see the end; files in /proc are larger than their reported size.
        piece = file.read(min(max(size + 1 - taken, _PIECE), limit + 1 - taken))
        if piece is None:  # a special file in /proc or /sys without data for now
            raise BlockingIOError(errno.EAGAIN, "it has no data to read", os.fspath(path))
        if not piece:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.append(piece)
        taken += len(piece)
    raise FileTooLarge(errno.EFBIG, f"it has more than {limit:,} bytes", os.fspath(path))


def check_regular(path: str | os.PathLike[str], found: os.stat_result) -> None:
    """Raise NotRegular unless ``found``, the status of ``path``, is that of a regular file."""
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
    code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
    raise NotRegular(code, f"it is {kind}, not a regular file", os.fspath(path))


def real_path(path: str) -> str:
    """Return the real path of a file.

    A link in place of the file is followed only to a regular or missing file. A file that was
    replaced by a link to a device, to a folder or to itself keeps its name.
    """
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except OSError:
        mode = stat.S_IFREG  # missing: a file may be created
        if os.path.islink(real):  # a circle of links
            mode = stat.S_IFLNK
    if stat.S_ISREG(mode):
        return real
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)
