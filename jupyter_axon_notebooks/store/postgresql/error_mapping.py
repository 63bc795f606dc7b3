"""Translation of PostgreSQL's errors into errors of this project."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...errors import (
    AxonError,
    Conflict,
    NoSpace,
    RecordDamaged,
    StoreBusy,
    StoreError,
    StoreTooNew,
)
from ..error_mapping import OUTDATED, ForeignRecord, Interrupted
from ..schema import COLLECTIONS

_REFUSED = (
    "the database refuses the login; check the user, and the password in the passfile "
    "(~/.pgpass, PGPASSFILE, or ?passfile=/path in store_url)"
)
_NO_DATABASE = "the database does not exist; create it first"
_NO_CONNECTION = "the database has no free connection; try again"
_LOST = "the connection to the database was lost; try again"
_READ_ONLY = "it is read-only: the database is a standby, or default_transaction_read_only is on"
_NO_RIGHTS = (
    "the database role lacks rights; have its owner grant them, or run `jupyter axon init-db` as "
    "the owner"
)

# The beginning of an SQLSTATE, the error that it becomes, and the explanation.
_ERRORS: tuple[tuple[str, type[AxonError], str], ...] = (
    ("23514", StoreTooNew, OUTDATED),  # the only check constraint, see `engine`
    ("40", Interrupted, "another transaction changed the same rows; try again"),
    ("55P03", StoreBusy, "it is locked by another process; try again"),
    ("57014", StoreBusy, "a statement took longer than the database allows; try again"),
    ("25P03", Interrupted, "the database closed an idle connection; try again"),
    ("53300", Interrupted, _NO_CONNECTION),
    ("53100", NoSpace, "the disk of the database is full; free some space and try again"),
    ("25006", StoreError, _READ_ONLY),
    ("42501", StoreError, _NO_RIGHTS),
    ("42P01", StoreError, "its tables are missing; open the store again, or restore a backup"),
    ("54000", RecordDamaged, "a value is larger than PostgreSQL supports"),
    ("28", StoreError, _REFUSED),
    ("3D000", StoreError, _NO_DATABASE),
    ("57P", Interrupted, "the database is being stopped or started; try again"),
    ("08", Interrupted, _LOST),
)

# Patterns of libpq's messages when no connection was made, which have no SQLSTATE.
_CONNECTION_ERRORS: tuple[tuple[str, type[AxonError], str], ...] = (
    (r"password|authentication|no pg_hba\.conf entry|role .* does not exist", StoreError, _REFUSED),
    (r"database .* does not exist", StoreError, _NO_DATABASE),
    (r"too many (clients|connections)|remaining connection slots", Interrupted, _NO_CONNECTION),
    (
        # "unexpected eof" means that the server is being restarted.
        r"certificate|private key|does not support SSL|SSL error: (?!unexpected eof)",
        StoreError,
        "no encrypted connection to the database could be made",
    ),
    (
        r"invalid (connection option|.* value|integer)",
        StoreError,
        "a parameter in store_url is invalid",
    ),
)

#: Names in these messages. They are removed before the search, since they may match a pattern.
_NAMES = re.compile(r"\"[^\"]*\"|host:? '[^']*'")

# The columns of each unique constraint, by PostgreSQL's name of it.
_UNIQUE: Mapping[str, tuple[str, ...]] = {
    **{"_".join(("uq", c.name, *names)): names for c in COLLECTIONS for names in c.unique},
    **{f"{c.name}_id_key": ("id",) for c in COLLECTIONS},
}


def translate_error(
    url: str,
    error: BaseException,
    *,
    connected: bool,
    explain_refusal: Callable[[str], str | None] = lambda _: None,
) -> AxonError:
    """Return the error to raise for an error of the driver.

    ``connected`` tells whether a connection had been made before. ``explain_refusal`` returns why a
    login was refused, given libpq's message; None if unknown.
    """
    state = getattr(error, "sqlstate", None) or ""
    message = " ".join(str(error).split())
    failed = StoreError(f"the store {url}: PostgreSQL failed ({message})")
    if state == "23505":
        return Conflict(f"{_violated_columns(error)} exists already")
    if state == "42501" and _is_policy_violation(error):
        return ForeignRecord(
            f"the store {url}: it separates users, and the record belongs to another ({message})"
        )
    for prefix, kind, explanation in _ERRORS:
        if state.startswith(prefix):
            return kind(f"the store {url}: {explanation} ({message})")
    if state:
        return failed
    if connected:
        # libpq has no SQLSTATE for lost connections. Other errors without one are the driver's.
        is_lost = type(error).__name__ == "OperationalError"
        return Interrupted(f"the store {url}: {_LOST} ({message})") if is_lost else failed
    reason = _NAMES.sub("", message)
    for pattern, kind, explanation in _CONNECTION_ERRORS:
        if re.search(pattern, reason):
            if explanation is _REFUSED and (why := explain_refusal(reason)) is not None:
                explanation = f"the database refuses the login; {why}"
            return kind(f"the store {url}: {explanation} ({message})")
    return Interrupted(f"the store {url}: the database cannot be reached ({message})")


def _is_policy_violation(error: BaseException) -> bool:
    # The message depends on the language of the server.
    return getattr(getattr(error, "diag", None), "source_function", None) == "ExecWithCheckOptions"


def _violated_columns(error: BaseException) -> str:
    """Return ``table.column, table.column`` of a violated unique constraint, as SQLite does."""
    diagnosis = getattr(error, "diag", None)
    table = getattr(diagnosis, "table_name", None) or "the store"
    columns = _UNIQUE.get(getattr(diagnosis, "constraint_name", None) or "", ("id",))
    return ", ".join(f"{table}.{column}" for column in columns)
