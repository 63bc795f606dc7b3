"""Migrations of stores that earlier versions of this package created.

A step migrates a store from the schema version that it is filed under to the next one. Steps run
when the store is opened, in the transaction that records the new version: a step that fails leaves
the store unchanged, and of two processes that open the store at once only one migrates. Missing
tables are created after the last step; columns and indexes of existing tables are up to the steps.
Processes that have had the store open since before get StoreTooNew when they write.

To add a step, raise :data:`.schema.SCHEMA_VERSION`, file the step under the previous number, and
keep a small store of that version in ``tests/data/stores`` for each engine. Steps contain SQL for
both engines and do not use :mod:`.schema`, which changes while a step must not.

Alembic is not used: the schema is a handful of columns derived from JSON documents, and its
revisions and configuration would be larger than the loop below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress

import sqlalchemy as sa

from .codec import plain_text

Step = Callable[[sa.Connection], None]


def _key_runs_by_notebook(connection: sa.Connection) -> None:
    """Change the ids of run rows to ``<notebook id>/<SHA-256 of the run id>``.

    Documents keep the run's own id. Damaged rows are left unchanged.
    """
    if connection.dialect.name == "sqlite":  # the driver fails on text that is not UTF-8
        select = (
            "SELECT seq, CAST(id AS BLOB), CAST(notebook_id AS BLOB) FROM axonml_runs "
            "WHERE typeof(id) = 'text' AND typeof(notebook_id) = 'text'"
        )
    else:
        select = (
            "SELECT seq, convert_to(id, 'UTF8'), convert_to(notebook_id, 'UTF8') FROM axonml_runs "
            "WHERE id IS NOT NULL AND notebook_id IS NOT NULL"
        )
    rows = []
    for seq, *stored in connection.execute(sa.text(select)):
        with suppress(UnicodeDecodeError):
            id, notebook_id = (value.decode() for value in stored)
            digest = hashlib.sha256(plain_text(id).encode("utf-8", "surrogatepass")).hexdigest()
            rows.append({"seq": seq, "key": f"{notebook_id}/{digest}"})
    if rows:
        connection.execute(sa.text("UPDATE axonml_runs SET id = :key WHERE seq = :seq"), rows)


#: The steps, by the schema version that they start from.
STEPS: Mapping[int, Step] = {1: _key_runs_by_notebook}


def migrate(connection: sa.Connection, version: int, target: int) -> None:
    """Migrate the store from schema ``version`` to ``target`` in the caller's transaction."""
    for number in range(version, target):
        STEPS[number](connection)
