"""Strict parsing of JSON bodies and query arguments.

What is accepted can be stored, sent and displayed anywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec

from ..errors import InvalidData
from ..records import Record

Q = TypeVar("Q", bound=Record)

#: The deepest nesting of arrays and objects, the body itself included.
MAX_DEPTH: Final = 100
_MAX_PATH: Final = 200
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_DIGITS: Final = re.compile(r"[0-9]{1,20}")


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
        if texts := [_decode(name, value) for value in arguments.get(name, ())]:
            is_list = field.type == list[str]
            values[name] = (
                list(dict.fromkeys(texts)) if is_list else _parse(name, texts[-1], field.type)
            )
    return kind.from_json(values)


def _parse(name: str, text: str, kind: Any) -> bool | int | str:
    """Return a flag or an integer for an argument of this type, and other texts as they are."""
    kind = getattr(kind, "__origin__", kind)  # the type in Annotated
    if kind is bool:
        if text not in _FLAGS:
            raise InvalidData(f"$.{name}", f"expected true, false, 1 or 0, got {text[:80]!r}")
        return _FLAGS[text]
    if kind is int:
        if not _DIGITS.fullmatch(text):
            raise InvalidData(f"$.{name}", f"expected digits, got {text[:80]!r}")
        return int(text)
    return text


def _decode(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidData(f"$.{name}", "expected UTF-8") from None
    check_text(text, f"$.{name}")
    return text


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
        For what is not JSON in UTF-8, not an object, nested too deeply, or has a repeated name, a
        NUL character or half a surrogate pair.
    """
    if not data.strip():
        raise InvalidData("$", "expected object, got an empty body")
    try:
        value: Any = json.loads(data.decode(), object_pairs_hook=_unique_names)
    except UnicodeDecodeError as error:
        raise InvalidData("$", f"not UTF-8: invalid byte at position {error.start}") from None
    except RecursionError:
        raise InvalidData("$", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # not JSON, or an integer of too many digits
        raise InvalidData("$", f"not JSON: {error}") from None
    if not isinstance(value, dict):
        kinds = {list: "array", type(None): "null"}
        raise InvalidData(
            "$", f"expected object, got {kinds.get(type(value), type(value).__name__)}"
        )
    fault = _find_fault(value, 1, nonfinite_in)
    if fault is not None:
        raise InvalidData(f"${fault[0]}"[:_MAX_PATH], fault[1])
    return value


def required_field(body: dict[str, Any], name: str) -> Any:
    """Return a field of a body; raise InvalidData if it is missing."""
    if name not in body:
        raise InvalidData(f"$.{name}", "required, but missing")
    return body[name]


def check_text(text: str, path: str) -> None:
    """Raise InvalidData at ``path`` for a text that cannot be stored and sent anywhere."""
    if reason := _text_fault(text):
        raise InvalidData(path, reason)


def _text_fault(text: str) -> str | None:
    """Return why a text cannot be stored and sent anywhere; None if it can."""
    if "\0" in text:
        return "has a NUL character"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "has half a surrogate pair"
    return None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidData("$", f"an object has the name {name[:80]!r} twice")
    return found


def _find_fault(
    value: Any, depth: int, nonfinite_in: str | None, *, finite: bool = True
) -> tuple[str, str] | None:
    """Return the relative path of the first fault and its description."""
    kind = type(value)
    if kind is str:
        reason = _text_fault(value)
        return None if reason is None else ("", reason)
    if kind is float:
        return ("", "expected a finite number") if finite and not math.isfinite(value) else None
    if kind is not dict and kind is not list:
        return None
    if depth > MAX_DEPTH:
        return "", f"nested deeper than {MAX_DEPTH} levels"
    for key, inner in value.items() if kind is dict else enumerate(value):
        if isinstance(key, str) and (reason := _text_fault(key)):
            return "", f"the name of a field {reason}"
        is_lenient = not finite or (depth == 1 and key == nonfinite_in)
        fault = _find_fault(inner, depth + 1, nonfinite_in, finite=not is_lenient)
        if fault is not None:
            return (f".{key}" if kind is dict else f"[{key}]") + fault[0], fault[1]
    return None
