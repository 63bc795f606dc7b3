"""Folders that are accessed by descriptor, so that links below the root are never followed.

On Linux and macOS all operations are relative to an open descriptor, so that nobody can replace a
folder by a link between a check and its use. On Windows the same steps use paths. Operations raise
:class:`OSError`, which :func:`convert_os_errors` converts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from typing import Final

from ..atomic_files import flush, lock
from ..errors import AxonError, NoSpace, StateError

_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
_NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final[int] = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
#: O_NONBLOCK: opening a FIFO must not block.
_READ: Final[int] = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | _BINARY
_CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY
#: Errors of opening a symbolic link with O_NOFOLLOW, by system.
_IS_LINK: Final = (errno.ELOOP, errno.EMLINK)
#: Attempts to remove a folder while other processes write to it.
_MAX_ATTEMPTS: Final = 100


class Folder(contextlib.AbstractContextManager["Folder"]):
    """An open folder; a context manager that closes it.

    Parameters
    ----------
    path : str
        The folder. Symbolic links in this path are followed, but none below the folder.
    """

    def __init__(self, path: str) -> None:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise _os_error(NotADirectoryError, errno.ENOTDIR, path)
        self._init(path, os.open(path, _FOLDER) if _BY_DESCRIPTOR else None)

    def _init(self, path: str, fd: int | None) -> None:
        self.path = path
        self.closed = False
        self._fd = fd

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder; it may be closed already."""
        self.closed = True
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name) if self._fd is None else name

    @property
    def _target(self) -> str | int:
        return self.path if self._fd is None else self._fd

    def stat(self) -> os.stat_result:
        """Return the status of the folder itself."""
        return os.stat(self._target)

    def enter(self, name: str) -> Folder:
        """Open the folder ``name`` in this one; raise NotADirectoryError also for a link."""
        fd = None
        if self._fd is not None:
            try:
                fd = os.open(name, _FOLDER | _NO_LINK, dir_fd=self._fd)
            except OSError as error:
                if error.errno in _IS_LINK:
                    raise _os_error(NotADirectoryError, errno.ENOTDIR, name) from None
                raise
        elif not _is_real_folder(os.lstat(self._at(name))):
            raise _os_error(NotADirectoryError, errno.ENOTDIR, name)
        inner = Folder.__new__(Folder)
        inner._init(os.path.join(self.path, name), fd)
        return inner

    def make(self, name: str) -> Folder:
        """Open the folder ``name`` in this one; create it (mode 0700), without sync, if missing."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._at(name), 0o700, dir_fd=self._fd)
        return self.enter(name)

    def create(self, name: str) -> int:
        """Create the file ``name`` (mode 0600) and return a descriptor for writing."""
        return os.open(self._at(name), _CREATE, 0o600, dir_fd=self._fd)

    def open(self, name: str) -> int:
        """Return a descriptor for reading the regular file ``name``.

        Raises
        ------
        OSError
            With ELOOP for a link; ``IsADirectoryError`` for anything else but a regular file.
        """
        if self._fd is None and stat.S_ISLNK(os.lstat(self._at(name)).st_mode):
            raise _os_error(OSError, errno.ELOOP, name)
        try:
            fd = os.open(self._at(name), _READ, dir_fd=self._fd)
        except OSError as error:
            if error.errno in _IS_LINK:
                raise _os_error(OSError, errno.ELOOP, name) from None
            if error.errno == errno.ENXIO:  # a socket
                raise IsADirectoryError(errno.EISDIR, "not a regular file", name) from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, "not a regular file", name)
        return fd

    def entries(self) -> dict[str, os.stat_result]:
        """Return the status of all files by name, without following links."""
        found = {}
        with os.scandir(self._target) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found[entry.name] = entry.stat(follow_symlinks=False)
        return found

    def names(self) -> list[str]:
        """Return the names of all files and folders in the folder."""
        return os.listdir(self._target)

    def replace(self, old: str, new: str) -> None:
        """Rename the file ``old`` to ``new``, replacing an existing file."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a file or link, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def rmdir(self, name: str) -> bool:
        """Remove the folder ``name`` if it is empty; return whether it no longer exists."""
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
        """Remove ``name`` and everything in it, if it exists; do not follow links."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                inner = self.enter(name)
            except FileNotFoundError:
                return
            except NotADirectoryError:
                self.unlink(name)
                return
            with inner:
                # Marks last: with them, garbage collection finishes an interrupted removal.
                for child in sorted(inner.names(), key=lambda child: child.startswith(".")):
                    inner.remove_tree(child)
            if self.rmdir(name):
                return
        raise OSError(errno.ENOTEMPTY, "another process keeps writing files to it", name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this folder, against other threads and processes."""
        if self._fd is None:
            yield
            return
        # Another descriptor each time, since a lock excludes only other descriptors.
        fd = os.open(".", _FOLDER, dir_fd=self._fd)
        try:
            lock(fd, wait=True)
            yield
        finally:
            os.close(fd)

    def touch(self) -> None:
        """Set the modification time of the folder to now, with nanoseconds where possible."""
        moment = time.time_ns()
        with contextlib.suppress(OSError):
            try:
                os.utime(self._target, ns=(moment, moment))
            except PermissionError:  # a writable folder of another user
                os.utime(self._target)

    def sync(self) -> None:
        """Flush the names in this folder to the disk, where the system supports it."""
        if self._fd is not None:
            try:
                flush(self._fd)
            except OSError as error:  # some network and FUSE file systems sync only files
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise


def _os_error(kind: type[OSError], code: int, name: str) -> OSError:
    return kind(code, os.strerror(code), name)


def _is_real_folder(found: os.stat_result) -> bool:
    # 0x400: a reparse point. Junctions of Windows are reparse points, but not symbolic links.
    return stat.S_ISDIR(found.st_mode) and not getattr(found, "st_file_attributes", 0) & 0x400


def make_folders(path: str) -> None:
    """Create ``path`` and its missing parents with mode 0700, and sync each."""
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
    """Return the bytes that this user can write at ``path``; None if unknown."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def format_size(size: int) -> str:
    """Format a number of bytes for display: ``512 bytes``, ``1.5 GB`` (10⁹)."""
    if size < 1000:
        return f"{size} bytes"
    amount = float(min(size, 10**30))  # a record may have any number
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


_REMEDY: Final = (
    "Free some space, remove old checkpoints (`jupyter axon prune` lists candidates), "
    "or set c.AxonNotebooks.states_root to a folder on another disk."
)


def no_space(folder: str, needed: int, reason: str | None = None) -> NoSpace:
    """Return the error for a disk without space for ``needed`` more bytes."""
    if reason is None:
        free = free_bytes(folder)
        reason = f" needed, {'an unknown amount' if free is None else format_size(free)} free"
    return NoSpace(
        f"no space for a state file in {folder}: {format_size(needed)}{reason}. {_REMEDY}"
    )


@contextlib.contextmanager
def convert_os_errors(action: str, folder: str, *, needed: int = 0) -> Iterator[None]:
    """Convert :class:`OSError` to errors of this package.

    Parameters
    ----------
    action : str
        The verb of the error message: ``write``, ``remove``, …
    folder : str
        The folder in the error message.
    needed : int
        Bytes still to be written.

    Raises
    ------
    NoSpace
        If the disk is full, or a quota or the limit on file sizes is exceeded.
    StateError
        For all other errors.
    """
    try:
        yield
    except OSError as error:
        raise _convert(error, action, folder, needed) from error


def _convert(error: OSError, action: str, folder: str, needed: int) -> AxonError:
    code = error.errno
    if code == errno.ENOSPC:
        return no_space(folder, needed)
    if code == getattr(errno, "EDQUOT", None):
        return no_space(folder, needed, " needed, and the disk quota is used up")
    if code == errno.EFBIG:
        limit = "the largest file allowed by its file system or this process's limits (`ulimit -f`)"
        return no_space(folder, needed, f" more than {limit}")
    setting = "set c.AxonNotebooks.states_root to"
    if code == errno.EROFS:
        reason = f"its file system is read-only. Please {setting} a writable folder"
    elif code in (errno.EACCES, errno.EPERM):
        reason = f"permission denied. Check the owner of the folder, or {setting} your own folder"
    else:
        reason = error.strerror or str(error)
    return StateError(f"cannot {action} state files in {folder}: {reason}")
