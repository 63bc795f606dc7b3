"""SQLite in a process that was forked while another thread used it.

The child inherits SQLite's locks as they were: a call that needs one that the other thread held
waits for ever. It also inherits SQLite's record of locks on files that only the parent holds, so
that it could write to a log that the parent removes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ...errors import StoreError

#: Seconds after which SQLite is taken to wait for ever.
_TIMEOUT: Final = 5.0

#: A file whose use needs no disk.
_FILE: Final = "file:/dev/null?mode=ro"

# No lock guards these, since it might be inherited too.
_forbidden: set[Path] = set()
#: By process: an event that is set once SQLite has responded, and until when it is waited for.
_responses: dict[int, tuple[threading.Event, float]] = {}


def forbid(path: Path) -> None:
    """Let this child process use a file no more, which another thread used at the fork."""
    _forbidden.add(path)


def check_usable(path: Path) -> None:
    """Raise StoreError if SQLite cannot use a file in this process."""
    if path in _forbidden or not _is_responding():
        raise StoreError(
            f"the store sqlite:///{path} cannot be used in this process, because it was forked "
            'while another thread used SQLite; start processes with "spawn" or "forkserver"'
        )


def _is_responding() -> bool:
    """Return whether SQLite's locks are free; a process tries that once, in another thread."""
    if not hasattr(os, "fork"):
        return True
    found = _responses.get(os.getpid())
    if found is None:
        found = threading.Event(), time.monotonic() + _TIMEOUT
        _responses[os.getpid()] = found
        threading.Thread(
            target=_try_locks, args=(found[0],), name="axon-sqlite", daemon=True
        ).start()
    response, end = found
    return response.is_set() or response.wait(max(0.0, end - time.monotonic()))


def _try_locks(response: threading.Event) -> None:
    """Take the locks for files, memory and random numbers, but use no disk, which may be slow."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(_FILE, uri=True)) as connection:
        connection.execute("SELECT random()").fetchone()
    response.set()
