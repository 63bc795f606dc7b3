"""Notebook files: parsing to version 4 content, validation, and serialization.

nbformat is imported in the functions that need it: the import takes over a second, because of its
JSON schemas, and most notebooks need neither an upgrade nor a validation.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any

from ..errors import InvalidData, Unreadable
from .cell_ids import derived_id, has_own_ids
from .json_values import copy_json

_NEWEST = 4
#: The first minor version in which cells have ids.
_FIRST_WITH_IDS = 5

#: The most values in a file that is parsed: ``{},`` takes 25 times its length in memory.
MAX_VALUES = 20_000_000
#: The most cells and outputs in a notebook that is mapped.
MAX_PARTS = 500_000
#: The longest reason and location in a message; validators quote values of any length.
_LONGEST_REASON = 200
#: The longest file name without suffix, in characters.
_LONGEST_STEM = 60


_NO_FILE_NAME = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]+'
)


def notebook_text(content: dict[str, Any]) -> str:
    """Return the text of a notebook file in the layout of Jupyter; plain JSON if it is invalid."""
    import nbformat

    try:
        text: str = nbformat.v4.writes_json(nbformat.from_dict(content)) + "\n"
        text.encode()
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):  # containers missing, half a surrogate pair
        text = json.dumps(content, indent=1) + "\n"
    return text


def notebook_file_name(name: str) -> str:
    """Return a file name for the notebook ``name`` that is valid on any system."""
    stem = _NO_FILE_NAME.sub("_", name).strip(". ").removesuffix(".ipynb")
    return f"{stem[:_LONGEST_STEM].strip('. ') or 'notebook'}.ipynb"


def notebook_name(path: str) -> str:
    """Return the name of a notebook from its file's path."""
    return PurePath(path).stem


def read_notebook(text: str | bytes) -> dict[str, Any]:
    """Return the version 4 content of a notebook file; older versions are upgraded.

    Minor versions of 4 are kept. The cells of an upgraded notebook get derived ids, the same each
    time.

    Raises
    ------
    InvalidData
        If ``text`` is not JSON, not a notebook, or an old one that cannot be upgraded.
    Unreadable
        If it has more than :data:`MAX_VALUES` values, or more than :data:`MAX_PARTS` cells and
        outputs.
    """
    if _count_values(text) > MAX_VALUES:
        raise Unreadable("$", f"it has more than {MAX_VALUES:,} values")
    try:
        content: Any = json.loads(text)
    except RecursionError:
        raise InvalidData("$", "nested too deeply to be read") from None
    except ValueError as error:
        raise InvalidData("$", f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidData("$", f"expected a notebook, an object, got {_json_kind(content)}")
    if not content.keys() & {"cells", "worksheets", "nbformat"}:
        raise InvalidData("$", "not a notebook: it has neither cells nor a format version")
    _check_parts(content)
    # A notebook without a version is of version 1, which had no metadata, or a damaged newer one.
    if "nbformat" in content or not content.keys() & {"metadata", "nbformat_minor"}:
        major = content.get("nbformat", 1)
        if type(major) is int and 1 <= major < _NEWEST:
            content = _upgrade(_fill_defaults(content), major)
    return dict(content)


def _count_values(text: str | bytes) -> int:
    """Return an upper bound of the number of values in a JSON text."""
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{")
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _check_parts(content: dict[str, Any]) -> None:
    sheets = content.get("worksheets")
    parts = 0
    for holder in (content, *(sheets if isinstance(sheets, list) else ())):
        cells = holder.get("cells") if isinstance(holder, dict) else None
        for cell in cells if isinstance(cells, list) else ():
            outputs = cell.get("outputs") if isinstance(cell, dict) else None
            parts += 1 + (len(outputs) if isinstance(outputs, list) else 0)
    if parts > MAX_PARTS:
        raise Unreadable("$", f"it has more than {MAX_PARTS:,} cells and outputs")


def read_for_import(text: str | bytes) -> dict[str, Any]:
    """Return the version 4 content of a notebook file that is to be imported.

    Faults inside cells are accepted: :func:`.map_notebook` repairs and notes them.

    Raises
    ------
    InvalidData
        As :func:`read_notebook` does, and for an unknown format version or invalid ``cells``.
    """
    content = read_notebook(text)
    if content.get("nbformat", _NEWEST) != _NEWEST:
        raise InvalidData("$.nbformat", f"expected a whole number from 1 to {_NEWEST}")
    cells = content.get("cells")
    if not isinstance(cells, list):
        raise InvalidData("$.cells", f"expected an array, got {_json_kind(cells)}")
    for index, cell in enumerate(cells):
        if not isinstance(cell, dict):
            raise InvalidData(f"$.cells[{index}]", f"expected an object, got {_json_kind(cell)}")
    return content


def _fill_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Return an old notebook with the defaults that nbformat needs to upgrade it."""
    sheets = content.get("worksheets")
    sheets = sheets if isinstance(sheets, list) else []
    filled = [{"cells": [], **sheet} for sheet in sheets if isinstance(sheet, dict)]
    minor = content.get("nbformat_minor")
    return {
        "metadata": {},
        **content,
        "nbformat_minor": minor if type(minor) is int else 0,
        "worksheets": filled,
    }


def _upgrade(content: dict[str, Any], major: int) -> dict[str, Any]:
    import nbformat

    minor = content.get("nbformat_minor", 0)
    if type(minor) is not int:
        raise InvalidData("$.nbformat_minor", "expected a whole number")
    if major == 1 and not _has_known_cells(content):
        raise InvalidData(
            "$.cells", "cannot be upgraded from version 1: a cell is neither code nor text"
        )
    try:
        notebook = nbformat.versions[major].to_notebook_json(content, minor=minor)
        upgraded: dict[str, Any] = copy_json(nbformat.convert(notebook, _NEWEST))
    except (
        AttributeError,
        LookupError,
        NameError,
        RecursionError,
        TypeError,
        ValueError,
        nbformat.ValidationError,
    ) as error:
        reason = f"cannot be upgraded from version {major}: {error or type(error).__name__}"
        raise InvalidData("$", reason[:_LONGEST_REASON]) from None
    taken: set[str] = set()
    for cell in upgraded["cells"]:
        # nbformat's ids are random, and would differ at each reading.
        cell["id"] = derived_id(taken, str(cell.get("cell_type")), str(cell.get("source")))
        taken.add(cell["id"])
    return upgraded


def _has_known_cells(content: dict[str, Any]) -> bool:
    """Return whether nbformat can upgrade these version 1 cells; it drops unknown ones."""
    cells = content.get("cells")
    return isinstance(cells, list) and all(
        isinstance(cell, dict) and cell.get("cell_type") in ("code", "text") for cell in cells
    )


def find_fault(content: dict[str, Any]) -> str | None:
    """Return why version 4 content is not a valid notebook, with the location; None if it is."""
    from nbformat.validator import ValidationError, get_validator

    minor = content.get("nbformat_minor")
    if content.get("nbformat") != _NEWEST or type(minor) is not int or minor < 0:
        return "$.nbformat: expected version 4"
    if minor >= _FIRST_WITH_IDS and not has_own_ids(content):
        return "$.cells: an id is missing, invalid or repeated"
    try:
        json.dumps(content, ensure_ascii=False).encode()
        get_validator(_NEWEST, minor).validate(content)
    except UnicodeEncodeError:
        return "$: a text holds half a surrogate pair"
    except ValidationError:  # from the fast validator, without the location
        validator = get_validator(_NEWEST, minor, name="jsonschema")
        error: Any = next(validator.iter_errors(content), None)
        if error is None:
            return "$: not a valid notebook"
        while error.validator == "oneOf" and error.context:
            error = _pick_error(error.context)
        place = "$" + "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path
        )
        return f"{place}: {error.message}"[:_LONGEST_REASON]
    return None


def _pick_error(errors: list[Any]) -> Any:
    """Return one of the errors of the alternative that the value's type names."""
    others = {
        error.schema_path[0]
        for error in errors
        if error.path and error.path[-1] in ("cell_type", "output_type")
    }
    return next((error for error in errors if error.schema_path[0] not in others), errors[0])


def _json_kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")
