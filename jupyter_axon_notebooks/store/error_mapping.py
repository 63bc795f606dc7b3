"""From an engine's complaint to an error that names what is wrong."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from ..errors import (
    AxonError,
    Conflict,
    NoSpace,
    RecordDamaged,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreTooNew,
)
from .schema import COLLECTIONS
from .urls import file_of, shown_url


class Interrupted(StoreBusy):
    """The database broke a unit of work off. Nothing of it was stored, so it can be done again from its start."""


class ForeignRecord(StoreError):
    """A record of another user, in a database that keeps users apart."""


# What SQLite says, the error it becomes, and what helps.
_SQLITE: tuple[tuple[str, type[AxonError], str], ...] = (
    ("UNIQUE constraint failed", Conflict, "is already there"),
    ("database is locked", StoreBusy, "another process kept it locked; try again"),
    ("database or disk is full", NoSpace, "the disk is full; free some space and try again"),
    (
        "readonly database",
        StoreError,
        "it is read-only; check the permissions of its file and folder",
    ),
    (
        "unable to open database file",
        StoreError,
        "it cannot be opened; check that its folder exists and can be written to",
    ),
    ("disk I/O error", StoreError, "the disk reports an I/O error"),
    ("string or blob too big", RecordDamaged, "something in it is larger than SQLite takes"),
    (
        "malformed database schema",
        StoreDamaged,
        f"SQLite {sqlite3.sqlite_version} cannot read a definition in it, being too old for it, or because it is damaged",
    ),
    ("malformed", StoreDamaged, "it is damaged; run `jupyter axon doctor`"),
    (
        "file is not a database",
        StoreDamaged,
        "the file is not a database; run `jupyter axon doctor`",
    ),
)

#: What is said to a process that had a store open when a newer one migrated it.
OUTDATED = "a newer version of this package has changed its tables meanwhile; upgrade jupyter-axon-notebooks and start again"
_REFUSED = (
    "the database refuses the login; check the user, and the password in the passfile "
    "(~/.pgpass, PGPASSFILE, or ?passfile=/path in store_url)"
)
_NO_DATABASE = "there is no such database; create it first"
_NO_ROOM = "the database has no connection to spare; try again"
_LOST = "the connection to the database was lost; try again"

# The beginnings of PostgreSQL's SQLSTATEs, the error each becomes, and what helps.
_POSTGRESQL: tuple[tuple[str, type[AxonError], str], ...] = (
    ("23505", Conflict, "is already there"),
    ("23514", StoreTooNew, OUTDATED),  # the only check there is
    ("40001", Interrupted, "others changed the same at the same time; try again"),
    ("40P01", Interrupted, "two writers waited for one another; try again"),
    ("55P03", StoreBusy, "another process kept it locked; try again"),
    ("57014", StoreBusy, "a statement took longer than the database allows; try again"),
    (
        "25P03",
        Interrupted,
        "the database closed a connection that was idle for too long; try again",
    ),
    ("53300", Interrupted, _NO_ROOM),
    ("53100", NoSpace, "the database's disk is full; free some space and try again"),
    (
        "25006",
        StoreError,
        "it is read-only: the database is a standby, or default_transaction_read_only is on",
    ),
    (
        "42501",
        StoreError,
        "the database role lacks rights; have its owner grant them, or run `jupyter axon init-db` as the owner",
    ),
    ("42P01", StoreError, "its tables are gone; open the store again, or restore a backup"),
    ("54000", RecordDamaged, "something in it is longer than PostgreSQL takes"),
    ("28", StoreError, _REFUSED),
    ("3D000", StoreError, _NO_DATABASE),
    ("57P", Interrupted, "the database is being shut down or started; try again"),
    ("08", Interrupted, _LOST),
)

# What libpq says where there is no SQLSTATE: the server was not reached, or let nobody in.
_UNCONNECTED: tuple[tuple[str, type[AxonError], str], ...] = (
    (r"password|authentication|no pg_hba\.conf entry|role .* does not exist", StoreError, _REFUSED),
    (r"database .* does not exist", StoreError, _NO_DATABASE),
    (r"too many (clients|connections)|remaining connection slots", Interrupted, _NO_ROOM),
    (
        # A server that breaks off while it shakes hands is one that is being restarted.
        r"certificate|private key|does not support SSL|SSL error: (?!unexpected eof)",
        StoreError,
        "no encrypted connection to the database could be made",
    ),
    (
        r"invalid (connection option|.* value|integer)",
        StoreError,
        "a parameter in store_url is wrong",
    ),
)

#: What such a complaint quotes: hosts, users, databases and files may be called anything.
_NAMES = re.compile(r"\"[^\"]*\"|host:? '[^']*'")

#: What SQLite also says where there is no room: for its log or the log's index, or by a quota.
_VAGUE = ("unable to open database file", "disk I/O error")
#: Bytes that must find room; the log's index grows by half as many.
_ROOM = 64 * 1024


def name_failures(
    engine: sa.Engine, url: str, refusal: Callable[[str], str | None] = lambda _: None
) -> None:
    """Have ``engine`` raise this project's errors, with the store's URL, at the statement that failed.

    What else is raised between two statements, another database's errors included, is none of its business.

    Parameters
    ----------
    refusal : callable, optional
        Says why a login was refused, given what the engine said of it; None if it cannot tell.
    """
    shown = shown_url(url)

    @sa.event.listens_for(engine, "handle_error")
    def _name(context: sa.engine.ExceptionContext) -> AxonError | None:
        if isinstance(
            context.original_exception, UnicodeDecodeError
        ):  # the driver's, of what SQLite quotes
            return StoreDamaged(f"the store {shown}: it is damaged; run `jupyter axon doctor`")
        if context.sqlalchemy_exception is None:  # not the engine's, such as a KeyboardInterrupt
            return None
        error = context.original_exception
        if isinstance(error, sqlite3.Error):
            return _named_sqlite(shown, error)
        return _named_postgresql(shown, error, refusal, connected=context.connection is not None)


def _named_sqlite(url: str, error: BaseException) -> AxonError:
    said = str(error)
    if any(phrase in said for phrase in _VAGUE) and _is_full(url):
        return NoSpace(f"the store {url}: the disk is full; free some space and try again ({said})")
    for phrase, kind, advice in _SQLITE:
        if phrase in said:
            if kind is Conflict:
                return Conflict(f"{said.removeprefix('UNIQUE constraint failed: ')} {advice}")
            return kind(f"the store {url}: {advice} ({said})")
    return StoreError(f"the store {url} failed: {said}")


def _named_postgresql(
    url: str, error: BaseException, refusal: Callable[[str], str | None], *, connected: bool
) -> AxonError:
    state = getattr(error, "sqlstate", None) or ""
    said = _in_a_line(str(error))
    if state == "42501" and _is_policy(error):
        return ForeignRecord(
            f"the store {url}: it keeps users apart, and this is another's ({said})"
        )
    for beginning, kind, advice in _POSTGRESQL:
        if state.startswith(beginning):
            if kind is Conflict:
                return Conflict(f"{_clashing(error)} {advice}")
            return kind(f"the store {url}: {advice} ({said})")
    if state:
        return StoreError(f"the store {url} failed: {said}")
    if connected:
        # libpq has no code for a connection that broke; what else has none is the driver's.
        lost = type(error).__name__ == "OperationalError"
        return (
            Interrupted(f"the store {url}: {_LOST} ({said})")
            if lost
            else StoreError(f"the store {url} failed: {said}")
        )
    reason = _NAMES.sub("", said)
    for pattern, kind, advice in _UNCONNECTED:
        if re.search(pattern, reason):
            if advice is _REFUSED and (why := refusal(reason)) is not None:
                advice = f"the database refuses the login; {why}"
            return kind(f"the store {url}: {advice} ({said})")
    return Interrupted(f"the store {url}: the database cannot be reached ({said})")


def _is_policy(error: BaseException) -> bool:
    """Whether row-level security refused a row. What it says of that depends on the server's language."""
    return getattr(getattr(error, "diag", None), "source_function", None) == "ExecWithCheckOptions"


def _in_a_line(said: str) -> str:
    return " ".join(said.split())


# The columns of each constraint that a document can break, by the name that PostgreSQL has for it.
_UNIQUE: Mapping[str, tuple[str, ...]] = {
    **{"_".join(("uq", c.name, *names)): names for c in COLLECTIONS for names in c.unique},
    **{f"{c.name}_id_key": ("id",) for c in COLLECTIONS},
}


def _clashing(error: BaseException) -> str:
    """``table.column, table.column`` of what has to be unique, as SQLite names it."""
    diagnosis = getattr(error, "diag", None)
    table = getattr(diagnosis, "table_name", None) or "the store"
    detail = getattr(diagnosis, "message_detail", None) or ""
    if (
        not detail
    ):  # as where row-level security applies: a row that clashes might be another user's
        broken = _UNIQUE.get(getattr(diagnosis, "constraint_name", None) or "", ())
        return ", ".join(f"{table}.{column}" for column in broken) or str(table)
    # As in: Key (origin, lower(path))=(…) already exists. Of each expression, the column in it.
    found = re.search(r"\((.*?)\)=\(", detail, re.DOTALL)
    expressions = re.split(r",\s*(?![^(]*\))", found[1]) if found else []
    columns = [name[0] for text in expressions if (name := re.search(r"\b[a-z_]+\b(?!\()", text))]
    return ", ".join(f"{table}.{column}" for column in columns) or str(table)


def _is_full(url: str) -> bool:
    """Whether the folder of a store takes no more, which is tried out: quotas are known to nobody else."""
    path = file_of(url)
    if path is None:
        return False
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
