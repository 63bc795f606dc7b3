"""The files of a SQLite database: what they are called, how long they are, and which ones they are."""

from __future__ import annotations

import os
from pathlib import Path

from ..userfiles import check_regular

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
