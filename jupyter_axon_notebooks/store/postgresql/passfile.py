"""Passfiles of libpq, PostgreSQL's client library.

libpq does not report that it ignores a passfile: the login fails as if there were no password. This
module implements the rules of libpq, to tell which file it used and why it ignored it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ...errors import StoreError
from ...userfiles import read_regular

#: Bytes above which a file is not read as a passfile.
_MAX_SIZE = 1 << 20
_DEFAULT = "the default"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_USE_OWN_FILE = "use the file that `jupyter axon init-db` wrote"


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

    def matches(self, wanted: PassLine) -> bool:
        """Return whether libpq uses this line for the host, port, database and role ``wanted``."""
        return all(own in ("*", value) for own, value in zip(self[:4], wanted[:4], strict=True))


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

    def __str__(self) -> str:
        """Return both as one clause."""
        return f"{self.why}: {self.do}"


def pass_lines(url: sa.URL, role: str, password: str) -> str:
    """Return the lines of a passfile with which ``role`` can log in at ``url``."""
    lines = _lines_for(_arguments(url), role, password, socket_as_localhost=True)
    return "".join(f"{line}\n" for line in lines)


def parse_lines(text: str) -> list[PassLine]:
    """Return the lines of a passfile, without comments and invalid lines."""
    return [line for text in text.splitlines() if (line := _parse_line(text)) is not None]


def read_lines(path: Path) -> list[PassLine]:
    """Return the lines of the passfile at ``path``; raises OSError if it cannot be read."""
    return parse_lines(read_regular(path, _MAX_SIZE).decode("utf-8", "surrogateescape"))


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
    name = shlex.quote(str(path))
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Fault(
            "there is no such file", "copy the file that `jupyter axon init-db` wrote to this path"
        )
    except OSError as error:
        return Fault(
            f"it cannot be accessed ({error.strerror})",
            "move it to a folder that this user can read",
        )
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "special file"
        return Fault(f"it is a {kind}, not a regular file", _USE_OWN_FILE)
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & _OTHERS:
        return Fault(
            f"other users may read or write it (mode {mode:04o})", f"run `chmod 600 {name}`"
        )
    if not os.access(path, os.R_OK):
        return Fault(
            f"this user may not read it (it belongs to {_owner(status)}, mode {mode:04o})",
            f"ask its owner to make it a file of this user (`chown`), and run `chmod 600 {name}`",
        )
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


def check_can_be_opened(url: sa.URL) -> None:
    """Raise StoreError for a passfile that libpq would wait for forever, such as a pipe."""
    passfile = find_passfile(url)
    with suppress(OSError):
        mode = os.stat(passfile.path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise StoreError(f"{passfile} is not a regular file: {_USE_OWN_FILE}")


def find_line(url: sa.URL, path: Path) -> PassLine | None:
    """Return the line that libpq uses for ``url``; raises OSError as :func:`read_lines` does."""
    wanted = _wanted_lines(_arguments(url))
    # For its default folder of sockets libpq looks for localhost, but the default is unknown here.
    local = [line._replace(host="localhost") for line in wanted if line.host.startswith("/")]
    return next((line for line in read_lines(path) if any(map(line.matches, wanted + local))), None)


def explain_refusal(url: sa.URL, message: str) -> str | None:
    """Return why the passfile did not help when a password was needed; None if unknown.

    ``message`` is libpq's error message.
    """
    if "password" not in message.replace("password file", ""):
        return None
    arguments = _arguments(url)
    if os.environ.get("PGPASSWORD"):
        return "it rejects the password in PGPASSWORD, which takes precedence over passfiles"
    if "service" in arguments or os.environ.get(
        "PGSERVICE"
    ):  # a service may set hosts and password
        return None
    passfile = find_passfile(url)
    if (fault := find_fault(passfile.path)) is not None:
        return f"{passfile} is ignored because {fault}"
    wanted = _wanted_lines(arguments)
    if "no password supplied" in message:
        places = ", ".join(":".join(line[:4]) for line in wanted)
        return f"{passfile} has no line for {places} (host:port:database:role)"
    role = wanted[0].role
    return (
        f"it rejects the password that {passfile} has for {role}; as the owner of the database, "
        f"run `jupyter axon init-db --rotate {shlex.quote(role)} --passfiles FOLDER` for a new one"
    )


def _arguments(url: sa.URL) -> dict[str, str]:
    dialect = url.set(drivername="postgresql+psycopg").get_dialect()()
    return {name: str(value) for name, value in dialect.create_connect_args(url)[1].items()}


def _wanted_lines(arguments: dict[str, str]) -> list[PassLine]:
    """Return the lines that libpq looks for in a passfile, one for each host."""
    from psycopg.pq import Conninfo  # optional

    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val
    }
    merged = {**defaults, **arguments}
    merged.setdefault("dbname", merged.get("user", ""))
    merged.setdefault("host", merged.get("hostaddr") or "localhost")
    return list(_lines_for(merged, None, "", socket_as_localhost=False))


def _lines_for(
    arguments: dict[str, str], role: str | None, password: str, *, socket_as_localhost: bool
) -> Iterator[PassLine]:
    """Return a line for each host, and for localhost where a host is a folder for sockets."""
    hosts = (arguments.get("host") or arguments.get("hostaddr") or "*").split(",")
    ports = arguments.get("port", "").split(",")
    if len(ports) == 1:  # one port for all hosts
        ports *= len(hosts)
    database, name = arguments.get("dbname") or "*", role or arguments.get("user", "")
    places: dict[tuple[str, str], None] = {}
    for host, port in zip(hosts, ports, strict=True):
        places[host or "localhost", port or "*"] = None
        if socket_as_localhost and host.startswith(("/", "@")):
            places["localhost", port or "*"] = None
    return (PassLine(host, port, database, name, password) for host, port in places)


def _parse_line(text: str) -> PassLine | None:
    if text.startswith("#"):
        return None
    fields, escaped = [""], False
    for character in text:
        if escaped or character not in "\\:":
            fields[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            fields.append("")
    if len(fields) < len(PassLine._fields):
        return None
    host, port, database, role, *password = fields
    return PassLine(host, port, database, role, ":".join(password))


def _owner(status: os.stat_result) -> str:
    try:
        import pwd

        return pwd.getpwuid(status.st_uid).pw_name
    except (ImportError, KeyError):
        return f"uid {status.st_uid}"
