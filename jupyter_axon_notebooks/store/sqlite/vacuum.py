"""Returning unused space of SQLite files to the disk.

This is done in short steps, since each blocks other writers. The caller may pause between two of
them. ``PRAGMA optimize`` is not used: every query has an index, and statistics of an unbalanced
store could make SQLite choose another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ..database import Database
from .files import INCREMENTAL, beside, size

#: Free pages that are kept for future writes.
_SPARE_PAGES = 256
#: Logs longer than this, in bytes, are truncated. SQLite reuses the log from 4 MB on unless a
#: reader is active.
LONG_LOG = 16 * 1024 * 1024
#: Seconds after which a step ends.
_STEP_TIME = 0.02


def vacuum(database: Database, path: Path) -> Iterator[int]:
    """Shorten the file at ``path`` and its log; yield the bytes that each step freed.

    Files that were created without ``auto_vacuum`` keep their length. The log is only truncated
    when nobody uses it.
    """
    while freed := _shorten_file(database):
        yield freed
    if freed := _truncate_log(database, path):
        yield freed


def _shorten_file(database: Database) -> int:
    if (
        _pragma(database, "auto_vacuum") != INCREMENTAL
        or _pragma(database, "freelist_count") <= _SPARE_PAGES
    ):
        return 0
    with database.transaction() as connection:
        ends = time.monotonic() + _STEP_TIME
        before = _pragma(database, "page_count")
        for _ in range(_pragma(database, "freelist_count") - _SPARE_PAGES):
            # One page at a time: the driver runs only the first step of such a statement.
            connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
            if time.monotonic() >= ends:
                break
        return (before - _pragma(database, "page_count")) * _pragma(database, "page_size")


def _truncate_log(database: Database, path: Path) -> int:
    log = beside(path, "-wal")
    before = size(log)
    if before <= LONG_LOG:
        return 0
    with database.reading() as connection:
        # PASSIVE copies the log into the file without blocking writers. TRUNCATE blocks them, so it
        # runs only after everything was copied, and does not wait for readers.
        _, length, copied = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
        if length != copied:
            return 0
        timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        try:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={timeout}")
    return before - size(log)


def _pragma(database: Database, name: str) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
