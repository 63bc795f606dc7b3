"""Returning unused space of SQLite files to the disk.

This is done in short steps, since each blocks other writers. The caller may pause between two of
them. ``PRAGMA optimize`` is not used: every query has an index, and statistics of an unbalanced
store could make SQLite choose another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..database import Database
from .files import INCREMENTAL

#: Free pages that are kept for future writes.
_SPARE_PAGES = 256
#: Seconds after which a step ends.
_STEP_TIME = 0.02


def vacuum(database: Database) -> Iterator[int]:
    """Shorten the file; yield the bytes that each step freed.

    Files that were created without ``auto_vacuum`` keep their length.
    """
    while freed := _shorten_file(database):
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


def _pragma(database: Database, name: str) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
