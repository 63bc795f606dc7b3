"""Migrations of stores that earlier versions of this package created.

Each step in :data:`STEPS` migrates a store from one schema version to the next. Steps run when the
store is opened, in the transaction that records the new version. So a step that fails leaves the
store unchanged, and of two processes that open the store at once only one migrates. Missing tables
are created after the last step; steps must change the columns and indexes of existing tables.
Processes that opened the store before the migration get StoreTooNew when they write.

To add a step, raise :data:`.schema.SCHEMA_VERSION`, and add the step under the previous number and
a small store of that version to ``tests/data/stores`` for each engine. Steps contain SQL for both
engines. They do not use :mod:`.schema`, whose content will change.

Alembic is not used: its revisions and configuration would be larger than the loop below.
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
