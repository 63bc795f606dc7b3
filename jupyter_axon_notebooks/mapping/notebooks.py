"""Whole notebooks: from their content to the cells and metadata of a record, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..records import CellType, NotebookCell, NotebookMetadata, NotebookStatus
from ..trust import without_trust
from .cell_ids import cell_ids, derived_id, is_valid_id
from .cells import (
    Notes,
    cell_content,
    cell_fields,
    cell_record,
    list_outputs,
    note_cell,
    notebook_status,
    output_content,
    output_record,
    without_outputs,
)
from .json_values import MAX_DEPTH, canonical, copy_json, is_same_json

#: The newest version of the format, in which records without a file are exported.
_MAJOR, _MINOR = 4, 5
_OWN_KEYS = frozenset({"cells", "metadata", "nbformat", "nbformat_minor"})
_NOT_KEPT = object()


class MappedNotebook(NamedTuple):
    """A notebook in the form of a record.

    ``notes`` has one note for each kind of fault; they are in ``metadata.extra["axon"]["notes"]``
    too.
    """

    cells: list[NotebookCell]
    metadata: NotebookMetadata
    status: NotebookStatus
    notes: list[str]


def map_notebook(
    notebook: Mapping[str, Any], *, previous: Sequence[NotebookCell] = ()
) -> MappedNotebook:
    """Return the record's form of version 4 content.

    Never fails: an invalid notebook is recorded as far as possible, and ``notes`` list the faults.
    The result shares no container with ``notebook``.

    Parameters
    ----------
    notebook : Mapping
        The content, parsed from a file or taken from a contents model.
    previous : sequence of NotebookCell
        The former cells of the record; cells without ids of their own keep the ids they have there.
    """
    notes = Notes()
    if not isinstance(notebook, Mapping):
        notes.add("$", "not an object; recorded as an empty notebook")
        notebook = {}
    content, is_cut = canonical(notebook)
    if is_cut:
        notes.add("$", f"what is nested deeper than {MAX_DEPTH} levels is recorded as null")
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
        if not is_same_json(_frame(cell, cell_id, minor), frame):
            kept_cells[cell_id] = frame
        unlike = {
            str(place): output
            for place, (record, output) in enumerate(
                zip(cell.outputs, list_outputs(original), strict=True)
            )
            if not is_same_json(output_content(record), output)
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
    kernel, language, tags = _describe(content.get("metadata"))
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
    """Return the version 4 content that a record represents.

    For the result of :func:`map_notebook` it is exactly what nbformat's reader returns for the
    file; later edits of the record take precedence. A record without a file becomes a valid
    notebook of the newest version, with invalid cell ids replaced. The result shares no container
    with the record, and has no marks of trust.
    """
    kept = _dict(metadata.extra.get("nbformat")) or {"nbformat": _MAJOR, "nbformat_minor": _MINOR}
    minor = kept.get("nbformat_minor")
    other = _dict(kept.get("other"))
    notebook: dict[str, Any] = {
        **other,
        "metadata": _export_metadata(metadata, kept.get("metadata", {})),
        **{key: kept[key] for key in ("nbformat", "nbformat_minor") if key in kept},
    }
    if cells or "cells" not in other:
        kept_cells, kept_outputs = _dict(kept.get("cells")), _dict(kept.get("outputs"))
        notebook["cells"] = [
            _export_cell(cell, cell_id, minor, kept_cells, _dict(kept_outputs.get(cell.id)))
            for cell, cell_id in zip(cells, _export_ids(cells), strict=True)
        ]
    exported: dict[str, Any] = copy_json(notebook, cut=True)
    return without_trust(exported)


def _export_cell(
    cell: NotebookCell,
    id: str,
    minor: Any,
    kept_cells: dict[str, Any],
    kept_outputs: dict[str, Any],
) -> Any:
    content: Any = _frame(cell, id, minor)
    if cell.id in kept_cells and is_same_json(
        cell_fields(cell_record(kept_cells[cell.id], id)), cell_fields(cell)
    ):
        content = kept_cells[cell.id]
    if cell.outputs and isinstance(content, dict) and content.get("cell_type") == "code":
        outputs = [
            _export_output(output, kept_outputs.get(str(index), _NOT_KEPT))
            for index, output in enumerate(cell.outputs)
        ]
        content = {**content, "outputs": outputs}
    return content


def _export_output(output: Any, kept: Any) -> Any:
    if kept is not _NOT_KEPT and is_same_json(output_record(kept).to_json(), output.to_json()):
        return kept
    return output_content(output)


def _frame(cell: NotebookCell, id: str, minor: Any) -> dict[str, Any]:
    """Return a cell's exported form without outputs."""
    frame = cell_content(cell, future=_is_number(minor) and minor > _MINOR)
    if _has_ids(minor):
        frame["id"] = id
    return frame


def _export_ids(cells: Sequence[NotebookCell]) -> list[str]:
    """Return the cells' ids, with invalid and repeated ones replaced."""
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


def _describe(metadata: Any) -> tuple[str | None, str | None, list[str]]:
    """Return kernel name, language and tags from a notebook's metadata.

    Kernels write ``language_info`` when they start; before the first run only the kernelspec may
    have the language.
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


def _export_metadata(metadata: NotebookMetadata, original: Any) -> Any:
    """Return the file's metadata, changed where the record differs."""
    kernel, language, tags = _describe(original)
    if (kernel, language, tags) == (metadata.kernel, metadata.language, metadata.tags):
        return original
    exported = dict(_dict(original))
    # Other metadata of a kernel or a language does not apply to another one.
    if kernel != metadata.kernel:
        named = (
            None
            if metadata.kernel is None
            else {"name": metadata.kernel, "display_name": metadata.kernel}
        )
        _replace(exported, "kernelspec", named)
    if _describe(exported)[1] != metadata.language:
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
    """Return whether notebooks of this minor version have cell ids."""
    return _is_number(minor) and minor >= 5


#: The framework of each top-level module of Python, or of Rust (``use …;``).
_FRAMEWORKS = {
    "accelerate": "pytorch",
    "axonml": "axonml",
    "burn": "burn",
    "candle_core": "candle",
    "candle_nn": "candle",
    "catboost": "catboost",
    "chainer": "chainer",
    "deepspeed": "pytorch",
    "diffusers": "diffusers",
    "equinox": "jax",
    "fastai": "fastai",
    "flax": "jax",
    "haiku": "jax",
    "jax": "jax",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "lightning": "pytorch",
    "mindspore": "mindspore",
    "mlx": "mlx",
    "mxnet": "mxnet",
    "optax": "jax",
    "paddle": "paddlepaddle",
    "peft": "transformers",
    "pytorch_lightning": "pytorch",
    "sentence_transformers": "transformers",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
    "tf_keras": "keras",
    "tinygrad": "tinygrad",
    "torch": "pytorch",
    "torchaudio": "pytorch",
    "torchvision": "pytorch",
    "transformers": "transformers",
    "trl": "transformers",
    "xgboost": "xgboost",
}


# Lines are matched instead of parsed, because cells have magics and incomplete code. A match
# starts at a line or behind a semicolon, and no two repetitions share characters, so that the time
# is linear.
_IMPORT = re.compile(
    r"""(?:^|;)[ \t]*
    (?: from[ \t]+(?P<package>\w+)(?:\.[\w.]*)?[ \t]+import\b
      | import[ \t]+(?P<modules>\w[\w., \t]*)
      | (?:pub[ \t]+)?use[ \t]+(?P<crate>\w+)[ \t]*(?:::|;)
    )""",
    re.MULTILINE | re.VERBOSE,
)


def detect_framework(cells: Iterable[NotebookCell]) -> str | None:
    """Return the framework of the first known import in the code cells, or None."""
    for cell in cells:
        if cell.cell_type is CellType.CODE:
            for module in _imported_modules(cell.source):
                if module in _FRAMEWORKS:
                    return _FRAMEWORKS[module]
    return None


def _imported_modules(source: str) -> Iterator[str]:
    """Yield the imported top-level modules in order."""
    for match in _IMPORT.finditer(source):
        if match["modules"] is None:
            yield match["package"] or match["crate"]
        else:
            for module in match["modules"].split(","):
                yield module.strip().partition(" ")[0].partition("\t")[0].partition(".")[0]
