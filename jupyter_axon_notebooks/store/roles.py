"""Users apart inside one PostgreSQL database.

A kernel reaches the database itself, as the role its server logs in with, so what the REST API forbids has to be
forbidden there as well. Each user has a role of his own, and to a role the database shows nothing but its user's
records (row-level security). Whom a role stands for is in a table that only the owner of the store's tables changes.

A notebook is the user's whom its column names; everything else is whose notebook it is of, and goes with it, so that
nobody who makes a notebook of the same id later finds something in it. The owner of the tables sees everything, as do
superusers: servers and kernels log in as neither.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import psycopg
import sqlalchemy as sa

from ..errors import InvalidData, StoreError
from .codec import column_text, plain_text
from .postgresql import MARKS
from .schema import CONTENTS, NOTEBOOKS, Schema

#: Which user a role stands for.
ROLES = "axon_roles"

_POLICY = "axon_own"
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones off, and two could become one

_MINE = f"FROM {ROLES} WHERE {ROLES}.role = current_user"
_IS_MINE = f"user_id = (SELECT {ROLES}.user_id {_MINE}) OR (SELECT {ROLES}.admin {_MINE})"
# A subquery in a policy is held to policies itself: what it finds is the role's own.
_OF_MINE = f"EXISTS (SELECT 1 FROM {NOTEBOOKS.name} WHERE {NOTEBOOKS.name}.id = notebook_id)"  # noqa: S608 - the name is ours
# The ids of contents can be foretold: whoever may take one in advance keeps another's notebook from being saved.
_NAMED_FOR_IT = "starts_with(id, notebook_id || '/')"

_EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"


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

    What is in place already is left alone, so that to add a user holds up nobody.

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
        For a role, one that was added earlier included, that could not be held back: see :func:`_check_held_back`.
    StoreError
        When the connection's role may not do this.
    """
    members = members_role(connection)
    for role in roles:
        _check_name(role.name, members)
    made = _make_roles(connection, members, [role.name for role in roles])
    _Fence(connection, members).put_up(schema)
    _enter(connection, roles)
    _check_held_back(connection)
    _check_schema(connection, members)
    for name, password in passwords.items():
        _set_password(connection, name, password)
    return Separation(_entered(connection), made)


def shown_user(connection: sa.Connection) -> str | None:
    """The user whose records alone the connection's role is shown, as the column has it; None: it is shown everybody's."""
    if connection.scalar(sa.text(f"SELECT to_regclass('{ROLES}')")) is None:
        return None
    if not connection.scalar(sa.text(f"SELECT row_security_active('{NOTEBOOKS.name}')")):
        return None
    found = connection.execute(sa.text(f"SELECT user_id, admin {_MINE}")).one_or_none()
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


def pass_lines(url: sa.URL, role: str, password: str) -> str:
    """The lines of a passfile that let ``role`` into the database at ``url``, and into no other."""
    given = url.set(drivername="postgresql+psycopg").get_dialect()().create_connect_args(url)[1]
    hosts = str(given.get("host") or given.get("hostaddr") or "*").split(",")
    ports = str(given.get("port") or "," * (len(hosts) - 1)).split(",")
    places: dict[tuple[str, str], None] = {}
    for host, port in zip(hosts, ports, strict=True):
        places[host or "localhost", port or "*"] = None
        if host.startswith(("/", "@")):  # the folder of a socket: libpq calls its default one localhost
            places["localhost", port or "*"] = None
    lines = ([host, port, url.database or "*", role, password] for host, port in places)
    return "".join(":".join(map(_pass_field, fields)) + "\n" for fields in lines)


def _pass_field(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")


def _check_name(name: str, members: str) -> None:
    # A line of a passfile holds no line break, and no column a lone surrogate.
    if not name.isprintable() or not 1 <= len(name.encode()) <= _LONGEST_NAME:
        raise InvalidData(
            f"role {name!r}", f"the name of a role has 1 to {_LONGEST_NAME} bytes of printable text"
        )
    if name == members:
        raise InvalidData(f"role {name!r}", "is the role that all users' roles are members of")


def _make_roles(connection: sa.Connection, members: str, names: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(names))
    there = set(connection.scalars(sa.text("SELECT rolname::text FROM pg_roles")))
    group = _quoted(connection, members)
    if members not in there:
        connection.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    made = [name for name in wanted if name not in there]
    for name in made:
        connection.exec_driver_sql(f"CREATE ROLE {_quoted(connection, name)} LOGIN")
    for name in wanted:
        connection.exec_driver_sql(f"GRANT {group} TO {_quoted(connection, name)}")
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
        why = found.why if found.role == found.other else f"may act as {found.other}, which {found.why}"
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
            "SELECT rolname::text FROM pg_roles WHERE has_schema_privilege(oid, current_schema(), 'CREATE') "  # noqa: S608
            f"AND (rolname = :members OR rolname IN (SELECT role FROM {ROLES})) ORDER BY 1"
        ),
        {"members": members},
    ).all()
    home = _quoted(connection, home)
    needed = []
    if not usable:
        needed.append(f"GRANT USAGE ON SCHEMA {home} TO {_quoted(connection, me)} WITH GRANT OPTION")
    if creators:
        whom = "PUBLIC" if members in creators else ", ".join(_quoted(connection, name) for name in creators)
        needed.append(f"REVOKE CREATE ON SCHEMA {home} FROM {whom}")
    if needed:
        raise StoreError(
            f"the schema {home} belongs to {owner}, who has to run first: {'; '.join(needed)} "
            "(who may make functions beside the tables could have others call them)"
        )


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


class _Fence:
    """What has the database show a role its user's records only."""

    def __init__(self, connection: sa.Connection, members: str) -> None:
        self._connection = connection
        self._execute = connection.exec_driver_sql
        self._members = _quoted(connection, members)

    def put_up(self, schema: Schema) -> None:
        """Make the table of roles, and let members do to every table what they are shown of it."""
        execute, members = self._execute, self._members
        execute(
            f"CREATE TABLE IF NOT EXISTS {ROLES} "
            '(role name PRIMARY KEY, user_id text COLLATE "C" NOT NULL, admin boolean NOT NULL)'
        )
        home = _quoted(self._connection, str(self._connection.scalar(sa.text("SELECT current_schema()"))))
        # Who could put a function of his own beside the tables could have others call it.
        execute(f"REVOKE CREATE ON SCHEMA {home} FROM PUBLIC")
        execute(f"GRANT USAGE ON SCHEMA {home} TO {members}")
        execute(f"GRANT SELECT ON {schema.properties.name} TO {members}")
        self._hold(ROLES, "role = current_user", "SELECT")
        # In the order in which units of work come to them: the notebook first, the mark last.
        for table in schema.tables.values():
            name = table.sql.name
            if table.collection is NOTEBOOKS:
                self._hold(name, _IS_MINE, _EVERYTHING, _says(table.collection.ending))
            else:
                held = [_NAMED_FOR_IT] if table.collection is CONTENTS else []
                written = " AND ".join([*held, _says(table.collection.ending)])
                self._hold(name, _OF_MINE, _EVERYTHING, written)
                self._bind(name)
            sequence = self._connection.scalar(
                sa.text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": name}
            )
            execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {members}")
            if table.metric_index is not None:
                self._hold(table.metric_index.sql.name, _OF_MINE, _EVERYTHING)
                self._bind(table.metric_index.sql.name)
        self._hold(MARKS, "role = current_user", _EVERYTHING)

    def _hold(self, table: str, shown: str, rights: str, written: str = "true") -> None:
        """Show members the rows for which ``shown`` holds; of what they write ``written`` has to hold as well."""
        execute = self._execute
        policy = f"ON {table} TO {self._members} USING ({shown}) WITH CHECK (({shown}) AND {written})"
        there = self._there(table)
        if there is None or there[0] != _digest(policy, there):
            execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            execute(f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
            execute(f"CREATE POLICY {_POLICY} {policy}")
            execute(f"COMMENT ON POLICY {_POLICY} ON {table} IS '{_digest(policy, self._there(table))}'")
        execute(f"REVOKE ALL ON {table} FROM PUBLIC")
        execute(f"GRANT {rights} ON {table} TO {self._members}")

    def _there(self, table: str) -> sa.Row[Any] | None:
        """What is noted of a table's policy, and how the database has it."""
        return self._connection.execute(_HOLDING, {"table": table, "policy": _POLICY}).one_or_none()

    def _bind(self, table: str) -> None:
        """Have a table's rows go with their notebook.

        They may come before it, in the same transaction. What is there already is not looked through.
        """
        name = f"{table}_of_notebook"
        there = sa.text(
            "SELECT 1 FROM pg_constraint WHERE conrelid = CAST(:table AS regclass) AND conname = :name"
        )
        if self._connection.scalar(there, {"table": table, "name": name}) is None:
            self._execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (notebook_id) REFERENCES {NOTEBOOKS.name} (id) "
                "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
            )


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
