"""The collections of the store, and the fields that SQL can search by.

A :class:`Collection` is one TinyDB table: documents of one kind. Some of their fields are
*promoted*: every write copies their values to columns, by which SQL can search and sort. To promote
another field, add it here and raise :data:`SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ..records import state_size
from .codec import column_text, decode, encode_ending
from .metric_index import MetricIndex
from .run_index import RunIndex
from .series_table import SeriesTable

#: Raise this when a column or an index is added or removed, or changes its meaning.
SCHEMA_VERSION = 3

INT64 = range(-(2**63), 2**63)
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True)
class Field:
    """A top-level field of a document that has a column of its own.

    Attributes
    ----------
    long : bool
        Whether values may be too long for PostgreSQL's B-tree indexes (some 2,700 bytes).
    large_field : str or None
        The field with the exact number if this field has the largest 32-bit number. The column has
        the exact number, so SQL cannot evaluate conditions on this field.
    derive : callable, optional
        Returns the value from the document, which has no field of this name.
    """

    name: str
    kind: Literal["text", "integer"] = "text"
    long: bool = False
    large_field: str | None = None
    derive: Callable[[Mapping[str, Any]], Any] | None = None

    def column_value(self, document: Mapping[str, Any]) -> str | int | None:
        """Return the value of the column; None for values of another kind."""
        value = document.get(self.name) if self.derive is None else self.derive(document)
        if self.kind == "text":
            return column_text(value) if isinstance(value, str) else None
        if self.large_field is not None and value == _MAX_U32:
            value = document.get(self.large_field, value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 2.0 == 2 in Python
        return int(value) if isinstance(value, int) and value in INT64 else None


@dataclass(frozen=True)
class Collection:
    """Documents of one kind.

    Parameters
    ----------
    name : str
        The name of the table, in TinyDB and in SQL.
    fields : tuple of Field
        The promoted fields.
    indexes, unique : tuple of tuple of str
        Lists of promoted fields (or ``id``). A unique index ignores rows without one of its fields.
    ranked : bool
        Whether the documents' ``metrics`` are in the :class:`.MetricIndex`.
    ending : tuple of str
        The last fields of the JSON. They identify the owner, and row-level security compares them
        with the columns.
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
        Field("name"),
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
        Field("step", "integer", large_field="large_step"),
        Field("version_id"),
        Field("state_size", "integer", derive=state_size),
    ),
    indexes=(
        ("notebook_id", "created_at", "id"),
        ("notebook_id", "run_id", "state_size"),
        ("version_id",),
    ),
    unique=(("notebook_id", "run_id", "epoch", "step"),),
    ranked=True,
    ending=("notebook_id",),
)
#: The document id of a run consists of its notebook's id and its own (`repository.runs.run_key`).
RUNS = Collection(
    "axonml_runs",
    fields=(
        Field("notebook_id"),
        Field("started_at"),
        Field("status"),
        Field("ended_at"),
        Field("lease_until"),
        Field("name"),
        Field("number", "integer"),
        Field("step_count", "integer"),
    ),
    indexes=(("notebook_id", "started_at", "id"), ("started_at", "id")),
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
    """The SQL table of a collection, and its prepared statements.

    Its columns are ``seq`` (the order of insertion), ``id``, ``document`` (JSON) and the promoted
    fields. Statements are built only once, since that takes longer than SQLite takes to run them.
    """

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
        for names in collection.indexes:
            self._add_index(names, unique=False)
        for names in collection.unique:
            self._add_index(names, unique=True)
        #: Rows that are derived from the documents, and all tables with rows of a notebook.
        self.index: MetricIndex | RunIndex | None = None
        self.notebook_tables = [self.sql]
        if collection.ranked:
            self.index = MetricIndex(metadata, _text(), self.sql)
            self.notebook_tables.append(self.index.sql)
        c, here = self.sql.c, self.sql.c.id == sa.bindparam("row_id")
        any_of = c.id.in_(sa.bindparam("row_ids", expanding=True))
        self.select_ids = sa.select(c.id).where(any_of)
        self.select_some = sa.select(c.seq, c.id, c.document).where(any_of)
        self.select_one = sa.select(c.id, c.document).where(here)
        self.select_one_locked = self.select_one.with_for_update()
        # Always in the order of ids, to prevent deadlocks.
        self.select_locked = self.select_some.order_by(c.id).with_for_update()
        self.insert_row = sa.insert(self.sql)
        changed = ("document", *(field.name for field in collection.fields))
        values: dict[str, Any] = {name: sa.bindparam(name) for name in changed}
        self.update_row = sa.update(self.sql).where(here).values(values)
        self.delete_row = sa.delete(self.sql).where(here)

    def _add_index(self, names: tuple[str, ...], *, unique: bool) -> None:
        label = "_".join(("uq" if unique else "ix", self.collection.name, *names))
        columns = [self.sql.c[name] for name in names]
        long = [field.name for field in self.collection.fields if field.long]
        # Queries sort NULL first, unlike PostgreSQL's default.
        ordered = [_hash_text(c) if c.name in long else c.asc().nulls_first() for c in columns]
        sa.Index(label, *columns, unique=unique).ddl_if(dialect="sqlite")
        sa.Index(label, *ordered, unique=unique).ddl_if(dialect="postgresql")
        for column in columns:
            if column.name in long:
                # SP-GiST indexes support texts of any length, equality and ranges.
                sa.Index(
                    f"px_{self.collection.name}_{column.name}", column, postgresql_using="spgist"
                ).ddl_if(dialect="postgresql")

    def make_row(self, doc_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of a document; raises as :func:`.codec.encode` does."""
        text = encode_ending(document, self.collection.ending)
        if "\\ud" in text:  # JSON changes a pair of surrogates into one character
            document = decode(text)
        return {
            "id": column_text(doc_id),
            "document": text,
            **{field.name: field.column_value(document) for field in self.collection.fields},
        }


def _hash_text(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    # decode() is the only conversion of text to bytes that PostgreSQL considers immutable. md5()
    # would need none, but fails in FIPS mode.
    escaped = sa.func.replace(column, sa.literal_column(r"'\'"), sa.literal_column(r"'\\'"))
    return sa.func.sha256(sa.func.decode(escaped, sa.literal_column("'escape'")))


def _text() -> sa.types.TypeEngine[str]:
    # Compared by code point on every engine, whatever the collation of the database.
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class Schema:
    """The SQL tables of a set of collections."""

    def __init__(self, collections: tuple[Collection, ...] = COLLECTIONS) -> None:
        self.metadata = sa.MetaData()
        self.tables = {c.name: CollectionTable(c, self.metadata) for c in collections}
        if {NOTEBOOKS, CHECKPOINTS, RUNS} <= set(collections):
            runs = self.tables[RUNS.name]
            tables = (self.tables[c.name].sql for c in (RUNS, NOTEBOOKS, CHECKPOINTS))
            self.run_index = RunIndex(self.metadata, _text(), *tables)
            self.series = SeriesTable(self.metadata, _text())
            runs.index = self.run_index
            runs.notebook_tables += [*self.run_index.tables, *self.series.tables]
        self.properties = sa.Table(
            "axon_properties",
            self.metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("value", sa.Text, nullable=False),
        )
