"""The files of a SQLite database: names, identities, and the file system that they are on."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from ...errors import StoreError
from ...records import now
from ...userfiles import open_regular

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


def identity(path: Path) -> Identity | None:
    """Return device and inode of the file at ``path``; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
