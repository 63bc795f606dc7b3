"""Translation of SQLite's errors into errors of this project."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

from ...errors import (
    AxonError,
    Conflict,
    NoSpace,
    RecordDamaged,
    StoreBusy,
    StoreDamaged,
    StoreError,
)
from ...printable import shorten

_READ_ONLY = "it is read-only; check the permissions of its file and folder"
_NOT_OPENED = "it cannot be opened; check that its folder exists and is writable"
_DAMAGED = "it is damaged; run `jupyter axon doctor`"
_OTHER_VERSION = (
    f"it is damaged, or has definitions that SQLite {sqlite3.sqlite_version} is too old for; run "
    "`jupyter axon doctor`"
)

# A part of SQLite's message, the error that it becomes, and the explanation.
_ERRORS: tuple[tuple[str, type[AxonError], str], ...] = (
    ("database is locked", StoreBusy, "it is locked by another process; try again"),
    ("database or disk is full", NoSpace, "the disk is full; free some space and try again"),
    ("readonly database", StoreError, _READ_ONLY),
    ("unable to open database file", StoreError, _NOT_OPENED),
    ("disk I/O error", StoreError, "the disk reported an I/O error"),
    ("string or blob too big", RecordDamaged, "a value is larger than SQLite supports"),
    ("malformed database schema", StoreDamaged, _OTHER_VERSION),
    ("malformed", StoreDamaged, _DAMAGED),
    ("Could not decode to UTF-8", StoreDamaged, _DAMAGED),
    ("not a database", StoreDamaged, "the file is not a database; run `jupyter axon doctor`"),
)
_UNIQUE = "UNIQUE constraint failed: "

#: Messages that SQLite also uses if there is no space for the log, or a quota is exceeded.
_AMBIGUOUS = ("unable to open database file", "disk I/O error")
#: The longest message of SQLite that is shown: some quote the damaged text.
_MAX_MESSAGE = 300
#: Bytes that :func:`_is_full` tries to write: more than the index of the log grows by at once.
_PROBE_SIZE = 64 * 1024


def translate_error(name: str, path: Path | None, error: BaseException) -> AxonError | None:
    """Return the error to raise for an error of the driver, from the store ``name`` at ``path``."""
    if isinstance(error, UnicodeDecodeError):  # in a message that quotes damaged text
        return StoreDamaged(f"the store {name}: {_DAMAGED}")
    message = shorten(str(error), _MAX_MESSAGE)
    if message.startswith(_UNIQUE):
        return Conflict(f"{message.removeprefix(_UNIQUE)} exists already")
    if any(part in message for part in _AMBIGUOUS) and path is not None and _is_full(path.parent):
        return NoSpace(
            f"the store {name}: the disk is full; free some space and try again ({message})"
        )
    for part, kind, explanation in _ERRORS:
        if part in message:
            return kind(f"the store {name}: {explanation} ({message})")
    return StoreError(f"the store {name}: SQLite failed ({message})")


def _is_full(folder: Path) -> bool:
    """Return whether the disk of ``folder`` or a quota is full, by writing a temporary file."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_SIZE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
