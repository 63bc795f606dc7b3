"""The files of a SQLite database: names, identities, and the file system that they are on."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from ...errors import StoreError
from ...records import now
from ...userfiles import check_regular, open_regular

#: Files beside the database that may hold changes that it lacks.
LOGS = ("-wal", "-journal")
Identity = tuple[int, int]
#: The value of the pragma ``auto_vacuum`` for files that can be shortened in steps.
INCREMENTAL = 2
#: File systems without shared memory between processes, so that the write-ahead log cannot be used.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs"}
    | {"gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}
)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of the ``-wal``, ``-shm`` or ``-journal`` file of a database."""
    return path.with_name(path.name + suffix)


def size(path: Path) -> int:
    """Return the bytes in a file; 0 if there is none, or it cannot be inspected."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def check_files(path: Path) -> None:
    """Check that the database and its logs, if they exist, are regular files.

    SQLite would wait forever for a pipe. Raises NotRegular for the first one that is not.
    """
    for suffix in ("", *LOGS):
        file = beside(path, suffix)
        try:
            status = file.stat()
        except OSError:
            continue
        check_regular(file, status)


def identity(path: Path) -> Identity | None:
    """Return device and inode of the file at ``path``; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class OpenedFiles:
    """The identities of the files that an engine has open, to detect removal and replacement.

    A removed file can be read and written as long as it is open, but then its content is lost.
    The log and its index exist as long as there are connections.
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
            self._add_logs()

    def _on_close(self, *_: object) -> None:
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self._logs.clear()

    def _add_logs(self) -> None:
        for path in self._log_paths:
            if path not in self._logs and (found := identity(path)) is not None:
                self._logs[path] = found

    @property
    def are_lost(self) -> bool:
        """True if a file was removed or replaced, so that commits would be lost."""
        if identity(self._path) != self._file:
            return True
        with self._lock:
            if self._connections:
                self._add_logs()
            return any(identity(path) != found for path, found in self._logs.items())


def read_only_uri(path: Path) -> str:
    """Return the URI that opens the database for reading, without creating any file.

    To read a database in WAL mode, SQLite creates the index of the log if it is missing. If there
    is no log, no process has the database open, so it can be treated as immutable.
    """
    query = "mode=ro"
    with suppress(OSError), open_regular(path) as file:  # opening the database will report it
        if file.read(20)[18:] == b"\x02\x02" and not beside(path, "-wal").exists():
            query = "immutable=1"
    return f"{path.as_uri()}?{query}"


def move_aside(path: Path) -> Path:
    """Move a store aside with :func:`rename_files`; processes that have it open notice that.

    Raises StoreError if it cannot be renamed.
    """
    try:
        return rename_files(path)
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be moved aside: {error.strerror}: {error.filename}"
        ) from error


def rename_files(path: Path) -> Path:
    """Rename a database and its logs to ``<name>.damaged-<time>``; return the new path.

    Files that are missing are skipped.
    """
    target = path.with_name(f"{path.name}.damaged-{now():%Y-%m-%dT%H-%M-%S.%fZ}")
    for suffix in (*LOGS, "-shm", ""):  # the logs first: SQLite deletes a log without its database
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(target, suffix))
    return target


def file_system(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system of ``path`` (``ext4``, ``nfs4``, …); ``""`` if unknown.

    ``mounts`` is the content of ``/proc/self/mountinfo``, which is read by default.
    """
    if mounts is None:
        try:
            mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
        except OSError:
            return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in filter(None, mounts.split("\n")):
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), left.split(" ")[4])
        contains = point == "/" or real == point or real.startswith(point + "/")
        if contains and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind
