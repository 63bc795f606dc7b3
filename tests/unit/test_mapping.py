"""Mapping of notebook files to records and back."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.validator import iter_validate
from support.corpus import notebook as corpus_text
from support.corpus import notebooks as corpus
from support.strategies import broken_notebooks, exactly, objects, texts, valid_notebooks, values

from jupyter_axon_notebooks.errors import InvalidData, Unreadable
from jupyter_axon_notebooks.mapping import (
    MappedNotebook,
    cell_status,
    detect_framework,
    export_notebook,
    find_fault,
    has_own_ids,
    map_notebook,
    notebook_name,
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


@given(valid_notebooks())
def test_a_file_and_a_contents_model_map_to_the_same_record(content: dict[str, Any]) -> None:
    model = nbformat.reads(json.dumps(content), as_version=nbformat.NO_CONVERT)
    from_model, from_file = map_notebook(model), map_notebook(content)
    assert exactly([cell.to_json() for cell in from_model.cells]) == exactly(
        [cell.to_json() for cell in from_file.cells]
    )
    assert exactly(from_model.metadata.to_json()) == exactly(from_file.metadata.to_json())


@given(valid_notebooks() | broken_notebooks)
def test_changing_a_record_does_not_change_the_mapped_input(content: dict[str, Any]) -> None:
    before = copy.deepcopy(content)
    mapped = map_notebook(content)
    for cell in mapped.cells:
        cell.metadata["new"] = 1
        if cell.attachments is not None:
            cell.attachments["new"] = {}
        for output in cell.outputs:
            if isinstance(output.data, dict):
                output.data["new"] = ""
    metadata = mapped.metadata.extra["nbformat"].setdefault("metadata", {})
    if isinstance(metadata, dict):
        metadata["new"] = 1
    assert exactly(content) == exactly(before)


def test_changing_an_export_does_not_change_the_record() -> None:
    mapped = map_notebook(notebook(markdown(id="a"), metadata={"axon": {}}))
    content = export(mapped)
    content["metadata"]["axon"]["notebook_id"] = "n"
    content["cells"][0]["metadata"]["new"] = 1
    assert export(mapped) == notebook(markdown(id="a"), metadata={"axon": {}})


@pytest.mark.parametrize("name", corpus())
def test_the_corpus_survives_a_round_trip(name: str) -> None:
    text = corpus()[name].read_text(encoding="utf-8")
    content = read_notebook(text)
    if json.loads(text)["nbformat"] == 4:
        assert exactly(round_trip(content)) == exactly(nbformat.reader.reads(text))
    else:
        assert is_valid(round_trip(content))


INVALID = {
    "invalid.ipynb",
    "invalid_cell_id.ipynb",
    "invalid_unique_cell_id.ipynb",
    "no_min_version.ipynb",
    "test3_no_metadata.ipynb",
    "test3_no_worksheets.ipynb",
    "test3_worksheet_with_no_cells.ipynb",
    "v4_5_invalid_metadata.ipynb",
    "v4_5_no_cell_id.ipynb",
}


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
    assert mapped.notes == []
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


@pytest.mark.parametrize("tags", [["a", 1], "a", {"a": 1}, None])
def test_invalid_tags_are_not_recorded_but_exported(tags: Any) -> None:
    content = notebook(metadata={"tags": tags})
    assert map_notebook(content).metadata.tags == []
    assert round_trip(content) == content


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
    assert mapped.notes == []
    assert round_trip(content) == content


def test_the_valid_fields_of_an_unknown_output_are_recorded() -> None:
    output = {
        "output_type": "new",
        "text": "t",
        "data": [1],
        "execution_count": -1,
        "traceback": [1],
    }
    content = notebook(code(id="a", outputs=[output]), minor=6)
    assert map_notebook(content).cells[0].outputs == [
        CellOutput(output_type="new", text="t", data=[1])
    ]
    assert round_trip(content) == content


def test_a_too_large_execution_count_is_noted_and_exported_unchanged() -> None:
    content = notebook(code(id="a", execution_count=2**32))
    mapped = map_notebook(content)
    assert mapped.cells[0].execution_count is None
    assert mapped.cells[0].status is CellStatus.COMPLETED
    assert mapped.notes == [
        "$.cells[0].execution_count: not a whole number from 0 to 4294967295; left out"
    ]
    assert round_trip(content) == content


@pytest.mark.parametrize("count", [1.0, True])
def test_a_non_integer_execution_count_is_exported_unchanged(count: Any) -> None:
    content = notebook(code(id="a", execution_count=count))
    assert map_notebook(content).cells[0].execution_count is None
    assert exactly(round_trip(content)) == exactly(content)


def test_only_cells_and_outputs_outside_the_model_are_kept_verbatim() -> None:
    content = notebook(
        code(id="a"), markdown(id="b", new=1), code(id="c", outputs=[stream(), stream(x=1)])
    )
    kept = map_notebook(content).metadata.extra["nbformat"]
    assert kept["cells"] == {"b": markdown(id="b", new=1)}
    assert kept["outputs"] == {"c": {"1": stream(x=1)}}


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


@pytest.mark.parametrize(("before", "after"), [(1, 1.0), (1, True), (0, False), (0.0, -0.0)])
def test_an_edit_of_a_numbers_type_or_sign_takes_precedence(before: Any, after: Any) -> None:
    mapped = map_notebook(notebook(markdown(id="a", new=1, metadata={"x": before})))
    mapped.cells[0].metadata["x"] = after
    assert exactly(export(mapped)["cells"][0]["metadata"]) == exactly({"x": after})


def test_nan_does_not_count_as_an_edit() -> None:
    content = notebook(markdown(id="a", new=1, metadata={"x": [float("nan"), -0.0]}))
    assert exactly(export_notebook(*pass_through_json(map_notebook(content)))) == exactly(content)


def test_a_status_change_does_not_count_as_an_edit(odd: MappedNotebook) -> None:
    before = export(odd)
    odd.cells[1].status = CellStatus.RUNNING
    assert export(odd) == before


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
        ({"kernelspec": {"name": "ir", "language": "R"}}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {}}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": None}}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": ["R"]}}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": ["R"]}, "R"),
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "r"}}, "r"),
        ({"kernelspec": {"language": "R"}}, "R"),
        ({"kernelspec": {"name": "ir", "language": {"name": "R"}}}, None),
        ({"kernelspec": "R"}, None),
        ({"kernelspec": {"name": "ir"}}, None),
    ],
)
def test_the_language_falls_back_to_that_of_the_kernel(
    metadata: dict[str, Any], language: str | None
) -> None:
    content = notebook(metadata=metadata)
    assert map_notebook(content).metadata.language == language
    assert round_trip(content) == content


@pytest.mark.parametrize("language", [None, "", "julia", "R"])
@pytest.mark.parametrize("kernel", [None, "", "other", "ir"])
def test_kernel_and_fallback_language_can_be_edited(
    kernel: str | None, language: str | None
) -> None:
    kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    mapped = map_notebook(notebook(metadata={"kernelspec": kernelspec, "title": "T"}))
    mapped.metadata.kernel, mapped.metadata.language = kernel, language
    again = map_notebook(export(mapped)).metadata
    assert (again.kernel, again.language) == (kernel, language)
    assert export(mapped)["metadata"]["title"] == "T"


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


_counts = st.none() | st.integers(0, 2**32 - 1)
_api_outputs = st.builds(
    CellOutput,
    output_type=st.sampled_from(["stream", "error", "display_data", "execute_result", "new"])
    | texts,
    text=st.none() | texts,
    data=values | st.dictionaries(st.sampled_from(["text/plain", "application/json"]), values),
    execution_count=_counts,
    error_name=st.none() | texts,
    error_value=st.none() | texts,
    traceback=st.none() | st.lists(texts, max_size=2),
    name=st.none() | texts,
    metadata=st.none() | objects,
)
_restricted = ["name", "tags", "jupyter", "collapsed", "scrolled", "format", "execution"]
_api_cells = st.builds(
    NotebookCell,
    id=texts | st.sampled_from(["a", "b c", ""]),
    cell_type=st.sampled_from(CellType),
    source=texts,
    outputs=st.lists(_api_outputs, max_size=3),
    execution_count=_counts,
    metadata=objects | st.dictionaries(st.sampled_from(_restricted), values, max_size=3),
    attachments=st.none() | st.dictionaries(texts, values, max_size=2),
    nbformat_type=st.none() | st.sampled_from(["raw", "code", "sql", ""]),
)


@given(
    st.lists(_api_cells, max_size=4),
    st.none() | texts,
    st.none() | texts,
    st.lists(texts, max_size=2),
)
def test_any_record_exports_as_a_valid_notebook(
    cells: list[NotebookCell], kernel: str | None, language: str | None, tags: list[str]
) -> None:
    content = export_notebook(cells, NotebookMetadata(kernel=kernel, language=language, tags=tags))
    assert is_valid(content)
    assert [cell["source"] for cell in content["cells"]] == [cell.source for cell in cells]
    assert exactly(round_trip(content)) == exactly(content)


@given(
    objects | st.fixed_dictionaries({"nbformat": values | broken_notebooks}),
    st.lists(_api_cells, max_size=2),
)
def test_any_extra_metadata_can_be_exported(
    extra: dict[str, Any], cells: list[NotebookCell]
) -> None:
    json.dumps(export_notebook(cells, NotebookMetadata(extra=extra)))


# Ids


def test_generated_ids_are_stable_and_not_exported() -> None:
    content = notebook(code(), code(), markdown(), code("y"), minor=4)
    mapped = map_notebook(content)
    assert cell_ids(mapped) == cell_ids(map_notebook(content))
    assert len(set(cell_ids(mapped))) == 4
    assert mapped.notes == []
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
        ("a b c", "a #x c", "0 1 2"),
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


def test_a_generated_id_survives_repeated_edits() -> None:
    mapped = map_notebook(sources("a", "b"))
    first = cell_ids(mapped)
    for edit in range(5):
        mapped = map_notebook(sources("a", f"b{edit}"), previous=mapped.cells)
    assert cell_ids(mapped) == first


def test_a_restored_cell_gets_a_new_id_if_its_old_one_is_in_use() -> None:
    edited = map_notebook(sources("x", "b"), previous=map_notebook(sources("a", "b")).cells)
    both = map_notebook(sources("x", "b", "a"), previous=edited.cells)
    assert cell_ids(both)[:2] == cell_ids(edited)
    assert len(set(cell_ids(both))) == 3


@given(
    st.lists(st.sampled_from(["a", "b", "#c", "d"]), max_size=12),
    st.lists(st.sampled_from(["a", "b", "#c", "e"]), max_size=12),
)
def test_kept_ids_are_unique_and_stable(before: list[str], after: list[str]) -> None:
    previous = map_notebook(sources(*before))
    current = map_notebook(sources(*after), previous=previous.cells)
    assert len(set(cell_ids(current))) == len(after)
    assert cell_ids(map_notebook(sources(*after), previous=current.cells)) == cell_ids(current)


def test_a_missing_id_is_noted_and_exported_as_missing() -> None:
    content = notebook(code(id="a"), code(), code("y"))
    mapped = map_notebook(content)
    assert cell_ids(mapped)[0] == "a"
    assert len(set(cell_ids(mapped))) == 3
    assert mapped.notes == ["$.cells: no id in cell 1, 2; recorded with made ids"]
    assert mapped.metadata.extra["axon"] == {"notes": mapped.notes}
    assert round_trip(content) == content


def test_notes_on_many_equal_faults_are_combined() -> None:
    broken = code(metadata=[], attachments=[], execution_count=-1, outputs=["a", {}] * 50)
    content = notebook(
        *({**broken, "id": f"a{index % 500}"} for index in range(1000)),
        *({**code(metadata=[]), "id": kind} for kind in ["my cell", "x" * 65, "", 7] * 100),
        *["no cell"] * 1000,
    )
    mapped = map_notebook(content)
    assert len(mapped.notes) < 15
    assert max(map(len, mapped.notes)) < 300
    assert mapped.metadata.extra["axon"] == {"notes": mapped.notes}
    outputs = ", ".join(f"$.cells[0].outputs[{index}]" for index in range(0, 10, 2))
    reason = "not an object; recorded as an output of unknown type"
    assert f"{outputs} and 49995 more: {reason}" in mapped.notes


def test_the_first_of_two_cells_with_one_id_keeps_it() -> None:
    content = notebook(code("x", id="a"), code("y", id="a"))
    mapped = map_notebook(content)
    assert cell_ids(mapped)[0] == "a"
    assert cell_ids(mapped)[1] != "a"
    assert mapped.notes == [
        f"$.cells[1].id: 'a' is already the id of cell 0; recorded as {cell_ids(mapped)[1]!r}"
    ]
    again = map_notebook(notebook(code("x", id="a"), code("z", id="a")), previous=mapped.cells)
    assert cell_ids(again) == cell_ids(mapped)
    assert round_trip(content) == content


@pytest.mark.parametrize("id", ["my cell", "x" * 65, "", "ä", "a\n", 7, None, ["a"]])
def test_a_cell_with_an_invalid_id_keeps_its_generated_id(id: Any) -> None:
    def build(*texts: str) -> dict[str, Any]:
        return notebook(*(code(text, id=id if text[0] == "b" else text[0]) for text in texts))

    mapped = map_notebook(build("a", "b", "c"))
    expected = cell_ids(mapped)[1]
    for sources in (["a", "b1", "c"], ["a", "b2", "c1"], ["d", "a", "b2", "c"]):
        assert not has_own_ids(build(*sources))
        again = map_notebook(build(*sources), previous=mapped.cells)
        [edited] = [source for source in sources if source[0] == "b"]
        assert cell_ids(again)[sources.index(edited)] == expected
        mapped = map_notebook(build("a", edited, "c"), previous=again.cells)


@pytest.mark.parametrize("id", ["my cell", "x" * 65, ""])
def test_a_cell_is_recognized_by_its_invalid_id(id: str) -> None:
    mapped = map_notebook(notebook(code("a", id="a"), code("b", id=id), code("c", id="c")))
    for cells in (
        [code("new", id=id), code("c", id="c")],
        [code("c", id="c"), code("other", id=id)],
    ):
        again = map_notebook(notebook(*cells), previous=mapped.cells)
        assert cell_ids(again)[[cell["id"] for cell in cells].index(id)] == cell_ids(mapped)[1]
    changed = notebook(code("a", id="a"), code("b", id="an other"))
    assert cell_ids(map_notebook(changed, previous=mapped.cells)) == cell_ids(mapped)[:2]


def test_matching_thousands_of_similar_cells_is_fast() -> None:
    length = 4_000
    distinct = [f"a{index}" for index in range(length)]
    choose = random.Random(1).choices
    for before, after in [
        (["a"] * length, ["a"] * length + ["b"]),
        (["a", "b"] * length, ["b", "a", "a"] * length),
        (choose("abc", k=length), choose("abd", k=length)),
        (distinct, distinct[::-1]),
        (distinct, [f"b{index}" for index in range(length)]),
        (distinct, choose(distinct, k=length)),
    ]:
        previous = map_notebook(sources(*before)).cells
        again = map_notebook(sources(*after), previous=previous)
        assert len({*cell_ids(again)} & {cell.id for cell in previous}) > length // 2


def test_an_invalid_id_is_replaced_in_the_record_and_exported_unchanged() -> None:
    content = notebook(code(id="not/one"))
    mapped = map_notebook(content)
    assert mapped.notes == [
        f"$.cells[0].id: 'not/one' is not a valid cell id; recorded as {cell_ids(mapped)[0]!r}"
    ]
    assert round_trip(content) == content


def test_an_id_in_a_minor_version_without_ids_is_used() -> None:
    content = notebook(code(id="a"), code(), minor=2)
    mapped = map_notebook(content)
    assert cell_ids(mapped)[0] == "a"
    assert mapped.notes == []
    assert round_trip(content) == content


# Invalid notebooks


@given(broken_notebooks)
def test_any_notebook_can_be_recorded(content: dict[str, Any]) -> None:
    mapped = map_notebook(content, previous=[NotebookCell(id="p", source="")])
    assert len(set(cell_ids(mapped))) == len(mapped.cells)
    exported = export_notebook(*pass_through_json(mapped))
    assert exactly(exported) == exactly(export(mapped))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (notebook("text"), "$.cells[0]: not an object; recorded as a raw cell"),
        (
            notebook({"source": "", "metadata": {}}),
            "$.cells[0].cell_type: not a text; recorded as a raw cell",
        ),
        (notebook(markdown(["a", 1])), "$.cells[0].source: not a text; recorded as empty"),
        (notebook(markdown(metadata=[])), "$.cells[0].metadata: not an object; recorded as empty"),
        (notebook(markdown(attachments=[])), "$.cells[0].attachments: not an object; left out"),
        (notebook(code(outputs={})), "$.cells[0].outputs: not a list; recorded as empty"),
        (
            notebook(code(outputs=["a"])),
            "$.cells[0].outputs[0]: not an object; recorded as an output of unknown type",
        ),
        (
            notebook(code(outputs=[{}])),
            "$.cells[0].outputs[0].output_type: not a text; recorded as unknown",
        ),
        (notebook(metadata=None), "$.metadata: not an object; recorded as empty"),
        (notebook(minor=None), "$.nbformat_minor: not a number; cells are taken to have no ids"),
        ({**notebook(), "nbformat": 3}, "$.nbformat: not 4; read as if it were"),
        ({**notebook(), "cells": {"a": 1}}, "$.cells: not a list; recorded as empty"),
    ],
)
def test_invalid_parts_are_noted_and_exported_unchanged(content: dict[str, Any], note: str) -> None:
    mapped = map_notebook(content)
    assert note in mapped.notes
    assert mapped.metadata.extra["axon"]["notes"] == mapped.notes
    assert round_trip(content) == content


def test_a_non_object_is_recorded_as_an_empty_notebook() -> None:
    mapped = map_notebook(["a"])
    assert mapped.cells == []
    assert mapped.notes[0] == "$: not an object; recorded as an empty notebook"


def test_a_text_in_place_of_a_cell_becomes_a_raw_cell() -> None:
    cell = map_notebook(notebook("text")).cells[0]
    assert (cell.cell_type, cell.nbformat_type, cell.source) == (CellType.MARKDOWN, "raw", "text")


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_too_deep_nesting_is_cut_and_noted() -> None:
    lists: Any = []
    for _ in range(100_000):
        lists = [lists]
    for deep in (nested(100_000), lists):
        mapped = map_notebook(notebook(metadata={"deep": deep}))
        assert mapped.notes == ["$: what is nested deeper than 200 levels is recorded as null"]
    deep = notebook(metadata={"deep": nested(198)})
    assert map_notebook(deep).notes == []
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


@pytest.mark.parametrize("name", ["test2", "test3", "test3_no_min_version"])
def test_an_old_notebook_is_upgraded_as_nbformat_does(name: str) -> None:
    text = corpus_text(f"nbformat/{name}.ipynb")
    content = read_notebook(text)
    assert is_valid(content)
    reference = nbformat.reads(text, as_version=4)
    for cell, upgraded in zip(content["cells"], reference["cells"], strict=True):
        assert {**cell, "id": ""} == {**upgraded, "id": ""}


def test_the_readable_cells_of_a_damaged_old_notebook_are_read() -> None:
    assert len(read_notebook(corpus_text("nbformat/test3_no_metadata.ipynb"))["cells"]) == 9
    assert read_notebook(corpus_text("nbformat/test3_no_worksheets.ipynb"))["cells"] == []
    assert read_notebook(corpus_text("nbformat/test3_worksheet_with_no_cells.ipynb"))["cells"] == []


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (1, '{"cells": [{"cell_type": "new"}]}'),
        *(
            (version, f'{{"nbformat": {version}, "worksheets": [{{"cells": [{cell}]}}]}}')
            for version in (2, 3)
            for cell in ("5", '{"cell_type": "code", "outputs": [5]}', '{"cell_type": []}')
        ),
    ],
)
def test_an_old_notebook_that_cannot_be_upgraded_is_rejected(version: int, text: str) -> None:
    with pytest.raises(InvalidData, match=f"cannot be upgraded from version {version}"):
        read_notebook(text)


def test_a_version_1_notebook_is_upgraded() -> None:
    cells = [
        {"cell_type": "code", "code": "x", "prompt_number": 1},
        {"cell_type": "text", "text": "y"},
    ]
    mapped = map_notebook(read_notebook(json.dumps({"cells": cells})))
    assert [(cell.cell_type, cell.source) for cell in mapped.cells] == [
        (CellType.CODE, "x"),
        (CellType.MARKDOWN, "y"),
    ]


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


def test_a_notebook_without_a_version_is_read_as_version_4() -> None:
    content = {"cells": [markdown()], "metadata": {}}
    assert read_notebook(json.dumps(content)) == content


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b/My model.v2.ipynb", "My model.v2"), ("x.ipynb", "x"), ("folder.d/plain", "plain")],
)
def test_a_notebook_is_named_after_its_file(path: str, name: str) -> None:
    assert notebook_name(path) == name


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


@pytest.mark.parametrize(
    ("types", "executed", "status"),
    [
        ([], False, CellStatus.IDLE),
        (["stream"], False, CellStatus.IDLE),
        ([], True, CellStatus.COMPLETED),
        (["stream", "error"], True, CellStatus.ERROR),
        (["error"], False, CellStatus.ERROR),
    ],
)
def test_the_status_of_a_cell_follows_from_its_outputs_and_count(
    types: list[str], executed: bool, status: CellStatus
) -> None:
    outputs = [CellOutput(output_type=kind) for kind in types]
    assert cell_status(outputs, executed=executed) is status


# Framework


@pytest.mark.parametrize(
    ("source", "framework"),
    [
        ("import torch", "pytorch"),
        ("import torch.nn as nn", "pytorch"),
        ("from torch.utils.data import DataLoader", "pytorch"),
        ("import numpy as np, tensorflow as tf", "tensorflow"),
        ("from tensorflow import keras", "tensorflow"),
        ("import keras", "keras"),
        ("import jax.numpy as jnp", "jax"),
        ("from sklearn.svm import SVC", "scikit-learn"),
        ("import xgboost as xgb\nimport torch", "xgboost"),
        ("import lightgbm", "lightgbm"),
        ("from transformers import (\n    Trainer,\n)", "transformers"),
        ("# Import AxonML\nimport axonml\nfrom axonml import nn, optim, data", "axonml"),
        ("use axonml::prelude::*;", "axonml"),
        (
            "%matplotlib inline\n!pip install keras\nif True:\n    import torch\n)) broken",
            "pytorch",
        ),
        ("import os; import torch", "pytorch"),
        ("%%time\nimport catboost", "catboost"),
        ("import torchlike\nfrom .torch import x\n# import keras\nprint('import jax')", None),
        ("import numpy", None),
        ("important = torch", None),
        ("import", None),
        ("", None),
    ],
)
def test_the_framework_is_that_of_the_first_known_import(
    source: str, framework: str | None
) -> None:
    assert (
        detect_framework([NotebookCell(source="x = 1"), NotebookCell(source=source)]) == framework
    )


def test_imports_in_markdown_are_ignored() -> None:
    cells = [
        NotebookCell(cell_type=CellType.MARKDOWN, source="import torch"),
        NotebookCell(source="import jax"),
    ]
    assert detect_framework(cells) == "jax"


@pytest.mark.parametrize(
    ("begin", "repeated", "end", "limit"),
    [
        ('{"nbformat": 4, "cells": [', "1,", "1]}", "cells and outputs"),
        ('{"nbformat": 4, "cells": [{"outputs": [', "{},", "{}]}]}", "cells and outputs"),
        ('{"nbformat": 3, "worksheets": [{"cells": [', "1,", "1]}]}", "cells and outputs"),
        ('{"nbformat": 4, "cells": [], "metadata": {"a": [', "[],", "1]}}", "values"),
    ],
    ids=["cells", "outputs", "cells of version 3", "values"],
)
def test_text_that_needs_too_much_memory_is_rejected(
    begin: str, repeated: str, end: str, limit: str
) -> None:
    count = 11_000_000 if limit == "values" else 600_000
    with pytest.raises(Unreadable, match=f"more than [0-9,]+ {limit}"):
        read_notebook((begin + repeated * count + end).encode())


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (notebook(code(id="a"), code()), "$.cells: an id is missing, invalid or repeated"),
        (notebook(code(id="a"), code(id="a")), "$.cells: an id is missing, invalid or repeated"),
        (notebook(metadata={"\ud800": 1}), "$: a text holds half a surrogate pair"),
        (
            notebook(code(id="a", execution_count=-1)),
            "$.cells[0].execution_count: -1 is less than the minimum of 0",
        ),
        (
            notebook(code(id="a", outputs=[{**stream(), "name": 1}])),
            "$.cells[0].outputs[0].name: 1 is not of type 'string'",
        ),
        (notebook(code(id="a", outputs=[{"output_type": "new"}])), "$.cells[0].outputs[0]"),
        (
            notebook(markdown(id="a", new=1)),
            "$.cells[0]: Additional properties are not allowed",
        ),
        (notebook(5, minor=4), "$.cells[0]: 5 is not of type 'object'"),
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
