"""Passfiles of PostgreSQL's client library: their lines, and why a login does not use one.

libpq says nothing to its caller when it ignores a passfile: the login is refused as if no password had been given.
So the rules of libpq are applied here again, to say which file it looked at and what is wrong with it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ...errors import StoreError
from ...userfiles import read_regular

#: Bytes beyond which a file is not read as a passfile.
_LONGEST = 1 << 20
_NO_FILE = "is not a regular file"
_DEFAULT = "the default"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PassLine(NamedTuple):
    """A line of a passfile; ``*`` as a host, port, database or role stands for any."""

    host: str
    port: str
    database: str
    role: str
    password: str

    def __str__(self) -> str:
        """The line as a passfile has it."""
        return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in self)

    def fits(self, other: PassLine) -> bool:
        """Whether libpq takes this line for the host, port, database and role of ``other``."""
        return all(mine in ("*", theirs) for mine, theirs in zip(self[:4], other[:4], strict=True))


class Passfile(NamedTuple):
    """A passfile, and what named it: ``PGPASSFILE``, for example."""

    path: Path
    named_by: str

    def __str__(self) -> str:
        """How messages name it."""
        return f"the passfile {self.path} ({self.named_by})"


class Fault(NamedTuple):
    """Why libpq ignores a passfile, and what to do."""

    why: str
    do: str

    def __str__(self) -> str:
        """As a sentence continues and the next begins."""
        return f"{self.why}: {self.do}"


def pass_lines(url: sa.URL, role: str, password: str) -> str:
    """Return the lines of a passfile that let ``role`` into the database at ``url``, and into no other if it is named."""
    lines = _lines_for(_arguments(url), role, password, socket_as_localhost=True)
    return "".join(f"{line}\n" for line in lines)


def parse_lines(text: str) -> list[PassLine]:
    """Return the lines in the text of a passfile, without comments and what libpq passes over."""
    return [line for text in text.splitlines() if (line := _parsed(text)) is not None]


def read_lines(path: Path) -> list[PassLine]:
    """Return the lines of a passfile; raises OSError when it cannot be read."""
    return parse_lines(read_regular(path, _LONGEST).decode("utf-8", "surrogateescape"))


def passfile_of(url: sa.URL) -> Passfile:
    """Return the passfile that libpq looks at for ``url``, whether or not it is there."""
    if named := _arguments(url).get("passfile"):
        return Passfile(Path(os.path.abspath(named)), "passfile= in store_url")
    if named := os.environ.get("PGPASSFILE"):
        return Passfile(Path(os.path.abspath(named)), "PGPASSFILE")
    if os.name == "nt":
        return Passfile(Path(os.environ.get("APPDATA", ""), "postgresql", "pgpass.conf"), _DEFAULT)
    return Passfile(Path(os.path.expanduser("~/.pgpass")), _DEFAULT)


def find_fault(path: Path) -> Fault | None:
    """Return why libpq ignores the passfile at ``path``, and what to do; None if it reads it."""
    name = shlex.quote(str(path))
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Fault(
            "there is no such file", "put the file there that `jupyter axon init-db` wrote"
        )
    except OSError as error:
        return Fault(
            f"it cannot be reached ({error.strerror})", "put it where this user can read it"
        )
    if not stat.S_ISREG(found.st_mode):
        kind = "is a folder" if stat.S_ISDIR(found.st_mode) else _NO_FILE
        return Fault(f"it {kind}", "name the file that `jupyter axon init-db` wrote")
    mode = stat.S_IMODE(found.st_mode)
    if os.name == "posix" and mode & _OTHERS:
        return Fault(f"others may read or write it (mode {mode:04o})", f"run `chmod 600 {name}`")
    if not os.access(path, os.R_OK):
        reason = f"this user may not read it (it belongs to {_owner(found)}, mode {mode:04o})"
        return Fault(
            reason, f"have its owner give it to this user, with `chown` and `chmod 600 {name}`"
        )
    return None


def find_ignored(url: sa.URL) -> tuple[Passfile, Fault] | None:
    """Return the passfile for ``url`` and why it is ignored; None if it is read, or is none that anybody named or made."""
    passfile = passfile_of(url)
    fault = find_fault(passfile.path)
    if fault is None or (passfile.named_by == _DEFAULT and not os.path.lexists(passfile.path)):
        return None
    return passfile, fault


def check_can_be_opened(url: sa.URL) -> None:
    """Check that libpq does not wait for ever when it opens the passfile for ``url``; raises StoreError where it does."""
    passfile = passfile_of(url)
    with suppress(OSError):
        mode = os.stat(passfile.path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise StoreError(
                f"{passfile} {_NO_FILE}: name the file that `jupyter axon init-db` wrote"
            )


def find_line(url: sa.URL, path: Path) -> PassLine | None:
    """Return the line of the passfile at ``path`` that libpq takes for ``url``; raises OSError as :func:`read_lines`."""
    asked = [alike for one in _wanted(_arguments(url)) for alike in _alike(one)]
    return next((line for line in read_lines(path) if any(map(line.fits, asked))), None)


def explain_refusal(url: sa.URL, said: str) -> str | None:
    """Return why the passfile did not help where a database asked for a password; None if it cannot be told.

    Parameters
    ----------
    said : str
        What libpq said of the refused login.
    """
    if "password" not in said.replace("password file", ""):
        return None
    arguments = _arguments(url)
    if os.environ.get("PGPASSWORD"):
        return (
            "it does not accept the password in PGPASSWORD, which takes precedence over passfiles"
        )
    if "service" in arguments or os.environ.get(
        "PGSERVICE"
    ):  # which may name hosts and passwords of its own
        return None
    passfile = passfile_of(url)
    if (fault := find_fault(passfile.path)) is not None:
        return f"{passfile} is ignored because {fault}"
    asked = _wanted(arguments)
    if "no password supplied" in said:
        places = ", ".join(":".join(one[:4]) for one in asked)
        return f"{passfile} has no line that fits {places} (host:port:database:role)"
    role = shlex.quote(asked[0].role)
    return (
        f"it does not accept the password that {passfile} has for {asked[0].role}; as the owner of the database, "
        f"`jupyter axon init-db --rotate {role} --passfiles FOLDER` makes a new one"
    )


def _arguments(url: sa.URL) -> dict[str, str]:
    given = url.set(drivername="postgresql+psycopg").get_dialect()().create_connect_args(url)[1]
    return {name: str(value) for name, value in given.items()}


def _defaulted(arguments: dict[str, str]) -> dict[str, str]:
    """``arguments`` with what libpq adds to them: from the environment, and the name of the login."""
    from psycopg.pq import Conninfo  # an extra

    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val
    }
    merged = {**defaults, **arguments}
    merged.setdefault("dbname", merged.get("user", ""))
    merged.setdefault("host", merged.get("hostaddr") or "localhost")
    return merged


def _lines_for(
    arguments: dict[str, str], role: str | None, password: str, *, socket_as_localhost: bool
) -> Iterator[PassLine]:
    """One line for each host in ``arguments``, and one more where libpq may call a socket's folder localhost."""
    hosts = (arguments.get("host") or arguments.get("hostaddr") or "*").split(",")
    ports = arguments.get("port", "").split(",")
    if len(ports) == 1:  # is that of each host
        ports *= len(hosts)
    database, name = arguments.get("dbname") or "*", role or arguments.get("user", "")
    places: dict[tuple[str, str], None] = {}
    for host, port in zip(hosts, ports, strict=True):
        places[host or "localhost", port or "*"] = None
        if socket_as_localhost and host.startswith(("/", "@")):
            places["localhost", port or "*"] = None
    return (PassLine(host, port, database, name, password) for host, port in places)


def _wanted(arguments: dict[str, str]) -> list[PassLine]:
    """What libpq looks for in a passfile, for each host."""
    return list(_lines_for(_defaulted(arguments), None, "", socket_as_localhost=False))


def _alike(line: PassLine) -> Iterable[PassLine]:
    """``line``, and how libpq may name it: which folder of a socket is its default depends on how it was built."""
    return (line, line._replace(host="localhost")) if line.host.startswith("/") else (line,)


def _parsed(text: str) -> PassLine | None:
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


def _owner(found: os.stat_result) -> str:
    try:
        import pwd

        return pwd.getpwuid(found.st_uid).pw_name
    except (ImportError, KeyError):
        return f"uid {found.st_uid}"
