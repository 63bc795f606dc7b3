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
    sessions : tuple of int
        The processes of its connections; after the removal, of those that could not be ended.
    """

    role: Role
    records: int
    kept: str
    sessions: tuple[int, ...]


_SESSIONS = sa.text(
    "SELECT pid FROM pg_stat_activity "
    "WHERE usename = :role AND datname = current_database() ORDER BY pid"
)
_GROUPS = sa.text(
    "SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_auth_members "
    "JOIN pg_roles ON pg_roles.oid = roleid "
    "WHERE member = to_regrole(quote_ident(:role)) AND rolname <> :members"
)
_RECORDS = sa.text(f"SELECT count(*) FROM {NOTEBOOKS.name} WHERE user_id = :user_id")  # noqa: S608


def roles_named(roles: Sequence[Role], name: str) -> list[Role]:
    """Return the roles of the user ``name`` or, if there are none, the role of that name."""
    return [role for role in roles if role.user_id == name] or [
        role for role in roles if role.name == name
    ]


def remove(connection: sa.Connection, names: Iterable[str]) -> list[RemovedRole]:
    """Remove roles from the store, and drop those that nothing else on the server depends on.

    A role that owns objects, has rights of its own, or is a member of other roles may be in use for
    something else, so it is kept, but loses its rights in the store.

    Parameters
    ----------
    connection : Connection
        In a transaction, as the owner of the store's tables.
    names : iterable of str
        Names of users or roles.

    Raises
    ------
    StoreError
        When the connection's role lacks rights.
    """
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return []
    if not connection.scalar(sa.text(f"SELECT has_table_privilege('{ROLES}', 'DELETE')")):
        role = connection.scalar(sa.text("SELECT current_user::text"))
        raise StoreError(
            f"the role {role} may not remove users: log in as the owner of the store's tables"
        )
    known = list_roles(connection)
    roles = {role.name: role for name in names for role in roles_named(known, name)}
    return [_remove(connection, role) for role in roles.values()]


def _remove(connection: sa.Connection, role: Role) -> RemovedRole:
    name = {"role": role.name}
    records = int(connection.scalar(_RECORDS, {"user_id": role.user_id}) or 0)
    sessions = tuple(connection.scalars(_SESSIONS, name))
    connection.execute(sa.text(f"DELETE FROM {ROLES} WHERE role = :role"), name)  # noqa: S608
    connection.execute(sa.text(f"DELETE FROM {MARKS} WHERE role = :role"), name)  # noqa: S608
    kept = ""
    if connection.scalar(sa.text("SELECT to_regrole(quote_ident(:role))"), name) is not None:
        kept = _drop(connection, role.name)
    return RemovedRole(role, records, kept, sessions)


def _drop(connection: sa.Connection, name: str) -> str:
    """Drop a role, or its rights in the store; return why it was kept, or an empty string."""
    execute, role = connection.exec_driver_sql, quote_name(connection, name)
    members = members_role(connection)
    if groups := connection.scalar(_GROUPS, {"role": name, "members": members}):
        kept = f"it is a member of other roles: {groups}"
    else:
        execute("SAVEPOINT axon_role")
        try:
            execute(f"DROP ROLE {role}")
        except StoreError as error:
            execute("ROLLBACK TO SAVEPOINT axon_role")
            kept = str(error)
        else:
            return ""
    execute(f"REVOKE {quote_name(connection, members)} FROM {role}")
    return kept


def end_sessions(connection: sa.Connection, removed: Sequence[RemovedRole]) -> list[RemovedRole]:
    """End the connections of removed roles, so that their servers notice the removal."""
    return [
        one._replace(sessions=tuple(pid for pid in one.sessions if not _end(connection, pid)))
        for one in removed
    ]


def _end(connection: sa.Connection, pid: int) -> bool:
    try:
        connection.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    except StoreError:  # owners may not have the right to end others' sessions
        return False
    return True
