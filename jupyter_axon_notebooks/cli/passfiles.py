"""The passfiles that ``init-db`` writes, one for each role: in a folder, as ``ROLE.pgpass``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from ..atomic_files import flush_folder, lock, write_atomic
from ..errors import NotFound
from ..records import new_id
from ..store.postgresql.passfile import find_line, parse_lines, pass_lines, read_lines
from ..store.postgresql.removal import roles_named
from ..store.postgresql.roles import Separation, new_password

#: Seconds to wait for a database that is asked whether it accepts a password.
_PATIENCE = 10


class Passfiles:
    """New passwords, and the files that tell them.

    Called in the transaction that sets the passwords, once for each attempt. A password that is set and known to nobody
    would be worse than a useless file, so the files are written before the commit: as drafts, which take the place of
    older files once the commit is done.

    Parameters
    ----------
    rotated : sequence of str
        The users, or roles, that get a new password though they have one; an empty text stands for all of them.
    """

    def __init__(self, folder: Path, url: str, rotated: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._url = sa.make_url(url)
        self._rotated = rotated
        self._passwords: dict[str, str] = {}
        self._drafts: dict[str, Path] = {}

    def file(self, role: str) -> Path:
        """The passfile of a role."""
        return self.folder / f"{quote(role, safe=' ')}.pgpass"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep out other processes that write into the folder, from before passwords are set until their files are there.

        The files of two rotations would otherwise take their places in another order than the passwords were set.
        """
        if os.name == "nt":  # where no folder can be opened
            yield
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            lock(descriptor, wait=True)
            yield
        finally:
            os.close(descriptor)

    def __call__(self, separation: Separation) -> Mapping[str, str]:
        """Write drafts for the roles that were made, and for those to rotate; return their passwords."""
        names = list(dict.fromkeys([*separation.created, *self._roles_to_rotate(separation)]))
        self._passwords = {name: self._passwords.get(name) or new_password() for name in names}
        for name in names:
            self._write_draft(name)
        return self._passwords

    def _roles_to_rotate(self, separation: Separation) -> list[str]:
        there = [role for role in separation.roles if role.name not in separation.missing]
        if "" in self._rotated:
            return [role.name for role in there]
        named = {name: roles_named(there, name) for name in self._rotated}
        for name, roles in named.items():
            if not roles:
                raise _Nobody(name)
        return [role.name for roles in named.values() for role in roles]

    def _write_draft(self, role: str) -> None:
        file = self.file(role)
        text = pass_lines(self._url, role, self._passwords[role])
        text += "".join(f"{line}\n" for line in _lines_to_keep(file, text))
        draft = self._drafts.setdefault(role, self.folder / f".{file.name}.{new_id()}")
        write_atomic(draft, text.encode())
        with suppress(OSError):  # a hub gives the file to its user
            before = os.stat(file)
            os.chown(draft, before.st_uid, before.st_gid)

    def publish(self) -> dict[str, Path]:
        """Put the drafts in their places, once the passwords are set; the files by role."""
        for role, draft in self._drafts.items():
            os.replace(draft, self.file(role))
        flush_folder(self.folder)
        return {role: self.file(role) for role in self._drafts}

    def discard(self) -> None:
        """Remove the drafts: the passwords were not set."""
        for draft in self._drafts.values():
            draft.unlink(missing_ok=True)

    def keep(self) -> dict[str, Path]:
        """Keep the drafts, where nobody knows whether the passwords were set; no older file is replaced."""
        kept = {}
        for role, draft in self._drafts.items():
            if not draft.exists():
                continue
            kept[role] = draft
            if not self.file(role).exists():
                kept[role] = draft.rename(self.file(role))
        return kept

    def find_faults(self, roles: Iterable[str]) -> tuple[list[str], list[str]]:
        """Look for the passfiles of roles that keep their passwords: what is missing, and what is wrong."""
        missing, wrong = [], []
        for role in roles:
            file = self.file(role)
            if not file.exists():
                missing.append(
                    f"The role {role} was there before and keeps its password; its passfile was looked for at {file} "
                    f"and is not there. {self._remedy(role)}"
                )
            elif (fault := self._fault(role, file)) is not None:
                wrong.append(f"The passfile {file} {fault}. {self._remedy(role)}")
        return missing, wrong

    def _remedy(self, role: str) -> str:
        return (
            f"If there is no other copy, --rotate {role} sets a new password and writes it there."
        )

    def _fault(self, role: str, file: Path) -> str | None:
        import psycopg

        url = self._url.set(drivername="postgresql+psycopg", username=role)
        try:
            line = find_line(url, file)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        if line is None:
            return f"has no line for {role} in this database"
        arguments = url.get_dialect()().create_connect_args(url)[1]
        try:
            psycopg.connect(
                **{**arguments, "password": line.password, "connect_timeout": _PATIENCE}
            ).close()
        except psycopg.OperationalError as error:
            # Other reasons, such as a server that admits the role from other hosts only, say nothing about the file.
            if "password authentication failed" in str(error):
                return f"has a password that the database does not accept for {role}"
        return None


def _lines_to_keep(file: Path, new: str) -> list[str]:
    """The lines of an older file that are for other places or roles than the ``new`` ones."""
    replaced = {line[:4] for line in parse_lines(new)}
    try:
        return [str(line) for line in read_lines(file) if line[:4] not in replaced]
    except FileNotFoundError:
        return []


class _Nobody(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__("user", name)
        self.args = (
            f"--rotate {name}: no role stands for a user of that name, and nothing was changed",
        )
