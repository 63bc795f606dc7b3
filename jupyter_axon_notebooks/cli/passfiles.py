"""The passfiles that ``init-db`` writes: ``ROLE.pgpass`` for each role, in one folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from ..atomic_files import flush_folder, locked_folder, write_atomic
from ..errors import NotFound
from ..records import new_id
from ..store.postgresql.passfile import find_line, parse_lines, pass_lines, read_lines
from ..store.postgresql.removal import roles_named
from ..store.postgresql.roles import Separation, new_password

#: Seconds to wait for a connection that tests a password.
_TIMEOUT = 10


class Passfiles:
    """New passwords, and the files with them.

    Called in the transaction that sets the passwords, once for each attempt. The files are written
    as drafts before the commit, so that no password can be set and lost, and replace older files
    after it.

    Parameters
    ----------
    rotated : sequence of str
        The users, or roles, that get a new password although they have one; an empty text stands
        for all of them.
    """

    def __init__(self, folder: Path, url: str, rotated: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._url = sa.make_url(url)
        self._rotated = rotated
        self._passwords: dict[str, str] = {}
        self._drafts: dict[str, Path] = {}

    def path(self, role: str) -> Path:
        """Return the path of a role's passfile."""
        return self.folder / f"{quote(role, safe=' ')}.pgpass"

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder, so that files and passwords of two rotations match."""
        return locked_folder(self.folder)

    def __call__(self, separation: Separation) -> Mapping[str, str]:
        """Write drafts for new roles and for those to rotate, and return their passwords."""
        names = list(dict.fromkeys([*separation.created, *self._roles_to_rotate(separation)]))
        self._passwords = {name: self._passwords.get(name) or new_password() for name in names}
        for name in names:
            self._write_draft(name)
        return self._passwords

    def _roles_to_rotate(self, separation: Separation) -> list[str]:
        existing = [role for role in separation.roles if role.name not in separation.missing]
        if "" in self._rotated:
            return [role.name for role in existing]
        found = []
        for name in self._rotated:
            roles = roles_named(existing, name)
            if not roles:
                message = f"--rotate {name}: there is no role for this user; nothing was changed"
                raise NotFound("user", name, message)
            found += [role.name for role in roles]
        return found

    def _write_draft(self, role: str) -> None:
        file = self.path(role)
        text = pass_lines(self._url, role, self._passwords[role])
        replaced = {line[:4] for line in parse_lines(text)}
        with suppress(FileNotFoundError):  # keep the lines for other databases and roles
            text += "".join(f"{one}\n" for one in read_lines(file) if one[:4] not in replaced)
        draft = self._drafts.setdefault(role, self.folder / f".{file.name}.{new_id()}")
        write_atomic(draft, text.encode())
        with suppress(OSError):  # a hub gives the file to its user
            before = os.stat(file)
            os.chown(draft, before.st_uid, before.st_gid)

    def publish(self) -> dict[str, Path]:
        """Replace the files by their drafts, after the passwords were set; return them by role."""
        for role, draft in self._drafts.items():
            os.replace(draft, self.path(role))
        flush_folder(self.folder)
        return {role: self.path(role) for role in self._drafts}

    def discard(self) -> None:
        """Remove the drafts, because the passwords were not set."""
        for draft in self._drafts.values():
            draft.unlink(missing_ok=True)

    def keep(self) -> dict[str, Path]:
        """Keep the drafts, since the passwords may have been set; return them by role."""
        kept = {}
        for role, draft in self._drafts.items():
            if draft.exists():
                kept[role] = draft
                if not self.path(role).exists():
                    kept[role] = draft.rename(self.path(role))
        return kept

    def find_problems(self, roles: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return messages about missing and about wrong passfiles of existing roles."""
        missing, wrong = [], []
        for role in roles:
            file = self.path(role)
            remedy = (
                f"If there is no other copy, --rotate {role} sets a new password and "
                f"writes it there."
            )
            if not file.exists():
                missing.append(
                    f"The role {role} existed and keeps its password, but its passfile {file} "
                    f"is missing. {remedy}"
                )
            elif (problem := self._find_problem(role, file)) is not None:
                wrong.append(f"The passfile {file} {problem}. {remedy}")
        return missing, wrong

    def _find_problem(self, role: str, file: Path) -> str | None:
        import psycopg

        url = self._url.set(drivername="postgresql+psycopg", username=role)
        try:
            line = find_line(url, file)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        if line is None:
            return f"has no line for {role} in this database"
        arguments = url.get_dialect()().create_connect_args(url)[1]
        login = {**arguments, "password": line.password, "connect_timeout": _TIMEOUT}
        try:
            psycopg.connect(**login).close()
        except psycopg.OperationalError as error:
            # Other errors, such as a server that admits the role from other hosts only, say nothing
            # about the file.
            if "password authentication failed" in str(error):
                return f"has a password that the database does not accept for {role}"
        return None
