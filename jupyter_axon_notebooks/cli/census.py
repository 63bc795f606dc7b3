"""What is in a store's tables, and what in them does not belong together. Reads only, on any engine."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..errors import InvalidData, RecordDamaged
from ..repository.parts import content_ids
from ..repository.provenance import provenance_ids
from ..store.codec import decode, plain_text
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS, Schema

#: Rows that are in memory at a time.
_PAGE = 500

_SCHEMA = Schema()
_NOTEBOOKS, _CHECKPOINTS, _VERSIONS, _CONTENTS, _PROVENANCE = (
    _SCHEMA.tables[collection.name].sql
    for collection in (NOTEBOOKS, CHECKPOINTS, VERSIONS, CONTENTS, PROVENANCE)
)


class _Row(NamedTuple):
    """A row of versions, with its document, or of contents, with the characters in it."""

    notebook_id: str
    table: sa.Table
    id: str
    value: Any


class Crowd(NamedTuple):
    """A notebook, how many versions of it there are, and the characters in its sources and outputs."""

    notebook_id: str
    versions: int
    size: int


@dataclass
class Census:
    """What was counted.

    Attributes
    ----------
    unlisted : int
        Contents that no version lists; not counted where a version is damaged.
    unlisted_size : int
        Characters in them.
    damaged : list of str
        Versions, notebooks, checkpoints and provenance whose stored form is not what was stored.
    unreadable : list of str
        Versions that list contents that are not there.
    strays : dict
        By table, rows of notebooks that are not there; contents are not counted, which may come before their notebook.
    without_version : list of str
        Notebooks and checkpoints that refer to a version that is not there.
    without_provenance : list of str
        Checkpoints that refer to provenance that is not there, and provenance that lists sources that are not.
    missing_indexes : list of str
        The SQL that would make each.
    most_versions, largest : Crowd or None
        The notebooks with the most versions and with the largest contents.
    """

    unlisted: int = 0
    unlisted_size: int = 0
    damaged: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    strays: dict[str, int] = field(default_factory=dict)
    without_version: list[str] = field(default_factory=list)
    without_provenance: list[str] = field(default_factory=list)
    missing_indexes: list[str] = field(default_factory=list)
    most_versions: Crowd | None = None
    largest: Crowd | None = None


def take(connection: sa.Connection, progress: Callable[[], None] = lambda: None) -> Census:
    """Count what there is in a store of the present schema version. ``progress`` is called for each notebook."""
    census = Census(missing_indexes=list(_missing_indexes(connection)))
    for notebook_id, group in groupby(_versions_and_contents(connection), key=itemgetter(0)):
        _count_contents(census, notebook_id, group)
        progress()
    for collection in (CHECKPOINTS, RUNS, VERSIONS, PROVENANCE):
        column = _SCHEMA.tables[collection.name].sql.c.notebook_id
        stray = sa.select(sa.func.count()).where(~sa.exists().where(_NOTEBOOKS.c.id == column))
        if count := connection.scalar(stray.select_from(column.table)):
            census.strays[collection.name.removeprefix("axonml_")] = count
    census.without_version = sorted(_without_version(connection, census))
    census.without_provenance = sorted(_without_provenance(connection, census))
    return census


def _versions_and_contents(connection: sa.Connection) -> Iterator[_Row]:
    """Read all versions and contents in the order of their notebooks, in two statements and little memory."""

    def rows(table: sa.Table, value: sa.ColumnElement[Any]) -> Iterator[_Row]:
        c = table.c
        statement = (
            sa.select(c.notebook_id, c.id, value)
            .where(c.notebook_id.is_not(None))
            .order_by(c.notebook_id)
            .execution_options(yield_per=_PAGE)
        )
        return (
            _Row(notebook_id, table, id, found)
            for notebook_id, id, found in connection.execute(statement)
        )

    return heapq.merge(
        rows(_VERSIONS, _VERSIONS.c.document),
        rows(_CONTENTS, sa.func.length(_CONTENTS.c.document)),
        key=itemgetter(0),
    )


def _count_contents(census: Census, notebook_id: str, rows: Iterable[_Row]) -> None:
    lists: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    damaged = len(census.damaged)
    for row in rows:
        if row.table is _CONTENTS:
            sizes[plain_text(row.id)] = row.value
            continue
        with _noting_damage(census, f"version {plain_text(row.id)}"):
            lists[plain_text(row.id)] = content_ids(decode(row.value))
    listed: set[str] = set().union(*lists.values())
    unlisted = sizes.keys() - listed if len(census.damaged) == damaged else set()
    census.unlisted += len(unlisted)
    census.unlisted_size += sum(sizes[content_id] for content_id in unlisted)
    if listed - sizes.keys():
        census.unreadable += (id for id, contents in lists.items() if not contents <= sizes.keys())
    this = Crowd(plain_text(notebook_id), len(lists), sum(sizes.values()))
    census.most_versions = max(census.most_versions or this, this, key=lambda crowd: crowd.versions)
    census.largest = max(census.largest or this, this, key=lambda crowd: crowd.size)


@contextmanager
def _noting_damage(census: Census, what: str) -> Iterator[None]:
    try:
        yield
    except (RecordDamaged, InvalidData, AttributeError, LookupError, TypeError, ValueError):
        census.damaged.append(what)


def _without_version(connection: sa.Connection, census: Census) -> Iterator[str]:
    known = sa.exists().where(_VERSIONS.c.id == _CHECKPOINTS.c.version_id)
    referring = sa.select(_CHECKPOINTS.c.id).where(_CHECKPOINTS.c.version_id.is_not(None), ~known)
    yield from map(plain_text, connection.scalars(referring))
    versions = set(connection.scalars(sa.select(_VERSIONS.c.id)))
    for notebook_id, text in connection.execute(sa.select(_NOTEBOOKS.c.id, _NOTEBOOKS.c.document)):
        with _noting_damage(census, f"notebook {plain_text(notebook_id)}"):
            if decode(text)["version_id"] not in versions:
                yield plain_text(notebook_id)


def _without_provenance(connection: sa.Connection, census: Census) -> Iterator[str]:
    known: set[str | None] = {
        plain_text(id) for id in connection.scalars(sa.select(_PROVENANCE.c.id))
    }
    c = _CHECKPOINTS.c
    referring = sa.select(c.id, c.document).where(
        c.document.contains('"provenance_id":"', autoescape=True)
    )
    for checkpoint_id, text in connection.execute(referring):
        with _noting_damage(census, f"checkpoint {plain_text(checkpoint_id)}"):
            if decode(text).get("provenance_id") not in known:
                yield plain_text(checkpoint_id)
    for id, text in connection.execute(sa.select(_PROVENANCE.c.id, _PROVENANCE.c.document)):
        with _noting_damage(census, f"provenance {plain_text(id)}"):
            if provenance_ids(decode(text)) - known:
                yield plain_text(id)


def _missing_indexes(connection: sa.Connection) -> Iterator[str]:
    statements: list[Any] = []
    pretended = sa.create_mock_engine(
        connection.engine.url, lambda sql, *_, **__: statements.append(sql)
    )
    _SCHEMA.metadata.create_all(
        pretended, checkfirst=False
    )  # which knows what of it is this engine's
    inspector = sa.inspect(connection)
    there = {index["name"] for table in _SCHEMA.tables for index in inspector.get_indexes(table)}
    for made in statements:
        if isinstance(made, sa.schema.CreateIndex) and made.element.name not in there:
            yield " ".join(str(made.compile(dialect=connection.dialect)).split())
