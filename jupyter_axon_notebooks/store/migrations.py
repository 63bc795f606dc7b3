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

import sqlalchemy as sa

from .codec import plain_text

Step = Callable[[sa.Connection], None]


def _key_runs_by_notebook(connection: sa.Connection) -> None:
    """Change the ids of run rows to ``<notebook id>/<SHA-256 of the run id>``.

    Documents keep the run's own id.
    """
    select = (
        "SELECT seq, id, notebook_id FROM axonml_runs "
        "WHERE id IS NOT NULL AND notebook_id IS NOT NULL"
    )
    rows = []
    for seq, id, notebook_id in connection.execute(sa.text(select)):
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
