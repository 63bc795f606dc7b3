"""The origin: a random id of one Jupyter data directory, and so of one user on one machine.

Records are bound to files by origin and path, so that equal paths on two machines that share a
database stay apart. Losing the origin would separate users from their records. It is therefore kept
twice, in the file ``origin`` and in the file that servers write for kernels; a missing or damaged
copy is restored from the other one.
"""

from __future__ import annotations

import contextlib
import errno
import os
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
    try:
        origin = stored_origin(folder)
        if origin is None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked_folder(folder, _LOCK_TIMEOUT):
                origin = stored_origin(folder) or _create(folder, warn)
    except OSError as error:
        raise StoreError(
            "the origin of this data directory cannot be read from or written to "
            f"{origin_file(folder)}: {error.strerror}"
        ) from error
    return origin


def stored_origin(folder: Path) -> str | None:
    """Return the origin in its file; None if the file is missing or damaged.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    try:
        text = read_regular(origin_file(folder), _MAX_SIZE).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError, FileTooLarge, NotRegular):
        return None
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
    with contextlib.suppress(FileExistsError):
        content = f"{second or new_id()}\n".encode("ascii")
        write_atomic(file, content, overwrite=is_damaged, mode=None)
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
        if not os.path.isabs(path) or not os.path.isfile(path):
            continue
        here = bound_here(path)
        if here is None or (here.user_id == user_id and _age(binding) < _age(here)):
            origins[str(binding.origin)].here.append(binding)
    found = (other for other in origins.values() if other.here)
    return sorted(found, key=lambda other: -len(other.here))


def _age(binding: Binding) -> tuple[str, str]:
    return binding.created_at or "", binding.id
