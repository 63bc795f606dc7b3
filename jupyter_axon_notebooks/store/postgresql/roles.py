"""Roles of the users who share a PostgreSQL database.

A kernel has direct access to the database, with the role of its server. So the database itself has
to limit it to the records of its user. Each user has a role, which sees only these records (see
:mod:`.row_level_security`). The users of roles are in a table that only the owner of the store's
tables can change. The owner and superusers see everything, so servers and kernels must not use
their roles.
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
from .row_level_security import OWN_ROLE, ROLES, RowLevelSecurity, quote_name

if TYPE_CHECKING:
    import psycopg  # optional

_MAX_NAME_LENGTH = 63  # bytes; PostgreSQL truncates longer names
_ROLE_NAMES = sa.text("SELECT rolname::text FROM pg_roles")


class Role(NamedTuple):
    """A database role and its user, whose records it sees; an ``admin`` sees all records."""

    name: str
    user_id: str
    admin: bool = False


class Separation(NamedTuple):
    """The result of :func:`separate`.

    Attributes
    ----------
    roles : list of Role
        All roles.
    created : list of str
        Names of the roles that were created.
    reassigned : list of Role
        The former state of roles that belonged to another user.
    missing : list of str
        Names of roles that do not exist in the database any more.
    """

    roles: list[Role]
    created: list[str]
    reassigned: list[Role]
    missing: list[str]


#: Returns the passwords to set, by role. It is called within the transaction.
Passwords = Callable[[Separation], Mapping[str, str]]


def separate(
    connection: sa.Connection, schema: Schema, roles: Sequence[Role], passwords: Passwords
) -> Separation:
    """Limit each of ``roles`` to the records of its user, and create roles that are missing.

    Creating policies needs exclusive access to every table. If the tables are in use, this fails
    soon instead of blocking others, and has to be retried. Existing policies are not changed, so
    adding another user blocks nobody.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.
    roles : sequence of Role
        The roles to add or change; others are not changed.
    passwords : callable
        Returns the passwords to set, by role. They are hashed before they are sent, so that they do
        not appear in logs. It is called again when the transaction is retried.

    Raises
    ------
    InvalidData
        For a role, old or new, to which policies would not apply; see :func:`_check_limits`.
    StoreError
        When the connection's role lacks rights; :class:`Interrupted` when the tables are in use.
    """
    members = members_role(connection)
    for role in roles:
        _check_name(role.name, members)
        _check_user(role)
    created = _create_roles(connection, members, [role.name for role in roles])
    security = RowLevelSecurity(connection, members)
    security.prepare(schema)
    before = {role.name: role for role in list_roles(connection)}
    reassigned = [
        before[role.name]
        for role in roles
        if role.name in before and before[role.name].user_id != role.user_id
    ]
    _store_roles(connection, roles)
    _check_limits(connection)
    _check_schema(connection, members)
    entered = list_roles(connection)
    existing = set(connection.scalars(_ROLE_NAMES))
    missing = [role.name for role in entered if role.name not in existing]
    separation = Separation(entered, created, reassigned, missing)
    for name, password in passwords(separation).items():
        _set_password(connection, name, password)
    security.enable(schema)  # last, since it blocks others until the commit
    return separation


def secure_tables(connection: sa.Connection, schema: Schema) -> None:
    """Create the policies of tables that a migration added, if the database separates users."""
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is not None:
        # Tables with unchecked foreign keys cannot be altered.
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        RowLevelSecurity(connection, members_role(connection)).enable(schema)


def owns_tables(connection: sa.Connection) -> bool:
    """Return whether the connection's role may change the tables of the store."""
    query = sa.text(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:table)"
    )
    return connection.scalar(query, {"table": NOTEBOOKS.name}) is not False


def shown_user(connection: sa.Connection) -> str | None:
    """Return the user, as in the column, whose records the connection's role sees.

    It is ``""`` if the role belongs to no user, and None if it sees all records.
    """
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return None
    if not connection.scalar(sa.text(f"SELECT row_security_active('{NOTEBOOKS.name}')")):
        return None
    row = connection.execute(sa.text(f"SELECT user_id, admin {OWN_ROLE}")).one_or_none()
    if row is None:
        return ""
    return None if row.admin else str(row.user_id)


def members_role(connection: sa.Connection) -> str:
    """Return the name of the role that has the rights and that the roles of all users belong to.

    Each database has its own, since roles exist on the whole server, and other databases may have
    other owners.
    """
    database = str(connection.scalar(sa.text("SELECT current_database()")))
    name = f"axon_users_{database}"
    if len(name.encode()) <= _MAX_NAME_LENGTH:
        return name
    return f"axon_users_{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(32)


def list_roles(connection: sa.Connection) -> list[Role]:
    """Return the roles that belong to a user, sorted by name."""
    rows = connection.execute(
        sa.text(f"SELECT role::text, user_id, admin FROM {ROLES} ORDER BY role")  # noqa: S608
    )
    return [Role(name, plain_text(user_id), admin) for name, user_id, admin in rows]


def _check_name(name: str, members: str) -> None:
    # isprintable() rejects line breaks, which passfiles cannot contain, and lone surrogates.
    if not name.isprintable() or not 1 <= len(name.encode()) <= _MAX_NAME_LENGTH:
        raise InvalidData(
            f"role {name!r}",
            f"the name of a role must have 1 to {_MAX_NAME_LENGTH} bytes of printable text",
        )
    if name == members:
        raise InvalidData(f"role {name!r}", "is the group that the roles of all users belong to")


def _check_user(role: Role) -> None:
    # Policies compare JSON with columns, and the two escape some characters differently.
    if column_text(role.user_id) != role.user_id:
        raise InvalidData(
            f"user {role.user_id!r}", "contains a character that names of users must not have"
        )


def _create_roles(connection: sa.Connection, members: str, names: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(names))
    existing = set(connection.scalars(_ROLE_NAMES))
    group = quote_name(connection, members)
    if members not in existing:
        connection.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    created = [name for name in names if name not in existing]
    for name in created:
        connection.exec_driver_sql(f"CREATE ROLE {quote_name(connection, name)} LOGIN")
    for name in names:
        connection.exec_driver_sql(f"GRANT {group} TO {quote_name(connection, name)}")
    return created


# Roles of users that are, or can become by SET ROLE, a role that the policies do not limit.
_UNLIMITED = sa.text(
    f"""
    WITH owners(oid, what) AS (
        SELECT relowner, 'the tables of the store' FROM pg_class
            WHERE oid = '{NOTEBOOKS.name}'::regclass
        UNION ALL SELECT nspowner, 'their schema' FROM pg_namespace
            WHERE nspname = current_schema()
        UNION ALL SELECT datdba, 'the database' FROM pg_database
            WHERE datname = current_database()
    ), found AS (
        SELECT mine.role::text AS role, other.rolname::text AS other,
            other.rolsuper AS unlimited, CASE
            WHEN other.rolsuper THEN 'is a superuser'
            WHEN other.rolbypassrls THEN 'bypasses row-level security'
            WHEN other.rolcreaterole THEN 'can create roles and grant them (CREATEROLE)'
            WHEN other.rolreplication THEN 'can copy the whole database (REPLICATION)'
            WHEN other.rolname IN (
                'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'
            ) THEN 'can access files of the server'
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
    SELECT role, other, why FROM found WHERE why IS NOT NULL
    ORDER BY role, role <> other, NOT unlimited, other, why
    LIMIT 1
    """  # noqa: S608
)


def _check_limits(connection: sa.Connection) -> None:
    """Raise InvalidData for a role that can see records of other users despite the policies."""
    row = connection.execute(_UNLIMITED).one_or_none()
    if row is not None:
        why = row.why if row.role == row.other else f"may act as {row.other}, which {row.why}"
        raise InvalidData(f"role {row.role!r}", f"{why}: it could see records of other users")


def _check_schema(connection: sa.Connection, members: str) -> None:
    """Raise StoreError if rights on the schema must change, and only its owner can do that."""
    query = (
        "SELECT has_schema_privilege(:members, current_schema(), 'USAGE') AND NOT EXISTS ("  # noqa: S608
        "SELECT 1 FROM pg_roles WHERE has_schema_privilege(oid, current_schema(), 'CREATE') "
        f"AND (rolname = :members OR rolname IN (SELECT role FROM {ROLES})))"
    )
    if not connection.scalar(sa.text(query), {"members": members}):
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        me = connection.scalar(sa.text("SELECT quote_ident(current_user)"))
        raise StoreError(
            f"the owner of the schema {schema} has to run first: GRANT USAGE ON SCHEMA {schema} "
            f"TO {me} WITH GRANT OPTION; REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, and from "
            "every role of a user (others could call functions that a user creates there)"
        )


def _store_roles(connection: sa.Connection, roles: Iterable[Role]) -> None:
    enter = sa.text(
        f"INSERT INTO {ROLES} VALUES (:role, :user_id, :admin) "  # noqa: S608
        "ON CONFLICT (role) DO UPDATE SET user_id = excluded.user_id, admin = excluded.admin"
    )
    for role in roles:
        connection.execute(enter, {"role": role.name, "user_id": role.user_id, "admin": role.admin})


def _set_password(connection: sa.Connection, name: str, password: str) -> None:
    driver = cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)
    verifier = driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    connection.exec_driver_sql(
        f"ALTER ROLE {quote_name(connection, name)} PASSWORD '{verifier.decode()}'"
    )
