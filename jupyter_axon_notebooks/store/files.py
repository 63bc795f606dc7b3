"""The files of a SQLite database: what they are called, how long they are, and which ones they are."""

from __future__ import annotations

import os
from pathlib import Path

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


def identity(path: Path | str) -> Identity | None:
    """What tells the file at ``path`` from any other; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
