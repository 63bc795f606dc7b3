"""Read and write the files that are named on the command line."""

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

#: Paths of the open files of a process, which shells pass in place of a file.
_OPEN_FILES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def read_file(path: str, limit: int) -> bytes:
    """Return the content of a file with at most ``limit`` bytes.

    It must be a regular file, or a pipe that the shell has opened, as in ``<(command)`` and
    ``/dev/stdin``.
    """
    if path.startswith(_OPEN_FILES) and stat.S_ISFIFO(os.stat(path).st_mode):
        with open(path, "rb") as pipe:
            return read_at_most(pipe, limit, path)
    return read_regular(path, limit)


@contextmanager
def new_file(path: Path, *, force: bool, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete.

    Parameters
    ----------
    mode : int, optional
        Its permissions; by default those of the file that is replaced, or the usual ones.

    Raises
    ------
    Conflict
        If the file exists and ``force`` is false.
    OSError
        If it cannot be written.
    """
    if path.is_symlink() and force:
        path = Path(os.path.realpath(path))
    exists = Conflict(f"{path} exists already; --force replaces it")
    if os.path.lexists(path) and not force:
        raise exists
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists():
        check_regular(path, path.stat())  # a rename would replace a device or a pipe
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    with _exiting_on_signals():
        try:
            with open_atomic(path, overwrite=force, mode=mode) as file:
                yield file
        except FileExistsError:
            raise exists from None


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that temporary files are removed."""

    def exit_process(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, exit_process)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
