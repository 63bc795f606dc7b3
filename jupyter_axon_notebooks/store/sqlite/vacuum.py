"""Giving room that is no longer needed back to the disk: SQLite keeps what it once took, for itself.

In steps: each keeps other writers waiting for a moment only, and between two the caller may wait, or stop for good.

``PRAGMA optimize`` is no part of this on purpose. Every question the store asks has an index of its own; statistics
could only talk SQLite out of it, and would where one notebook has most of the checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ..database import Database
from .engine import INCREMENTAL
from .files import beside, size

#: Free pages that are left to the writes to come.
_SPARE_PAGES = 256
#: Bytes from which on a log is long; SQLite begins a log anew at about 4 MB, if no reader is in the way.
LONG_LOG = 16 * 1024 * 1024
#: Seconds after which a step takes up nothing more.
_TURN = 0.02


def reclaim(database: Database, path: Path) -> Iterator[int]:
    """Shorten the file at ``path`` and its log, as far as nobody is in the way. Yields the bytes that each step gave back.

    A file that was made without ``auto_vacuum`` cannot be shortened in steps, and keeps its length.
    """
    while freed := _shorten_file(database):
        yield freed
    if freed := _shorten_log(database, path):
        yield freed


def _shorten_file(database: Database) -> int:
    if (
        _ask(database, "auto_vacuum") != INCREMENTAL
        or _ask(database, "freelist_count") <= _SPARE_PAGES
    ):
        return 0
    with database.transaction() as connection:
        ends = time.monotonic() + _TURN  # of the work: others may have been waited for
        before = _ask(database, "page_count")
        for _ in range(_ask(database, "freelist_count") - _SPARE_PAGES):
            # One at a time: of a statement without result columns the driver takes the first step only.
            connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
            if time.monotonic() >= ends:
                break
        return (before - _ask(database, "page_count")) * _ask(database, "page_size")


def _shorten_log(database: Database, path: Path) -> int:
    log = beside(path, "-wal")
    before = size(log)
    if before <= LONG_LOG:
        return 0
    with database.reading() as connection:
        # This moves the log's pages into the file and lets others write meanwhile. What cuts the log off keeps them
        # waiting, so it gets little to do and waits for nobody itself.
        _, length, moved = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
        if length != moved:
            return 0
        patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        try:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}")
    return before - size(log)


def _ask(database: Database, pragma: str) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())
