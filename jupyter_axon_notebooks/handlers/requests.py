"""Strict parsing of JSON bodies and query arguments.

What is accepted can be stored, sent and displayed anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec

from ..errors import InvalidData
from ..records import Record

Q = TypeVar("Q", bound=Record)

#: The deepest nesting of arrays and objects, the body itself included.
MAX_DEPTH: Final = 100
_MAX_PATH: Final = 200


class Page(Record):
    """The arguments of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


def parse_query(arguments: Mapping[str, Sequence[bytes]], kind: type[Q]) -> Q:
    """Return those query arguments that ``kind`` has as fields.

    Of a repeated argument the last value counts, unless the field is a list. Raises InvalidData
    with the argument's name.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if texts := [value.decode(errors="replace") for value in arguments.get(name, ())]:
            values[name] = texts if field.type == list[str] else texts[-1]
    check_value(values)
    return kind.from_json(values, strict=False)


def parse_object(data: bytes, *, nonfinite_in: str | None = None) -> dict[str, Any]:
    """Return the JSON object in ``data``.

    Parameters
    ----------
    nonfinite_in : str, optional
        The one field in which ``NaN``, ``Infinity`` and numbers too large for a float are
        accepted, as Python clients write them.

    Raises
    ------
    InvalidData
        For what is not JSON in UTF-8, not an object, nested too deeply, or has a NUL character or
        half a surrogate pair.
    """
    try:
        value: Any = json.loads(data.decode())
    except RecursionError:
        raise InvalidData("$", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise InvalidData("$", f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidData("$", f"expected object, got {type(value).__name__}")
    check_value(value, nonfinite_in=nonfinite_in)
    return value


def required_field(body: dict[str, Any], name: str) -> Any:
    """Return a field of a body; raise InvalidData if it is missing."""
    if name not in body:
        raise InvalidData(f"$.{name}", "required, but missing")
    return body[name]


def check_text(text: str, path: str) -> None:
    """Raise InvalidData at ``path`` for a text that cannot be stored and sent anywhere."""
    if "\0" in text:
        raise InvalidData(path[:_MAX_PATH], "has a NUL character")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidData(path[:_MAX_PATH], "has half a surrogate pair")


def check_value(
    value: Any, path: str = "$", depth: int = 1, *, nonfinite_in: str | None = None
) -> None:
    """Raise InvalidData for a JSON value that cannot be stored and sent anywhere."""
    if isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        if nonfinite_in is None or not path.startswith(f"$.{nonfinite_in}"):
            raise InvalidData(path[:_MAX_PATH], "expected a finite number")
    elif isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise InvalidData(path[:_MAX_PATH], f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for name in value:
                check_text(name, path)
            items = [(f"{path}.{name}", inner) for name, inner in value.items()]
        else:
            items = [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
        for inner_path, inner in items:
            check_value(inner, inner_path, depth + 1, nonfinite_in=nonfinite_in)
