"""What is wrong with the file of a store: what counts as damage, and what does not.

SQLite says of the file that it is malformed or no database, or its own check finds a fault. A lock, a permission, an I/O
error, a schema that is too new, and whatever is wrong only with a table or a view that somebody else has put there: none
of them is damage. Up to :data:`CHECKED_WHOLE` bytes the whole file is looked at; of a larger one only what opening reads,
and what is broken elsewhere is named when it is met.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..userfiles import NotRegular, open_regular, read_data
from .files import LOGS, beside, check_files, size
from .schema import SCHEMA_VERSION

#: Bytes up to which a file is checked whole when it is opened: 1 ms a MiB where it is in memory.
CHECKED_WHOLE = 64 * 1024 * 1024
#: What stands in every store's table of tables, and in no text file along with a NUL.
_MARKS = (
    b"CREATE TABLE axon_properties",
    b"CREATE TABLE axonml_",
    b"INDEX ix_axonml_",
    b"INDEX uq_axonml_",
)
_NAME = r"(?:(?:ix|uq|sqlite_autoindex)_)?axon(?:ml)?_"
#: A fault in the rows of a table or the entries of an index of ours, and a definition not ours that does not parse.
_OF_OURS = re.compile(rf"\b(?:in|for|index|table) {_NAME}")
_FOREIGN_DEFINITION = re.compile(
    rf"malformed database schema \((?!{_NAME}).*\) - (?!orphan index|invalid rootpage)"
)
#: SQLITE_CORRUPT and SQLITE_NOTADB: the page was read, and is wrong.
_WRONG_CONTENT = (11, 26)
#: Seconds to wait for those who have the file to themselves.
_PATIENCE = 5.0


def find_fault(path: Path) -> str | None:
    """What is wrong with the store in the file ``path``; None for a sound one, for none, and where it cannot be told."""
    fault = _find_fault(path)
    # SQLite calls it malformed, too, where it knew of a page and could not have it.
    return fault if fault is not None and _can_be_read(path) else None


def _can_be_read(path: Path) -> bool:
    for file in (path, *(beside(path, suffix) for suffix in LOGS)):
        try:
            with open_regular(file) as content:
                for _ in read_data(content):
                    pass
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _find_fault(path: Path) -> str | None:
    try:
        length = path.stat().st_size
    except OSError as error:
        length = 0 if error.errno == errno.ENOENT else -1
    if length == 0 and size(beside(path, "-wal")) > 0:
        return "the file is missing or empty, while the log beside it is not"
    if length <= 0:
        return None
    if length < 512:
        return "the file is not a database"
    try:
        check_files(path)
    except NotRegular:
        return None  # which opening it tells
    try:
        with looking(path) as connection:
            return _fault(connection, length)
    except UnicodeDecodeError:  # in a message that quotes the schema
        return "malformed database schema"
    except sqlite3.Error as error:
        return _as_damage(error)


def _fault(connection: sqlite3.Connection, length: int) -> str | None:
    # A schema that this SQLite cannot parse may be a newer package's; then at least the version can be read.
    connection.execute("PRAGMA writable_schema=ON")
    try:
        row = connection.execute(
            "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        ).fetchone()
        if row is not None and str(row[0]).isdecimal() and int(row[0]) > SCHEMA_VERSION:
            return None
    except sqlite3.Error as error:
        if "no such" not in str(error):
            return _as_damage(error)
    connection.execute("PRAGMA writable_schema=RESET")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if length > CHECKED_WHOLE:
        return None
    reports = [
        report for (report,) in connection.execute("PRAGMA quick_check") if is_damage(report)
    ]
    return " ".join(" ".join(reports[0].splitlines()[:2]).split()) if reports else None


def is_damage(report: str) -> bool:
    """Whether SQLite's own check says that the file, or a table of ours, is not what was written."""
    # Where a page could not be had the check goes on and reports that; what it then finds missing may be there.
    if any(
        int(code) & 0xFF not in _WRONG_CONTENT
        for code in re.findall(r"error code[ =](\d+)", report)
    ):
        return False
    return report.startswith("*** in database") or _OF_OURS.search(report) is not None


def _as_damage(error: sqlite3.Error) -> str | None:
    """What SQLite says, if it says that the content is wrong; None for what only keeps it from reading."""
    said = str(error)
    if _FOREIGN_DEFINITION.match(said):
        return None  # for this SQLite; it may be too old for what was put there
    return said if "malformed" in said or "file is not a database" in said else None


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read, to a file that may be damaged and that others may be at work on."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
    connection.text_factory = _lenient
    with closing(connection):
        yield connection


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def was_ours(path: Path) -> bool:
    """Whether the file, or a log beside it, has the definition of one of our tables in it, and is no text."""
    return any(_has_marks(file) for file in (path, *(beside(path, suffix) for suffix in LOGS)))


def _has_marks(path: Path) -> bool:
    marked = binary = False
    overlap = max(map(len, _MARKS))
    try:
        with open_regular(path) as file:
            before = b""
            for more in read_data(file):
                piece = before + more
                marked = marked or any(mark in piece for mark in _MARKS)
                binary = binary or b"\0" in piece
                if marked and binary:
                    break
                before = piece[-overlap:]
    except OSError:
        return False
    return marked and binary
