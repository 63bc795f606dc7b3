"""Cells and outputs: from their content to the record's form and back.

The way back returns only what nbformat's schema allows, whatever a record has. A cell or output
that the data model cannot express therefore does not come back equal, and :mod:`.notebooks` keeps
the original.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..records import CellOutput, CellStatus, CellType, NotebookCell, NotebookStatus
from .json_values import is_json_mime

#: The ``nbformat_type`` of a cell, and the ``output_type`` of an output, whose type is invalid.
_RAW = "raw"
_UNKNOWN = "unknown"
_LARGEST_U32 = 2**32 - 1
#: Locations named in one note; a notebook may have a fault in each of 100,000 outputs.
_MAX_NAMED = 5


class Notes:
    """Notes on a notebook's faults: one of each kind, however often it occurs."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, place: str, what: str, *, kind: str | None = None) -> None:
        """Add a fault at a JSON path; ``kind`` is the wording for several places, if it differs."""
        found = self._kinds.setdefault(what if kind is None else kind, _Kind(what))
        found.count += 1
        if len(found.places) < _MAX_NAMED:
            found.places.append(place)

    def texts(self) -> list[str]:
        """Return the notes: the first locations of each kind, and how many more there are."""
        return [
            f"{found.places[0]}: {found.first}"
            if found.count == 1
            else f"{join_names(found.places, found.count)}: {kind}"
            for kind, found in self._kinds.items()
        ]


def join_names(names: list[str], count: int) -> str:
    """Return the first of ``count`` names, and how many more there are."""
    named = ", ".join(names[:_MAX_NAMED])
    return f"{named} and {count - _MAX_NAMED} more" if count > _MAX_NAMED else named


class _Kind:
    def __init__(self, first: str) -> None:
        self.first = first
        self.places: list[str] = []
        self.count = 0


def cell_status(outputs: Iterable[CellOutput], *, executed: bool) -> CellStatus:
    """Return the status of a code cell; ``executed`` is whether it has an execution count.

    Outputs do not show that a cell was executed: a notebook saved during the execution has outputs
    without a count.
    """
    if any(output.output_type == "error" for output in outputs):
        return CellStatus.ERROR
    return CellStatus.COMPLETED if executed else CellStatus.IDLE


def notebook_status(cells: Sequence[NotebookCell]) -> NotebookStatus:
    """Return the status of a notebook from those of its cells.

    It is failed if a cell has an error, completed if every code cell with a source is completed,
    and a draft otherwise or if no cell was executed.
    """
    code = [cell for cell in cells if cell.cell_type is CellType.CODE]
    if any(cell.status is CellStatus.ERROR for cell in code):
        return NotebookStatus.FAILED
    unfinished = any(
        cell.status is not CellStatus.COMPLETED and cell.source.strip() for cell in code
    )
    if unfinished or not any(cell.status is CellStatus.COMPLETED for cell in code):
        return NotebookStatus.DRAFT
    return NotebookStatus.COMPLETED


def output_record(content: Any) -> CellOutput:
    """Return the record of an output; fields of unknown types are read like known ones."""
    if not isinstance(content, dict):
        return CellOutput(output_type=_UNKNOWN, text=_text(content))
    traceback = content.get("traceback")
    return CellOutput(
        output_type=kind if (kind := _text(content.get("output_type"))) is not None else _UNKNOWN,
        text=_text(content.get("text")),
        data=content.get("data"),
        execution_count=_count(content.get("execution_count")),
        error_name=_text(content.get("ename")),
        error_value=_text(content.get("evalue")),
        traceback=traceback if _is_texts(traceback) else None,
        name=_text(content.get("name")),
        metadata=_object(content.get("metadata")),
    )


def output_content(output: CellOutput) -> dict[str, Any]:
    """Return valid content for an output; an unknown type becomes ``display_data``."""
    kind = output.output_type
    if kind == "stream":
        name = "stdout" if output.name is None else output.name
        return {"output_type": kind, "name": name, "text": output.text or ""}
    if kind == "error":
        return {
            "output_type": kind,
            "ename": output.error_name or "",
            "evalue": output.error_value or "",
            "traceback": [] if output.traceback is None else output.traceback,
        }
    content: dict[str, Any] = {
        "output_type": "display_data",
        "data": _bundle(output.text if output.data is None else output.data),
        "metadata": {} if output.metadata is None else output.metadata,
    }
    if kind == "execute_result":
        content.update(output_type=kind, execution_count=output.execution_count)
    return content


def cell_record(content: Any, id: str) -> NotebookCell:
    """Return the record of a cell; a raw or unknown cell becomes markdown with its type."""
    if not isinstance(content, dict):
        return NotebookCell(
            id=id, cell_type=CellType.MARKDOWN, source=_text(content) or "", nbformat_type=_RAW
        )
    kind = content.get("cell_type")
    cell = NotebookCell(
        id=id,
        source=_text(content.get("source")) or "",
        metadata=_object(content.get("metadata")) or {},
        attachments=_object(content.get("attachments")),
        execution_count=_count(content.get("execution_count")),
    )
    if kind == "code":
        cell.outputs = [output_record(output) for output in _outputs(content)]
        executed = content.get("execution_count") is not None
        cell.status = cell_status(cell.outputs, executed=executed)
    else:
        cell.cell_type = CellType.MARKDOWN
        if kind != "markdown":
            cell.nbformat_type = kind if isinstance(kind, str) else _RAW
    return cell


def cell_content(cell: NotebookCell, *, future: bool) -> dict[str, Any]:
    """Return valid content for a cell, without id and outputs (a code cell has ``outputs: []``).

    A cell of an unknown type keeps its type only in a ``future`` minor version, and is raw
    elsewhere.
    """
    if cell.cell_type is CellType.CODE:
        kind = "code"
    elif cell.nbformat_type is None or cell.nbformat_type in ("code", "markdown"):
        kind = "markdown"
    else:
        kind = cell.nbformat_type if future else _RAW
    content: dict[str, Any] = {
        "cell_type": kind,
        "metadata": _valid_metadata(cell.metadata, kind),
        "source": cell.source,
    }
    if kind == "code":
        content.update(execution_count=cell.execution_count, outputs=[])
    elif cell.attachments is not None:
        content["attachments"] = _valid_attachments(cell.attachments)
    return content


def without_outputs(content: Any) -> Any:
    """Return the content of a cell with an empty list of outputs."""
    if isinstance(content, dict) and _outputs(content):
        return {**content, "outputs": []}
    return content


def cell_fields(cell: NotebookCell) -> list[Any]:
    """Return what a record contains of a cell, apart from id, outputs and status."""
    return [
        cell.cell_type,
        cell.source,
        cell.execution_count,
        cell.metadata,
        cell.attachments,
        cell.nbformat_type,
    ]


def note_cell(content: Any, place: str, notes: Notes) -> None:
    """Note the faults of a cell at ``place``, a JSON path, and how they were recorded."""
    if not isinstance(content, dict):
        notes.add(place, "not an object; recorded as a raw cell")
        return
    kind = content.get("cell_type")
    if not isinstance(kind, str):
        notes.add(f"{place}.cell_type", "not a text; recorded as a raw cell")
    known = kind in ("code", "markdown", "raw")
    if not isinstance(content.get("source"), str) and (known or "source" in content):
        notes.add(f"{place}.source", "not a text; recorded as empty")
    if not isinstance(content.get("metadata"), dict):
        notes.add(f"{place}.metadata", "not an object; recorded as empty")
    if not isinstance(content.get("attachments", {}), dict):
        notes.add(f"{place}.attachments", "not an object; left out")
    if kind != "code":
        return
    count = content.get("execution_count")
    if count is not None and _count(count) is None:
        notes.add(
            f"{place}.execution_count", f"not a whole number from 0 to {_LARGEST_U32}; left out"
        )
    if not isinstance(content.get("outputs"), list):
        notes.add(f"{place}.outputs", "not a list; recorded as empty")
    for index, output in enumerate(_outputs(content)):
        if not isinstance(output, dict):
            notes.add(
                f"{place}.outputs[{index}]", "not an object; recorded as an output of unknown type"
            )
        elif not isinstance(output.get("output_type"), str):
            notes.add(f"{place}.outputs[{index}].output_type", "not a text; recorded as unknown")


def list_outputs(content: Any) -> list[Any]:
    """Return the outputs in the content of a code cell; none if they are invalid."""
    return _outputs(content) if isinstance(content, dict) else []


def _outputs(content: dict[str, Any]) -> list[Any]:
    outputs = content.get("outputs")
    return outputs if content.get("cell_type") == "code" and isinstance(outputs, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _LARGEST_U32 else None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _bundle(data: Any) -> dict[str, Any]:
    """Return ``data`` as a valid MIME bundle; the same object if it is one."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        return {"text/plain": _as_text(data)}
    if all(isinstance(value, str) or is_json_mime(mime) for mime, value in data.items()):
        return data
    return {mime: value if is_json_mime(mime) else _as_text(value) for mime, value in data.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "".join(value) if _is_texts(value) else json.dumps(value, ensure_ascii=False)


def _valid_attachments(attachments: dict[str, Any]) -> dict[str, Any]:
    if all(_bundle(bundle) is bundle for bundle in attachments.values()):
        return attachments
    return {name: _bundle(bundle) for name, bundle in attachments.items()}


_TAG = re.compile(r"[^,]+")
_NAME = re.compile(r".+")


def _is_tags(value: Any) -> bool:
    return (
        _is_texts(value)
        and len(set(value)) == len(value)
        and all(_TAG.fullmatch(tag) is not None for tag in value)
    )


def _is_execution(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(time, str) for time in value.values())


_ANY_CELL: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    "tags": _is_tags,
    "jupyter": lambda value: isinstance(value, dict),
}


#: The metadata that nbformat's schema restricts, by cell type, with the check of each value.
_RESTRICTED: dict[str, dict[str, Callable[[Any], bool]]] = {
    "markdown": _ANY_CELL,
    "raw": {**_ANY_CELL, "format": lambda value: isinstance(value, str)},
    "code": {
        **_ANY_CELL,
        "collapsed": lambda value: isinstance(value, bool),
        "scrolled": lambda value: isinstance(value, bool) or value == "auto",
        "execution": _is_execution,
    },
}


def _valid_metadata(metadata: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return ``metadata`` without invalid values; the same object if all are valid."""
    restricted = _RESTRICTED.get(kind, _ANY_CELL)
    refused = {
        key for key, allows in restricted.items() if key in metadata and not allows(metadata[key])
    }
    return (
        {key: value for key, value in metadata.items() if key not in refused}
        if refused
        else metadata
    )
