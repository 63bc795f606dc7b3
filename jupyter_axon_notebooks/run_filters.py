"""Filters and sort orders of runs: one grammar for REST, the command line, Python and the panel.

A filter is an expression in Python's syntax, such as ::

    config.lr < 0.01 and val_acc.max > 0.9 and status == "completed" and "baseline" in tags

It is parsed by :mod:`ast` into the nodes of this module, and never evaluated by Python.
:func:`matches` defines its meaning; the store evaluates the same nodes in SQL.

- Names are fields of runs (:data:`FIELDS`), ``config.KEY``, and names of metrics with ``.last``
  (the default), ``.min`` or ``.max``. ``config["KEY"]`` and ``metrics["NAME"]`` accept any text.
- Operators are ``== != < <= > >= in`` and ``not in``, chained if wanted, ``and``, ``or`` and
  ``not``. ``in`` searches a list for a value, or a text for a part of it.
- Numbers are compared as floats. NaN in a configuration is the text "NaN"; a metric that is not a
  number is missing.
- A missing value equals None. ``<`` and its like are false unless both sides are numbers, or both
  are texts.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import math
import re
import tokenize
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal

from .errors import InvalidData
from .metrics import to_float
from .records import RunStatus

#: The fields of runs that filters and orders can name.
FIELDS: Final = (
    "id",
    "name",
    "number",
    "status",
    "group",
    "key",
    "notes",
    "tags",
    "archived",
    "started_at",
    "ended_at",
    "step_count",
    "notebook",
    "notebook_id",
    "path",
)
_NUMBERS: Final = frozenset(("number", "step_count"))
_TIMES: Final = frozenset(("started_at", "ended_at"))
_TIME: Final = re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:.]*Z?)?)?)?\Z")
#: `=` that is no part of a comparison.
_ASSIGNMENT: Final = re.compile(r"(?<![=!<>])=(?!=)")
_STATUSES: Final = tuple(status.value for status in RunStatus)
STATISTICS: Final = ("last", "min", "max")
#: The longest filter, in characters.
MAX_LENGTH: Final = 4_000
#: The largest number of comparisons in a filter; ``in`` compares with each element of its list.
MAX_COMPARISONS: Final = 100
_MAX_DEPTH: Final = 50

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]

_OPERATORS: Final[dict[type[ast.cmpop], Operator]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "==",
    ast.IsNot: "!=",
}
_MIRRORED: Final[dict[Operator, Operator]] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}


class InvalidFilter(InvalidData):
    """An expression that cannot be used as a filter or an order of runs.

    Attributes
    ----------
    position : int
        The position of the error in the expression, from 0, in characters.
    suggestions : list of str
        Similar names.
    """

    def __init__(
        self,
        text: str,
        position: int,
        reason: str,
        suggestions: Collection[str] = (),
        field: str = "where",
    ) -> None:
        self.position = min(max(position, 0), len(text))
        self.suggestions = list(suggestions)
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        rest = text[self.position : self.position + 30]
        at = f"at position {self.position + 1}, {rest!r}" if rest else "at the end"
        super().__init__(field, f"{reason}{hint} ({at})")


@dataclass(frozen=True)
class Variable:
    """A value of a run.

    Attributes
    ----------
    kind : {"field", "config", "metric"}
        What it is.
    name : str
        The name of the field or metric, or the dotted key in the configuration.
    statistic : {"last", "min", "max"}
        Which value of a metric.
    position : int
        The position in the expression, from 0, in characters.
    """

    kind: Literal["field", "config", "metric"]
    name: str
    statistic: str = "last"
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Constant:
    """A number, string, bool, None, or a tuple of these."""

    value: Any


@dataclass(frozen=True)
class Comparison:
    """A comparison of two values."""

    operator: Operator
    left: Variable | Constant
    right: Variable | Constant


@dataclass(frozen=True)
class Combination:
    """Filters combined with ``and`` or ``or``."""

    operator: Literal["and", "or"]
    filters: tuple[RunFilter, ...]


@dataclass(frozen=True)
class Negation:
    """The negation of a filter."""

    filter: RunFilter


RunFilter = Comparison | Combination | Negation


@dataclass(frozen=True)
class RunOrder:
    """A sort order of runs: by a value, ascending or descending; runs without it come last."""

    variable: Variable
    descending: bool


def parse_filter(text: str) -> RunFilter:
    """Return the filter that an expression describes.

    Raises
    ------
    InvalidFilter
        If the text is not a filter. The error has the position.
    """
    return _Parser(text).parse()


def parse_order(text: str) -> RunOrder:
    """Return the order that a text such as ``-val_acc.max`` describes; ``-`` is descending.

    Raises
    ------
    InvalidFilter
        If the text is not an order. The error has the position.
    """
    name = text.strip()
    descending = name.startswith("-")
    return RunOrder(_Parser(name.removeprefix("-").strip(), "sort").parse_variable(), descending)


def variables(condition: RunFilter) -> Iterator[Variable]:
    """Yield the variables of a filter, in the order of the expression."""
    match condition:
        case Comparison():
            for operand in (condition.left, condition.right):
                if isinstance(operand, Variable):
                    yield operand
        case Combination():
            for each in condition.filters:
                yield from variables(each)
        case Negation():
            yield from variables(condition.filter)


def check_names(
    text: str,
    used: Collection[Variable],
    config_keys: Collection[str],
    metric_names: Collection[str],
    field: str = "where",
) -> None:
    """Raise InvalidFilter for a variable that no run has, with similar names.

    Parameters
    ----------
    config_keys, metric_names : collection of str
        The dotted keys of configurations and the names of metrics that runs have. The keys of
        objects are accepted, too: an object itself is a missing value.
    field : str
        The parameter that the text is of.
    """
    for variable in used:
        name = variable.name
        if variable.kind == "config" and name not in config_keys:
            if any(key.startswith(f"{name}.") for key in config_keys):
                continue
            found = [config_name(key) for key in get_close_matches(name, config_keys)]
            reason = f"no run has the configuration key {f'config.{name}'!r}"
        elif variable.kind == "metric" and name not in metric_names:
            known = {key: config_name(key) for key in config_keys}
            known |= {metric: metric_name(metric) for metric in metric_names}
            known |= {one: one for one in FIELDS}
            found = [known[one] for one in get_close_matches(name, known)]
            if name in config_keys:
                found = [config_name(name)]
            reason = f"no run has a field or metric {name!r}"
        else:
            continue
        raise InvalidFilter(text, variable.position, reason, found, field)


def config_name(key: str) -> str:
    """Return a configuration key as filters name it: ``config.lr``, ``config["lr schedule"]``."""
    is_plain = all(map(_is_name, key.split(".")))
    return f"config.{key}" if is_plain else f"config[{json.dumps(key, ensure_ascii=False)}]"


def metric_name(metric: str) -> str:
    """Return a metric as filters name it: ``val_loss``, ``train/loss``, ``metrics["val-loss"]``."""
    parts = re.split("[./]", metric)
    is_plain = (
        all(map(_is_name, parts))
        and parts[0] not in (*FIELDS, "config", "metrics")
        and metric.rpartition(".")[2] not in STATISTICS
        and "." not in metric.partition("/")[2]
    )
    return metric if is_plain else f"metrics[{json.dumps(metric, ensure_ascii=False)}]"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def matches(condition: RunFilter, value_of: Callable[[Variable], Any]) -> bool:
    """Return whether a run matches a filter.

    Parameters
    ----------
    value_of : callable
        Returns the run's value of a variable; None if it has none.
    """
    match condition:
        case Comparison(operator=operator, left=left, right=right):
            values = (
                value_of(one) if isinstance(one, Variable) else one.value for one in (left, right)
            )
            return _compare(operator, *map(normalize_value, values))
        case Negation(filter=inner):
            return not matches(inner, value_of)
        case Combination(operator="and", filters=filters):
            return all(matches(each, value_of) for each in filters)
        case Combination(filters=filters):
            return any(matches(each, value_of) for each in filters)


def normalize_value(value: Any) -> Any:
    """Return a value as filters compare it: numbers are floats, and NaN is a text."""
    if isinstance(value, (list, tuple)):
        return [normalize_value(each) for each in value]
    if isinstance(value, dict):
        return {key: normalize_value(each) for key, each in value.items()}
    if isinstance(value, (int, float)):
        number = to_float(value)
        return "NaN" if math.isnan(number) else number
    return value


def _compare(operator: Operator, left: Any, right: Any) -> bool:
    match operator:
        case "==":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case "in":
            return _contains(right, left)
        case "not in":
            return not _contains(right, left)
    numbers = isinstance(left, float) and isinstance(right, float)
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        return False
    match operator:
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
    return bool(left >= right)


def _contains(container: Any, item: Any) -> bool:
    if isinstance(container, str):
        return isinstance(item, str) and item in container
    return isinstance(container, list) and not isinstance(item, list) and item in container


class _Parser:
    def __init__(self, text: str, field: str = "where") -> None:
        self.text, self.field = text, field
        self.comparisons = 0

    def _parse(self) -> ast.expr:
        text = self.text
        if len(text) > MAX_LENGTH:
            reason = f"the expression has {len(text)} characters; expected at most {MAX_LENGTH}"
            raise self._invalid(MAX_LENGTH, reason)
        if not text.strip():
            example = "lr < 1" if self.field == "where" else "-val_acc.max"
            raise self._invalid(0, f'the expression is empty; expected one such as "{example}"')
        # The same positions, on one line.
        line = "".join(" " if char in "\r\n\t\f\v" else char for char in text)
        indent = len(line) - len(line.lstrip())
        self._bytes, self._indent = line[indent:].encode("utf-8", "replace"), indent
        if "#" in line:
            self._check_comments(line[indent:])
        try:
            return ast.parse(self._bytes.decode(), mode="eval").body
        except SyntaxError as error:
            # Python reports an incomplete expression at the end, or at no place at all.
            position = indent + error.offset - 1 if error.offset else len(text)
            raise self._invalid(position, _syntax_reason(text, position)) from None
        except (ValueError, RecursionError, MemoryError):
            raise self._invalid(0, "the expression cannot be parsed") from None

    def parse(self) -> RunFilter:
        node = self._parse()
        try:
            return self._filter(node)
        except RecursionError:
            raise self._too_deep() from None

    def parse_variable(self) -> Variable:
        node = self._parse()
        try:
            operand = self._operand(node)
        except RecursionError:
            raise self._too_deep() from None
        if not isinstance(operand, Variable):
            raise self._error(node, "expected the name of a field, metric or configuration key")
        return operand

    def _too_deep(self) -> InvalidFilter:
        return self._invalid(0, "the expression is nested too deeply")

    def _check_comments(self, line: str) -> None:
        """Raise InvalidFilter for a comment, which would hide the lines after it."""
        with suppress(tokenize.TokenError, SyntaxError):  # the parser reports these
            for token in tokenize.generate_tokens(io.StringIO(line).readline):
                if token.type == tokenize.COMMENT:
                    position = self._indent + token.start[1]
                    reason = "filters have no comments; put texts with # in quotes"
                    raise self._invalid(position, reason)

    def _invalid(
        self, position: int, reason: str, suggestions: Collection[str] = ()
    ) -> InvalidFilter:
        return InvalidFilter(self.text, position, reason, suggestions, self.field)

    def _position(self, node: ast.expr) -> int:
        return self._indent + len(self._bytes[: node.col_offset].decode("utf-8", "ignore"))

    def _error(
        self, node: ast.expr, reason: str, suggestions: Collection[str] = ()
    ) -> InvalidFilter:
        return self._invalid(self._position(node), reason, suggestions)

    def _filter(self, node: ast.expr, depth: int = 0) -> RunFilter:
        if depth > _MAX_DEPTH:
            raise self._error(node, f"the expression is nested more than {_MAX_DEPTH} levels deep")
        match node:
            case ast.BoolOp(op=op, values=values):
                name: Literal["and", "or"] = "and" if isinstance(op, ast.And) else "or"
                return Combination(name, tuple(self._filter(value, depth + 1) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=negated):
                return Negation(self._filter(negated, depth + 1))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                operands = [left, *comparators]
                found = tuple(
                    self._comparison(op, operands[index], operands[index + 1])
                    for index, op in enumerate(ops)
                )
                return found[0] if len(found) == 1 else Combination("and", found)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self._error(node, "combine conditions with `and` and `or`, not & and |")
        operand = self._operand(node)  # first, for errors within it
        if isinstance(operand, Variable):
            text = ast.unparse(node)
            other = f"{text} == False" if operand.name == "archived" else f"{text} != None"
            raise self._error(node, "expected a comparison", [f"{text} == True", other])
        raise self._error(node, "expected a comparison, such as config.lr < 0.01")

    def _comparison(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Comparison:
        operator, first, second = _OPERATORS[type(op)], self._operand(left), self._operand(right)
        self.comparisons += 1
        if operator in ("in", "not in") and isinstance(second, Constant):
            self.comparisons += len(second.value) - 1 if isinstance(second.value, tuple) else 0
        if self.comparisons > MAX_COMPARISONS:
            reason = f"the expression has more than {MAX_COMPARISONS} comparisons"
            raise self._error(left, reason)
        if isinstance(first, Constant) and isinstance(second, Constant):
            raise self._error(left, "expected the name of a field, metric or configuration key")
        if isinstance(op, (ast.Is, ast.IsNot)) and second != Constant(None):
            raise self._error(right, "`is` compares with None only; use ==")
        for one, other, node in ((first, second, right), (second, first, left)):
            if isinstance(one, Variable) and isinstance(other, Constant):
                self._check_kind(one, operator, other.value, node)
        if isinstance(first, Constant) and operator in _MIRRORED:
            return Comparison(_MIRRORED[operator], second, first)
        if (
            operator in ("in", "not in")
            and isinstance(second, Constant)
            and not isinstance(second.value, (tuple, str))
        ):
            raise self._error(right, 'expected a list, such as ("completed", "failed")')
        return Comparison(operator, first, second)

    def _check_kind(
        self, variable: Variable, operator: Operator, value: Any, node: ast.expr
    ) -> None:
        """Raise InvalidFilter for a constant that a field never equals."""
        name = variable.name
        values = value if isinstance(value, tuple) else (value,)
        if variable.kind != "field" or None in values:
            return
        if name == "tags":
            if operator not in ("in", "not in") and not isinstance(value, tuple):
                text = json.dumps(value)
                raise self._error(node, "tags are a list", [f"{text} in tags"])
        elif name == "archived":
            if not all(isinstance(one, bool) for one in values):
                raise self._error(node, "archived is True or False")
        elif name in _NUMBERS:
            if not all(isinstance(one, (int, float)) for one in values):
                raise self._error(node, f"{name} is a number")
        elif not all(isinstance(one, str) for one in values):
            raise self._error(node, f"{name} is a text; expected one in quotes")
        elif name in _TIMES and not all(map(_TIME.match, values)):
            example = 'a time in UTC such as "2026-11-29" or "2026-11-29T18:30"'
            raise self._error(node, f"expected {example}")
        elif name == "status" and (operator in ("==", "!=") or isinstance(value, tuple)):
            unknown = next((one for one in values if one not in _STATUSES), None)
            if unknown is not None:
                found = get_close_matches(unknown, _STATUSES, cutoff=0.5)
                raise self._error(node, f"there is no status {unknown!r}", found)

    def _operand(self, node: ast.expr) -> Variable | Constant:
        match node:
            case ast.Constant(value=value):
                if value is None or isinstance(value, (bool, int, float, str)):
                    return Constant(value)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=value)):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    return Constant(-value if isinstance(node.op, ast.USub) else value)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                constants = [self._operand(item) for item in items]
                for item, constant in zip(items, constants, strict=True):
                    if not isinstance(constant, Constant) or isinstance(constant.value, tuple):
                        raise self._error(item, "expected a number, a text in quotes or None")
                return Constant(tuple(one.value for one in constants if isinstance(one, Constant)))
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._variable(self._names(node), node)
            case ast.BinOp(op=ast.Div()) if (names := self._divided(node)) is not None:
                return self._variable(names, node)
            case ast.Call():
                raise self._error(node, "functions cannot be called in filters")
            case ast.BinOp():
                name = "".join(ast.unparse(node).split())
                raise self._error(
                    node, "filters have no arithmetic", [f'metrics["{name}"]', f'config["{name}"]']
                )
        raise self._error(node, "expected a name, a number, a text in quotes, a list or None")

    def _divided(self, node: ast.expr) -> list[str] | None:
        """Return the names in a metric such as ``train/loss.min``; None for other expressions."""
        match node:
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                before = self._divided(left)
                after = self._divided(right)
                if before is None or after is None or before[0] == "config":
                    return None
                return [f"{'.'.join(before)}/{after[0]}", *after[1:]]
            case ast.Name() | ast.Attribute():
                return self._names(node)
        return None

    def _names(self, node: ast.expr) -> list[str]:
        """Return the names in ``a.b["c"].d``."""
        match node:
            case ast.Name(id=name):
                return [name]
            case ast.Attribute(value=value, attr=name):
                if name.startswith("__"):
                    raise self._error(node, "names must not begin with two underscores")
                return [*self._names(value), name]
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
                return [*self._names(value), name]
            case ast.Call():
                raise self._error(node, "functions cannot be called in filters")
        raise self._error(node, 'expected a name, such as config.lr or metrics["val/loss"]')

    def _variable(self, names: list[str], node: ast.expr) -> Variable:
        first, *rest = names
        position = self._position(node)
        if first == "config":
            if not rest:
                raise self._error(node, "expected a key of the configuration, such as config.lr")
            return Variable("config", ".".join(rest), position=position)
        if first in FIELDS:
            if rest:
                raise self._error(node, f"the field {first} has no parts")
            return Variable("field", first, position=position)
        if first == "metrics":
            if not rest:
                raise self._error(node, "expected the name of a metric, such as metrics.loss")
            names = rest
        if len(names) > 1 and names[-1] in STATISTICS:
            return Variable("metric", ".".join(names[:-1]), names[-1], position)
        return Variable("metric", ".".join(names), position=position)


def _syntax_reason(text: str, position: int) -> str:
    """Return the reason for the most common mistakes, else a general one."""
    nearby = text[max(position - 1, 0) : position + 2]
    for sign, operator in {"&&": "and", "||": "or"}.items():
        if sign in nearby:
            return f"write `{operator}` instead of {sign}"
    if any(abs(sign.start() - position) <= 1 for sign in _ASSIGNMENT.finditer(text)):
        return "expected a comparison; write == to compare"
    return "the expression is incomplete or not valid"
