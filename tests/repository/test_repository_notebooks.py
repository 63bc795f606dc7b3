"""Create, find, list, change and delete notebooks."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from support.factories import (
    RecordedStates,
    code,
    count_rows,
    create_notebooks,
    markdown,
    new_checkpoint,
    new_notebook,
    new_save,
    to_json_text,
)

from jupyter_axon_notebooks.errors import Conflict, InvalidData
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellStatus,
    CellType,
    NotebookCell,
    NotebookMetadata,
    NotebookStatus,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

# Creating


def test_a_notebook_without_cells_gets_the_starter_cells_of_upstream(
    repository: NotebookRepository,
) -> None:
    created = repository.create(new_notebook())
    assert [(cell.cell_type, cell.source) for cell in created.cells] == [
        (CellType.MARKDOWN, "# Training Notebook\n\nDescribe your training experiment here."),
        (
            CellType.CODE,
            "# Import AxonML\nimport axonml\nfrom axonml import nn, optim, data\n\n"
            'print(f"AxonML version: {axonml.__version__}")',
        ),
    ]
    assert all(cell.status is CellStatus.IDLE and cell.outputs == [] for cell in created.cells)
    metadata = NotebookMetadata(kernel="axonml", language="rust", framework="axonml")
    assert created.metadata == metadata
    assert created.status is NotebookStatus.DRAFT
    assert created.created_at == created.updated_at
    cells = [*created.cells, *repository.create(new_notebook()).cells]
    assert len({cell.id for cell in cells}) == 4


def test_a_record_is_read_as_it_was_returned(repository: NotebookRepository) -> None:
    cells = [
        markdown("m", "# é \ud800 \x00", attachments={"a.png": {"image/png": "iVBOR"}}),
        markdown("r", "raw", nbformat_type="raw", metadata={"format": "x", "null": None}),
        code("c", "1/0", "out\n", count=3, status=CellStatus.RUNNING, metadata={"tags": ["a"]}),
        NotebookCell(
            id="o",
            source="x",
            execution_count=4,
            outputs=[
                CellOutput(
                    output_type="execute_result",
                    data={"text/plain": "1"},
                    execution_count=4,
                    metadata={},
                ),
                CellOutput(output_type="execute_result", data=None, execution_count=7),
                CellOutput(output_type="error", error_name="E", error_value="", traceback=[]),
                CellOutput(
                    output_type="other", data=[float("inf"), 10**30, None, {"deep": [1.0, 1, True]}]
                ),
            ],
        ),
    ]
    metadata = NotebookMetadata(
        kernel="k", language="l", framework="f", tags=["t"], extra={"x": None, "nbformat": 4}
    )
    fields = {
        "description": "",
        "model_id": "m1",
        "dataset_id": "d1",
        "path": "/a/b.ipynb",
        "origin": "here",
    }
    created = repository.create(
        new_notebook(*cells, metadata=metadata, status=NotebookStatus.STOPPED, id="given", **fields)
    )
    found = repository.find_by_id("given")
    assert to_json_text(found) == to_json_text(created)
    assert {name: getattr(found, name) for name in fields} == fields
    assert found.cells[2].status is CellStatus.RUNNING


def test_an_existing_id_is_rejected(repository: NotebookRepository, store: Store) -> None:
    created = repository.create(new_notebook(code("c", "mine"), id="taken"))
    before = count_rows(store)
    with pytest.raises(Conflict, match="taken"):
        repository.create(new_notebook(code("c", "other"), id="taken"))
    assert count_rows(store) == before
    assert repository.find_by_id("taken") == created


def test_a_file_belongs_to_one_notebook(repository: NotebookRepository) -> None:
    repository.create(new_notebook(id="first", origin="here", path="/x.ipynb"))
    with pytest.raises(Conflict, match=r"/x\.ipynb.*first"):
        repository.create(new_notebook(origin="here", path="/x.ipynb"))
    elsewhere = repository.create(new_notebook(origin="elsewhere", path="/x.ipynb"))
    assert repository.find_by_path("elsewhere", "/x.ipynb").id == elsewhere.id
    assert repository.find_by_path("here", "/y.ipynb") is None


def test_duplicate_cell_ids_are_rejected(repository: NotebookRepository, store: Store) -> None:
    with pytest.raises(InvalidData) as raised:
        repository.create(new_notebook(code("a"), code("b"), code("a")))
    assert raised.value.path == "$.cells[2].id"
    assert not any(count_rows(store).values())
    created = repository.create(new_notebook(code("a", "1")))
    with pytest.raises(InvalidData) as raised:
        repository.update(created.id, UpdateNotebook(cells=[code("b"), code("b")]))
    assert raised.value.path == "$.cells[1].id"
    assert repository.find_by_id(created.id) == created


# Finding and listing


def test_lists_are_sorted_by_update_time_and_paginated(repository: NotebookRepository) -> None:
    create_notebooks(repository, "a", "b", "c", "d")
    create_notebooks(repository, "other", user_id="eve")
    repository.update_status("b", NotebookStatus.RUNNING)
    assert [summary.id for summary in repository.list_by_user("ada")] == ["b", "d", "c", "a"]
    assert [summary.id for summary in repository.list_by_user("ada", 2, 1)] == ["d", "c"]
    assert [summary.id for summary in repository.list_by_user("ada", offset=3)] == ["a"]
    assert repository.list_by_user("ada", 2, 9) == []
    assert repository.list_by_user("ada", 0) == []
    assert [summary.id for summary in repository.list_all()] == ["b", "other", "d", "c", "a"]
    assert [summary.id for summary in repository.list_all(1, 1)] == ["other"]
    assert repository.list_by_user("nobody") == []
    assert (repository.count("ada"), repository.count()) == (4, 5)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"status": NotebookStatus.STOPPED}, ["two"]),
        ({"tag": "vision"}, ["two", "one"]),
        ({"tag": "vis"}, []),
        ({"path": "/b.ipynb"}, ["two"]),
        ({"text": "STRASSE"}, ["three"]),
        ({"text": "rEsnet"}, ["two", "one"]),
        ({"text": "deep"}, ["one"]),
        ({"text": ""}, ["three", "two", "one"]),
        ({"text": "%"}, []),
        ({"tag": "vision", "status": NotebookStatus.DRAFT, "text": "net"}, ["one"]),
    ],
)
def test_lists_and_counts_are_filtered(
    repository: NotebookRepository, condition: dict[str, Any], expected: list[str]
) -> None:
    vision = NotebookMetadata(tags=["vision", "a"])
    for fields in (
        {"id": "one", "name": "ResNet", "description": "Deeper", "metadata": vision},
        {"id": "two", "name": "resnet 50", "metadata": vision, "path": "/b.ipynb"},
        {"id": "three", "name": "Straße"},
        {"id": "eve's", "user_id": "eve", "name": "ResNet", "metadata": vision, "path": "/b.ipynb"},
    ):
        repository.create(new_notebook(**fields))
    repository.update_status("two", NotebookStatus.STOPPED)
    repository.update_status("three", NotebookStatus.DRAFT)
    found = [summary.id for summary in repository.list_by_user("ada", **condition)]
    assert found == expected
    assert repository.count("ada", **condition) == len(expected)
    page = repository.list_by_user("ada", 1, 1, **condition)
    assert [summary.id for summary in page] == found[1:2]
    everybodys = [summary.id for summary in repository.list_all(**condition)]
    assert [id for id in everybodys if id != "eve's"] == found
    assert repository.count(**condition) == len(everybodys)


# Changing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("description", ""),
        ("description", "new"),
        ("cells", [code("new", "x")]),
        ("cells", []),
        ("model_id", "m2"),
        ("dataset_id", "d2"),
        ("status", NotebookStatus.FAILED),
        ("tags", ["a", "b"]),
        ("tags", []),
    ],
)
def test_an_update_changes_only_the_given_field_and_the_time(
    repository: NotebookRepository, field: str, value: Any
) -> None:
    metadata = NotebookMetadata(
        kernel="python3", tags=["old"], extra={"nbformat": {"metadata": {}}, "axon": {"x": 1}}
    )
    created = repository.create(
        new_notebook(
            code("a", "1", "printed"),
            description="d",
            model_id="m",
            dataset_id="d",
            metadata=metadata,
        )
    )
    updated = repository.update(created.id, UpdateNotebook(**{field: value}))
    assert updated == repository.find_by_id(created.id)
    assert updated.updated_at > created.updated_at
    expected = {field: value}
    if field == "tags":
        expected = {"metadata": replace(created.metadata, tags=value)}
    if field == "cells":
        expected["version_id"] = updated.version_id
    assert replace(updated, updated_at=created.updated_at) == replace(created, **expected)


def test_a_file_without_cells_gets_no_starter_cells(repository: NotebookRepository) -> None:
    assert repository.create(new_notebook(metadata=_file_metadata())).cells == []
    assert (
        len(repository.create(new_notebook(metadata=NotebookMetadata(kernel="python3"))).cells) == 2
    )


def test_a_cell_keeps_its_status_until_it_is_replaced(repository: NotebookRepository) -> None:
    created = repository.create(
        new_notebook(code("a", "1", status=CellStatus.RUNNING), code("b", "2"))
    )
    assert repository.add_cell(created.id, code("c")).cells[0].status is CellStatus.RUNNING
    done = repository.update_cell(created.id, code("a", "1", count=1, status=CellStatus.COMPLETED))
    assert done.cells[0].status is CellStatus.COMPLETED
    repository.update_cell(created.id, code("b", "2", status=CellStatus.ERROR))
    assert [cell.status.value for cell in repository.delete_cell(created.id, "a").cells] == [
        "error",
        "idle",
    ]
    readded = repository.add_cell(created.id, code("a"))
    assert readded.cells[-1].status is CellStatus.IDLE


# Deleting


def test_deleting_a_notebook_removes_everything_of_it(
    repository: NotebookRepository, store: Store, states: RecordedStates
) -> None:
    def create(id: str) -> None:
        repository.create(
            new_notebook(code("a", "1", "out", count=1), id=id, metadata=_file_metadata())
        )
        for epoch in range(3):
            metrics = {"loss": epoch, "val": {"loss": 1.5}, "bad": float("nan"), "text": "x"}
            repository.create_checkpoint(
                new_checkpoint(id, metrics, epoch=epoch, run_id=f"{id}-run")
            )
            repository.add_cell(id, code(f"c{epoch}", "x"))
        store.provenance.insert({"notebook_id": id})

    create("kept")
    before, kept = count_rows(store), repository.find_by_id("kept")
    create("gone")
    assert all(count == 2 * before[table] for table, count in count_rows(store).items())
    repository.delete("gone")
    assert count_rows(store) == before
    assert states.removed == [("gone",)]
    assert repository.find_by_id("gone") is None
    for subject in (repository.checkpoints, repository.versions, repository.runs):
        assert subject.list("gone") == []
    assert repository.get_best_checkpoint("gone", "loss", True) is None
    assert repository.find_by_id("kept") == kept
    assert repository.get_best_checkpoint("kept", "loss", False).epoch == 2
    repository.delete("kept")
    assert not any(count_rows(store).values())


def _file_metadata() -> NotebookMetadata:
    return NotebookMetadata(extra={"nbformat": {"metadata": {"kernelspec": {"name": "python3"}}}})


def test_statuses_survive_reading_the_same_file_again(repository: NotebookRepository) -> None:
    file = {"size": 1, "mtime": 1}
    repository.create(new_notebook(id="nb"), new_save(code("a"), file=file))
    repository.update_status("nb", NotebookStatus.FAILED)
    repository.update_cell("nb", code("a", status=CellStatus.RUNNING))
    before = repository.find_by_id("nb")
    repository.save("nb", new_save(code("a"), file=file))
    after = repository.find_by_id("nb")
    assert replace(after, synced_at=before.synced_at) == before
    repository.save("nb", new_save(code("a"), file={"size": 1, "mtime": 2}))
    assert repository.find_summary("nb").status is NotebookStatus.DRAFT


def test_starter_cells_can_be_configured(store: Store) -> None:
    configured = NotebookRepository(store, starter_cells=[("code", "import torch")])
    [cell] = configured.create(new_notebook()).cells
    assert (cell.cell_type, cell.source) == (CellType.CODE, "import torch")


def test_a_cell_is_changed_by_a_function(repository: NotebookRepository) -> None:
    running = code("b", "2", "printed", count=1, status=CellStatus.RUNNING)
    created = repository.create(new_notebook(code("a", "1"), running, code("c", "3")))

    def change(cell: NotebookCell) -> NotebookCell:
        assert cell == running
        return replace(cell, id="other", source="new")

    updated = repository.change_cell(created.id, "b", change)
    assert updated.cells == [created.cells[0], replace(running, source="new"), created.cells[2]]
    assert repository.find_by_id(created.id) == updated
