"""Mapping of notebook files to records and back."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.validator import iter_validate
from support.corpus import notebook as corpus_text
from support.corpus import notebooks as corpus
from support.strategies import broken_notebooks, exactly, valid_notebooks

from jupyter_axon_notebooks.errors import InvalidData, Unreadable
from jupyter_axon_notebooks.mapping import (
    MappedNotebook,
    detect_framework,
    export_notebook,
    find_fault,
    map_notebook,
    notebook_status,
    read_notebook,
)
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellStatus,
    CellType,
    NotebookCell,
    NotebookMetadata,
    NotebookStatus,
)


def code(source: str = "x = 1", **fields: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        **fields,
    }


def markdown(source: str = "text", **fields: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "metadata": {}, **fields}


def notebook(*cells: Any, minor: Any = 5, **fields: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": list(cells), **fields}


def stream(text: str = "hello\n", **fields: Any) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text, **fields}


def error() -> dict[str, Any]:
    return {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["a", "b"]}


def round_trip(content: Any) -> dict[str, Any]:
    return export(map_notebook(content))


def export(mapped: MappedNotebook) -> dict[str, Any]:
    return export_notebook(mapped.cells, mapped.metadata)


def cell_ids(mapped: MappedNotebook) -> list[str]:
    return [cell.id for cell in mapped.cells]


def is_valid(content: dict[str, Any]) -> bool:
    used = [cell["id"] for cell in content["cells"] if "id" in cell]
    return len(set(used)) == len(used) and not list(iter_validate(content))


def pass_through_json(mapped: MappedNotebook) -> tuple[list[NotebookCell], NotebookMetadata]:
    documents = [[cell.to_json() for cell in mapped.cells], mapped.metadata.to_json()]
    cells, metadata = json.loads(json.dumps(documents))
    return [NotebookCell.from_json(cell) for cell in cells], NotebookMetadata.from_json(metadata)


# Round trips


@given(valid_notebooks())
def test_a_valid_notebook_survives_a_round_trip(content: dict[str, Any]) -> None:
    assert is_valid(content)
    read = nbformat.reads(json.dumps(content), as_version=nbformat.NO_CONVERT)
    mapped = map_notebook(content)
    assert exactly(export(mapped)) == exactly(read)
    assert exactly(export_notebook(*pass_through_json(mapped))) == exactly(read)


@pytest.mark.parametrize("name", corpus())
def test_the_corpus_survives_a_round_trip(name: str) -> None:
    text = corpus()[name].read_text(encoding="utf-8")
    content = read_notebook(text)
    if json.loads(text)["nbformat"] == 4:
        assert exactly(round_trip(content)) == exactly(nbformat.reader.reads(text))
    else:
        assert is_valid(round_trip(content))


# The record


def test_a_code_cell_becomes_a_record_with_its_outputs() -> None:
    mapped = map_notebook(
        notebook(
            code(
                ["import torch\n", "torch.ones(1)"],
                id="a",
                execution_count=3,
                metadata={"tags": ["x"], "trusted": True},
                outputs=[
                    stream(["hel", "lo"], name="stderr"),
                    {
                        "output_type": "execute_result",
                        "data": {"text/plain": ["1"], "application/json": ["a", "b"]},
                        "metadata": {"w": 1},
                        "execution_count": 3,
                    },
                    error(),
                ],
            )
        )
    )
    assert mapped.cells == [
        NotebookCell(
            id="a",
            cell_type=CellType.CODE,
            source="import torch\ntorch.ones(1)",
            status=CellStatus.ERROR,
            execution_count=3,
            metadata={"tags": ["x"]},
            outputs=[
                CellOutput(output_type="stream", name="stderr", text="hello"),
                CellOutput(
                    output_type="execute_result",
                    data={"text/plain": "1", "application/json": ["a", "b"]},
                    metadata={"w": 1},
                    execution_count=3,
                ),
                CellOutput(
                    output_type="error",
                    error_name="ValueError",
                    error_value="no",
                    traceback=["a", "b"],
                ),
            ],
        )
    ]
    assert mapped.status is NotebookStatus.FAILED


def test_kernel_language_framework_and_tags_are_recorded() -> None:
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "version": "3.12"},
        "tags": ["vision"],
    }
    mapped = map_notebook(notebook(code("import keras", id="a"), metadata=metadata))
    assert (mapped.metadata.kernel, mapped.metadata.language) == ("python3", "python")
    assert (mapped.metadata.framework, mapped.metadata.tags) == ("keras", ["vision"])
    assert mapped.metadata.extra == {
        "nbformat": {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata}
    }


@pytest.mark.parametrize(
    ("cell_type", "fields", "minor"),
    [("raw", {"metadata": {"format": "text/html"}}, 5), ("sql", {"metadata": {}, "db": 1}, 6)],
)
def test_a_cell_of_another_type_is_recorded_as_markdown_and_exported_unchanged(
    cell_type: str, fields: dict[str, Any], minor: int
) -> None:
    content = notebook({"cell_type": cell_type, "source": "a", "id": "r", **fields}, minor=minor)
    mapped = map_notebook(content)
    [cell] = mapped.cells
    assert (cell.cell_type, cell.nbformat_type, cell.source) == (CellType.MARKDOWN, cell_type, "a")
    assert round_trip(content) == content


def test_a_too_large_execution_count_is_exported_unchanged() -> None:
    content = notebook(code(id="a", execution_count=2**32))
    mapped = map_notebook(content)
    assert mapped.cells[0].execution_count is None
    assert mapped.cells[0].status is CellStatus.COMPLETED
    assert round_trip(content) == content


# Edits of the record take precedence over the file


@pytest.fixture
def odd() -> MappedNotebook:
    return map_notebook(
        notebook(
            markdown(id="a", new=1),
            code(id="b", new=1, outputs=[stream(x=1), stream(x=2)]),
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3"},
                "language_info": {"name": "python", "file_extension": ".py"},
                "tags": ["a"],
                "title": "T",
            },
        )
    )


def test_edited_cells_and_outputs_take_precedence(odd: MappedNotebook) -> None:
    odd.cells[0].source = "edited"
    odd.cells[1].outputs[0].text = "edited"
    first, second = export(odd)["cells"]
    assert first == markdown("edited", id="a")
    assert second["outputs"] == [stream("edited"), stream(x=2)]
    odd.cells[1].outputs = []
    assert export(odd)["cells"][1] == code(id="b", new=1)


def test_moved_and_added_cells_are_exported_in_the_records_order(odd: MappedNotebook) -> None:
    before = export(odd)["cells"]
    odd.cells.reverse()
    odd.cells.insert(1, NotebookCell(id="new", source="y"))
    assert export(odd)["cells"] == [before[1], code("y", id="new"), before[0]]


def test_edited_kernel_language_and_tags_are_exported(odd: MappedNotebook) -> None:
    odd.metadata.kernel, odd.metadata.language, odd.metadata.tags = "axonml", "rust", []
    assert export(odd)["metadata"] == {
        "kernelspec": {"name": "axonml", "display_name": "axonml"},
        "language_info": {"name": "rust"},
        "title": "T",
    }
    odd.metadata.kernel = odd.metadata.language = None
    assert export(odd)["metadata"] == {"title": "T"}


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {}}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "r"}}, "r"),
        ({"kernelspec": {"name": "ir", "language": {"name": "R"}}}, None),
        ({"kernelspec": {"name": "ir"}}, None),
    ],
)
def test_the_language_falls_back_to_that_of_the_kernel(
    metadata: dict[str, Any], language: str | None
) -> None:
    content = notebook(metadata=metadata)
    assert map_notebook(content).metadata.language == language
    assert round_trip(content) == content


# Records created through the API


def test_a_record_created_through_the_api_exports_as_a_valid_notebook() -> None:
    cells = [
        NotebookCell(cell_type=CellType.MARKDOWN, source="# Training"),
        NotebookCell(
            id="cell 1/ä",
            source="import axonml",
            execution_count=1,
            outputs=[
                CellOutput(output_type="stream", text="a"),
                CellOutput(output_type="execute_result", text="b"),
                CellOutput(output_type="text", data={"text/plain": ["c", "d"], "image/png": 5}),
                CellOutput(output_type="error", error_name="E"),
            ],
        ),
    ]
    metadata = NotebookMetadata(kernel="axonml", language="rust", framework="axonml", tags=["t"])
    content = export_notebook(cells, metadata)
    assert is_valid(content)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"] == {
        "kernelspec": {"name": "axonml", "display_name": "axonml"},
        "language_info": {"name": "rust"},
        "tags": ["t"],
    }
    assert content["cells"][0]["id"] == cells[0].id
    assert content["cells"][1]["outputs"] == [
        stream("a"),
        {
            "output_type": "execute_result",
            "data": {"text/plain": "b"},
            "metadata": {},
            "execution_count": None,
        },
        {
            "output_type": "display_data",
            "data": {"text/plain": "cd", "image/png": "5"},
            "metadata": {},
        },
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []},
    ]
    assert content == export_notebook(cells, metadata)


# Ids


def test_generated_ids_are_stable_and_not_exported() -> None:
    content = notebook(code(), code(), markdown(), code("y"), minor=4)
    mapped = map_notebook(content)
    assert cell_ids(mapped) == cell_ids(map_notebook(content))
    assert len(set(cell_ids(mapped))) == 4
    assert round_trip(content) == content
    assert is_valid(export_notebook(mapped.cells, NotebookMetadata()))


def sources(*texts: str) -> dict[str, Any]:
    return notebook(
        *(markdown(text[1:]) if text[0] == "#" else code(text) for text in texts), minor=4
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a b c", "a b c", "0 1 2"),
        ("a b c", "a x b c", "0 - 1 2"),
        ("a b c", "a c", "0 2"),
        ("a b c", "a x c", "0 1 2"),
        ("a b c", "x b y", "0 1 2"),
        ("a b c", "a #x y c", "0 - 1 2"),
        ("a a a", "a a", "0 1"),
        ("a b", "x y b z", "0 - 1 -"),
        ("a b c d", "a x y d", "0 1 2 3"),
        ("a b c d", "d b a c", "3 1 0 2"),
        ("", "a", "-"),
        ("a b", "", ""),
    ],
)
def test_cells_without_ids_keep_their_generated_ids(before: str, after: str, expected: str) -> None:
    previous = map_notebook(sources(*before.split())).cells
    again = map_notebook(sources(*after.split()), previous=previous)
    indexes = {cell.id: str(index) for index, cell in enumerate(previous)}
    assert [indexes.get(cell_id, "-") for cell_id in cell_ids(again)] == expected.split()


@given(
    st.lists(st.sampled_from(["a", "b", "#c", "d"]), max_size=12),
    st.lists(st.sampled_from(["a", "b", "#c", "e"]), max_size=12),
)
def test_kept_ids_are_unique_and_stable(before: list[str], after: list[str]) -> None:
    previous = map_notebook(sources(*before))
    current = map_notebook(sources(*after), previous=previous.cells)
    assert len(set(cell_ids(current))) == len(after)
    assert cell_ids(map_notebook(sources(*after), previous=current.cells)) == cell_ids(current)


def test_a_missing_id_is_exported_as_missing() -> None:
    content = notebook(code(id="a"), code(), code("y"))
    mapped = map_notebook(content)
    assert cell_ids(mapped)[0] == "a"
    assert len(set(cell_ids(mapped))) == 3
    assert round_trip(content) == content


def test_the_first_of_two_cells_with_one_id_keeps_it() -> None:
    content = notebook(code("x", id="a"), code("y", id="a"))
    mapped = map_notebook(content)
    assert cell_ids(mapped)[0] == "a"
    assert cell_ids(mapped)[1] != "a"
    again = map_notebook(notebook(code("x", id="a"), code("z", id="a")), previous=mapped.cells)
    assert cell_ids(again) == cell_ids(mapped)
    assert round_trip(content) == content


# Invalid notebooks


@given(broken_notebooks)
def test_any_notebook_can_be_recorded(content: dict[str, Any]) -> None:
    mapped = map_notebook(content, previous=[NotebookCell(id="p", source="")])
    assert len(set(cell_ids(mapped))) == len(mapped.cells)
    exported = export_notebook(*pass_through_json(mapped))
    assert exactly(exported) == exactly(export(mapped))


@pytest.mark.parametrize(
    "content",
    [
        notebook("text"),
        notebook(markdown(metadata=[])),
        notebook(code(outputs={})),
        notebook(code(outputs=["a"])),
        notebook(minor=None),
        {**notebook(), "cells": {"a": 1}},
    ],
)
def test_invalid_parts_are_exported_unchanged(content: dict[str, Any]) -> None:
    assert round_trip(content) == content


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_too_deep_nesting_is_cut() -> None:
    lists: Any = []
    for _ in range(100_000):
        lists = [lists]
    for deep in (nested(100_000), lists):
        mapped = map_notebook(notebook(metadata={"deep": deep}))
        assert len(json.dumps(mapped.metadata.to_json())) < 2000
    deep = notebook(metadata={"deep": nested(198)})
    assert round_trip(deep) == deep


# Reading files


def test_a_file_is_read_from_text_and_from_bytes() -> None:
    text = json.dumps(notebook(markdown("ä\ud800\0", id="a")))
    assert read_notebook(text) == read_notebook(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: Expecting value"),
        ('{"cells": [', "not JSON"),
        (b'{"cells": "\xff"}', "not JSON"),
        ("[]", "expected a notebook, an object, got an array"),
        ("null", "expected a notebook, an object, got null"),
        ("5", "expected a notebook, an object, got a number"),
        ('{"a": 1}', "not a notebook: it has neither cells nor a format version"),
        ("[" * 100_000, "nested too deeply to be read"),
        ('{"cells": [], "nbformat": ' + "1" * 5000 + "}", "not JSON"),
    ],
)
def test_text_that_is_not_a_notebook_is_rejected(text: str | bytes, reason: str) -> None:
    with pytest.raises(InvalidData) as raised:
        read_notebook(text)
    assert raised.value.path == "$"
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (notebook(code(id="a"), code()), "$.cells: an id is missing, invalid or repeated"),
        (notebook(code(id="a"), code(id="a")), "$.cells: an id is missing, invalid or repeated"),
        (notebook(metadata={"\ud800": 1}), "$: a text holds half a surrogate pair"),
        (notebook(code(id="a", execution_count=-1)), "$.cells[0]: {"),
        (notebook(markdown(id="a", new=1)), "$.cells[0]: {"),
        (notebook(minor="5"), "$.nbformat: expected version 4"),
        ({**notebook(), "nbformat": 5}, "$.nbformat: expected version 4"),
        ({**notebook(minor=4), "cells": None}, "$.cells: None is not of type 'array'"),
    ],
)
def test_the_fault_of_an_invalid_notebook_is_named(content: Any, fault: str) -> None:
    assert find_fault(content).startswith(fault)


@given(broken_notebooks | valid_notebooks())
def test_a_notebook_without_a_fault_is_valid(content: dict[str, Any]) -> None:
    assert find_fault(content) is not None or is_valid(content)


@pytest.mark.parametrize("name", ["test2", "test3", "test3_no_min_version"])
def test_an_old_notebook_is_upgraded_as_nbformat_does(name: str) -> None:
    text = corpus_text(f"nbformat/{name}.ipynb")
    content = read_notebook(text)
    assert is_valid(content)
    reference = nbformat.reads(text, as_version=4)
    for cell, upgraded in zip(content["cells"], reference["cells"], strict=True):
        assert {**cell, "id": ""} == {**upgraded, "id": ""}


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
@given(broken_notebooks, st.integers(1, 3))
def test_any_old_notebook_is_upgraded_or_rejected(content: dict[str, Any], version: int) -> None:
    cells = content.get("cells")
    text = json.dumps({**content, "nbformat": version, "worksheets": [{"cells": cells}]})
    try:
        read = read_notebook(text)
    except InvalidData:
        return
    assert isinstance(map_notebook(read), MappedNotebook)


# Status


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        ([], NotebookStatus.DRAFT),
        ([markdown()], NotebookStatus.DRAFT),
        ([code(), code()], NotebookStatus.DRAFT),
        ([code(outputs=[stream()])], NotebookStatus.DRAFT),
        ([code(execution_count=1), code()], NotebookStatus.DRAFT),
        ([code(execution_count=1), code(" \n")], NotebookStatus.COMPLETED),
        ([code(execution_count=1), markdown(), code(execution_count=2)], NotebookStatus.COMPLETED),
        (
            [code(execution_count=1), code(execution_count=2, outputs=[error()])],
            NotebookStatus.FAILED,
        ),
        ([code(outputs=[stream(), error()]), code()], NotebookStatus.FAILED),
    ],
)
def test_a_notebooks_status_follows_from_its_cells(
    cells: list[Any], status: NotebookStatus
) -> None:
    mapped = map_notebook(notebook(*cells, minor=4))
    assert mapped.status is status
    assert notebook_status(mapped.cells) is status


# Framework


@pytest.mark.parametrize(
    ("source", "framework"),
    [
        ("import torch", "pytorch"),
        ("from torch.utils.data import DataLoader", "pytorch"),
        ("import numpy as np, tensorflow as tf", "tensorflow"),
        ("import xgboost as xgb\nimport torch", "xgboost"),
        ("# Import AxonML\nimport axonml\nfrom axonml import nn, optim, data", "axonml"),
        ("use axonml::prelude::*;", "axonml"),
        (
            "%matplotlib inline\n!pip install keras\nif True:\n    import torch\n)) broken",
            "pytorch",
        ),
        ("import torchlike\nfrom .torch import x\n# import keras\nprint('import jax')", None),
        ("", None),
    ],
)
def test_the_framework_is_that_of_the_first_known_import(
    source: str, framework: str | None
) -> None:
    assert (
        detect_framework([NotebookCell(source="x = 1"), NotebookCell(source=source)]) == framework
    )


def test_text_that_needs_too_much_memory_is_rejected() -> None:
    text = '{"nbformat": 4, "cells": [{"outputs": [' + "{}," * 600_000 + "{}]}]}"
    with pytest.raises(Unreadable, match=r"more than [0-9,]+ cells and outputs"):
        read_notebook(text.encode())
