"""Inspection of stores on PostgreSQL servers without opening them for writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from ..schema import COLLECTIONS, Schema
from .engine import MARKS, PostgresqlEngine
from .roles import shown_user

_TIMEOUT = 5.0


@dataclass
class ServerHealth:
    """The state of a store on a server.

    Attributes
    ----------
    server : str
        The version of the server.
    exists : bool
        Whether the tables of the store exist.
    may_read, may_write : bool
        Whether the role has the rights to read and change the tables; if they do not exist, to
        create them.
    shown_user : str or None
        The user whose records the role is shown, ``""`` if it belongs to none; None if it is shown
        all records.
    counts : dict
        Documents by collection.
    size : int
        Bytes in the tables and their indexes.
    """

    server: str
    database: str
    role: str
    exists: bool = False
    may_read: bool = False
    may_write: bool = False
    schema_version: int | None = None
    shown_user: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    size: int = 0


@contextmanager
def connect_to_server(url: str) -> Iterator[sa.Connection]:
    """Open a read-only snapshot of the database of a store.

    Raises StoreError if the connection fails.
    """
    engine = PostgresqlEngine(url, _TIMEOUT, _TIMEOUT)
    try:
        with engine.sql.connect() as connection:
            engine.begin_snapshot(connection)
            yield connection
            connection.rollback()
    finally:
        engine.sql.dispose()


def examine_server(connection: sa.Connection) -> ServerHealth:
    """Return the state of the store in the database of ``connection``."""
    server, database, role = connection.exec_driver_sql(
        "SELECT current_setting('server_version'), current_database(), current_user"
    ).one()
    health = ServerHealth(server, database, role)
    schema = Schema()
    properties = schema.properties
    names = [MARKS, *(table.name for table in schema.metadata.sorted_tables)]
    tables = sorted(set(sa.inspect(connection).get_table_names()) & set(names))
    health.exists = properties.name in tables
    if not health.exists:
        health.may_read = health.may_write = bool(connection.scalar(_MAY_CREATE))
        return health
    rights = {"tables": tables, "data": [name for name in tables if name in schema.tables]}
    health.may_read, health.may_write, health.size = connection.execute(_RIGHTS, rights).one()
    if health.may_read:
        health.shown_user = shown_user(connection)
        version = str(
            connection.scalar(
                sa.select(properties.c.value).where(properties.c.name == "schema_version")
            )
        )
        health.schema_version = int(version) if version.isdecimal() else None
        for name in (collection.name for collection in COLLECTIONS if collection.name in tables):
            count = sa.select(sa.func.count()).select_from(schema.tables[name].sql)
            health.counts[name.removeprefix("axonml_")] = connection.scalar(count) or 0
    return health


_MAY_CREATE = sa.text(
    "SELECT has_schema_privilege(current_schema(), 'CREATE') "
    "AND has_schema_privilege(current_schema(), 'USAGE')"
)
_RIGHTS = sa.text(
    "SELECT bool_and(has_table_privilege(name, 'SELECT')), "
    "bool_and(name <> ALL (:data) OR has_table_privilege(name, 'INSERT') "
    "AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE') "
    "AND has_sequence_privilege(pg_get_serial_sequence(name, 'seq'), 'USAGE')), "
    "sum(pg_total_relation_size(name::regclass))::bigint FROM unnest(CAST(:tables AS text[])) name"
)
