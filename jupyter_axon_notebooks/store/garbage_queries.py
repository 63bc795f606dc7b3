"""What a store could do without, asked of SQL: index look-ups that read no document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .codec import column_text, plain_text
from .database import Database
from .schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, VERSIONS, Schema


class GarbageQueries:
    """Versions that history has passed by, and contents that came before their version.

    Found outside of a transaction, an answer may be out of date by the time it is used; inside one that holds the
    notebook's lock it is not.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        v = schema.tables[VERSIONS.name].sql.c
        c = schema.tables[CONTENTS.name].sql.c
        referring = schema.tables[CHECKPOINTS.name].sql.c.version_id
        of_notebook = v.notebook_id == sa.bindparam("of")
        keep = sa.bindparam("keep", type_=sa.Integer)
        ordinals = sa.select(v.ordinal).where(of_notebook).order_by(v.ordinal.desc())
        self._superseded = (
            sa.select(v.id)
            .where(
                of_notebook,
                v.ordinal < ordinals.limit(1).offset(keep - 1).scalar_subquery(),
                ~sa.exists().where(referring == v.id),
            )
            .order_by(v.ordinal)
            .limit(sa.bindparam("most", type_=sa.Integer))
        )
        n = schema.tables[NOTEBOOKS.name].sql.c
        self._crowded = (
            sa.select(v.notebook_id).group_by(v.notebook_id).having(sa.func.count() > keep)
        )
        crowded = self._crowded.subquery()
        of_user = n.user_id == sa.bindparam("user")
        self._crowded_of = (
            sa.select(n.id).join(crowded, crowded.c.notebook_id == n.id).where(of_user)
        )
        newest = (
            sa.select(sa.func.max(v.ordinal))
            .where(v.notebook_id == c.notebook_id)
            .scalar_subquery()
        )
        before = sa.select(sa.func.max(v.ordinal)).where(
            of_notebook, v.ordinal < sa.bindparam("ordinal")
        )
        self._unshared = sa.select(c.id).where(
            c.notebook_id == sa.bindparam("of"),
            c.ordinal > sa.func.coalesce(before.scalar_subquery(), -1),
        )
        # Those of a loaded history may be as large as they like; a sum of what is left here is never too large.
        number = sa.func.coalesce(v.ordinal, 0) % sa.literal_column(str(2**40))
        self._numbers = sa.select(v.id, number).where(of_notebook)
        self._tally = sa.select(sa.func.count(), sa.func.sum(number)).where(of_notebook)
        latest = sa.select(sa.func.max(v.ordinal)).where(of_notebook).scalar_subquery()
        self._ahead_of = sa.select(c.id).where(
            c.notebook_id == sa.bindparam("of"), c.ordinal > sa.func.coalesce(latest, -1)
        )
        self._ahead = (
            sa.select(c.notebook_id)
            .group_by(c.notebook_id)
            .having(sa.func.max(c.ordinal) > sa.func.coalesce(newest, -1))
        )

    def superseded(self, notebook_id: str, keep: int, *, limit: int) -> list[str]:
        """The ids of a notebook's versions that are not among its newest ``keep`` and that no checkpoint refers to.

        The oldest first, ``limit`` of them at most.
        """
        given = {"of": column_text(notebook_id), "keep": keep, "most": limit}
        return self._ids(self._superseded, given)

    def numbers(self, notebook_id: str) -> dict[str, int]:
        """The versions of a notebook, each with its number, modulo 2⁴⁰."""
        found = self._rows(self._numbers, {"of": column_text(notebook_id)})
        return {plain_text(version_id): number for version_id, number in found}

    def tally(self, notebook_id: str) -> tuple[int, int]:
        """How many versions a notebook has, and the sum of what :meth:`numbers` has; read from an index alone."""
        [(count, total)] = self._rows(self._tally, {"of": column_text(notebook_id)})
        return count, int(total or 0)

    def ahead_of(self, notebook_id: str, *, limit: int | None = None) -> set[str]:
        """The contents of a notebook that are newer than all of its versions; ``limit`` of them at most."""
        return set(self._ids(self._ahead_of.limit(limit), {"of": column_text(notebook_id)}))

    def unshared(self, notebook_id: str, ordinal: int) -> set[str]:
        """The contents of a notebook that no version numbered below ``ordinal`` can list, being newer."""
        given = {"of": column_text(notebook_id), "ordinal": ordinal}
        return set(self._ids(self._unshared, given))

    def crowded(self, keep: int, user_id: str | None = None) -> list[str]:
        """The notebooks that have more than ``keep`` versions, whether or not checkpoints refer to them.

        ``user_id``: of one user's.
        """
        if user_id is None:
            return self._ids(self._crowded, {"keep": keep})
        return self._ids(self._crowded_of, {"keep": keep, "user": column_text(user_id)})

    def ahead(self) -> set[str]:
        """The notebooks, and the ids that are no notebook's (yet), with contents newer than any of their versions."""
        return set(self._ids(self._ahead, {}))

    def _ids(self, statement: sa.Select[tuple[str]], given: Mapping[str, object]) -> list[str]:
        return [plain_text(found) for (found,) in self._rows(statement, given)]

    def _rows(self, statement: sa.Executable, given: Mapping[str, object]) -> Sequence[Any]:
        def once() -> Sequence[Any]:
            with self._database.reading() as connection:
                return connection.execute(statement, given).all()

        return self._database.attempt(once, reads=True)
