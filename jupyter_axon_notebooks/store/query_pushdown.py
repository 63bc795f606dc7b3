"""Translation of TinyDB conditions to SQL.

A TinyDB condition is a function with a hashable description (for TinyDB's query cache). The parts
of the description that refer to promoted fields are translated to SQL. The condition then tests
every document that SQL returns, so SQL may return too many documents, but never too few.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa
from tinydb.queries import QueryInstance, QueryLike

from .codec import column_text
from .schema import INT64, CollectionTable, Field

#: The largest number of values of ``one_of`` that is translated.
_MAX_VALUES = 10_000

_RANGES: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Narrowing(NamedTuple):
    """The SQL clause of a condition.

    ``clause`` is None for all rows. ``exact`` tells whether all rows of the clause match.
    """

    clause: sa.ColumnElement[bool] | None
    exact: bool


_UNKNOWN = Narrowing(None, exact=False)


def narrow(condition: QueryLike, table: CollectionTable) -> Narrowing:
    """Return the clause of ``condition`` on ``table``."""
    if type(condition) is not QueryInstance:
        return _UNKNOWN
    # `_hash` is private to TinyDB: the dependency is limited to one major version, and
    # tests/store/test_table_contract.py compares the results of all kinds of conditions.
    return _translate(condition._hash, table)


def _translate(description: Any, table: CollectionTable) -> Narrowing:
    match description:
        case ():
            return Narrowing(None, exact=True)
        case ("and", frozenset() as parts):
            return _all_of([_translate(part, table) for part in parts])
        case ("or", frozenset() as parts):
            return _any_of([_translate(part, table) for part in parts])
        case ("==", (str() as name,), value):
            return _equality(name, (value,), table)
        case ("one_of", (str() as name,), tuple() as values):
            return _equality(name, values, table)
        case (("<" | "<=" | ">" | ">=") as sign, (str() as name,), str() as value):
            field = _find_field(name, table)
            if field is not None and _is_comparable(field, value):
                clause = _RANGES[sign](table.sql.c[name], column_text(value))
                return Narrowing(clause, exact=True)
    return _UNKNOWN


def _find_field(name: str, table: CollectionTable) -> Field | None:
    named = (field for field in table.collection.fields if field.name == name)
    found = next(named, None)
    # The columns of such fields have other values than the documents.
    is_other = found is not None and (found.large_field is not None or found.derive is not None)
    return None if is_other else found


def _equality(name: str, values: tuple[Any, ...], table: CollectionTable) -> Narrowing:
    field = _find_field(name, table)
    if field is None or len(values) > _MAX_VALUES:
        return _UNKNOWN
    if not all(_is_comparable(field, value) for value in values):
        return _UNKNOWN
    column = table.sql.c[name]
    bound = [column_text(value) if type(value) is str else value for value in values]
    return Narrowing(column == bound[0] if len(bound) == 1 else column.in_(bound), exact=True)


def _is_comparable(field: Field, value: Any) -> bool:
    # Not subclasses, which may define other comparisons.
    if field.kind == "text":
        return type(value) is str
    return type(value) is int and value in INT64


def _all_of(narrowings: list[Narrowing]) -> Narrowing:
    clauses = [n.clause for n in narrowings if n.clause is not None]
    return Narrowing(sa.and_(*clauses) if clauses else None, all(n.exact for n in narrowings))


def _any_of(narrowings: list[Narrowing]) -> Narrowing:
    clauses = [n.clause for n in narrowings if n.clause is not None]
    if len(clauses) < len(narrowings):
        return Narrowing(None, exact=any(n.clause is None and n.exact for n in narrowings))
    return Narrowing(sa.or_(*clauses), exact=all(n.exact for n in narrowings))
