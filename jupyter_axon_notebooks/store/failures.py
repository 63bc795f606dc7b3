"""From an engine's complaint to an error that names what is wrong."""

from __future__ import annotations

import errno
import os
import tempfile

import sqlalchemy as sa

from ..errors import AxonError, Conflict, NoSpace, RecordDamaged, StoreBusy, StoreDamaged, StoreError

# What SQLite says, the error it becomes, and what helps.
_SQLITE: tuple[tuple[str, type[AxonError], str], ...] = (
    ("UNIQUE constraint failed", Conflict, "is already there"),
    ("database is locked", StoreBusy, "another process kept it locked; try again"),
    ("database or disk is full", NoSpace, "the disk is full; free some space and try again"),
    ("readonly database", StoreError, "it is read-only; check the permissions of its file and folder"),
    (
        "unable to open database file",
        StoreError,
        "it cannot be opened; check that its folder exists and can be written to",
    ),
    ("disk I/O error", StoreError, "the disk reports an I/O error"),
    ("string or blob too big", RecordDamaged, "something in it is larger than SQLite takes"),
    ("malformed", StoreDamaged, "it is damaged; `jupyter axon doctor` says how far"),
    ("file is not a database", StoreDamaged, "the file is not a database; move it aside"),
)


#: What SQLite also says where there is no room: for its log or the log's index, or by a quota.
_VAGUE = ("unable to open database file", "disk I/O error")
#: Bytes that must find room; the log's index grows by half as many.
_ROOM = 64 * 1024


def name_failures(engine: sa.Engine, url: str) -> None:
    """Have ``engine`` raise this project's errors, with the store's URL, at the statement that failed.

    What else is raised between two statements, another database's errors included, is none of its business.
    """

    @sa.event.listens_for(engine, "handle_error")
    def _name(context: sa.engine.ExceptionContext) -> AxonError | None:
        if isinstance(context.original_exception, UnicodeDecodeError):  # the driver's, of what SQLite quotes
            return StoreDamaged(f"the store {url}: it is damaged; `jupyter axon doctor` says how far")
        if context.sqlalchemy_exception is None:  # not the engine's, such as a KeyboardInterrupt
            return None
        return _named(url, context.original_exception)


def _named(url: str, error: BaseException) -> AxonError:
    said = str(error)
    if any(phrase in said for phrase in _VAGUE) and _is_full(url):
        return NoSpace(f"the store {url}: the disk is full; free some space and try again ({said})")
    for phrase, kind, advice in _SQLITE:
        if phrase in said:
            if kind is Conflict:
                return Conflict(f"{said.removeprefix('UNIQUE constraint failed: ')} {advice}")
            return kind(f"the store {url}: {advice} ({said})")
    return StoreError(f"the store {url} failed: {said}")


def _is_full(url: str) -> bool:
    """Whether the folder of a store takes no more, which is tried out: quotas are known to nobody else."""
    path = url.removeprefix("sqlite:///")
    if path == url:
        return False
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
