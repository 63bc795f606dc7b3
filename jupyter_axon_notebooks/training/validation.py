"""What a training hands over, as records take it. Pure.

A position or tags that are wrong are told before anything is written: a TypeError or ValueError that names the argument.
Numbers that cannot be recorded cost no more than a sentence.
"""

from __future__ import annotations

import enum
import math
import numbers
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from ..metrics import finite_number, limit_nonfinite
from ..records import MAX_STEP, MAX_U32

_DEEPEST: Final = 32
#: The most characters in the key of a run.
_LONGEST_KEY: Final = 255
#: Metrics that one sentence names.
_NAMED: Final = 10
_MASKED: Final = "is masked"
_LARGEST: Final = {"epoch": MAX_U32, "step": MAX_STEP}


def validate_position(value: Any, name: str, tell: Callable[[str], object]) -> int | None:
    """Return an epoch or a step as an ``int``; None stays None.

    Taken is whatever stands for a number: NumPy's, tensors of one element, objects that convert. A fraction, such as the
    epoch that Hugging Face's trainer counts within an epoch, is rounded down; NaN is None.

    Parameters
    ----------
    tell : callable
        Told, in a sentence, that a fraction was rounded or a NaN was omitted.
    """
    if value is None:
        return None
    number = _scalar(value)
    is_masked = isinstance(number, _Unusable) and number.reason == _MASKED
    if is_masked or (isinstance(number, float) and math.isnan(number)):
        tell(f"{name} is not a number; it is taken as omitted")
        return None
    if isinstance(number, str) or (isinstance(number, float) and math.isinf(number)):
        number = _Unusable("")
    if isinstance(number, _Unusable):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    whole: int = math.floor(number)
    if not 0 <= whole <= _LARGEST[name]:
        raise ValueError(f"{name} is {number}; expected a number from 0 to {_LARGEST[name]}")
    if whole != number:
        tell(f"{name} is not a whole number; it is recorded rounded down")
    return whole


def validate_key(given: Any) -> str | None:
    """Return the key of a run as text; real numbers are written as they are, and None stays None."""
    return _name(given, "key", "names the training, such as 'fold 2'")


def validate_run(given: Any) -> str | None:
    """Return what a run is asked for by as text, its key or its id, as :func:`validate_key` does."""
    return _name(given, "run", "is the key or the id of a run")


def _name(given: Any, argument: str, meaning: str) -> str | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (str, numbers.Real, Decimal)):
        raise TypeError(f"{argument} is {given!r}; expected a text or a real number that {meaning}")
    text = str(given)
    if not text.strip():
        raise TypeError(
            f"{argument} is {given!r}, which is blank; expected a text or a real number that {meaning}"
        )
    if len(text) > _LONGEST_KEY:
        raise ValueError(f"{argument} has {len(text)} characters; expected at most {_LONGEST_KEY}")
    return text


def normalize_metrics(given: Any, tell: Callable[[str], object]) -> dict[str, Any]:
    """Return metrics as JSON: numbers out of whatever holds one, nested as given.

    Numbers and None are taken as names too. What is neither a number nor a text, nor a list or mapping of them, is left out.

    Parameters
    ----------
    tell : callable
        Told, in one sentence, what is left out and why.

    Returns
    -------
    dict
        Floats may be NaN or infinite.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        tell(
            f"no metrics are recorded: expected a mapping of names to numbers, not a {type(given).__name__}"
        )
        return {}
    left_out: list[str] = []
    found = _guarded(given, "", left_out, ())
    if isinstance(found, _Unusable):
        if found.reason:
            tell(f"no metrics are recorded: the mapping {found.reason}")
        found = {}
    found, unnamed = limit_nonfinite(found)
    left_out += (f"{name} (has too many values that are not finite)" for name in unnamed)
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        tell(
            f"metrics are left out: {', '.join(left_out[:_NAMED])}{more}. Expected are numbers; all else is recorded"
        )
    return found


class _Unusable:
    """Stands for what cannot be recorded; ``reason`` is empty where that was told already."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _guarded(value: Any, name: str, left_out: list[str], above: tuple[int, ...]) -> Any:
    """Return what :func:`_value` does, whatever the methods of somebody's class raise."""
    try:
        return _value(value, name, left_out, above)
    except Exception as error:  # noqa: BLE001 - such as an `items` or `__iter__` that fails
        return _Unusable(f"cannot be read: {type(error).__name__}")


def _value(value: Any, name: str, left_out: list[str], above: tuple[int, ...]) -> Any:
    """Return ``value`` as JSON; ``above`` are the ids of the containers that it is in."""
    if value is None or type(value) in (bool, float, str):
        return value
    if isinstance(value, (Mapping, list, tuple)):
        if id(value) in above:
            return _Unusable("holds itself")
        if len(above) >= _DEEPEST:
            return _Unusable("is nested too deeply")
        if isinstance(value, Mapping):
            return _mapping(value, f"{name}." if above else "", left_out, above)
        items, lost = [], list[str]()
        for item in value:
            items.append(found := _value(item, name, lost, (*above, id(value))))
            if lost or isinstance(
                found, _Unusable
            ):  # a list has places: it is recorded whole or not at all
                return _Unusable("has an element that is no number")
        return items
    number = _scalar(value)
    if type(number) is int and number and finite_number(number) is None:
        return _Unusable("is too large")
    return number


def _mapping(
    value: Mapping[Any, Any], before: str, left_out: list[str], above: tuple[int, ...]
) -> Any:
    """Return a mapping as JSON, without what cannot be recorded, which is added to ``left_out``."""
    found: dict[str, Any] = {}
    count = len(left_out)
    for key, inner in value.items():
        text = _key(key)
        if text is None:
            left_out.append(f"{before}{type(key).__name__} (is no name)")
            continue
        usable = _guarded(inner, before + text, left_out, (*above, id(value)))
        if not isinstance(usable, _Unusable) and text in found:
            usable = _Unusable("is there twice")
        if not isinstance(usable, _Unusable):
            found[text] = usable
        elif usable.reason:
            left_out.append(f"{before}{text} ({usable.reason})")
    return _Unusable("") if not found and len(left_out) > count else found


def _key(key: Any) -> str | None:
    with suppress(Exception):  # an integer of too many digits; whatever somebody's own class raises
        if isinstance(key, enum.Enum) and not isinstance(key, (str, int, float)):
            key = key.value
        found = None if key is None else _scalar(key)
        return None if isinstance(found, _Unusable) else str(found)
    return None


def _scalar(value: Any) -> Any:
    """Return the number or text that ``value`` stands for, or why it stands for none."""
    for kind in (bool, int, float):
        if isinstance(value, kind):  # an enum's, a subclass's
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real):
        return _Unusable("is a complex number")
    name = f"is a {type(value).__name__}"
    is_number = False
    with suppress(Exception):  # whatever somebody's own class raises
        masking = sys.modules.get("numpy.ma")
        if (
            masking is not None
            and isinstance(value, masking.MaskedArray)
            and masking.getmaskarray(value).any()
        ):
            return _Unusable(_MASKED)
        if callable(getattr(value, "item", None)):  # an array, of any library
            is_number = True
            item = value.item()
            if not hasattr(item, "item"):
                return _scalar(item)
    for special, convert in (("__index__", operator.index), ("__float__", float)):
        with suppress(Exception):
            if hasattr(type(value), special):
                is_number = True
                return convert(value)
    return _Unusable(f"{name} that gives no single number" if is_number else name)


def validate_tags(given: str | Iterable[str] | None) -> list[str]:
    """Tags, each once; a single text is one tag, and None is no tags."""
    listed = [given] if isinstance(given, str) else list(given or ())
    for tag in listed:
        if not isinstance(tag, str):
            raise TypeError(f"tags has {tag!r}; expected texts")
    return list(dict.fromkeys(listed))
