"""Removal of users from a shared PostgreSQL database. Their records are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from ...errors import StoreError
from ..schema import NOTEBOOKS
from .engine import MARKS
from .roles import Role, list_roles, members_role
from .row_level_security import ROLES, quote_name


class RemovedRole(NamedTuple):
    """A role that is removed, or would be.

    Attributes
    ----------
    role : Role
        The role and its user.
    records : int
        The number of notebook records of the user, which are kept.
    kept : str
        Why the role itself is kept, without rights in the store; empty if it is dropped.
    sessions : int
        The number of its connections; after the removal, of those that could not be ended.
    oid : int or None
        The oid of the role, None if it was dropped earlier.
    """

    role: Role
    records: int
    kept: str = ""
    sessions: int = 0
    oid: int | None = None


_OID = sa.text("SELECT oid FROM pg_roles WHERE rolname = :role")
_SESSIONS = sa.text(
    "SELECT pid FROM pg_stat_activity "
    "WHERE usesysid = :oid AND datname = current_database() ORDER BY pid"
)
_OWNED = sa.text(
    "SELECT count(*) FROM pg_shdepend "
    "WHERE refclassid = 'pg_authid'::regclass AND refobjid = :oid AND deptype = 'o'"
)
_ELSEWHERE = sa.text(
    "SELECT string_agg(DISTINCT datname, ', ') FROM pg_shdepend "
    "JOIN pg_database ON pg_database.oid = dbid "
    "OR (classid = 'pg_database'::regclass AND pg_database.oid = objid) "
    "WHERE refclassid = 'pg_authid'::regclass AND refobjid = :oid "
    "AND datname <> current_database()"
)
_GROUPS = sa.text(
    "SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_auth_members "
    "JOIN pg_roles ON pg_roles.oid = roleid WHERE member = :oid AND rolname <> :members"
)
_GRANTORS = sa.text(
    "SELECT pg_get_userbyid(grantor)::text FROM pg_auth_members "
    "WHERE member = :oid AND roleid = (SELECT oid FROM pg_roles WHERE rolname = :members)"
)
_RECORDS = sa.text(f"SELECT count(*) FROM {NOTEBOOKS.name} WHERE user_id = :user_id")  # noqa: S608
#: The first version of PostgreSQL with REVOKE … GRANTED BY for memberships.
_GRANTED_BY = 160000


def plan_removal(connection: sa.Connection, names: Iterable[str]) -> list[RemovedRole]:
    """Return what :func:`remove` would remove, given names of users or roles."""
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return []
    if not connection.scalar(sa.text(f"SELECT has_table_privilege('{ROLES}', 'DELETE')")):
        role = connection.scalar(sa.text("SELECT current_user::text"))
        raise StoreError(
            f"the role {role} may not remove users: log in as the owner of the store's tables"
        )
    known = list_roles(connection)
    roles = {role.name: role for name in names for role in roles_named(known, name)}
    return [_plan(connection, role) for role in roles.values()]


def roles_named(roles: Sequence[Role], name: str) -> list[Role]:
    """Return the roles of the user ``name`` or, if there are none, the role of that name."""
    return [role for role in roles if role.user_id == name] or [
        role for role in roles if role.name == name
    ]


def remove(connection: sa.Connection, names: Iterable[str]) -> list[RemovedRole]:
    """Remove roles from the store, and drop those that nothing else on the server depends on.

    A role that owns objects, has rights in another database, or is a member of other roles may be
    in use for something else, so it is kept, but loses its rights in the store.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.

    Raises
    ------
    StoreError
        When the connection's role lacks rights.
    """
    return [_remove(connection, removed) for removed in plan_removal(connection, names)]


def end_sessions(connection: sa.Connection, removed: Sequence[RemovedRole]) -> list[RemovedRole]:
    """End the connections of removed roles, so that their servers notice the removal."""
    return [role._replace(sessions=_end_sessions(connection, role)) for role in removed]


def _plan(connection: sa.Connection, role: Role) -> RemovedRole:
    records = int(connection.scalar(_RECORDS, {"user_id": role.user_id}) or 0)
    oid = connection.scalar(_OID, {"role": role.name})
    if oid is None:
        return RemovedRole(role, records)
    sessions = len(connection.scalars(_SESSIONS, {"oid": oid}).all())
    return RemovedRole(role, records, _reason_to_keep(connection, oid), sessions, oid)


def _reason_to_keep(connection: sa.Connection, oid: int) -> str:
    if owned := connection.scalar(_OWNED, {"oid": oid}):
        return f"it owns {owned} object{'' if owned == 1 else 's'} of the database server"
    if databases := connection.scalar(_ELSEWHERE, {"oid": oid}):
        return f"it has rights in other databases: {databases}"
    if groups := connection.scalar(_GROUPS, {"oid": oid, "members": members_role(connection)}):
        return f"it is a member of other roles: {groups}"
    return ""


def _remove(connection: sa.Connection, removed: RemovedRole) -> RemovedRole:
    name = {"role": removed.role.name}
    connection.execute(sa.text(f"DELETE FROM {ROLES} WHERE role = :role"), name)  # noqa: S608
    connection.execute(sa.text(f"DELETE FROM {MARKS} WHERE role = :role"), name)  # noqa: S608
    if removed.oid is None:
        return removed
    why = removed.kept or _drop(connection, removed.role.name)
    if why:
        _revoke(connection, removed)
    return removed._replace(kept=why)


def _drop(connection: sa.Connection, name: str) -> str:
    """Drop a role with its rights in this database; return why it failed, or an empty string."""
    execute, role = connection.exec_driver_sql, quote_name(connection, name)
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


def _revoke(connection: sa.Connection, removed: RemovedRole) -> None:
    """Remove a role from the group that has the rights in the store."""
    members = members_role(connection)
    values = {"oid": removed.oid, "members": members}
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    role = quote_name(connection, removed.role.name)
    statement = f"REVOKE {quote_name(connection, members)} FROM {role}"
    for grantor in connection.scalars(_GRANTORS, values).all():
        by = f" GRANTED BY {quote_name(connection, grantor)}" if version >= _GRANTED_BY else ""
        connection.exec_driver_sql(statement + by)
    if connection.scalars(_GRANTORS, values).all():
        raise StoreError(
            f"the role {removed.role.name} still has its rights; run as a superuser: {statement}"
        )


def _end_sessions(connection: sa.Connection, removed: RemovedRole) -> int:
    """End the connections of a role; return how many could not be ended."""
    if removed.oid is None:
        return 0
    left = 0
    for pid in connection.scalars(_SESSIONS, {"oid": removed.oid}).all():
        try:
            connection.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        except StoreError:  # owners may not have the right to end others' sessions
            left += 1
    return left
