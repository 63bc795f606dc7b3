"""Queries for versions, contents and rows that garbage collection may delete.

They use indexes only, and read no document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from .codec import column_text, plain_text
from .database import Database
from .schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, RUNS, VERSIONS, Schema


class GarbageQueries:
    """Queries for old versions, for contents that no version lists, and for rows without a run.

    Results may be out of date when they are used, unless the transaction has locked the notebook.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        n = schema.tables[NOTEBOOKS.name].sql.c
        v = schema.tables[VERSIONS.name].sql.c
        c = schema.tables[CONTENTS.name].sql.c
        referring = schema.tables[CHECKPOINTS.name].sql.c.version_id
        in_notebook = v.notebook_id == sa.bindparam("notebook")
        keep = sa.bindparam("keep", type_=sa.Integer)
        oldest_kept = (
            sa.select(v.ordinal).where(in_notebook).order_by(v.ordinal.desc()).limit(1)
        ).offset(keep - 1)
        self._superseded = (
            sa.select(v.id)
            .where(
                in_notebook,
                v.ordinal < oldest_kept.scalar_subquery(),
                ~sa.exists().where(referring == v.id),
            )
            .order_by(v.ordinal)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
        self._over_limit = (
            sa.select(v.notebook_id).group_by(v.notebook_id).having(sa.func.count() > keep)
        )
        over_limit = self._over_limit.subquery()
        self._over_limit_of_user = (
            sa.select(n.id)
            .join(over_limit, over_limit.c.notebook_id == n.id)
            .where(n.user_id == sa.bindparam("user"))
        )
        self._versions = sa.select(v.id).where(in_notebook)

        def newer_than(ordinal: sa.Select[Any]) -> sa.ColumnElement[bool]:
            return c.ordinal > sa.func.coalesce(ordinal.scalar_subquery(), -1)

        newest = sa.select(sa.func.max(v.ordinal)).where(in_notebook)
        contents = sa.select(c.id).where(c.notebook_id == sa.bindparam("notebook"))
        self._unlisted = contents.where(newer_than(newest))
        self._since = contents.where(newer_than(newest.where(v.ordinal < sa.bindparam("ordinal"))))
        newest_here = sa.select(sa.func.max(v.ordinal)).where(v.notebook_id == c.notebook_id)
        self._with_unlisted = (
            sa.select(c.notebook_id)
            .group_by(c.notebook_id)
            .having(sa.func.max(c.ordinal) > sa.func.coalesce(newest_here.scalar_subquery(), -1))
        )

    def superseded_versions(self, notebook_id: str, keep: int, *, limit: int) -> list[str]:
        """Return the oldest versions, at most ``limit``, that no checkpoint refers to.

        The newest ``keep`` versions of the notebook are excluded.
        """
        return self._ids(self._superseded, notebook=notebook_id, keep=keep, limit=limit)

    def version_ids(self, notebook_id: str) -> set[str]:
        """Return the ids of a notebook's versions."""
        return set(self._ids(self._versions, notebook=notebook_id))

    def unlisted_contents(self, notebook_id: str, *, limit: int | None = None) -> set[str]:
        """Return ids of contents that are newer than every version of the notebook."""
        return set(self._ids(self._unlisted.limit(limit), notebook=notebook_id))

    def contents_since(self, notebook_id: str, ordinal: int) -> set[str]:
        """Return ids of contents that are newer than all versions numbered below ``ordinal``."""
        return set(self._ids(self._since, notebook=notebook_id, ordinal=ordinal))

    def notebooks_over_limit(self, keep: int, user_id: str | None = None) -> list[str]:
        """Return ids of notebooks, of one user or of all, with more than ``keep`` versions."""
        if user_id is None:
            return self._ids(self._over_limit, keep=keep)
        return self._ids(self._over_limit_of_user, keep=keep, user=user_id)

    def notebooks_with_unlisted_contents(self) -> set[str]:
        """Return ids of notebooks with contents that are newer than all their versions.

        Some of the ids may belong to no notebook, or to one that is about to be stored.
        """
        return set(self._ids(self._with_unlisted))

    def lost_runs(self) -> list[tuple[str, int]]:
        """Return the notebooks and row numbers of runs that are gone and have rows in the index."""
        rows = self._rows(select_lost_runs(self._schema))
        return [(plain_text(notebook_id), run) for notebook_id, run in rows]

    def remove_lost_run(self, connection: sa.Connection, notebook_id: str, run: int) -> int:
        """Remove the rows of a run that is gone; return how many."""
        removed = 0
        for table in _tables_of_runs(self._schema):
            of_run = (table.c.notebook_id == column_text(notebook_id), table.c.run == run)
            delete = sa.delete(table).where(*of_run, _has_no_run(self._schema, table))
            removed += connection.execute(delete).rowcount
        return removed

    def _ids(self, statement: sa.Select[tuple[str]], **values: str | int) -> list[str]:
        return [plain_text(id) for (id,) in self._rows(statement, **values)]

    def _rows(self, statement: sa.Executable, **values: str | int) -> Sequence[Any]:
        parameters = {
            name: column_text(value) if isinstance(value, str) else value
            for name, value in values.items()
        }
        return self._database.read(
            lambda connection: connection.execute(statement, parameters).all()
        )


def select_lost_runs(schema: Schema) -> sa.CompoundSelect[Any]:
    """Return the query for the notebooks and row numbers of runs that are gone and have rows."""
    return sa.union(
        *(
            sa.select(table.c.notebook_id, table.c.run).where(_has_no_run(schema, table))
            for table in _tables_of_runs(schema)
        )
    )


def _tables_of_runs(schema: Schema) -> tuple[sa.Table, ...]:
    return (*schema.run_index.tables, *schema.series.tables)


def _has_no_run(schema: Schema, table: sa.Table) -> sa.ColumnElement[bool]:
    runs = schema.tables[RUNS.name].sql
    return ~sa.exists().select_from(runs).where(schema.run_index.belongs(table))
