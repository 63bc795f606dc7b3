"""The content of a notebook as plain JSON values: copied, in canonical form, compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import without_trust
from .notes import Notes

#: Containers inside containers, the notebook itself included. Python's recursion limit and the JSON codecs on
#: the way stop somewhere beyond; notebooks in use stay below 30.
MAX_DEPTH = 200

_ABSENT = object()
_SCALARS = frozenset({str, int, float, bool, type(None)})
_TRANSIENT = ("orig_nbformat", "orig_nbformat_minor", "signature")


class TooDeep(ValueError):
    """A value nested deeper than :data:`MAX_DEPTH`."""


def copied(value: Any, depth: int = MAX_DEPTH, *, cut: bool = False) -> Any:
    """``value`` in fresh dicts and lists; texts and numbers are shared, not copied.

    Raises
    ------
    TooDeep
        For more than ``depth`` levels, unless ``cut``: then what lies deeper is None.
    """
    if isinstance(value, dict):
        if depth == 0:
            return _refused(cut)
        return {
            key: inner if type(inner) in _SCALARS else copied(inner, depth - 1, cut=cut)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        if depth == 0:
            return _refused(cut)
        return [
            inner if type(inner) in _SCALARS else copied(inner, depth - 1, cut=cut)
            for inner in value
        ]
    return value


def _refused(cut: bool) -> None:
    if not cut:
        raise TooDeep


def canonical(notebook: Mapping[str, Any], notes: Notes | None = None) -> dict[str, Any]:
    """A copy of ``notebook`` as nbformat's version 4 reader gives it; ``notes`` get what had to be left out.

    Texts split into lines are joined, transient metadata and marks of trust are gone. What is malformed stays as it is.
    """
    try:
        content: dict[str, Any] = copied(dict(notebook))
    except TooDeep:
        content = copied(dict(notebook), cut=True)
        if notes is not None:
            notes.add("$", f"what is nested deeper than {MAX_DEPTH} levels is recorded as null")
    if isinstance(metadata := content.get("metadata"), dict):
        for key in _TRANSIENT:
            metadata.pop(key, None)
    if isinstance(cells := content.get("cells"), list):
        for cell in cells:
            if isinstance(cell, dict):
                _canonicalise_cell(cell)
    return without_trust(content)


def _canonicalise_cell(cell: dict[str, Any]) -> None:
    _join(cell, "source")
    if isinstance(attachments := cell.get("attachments"), dict):
        for bundle in attachments.values():
            _join_bundle(bundle)
    outputs = cell.get("outputs")
    if cell.get("cell_type") != "code" or not isinstance(outputs, list):
        return
    for output in outputs:
        if not isinstance(output, dict):
            continue
        if output.get("output_type") in ("execute_result", "display_data"):
            _join_bundle(output.get("data"))
        elif output.get("output_type"):
            _join(output, "text")


def _join(holder: dict[str, Any], key: str) -> None:
    lines = holder.get(key)
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        holder[key] = "".join(lines)


def _join_bundle(bundle: Any) -> None:
    if isinstance(bundle, dict):
        for mime in bundle:
            if not is_json_mime(mime):
                _join(bundle, mime)


def is_json_mime(mime: str) -> bool:
    """Whether a MIME bundle's value of this type is JSON, and not text."""
    return mime == "application/json" or (
        mime.startswith("application/") and mime.endswith("+json")
    )


def same(one: Any, other: Any) -> bool:
    """Whether two plain JSON values are the same: types told apart (1, 1.0, True), NaN equal to itself."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict:
        if len(one) != len(other):
            return False
        for key, value in one.items():
            twin = other.get(key, _ABSENT)
            if value is not twin and not same(value, twin):
                return False
        return True
    if kind is list:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is float:
        return repr(one) == repr(other)  # tells -0.0 from 0.0, and not NaN from NaN
    return bool(one == other)
