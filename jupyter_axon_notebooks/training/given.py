"""What a training hands over, as records take it. Pure.

What is wrong is told before anything is written: a TypeError or ValueError that names the argument.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: The largest epoch or step: records keep them in 32 bits.
_LARGEST: Final = 2**32 - 1
_DEEPEST: Final = 32
#: The most characters in the key of a run.
_LONGEST_KEY: Final = 255


def whole_number(value: Any, name: str) -> int | None:
    """An epoch or a step: an ``int``, or what stands for one, as NumPy's integers do; None stays None."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected a whole number") from None
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"{name} is {number}; expected a number from 0 to {_LARGEST}")
    return number


def key_of(given: str | int | None) -> str | None:
    """The key of a run, as text; numbers will do."""
    if given is None:
        return None
    text = str(given)
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not text.strip():
        raise TypeError(
            f"key is {given!r}; expected a text or number that names the training, such as 'fold 2'"
        )
    if len(text) > _LONGEST_KEY:
        raise ValueError(f"key has {len(text)} characters; expected at most {_LONGEST_KEY}")
    return text


def metrics_of(given: Any) -> dict[str, Any]:
    """Metrics as JSON: numbers out of whatever holds one (NumPy scalars, tensors of one element), nested as given.

    Returns
    -------
    dict
        Floats may be NaN or infinite.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"metrics is a {type(given).__name__}; expected a mapping of names to numbers")
    found: dict[str, Any] = _plain(given, "metrics", _DEEPEST)
    return found


def _plain(value: Any, name: str, depth: int) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth == 0:
        raise ValueError(f"{name} is nested too deeply")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}; expected names")
        return {str(key): _plain(inner, f"{name}[{key!r}]", depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{name}[{index}]", depth - 1) for index, inner in enumerate(value)]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # an enum's, a subclass's
            return kind(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            number = item()
        except (ValueError, RuntimeError):
            raise TypeError(f"{name} has more than one element; expected a number") from None
        if type(number) in (bool, int, float, str):
            return number
    raise TypeError(f"{name} is a {type(value).__name__}; expected a number")


def tags_of(given: str | Iterable[str] | None) -> list[str]:
    """Tags, each once; a single text is one tag, and None is no tags."""
    listed = [given] if isinstance(given, str) else list(given or ())
    for tag in listed:
        if not isinstance(tag, str):
            raise TypeError(f"tags has {tag!r}; expected texts")
    return list(dict.fromkeys(listed))
