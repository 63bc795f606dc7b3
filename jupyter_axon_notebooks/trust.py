"""The mark ``trusted`` in the metadata of cells, which makes JupyterLab run scripts in outputs."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

_TRUSTED: Final = "trusted"
#: Fields that are not searched for metadata: MIME bundles, which may hold any JSON, and metadata
#: itself.
_NO_METADATA = ("data", "attachments", "metadata")


def without_trust(value: T) -> T:
    """Return ``value``, all or part of a notebook, without ``trusted`` in its metadata.

    ``trusted`` makes JupyterLab run scripts in outputs. Only a contents manager may set it, after
    checking a signature, so a ``trusted`` from a record or a file must not reach a contents manager
    or a renderer. The same object is returned if there is nothing to remove.
    """
    if isinstance(value, list):
        items = [without_trust(item) for item in value]
        return value if all(map(operator.is_, items, value)) else cast(T, items)
    if not isinstance(value, dict):
        return value
    fields = {
        name: inner if name in _NO_METADATA else without_trust(inner)
        for name, inner in value.items()
    }
    if isinstance(metadata := value.get("metadata"), dict):
        fields["metadata"] = untrusted_metadata(metadata)
    return value if all(map(operator.is_, fields.values(), value.values())) else cast(T, fields)


def untrusted_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return ``metadata`` without ``trusted`` and ``jupyter.trusted``."""
    if "trusted" in metadata:
        metadata = {name: value for name, value in metadata.items() if name != "trusted"}
    jupyter = metadata.get("jupyter")
    if isinstance(jupyter, dict) and "trusted" in jupyter:
        metadata = {**metadata, "jupyter": untrusted_metadata(jupyter)}
    return metadata


def carry_trust(notebook: dict[str, Any], original: Mapping[str, Any]) -> None:
    """Mark cells of ``notebook`` as trusted if all their outputs are trusted in ``original``.

    JupyterLab runs scripts in the outputs of cells with ``metadata.trusted``. The mark is never
    part of a file: a contents manager sets it when it reads a signed notebook, and signs what it
    saves if every cell with rich outputs has it. Trust belongs to outputs. A cell that was moved
    or edited keeps it, and a cell with an output from elsewhere loses it.

    Parameters
    ----------
    notebook : dict
        The notebook to be saved; changed in place.
    original : Mapping
        The notebook as the contents manager returned it.
    """
    trusted = {
        _digest(output)
        for cell in _code_cells(original)
        if isinstance(metadata := cell.get("metadata"), dict) and metadata.get(_TRUSTED) is True
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
            cell["metadata"] = {**metadata, _TRUSTED: True} if is_trusted else metadata


def _code_cells(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in _dicts(notebook.get("cells")) if cell.get("cell_type") == "code")


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    return (
        (value for value in values if isinstance(value, dict))
        if isinstance(values, list)
        else iter(())
    )


def _digest(output: Mapping[str, Any]) -> bytes:
    """Return a digest of an output without its execution count."""
    shown = {name: value for name, value in output.items() if name != "execution_count"}
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).digest()
