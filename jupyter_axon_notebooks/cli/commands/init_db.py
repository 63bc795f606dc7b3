"""``jupyter axon init-db``: a PostgreSQL database that keeps its users apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import AxonError, OutcomeUnknown, StoreError
from ...store import open_store
from ...store.urls import shown_url
from ..group import FAILED
from ..output import note, table, write, write_json
from ..session import Session, with_session

if TYPE_CHECKING:
    from ...store.postgresql.removal import RemovedRole
    from ...store.postgresql.roles import Role, Separation
    from ..passfiles import Passfiles


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
    help="Give each role that is made a password, in FOLDER/ROLE.pgpass. Roles that were there before keep theirs.",
)
@click.option(
    "--rotate",
    "rotated",
    multiple=True,
    is_flag=False,
    flag_value="",
    metavar="[USER]",
    help="Give the roles of this user a new password in FOLDER, though they have one; without USER, all roles.",
)
@click.option(
    "--remove",
    "removed",
    multiple=True,
    metavar="USER",
    help="Show what would be removed with this user: their roles and the passfiles in FOLDER, not their records.",
)
@click.option("--yes", is_flag=True, help="With --remove: do it.")
@click.option(
    "--json", "as_json", is_flag=True, help="All roles, or those that are removed, as a JSON array."
)
def command(
    session: Session,
    users: tuple[str, ...],
    admins: tuple[str, ...],
    passfiles: Path | None,
    rotated: tuple[str, ...],
    removed: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Make the tables, and have the database show each role the records of its own user only.

    Kernels reach the database with the role of their server, so the REST API alone cannot keep users apart. Run this
    as the owner of the database, as whom no server should log in; again to add or remove users. Roles that are missing
    are made. The password of a role that is there already is changed by --rotate only.

    A server's store_url then names its user's role and passfile, as in
    postgresql+psycopg://alice@db.example/axon?passfile=/home/alice/.pgpass
    """
    if not session.url.startswith("postgresql"):
        raise StoreError(
            f"init-db is for PostgreSQL; the store {shown_url(session.url)} is for whoever may read its file"
        )
    if removed and (users or admins or rotated):
        raise click.UsageError("--remove goes with none of --user, --admin and --rotate")
    if yes and not removed:
        raise click.UsageError("--yes goes with --remove only")
    if rotated and passfiles is None:
        raise click.UsageError(
            "--rotate needs --passfiles FOLDER: nobody would know the new passwords"
        )
    session.user = None  # the owner of the database is none of its users
    if removed:
        _remove(session, removed, passfiles, yes, as_json)
    else:
        _separate(
            session,
            [*_roles(users, admin=False), *_roles(admins, admin=True)],
            passfiles,
            rotated,
            as_json,
        )


def _separate(
    session: Session, roles: list[Role], folder: Path | None, rotated: Sequence[str], as_json: bool
) -> None:
    from ..passfiles import Passfiles  # needs the driver, an extra

    if repeated := sorted(
        name for name, count in Counter(role.name for role in roles).items() if count > 1
    ):
        raise click.UsageError(
            f"a role stands for one user: {', '.join(repeated)} is given more than once"
        )
    passfiles = None if folder is None else Passfiles(folder, session.url, rotated)
    with (
        nullcontext() if passfiles is None else passfiles.locked(),
        closing(open_store(session.url)) as store,
    ):
        try:
            separation = store.separate_users(roles, *([] if passfiles is None else [passfiles]))
        except BaseException as error:
            if passfiles is not None:
                _drop_or_keep(passfiles, error)
            raise
        written = {} if passfiles is None else passfiles.publish()
    kept = [role.name for role in roles if role.name not in written]
    missing, wrong = ([], []) if passfiles is None else passfiles.find_faults(kept)
    _tell(separation, written, as_json)
    for text in [*missing, *wrong]:
        note(text)
    if wrong:
        raise click.exceptions.Exit(FAILED)


def _roles(given: Iterable[str], *, admin: bool) -> list[Role]:
    from ...store.postgresql.roles import Role

    roles = []
    for text in given:
        user_id, _, name = text.rpartition("=") if "=" in text else (text, "", text)
        if not user_id:
            raise click.UsageError(f"{text!r} names no user; expected NAME or NAME=ROLE")
        roles.append(Role(name, user_id, admin))
    return roles


def _drop_or_keep(passfiles: Passfiles, error: BaseException) -> None:
    if isinstance(error, AxonError | OSError) and not isinstance(error, OutcomeUnknown):
        passfiles.discard()
        return
    for name, file in passfiles.keep().items():  # the database may have the passwords by now
        note(
            f"{file} was kept: if it does not let {name} in, remove it and run init-db with --rotate {name}."
        )


def _tell(separation: Separation, written: dict[str, Path], as_json: bool) -> None:
    made = separation.created
    if as_json:
        write_json(
            [
                {
                    "role": role.name,
                    "user_id": role.user_id,
                    "admin": role.admin,
                    "made": role.name in made,
                    "passfile": str(written[role.name]) if role.name in written else None,
                }
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
    for was in separation.reassigned:
        note(
            f"The role {was.name} stood for the user {was.user_id} and stands for {stands_for[was.name]} now: "
            f"a server that logs in with it is shown the records of {was.user_id} no longer. Restart it. Whoever has the "
            f"role's passfile can read the records of {stands_for[was.name]}: --rotate {was.name} changes the password."
        )
    for name in separation.missing:
        note(
            f"The role {name} is no longer in the database; `jupyter axon init-db --remove {name}` forgets it."
        )
    for name in made:
        if name not in written:
            note(
                f"The role {name} was made without a password: set one, or have pg_hba.conf let it in."
            )
    for name, file in written.items():
        what = "its owner's server needs it, and nobody else"
        if name not in made:
            what = f"the former password of {name} is refused from now on, so that {what}"
        note(f"Wrote {file}; {what}.")


def _remove(
    session: Session, names: tuple[str, ...], folder: Path | None, yes: bool, as_json: bool
) -> None:
    from ..passfiles import Passfiles  # needs the driver, an extra

    with session.existing_store() as store:
        departures = store.remove_users(names) if yes else store.plan_removal(names)
    going: list[tuple[RemovedRole, Path | None]] = []
    for departure in departures:
        file = None if folder is None else Passfiles(folder, session.url).file(departure.role.name)
        if file is not None and (departure.kept or not file.exists()):
            file = None
        if file is not None and yes:
            file.unlink(missing_ok=True)
        going.append((departure, file))
    if as_json:
        write_json([_departure_json(departure, file, yes) for departure, file in going])
    elif going:
        columns = ["role", "user", "records, which stay", "the role itself", "passfile"]
        write(table(columns, (_departure_row(departure, file) for departure, file in going)))
    _tell_of_removal(names, departures, yes)


def _departure_row(departure: RemovedRole, file: Path | None) -> list[object]:
    role = departure.role
    itself = f"stays: {departure.kept}" if departure.kept else "is dropped"
    return [role.name, role.user_id, departure.records, itself, file or ""]


def _departure_json(departure: RemovedRole, file: Path | None, yes: bool) -> dict[str, object]:
    return {
        "role": departure.role.name,
        "user_id": departure.role.user_id,
        "removed": yes,
        "dropped": not departure.kept,
        "kept_because": departure.kept or None,
        "records": departure.records,
        "sessions": departure.sessions,
        "passfile": None if file is None else str(file),
    }


def _tell_of_removal(names: Sequence[str], departures: Sequence[RemovedRole], yes: bool) -> None:
    users = {departure.role.user_id: departure.records for departure in departures}
    known = users.keys() | {departure.role.name for departure in departures}
    for name in names:
        if name not in known:
            note(f"No role stands for a user {name}: there is nothing to remove.")
    if not departures:
        return
    for user_id, records in users.items():
        if records:
            note(
                f"{records} record{'' if records == 1 else 's'} of {user_id} stay. Whoever logs in with a role of "
                f"`init-db --user {user_id}=ROLE` has them; an administrator lists them with "
                f"`jupyter axon list --user {user_id}` and deletes them over REST."
            )
    for departure in departures:
        if departure.sessions and yes:
            note(
                f"{departure.role.name} is still connected ({departure.sessions} times), since ending sessions of others "
                "takes the right pg_signal_backend. It sees nothing of the store any more; stop the user's server."
            )
        elif departure.sessions:
            note(
                f"{departure.role.name} is connected ({departure.sessions} times), and would be disconnected."
            )
    roles = f"{len(departures)} role{'' if len(departures) == 1 else 's'}"
    note(
        f"Removed {roles}." if yes else f"Would remove {roles}. Nothing was removed; --yes does it."
    )
