"""The command init-db: a PostgreSQL database that separates its users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import AxonError, OutcomeUnknown, StoreError
from ..store import open_store
from ..store.urls import shown_url
from . import options
from .group import FAILED
from .output import note, plural, table, write, write_json
from .session import Session, with_session

if TYPE_CHECKING:
    from ..store.postgresql.removal import RemovedRole
    from ..store.postgresql.roles import Role, Separation


@click.command(short_help="Set up a PostgreSQL database that separates its users.")
@with_session
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME[=ROLE]",
    help="A user, as in AxonNotebooks.user_id, and the role of their server, by default of the "
    "same name.",
)
@click.option(
    "--admin",
    "admins",
    multiple=True,
    metavar="NAME[=ROLE]",
    help="Like --user, for a user who sees everybody's records.",
)
@click.option(
    "--passfiles",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write a new password for each new role to FOLDER/ROLE.pgpass. The passwords of "
    "existing roles do not change.",
)
@click.option(
    "--rotate",
    "rotated",
    multiple=True,
    is_flag=False,
    flag_value="",
    metavar="[USER]",
    help="Give the roles of this user a new password in FOLDER; without USER, all roles.",
)
@click.option(
    "--remove",
    "removed",
    multiple=True,
    metavar="USER",
    help="Show what would be removed with this user: their roles and passfiles in FOLDER, but "
    "not their records.",
)
@click.option("--yes", is_flag=True, help="With --remove: remove them.")
@options.as_json
def init_db(
    session: Session,
    users: tuple[str, ...],
    admins: tuple[str, ...],
    folder: Path | None,
    rotated: tuple[str, ...],
    removed: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Create the tables, and let the database show each role the records of its own user only.

    Kernels connect to the database with the role of their server, so the REST API alone cannot
    separate users. Run this as the owner of the database, which no server should log in as, and
    again to add or remove users. Missing roles are created. The password of an existing role is
    changed by --rotate only.

    A server's store_url then names its user's role and passfile, as in
    postgresql+psycopg://alice@db.example/axon?passfile=/home/alice/.pgpass
    """
    if not session.url.startswith("postgresql"):
        raise StoreError(
            f"init-db is for PostgreSQL only. The permissions of its file determine who can use "
            f"the store {shown_url(session.url)}"
        )
    if removed and (users or admins or rotated):
        raise click.UsageError("--remove cannot be used with --user, --admin or --rotate")
    if yes and not removed:
        raise click.UsageError("--yes needs --remove")
    if rotated and folder is None:
        raise click.UsageError("--rotate needs --passfiles FOLDER for the new passwords")
    session.user = None  # the owner of the database is not one of its users
    if removed:
        _remove_users(session, removed, folder, yes, as_json)
    else:
        roles = [*_parse_roles(users, admin=False), *_parse_roles(admins, admin=True)]
        _separate_users(session, roles, folder, rotated, as_json)


def _parse_roles(texts: Iterable[str], *, admin: bool) -> list[Role]:
    from ..store.postgresql.roles import Role

    roles = []
    for text in texts:
        user_id, _, name = text.rpartition("=") if "=" in text else (text, "", text)
        if not user_id:
            raise click.UsageError(f"{text!r} has no user; expected NAME or NAME=ROLE")
        roles.append(Role(name, user_id, admin))
    return roles


def _separate_users(
    session: Session, roles: list[Role], folder: Path | None, rotated: Sequence[str], as_json: bool
) -> None:
    from .passfiles import Passfiles  # needs the driver, an extra

    counts = Counter(role.name for role in roles)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise click.UsageError(
            f"a role can belong to one user only: {', '.join(repeated)} is given more than once"
        )
    passfiles = None if folder is None else Passfiles(folder, session.url, rotated)
    with (
        nullcontext() if passfiles is None else passfiles.locked(),
        closing(open_store(session.url)) as store,
    ):
        try:
            separation = store.separate_users(roles, *([] if passfiles is None else [passfiles]))
        except BaseException as error:
            if passfiles is None:
                raise
            if isinstance(error, AxonError | OSError) and not isinstance(error, OutcomeUnknown):
                passfiles.discard()
                raise
            for name, file in passfiles.keep().items():  # the passwords may have been set
                note(
                    f"{file} was kept. If {name} cannot log in with it, remove it and run "
                    f"init-db with --rotate {name}."
                )
            raise
        written = {} if passfiles is None else passfiles.publish()
    kept = [role.name for role in roles if role.name not in written]
    missing, wrong = ([], []) if passfiles is None else passfiles.find_problems(kept)
    _report_separation(separation, written, as_json)
    for text in [*missing, *wrong]:
        note(text)
    if wrong:
        raise click.exceptions.Exit(FAILED)


def _report_separation(separation: Separation, written: dict[str, Path], as_json: bool) -> None:
    made = separation.created
    rows = [
        {
            "role": role.name,
            "user_id": role.user_id,
            "admin": role.admin,
            "made": role.name in made,
            "passfile": str(written[role.name]) if role.name in written else None,
        }
        for role in separation.roles
    ]
    if as_json:
        write_json(rows)
    elif rows:
        shown = [
            {
                "role": role.name,
                "user": role.user_id,
                "may see": "everybody's records" if role.admin else "their own",
            }
            for role in separation.roles
        ]
        write(table(shown))
    users = {role.name: role.user_id for role in separation.roles}
    for was in separation.reassigned:
        note(
            f"The role {was.name} belonged to the user {was.user_id} and belongs to "
            f"{users[was.name]} now. Restart the servers that log in with it, and change its "
            f"password with --rotate {was.name}."
        )
    for name in separation.missing:
        note(
            f"The role {name} is no longer in the database. Run `jupyter axon init-db --remove "
            f"{name}` to remove it from the store too."
        )
    for name in made:
        if name not in written:
            note(
                f"The role {name} was created without a password: set one, or allow its "
                f"login in pg_hba.conf."
            )
    for name, file in written.items():
        refused = "" if name in made else f"The former password of {name} is no longer accepted. "
        note(f"Wrote {file}. {refused}Only its owner's server needs it.")


def _remove_users(
    session: Session, names: tuple[str, ...], folder: Path | None, yes: bool, as_json: bool
) -> None:
    from .passfiles import Passfiles  # needs the driver, an extra

    with session.open() as opened:
        store = opened.store
        departures = store.remove_users(names, dry_run=not yes)
    passfiles = None if folder is None else Passfiles(folder, session.url)
    rows = []
    for one in departures:
        file = None if passfiles is None or one.kept else passfiles.path(one.role.name)
        rows.append(
            {
                "role": one.role.name,
                "user_id": one.role.user_id,
                "removed": yes,
                "dropped": not one.kept,
                "kept_because": one.kept or None,
                "records": one.records,
                "sessions": one.sessions,
                "passfile": str(file) if file is not None and file.exists() else None,
            }
        )
        if yes and file is not None:
            file.unlink(missing_ok=True)
    if as_json:
        write_json(rows)
    elif rows:
        shown = [
            {
                "role": row["role"],
                "user": row["user_id"],
                "records, which stay": row["records"],
                "the role itself": "is dropped" if row["dropped"] else f"stays: {one.kept}",
                "passfile": row["passfile"] or "",
            }
            for row, one in zip(rows, departures, strict=True)
        ]
        write(table(shown))
    _report_removal(names, departures, yes)


def _report_removal(names: Sequence[str], departures: Sequence[RemovedRole], yes: bool) -> None:
    users = {departure.role.user_id: departure.records for departure in departures}
    known = users.keys() | {departure.role.name for departure in departures}
    for name in names:
        if name not in known:
            note(f"There is no role for a user {name}, and nothing to remove.")
    for user_id, records in users.items():
        if records:
            note(
                f"{plural(records, 'record')} of {user_id} remain. Whoever logs in with a role "
                f"of `init-db --user {user_id}=ROLE` owns them."
            )
    for one in departures:
        if one.sessions and yes:
            note(
                f"{one.role.name} is still connected ({one.sessions} times), because ending "
                "sessions of others needs the role pg_signal_backend. It no longer sees the "
                "store; stop the user's server."
            )
        elif one.sessions:
            note(f"{one.role.name} is connected ({one.sessions} times), and would be disconnected.")
    if departures:
        roles = plural(len(departures), "role")
        note(f"Removed {roles}." if yes else f"Would remove {roles}. Add --yes to remove them.")
