"""Users apart inside one PostgreSQL database.

A kernel reaches the database itself, as the role its server logs in with, so what the REST API forbids has to be
forbidden there as well. Each user has a role of his own, and to a role the database shows nothing but its user's
records (row-level security). Whom a role stands for is in a table that only the owner of the store's tables changes.

A notebook is the user's whom its column names; everything else is whose notebook it is of. The owner of the tables sees
everything, as do superusers: servers and kernels log in as neither.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import psycopg
import sqlalchemy as sa

from ..errors import InvalidData
from .codec import column_text, plain_text
from .postgresql import MARKS
from .schema import NOTEBOOKS, Schema

#: The role that all others are members of: what it is granted, they may do to what they are shown.
MEMBERS = "axon_users"
#: Which user a role stands for.
ROLES = "axon_roles"

_POLICY = "axon_own"
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones off, and two could become one

_MINE = f"FROM {ROLES} WHERE {ROLES}.role = current_user"
_IS_MINE = f"user_id = (SELECT {ROLES}.user_id {_MINE}) OR (SELECT {ROLES}.admin {_MINE})"
# A subquery in a policy is held to policies itself: what it finds is the role's own.
_OF_MINE = f"EXISTS (SELECT 1 FROM {NOTEBOOKS.name} WHERE {NOTEBOOKS.name}.id = notebook_id)"  # noqa: S608 - the name is ours


class Role(NamedTuple):
    """A role of the database, and the user whose records it is shown; an ``admin`` is shown everybody's."""

    name: str
    user_id: str
    admin: bool = False


class Separation(NamedTuple):
    """What :func:`separate` left behind: all roles there are, and the names of those it made."""

    roles: list[Role]
    made: list[str]


def separate(
    connection: sa.Connection, schema: Schema, roles: Sequence[Role], passwords: Mapping[str, str]
) -> Separation:
    """Have the database show each of ``roles`` its own user's records only; roles that are missing are made.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.
    roles : sequence of Role
        Those to add, or to give another user; the others stay as they are.
    passwords : dict
        Passwords to set, by role. They are sent as what the server keeps of them, so no log has them.

    Raises
    ------
    InvalidData
        For a role that could not be held back: a superuser, or one that may act as the owner of the tables.
    StoreError
        When the connection's role may not do this.
    """
    for role in roles:
        _check_name(role.name)
    made = _make_roles(connection, [role.name for role in roles])
    for role in roles:
        _check_is_held_back(connection, role.name)
    _protect(connection, schema)
    _enter(connection, roles)
    for name, password in passwords.items():
        _set_password(connection, name, password)
    return Separation(_entered(connection), made)


def new_password() -> str:
    """A password nobody has to remember."""
    return secrets.token_urlsafe(32)


def pass_line(url: sa.URL, role: str, password: str) -> str:
    """The line of a passfile that lets ``role`` into the database at ``url``, and into no other."""
    host = url.query.get("host") or url.host or "*"
    fields = [str(host), str(url.port or "*"), url.database or "*", role, password]
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


def _check_name(name: str) -> None:
    if not name or "\x00" in name or len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
        raise InvalidData(f"role {name!r}", f"the name of a role has 1 to {_LONGEST_NAME} bytes")


def _make_roles(connection: sa.Connection, names: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(names))
    there = set(connection.scalars(sa.text("SELECT rolname::text FROM pg_roles")))
    if MEMBERS not in there:
        connection.exec_driver_sql(f"CREATE ROLE {MEMBERS} NOLOGIN")
    made = [name for name in wanted if name not in there]
    for name in made:
        connection.exec_driver_sql(f"CREATE ROLE {_quoted(connection, name)} LOGIN")
    for name in wanted:
        connection.exec_driver_sql(f"GRANT {MEMBERS} TO {_quoted(connection, name)}")
    return made


def _check_is_held_back(connection: sa.Connection, name: str) -> None:
    of_role = sa.text(
        "SELECT rolsuper OR rolbypassrls, pg_has_role(rolname, current_user, 'MEMBER') "
        "FROM pg_roles WHERE rolname = :name"
    )
    unbound, is_owner = connection.execute(of_role, {"name": name}).one()
    if unbound:
        raise InvalidData(
            f"role {name!r}", "is a superuser or bypasses row-level security: it would see everything"
        )
    if is_owner:
        raise InvalidData(
            f"role {name!r}", "may act as the owner of the store's tables: it would see everything"
        )


def _protect(connection: sa.Connection, schema: Schema) -> None:
    """Make the table of roles, and let members do to every table what they are shown of it."""
    execute = connection.exec_driver_sql
    execute(
        f"CREATE TABLE IF NOT EXISTS {ROLES} "
        '(role name PRIMARY KEY, user_id text COLLATE "C" NOT NULL, admin boolean NOT NULL)'
    )
    home = _quoted(connection, str(connection.scalar(sa.text("SELECT current_schema()"))))
    # Who could put a function of his own beside the tables could have others call it.
    execute(f"REVOKE CREATE ON SCHEMA {home} FROM PUBLIC")
    execute(f"GRANT USAGE ON SCHEMA {home} TO {MEMBERS}")
    execute(f"GRANT SELECT ON {schema.properties.name} TO {MEMBERS}")
    _hold(connection, ROLES, "role = current_user", "SELECT")
    _hold(connection, MARKS, "role = current_user", _EVERYTHING)
    for table in schema.tables.values():
        _hold(
            connection, table.sql.name, _IS_MINE if table.collection is NOTEBOOKS else _OF_MINE, _EVERYTHING
        )
        sequence = connection.scalar(
            sa.text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": table.sql.name}
        )
        execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {MEMBERS}")
        if table.metric_index is not None:
            _hold(connection, table.metric_index.sql.name, _OF_MINE, _EVERYTHING)


_EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"


def _hold(connection: sa.Connection, table: str, shown: str, rights: str) -> None:
    execute = connection.exec_driver_sql
    execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    execute(f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
    execute(f"CREATE POLICY {_POLICY} ON {table} TO {MEMBERS} USING ({shown}) WITH CHECK ({shown})")
    execute(f"REVOKE ALL ON {table} FROM PUBLIC")
    execute(f"GRANT {rights} ON {table} TO {MEMBERS}")


def _enter(connection: sa.Connection, roles: Iterable[Role]) -> None:
    enter = sa.text(
        f"INSERT INTO {ROLES} VALUES (:role, :user_id, :admin) "  # noqa: S608 - the name is ours
        "ON CONFLICT (role) DO UPDATE SET user_id = excluded.user_id, admin = excluded.admin"
    )
    for role in roles:
        values = {"role": role.name, "user_id": column_text(role.user_id), "admin": role.admin}
        connection.execute(enter, values)


def _entered(connection: sa.Connection) -> list[Role]:
    found = connection.execute(
        sa.text(f"SELECT role::text, user_id, admin FROM {ROLES} ORDER BY role")  # noqa: S608 - the name is ours
    )
    return [Role(name, plain_text(user_id), admin) for name, user_id, admin in found]


def _set_password(connection: sa.Connection, name: str, password: str) -> None:
    driver = cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)
    kept = driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.exec_driver_sql(f"ALTER ROLE {_quoted(connection, name)} PASSWORD '{kept}'")


def _quoted(connection: sa.Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)
