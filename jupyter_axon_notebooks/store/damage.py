"""A damaged store: how a server moves it aside and begins afresh.

Only :func:`open_for_work`, the way in of what records without being watched, moves anything; :func:`.open_store` never
does. What is moved keeps every byte, under a name that says what happened, with its log beside it.

What counts as damage, :mod:`.faults` says; here it has to say so twice, on a connection of its own, while no other server
can be moving the same store, and the files have to stay as they are meanwhile: a copy that is still being put there, by
somebody who restores a backup, looks damaged until it is whole (and one that pauses for over a second is moved as it is, and
has to be put there again). On a network file system nothing is moved, since what a
computer there sees of a file may be old.

What is moved. The file at the default path, which is in a folder of this project's own, whatever it is by now. At a path
that somebody configured only a file, or a log, that still has the definition of one of our tables in it: else it may be
somebody's notebook, named by mistake, and is refused.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreBusy, StoreDamaged, StoreError
from ..records import now
from . import Store, default_url, open_store
from .brokenlog import LogKept, keep_log
from .codec import decode
from .faults import find_fault, looking, was_ours
from .files import LOGS, Identity, beside, identity, size
from .schema import NOTEBOOKS
from .sqlite import NETWORK_FILE_SYSTEMS, file_system
from .urls import file_of, named_file

#: Seconds for which the files have to stay as they are.
_STILL = 1.0
#: How often to look again when another server moves the store at the same time.
_ATTEMPTS = 5
_BESIDE = (*LOGS, "-shm")


@dataclass(frozen=True)
class SetAside:
    """A damaged store that was moved out of the way.

    Attributes
    ----------
    path, file : Path
        Where it was, and where it is.
    fault : str
        What was found to be wrong with it.
    """

    path: Path
    file: Path
    fault: str

    def __str__(self) -> str:
        return (
            f"the store {self.path} was damaged ({self.fault}) and is now {self.file}; a new one has been begun. "
            f"To see what can be read of the old one, copy it with its log, since SQLite writes into what it opens: "
            f"jupyter axon list --store-url sqlite:///<the copy>, or sqlite3 <the copy> .recover"
        )

    def files(self, origin: str) -> dict[str, str]:
        """The notebook files that it had records of, as far as that can be read, each with its owner."""
        found: dict[str, str] = {}
        select = f'SELECT document FROM "{NOTEBOOKS.name}" WHERE origin = ? AND path IS NOT NULL'  # noqa: S608 - ours
        with suppress(sqlite3.Error), looking(self.file) as connection:
            connection.execute(
                "PRAGMA writable_schema=ON"
            )  # what of the tables can be parsed is enough
            for (text,) in connection.execute(select, [origin]):
                with suppress(StoreError, KeyError, TypeError):
                    document = decode(text)
                    found[str(document["path"])] = str(document["user_id"])
        return found


def open_for_work(
    url: str, *, read_timeout: float | None = None
) -> tuple[Store, SetAside | LogKept | None]:
    """Open the store at ``url`` as :func:`.open_store` does, with ``read_timeout``; one that is damaged is moved aside first, if it is ours.

    Raises
    ------
    StoreDamaged
        When it is damaged and stays where it is: nothing shows that it has ever been a store of ours, or it is on a
        network file system.
    StoreBusy
        When it looks damaged while somebody writes to it.
    StoreError
        As :func:`.open_store` does.
    """
    path = file_of(url)
    if path is None:
        return open_store(url, read_timeout=read_timeout), None
    aside: SetAside | LogKept | None = None
    for _ in range(_ATTEMPTS):
        seen = identity(path)
        fault = find_fault(path)
        if fault is None:
            aside = aside or keep_log(path)
            try:
                return open_store(url, read_timeout=read_timeout), aside
            except StoreDamaged:
                fault = find_fault(path)
                if (
                    fault is None
                ):  # a wrong read, or another server is moving it: nothing is moved for that
                    continue
            except StoreBusy:
                raise
            except StoreError:
                if identity(path) == seen is not None:
                    raise
                continue  # it was moved away just now
        if not _is_in_our_folder(path, url) and not was_ours(path):
            if identity(path) != seen:
                continue
            raise StoreDamaged(f"the store {url}: {fault}; {_REFUSED}")
        if (kind := file_system(path)) in NETWORK_FILE_SYSTEMS:
            raise StoreDamaged(
                f"the store {url}: {fault}; it is on a network file system ({kind}), so {_STAYS}"
            )
        aside = _move_aside(path, seen, fault) or aside
    return open_store(url, read_timeout=read_timeout), aside


def _is_in_our_folder(path: Path, url: str) -> bool:
    """Whether ``path``, where ``url`` leads to, is in the folder of the default store: a link may lead out of it."""
    named = named_file(default_url())
    return (
        url == default_url()
        and named is not None
        and path.parent == Path(os.path.realpath(named.parent))
    )


_STAYS = (
    "it stays where it is: move it aside yourself, or set AxonNotebooks.store_url to another file"
)
_REFUSED = f"it does not look like a store that was damaged, so {_STAYS}"


def _move_aside(path: Path, seen: Identity | None, fault: str) -> SetAside | None:
    """Move a store and its logs aside; None if another server was quicker, or finds nothing wrong with it.

    Raises
    ------
    StoreDamaged
        When it cannot be moved.
    StoreBusy
        When it is being written to.
    """
    try:
        with _alone(path):
            if identity(path) != seen:
                return None
            before = _stamps(path)
            confirmed = find_fault(path)
            if confirmed is None:
                return None
            time.sleep(_STILL)
            if _stamps(path) != before:
                raise StoreBusy(
                    f"the store {path} looks damaged ({fault}), but is being written to just now; try again"
                )
            return SetAside(path, _rename(path), confirmed)
    except OSError as error:
        raise StoreDamaged(
            f"the store {path} is damaged ({fault}) and cannot be moved aside: {error.strerror}: {error.filename}"
        ) from error


def _stamps(path: Path) -> list[tuple[int, int, int] | None]:
    """What changes whenever the file or one of its logs does. An empty log is none: SQLite makes one to read."""
    found = (beside(path, suffix) for suffix in ("", *LOGS))
    stats = [file.stat() if size(file) else None for file in found]
    return [
        None if stat is None else (stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats
    ]


def _rename(path: Path) -> Path:
    moving = [suffix for suffix in ("", *_BESIDE) if beside(path, suffix).exists()]
    named = f"{path.name}.damaged-{now():%Y-%m-%dT%H-%M-%SZ}"
    for attempt in range(1, 1000):
        aside = path.with_name(named if attempt == 1 else f"{named}-{attempt}")
        if not any(beside(aside, suffix).exists() for suffix in ("", *_BESIDE)):
            break
    # First a second name for each, then the first ones go: whenever this is cut short, every byte has a name, and no
    # log is left to a file that is not its own, which SQLite would throw it away for.
    linked = _linked(path, aside, moving)
    for suffix in moving:
        if linked:
            beside(path, suffix).unlink()
    if not linked:
        for suffix in reversed(moving):  # the logs first, for the same reason
            beside(path, suffix).rename(beside(aside, suffix))
    _flush(path.parent)
    return aside


def _linked(path: Path, aside: Path, moving: list[str]) -> bool:
    try:
        for suffix in moving:
            os.link(beside(path, suffix), beside(aside, suffix), follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without links
        for suffix in moving:
            if identity(beside(aside, suffix)) == identity(beside(path, suffix)):
                beside(aside, suffix).unlink()
        return False
    _flush(path.parent)
    return True


def _flush(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep out other servers that would move the store at ``path``.

    Raises
    ------
    OSError
        Where the file system has no locks: then nothing is moved.
    """
    if sys.platform == "win32":  # which moves no file that somebody has open
        yield
        return
    import fcntl

    gate = beside(path, ".moving")
    while True:
        descriptor = os.open(gate, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != identity(gate):
                continue  # whoever had it has taken it away
            try:
                yield
            finally:
                gate.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)
