"""The origin: a random id for one Jupyter data folder, that is, for one person on one machine.

Records are bound to files by origin and path, so equal paths on two machines that share a database stay apart. An origin that is
lost would part a user from his records. So it is kept twice: in the file ``origin``, and in the pointer file that servers
leave for kernels. What is missing or damaged is restored from the other, and by a running server from memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..atomic_files import write_atomic
from ..defaults import KERNEL_CONFIG
from ..errors import InvalidData, StoreError
from ..kernel_config import read_kernel_config
from ..records import is_record_id, new_id
from ..userfiles import FileTooLarge, NotRegular, read_regular

#: Bytes beyond which a file holds no origin.
_LONGEST: Final = 1 << 16
#: Seconds to wait for another process that has locked the data folder.
_LOCK_TIMEOUT: Final = 1.0


def origin_file(folder: Path) -> Path:
    """Return the file that keeps the origin of a data folder."""
    return folder / "origin"


def read_origin(folder: Path, tell: Callable[[str], object] = lambda _: None) -> str:
    """Return the origin kept in ``folder``; make it on first use. Two processes that make it at once agree.

    A file that holds no origin is replaced: by the origin that the pointer file names, else by a new one.

    Parameters
    ----------
    tell : callable
        Told, in a sentence, of a file that was replaced.

    Raises
    ------
    StoreError
        When it can neither be read nor written.
    """
    file = origin_file(folder)
    try:
        found = stored_origin(folder)
        if found is None:
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder; remove it", str(file))
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(folder):
                found = stored_origin(folder) or _make(folder, tell)
    except OSError as error:
        raise StoreError(
            f"the origin of this data folder, {file}, cannot be used: {error.strerror}"
        ) from error
    return found


def stored_origin(folder: Path) -> str | None:
    """Return the origin in the file for it; None where there is no such file, or no origin in it.

    Raises
    ------
    OSError
        When the file cannot be read, so that nobody knows what is in it.
    """
    file = origin_file(folder)
    try:
        text = read_regular(file, _LONGEST).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            raise OSError(errno.ENOENT, "a link to a file that is not there", str(file)) from None
        return None
    except (FileTooLarge, NotRegular):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return text if is_record_id(text) else None


def pointer_origin(folder: Path) -> str | None:
    """Return the origin that the pointer file names; None where it names none, or is not to be believed."""
    try:
        return read_kernel_config(folder / KERNEL_CONFIG).get("origin")
    except InvalidData:
        return None


def _make(folder: Path, tell: Callable[[str], object]) -> str:
    """Put an origin into its file; that which is there then."""
    file = origin_file(folder)
    damaged = os.path.lexists(file)
    kept = pointer_origin(folder)
    _put(file, kept or new_id(), replace=damaged)
    if kept is not None:
        tell(f"the origin file {file} was missing or damaged; it is restored from {KERNEL_CONFIG}")
    elif damaged:
        tell(
            f"the origin file {file} was damaged, and a new origin had to be made. Notebooks recorded before get new records, "
            "apart from the old ones: `jupyter axon doctor` tells which, `jupyter axon doctor --rebind` mends it"
        )
    made = stored_origin(folder)
    if made is None:
        raise OSError(errno.EIO, "what was written cannot be read", str(file))
    return made


def _put(file: Path, origin: str, *, replace: bool) -> None:
    """Put ``origin`` into ``file`` whole; unless ``replace``, only if no other process was first."""
    with contextlib.suppress(FileExistsError):
        write_atomic(file, f"{origin}\n".encode("ascii"), overwrite=replace, mode=None)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep out other processes that would make the origin of a folder, where the file system has locks.

    One that keeps its lock for longer than it takes to make an origin is up to something else, and is not waited for.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.01)
                    continue
            except OSError:  # no locks on this file system
                pass
            break
        yield
    finally:
        os.close(descriptor)


class ServerOrigin:
    """The origin as a running server has it: read once, and put back when its file vanishes or is damaged.

    Parameters
    ----------
    leave_origin : callable
        Puts the origin that it is given into the pointer file; must not raise.
    """

    def __init__(
        self, folder: Path, log: logging.Logger, leave_origin: Callable[[str], object]
    ) -> None:
        self._folder = folder
        self._log = log
        self._leave_origin = leave_origin
        self._origin: str | None = None
        self._seen: object = None
        self._made = 0
        self._told: str | None = None
        self._lock = threading.Lock()

    def read(self) -> str:
        """Return the origin; raises as :func:`read_origin` does, as long as it could never be read."""
        with self._lock:
            if self._origin is None:
                self._origin = read_origin(
                    self._folder, lambda text: self._log.warning("axon: %s", text)
                )
                if pointer_origin(self._folder) != self._origin:
                    self._leave_origin(self._origin)
                self._seen = self._look()
                with contextlib.suppress(OSError):  # gone again: then it is made anew
                    self._made = os.stat(origin_file(self._folder)).st_mtime_ns
                return self._origin
        self.check()
        return self._origin

    def check(self) -> None:
        """Put back what vanished or was damaged since the last look: two questions to the disk where nothing did."""
        if not self._lock.acquire(blocking=False):  # another thread is at it
            return
        try:
            if self._origin is None or self._look() == self._seen:
                return
            try:
                self._restore(self._origin)
            except OSError as error:
                self._tell(
                    f"the origin file {origin_file(self._folder)} cannot be restored: {error.strerror}"
                )
            self._seen = self._look()
        finally:
            self._lock.release()

    def _look(self) -> object:
        return [_stamp(self._folder / name) for name in ("origin", KERNEL_CONFIG)]

    def _restore(self, origin: str) -> None:
        file = origin_file(self._folder)
        found, second = stored_origin(self._folder), pointer_origin(self._folder)
        if found is not None and found == second != origin:  # another server has taken over
            self._tell(
                f"the origin in {file} is {found} now, and {origin} as long as this server runs: start it anew, and see "
                "`jupyter axon doctor`"
            )
            return
        if found != origin:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._folder):
                _put(file, origin, replace=True)
            if self._made:  # which tells since when it is the origin
                os.utime(file, ns=(self._made, self._made))
            was = (
                "vanished, or was damaged"
                if found is None
                else f"was replaced by another ({found})"
            )
            self._log.warning(
                "axon: the origin file %s %s while this server runs; it is restored", file, was
            )
        if second != origin:
            self._leave_origin(origin)

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            self._log.error("axon: %s", trouble)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns
