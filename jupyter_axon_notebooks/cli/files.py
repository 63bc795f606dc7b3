"""Files as commands write them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import Conflict
from ..states.folders import flush
from ..userfiles import check_regular, read_at_most, read_regular

#: Where systems have the open files of a process: what a shell gives to a command in place of a file.
_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def read_file(path: str, limit: int) -> bytes:
    """Return the content of a file that a person named, at most ``limit`` bytes.

    Besides regular files only a pipe that the shell has opened is read, as for ``<(command)`` and ``/dev/stdin``.

    Raises
    ------
    OSError
        As :func:`.userfiles.read_regular` does.
    """
    if path.startswith(_OPENED) and stat.S_ISFIFO(os.stat(path).st_mode):
        with open(path, "rb") as pipe:
            return read_at_most(pipe, limit, path)
    return read_regular(path, limit)


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
        path = Path(os.path.realpath(path))
    if os.path.lexists(path) and not force:
        raise _exists(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists():
        check_regular(path, path.stat())  # a rename would replace a device or a pipe
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    descriptor = _without_a_name(path.parent)
    if descriptor is not None:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            _finish(file, path, mode)
            try:
                _publish(Path(_OPEN_FILES, str(descriptor)), path, force)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _publish_copy(file, path, force)
    else:
        with _temporary(path) as (temporary, file):
            with file:
                yield file
                _finish(file, path, mode)
            _publish(temporary, path, force)
    if os.name == "posix":
        _flush_folder(path.parent)


#: What systems say where a file system has no hard links.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}
)
#: Where Linux has the open files of a process, those without a name too.
_OPEN_FILES = "/proc/self/fd"


def _without_a_name(folder: Path) -> int | None:
    """A new file in ``folder`` that has no name yet, so that nothing is left of it however this process ends.

    None where the system or the file system has no such files.
    """
    if sys.platform == "linux" and hasattr(os, "O_TMPFILE") and os.path.isdir(_OPEN_FILES):
        with contextlib.suppress(OSError):
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    return None


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside ``path``, and its name; removed at the end, unless this process is killed."""
    with _ended_by_signals():
        try:
            descriptor, name = tempfile.mkstemp(
                prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent
            )
        except OSError as error:
            error.filename = str(path.parent)  # the temporary name says nothing to anybody
            raise
        try:
            yield Path(name), os.fdopen(descriptor, "wb")
        finally:
            Path(name).unlink(missing_ok=True)


_SUFFIX = ".tmp"


def _prefix(path: Path) -> str:
    return f".{path.name[:100]}."


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have what ends this process end what is open first, as an interruption does."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if (
                number is not None and signal.getsignal(number) is signal.SIG_DFL
            ):  # else somebody wants it so
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(file: IO[bytes], path: Path, mode: int | None) -> None:
    file.flush()
    if os.name == "posix":
        with contextlib.suppress(PermissionError):  # FAT has no permissions
            os.fchmod(file.fileno(), _mode(path) if mode is None else mode)
    flush(file.fileno())


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


def _publish(made: Path, path: Path, force: bool) -> None:
    """Have the file that can be opened as ``made`` be at ``path``."""
    if not force:
        try:
            _link(made, path)  # unlike a rename, refuses what somebody made just now
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(path):
                raise _exists(path) from None
        else:
            return
    if str(made.parent) != _OPEN_FILES:
        made.replace(path)
        return
    # Only for a moment has it another name: nothing but a rename replaces what is there in one go.
    named = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        _link(made, named)
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)


def _publish_copy(file: IO[bytes], path: Path, force: bool) -> None:
    """Have a file without a name be at ``path`` where it can get none, since the file system has no hard links."""
    with _temporary(path) as (temporary, named):
        with named:
            file.seek(0)
            shutil.copyfileobj(file, named)
            _finish(named, path, os.fstat(file.fileno()).st_mode & 0o777)
        _publish(temporary, path, force)


def _link(made: Path, path: Path) -> None:
    if str(made.parent) != _OPEN_FILES:
        os.link(made, path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Relative to a folder, since Python follows links to the file that is meant only then.
        os.link(made, path.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _exists(path: Path) -> Conflict:
    return Conflict(f"{path} is there already; --force replaces it")
