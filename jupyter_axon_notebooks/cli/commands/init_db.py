"""``jupyter axon init-db``: a PostgreSQL database that keeps its users apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
from sqlalchemy import make_url

from ...errors import AxonError, OutcomeUnknown, StoreError
from ...store import open_store
from ...store.urls import shown_url
from ..output import note, table, write, write_json
from ..session import Session, with_session

if TYPE_CHECKING:
    from ...store.roles import Role, Separation


@click.command(short_help="Have a PostgreSQL database keep its users apart.")
@with_session
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME[=ROLE]",
    help="A user, as AxonNotebooks.user_id says, and the role of their server; by default the role of that name.",
)
@click.option(
    "--admin",
    "admins",
    multiple=True,
    metavar="NAME[=ROLE]",
    help="As --user, who is shown everybody's records.",
)
@click.option(
    "--passfiles",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Give each of these roles that has no file there a new password, in FOLDER/ROLE.pgpass.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="All roles as a JSON array of {role, user_id, admin, made}."
)
def command(
    session: Session, users: tuple[str, ...], admins: tuple[str, ...], passfiles: Path | None, as_json: bool
) -> None:
    """Make the tables, and have the database show each role the records of its own user only.

    Kernels reach the database with the role of their server, so the REST API alone cannot keep users apart. Run this
    as the owner of the database, as whom no server should log in; again to add users. Roles that are missing are made.

    A server's store_url then names its user's role and passfile, as in
    postgresql+psycopg://alice@db.example/axon?passfile=/home/alice/.pgpass
    """
    if not session.url.startswith("postgresql"):
        raise StoreError(
            f"init-db is for PostgreSQL; the store {shown_url(session.url)} is for whoever may read its file"
        )
    from ...store.roles import new_password, pass_lines  # their driver is an extra

    roles = [*_roles(users, admin=False), *_roles(admins, admin=True)]
    if repeated := sorted(name for name, count in Counter(role.name for role in roles).items() if count > 1):
        raise click.UsageError(f"a role stands for one user: {', '.join(repeated)} is given more than once")
    files = {} if passfiles is None else _files_to_write(passfiles, [role.name for role in roles])
    passwords = {name: new_password() for name in files}
    store = open_store(session.url)
    try:
        # Before the database has them: a password that is set and known to nobody would be worse than a useless file.
        for name, file in files.items():
            _write_private(file, pass_lines(make_url(session.url), name, passwords[name]))
        separation = store.separate_users(roles, passwords)
    except BaseException as error:
        if isinstance(error, AxonError | OSError) and not isinstance(error, OutcomeUnknown):
            for file in files.values():
                file.unlink(missing_ok=True)
        else:  # the database may have them by now
            _tell_of_kept(files)
        raise
    finally:
        store.close()
    _tell(separation, files, as_json)


def _roles(given: Iterable[str], *, admin: bool) -> list[Role]:
    from ...store.roles import Role

    roles = []
    for text in given:
        user_id, _, name = text.rpartition("=") if "=" in text else (text, "", text)
        if not user_id:
            raise click.UsageError(f"{text!r} names no user; expected NAME or NAME=ROLE")
        roles.append(Role(name, user_id, admin))
    return roles


def _files_to_write(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {name: folder / f"{quote(name, safe=' ')}.pgpass" for name in names}
    return {name: file for name, file in files.items() if not file.exists()}


def _write_private(file: Path, text: str) -> None:
    with os.fdopen(
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _tell_of_kept(files: Mapping[str, Path]) -> None:
    for name, file in files.items():
        if file.exists():
            note(f"{file} was kept: if it does not let {name} in, remove it and run init-db again.")


def _tell(separation: Separation, files: dict[str, Path], as_json: bool) -> None:
    made = separation.made
    if as_json:
        write_json(
            [
                {"role": role.name, "user_id": role.user_id, "admin": role.admin, "made": role.name in made}
                for role in separation.roles
            ]
        )
    else:
        rows = [
            [role.name, role.user_id, "everybody's records" if role.admin else "their own"]
            for role in separation.roles
        ]
        write(table(["role", "user", "may see"], rows))
    stands_for = {role.name: role.user_id for role in separation.roles}
    for was in separation.moved:
        note(
            f"The role {was.name} stood for the user {was.user_id} and stands for {stands_for[was.name]} now: "
            f"a server that logs in with it is shown the records of {was.user_id} no longer."
        )
    for name in made:
        if name not in files:
            note(f"The role {name} was made without a password: set one, or have pg_hba.conf let it in.")
    for file in files.values():
        note(f"Wrote {file}; its owner's server needs it, and nobody else.")
