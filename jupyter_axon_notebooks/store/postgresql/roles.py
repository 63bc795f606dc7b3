"""Users apart inside one PostgreSQL database.

A kernel reaches the database itself, as the role its server logs in with, so what the REST API forbids has to be
forbidden there as well. Each user has a role of his own, and to a role the database shows nothing but its user's
records (row-level security, see :mod:`.fence`). Whom a role stands for is in a table that only the owner of the store's
tables changes. The owner sees everything, as do superusers: servers and kernels log in as neither.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import sqlalchemy as sa

from ...errors import InvalidData, StoreError
from ..codec import column_text, plain_text
from ..schema import NOTEBOOKS, Schema
from .row_level_security import MINE, ROLES, Fence, quoted

if TYPE_CHECKING:
    import psycopg  # an extra

_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones off, and two could become one
_ROLE_NAMES = sa.text("SELECT rolname::text FROM pg_roles")


class Role(NamedTuple):
    """A role of the database, and the user whose records it is shown; an ``admin`` is shown everybody's."""

    name: str
    user_id: str
    admin: bool = False


class Separation(NamedTuple):
    """What :func:`separate` left behind.

    Attributes
    ----------
    roles : list of Role
        All there are.
    made : list of str
        The names of those it made.
    moved : list of Role
        Those that stood for another user until then, as they were.
    gone : list of str
        The names of those that the database no longer has.
    """

    roles: list[Role]
    made: list[str]
    moved: list[Role]
    gone: list[str]


#: Decides which roles get a password, by role, once it is known which there are; a part of the transaction.
Passwords = Callable[[Separation], Mapping[str, str]]


def separate(
    connection: sa.Connection, schema: Schema, roles: Sequence[Role], passwords: Passwords
) -> Separation:
    """Have the database show each of ``roles`` its own user's records only; roles that are missing are made.

    What is in place already is left alone, so that to add a user holds up nobody. What is not needs every table to
    itself: where others have them in use it gives up at once, so that those who come after are held up for a moment
    only. It is to be done again then, from its start.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.
    roles : sequence of Role
        Those to add, or to give another user; the others stay as they are.
    passwords : callable
        Returns the passwords to set, by role. They are sent as what the server keeps of them, so no log has them.
        It may be called again when the transaction is done again.

    Raises
    ------
    InvalidData
        For a role, one that was added earlier included, that could not be held back: see :func:`_check_held_back`.
    StoreError
        When the connection's role may not do this; :class:`.failures.Interrupted` where others use the tables.
    """
    members = members_role(connection)
    for role in roles:
        _check_name(role.name, members)
        _check_user(role)
    made = _make_roles(connection, members, [role.name for role in roles])
    fence = Fence(connection, members)
    fence.prepare(schema)
    before = {role.name: role for role in entered_roles(connection)}
    moved = [
        before[name]
        for name, user_id, _ in roles
        if name in before and before[name].user_id != user_id
    ]
    _enter(connection, roles)
    _check_held_back(connection)
    _check_schema(connection, members)
    entered = entered_roles(connection)
    there = set(connection.scalars(_ROLE_NAMES))
    separation = Separation(
        entered, made, moved, [role.name for role in entered if role.name not in there]
    )
    for name, password in passwords(separation).items():
        _set_password(connection, name, password)
    fence.put_up(schema)  # last: while it stands others may wait
    return separation


def shown_user(connection: sa.Connection) -> str | None:
    """The user whose records alone the connection's role is shown, as the column has it; None: it is shown everybody's."""
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return None
    if not connection.scalar(sa.text(f"SELECT row_security_active('{NOTEBOOKS.name}')")):
        return None
    found = connection.execute(sa.text(f"SELECT user_id, admin {MINE}")).one_or_none()
    if found is None:
        return ""
    return None if found.admin else str(found.user_id)


def members_role(connection: sa.Connection) -> str:
    """The role that all others are members of: what it is granted, they may do to what they are shown.

    One for each database, since roles belong to the server, whose other databases may have other owners.
    """
    database = str(connection.scalar(sa.text("SELECT current_database()")))
    name = f"axon_users_{database}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"axon_users_{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def new_password() -> str:
    """A password nobody has to remember."""
    return secrets.token_urlsafe(32)


def _check_name(name: str, members: str) -> None:
    # A line of a passfile holds no line break, and no column a lone surrogate.
    if not name.isprintable() or not 1 <= len(name.encode()) <= _LONGEST_NAME:
        raise InvalidData(
            f"role {name!r}", f"the name of a role has 1 to {_LONGEST_NAME} bytes of printable text"
        )
    if name == members:
        raise InvalidData(f"role {name!r}", "is the role that all users' roles are members of")


def _check_user(role: Role) -> None:
    # The database knows documents by how they end, where JSON has such characters in another form than a column.
    if column_text(role.user_id) != role.user_id:
        raise InvalidData(
            f"user {role.user_id!r}",
            "has a character that no name of a user of the database may have",
        )


def _make_roles(connection: sa.Connection, members: str, names: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(names))
    there = set(connection.scalars(_ROLE_NAMES))
    group = quoted(connection, members)
    if members not in there:
        connection.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    made = [name for name in wanted if name not in there]
    for name in made:
        connection.exec_driver_sql(f"CREATE ROLE {quoted(connection, name)} LOGIN")
    for name in wanted:
        connection.exec_driver_sql(f"GRANT {group} TO {quoted(connection, name)}")
    return made


# What a role may be or become by SET ROLE, and why that would let it past its policies.
_UNBOUND = sa.text(
    f"""
    WITH owners(oid, what) AS (
        SELECT relowner, 'the tables of the store' FROM pg_class WHERE oid = '{NOTEBOOKS.name}'::regclass
        UNION ALL SELECT nspowner, 'their schema' FROM pg_namespace WHERE nspname = current_schema()
        UNION ALL SELECT datdba, 'the database' FROM pg_database WHERE datname = current_database()
    ), found AS (
        SELECT mine.role::text AS role, other.rolname::text AS other, other.rolsuper AS unlimited, CASE
            WHEN other.rolsuper THEN 'is a superuser'
            WHEN other.rolbypassrls THEN 'bypasses row-level security'
            WHEN other.rolcreaterole THEN 'may make roles and grant them (CREATEROLE)'
            WHEN other.rolreplication THEN 'may copy the whole database (REPLICATION)'
            WHEN other.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
                THEN 'reaches the files of the server'
            WHEN owners.what IS NOT NULL THEN 'owns ' || owners.what
            WHEN NOT mine.admin AND (theirs.admin OR theirs.user_id <> mine.user_id)
                THEN 'stands for another user'
            END AS why
        FROM {ROLES} mine
        JOIN pg_roles self ON self.rolname = mine.role
        JOIN pg_roles other ON pg_has_role(self.oid, other.oid, 'MEMBER')
        LEFT JOIN owners ON owners.oid = other.oid
        LEFT JOIN {ROLES} theirs ON theirs.role = other.rolname AND theirs.role <> mine.role
    )
    SELECT role, other, why FROM found WHERE why IS NOT NULL ORDER BY role, role <> other, NOT unlimited, other, why
    LIMIT 1
    """  # noqa: S608 - the names are ours
)


def _check_held_back(connection: sa.Connection) -> None:
    """Raise InvalidData for a role that is, or may act as, one that is bound by no policy, or by another user's."""
    found = connection.execute(_UNBOUND).one_or_none()
    if found is not None:
        why = (
            found.why
            if found.role == found.other
            else f"may act as {found.other}, which {found.why}"
        )
        raise InvalidData(f"role {found.role!r}", f"{why}: it could see what is not its user's")


def _check_schema(connection: sa.Connection, members: str) -> None:
    """Raise StoreError where rights that only the owner of the schema gives and takes are not as they have to be."""
    home, owner, me, usable = connection.execute(
        sa.text(
            "SELECT nspname::text, pg_get_userbyid(nspowner)::text, current_user::text, "
            "has_schema_privilege(:members, oid, 'USAGE') FROM pg_namespace WHERE nspname = current_schema()"
        ),
        {"members": members},
    ).one()
    creators = connection.scalars(
        sa.text(
            "SELECT rolname::text FROM pg_roles WHERE has_schema_privilege(oid, current_schema(), 'CREATE') "  # noqa: S608 - ours
            f"AND (rolname = :members OR rolname IN (SELECT role FROM {ROLES})) ORDER BY 1"
        ),
        {"members": members},
    ).all()
    home = quoted(connection, home)
    needed = []
    if not usable:
        needed.append(f"GRANT USAGE ON SCHEMA {home} TO {quoted(connection, me)} WITH GRANT OPTION")
    if creators:
        whom = (
            "PUBLIC"
            if members in creators
            else ", ".join(quoted(connection, name) for name in creators)
        )
        needed.append(f"REVOKE CREATE ON SCHEMA {home} FROM {whom}")
    if needed:
        raise StoreError(
            f"the schema {home} belongs to {owner}, who has to run first: {'; '.join(needed)} "
            "(who may make functions beside the tables could have others call them)"
        )


def _enter(connection: sa.Connection, roles: Iterable[Role]) -> None:
    enter = sa.text(
        f"INSERT INTO {ROLES} VALUES (:role, :user_id, :admin) "  # noqa: S608 - the name is ours
        "ON CONFLICT (role) DO UPDATE SET user_id = excluded.user_id, admin = excluded.admin"
    )
    for role in roles:
        connection.execute(enter, {"role": role.name, "user_id": role.user_id, "admin": role.admin})


def entered_roles(connection: sa.Connection) -> list[Role]:
    """Return the roles that stand for a user, by name."""
    found = connection.execute(
        sa.text(f"SELECT role::text, user_id, admin FROM {ROLES} ORDER BY role")  # noqa: S608 - the name is ours
    )
    return [Role(name, plain_text(user_id), admin) for name, user_id, admin in found]


def _set_password(connection: sa.Connection, name: str, password: str) -> None:
    driver = cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)
    kept = driver.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    connection.exec_driver_sql(f"ALTER ROLE {quoted(connection, name)} PASSWORD '{kept}'")
