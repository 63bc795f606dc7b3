"""From a store that an earlier version of this package made to one as it is today: step by step, in one transaction.

A step takes a store from the schema version that it is filed under to the next. It runs when the store is opened, in
the transaction that then notes the new version: a step that fails, or is killed, leaves the store as it was, and of two
processes that open the store at once one finds the work done. When all steps are through, missing tables are made;
columns and indexes of tables that are there are the steps' to make. Processes that have the store open from before can
write to it no more (StoreTooNew): they know nothing of new columns.

To write one: raise :data:`.schema.SCHEMA_VERSION`, file the step under the number it was, and keep a small store of
that version in ``tests/data/stores``, for each engine. A step speaks the SQL of its day, for both engines, and leaves :mod:`.schema`
alone, which goes on changing while the step has to stay as it is.

Alembic is not used. A schema here is a handful of columns that are derived from JSON documents; what changes in the
documents themselves it could not see. Its revisions, its configuration and its own notion of a transaction would come
to more than the loop below, which every process runs on opening, with nobody at a command line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress

import sqlalchemy as sa

from .codec import plain_text

Step = Callable[[sa.Connection], None]


def _key_runs_by_notebook(connection: sa.Connection) -> None:
    """Make the ids of runs unique per notebook: ``run`` becomes ``<notebook id>/<SHA-256 of run>``.

    The documents keep the runs' own ids. A damaged run, whose id or notebook is no text, is left as it is.
    """
    if connection.dialect.name == "sqlite":  # whose drivers fail on a text that is no UTF-8
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


#: By the schema version that a step begins at.
STEPS: Mapping[int, Step] = {1: _key_runs_by_notebook}


def migrate(connection: sa.Connection, version: int, target: int) -> None:
    """Take the store from schema ``version`` to ``target``, inside the caller's transaction."""
    for number in range(version, target):
        STEPS[number](connection)
