"""Validation of the arguments of the notebook API. Pure functions.

Wrong arguments raise a TypeError or ValueError that names the argument, before anything is written.
Metrics that cannot be recorded are omitted, with a warning.
"""

from __future__ import annotations

import enum
import math
import numbers
import operator
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidData
from ..metrics import finite_number, limit_nonfinite
from ..records import MAX_STEP, MAX_U32
from ..repository.retention_rules import parse_rules
from ..repository.runs import MAX_LABEL, MAX_NOTES, MAX_TAGS

if TYPE_CHECKING:
    from ..repository.runs import GivenFields

_MAX_DEPTH: Final = 32
#: The largest length of the key of a run.
_MAX_KEY_LENGTH: Final = 255
#: The most metrics that a warning names.
_MAX_NAMED: Final = 10
_MASKED: Final = "is masked"
#: The largest epoch and step.
MAX_POSITIONS: Final = {"epoch": MAX_U32, "step": MAX_STEP}

#: Called with a sentence about what is recorded otherwise than it was given.
Warn = Callable[[str], object]


class _Unusable(Exception):
    """A value that cannot be recorded; the reason is empty if its parts have their own."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def validate_position(value: Any, name: str, warn: Warn) -> int | None:
    """Return an epoch or a step as an ``int``; None stays None.

    Every object that stands for a number is accepted: of NumPy, tensors with one element, and
    others that convert. A fraction, such as the epoch of Hugging Face's trainer, is rounded down,
    and NaN becomes None, each with a warning.
    """
    if value is None:
        return None
    try:
        number = _scalar(value)
    except _Unusable as error:
        number = math.nan if error.reason == _MASKED else None
    if isinstance(number, float) and math.isnan(number):
        warn(f"{name} is not a number; it is treated as omitted")
        return None
    if number is None or isinstance(number, str) or math.isinf(number):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    whole: int = math.floor(number)
    if not 0 <= whole <= MAX_POSITIONS[name]:
        raise ValueError(f"{name} is {number}; expected a number from 0 to {MAX_POSITIONS[name]}")
    if whole != number:
        warn(f"{name} is not a whole number; it is rounded down")
    return whole


def validate_key(key: Any) -> str | None:
    """Return the key of a run as a string; None stays None."""
    return _validate_name(key, "key", "names the training, such as 'fold 2'")


def validate_run(run: Any) -> str | None:
    """Return the key, name, number or id of a run as a string; None stays None."""
    return _validate_name(run, "run", "is the key, name, number or id of a run")


def _validate_name(name: Any, argument: str, meaning: str) -> str | None:
    if name is None:
        return None
    expected = f"expected a string or a real number that {meaning}"
    if isinstance(name, bool) or not isinstance(name, (str, numbers.Real, Decimal)):
        raise TypeError(f"{argument} is {name!r}; {expected}")
    text = str(name)
    if not text.strip():
        raise TypeError(f"{argument} is {name!r}, which is blank; {expected}")
    if len(text) > _MAX_KEY_LENGTH:
        raise ValueError(
            f"{argument} has {len(text)} characters; expected at most {_MAX_KEY_LENGTH}"
        )
    return text


def validate_tags(tags: str | Iterable[str] | None) -> list[str]:
    """Return tags without duplicates; a string is one tag."""
    listed = [tags] if isinstance(tags, str) else list(tags or ())
    for tag in listed:
        validate_string(tag, "tags", "strings")
    return list(dict.fromkeys(listed))


def validate_keep(keep: Any) -> str | None:
    """Return the rules by which a run is pruned; None stays None."""
    if keep is None:
        return None
    validate_string(keep, "keep", "rules such as 'last:2, best:val_loss:3'")
    try:
        parse_rules(keep)
    except InvalidData as error:
        raise ValueError(f"keep is {keep!r}: {error.reason}") from None
    return str(keep)


def validate_string(value: Any, argument: str, expected: str) -> str:
    """Return a string; raise a TypeError that names the argument for everything else."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} is {value!r}; expected {expected}")
    return value


def validate_run_fields(
    name: str | None, tags: str | Iterable[str] | None, notes: str | None, group: str | None
) -> GivenFields:
    """Return what a user gives to a run, with tags as a list."""
    texts = {"name": (name, MAX_LABEL), "notes": (notes, MAX_NOTES), "group": (group, MAX_LABEL)}
    for argument, (text, limit) in texts.items():
        if text is not None and len(validate_string(text, argument, "a string")) > limit:
            raise ValueError(f"{argument} has {len(text):,} characters; expected at most {limit:,}")
    listed = validate_tags(tags)
    if len(listed) > MAX_TAGS or any(len(tag) > MAX_LABEL for tag in listed):
        raise ValueError(f"tags: expected at most {MAX_TAGS} of at most {MAX_LABEL:,} characters")
    return {"name": name, "tags": listed, "notes": notes, "group": group}


def validate_metric_name(metric: Any) -> str:
    """Return the name of a metric."""
    return validate_string(metric, "metric", "the name of a metric, such as 'val_loss'")


def validate_mode(mode: Any) -> str | None:
    """Return ``min``, ``max`` or None."""
    if mode not in (None, "min", "max"):
        raise ValueError(f'mode is {mode!r}; expected "min" or "max"')
    return None if mode is None else str(mode)


def validate_checkpoint_id(id: Any) -> str:
    """Return the id of a checkpoint, or its beginning."""
    text = validate_string(id, "id", "the id of a checkpoint or its beginning, a string")
    if not text.strip():
        raise ValueError("id is blank; expected the id of a checkpoint or its beginning")
    return text


def validate_limit(limit: Any) -> int | None:
    """Return a number of checkpoints or runs, or None for all."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not hasattr(type(limit), "__index__"):
        raise TypeError(f"limit is {limit!r}; expected a whole number or None")
    number = operator.index(limit)
    if number < 0:
        raise ValueError(f"limit is {number}; expected 0 or more")
    return min(number, sys.maxsize)


def validate_path_or_id(path_or_id: Any) -> str:
    """Return the path of a notebook or the id of a record as a string."""
    if not isinstance(path_or_id, (str, os.PathLike)):
        raise TypeError(
            f"path_or_id is {path_or_id!r}; expected the path of a file or the id of a record"
        )
    return validate_string(os.fspath(path_or_id), "path_or_id", "a path of text, not bytes")


def normalize_metrics(metrics: Any, warn: Warn) -> dict[str, Any]:
    """Return metrics as JSON: numbers, strings, and lists and mappings of them.

    Keys may be numbers, enum members and None as well. Floats may be NaN or infinite. Values that
    are none of these are omitted, with one warning that names them.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        warn(f"no metrics are recorded: expected a mapping of names to numbers, not a {kind}")
        return {}
    omitted: list[str] = []
    try:
        found = _convert_mapping(metrics, "", omitted, ())
    except _Unusable:  # the metrics in it have their reasons
        found = {}
    except Exception as error:  # noqa: BLE001 - a mapping of the user's may raise anything
        kind = type(error).__name__
        warn(f"no metrics are recorded: the mapping cannot be read: {kind}")
        return {}
    found, ambiguous = limit_nonfinite(found)
    omitted += (f"{name} (has too many values that are not finite)" for name in ambiguous)
    if omitted:
        rest = len(omitted) - _MAX_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        named = ", ".join(omitted[:_MAX_NAMED])
        warn(f"some metrics are not recorded: {named}{more}. Metrics must be numbers")
    return found


def _convert(value: Any, name: str, omitted: list[str], parents: tuple[int, ...]) -> Any:
    """Return ``value`` as JSON; ``parents`` are the ids of the containers that it is in."""
    if value is None or type(value) in (bool, float, str):
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        number = _scalar(value)
        if type(number) is int and number and finite_number(number) is None:
            raise _Unusable("is too large")
        return number
    if id(value) in parents:
        raise _Unusable("contains itself")
    if len(parents) >= _MAX_DEPTH:
        raise _Unusable("is nested too deeply")
    if isinstance(value, Mapping):
        return _convert_mapping(value, f"{name}.", omitted, parents)
    items = []
    for item in value:  # a list is recorded whole or not at all
        lost: list[str] = []
        try:
            items.append(_convert(item, name, lost, (*parents, id(value))))
        except _Unusable:
            lost.append(name)
        if lost:
            raise _Unusable("has an element that is not a number")
    return items


def _convert_mapping(
    value: Mapping[Any, Any], prefix: str, omitted: list[str], parents: tuple[int, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    before = len(omitted)
    for key, inner in value.items():
        name = _key(key)
        if name is None:
            omitted.append(f"{prefix}{type(key).__name__} (is not a name)")
            continue
        reason = "appears twice" if name in found else ""
        try:
            if not reason:
                found[name] = _convert(inner, prefix + name, omitted, (*parents, id(value)))
        except _Unusable as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001 - containers of the user's may raise anything
            reason = f"cannot be read: {type(error).__name__}"
        if reason:
            omitted.append(f"{prefix}{name} ({reason})")
    if not found and len(omitted) > before:
        raise _Unusable("")
    return found


def _key(key: Any) -> str | None:
    with suppress(Exception):  # an integer with too many digits, or a class of the user's
        if isinstance(key, enum.Enum) and not isinstance(key, (str, int, float)):
            key = key.value
        return "None" if key is None else str(_scalar(key))
    return None


def _scalar(value: Any) -> Any:
    """Return the number or string that ``value`` stands for."""
    for kind in (bool, int, float):
        if isinstance(value, kind):  # a subclass, or a member of an enum
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real):
        raise _Unusable("is a complex number")
    if _is_masked(value):
        raise _Unusable(_MASKED)
    is_number = False
    with suppress(Exception):  # whatever a class of the user's raises
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
    name = f"is a {type(value).__name__}"
    raise _Unusable(f"{name}, not a single number" if is_number else name)


def _is_masked(value: Any) -> bool:
    masked = sys.modules.get("numpy.ma")
    with suppress(Exception):
        if masked is not None and isinstance(value, masked.MaskedArray):
            return bool(masked.getmaskarray(value).any())
    return False
