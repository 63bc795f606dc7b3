"""From a TinyDB condition to SQL that narrows the candidates.

A condition is an opaque function, but TinyDB keeps beside it a hashable description for its query cache. What of
that description speaks of promoted fields becomes SQL; what does not is left to TinyDB, which decides on every
candidate in any case. So the SQL may admit too many documents, never too few.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from tinydb.queries import QueryInstance, QueryLike

from .codec import column_text
from .schema import CollectionTable, Field

#: The most values and terms in one clause, and how deep it may nest; engines and recursion have limits.
_ROOM = 500
_DEPTH = 50

_INT64 = range(-(2**63), 2**63)
_RANGES: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Narrowing(NamedTuple):
    """What SQL can say of a condition.

    ``clause`` is None where it can say nothing. ``exact`` tells that it says all of it: every candidate matches.
    """

    clause: sa.ColumnElement[bool] | None
    exact: bool


_NOTHING = Narrowing(None, exact=False)
_EVERYTHING = Narrowing(None, exact=True)


def narrow(condition: QueryLike, table: CollectionTable) -> Narrowing:
    """The narrowing that ``condition`` allows on ``table``."""
    return _Translation(table).of_condition(condition)


def narrow_any(conditions: Sequence[QueryLike], table: CollectionTable) -> Narrowing:
    """The narrowing to what any of ``conditions`` could match."""
    return _Translation(table).of_any(conditions)


class _Translation:
    def __init__(self, table: CollectionTable) -> None:
        self._table = table
        self._fields = {
            (field.name,): field for field in table.collection.fields if field.beyond is None
        }
        self._room = _ROOM
        self._depth = 0

    def of_condition(self, condition: QueryLike) -> Narrowing:
        return self._of(condition._hash) if type(condition) is QueryInstance else _NOTHING

    def of_any(self, conditions: Sequence[QueryLike]) -> Narrowing:
        return _either([self.of_condition(condition) for condition in conditions])

    def _of(self, description: Any) -> Narrowing:
        if self._room <= 0 or self._depth >= _DEPTH:
            return _NOTHING
        self._depth += 1
        try:
            return self._translated(description)
        finally:
            self._depth -= 1

    def _translated(self, description: Any) -> Narrowing:
        match description:
            case ():
                return _EVERYTHING
            case ("and", frozenset() as parts):
                return self._all(parts)
            case ("or", frozenset() as parts):
                return _either([self._of(part) for part in parts])
            case ("==", tuple() as path, value):
                return self._one_of(path, (value,))
            case ("one_of", tuple() as path, tuple() as values):
                return self._one_of(path, values)
            case (("<" | "<=" | ">" | ">=") as sign, tuple() as path, value):
                return self._range(sign, path, value)
            case _:
                return _NOTHING

    def _all(self, parts: frozenset[Any]) -> Narrowing:
        narrowings = [self._of(part) for part in parts]
        clauses = [n.clause for n in narrowings if n.clause is not None]
        return Narrowing(sa.and_(*clauses) if clauses else None, all(n.exact for n in narrowings))

    def _one_of(self, path: tuple[Any, ...], values: tuple[Any, ...]) -> Narrowing:
        field = self._fields.get(path)
        if field is None or len(values) > self._room:
            return _NOTHING
        if not all(_comparable(field, value) for value in values):
            return _NOTHING
        self._room -= max(1, len(values))
        column = self._table.sql.c[field.name]
        if len(values) == 1:
            return Narrowing(column == _bound(values[0]), exact=True)
        return Narrowing(column.in_([_bound(value) for value in values]), exact=True)

    def _range(self, sign: str, path: tuple[Any, ...], value: Any) -> Narrowing:
        field = self._fields.get(path)
        if field is None or not _comparable(field, value):
            return _NOTHING
        self._room -= 1
        column = self._table.sql.c[field.name]
        clause = _RANGES[sign](column, _bound(value))
        if field.kind == "text":
            return Narrowing(clause, exact=True)
        # A fraction has no place in an integer column, but has one in a range.
        return Narrowing(sa.or_(clause, column.is_(None)), exact=False)


def _either(narrowings: Sequence[Narrowing]) -> Narrowing:
    if any(n.clause is None for n in narrowings):
        return Narrowing(None, exact=any(n.clause is None and n.exact for n in narrowings))
    clauses = [n.clause for n in narrowings if n.clause is not None]
    return Narrowing(sa.or_(sa.false(), *clauses), exact=all(n.exact for n in narrowings))


def _comparable(field: Field, value: Any) -> bool:
    # Exact types only: a subclass may compare in a way of its own.
    if field.kind == "text":
        return type(value) is str
    return type(value) is int and value in _INT64


def _bound(value: Any) -> Any:
    return column_text(value) if type(value) is str else value
