"""A whole notebook, from its content to the cells and metadata of a record, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..records import NotebookCell, NotebookMetadata, NotebookStatus, without_trust
from .cell import (
    cell_content,
    cell_record,
    note_cell,
    output_content,
    output_record,
    outputs_of,
    said,
    without_outputs,
)
from .content import canonical, copied, same
from .framework import detect_framework
from .identity import cell_ids, derived_id, is_valid_id
from .notes import Notes
from .status import notebook_status

#: The newest version of the format; records made through the API are exported in it.
_MAJOR, _MINOR = 4, 5
_OWN_KEYS = frozenset({"cells", "metadata", "nbformat", "nbformat_minor"})


class MappedNotebook(NamedTuple):
    """What a record takes from a notebook.

    ``notes`` say what could not be read and how it was recorded instead, one for each kind of fault; they are in
    ``metadata.extra["axon"]["notes"]`` as well, where there are any.
    """

    cells: list[NotebookCell]
    metadata: NotebookMetadata
    status: NotebookStatus
    notes: list[str]


def map_notebook(
    notebook: Mapping[str, Any], *, previous: Sequence[NotebookCell] = ()
) -> MappedNotebook:
    """The record's form of a version 4 notebook, parsed from a file or carried by a contents model.

    Never fails: an invalid notebook is recorded as far as it can be read, and ``notes`` say what was wrong.
    The result shares no container with ``notebook``.

    Parameters
    ----------
    notebook : Mapping
        The notebook's content.
    previous : sequence of NotebookCell
        The cells the record had before. Cells that have no id of their own keep the one they had there.
    """
    notes = Notes()
    if not isinstance(notebook, Mapping):
        notes.add("$", "not an object; recorded as an empty notebook")
        notebook = {}
    content = canonical(notebook, notes)
    _note_top(content, notes)
    contents = content["cells"] if isinstance(content.get("cells"), list) else []
    minor = content.get("nbformat_minor")
    ids = cell_ids(contents, previous, required=_has_ids(minor), notes=notes)
    cells = []
    kept_cells: dict[str, Any] = {}
    kept_outputs: dict[str, dict[str, Any]] = {}
    for index, (cell_id, original) in enumerate(zip(ids, contents, strict=True)):
        cell = cell_record(original, cell_id)
        cells.append(cell)
        note_cell(original, f"$.cells[{index}]", notes)
        frame = without_outputs(original)
        if not same(_frame(cell, cell_id, minor), frame):
            kept_cells[cell_id] = frame
        unlike = {
            str(place): output
            for place, (record, output) in enumerate(
                zip(cell.outputs, outputs_of(original), strict=True)
            )
            if not same(output_content(record), output)
        }
        if unlike:
            kept_outputs[cell_id] = unlike
    rebuild: dict[str, Any] = {
        key: value
        for key, value in content.items()
        if key in ("nbformat", "nbformat_minor", "metadata")
    }
    other = {key: value for key, value in content.items() if key not in _OWN_KEYS}
    if "cells" in content and content["cells"] is not contents:
        other["cells"] = content["cells"]
    kept = {"other": other, "cells": kept_cells, "outputs": kept_outputs}
    rebuild.update((name, value) for name, value in kept.items() if value)
    kernel, language, tags = _described(content.get("metadata"))
    texts = notes.texts()
    metadata = NotebookMetadata(
        kernel=kernel,
        language=language,
        framework=detect_framework(cells),
        tags=tags,
        extra={"nbformat": rebuild, **({"axon": {"notes": list(texts)}} if texts else {})},
    )
    return MappedNotebook(cells, metadata, notebook_status(cells), texts)


def export_notebook(cells: Sequence[NotebookCell], metadata: NotebookMetadata) -> dict[str, Any]:
    """The notebook that a record stands for, as plain version 4 content.

    For what :func:`map_notebook` gave, exactly the notebook as nbformat's reader sees it. Edits of the record since
    then win over what the file said. A record made through the API alone gives a valid notebook of the newest
    version; cell ids that nbformat refuses are replaced there. The result shares no container with the record, and has no
    marks of trust.
    """
    kept = _dict(metadata.extra.get("nbformat")) or {"nbformat": _MAJOR, "nbformat_minor": _MINOR}
    minor = kept.get("nbformat_minor")
    other = _dict(kept.get("other"))
    notebook: dict[str, Any] = {
        **other,
        "metadata": _exported_metadata(metadata, kept.get("metadata", {})),
        **{key: kept[key] for key in ("nbformat", "nbformat_minor") if key in kept},
    }
    if cells or "cells" not in other:
        kept_cells, kept_outputs = _dict(kept.get("cells")), _dict(kept.get("outputs"))
        notebook["cells"] = [
            _exported_cell(cell, cell_id, minor, kept_cells, _dict(kept_outputs.get(cell.id)))
            for cell, cell_id in zip(cells, _exported_ids(cells), strict=True)
        ]
    exported: dict[str, Any] = copied(notebook, cut=True)
    return without_trust(exported)


def _exported_cell(
    cell: NotebookCell,
    id: str,
    minor: Any,
    kept_cells: dict[str, Any],
    kept_outputs: dict[str, Any],
) -> Any:
    content: Any = _frame(cell, id, minor)
    if cell.id in kept_cells and same(said(cell_record(kept_cells[cell.id], id)), said(cell)):
        content = kept_cells[cell.id]
    if cell.outputs and isinstance(content, dict) and content.get("cell_type") == "code":
        outputs = [
            _exported_output(output, kept_outputs.get(str(index), _NOT_KEPT))
            for index, output in enumerate(cell.outputs)
        ]
        content = {**content, "outputs": outputs}
    return content


_NOT_KEPT = object()


def _exported_output(output: Any, kept: Any) -> Any:
    if kept is not _NOT_KEPT and same(output_record(kept).to_json(), output.to_json()):
        return kept
    return output_content(output)


def _frame(cell: NotebookCell, id: str, minor: Any) -> dict[str, Any]:
    """A cell's exported form, outputs apart."""
    frame = cell_content(cell, future=_is_number(minor) and minor > _MINOR)
    if _has_ids(minor):
        frame["id"] = id
    return frame


def _exported_ids(cells: Sequence[NotebookCell]) -> list[str]:
    """The cells' ids, those that nbformat refuses replaced."""
    ids = [cell.id for cell in cells]
    taken = set(ids)
    if len(taken) == len(ids) and all(map(is_valid_id, ids)):
        return ids
    given: set[str] = set()
    exported = []
    for cell_id in ids:
        if cell_id in given or not is_valid_id(cell_id):
            cell_id = derived_id(taken, cell_id)
            taken.add(cell_id)
        given.add(cell_id)
        exported.append(cell_id)
    return exported


def _described(metadata: Any) -> tuple[str | None, str | None, list[str]]:
    """The kernel's name, the language and the tags that a notebook's metadata tell.

    A kernel writes ``language_info`` when it starts; a notebook that has not run yet may have the language of its kernelspec alone.
    """
    metadata = _dict(metadata)
    kernelspec = _dict(metadata.get("kernelspec"))
    kernel = kernelspec.get("name")
    language = _dict(metadata.get("language_info")).get("name")
    if not isinstance(language, str):
        language = kernelspec.get("language")
    tags = metadata.get("tags")
    return (
        kernel if isinstance(kernel, str) else None,
        language if isinstance(language, str) else None,
        list(tags) if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags) else [],
    )


def _exported_metadata(metadata: NotebookMetadata, original: Any) -> Any:
    """The notebook's metadata as the file had them, with what the record says otherwise."""
    kernel, language, tags = _described(original)
    if (kernel, language, tags) == (metadata.kernel, metadata.language, metadata.tags):
        return original
    exported = dict(_dict(original))
    # What else the file says of a kernel or a language is not true of another one.
    if kernel != metadata.kernel:
        named = (
            None
            if metadata.kernel is None
            else {"name": metadata.kernel, "display_name": metadata.kernel}
        )
        _replace(exported, "kernelspec", named)
    if _described(exported)[1] != metadata.language:
        named = None if metadata.language is None else {"name": metadata.language}
        _replace(exported, "language_info", named)
        if named is None and "language" in (kernelspec := _dict(exported.get("kernelspec"))):
            exported["kernelspec"] = {
                key: kernelspec[key] for key in kernelspec if key != "language"
            }
    if tags != metadata.tags:
        _replace(exported, "tags", metadata.tags)
    return exported


def _replace(metadata: dict[str, Any], key: str, value: Any) -> None:
    if value:
        metadata[key] = value
    else:
        metadata.pop(key, None)


def _note_top(content: dict[str, Any], notes: Notes) -> None:
    if content.get("nbformat") != _MAJOR:
        notes.add("$.nbformat", f"not {_MAJOR}; read as if it were")
    if not _is_number(content.get("nbformat_minor")):
        notes.add("$.nbformat_minor", "not a number; cells are taken to have no ids")
    if not isinstance(content.get("metadata"), dict):
        notes.add("$.metadata", "not an object; recorded as empty")
    if not isinstance(content.get("cells"), list):
        notes.add("$.cells", "not a list; recorded as empty")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_ids(minor: Any) -> bool:
    """Whether notebooks of this minor version have cell ids."""
    return _is_number(minor) and minor >= 5
