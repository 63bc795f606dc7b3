"""One cell and one output, from their content to the record's form and back.

The way back gives only what nbformat's schema allows, whatever a record made through the API holds. So
a cell or an output that the file has and the data model cannot express does not come back the same, which is how
:mod:`.notebook` knows what to keep word for word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..records import CellOutput, CellType, NotebookCell
from .content import is_json_mime
from .notes import Notes
from .status import cell_status

#: The ``nbformat_type`` of a cell whose own type cannot be read.
_RAW = "raw"
#: The ``output_type`` of an output whose own type cannot be read.
_UNKNOWN = "unknown"
_LARGEST_U32 = 2**32 - 1


def output_record(content: Any) -> CellOutput:
    """The record of an output as far as ``content`` can be read; an unknown type's fields like a known one's."""
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
    """A valid output that says what the record says; one of an unknown type becomes ``display_data``."""
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
    """The record of a cell as far as ``content`` can be read; a raw or unknown one is markdown with its type."""
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
    """A valid cell that says what the record says, with neither id nor outputs (a code cell has ``outputs: []``).

    A cell of an unknown type stays one only in a notebook of a ``future`` minor version, and is raw elsewhere.
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
    """A cell's content with its outputs taken out, in the form :func:`cell_content` gives it."""
    if isinstance(content, dict) and _outputs(content):
        return {**content, "outputs": []}
    return content


def said(cell: NotebookCell) -> list[Any]:
    """What a record says of a cell, apart from its id, its outputs and how it went."""
    return [
        cell.cell_type,
        cell.source,
        cell.execution_count,
        cell.metadata,
        cell.attachments,
        cell.nbformat_type,
    ]


def note_cell(content: Any, place: str, notes: Notes) -> None:
    """Note what of a cell at ``place``, a JSON path, could not be read, and how it was recorded instead."""
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


def outputs_of(content: Any) -> list[Any]:
    """The outputs in a cell's content; none where it is not a code cell, or they are not a list."""
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
    """``data`` as a valid MIME bundle; itself, if it is one."""
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
#: By cell type, the metadata that nbformat's schema restricts, each with what it allows.
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
    """``metadata`` without what the schema refuses; itself, if nothing is."""
    restricted = _RESTRICTED.get(kind, _ANY_CELL)
    refused = {
        key for key, allows in restricted.items() if key in metadata and not allows(metadata[key])
    }
    return (
        {key: value for key, value in metadata.items() if key not in refused}
        if refused
        else metadata
    )
