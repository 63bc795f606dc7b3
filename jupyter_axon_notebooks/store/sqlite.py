"""SQLite as an engine: one file, written durably, read by many while one writes."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from pathlib import Path
from typing import Any

import sqlalchemy as sa

# File systems on which SQLite's shared memory between processes does not work, so its write-ahead log must not be used.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}
)


def create_engine(path: Path | None, busy_timeout: float) -> sa.Engine:
    """An engine for the file at ``path``, made with its folder if missing; None is a database in memory.

    The driver is left in autocommit, so the only transactions are the ones begun in so many words: with its
    implicit ones, a read followed by a write can lose what another process committed between the two.

    Raises
    ------
    StoreError
        When the folder cannot be made.
    """
    arguments: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "timeout": busy_timeout}
    if path is None:
        return sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args=arguments)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    network = file_system(path.parent) in _NETWORK_FILE_SYSTEMS
    if network:
        warnings.warn(
            f"the store {path} lies on a network file system: it works, but slowly, and one process at a time. "
            "Set AxonNotebooks.store_url to a local file, or to PostgreSQL",
            RuntimeWarning,
            stacklevel=2,
        )
    if not path.exists():
        # Created here rather than by SQLite, so that nobody else on the machine can read it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args=arguments,
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=56,
        pool_timeout=busy_timeout,
    )
    journal = "delete" if network else "wal"

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        _set_journal(connection, journal, busy_timeout)
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _set_journal(connection: sqlite3.Connection, journal: str, busy_timeout: float) -> None:
    # Switching needs the file to itself, and SQLite does not wait for that however long the busy timeout is.
    deadline = time.monotonic() + busy_timeout
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != journal:
        try:
            connection.execute(f"PRAGMA journal_mode={journal}")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def file_system(folder: Path) -> str:
    """The type of the file system that ``folder`` is on (``ext4``, ``nfs4``, …); ``""`` where it cannot be told."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    inside = os.path.realpath(folder)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].encode("latin-1", "replace").decode("unicode_escape")
        within = point == "/" or inside == point or inside.startswith(point + "/")
        if within and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind
