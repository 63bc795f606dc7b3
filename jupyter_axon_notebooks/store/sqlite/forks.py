"""SQLite in a process that was forked while another thread used it.

The child inherits SQLite's locks as they were: whoever needs one that the other thread held waits
for ever. It also inherits its record of locks on files that only the parent holds, so that it could
write to a log that the parent removes. So neither is tried.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ...errors import StoreError

#: The process that imported this module: it was not forked, or without other threads.
_IMPORTED_IN: Final = os.getpid()
#: Seconds after which SQLite is taken to wait for ever.
_TIMEOUT: Final = 5.0

# No lock guards these, since it might be inherited too.
_in_use: set[Path] = set()
_tried: dict[int, bool] = {}  # by process: whether SQLite answered


def set_in_use(path: Path) -> None:
    """Note, in a child process, that another thread used a file when the process was forked."""
    _in_use.add(path)


def check_usable(path: Path) -> None:
    """Raise StoreError if SQLite cannot use a file in this process."""
    pid = os.getpid()
    if pid == _IMPORTED_IN:
        return
    if pid not in _tried and path not in _in_use:
        _tried[pid] = _answers(path)
    if path in _in_use or not _tried[pid]:
        raise StoreError(
            f"the store sqlite:///{path} cannot be used in this process, because it was forked "
            'while another thread used SQLite; start processes with "spawn" or "forkserver"'
        )


def _answers(path: Path) -> bool:
    has_answered = threading.Event()

    def use() -> None:
        with suppress(sqlite3.Error):
            uri = f"{path.as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
                connection.execute("SELECT random() FROM sqlite_master").fetchall()
        has_answered.set()

    threading.Thread(target=use, name="axon-sqlite", daemon=True).start()
    return has_answered.wait(_TIMEOUT)
