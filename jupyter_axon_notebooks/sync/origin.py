"""The origin: a random id of one Jupyter data directory, and so of one user on one machine.

Records are bound to files by origin and path, so that equal paths on two machines that share a
database stay apart. Losing the origin would separate users from their records. It is therefore kept
twice, in the file ``origin`` and in the file that servers write for kernels; a missing or damaged
copy is restored from the other one, or by a running server from memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from ..atomic_files import locked_folder, write_atomic
from ..defaults import KERNEL_CONFIG
from ..errors import InvalidData, StoreError
from ..kernel_config import read_kernel_config
from ..records import format_time, is_record_id, new_id
from ..repository import Binding
from ..userfiles import FileTooLarge, NotRegular, read_regular

#: The largest file that is read, in bytes.
_MAX_SIZE: Final = 1 << 16
#: Seconds to wait for a lock on the data directory.
_LOCK_TIMEOUT: Final = 1.0


def origin_file(folder: Path) -> Path:
    """Return the file that holds the origin of a data directory."""
    return folder / "origin"


def read_origin(folder: Path, warn: Callable[[str], object] = lambda _: None) -> str:
    """Return the origin of a data directory; create it on first use.

    Two processes that create it at the same time get the same one. A damaged file is replaced, with
    the origin that the kernels' file names or a new one.

    Parameters
    ----------
    warn : callable
        Called with a sentence about a file that was replaced.

    Raises
    ------
    StoreError
        If it can neither be read nor written.
    """
    file = origin_file(folder)
    try:
        origin = stored_origin(folder)
        if origin is None:
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder; remove it", str(file))
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked_folder(folder, _LOCK_TIMEOUT):
                origin = stored_origin(folder) or _create(folder, warn)
    except OSError as error:
        raise StoreError(
            f"the origin of this data directory cannot be read from or written to {file}: "
            f"{error.strerror}"
        ) from error
    return origin


def stored_origin(folder: Path) -> str | None:
    """Return the origin in its file; None if the file is missing or damaged.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    file = origin_file(folder)
    try:
        text = read_regular(file, _MAX_SIZE).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            reason = "it is a link to a file that does not exist"
            raise OSError(errno.ENOENT, reason, str(file)) from None
        return None
    except (FileTooLarge, NotRegular):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return text if is_record_id(text) else None


def kernel_config_origin(folder: Path) -> str | None:
    """Return the origin in the kernels' file; None if it names none or cannot be trusted."""
    try:
        return read_kernel_config(folder / KERNEL_CONFIG).get("origin")
    except InvalidData:
        return None


def _create(folder: Path, warn: Callable[[str], object]) -> str:
    file = origin_file(folder)
    is_damaged = os.path.lexists(file)
    second = kernel_config_origin(folder)
    _write(file, second or new_id(), overwrite=is_damaged)
    if second is not None:
        warn(f"the origin file {file} was missing or damaged; it was restored from {KERNEL_CONFIG}")
    elif is_damaged:
        warn(
            f"the origin file {file} was damaged and a new origin was created. Notebooks that have "
            "records get new ones: `jupyter axon doctor` lists them, and `jupyter axon doctor "
            "--rebind` binds them to their old records"
        )
    created = stored_origin(folder)
    if created is None:
        raise OSError(errno.EIO, "what was written cannot be read", str(file))
    return created


def _write(file: Path, origin: str, *, overwrite: bool) -> None:
    with contextlib.suppress(FileExistsError):
        write_atomic(file, f"{origin}\n".encode("ascii"), overwrite=overwrite, mode=None)


class ServerOrigin:
    """The origin in a running server, which restores its files when they vanish or are damaged.

    Parameters
    ----------
    write_pointer : callable
        Writes an origin to the kernels' file; must not raise.
    """

    def __init__(
        self, folder: Path, log: logging.Logger, write_pointer: Callable[[str], object]
    ) -> None:
        self._folder = folder
        self._log = log
        self._write_pointer = write_pointer
        self._origin: str | None = None
        self._stamps: object = None
        self._created_at = 0
        self._last_error: str | None = None
        self._lock = threading.Lock()

    def read(self) -> str:
        """Return the origin; raise as :func:`read_origin` does if it could never be read."""
        with self._lock:
            if self._origin is None:
                self._origin = read_origin(
                    self._folder, lambda text: self._log.warning("axon: %s", text)
                )
                if kernel_config_origin(self._folder) != self._origin:
                    self._write_pointer(self._origin)
                self._stamps = self._stat()
                with contextlib.suppress(OSError):
                    self._created_at = os.stat(origin_file(self._folder)).st_mtime_ns
                return self._origin
        self.check()
        return self._origin

    def check(self) -> None:
        """Restore files that vanished or were damaged; costs two ``stat`` calls if none was."""
        if not self._lock.acquire(blocking=False):  # another thread does it
            return
        try:
            if self._origin is None or self._stat() == self._stamps:
                return
            try:
                self._restore(self._origin)
            except OSError as error:
                self._log_once(
                    f"the origin file {origin_file(self._folder)} cannot be restored: "
                    f"{error.strerror}"
                )
            self._stamps = self._stat()
        finally:
            self._lock.release()

    def _stat(self) -> object:
        return [_stamp(self._folder / name) for name in ("origin", KERNEL_CONFIG)]

    def _restore(self, origin: str) -> None:
        file = origin_file(self._folder)
        found, second = stored_origin(self._folder), kernel_config_origin(self._folder)
        if found is not None and found == second != origin:  # another server has replaced both
            self._log_once(
                f"{file} was changed to {found} while this server runs with the origin {origin}. "
                "Restart the server, and see `jupyter axon doctor`"
            )
            return
        if found != origin:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked_folder(self._folder, _LOCK_TIMEOUT):
                _write(file, origin, overwrite=True)
            if self._created_at:  # its time shows since when this is the origin
                os.utime(file, ns=(self._created_at, self._created_at))
            fault = "missing or damaged" if found is None else f"replaced by another ({found})"
            self._log.warning(
                "axon: the origin file %s was %s while this server runs; it was restored",
                file,
                fault,
            )
        if second != origin:
            self._write_pointer(origin)

    def _log_once(self, error: str) -> None:
        if error != self._last_error:
            self._last_error = error
            self._log.error("axon: %s", error)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


@dataclass
class OtherOrigin:
    """Another origin that has records of files on this machine.

    Attributes
    ----------
    here : list of Binding
        The records that belong to files on this machine.
    in_use : bool
        Whether a file was recorded under it since the present origin was created. It then probably
        belongs to another machine or server, and was not lost.
    """

    origin: str
    here: list[Binding] = field(default_factory=list)
    in_use: bool = False


def origin_created_at(folder: Path) -> str:
    """Return the creation time of a data directory's origin; the current time if there is none."""
    try:
        moment = datetime.fromtimestamp(os.stat(origin_file(folder)).st_mtime, timezone.utc)
    except OSError:
        moment = datetime.now(timezone.utc)
    return format_time(moment)


def find_other_origins(
    elsewhere: Iterable[Binding],
    bound_here: Callable[[str], Binding | None],
    created_at: str,
    keep_going: Callable[[], bool] = lambda: True,
) -> list[OtherOrigin]:
    """Return the other origins that have records of files on this machine, largest first.

    If a file has several records, the oldest one has the history. A file is left out if its oldest
    record already has the current origin.

    Parameters
    ----------
    elsewhere : iterable of Binding
        The bindings under other origins.
    bound_here : callable
        Returns the binding to a path under the present origin.
    created_at : str
        When the present origin was created.
    keep_going : callable
        Called before each file; returns whether to continue.
    """
    origins: dict[str, OtherOrigin] = {}
    oldest: dict[tuple[str, str], Binding] = {}
    for binding in elsewhere:
        if binding.path is None or binding.origin is None:
            continue
        other = origins.setdefault(binding.origin, OtherOrigin(binding.origin))
        other.in_use = other.in_use or (binding.synced_at or "") > created_at
        key = binding.user_id, binding.path
        if key not in oldest or _age(binding) < _age(oldest[key]):
            oldest[key] = binding
    for (user_id, path), binding in oldest.items():
        if not keep_going():
            break
        if not os.path.isabs(path) or not os.path.isfile(path):
            continue
        here = bound_here(path)
        if here is None or (here.user_id == user_id and _age(binding) < _age(here)):
            origins[str(binding.origin)].here.append(binding)
    found = (other for other in origins.values() if other.here)
    return sorted(found, key=lambda other: -len(other.here))


def _age(binding: Binding) -> tuple[str, str]:
    return binding.created_at or "", binding.id
