"""Files as commands write them."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..atomic_files import open_atomic
from ..errors import Conflict
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
    with _ended_by_signals():
        try:
            with open_atomic(path, overwrite=force, mode=mode) as file:
                yield file
        except FileExistsError:
            raise _exists(path) from None


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


def _exists(path: Path) -> Conflict:
    return Conflict(f"{path} is there already; --force replaces it")
