"""Which documents the store keeps, and which of their fields SQL may see.

A :class:`Collection` is one TinyDB table: documents of one kind, with the *promoted* fields that are copied into
columns of their own so that SQL can index them. The documents stay the truth; columns are derived from them on
every write and only ever narrow a search.

To add a promoted field, name it here and raise :data:`SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from .codec import column_text, encode_ending
from .metric_index import MetricIndex

#: Raised whenever a column or an index is added, removed or changes its meaning.
SCHEMA_VERSION = 2

_INT64 = range(-(2**63), 2**63)
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True)
class Field:
    """A top-level field of a document that has a column of its own.

    ``long`` tells that its texts may be longer than an entry of PostgreSQL's ordinary indexes, some 2,700 bytes.

    ``beyond`` names the field that has the number where this one is as large as 32 bits can tell. The column has that
    number, so SQL cannot answer for conditions on the field itself.
    """

    name: str
    kind: Literal["text", "integer"] = "text"
    long: bool = False
    beyond: str | None = None

    def column_value(self, document: Mapping[str, Any]) -> str | int | None:
        """What the column holds for ``document``; None where its value is of another kind."""
        value = document.get(self.name)
        if self.kind == "text":
            return column_text(value) if isinstance(value, str) else None
        if self.beyond is not None and value == _MAX_U32:
            value = document.get(self.beyond, value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 2.0 == 2, so equality must find it
        return int(value) if isinstance(value, int) and value in _INT64 else None


@dataclass(frozen=True)
class Collection:
    """One kind of documents.

    Parameters
    ----------
    name : str
        The table's name, in TinyDB and in SQL.
    fields : tuple of Field
        The promoted fields.
    indexes, unique : tuple of tuple of str
        Each a list of promoted fields (or ``id``). A unique one binds only rows that have all its fields.
    ranked : bool
        Whether the documents' ``metrics`` are indexed for :meth:`MetricIndex.best`.
    ending : tuple of str
        What the stored form ends with: the fields that tell whose a document is, for :mod:`.roles` to hold it to.
    """

    name: str
    fields: tuple[Field, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    ranked: bool = False
    ending: tuple[str, ...] = ()


NOTEBOOKS = Collection(
    "axonml_notebooks",
    fields=(
        Field("user_id"),
        Field("status"),
        Field("created_at"),
        Field("updated_at"),
        Field("origin"),
        Field("path", long=True),
        Field("embedded_id"),
    ),
    indexes=(("user_id", "updated_at", "id"), ("updated_at", "id"), ("embedded_id",)),
    unique=(("origin", "path"),),
    ending=("id", "user_id"),
)
CHECKPOINTS = Collection(
    "axonml_checkpoints",
    fields=(
        Field("notebook_id"),
        Field("created_at"),
        Field("run_id"),
        Field("epoch", "integer"),
        Field("step", "integer", beyond="large_step"),
        Field("version_id"),
    ),
    indexes=(("notebook_id", "created_at", "id"), ("version_id",)),
    unique=(("notebook_id", "run_id", "epoch", "step"),),
    ranked=True,
    ending=("notebook_id",),
)
#: A run's document id is made of its notebook's id and its own (:func:`.repository.runs.run_key`).
RUNS = Collection(
    "axonml_runs",
    fields=(Field("notebook_id"), Field("started_at"), Field("status")),
    indexes=(("notebook_id", "started_at", "id"),),
    ending=("notebook_id",),
)
VERSIONS = Collection(
    "axonml_versions",
    fields=(Field("notebook_id"), Field("ordinal", "integer")),
    unique=(("notebook_id", "ordinal"),),
    ending=("notebook_id",),
)
CONTENTS = Collection(
    "axonml_contents",
    fields=(Field("notebook_id"), Field("ordinal", "integer")),
    indexes=(("notebook_id", "ordinal"),),
    ending=("notebook_id",),
)
PROVENANCE = Collection(
    "axonml_provenance",
    fields=(Field("notebook_id"),),
    indexes=(("notebook_id",),),
    ending=("notebook_id",),
)
COLLECTIONS = (NOTEBOOKS, CHECKPOINTS, RUNS, VERSIONS, CONTENTS, PROVENANCE)


class CollectionTable:
    """A collection's SQL table: ``seq`` (insertion order), ``id``, ``document``, and the promoted columns."""

    def __init__(self, collection: Collection, metadata: sa.MetaData) -> None:
        self.collection = collection
        columns: list[sa.Column[Any]] = [
            sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
            sa.Column("id", _text(), nullable=False, unique=True),
            sa.Column("document", sa.Text, nullable=False),
        ]
        columns += (
            sa.Column(field.name, _text() if field.kind == "text" else sa.BigInteger)
            for field in collection.fields
        )
        self.sql = sa.Table(collection.name, metadata, *columns)
        for unique, names in [
            *((False, names) for names in collection.indexes),
            *((True, names) for names in collection.unique),
        ]:
            self._index(names, unique=unique)
        self.metric_index = MetricIndex(metadata, _text(), self.sql) if collection.ranked else None
        # Built once: to build a statement costs several times what SQLite needs to run it.
        c, here = self.sql.c, self.sql.c.id == sa.bindparam("row_id")
        columns_changed = [column.name for column in c if column.name not in ("seq", "id")]
        changed: dict[str, Any] = {name: sa.bindparam(name) for name in columns_changed}
        self.select_text = sa.select(c.document).where(here)
        self.select_locked = self.select_text.with_for_update()
        self.select_one = sa.select(sa.literal(1)).where(here)
        of_these = c.id.in_(sa.bindparam("row_ids", expanding=True))
        self.select_ids = sa.select(c.id).where(of_these)
        self.select_some = sa.select(c.seq, c.id, c.document).where(of_these)
        self.insert_row = sa.insert(self.sql)
        self.update_row = sa.update(self.sql).where(here).values(changed)
        self.delete_row = sa.delete(self.sql).where(here)
        self._looking_up: dict[
            tuple[tuple[str, ...], tuple[str, ...], int | None], sa.Select[Any]
        ] = {}
        self._select_highest: dict[tuple[str, str], sa.Select[Any]] = {}

    def looking_up(
        self, columns: tuple[str, ...], names: tuple[str, ...], limit: int | None
    ) -> sa.Select[Any]:
        """Select columns of the rows whose fields ``names`` have the values bound under those names; built once."""
        statement = self._looking_up.get((columns, names, limit))
        if statement is None:
            c = self.sql.c
            here = (c[name] == sa.bindparam(name) for name in names)
            statement = sa.select(*(c[column] for column in columns)).where(*here).limit(limit)
            self._looking_up[columns, names, limit] = statement
        return statement

    def _index(self, names: tuple[str, ...], *, unique: bool) -> None:
        label = "_".join(("uq" if unique else "ix", self.collection.name, *names))
        columns = [self.sql.c[name] for name in names]
        long = [field.name for field in self.collection.fields if field.long]
        # Lists sort NULL as the smallest, which is not how PostgreSQL's indexes have it unless told.
        ordered = [self._hashed(c) if c.name in long else c.asc().nulls_first() for c in columns]
        sa.Index(label, *columns, unique=unique).ddl_if(dialect="sqlite")
        sa.Index(label, *ordered, unique=unique).ddl_if(dialect="postgresql")
        for column in columns:
            if column.name in long:
                # A tree of prefixes takes texts of any length, and answers for equality and for ranges.
                sa.Index(
                    f"px_{self.collection.name}_{column.name}", column, postgresql_using="spgist"
                ).ddl_if(dialect="postgresql")

    @staticmethod
    def _hashed(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        # The bytes of a text, in the one way that PostgreSQL takes for immutable; md5() of a text fails under FIPS.
        escaped = sa.func.replace(column, sa.literal_column(r"'\'"), sa.literal_column(r"'\\'"))
        return sa.func.sha256(sa.func.decode(escaped, sa.literal_column("'escape'")))

    def select_highest(self, name: str, of: str) -> sa.Select[Any]:
        """The greatest value of a promoted field among the rows whose field ``of`` is the parameter ``value``."""
        found = self._select_highest.get((name, of))
        if found is None:
            c = self.sql.c
            found = sa.select(sa.func.max(c[name])).where(c[of] == sa.bindparam("value"))
            self._select_highest[name, of] = found
        return found

    def encoded(self, document: Mapping[str, Any]) -> str:
        """The stored form of a document; raises as :func:`.codec.encode` does."""
        return encode_ending(document, self.collection.ending)

    def row(self, doc_id: str, document: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The row of a document whose encoded form is ``text``."""
        row: dict[str, Any] = {"id": column_text(doc_id), "document": text}
        for field in self.collection.fields:
            row[field.name] = field.column_value(document)
        return row


def _text() -> sa.types.TypeEngine[str]:
    # Compared by code point on every engine: a database's own collation would order ids its own way.
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class Schema:
    """The SQL tables of a set of collections."""

    def __init__(self, collections: tuple[Collection, ...] = COLLECTIONS) -> None:
        self.metadata = sa.MetaData()
        self.tables = {c.name: CollectionTable(c, self.metadata) for c in collections}
        self.properties = sa.Table(
            "axon_properties",
            self.metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("value", sa.Text, nullable=False),
        )
