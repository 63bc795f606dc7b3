"""Passfiles of libpq, PostgreSQL's client library.

libpq does not report that it ignores a passfile: the login fails as if there were no password. This
module tells which file it used and why it ignored it.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ...userfiles import read_regular

#: Bytes above which a file is not read as a passfile.
_MAX_SIZE = 1 << 20
_DEFAULT = "the default"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LINE = re.compile(":".join([r"((?:[^\\:]|\\.)*)"] * 4 + ["(.*)"]))


class PassLine(NamedTuple):
    """A line of a passfile; ``*`` as a host, port, database or role matches any."""

    host: str
    port: str
    database: str
    role: str
    password: str

    def __str__(self) -> str:
        """Return the line as it is written in a passfile."""
        return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in self)


class Passfile(NamedTuple):
    """A passfile, and the setting with its path, such as ``PGPASSFILE``."""

    path: Path
    named_by: str

    def __str__(self) -> str:
        """Return the name for messages."""
        return f"the passfile {self.path} ({self.named_by})"


class Fault(NamedTuple):
    """The reason why libpq ignores a passfile, and what to do."""

    why: str
    do: str


def pass_lines(url: sa.URL, role: str, password: str) -> list[PassLine]:
    """Return the lines of a passfile with which ``role`` can log in at ``url``.

    There is one for each host, and for localhost where a host is a folder for sockets.
    """
    arguments = _arguments(url)
    hosts = (arguments.get("host") or arguments.get("hostaddr") or "*").split(",")
    ports = arguments.get("port", "").split(",")
    if len(ports) == 1:  # one port for all hosts
        ports *= len(hosts)
    lines: dict[PassLine, None] = {}
    for host, port in zip(hosts, ports, strict=True):
        names = (host, "localhost") if host.startswith(("/", "@")) else (host or "localhost",)
        for name in names:
            line = PassLine(name, port or "*", arguments.get("dbname") or "*", role, password)
            lines[line] = None
    return list(lines)


def read_lines(path: Path) -> list[PassLine]:
    """Return the lines of a passfile without comments and invalid lines; raises OSError."""
    text = read_regular(path, _MAX_SIZE).decode("utf-8", "surrogateescape")
    found = (_LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    return [
        PassLine(*(re.sub(r"\\(.)", r"\1", field) for field in match.groups()))
        for match in found
        if match is not None
    ]


def find_passfile(url: sa.URL) -> Passfile:
    """Return the passfile that libpq looks for with ``url``, whether or not it exists."""
    if path := _arguments(url).get("passfile"):
        return Passfile(Path(os.path.abspath(path)), "passfile= in store_url")
    if path := os.environ.get("PGPASSFILE"):
        return Passfile(Path(os.path.abspath(path)), "PGPASSFILE")
    if os.name == "nt":
        return Passfile(Path(os.environ.get("APPDATA", ""), "postgresql", "pgpass.conf"), _DEFAULT)
    return Passfile(Path(os.path.expanduser("~/.pgpass")), _DEFAULT)


def find_fault(path: Path) -> Fault | None:
    """Return why libpq ignores the passfile at ``path``; None if it reads it."""
    use_own = "use the file that `jupyter axon init-db` wrote"
    try:
        status = os.stat(path)
    except OSError as error:
        return Fault(f"it cannot be accessed ({error.strerror})", use_own)
    if not stat.S_ISREG(status.st_mode):
        return Fault("it is not a regular file", use_own)
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & _OTHERS:
        why = f"other users may read or write it (mode {mode:04o})"
        return Fault(why, f"run `chmod 600 {shlex.quote(str(path))}`")
    if not os.access(path, os.R_OK):
        return Fault("this user may not read it", "make this user its owner (`chown`)")
    return None


def find_ignored(url: sa.URL) -> tuple[Passfile, Fault] | None:
    """Return the passfile for ``url``, and why libpq ignores it.

    None if libpq reads it, or if it is the default file and does not exist.
    """
    passfile = find_passfile(url)
    fault = find_fault(passfile.path)
    if fault is None or (passfile.named_by == _DEFAULT and not os.path.lexists(passfile.path)):
        return None
    return passfile, fault


def explain_refusal(url: sa.URL, message: str) -> str | None:
    """Return why the passfile did not help when a password was needed; None if unknown.

    ``message`` is libpq's error message.
    """
    if "password" not in message.replace("password file", "") or os.environ.get("PGPASSWORD"):
        return None
    passfile = find_passfile(url)
    if (fault := find_fault(passfile.path)) is not None:
        return f"{passfile} is ignored because {fault.why}: {fault.do}"
    if "no password supplied" in message:
        return f"{passfile} has no line for this host, port, database and role"
    return (
        f"it rejects the password in {passfile}; as the owner of the database, run "
        "`jupyter axon init-db --rotate USER --passfiles FOLDER` for a new one"
    )


def _arguments(url: sa.URL) -> dict[str, str]:
    dialect = url.set(drivername="postgresql+psycopg").get_dialect()()
    return {name: str(value) for name, value in dialect.create_connect_args(url)[1].items()}
