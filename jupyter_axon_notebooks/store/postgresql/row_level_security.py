"""Row-level security that limits each role to the records of its user.

Every table has a policy. A notebook belongs to its ``user_id``; every other row belongs to the
owner of its notebook. Rows are deleted with their notebook, so that they do not belong to a later
notebook with the same id. The policies use columns, and ensure that documents agree with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...errors import StoreBusy
from ..error_mapping import Interrupted
from ..schema import CONTENTS, NOTEBOOKS, RUNS, Schema
from .engine import MARKS

#: The table of the users that roles belong to.
ROLES = "axon_roles"
#: The FROM clause that finds the row of the current role.
OWN_ROLE = f"FROM {ROLES} WHERE {ROLES}.role = current_user"

_POLICY = "axon_own"
_OWN_NOTEBOOK = (
    f"user_id = (SELECT {ROLES}.user_id {OWN_ROLE}) OR (SELECT {ROLES}.admin {OWN_ROLE})"
)
# Policies apply to the subquery as well, so it finds only the role's own notebooks.
_IN_OWN_NOTEBOOK = (
    f"EXISTS (SELECT 1 FROM {NOTEBOOKS.name} WHERE {NOTEBOOKS.name}.id = notebook_id)"  # noqa: S608
)
# Ids of contents and runs are predictable. A user who could insert the ids of another user's
# notebook would prevent its saves and runs. The id of a run ends with 64 hexadecimal digits.
_ID_CHECKS = {
    CONTENTS.name: "starts_with(id, notebook_id || '/') AND ",
    RUNS.name: "left(id, -64) = notebook_id || '/' AND ",
}

_ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
# The longest attempt to lock the tables, behind which others wait. Transactions take less.
_LOCK_TIMEOUT = "500ms"


class _Policy(NamedTuple):
    """The rows of a table that members can see and write, and their rights on the table."""

    table: str
    visible: str
    rights: str = _ALL_RIGHTS
    check: str = "true"
    in_notebook: bool = False

    def sql(self, members: str) -> str:
        return (
            f"ON {self.table} TO {members} USING ({self.visible}) "
            f"WITH CHECK (({self.visible}) AND {self.check})"
        )


def _policies(schema: Schema) -> Iterator[_Policy]:
    # In the order in which transactions lock the tables: notebooks first, marks last.
    for table in schema.tables.values():
        name, check = table.sql.name, _check_ending(table.collection.ending)
        if table.collection is NOTEBOOKS:
            yield _Policy(name, _OWN_NOTEBOOK, check=check)
            continue
        id_check = _ID_CHECKS.get(name, "")
        yield _Policy(name, _IN_OWN_NOTEBOOK, check=id_check + check, in_notebook=True)
        for derived in table.notebook_tables[1:]:
            yield _Policy(derived.name, _IN_OWN_NOTEBOOK, in_notebook=True)
    yield _Policy(ROLES, "role = current_user", "SELECT")
    yield _Policy(MARKS, "role = current_user")


def _check_ending(names: Iterable[str]) -> str:
    """Return the condition that a document agrees with the columns of these fields.

    It compares the end of the text (see :func:`.codec.encode_ending`), since PostgreSQL does not
    parse JSON with NaN, NUL or lone surrogates; and bytes, since counting characters takes
    milliseconds for large cells.
    """
    fields = " || ".join(f"""',"{name}":' || to_json({name})::text""" for name in names)
    end = f"{fields} || '}}'"
    start = f"octet_length(document) - octet_length({end}) + 1"
    return f"substring(convert_to(document, 'UTF8') FROM {start}) = convert_to({end}, 'UTF8')"


class RowLevelSecurity:
    """The policies and rights of the role ``members``, which the roles of users belong to."""

    def __init__(self, connection: sa.Connection, members: str) -> None:
        self._connection = connection
        self._execute = connection.exec_driver_sql
        self._members = quote_name(connection, members)

    def prepare(self, schema: Schema) -> None:
        """Create the table of roles, and grant members what they need besides the tables."""
        execute, members = self._execute, self._members
        execute(
            f"CREATE TABLE IF NOT EXISTS {ROLES} "
            '(role name PRIMARY KEY, user_id text COLLATE "C" NOT NULL, admin boolean NOT NULL)'
        )
        name = quote_name(
            self._connection, str(self._connection.scalar(sa.text("SELECT current_schema()")))
        )
        # Others could call functions that a user creates beside the tables.
        execute(f"REVOKE CREATE ON SCHEMA {name} FROM PUBLIC")
        execute(f"GRANT USAGE ON SCHEMA {name} TO {members}")
        execute(f"GRANT SELECT ON {schema.properties.name} TO {members}")
        for table in schema.tables:
            sequence = self._connection.scalar(
                sa.text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": table}
            )
            execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {members}")

    def enable(self, schema: Schema) -> None:
        """Create the policies that are missing or differ, and grant members their rights."""
        policies = list(_policies(schema))
        missing = [policy for policy in policies if not self._is_enabled(policy)]
        if missing:
            self._lock_tables([policy.table for policy in policies])
        for policy in missing:
            self._create(policy)
        for policy in policies:
            self._execute(f"REVOKE ALL ON {policy.table} FROM PUBLIC")
            self._execute(f"GRANT {policy.rights} ON {policy.table} TO {self._members}")

    def _lock_tables(self, tables: Iterable[str]) -> None:
        """Lock the tables until the commit, with a short timeout, since others wait meanwhile."""
        self._execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        try:
            self._execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        except StoreBusy as error:
            raise Interrupted(str(error)) from error

    def _is_enabled(self, policy: _Policy) -> bool:
        state = self._state(policy.table)
        if state is None or state[0] != _digest(policy.sql(self._members), state):
            return False
        return not policy.in_notebook or self._has_foreign_key(policy.table)

    def _create(self, policy: _Policy) -> None:
        execute, table, sql = self._execute, policy.table, policy.sql(self._members)
        execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        execute(f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
        execute(f"CREATE POLICY {_POLICY} {sql}")
        execute(f"COMMENT ON POLICY {_POLICY} ON {table} IS '{_digest(sql, self._state(table))}'")
        if policy.in_notebook and not self._has_foreign_key(table):
            # Deferred: a row may be inserted before its notebook. Existing rows are not checked.
            execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {table}_of_notebook "
                f"FOREIGN KEY (notebook_id) REFERENCES {NOTEBOOKS.name} (id) "
                "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
            )

    def _state(self, table: str) -> sa.Row[Any] | None:
        """Return the comment of a table's policy, and its definition in the database."""
        return self._connection.execute(_STATE, {"table": table, "policy": _POLICY}).one_or_none()

    def _has_foreign_key(self, table: str) -> bool:
        constraint = sa.text(
            "SELECT 1 FROM pg_constraint "
            "WHERE conrelid = CAST(:table AS regclass) AND conname = :name"
        )
        values = {"table": table, "name": f"{table}_of_notebook"}
        return self._connection.scalar(constraint, values) is not None


_STATE = sa.text(
    "SELECT obj_description(pg_policy.oid, 'pg_policy'), relrowsecurity, polpermissive, "
    "polroles::text, polcmd, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) "
    "FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid "
    "WHERE polrelid = CAST(:table AS regclass) AND polname = :policy"
)


def _digest(sql: str, state: sa.Row[Any] | None) -> str:
    """Return a digest of the statement that created a policy and of its definition afterwards."""
    return hashlib.sha256(repr((sql, state and tuple(state)[1:])).encode()).hexdigest()


def quote_name(connection: sa.Connection, name: str) -> str:
    """Quote a name for SQL."""
    return connection.dialect.identifier_preparer.quote_identifier(name)
