"""What can be said of a store on a PostgreSQL server without opening it for work: nothing is made or changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from ..schema import COLLECTIONS, Schema
from .engine import MARKS, PostgresqlEngine
from .roles import shown_user

_PATIENCE = 5.0


@dataclass
class ServerHealth:
    """How a store on a server is doing.

    Attributes
    ----------
    server : str
        The server's version.
    exists : bool
        Whether its tables are there.
    may_read, may_write : bool
        Whether the role may read and change them; where there are none, whether it may make them.
    shown_user : str or None
        The user whose records alone the role is shown, "" if it stands for none; None if it is shown everybody's.
    counts : dict
        Documents by collection.
    size : int
        Bytes in the tables and their indexes.
    sizes : dict
        The same, by table.
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
    sizes: dict[str, int] = field(default_factory=dict)


@contextmanager
def connect_to_server(url: str) -> Iterator[sa.Connection]:
    """A connection to the database of a store that can only read.

    Raises
    ------
    StoreError
        When it cannot be had.
    """
    engine = PostgresqlEngine(url, _PATIENCE)
    try:
        with engine.sql.connect() as connection:
            engine.begin_snapshot(connection)
            yield connection
            connection.rollback()
    finally:
        engine.sql.dispose()


def examine_server(connection: sa.Connection) -> ServerHealth:
    """The health of the store that ``connection`` leads to."""
    server, database, role = connection.exec_driver_sql(
        "SELECT current_setting('server_version'), current_database(), current_user"
    ).one()
    health = ServerHealth(server, database, role)
    schema = Schema()
    names = [MARKS, *(table.name for table in schema.metadata.sorted_tables)]
    there = set(sa.inspect(connection).get_table_names()) & set(names)
    health.exists = schema.properties.name in there
    if not health.exists:
        health.may_read = health.may_write = bool(
            connection.exec_driver_sql(
                "SELECT has_schema_privilege(current_schema(), 'CREATE') "
                "AND has_schema_privilege(current_schema(), 'USAGE')"
            ).scalar_one()
        )
        return health
    health.may_read = all(_may(connection, name, "SELECT") for name in there)
    changes = ("INSERT", "UPDATE", "DELETE")
    # Only whoever makes the tables, or brings them up to date, writes their properties.
    written = there - {schema.properties.name}
    health.may_write = all(
        _may(connection, name, change) for name in written for change in changes
    ) and all(_may_number(connection, name) for name in there & set(schema.tables))
    sizes = {name: _size(connection, name) for name in sorted(there)}
    health.size = sum(sizes.values())
    health.sizes = {
        name.removeprefix("axonml_"): size
        for name, size in sizes.items()
        if name.startswith("axonml_")
    }
    if health.may_read:
        health.shown_user = shown_user(connection)
        version = sa.select(schema.properties.c.value).where(
            schema.properties.c.name == "schema_version"
        )
        found = str(connection.scalar(version))
        health.schema_version = int(found) if found.isdecimal() else None
        for collection in COLLECTIONS:
            if collection.name in there:
                counted = sa.select(sa.func.count()).select_from(schema.tables[collection.name].sql)
                health.counts[collection.name.removeprefix("axonml_")] = (
                    connection.scalar(counted) or 0
                )
    return health


def _may(connection: sa.Connection, table: str, privilege: str) -> bool:
    asked = "SELECT has_table_privilege(%s, %s)"
    return bool(connection.exec_driver_sql(asked, (table, privilege)).scalar_one())


def _may_number(connection: sa.Connection, table: str) -> bool:
    """Whether new rows of a table can be given their place in the order."""
    asked = "SELECT has_sequence_privilege(pg_get_serial_sequence(%s, 'seq'), 'USAGE')"
    return bool(connection.exec_driver_sql(asked, (table,)).scalar_one())


def _size(connection: sa.Connection, table: str) -> int:
    asked = "SELECT pg_total_relation_size(%s::regclass)"
    return int(connection.exec_driver_sql(asked, (table,)).scalar_one())
