"""Whether a database's files are still where they were when they were opened.

A file that is removed or replaced goes on existing for those who have it open: they read and write, nothing fails, and
all of it is gone with the last of them. So whoever is to keep something looks first.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import sqlalchemy as sa

from .files import Identity, identity


class OpenFiles:
    """The files of a SQLite database that an engine has open: the database and, as long as it has connections, its log
    and the log's index, which the last one takes away.
    """

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._path = path
        self._file = identity(path)
        real = os.path.realpath(path)  # SQLite keeps the log where the file really is
        self._beside = (f"{real}-wal", f"{real}-shm")
        self._logs: dict[str, Identity] = {}
        self._connections = 0
        self._lock = threading.Lock()
        sa.event.listen(engine, "connect", self._opened)
        sa.event.listen(engine, "close", self._closing)

    def _opened(self, *_: object) -> None:
        with self._lock:
            self._connections += 1
            self._note()

    def _closing(self, *_: object) -> None:
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self._logs.clear()

    def _note(self) -> None:
        for name in self._beside:
            if name not in self._logs and (found := identity(name)) is not None:
                self._logs[name] = found

    @property
    def are_lost(self) -> bool:
        """Whether one of them was removed or replaced, so that what is committed now may be gone with it."""
        if identity(self._path) != self._file:
            return True
        with self._lock:
            if self._connections:
                self._note()
            return any(identity(name) != found for name, found in self._logs.items())
