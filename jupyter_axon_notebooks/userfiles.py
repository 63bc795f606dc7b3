"""Read files that a user, or a program of his, can replace by anything.

A path in a user's folder may lead to a FIFO that blocks its reader, to a device that never ends, to a file that grows
while it is read, or to a sparse file of a terabyte. Read such paths through this module only: it opens regular files only,
never waits for a writer, and stops at a size limit. Every failure is an :class:`OSError` whose ``strerror`` says what is
wrong.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, Final

_FLAGS: Final[int] = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
#: The fewest bytes that are read at once, where the limit admits them.
_PIECE: Final = 1 << 16
_MEGABYTE: Final = 1 << 20

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegular(OSError):
    """A path that leads to something else than a regular file."""


class FileTooLarge(OSError):
    """A file that is larger than what its reader takes."""


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    follow_links : bool
        Whether a link in place of the file is followed, or refused.

    Raises
    ------
    NotRegular
        When the path leads to a folder, a pipe, a socket or a device, or to a link that is not to be followed.
    OSError
        When it cannot be opened.
    """
    try:
        check_regular(
            path, os.stat(path, follow_symlinks=follow_links)
        )  # to open a pipe or a device can have effects
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
        When the file is larger, or grows beyond the limit while it is read.
    """
    with open_regular(path) as file:
        return read_at_most(file, limit, path)


def read_at_most(file: BinaryIO, limit: int, path: str | os.PathLike[str]) -> bytes:
    """Return what is left to be read of an open file, at most ``limit`` bytes; raises FileTooLarge and OSError."""
    size = os.fstat(file.fileno()).st_size
    pieces: list[bytes] = []
    taken = 0
    while taken <= limit and size <= limit:
        # One more than expected, to see the end; files below /proc have more than their size says.
        piece = file.read(min(max(size + 1 - taken, _PIECE), limit + 1 - taken))
        if piece is None:  # a special file below /proc or /sys that has nothing to give for now
            raise BlockingIOError(errno.EAGAIN, "it gives nothing to read", os.fspath(path))
        if not piece:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.append(piece)
        taken += len(piece)
    raise FileTooLarge(errno.EFBIG, f"it has more than {limit:,} bytes", os.fspath(path))


def read_data(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left to be read of an open regular file, in pieces, without the holes of a sparse one."""
    size = os.fstat(file.fileno()).st_size
    at = file.tell()
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            end = min(os.lseek(file.fileno(), at, os.SEEK_HOLE), size)
        except (
            AttributeError,
            OSError,
        ) as error:  # no such call here, or no holes on this file system
            if isinstance(error, OSError) and error.errno == errno.ENXIO:
                return  # a hole up to the end
            end = size
        file.seek(at)
        while at < end and (piece := file.read(min(_MEGABYTE, end - at))):
            at += len(piece)
            yield piece
        if at < end:
            return  # it was cut short


def check_regular(path: str | os.PathLike[str], found: os.stat_result) -> None:
    """Raise NotRegular unless ``found``, what the system says of ``path``, is a regular file."""
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
    code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
    raise NotRegular(code, f"it is {kind}, not a regular file", os.fspath(path))


def real_path(path: str) -> str:
    """Return the real path of a file.

    A link in place of the file is followed only to where a regular file is or could be. A file that was replaced by a link to
    a device, to a folder or to itself keeps its name.
    """
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except OSError:
        mode = stat.S_IFREG  # not there: a file may come
        if os.path.islink(real):  # a circle
            mode = stat.S_IFLNK
    if stat.S_ISREG(mode):
        return real
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)
