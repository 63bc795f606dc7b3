"""Notebook content as plain JSON values: copies, canonical form, comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..trust import without_trust

#: The deepest nesting that is mapped. Notebooks in use stay below 30, and JSON codecs fail
#: somewhere beyond.
MAX_DEPTH = 200


_ABSENT = object()
_SCALARS = frozenset({str, int, float, bool, type(None)})
_TRANSIENT = ("orig_nbformat", "orig_nbformat_minor", "signature")


class TooDeep(ValueError):
    """A value nested deeper than :data:`MAX_DEPTH`."""


def copy_json(value: Any, depth: int = MAX_DEPTH, *, cut: bool = False) -> Any:
    """Copy all dicts and lists of a value.

    Raises
    ------
    TooDeep
        For more than ``depth`` levels. If ``cut``, deeper values become None instead.
    """
    if isinstance(value, dict):
        if depth == 0:
            return _refuse_or_cut(cut)
        return {
            key: inner if type(inner) in _SCALARS else copy_json(inner, depth - 1, cut=cut)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        if depth == 0:
            return _refuse_or_cut(cut)
        return [
            inner if type(inner) in _SCALARS else copy_json(inner, depth - 1, cut=cut)
            for inner in value
        ]
    return value


def _refuse_or_cut(cut: bool) -> None:
    if not cut:
        raise TooDeep


def canonical(notebook: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a copy of a notebook as nbformat's version 4 reader returns it.

    Lines of text are joined; transient metadata and marks of trust are removed. Faults stay as
    they are. The copy is cut at :data:`MAX_DEPTH`; the second value returned is whether something
    was cut.
    """
    is_cut = False
    try:
        content: dict[str, Any] = copy_json(dict(notebook))
    except TooDeep:
        content, is_cut = copy_json(dict(notebook), cut=True), True
    if isinstance(metadata := content.get("metadata"), dict):
        for key in _TRANSIENT:
            metadata.pop(key, None)
    if isinstance(cells := content.get("cells"), list):
        for cell in cells:
            if isinstance(cell, dict):
                _canonicalize_cell(cell)
    return without_trust(content), is_cut


def _canonicalize_cell(cell: dict[str, Any]) -> None:
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
    """Return whether a MIME bundle has JSON instead of text under a type."""
    return mime == "application/json" or (
        mime.startswith("application/") and mime.endswith("+json")
    )


def is_same_json(one: Any, other: Any) -> bool:
    """Return whether two values are equal, types included (1, 1.0, True); NaN equals itself."""
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
            if value is not twin and not is_same_json(value, twin):
                return False
        return True
    if kind is list:
        return len(one) == len(other) and all(map(is_same_json, one, other))
    if kind is float:
        return repr(one) == repr(other)  # distinguishes -0.0 from 0.0; NaN equals NaN
    return bool(one == other)
