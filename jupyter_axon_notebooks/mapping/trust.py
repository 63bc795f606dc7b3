"""Trust in a notebook's outputs, as Jupyter marks it: ``metadata.trusted`` of code cells.

JupyterLab runs scripts in the outputs of a trusted cell. The mark is never part of a file: a contents manager sets it on
what it reads, when it knows the notebook's signature, and signs what it saves when every cell with rich outputs has it.
Records never have it: see :func:`..records.without_trust`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_MARK: Final = "trusted"


def carry_trust(notebook: dict[str, Any], original: Mapping[str, Any]) -> None:
    """Mark the cells of ``notebook`` whose outputs all are outputs of trusted cells in ``original``.

    Trust belongs to outputs, not to cells: a cell that was moved or whose source was edited keeps it, and a cell that
    got an output from elsewhere loses it.

    Parameters
    ----------
    notebook : dict
        What is about to be saved; changed in place.
    original : Mapping
        The notebook as its contents manager gave it.
    """
    trusted = {
        _digest(output)
        for cell in _code_cells(original)
        if isinstance(metadata := cell.get("metadata"), dict) and metadata.get(_MARK) is True
        for output in _dicts(cell.get("outputs"))
    }
    if not trusted:
        return
    for cell in _code_cells(notebook):
        outputs = cell.get("outputs")
        if (
            isinstance(outputs, list)
            and outputs
            and isinstance(metadata := cell.get("metadata"), dict)
        ):
            is_trusted = all(
                isinstance(output, dict) and _digest(output) in trusted for output in outputs
            )
            cell["metadata"] = {**metadata, _MARK: True} if is_trusted else metadata


def _code_cells(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in _dicts(notebook.get("cells")) if cell.get("cell_type") == "code")


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    return (
        (value for value in values if isinstance(value, dict))
        if isinstance(values, list)
        else iter(())
    )


def _digest(output: Mapping[str, Any]) -> bytes:
    """What tells an output from others, apart from the number of its execution."""
    shown = {name: value for name, value in output.items() if name != "execution_count"}
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).digest()
