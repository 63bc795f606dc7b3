"""Taking users out of a PostgreSQL database that keeps users apart. Their records stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from ...errors import StoreError
from ..schema import NOTEBOOKS
from .engine import MARKS
from .roles import Role, entered_roles, members_role
from .row_level_security import ROLES, quoted


class Departure(NamedTuple):
    """A role that is removed, or would be.

    Attributes
    ----------
    role : Role
        The role, and the user it stood for.
    records : int
        How many records the user has, all of which stay.
    kept : str
        Why the database keeps the role, which has no rights in the store any more; empty if it is dropped.
    sessions : int
        How many connections the role has; after the removal, how many could not be ended.
    oid : int or None
        The number of the role in the database, None if it was dropped earlier.
    """

    role: Role
    records: int
    kept: str = ""
    sessions: int = 0
    oid: int | None = None


_OID = sa.text("SELECT oid FROM pg_roles WHERE rolname = :role")
_SESSIONS = sa.text(
    "SELECT pid FROM pg_stat_activity WHERE usesysid = :oid AND datname = current_database() ORDER BY pid"
)
_OWNED = sa.text(
    "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = :oid AND deptype = 'o'"
)
_ELSEWHERE = sa.text(
    "SELECT string_agg(DISTINCT datname, ', ') FROM pg_shdepend JOIN pg_database ON pg_database.oid = dbid "
    "OR (classid = 'pg_database'::regclass AND pg_database.oid = objid) "
    "WHERE refclassid = 'pg_authid'::regclass AND refobjid = :oid AND datname <> current_database()"
)
_GROUPS = sa.text(
    "SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_auth_members "
    "JOIN pg_roles ON pg_roles.oid = roleid WHERE member = :oid AND rolname <> :members"
)
_GRANTORS = sa.text(
    "SELECT pg_get_userbyid(grantor)::text FROM pg_auth_members "
    "WHERE member = :oid AND roleid = (SELECT oid FROM pg_roles WHERE rolname = :members)"
)
_RECORDS = sa.text(f"SELECT count(*) FROM {NOTEBOOKS.name} WHERE user_id = :user_id")  # noqa: S608 - ours
#: From this version on, a membership is revoked in the name of who granted it.
_GRANTED_BY = 160000


def plan_removal(connection: sa.Connection, names: Iterable[str]) -> list[Departure]:
    """Return the roles that stand for users of these names, or have these names, and what would become of them."""
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return []
    if not connection.scalar(sa.text(f"SELECT has_table_privilege('{ROLES}', 'DELETE')")):
        role = connection.scalar(sa.text("SELECT current_user::text"))
        raise StoreError(
            f"the role {role} may not remove users: log in as the owner of the store's tables"
        )
    entered = entered_roles(connection)
    chosen = {role.name: role for name in names for role in roles_named(entered, name)}
    return [_plan(connection, role) for role in chosen.values()]


def roles_named(roles: Sequence[Role], name: str) -> list[Role]:
    """Return those of ``roles`` that stand for the user ``name``; if there is none, the role of that name."""
    return [role for role in roles if role.user_id == name] or [
        role for role in roles if role.name == name
    ]


def remove(connection: sa.Connection, names: Iterable[str]) -> list[Departure]:
    """Take roles out of the store, and drop those that nothing else in the database server depends on.

    A role that owns something, has rights in another database, or is a member of other roles is kept: it may be in use
    elsewhere. It loses its rights in the store in any case.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.

    Raises
    ------
    StoreError
        When the connection's role may not do this; nothing is changed then.
    """
    return [_remove(connection, departure) for departure in plan_removal(connection, names)]


def end_sessions(connection: sa.Connection, removed: Sequence[Departure]) -> list[Departure]:
    """End what connections removed roles still have; ``sessions`` of the result is how many could not be ended.

    Those see nothing any more, but keep the server that opened them from noticing.
    """
    return [departure._replace(sessions=_end(connection, departure)) for departure in removed]


def _plan(connection: sa.Connection, role: Role) -> Departure:
    records = int(connection.scalar(_RECORDS, {"user_id": role.user_id}) or 0)
    oid = connection.scalar(_OID, {"role": role.name})
    if oid is None:
        return Departure(role, records)
    sessions = len(connection.scalars(_SESSIONS, {"oid": oid}).all())
    return Departure(role, records, _reason_to_keep(connection, oid), sessions, oid)


def _reason_to_keep(connection: sa.Connection, oid: int) -> str:
    if owned := connection.scalar(_OWNED, {"oid": oid}):
        return f"it owns {owned} object{'' if owned == 1 else 's'} of the database server"
    if databases := connection.scalar(_ELSEWHERE, {"oid": oid}):
        return f"it has rights in other databases: {databases}"
    if groups := connection.scalar(_GROUPS, {"oid": oid, "members": members_role(connection)}):
        return f"it is a member of other roles: {groups}"
    return ""


def _remove(connection: sa.Connection, departure: Departure) -> Departure:
    name = {"role": departure.role.name}
    connection.execute(sa.text(f"DELETE FROM {ROLES} WHERE role = :role"), name)  # noqa: S608 - ours
    connection.execute(sa.text(f"DELETE FROM {MARKS} WHERE role = :role"), name)  # noqa: S608 - ours
    if departure.oid is None:
        return departure
    why = departure.kept or _drop(connection, departure.role.name)
    if why:
        _revoke(connection, departure)
    return departure._replace(kept=why)


def _drop(connection: sa.Connection, name: str) -> str:
    """Drop a role with its rights in this database; return why that could not be done."""
    execute, role = connection.exec_driver_sql, quoted(connection, name)
    for statements in ([f"DROP ROLE {role}"], [f"DROP OWNED BY {role}", f"DROP ROLE {role}"]):
        execute("SAVEPOINT axon_role")
        try:
            for statement in statements:
                execute(statement)
        except StoreError as error:
            why = str(error)
            execute("ROLLBACK TO SAVEPOINT axon_role")
        else:
            return ""
    return why


def _revoke(connection: sa.Connection, departure: Departure) -> None:
    """Take a role out of the group that has the rights in the store."""
    members = members_role(connection)
    given = {"oid": departure.oid, "members": members}
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    statement = (
        f"REVOKE {quoted(connection, members)} FROM {quoted(connection, departure.role.name)}"
    )
    for grantor in connection.scalars(_GRANTORS, given).all():
        by = f" GRANTED BY {quoted(connection, grantor)}" if version >= _GRANTED_BY else ""
        connection.exec_driver_sql(statement + by)
    if connection.scalars(_GRANTORS, given).all():
        raise StoreError(
            f"the role {departure.role.name} keeps its rights; run as a superuser: {statement}"
        )


def _end(connection: sa.Connection, departure: Departure) -> int:
    if departure.oid is None:
        return 0
    left = 0
    for pid in connection.scalars(_SESSIONS, {"oid": departure.oid}).all():
        try:
            connection.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        except StoreError:  # to end the sessions of others takes a right that owners need not have
            left += 1
    return left
