"""The files of a SQLite database: what they are called, how long they are, and which ones they are."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import sqlalchemy as sa

from ...errors import StoreError
from ...records import now
from ...userfiles import check_regular
from ..urls import file_of, shown_url

#: What may have changes in it that the file has not.
LOGS = ("-wal", "-journal")
Identity = tuple[int, int]


def beside(path: Path, suffix: str) -> Path:
    """The file that SQLite keeps beside ``path``: ``-wal``, ``-shm`` or ``-journal``."""
    return path.with_name(path.name + suffix)


def size(path: Path) -> int:
    """Bytes in a file; 0 where there is none, or none that can be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def check_files(path: Path) -> None:
    """Check that SQLite opens regular files only, as far as they are there: for a pipe it would wait for ever.

    Raises
    ------
    NotRegular
        For the database, its log or its journal.
    """
    for suffix in ("", *LOGS):
        file = beside(path, suffix)
        try:
            found = file.stat()
        except OSError:
            continue
        check_regular(file, found)


def identity(path: Path | str) -> Identity | None:
    """What tells the file at ``path`` from any other; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# File systems on which SQLite's shared memory between processes does not work, so its write-ahead log must not be used.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
    }
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}
)


class OpenedFiles:
    """The identities of the files that an engine has open, to notice their removal or replacement.

    A file that is removed while it is open stays readable and writable, and its content is lost
    when it is closed. SQLite keeps the log and its index as long as it has connections.
    """

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._path = path
        self._file = identity(path)
        real = Path(os.path.realpath(path))
        self._log_paths = (beside(real, "-wal"), beside(real, "-shm"))
        self._logs: dict[Path, Identity] = {}
        self._connections = 0
        self._lock = threading.Lock()
        sa.event.listen(engine, "connect", self._on_connect)
        sa.event.listen(engine, "close", self._on_close)

    def _on_connect(self, *_: object) -> None:
        with self._lock:
            self._connections += 1
            self._record_logs()

    def _on_close(self, *_: object) -> None:
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self._logs.clear()

    def _record_logs(self) -> None:
        for path in self._log_paths:
            if path not in self._logs and (found := identity(path)) is not None:
                self._logs[path] = found

    @property
    def are_lost(self) -> bool:
        """Whether a file was removed or replaced, so that a commit would be lost with it."""
        if identity(self._path) != self._file:
            return True
        with self._lock:
            if self._connections:
                self._record_logs()
            return any(identity(path) != found for path, found in self._logs.items())


def move_aside(url: str) -> Path:
    """Rename the file of a store, and its logs, so that the next process begins a new store.

    Processes that have the store open notice it when they next use the store.

    Returns
    -------
    Path
        The new path of the file: ``<name>.damaged-<time>``. The logs are beside it.

    Raises
    ------
    StoreError
        When the store is not in a file, there is no file, or it cannot be renamed.
    """
    path = file_of(url)
    if path is None:
        raise StoreError(
            f"the store {shown_url(url)} is not in a file, so it cannot be moved aside"
        )
    try:
        path.stat()
        return rename_files(path)
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be moved aside: {error.strerror}: {error.filename}"
        ) from error


def rename_files(path: Path) -> Path:
    """Rename a database and its logs beside it, as far as they exist; return the new path."""
    target = path.with_name(f"{path.name}.damaged-{now():%Y-%m-%dT%H-%M-%S.%fZ}")
    for suffix in (*LOGS, "-shm", ""):  # the logs first: SQLite deletes a log without its database
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(target, suffix))
    return target


def file_system(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that ``path`` is on (``ext4``, ``nfs4``, …); ``""`` where it cannot be told.

    ``mounts`` is the text of ``/proc/self/mountinfo``, by default this process's.
    """
    if mounts is None:
        try:
            mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
        except OSError:
            return ""
    inside = os.path.realpath(path)
    best, kind = "", ""
    for line in filter(None, mounts.split("\n")):
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), left.split(" ")[4])
        within = point == "/" or inside == point or inside.startswith(point + "/")
        if within and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind
