"""Translation of TinyDB conditions to SQL.

A TinyDB condition is a function with a hashable description (for TinyDB's query cache). The parts
of the description that refer to promoted fields are translated to SQL. TinyDB then tests every
document that SQL returns, so SQL may return too many documents, but never too few.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from tinydb.queries import QueryInstance, QueryLike

from .codec import column_text
from .schema import CollectionTable, Field

#: Limits on the values and terms of a clause, and on its nesting.
_MAX_TERMS = 500
_MAX_DEPTH = 50

_INT64 = range(-(2**63), 2**63)
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
_EVERYTHING = Narrowing(None, exact=True)


def narrow(condition: QueryLike, table: CollectionTable) -> Narrowing:
    """Return the clause of ``condition`` on ``table``."""
    return _Translator(table).translate(condition)


def narrow_any(conditions: Sequence[QueryLike], table: CollectionTable) -> Narrowing:
    """Return the clause of rows that match any of ``conditions``."""
    translator = _Translator(table)
    return _any_of([translator.translate(condition) for condition in conditions])


class _Translator:
    def __init__(self, table: CollectionTable) -> None:
        self._table = table
        self._fields = {
            (field.name,): field for field in table.collection.fields if field.large_field is None
        }
        self._terms_left = _MAX_TERMS
        self._depth = 0

    def translate(self, condition: QueryLike) -> Narrowing:
        # `_hash` is private to TinyDB; see `tables`.
        return self._of(condition._hash) if type(condition) is QueryInstance else _UNKNOWN

    def _of(self, description: Any) -> Narrowing:
        if self._terms_left <= 0 or self._depth >= _MAX_DEPTH:
            return _UNKNOWN
        self._depth += 1
        try:
            match description:
                case ():
                    return _EVERYTHING
                case ("and", frozenset() as parts):
                    return _all_of([self._of(part) for part in parts])
                case ("or", frozenset() as parts):
                    return _any_of([self._of(part) for part in parts])
                case ("==", tuple() as path, value):
                    return self._one_of(path, (value,))
                case ("one_of", tuple() as path, tuple() as values):
                    return self._one_of(path, values)
                case (("<" | "<=" | ">" | ">=") as sign, tuple() as path, value):
                    return self._range(sign, path, value)
                case _:
                    return _UNKNOWN
        finally:
            self._depth -= 1

    def _one_of(self, path: tuple[Any, ...], values: tuple[Any, ...]) -> Narrowing:
        field = self._fields.get(path)
        if field is None or len(values) > self._terms_left:
            return _UNKNOWN
        if not all(_is_comparable(field, value) for value in values):
            return _UNKNOWN
        self._terms_left -= max(1, len(values))
        column = self._table.sql.c[field.name]
        if len(values) == 1:
            return Narrowing(column == _bound(values[0]), exact=True)
        return Narrowing(column.in_([_bound(value) for value in values]), exact=True)

    def _range(self, sign: str, path: tuple[Any, ...], value: Any) -> Narrowing:
        field = self._fields.get(path)
        if field is None or not _is_comparable(field, value):
            return _UNKNOWN
        self._terms_left -= 1
        column = self._table.sql.c[field.name]
        clause = _RANGES[sign](column, _bound(value))
        if field.kind == "text":
            return Narrowing(clause, exact=True)
        # A number with a fraction is NULL in an integer column, but may be in the range.
        return Narrowing(sa.or_(clause, column.is_(None)), exact=False)


def _all_of(narrowings: Sequence[Narrowing]) -> Narrowing:
    clauses = [n.clause for n in narrowings if n.clause is not None]
    return Narrowing(sa.and_(*clauses) if clauses else None, all(n.exact for n in narrowings))


def _any_of(narrowings: Sequence[Narrowing]) -> Narrowing:
    if any(n.clause is None for n in narrowings):
        return Narrowing(None, exact=any(n.clause is None and n.exact for n in narrowings))
    clauses = [n.clause for n in narrowings if n.clause is not None]
    return Narrowing(sa.or_(sa.false(), *clauses), exact=all(n.exact for n in narrowings))


def _is_comparable(field: Field, value: Any) -> bool:
    # Not subclasses, which may define other comparisons.
    if field.kind == "text":
        return type(value) is str
    return type(value) is int and value in _INT64


def _bound(value: Any) -> Any:
    return column_text(value) if type(value) is str else value
