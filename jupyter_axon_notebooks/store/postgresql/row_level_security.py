"""What keeps users apart inside one PostgreSQL database: a policy on each table, and that rows go with their notebook.

A notebook is the user's whom its column names; everything else is whose notebook it is of, and goes with it, so that
nobody who makes a notebook of the same id later finds something in it. What documents say has to agree with the columns.
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

#: Which user a role stands for.
ROLES = "axon_roles"

_POLICY = "axon_own"
#: Where the current role has its line.
MINE = f"FROM {ROLES} WHERE {ROLES}.role = current_user"
_IS_MINE = f"user_id = (SELECT {ROLES}.user_id {MINE}) OR (SELECT {ROLES}.admin {MINE})"
# A subquery in a policy is held to policies itself: what it finds is the role's own.
_OF_MINE = f"EXISTS (SELECT 1 FROM {NOTEBOOKS.name} WHERE {NOTEBOOKS.name}.id = notebook_id)"  # noqa: S608 - the name is ours
# The ids of contents and runs can be predicted: whoever may take one in advance keeps another's notebook from being
# saved, or from having a run. That of a run ends with 64 hexadecimal digits, so it names one notebook only.
_NAMED_FOR_IT = {
    CONTENTS.name: "starts_with(id, notebook_id || '/') AND ",
    RUNS.name: "left(id, -64) = notebook_id || '/' AND ",
}

_EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"
# How long others wait behind an attempt to have a table to oneself; units of work take less.
_MOMENT = "500ms"


class _Held(NamedTuple):
    """A table, and which of its rows members are shown, may write, and with which rights."""

    table: str
    shown: str
    rights: str = _EVERYTHING
    written: str = "true"
    of_notebook: bool = False


def _all_held(schema: Schema) -> Iterator[_Held]:
    # In the order in which units of work come to them: the notebook first, the mark last.
    for table in schema.tables.values():
        name, says = table.sql.name, _says(table.collection.ending)
        if table.collection is NOTEBOOKS:
            yield _Held(name, _IS_MINE, written=says)
            continue
        named = _NAMED_FOR_IT.get(name, "")
        yield _Held(name, _OF_MINE, written=named + says, of_notebook=True)
        if table.metric_index is not None:
            yield _Held(table.metric_index.sql.name, _OF_MINE, of_notebook=True)
    yield _Held(ROLES, "role = current_user", "SELECT")
    yield _Held(MARKS, "role = current_user")


class Fence:
    """What has the database show a role its user's records only."""

    def __init__(self, connection: sa.Connection, members: str) -> None:
        self._connection = connection
        self._execute = connection.exec_driver_sql
        self._members = quoted(connection, members)

    def prepare(self, schema: Schema) -> None:
        """Make the table of roles, and grant members what they need besides the tables."""
        execute, members = self._execute, self._members
        execute(
            f"CREATE TABLE IF NOT EXISTS {ROLES} "
            '(role name PRIMARY KEY, user_id text COLLATE "C" NOT NULL, admin boolean NOT NULL)'
        )
        home = quoted(
            self._connection, str(self._connection.scalar(sa.text("SELECT current_schema()")))
        )
        # Who could put a function of his own beside the tables could have others call it.
        execute(f"REVOKE CREATE ON SCHEMA {home} FROM PUBLIC")
        execute(f"GRANT USAGE ON SCHEMA {home} TO {members}")
        execute(f"GRANT SELECT ON {schema.properties.name} TO {members}")
        for table in schema.tables:
            sequence = self._connection.scalar(
                sa.text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": table}
            )
            execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {members}")

    def put_up(self, schema: Schema) -> None:
        """Let members do to every table what they are shown of it."""
        every = list(_all_held(schema))
        lacking = [held for held in every if not self._is_held(held)]
        if lacking:
            self._take([held.table for held in every])
        for held in lacking:
            self._hold(held)
        for held in every:
            self._execute(f"REVOKE ALL ON {held.table} FROM PUBLIC")
            self._execute(f"GRANT {held.rights} ON {held.table} TO {self._members}")

    def _take(self, tables: Iterable[str]) -> None:
        """Have the tables to oneself until the end; who waits for that keeps all others waiting behind."""
        self._execute(f"SET LOCAL lock_timeout = '{_MOMENT}'")
        try:
            self._execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        except StoreBusy as error:
            raise Interrupted(str(error)) from error

    def _policy(self, held: _Held) -> str:
        return (
            f"ON {held.table} TO {self._members} USING ({held.shown}) "
            f"WITH CHECK (({held.shown}) AND {held.written})"
        )

    def _is_held(self, held: _Held) -> bool:
        there = self._there(held.table)
        if there is None or there[0] != _digest(self._policy(held), there):
            return False
        return not held.of_notebook or self._is_bound(held.table)

    def _hold(self, held: _Held) -> None:
        """Hold members to what a table's policy says, and have its rows go with their notebook."""
        execute, table, policy = self._execute, held.table, self._policy(held)
        execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        execute(f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
        execute(f"CREATE POLICY {_POLICY} {policy}")
        execute(
            f"COMMENT ON POLICY {_POLICY} ON {table} IS '{_digest(policy, self._there(table))}'"
        )
        if held.of_notebook and not self._is_bound(table):
            # They may come before it, in the same transaction. What is there already is not looked through.
            execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {table}_of_notebook FOREIGN KEY (notebook_id) "
                f"REFERENCES {NOTEBOOKS.name} (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
            )

    def _there(self, table: str) -> sa.Row[Any] | None:
        """What is noted of a table's policy, and how the database has it."""
        return self._connection.execute(_HOLDING, {"table": table, "policy": _POLICY}).one_or_none()

    def _is_bound(self, table: str) -> bool:
        there = sa.text(
            "SELECT 1 FROM pg_constraint WHERE conrelid = CAST(:table AS regclass) AND conname = :name"
        )
        found = self._connection.scalar(there, {"table": table, "name": f"{table}_of_notebook"})
        return found is not None


def _says(ending: Iterable[str]) -> str:
    """The condition that a document says of these fields what the columns say, as which alone the policies know it.

    By how it ends (:func:`.codec.encode_ending`): PostgreSQL's own JSON has no NaN, no NUL and no lone surrogate. As
    bytes: to find the end of a text it counts characters, which takes milliseconds where a cell has much to say.
    """
    fields = " || ".join(f"""',"{name}":' || to_json({name})::text""" for name in ending)
    end = f"{fields} || '}}'"
    start = f"octet_length(document) - octet_length({end}) + 1"
    return f"substring(convert_to(document, 'UTF8') FROM {start}) = convert_to({end}, 'UTF8')"


_HOLDING = sa.text(
    "SELECT obj_description(pg_policy.oid, 'pg_policy'), relrowsecurity, polpermissive, polroles::text, polcmd, "
    "pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) "
    "FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid "
    "WHERE polrelid = CAST(:table AS regclass) AND polname = :policy"
)


def _digest(policy: str, there: sa.Row[Any] | None) -> str:
    """What is noted of a policy: a digest of how it was made, and of how the database has it since."""
    return hashlib.sha256(repr((policy, there and tuple(there)[1:])).encode()).hexdigest()


def quoted(connection: sa.Connection, name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return connection.dialect.identifier_preparer.quote_identifier(name)
