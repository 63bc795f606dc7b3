"""Folders held open, so that whatever happens to their names, work goes on in the same place.

Where the system has it (Linux, macOS) everything is relative to a descriptor and no link below the first
folder is followed, which leaves no moment between a check and its use. On Windows the same steps go by path.
Errors are the system's (:class:`OSError`); :func:`convert_os_errors` turns them into the project's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from ..atomic_files import flush, lock
from ..errors import AxonError, NoSpace, StateError

_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
_NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final[int] = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
#: O_NONBLOCK: a FIFO in place of the file must not hang the reader.
_READ: Final[int] = (
    os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_BINARY", 0)

#: What an open without links says of a link, by system.
_IS_LINK: Final = (errno.ELOOP, errno.EMLINK)


class Folder:
    """An open folder; a context manager that closes it.

    Parameters
    ----------
    path : str
        The folder. Links on the way to it are followed, those below it are not.
    """

    def __init__(self, path: str) -> None:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._hold(path, os.open(path, _FOLDER) if _BY_DESCRIPTOR else None)

    def _hold(self, path: str, fd: int | None) -> None:
        self.path = path
        self.closed = False
        self._fd = fd

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; also twice."""
        self.closed = True
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name) if self._fd is None else name

    def stat(self) -> os.stat_result:
        """What the system says of the folder itself."""
        return os.stat(self.path if self._fd is None else self._fd)

    def enter(self, name: str) -> Folder:
        """The folder ``name`` in this one.

        Raises
        ------
        NotADirectoryError
            Also for a link to a folder.
        """
        fd = None
        if self._fd is not None:
            try:
                fd = os.open(name, _FOLDER | _NO_LINK, dir_fd=self._fd)
            except OSError as error:
                if error.errno in _IS_LINK:
                    raise NotADirectoryError(
                        errno.ENOTDIR, os.strerror(errno.ENOTDIR), name
                    ) from None
                raise
        elif not _is_real_folder(os.lstat(self._at(name))):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        inner = Folder.__new__(Folder)
        inner._hold(os.path.join(self.path, name), fd)
        return inner

    def make(self, name: str) -> Folder:
        """The folder ``name`` in this one, made (mode 0700) if it is missing. Not yet durable: see :meth:`sync`."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._at(name), 0o700, dir_fd=self._fd)
        return self.enter(name)

    def create(self, name: str) -> int:
        """A descriptor to write the new file ``name`` (mode 0600) through."""
        return os.open(self._at(name), _CREATE, 0o600, dir_fd=self._fd)

    def open(self, name: str) -> int:
        """A descriptor to read the regular file ``name`` through.

        Raises
        ------
        OSError
            With ELOOP for a link; ``IsADirectoryError`` for whatever else is no regular file.
        """
        if self._fd is None and stat.S_ISLNK(os.lstat(self._at(name)).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        try:
            fd = os.open(self._at(name), _READ, dir_fd=self._fd)
        except OSError as error:
            if error.errno in _IS_LINK:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
            if error.errno == errno.ENXIO:  # a socket
                raise IsADirectoryError(errno.EISDIR, "not a regular file", name) from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, "not a regular file", name)
        return fd

    def entries(self) -> dict[str, os.stat_result]:
        """All that is in the folder, by name; links as they are. Skips what goes while it looks."""
        found = {}
        with os.scandir(self.path if self._fd is None else self._fd) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False)
        return found

    def names(self) -> list[str]:
        """The names of all that is in the folder."""
        return os.listdir(self.path if self._fd is None else self._fd)

    def replace(self, old: str, new: str) -> None:
        """Give the file ``old`` the name ``new``, in place of whatever had it."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a file or a link, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def rmdir(self, name: str) -> bool:
        """Remove the folder ``name`` if it is empty; whether it is gone."""
        try:
            os.rmdir(self._at(name), dir_fd=self._fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        return True

    def remove_tree(self, name: str) -> None:
        """Remove ``name`` and all beneath it, if it is there. Of a link, the link goes."""
        for _ in range(_TRIES):
            try:
                inner = self.enter(name)
            except FileNotFoundError:
                return
            except NotADirectoryError:
                self.unlink(name)
                return
            with inner:
                # What is hidden goes last: it may be the mark by which a sweep finishes what is left undone here.
                for child in sorted(inner.names(), key=lambda child: child.startswith(".")):
                    inner.remove_tree(child)
            if self.rmdir(name):
                return
        raise OSError(errno.ENOTEMPTY, "another process keeps writing into it", name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep out others who lock this folder, in this process and in others.

        On a descriptor of its own, since a descriptor's lock keeps out every other one but not itself.
        """
        if self._fd is None:
            yield
            return
        fd = os.open(".", _FOLDER, dir_fd=self._fd)
        try:
            lock(fd, wait=True)
            yield
        finally:
            os.close(fd)

    def touch(self) -> None:
        """Set the folder's time to now, as if a name in it had changed; to the nanosecond, where the system keeps that."""
        moment, folder = time.time_ns(), self.path if self._fd is None else self._fd
        with contextlib.suppress(OSError):
            try:
                os.utime(folder, ns=(moment, moment))
            except PermissionError:  # another user's, whom it lets write
                os.utime(folder)

    def sync(self) -> None:
        """Return when the names in this folder are on the disk, where the system can tell."""
        if self._fd is not None:
            try:
                flush(self._fd)
            except OSError as error:  # some network and FUSE file systems sync files only
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise


#: How often to begin again when another process removes a folder just as it is used, or fills it again.
_TRIES: Final = 100


def _is_real_folder(found: os.stat_result) -> bool:
    # 0x400: a reparse point, which a junction is without being a link
    return stat.S_ISDIR(found.st_mode) and not getattr(found, "st_file_attributes", 0) & 0x400


def make_folders(path: str) -> None:
    """Make ``path`` and what is missing on the way to it, mode 0700, each durable."""
    missing = []
    while not os.path.isdir(path):
        parent, name = os.path.split(path)
        if not name:
            break
        missing.append(name)
        path = parent
    for name in reversed(missing):
        with Folder(path) as parent_folder:
            parent_folder.make(name).close()
            parent_folder.sync()
        path = os.path.join(path, name)


def free_bytes(path: str) -> int | None:
    """What this user can still write at ``path``; None where the system cannot tell."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


#: Bytes that :func:`format_size` counts up to: more than there are anywhere.
_LARGEST: Final = 10**30


def format_size(size: int) -> str:
    """``size`` bytes for a person: ``512 bytes``, ``1.5 GB`` (10⁹)."""
    if size < 1000:
        return f"{size} bytes"
    amount = float(min(size, _LARGEST))  # a record may say anything
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


_REMEDY: Final = (
    "Free some space, remove old checkpoints (`jupyter axon prune` shows which could go), "
    "or set c.AxonNotebooks.states_root to a folder on another disk."
)


def no_space(folder: str, needed: int, free: int | None) -> NoSpace:
    """The error for a disk without room for ``needed`` more bytes."""
    left = "an unknown amount" if free is None else format_size(free)
    return NoSpace(
        f"no room for a state file in {folder}: {format_size(needed)} needed, {left} free. {_REMEDY}"
    )


@contextlib.contextmanager
def convert_os_errors(doing: str, folder: str, *, needed: int = 0) -> Iterator[None]:
    """Turn the system's errors into the project's.

    Parameters
    ----------
    doing : str
        What was tried, for the message: ``write``, ``remove``, …
    folder : str
        Where.
    needed : int
        Bytes still to be written.

    Raises
    ------
    NoSpace
        For a full disk, an exhausted quota, a limit on the size of files.
    StateError
        For everything else.
    """
    try:
        yield
    except OSError as error:
        raise _explanation(error, doing, folder, needed) from error


def _explanation(error: OSError, doing: str, folder: str, needed: int) -> AxonError:
    code = error.errno
    if code == errno.ENOSPC:
        return no_space(folder, needed, free_bytes(folder))
    if code == getattr(errno, "EDQUOT", None):
        return NoSpace(
            f"no room for a state file in {folder}: {format_size(needed)} needed, and the disk quota is used up. "
            + _REMEDY
        )
    if code == errno.EFBIG:
        return NoSpace(
            f"no room for a state file in {folder}: {format_size(needed)} more than the largest file allowed by "
            f"its file system or this process's limits (`ulimit -f`). {_REMEDY}"
        )
    if code == errno.EROFS:
        reason = "its file system is read-only. Set c.AxonNotebooks.states_root to a folder that can be written"
    elif code in (errno.EACCES, errno.EPERM):
        reason = "permission denied. Check who owns the folder, or set c.AxonNotebooks.states_root to one of your own"
    else:
        reason = error.strerror or str(error)
    return StateError(f"cannot {doing} state files in {folder}: {reason}")
