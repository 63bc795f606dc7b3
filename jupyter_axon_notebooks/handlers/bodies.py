"""JSON bodies: read strictly, so that whatever is stored can be sent, stored and shown again anywhere."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final

from ..errors import InvalidData

#: Containers inside containers, the body itself included.
MAX_DEPTH: Final = 100
_LONGEST_PLACE: Final = 200


def read_object(data: bytes, *, nonfinite_in: str | None = None) -> dict[str, Any]:
    """The JSON object that ``data`` holds.

    Parameters
    ----------
    nonfinite_in : str, optional
        The one field below which ``NaN``, ``Infinity`` and numbers too large for a float are taken, as Python's
        clients write them. Anywhere else they are refused.

    Raises
    ------
    InvalidData
        For what is not JSON in UTF-8, not an object, has a name twice in one object, is nested too deeply, or holds
        text that is none: NUL characters and halves of surrogate pairs.
    """
    if not data.strip():
        raise InvalidData("$", "expected object, got an empty body")
    try:
        value: Any = json.loads(data.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise InvalidData("$", f"not UTF-8: byte {error.start} cannot stand there") from None
    except json.JSONDecodeError as error:
        raise InvalidData("$", f"not JSON: {error}") from None
    except RecursionError:
        raise InvalidData("$", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise InvalidData("$", "holds a whole number of more than 4300 digits") from None
    if not isinstance(value, dict):
        raise InvalidData("$", f"expected object, got {_kind(value)}")
    fault = _fault(value, 1, nonfinite_in)
    if fault is not None:
        raise InvalidData(f"${fault[0]}"[:_LONGEST_PLACE], fault[1])
    return value


def text_fault(text: str) -> str | None:
    """Why ``text`` cannot be stored, sent and shown everywhere; None where it can."""
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half a surrogate pair"
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise InvalidData("$", f"the name {twice[:80]!r} stands twice in one object")
    return found


def _fault(
    value: Any, depth: int, nonfinite_in: str | None, *, finite: bool = True
) -> tuple[str, str] | None:
    """The first thing wrong in ``value``: its place, from here, and what it is."""
    kind = type(value)
    if kind is str:
        reason = text_fault(value)
        return None if reason is None else ("", reason)
    if kind is float:
        return ("", "expected a finite number") if finite and not math.isfinite(value) else None
    if kind is not dict and kind is not list:
        return None
    if depth > MAX_DEPTH:
        return "", f"nested deeper than {MAX_DEPTH} levels"
    named = kind is dict
    for key, inner in value.items() if named else enumerate(value):
        if isinstance(key, str) and (reason := text_fault(key)):
            return "", f"the name of a field {reason}"
        lenient = not finite or (depth == 1 and key == nonfinite_in)
        fault = _fault(inner, depth + 1, nonfinite_in, finite=not lenient)
        if fault is not None:
            return (f".{key}" if named else f"[{key}]") + fault[0], fault[1]
    return None


def _kind(value: Any) -> str:
    kinds = {list: "array", str: "str", bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "null")
