"""Records are created, found, listed, changed and deleted as upstream does it, and as the design adds."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from support.factories import (
    RecordedStates,
    code,
    create_ids,
    markdown,
    new_checkpoint,
    new_notebook,
    plain,
    rows,
    saved,
    sources,
)

from jupyter_axon_notebooks.archive.format import TABLES
from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, Stale
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


def test_a_notebook_without_cells_begins_with_upstreams_starter_cells(
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
    assert len({cell.id for cell in created.cells}) == 2
    assert all(cell.status is CellStatus.IDLE and cell.outputs == [] for cell in created.cells)
    metadata = NotebookMetadata(kernel="axonml", language="rust", framework="axonml")
    assert created.metadata == metadata
    assert created.status is NotebookStatus.DRAFT
    assert created.created_at == created.updated_at


def test_starter_cells_are_configured(store: Store) -> None:
    configured = NotebookRepository(store, starter_cells=[("code", "import torch")])
    created = configured.create(new_notebook())
    assert [(cell.cell_type, cell.source) for cell in created.cells] == [
        (CellType.CODE, "import torch")
    ]


def test_each_notebook_has_starter_cells_of_its_own(repository: NotebookRepository) -> None:
    one, other = repository.create(new_notebook()), repository.create(new_notebook())
    assert {cell.id for cell in one.cells}.isdisjoint(cell.id for cell in other.cells)


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
    assert found is not None
    assert plain(found) == plain(created)
    assert {name: getattr(found, name) for name in fields} == fields
    assert found.cells[2].status is CellStatus.RUNNING


def test_a_notebook_gets_an_id_unless_one_is_given(repository: NotebookRepository) -> None:
    assert repository.create(new_notebook(id="mine")).id == "mine"
    assert len({repository.create(new_notebook()).id for _ in range(3)}) == 3


def test_an_existing_id_is_a_conflict_and_changes_nothing(
    repository: NotebookRepository, store: Store
) -> None:
    created = repository.create(new_notebook(code("c", "mine"), id="taken"))
    before = rows(store)
    with pytest.raises(Conflict, match="taken"):
        repository.create(new_notebook(code("c", "other"), id="taken"))
    assert rows(store) == before
    assert repository.find_by_id("taken") == created


def test_a_file_belongs_to_one_record(repository: NotebookRepository) -> None:
    repository.create(new_notebook(id="first", origin="here", path="/x.ipynb"))
    with pytest.raises(Conflict, match=r"/x\.ipynb.*first"):
        repository.create(new_notebook(origin="here", path="/x.ipynb"))
    elsewhere = repository.create(new_notebook(origin="elsewhere", path="/x.ipynb"))
    bound = repository.find_by_path("elsewhere", "/x.ipynb")
    assert bound is not None
    assert bound.id == elsewhere.id
    assert repository.find_by_path("here", "/y.ipynb") is None


def test_two_cells_with_one_id_are_rejected(repository: NotebookRepository, store: Store) -> None:
    with pytest.raises(InvalidData) as refused:
        repository.create(new_notebook(code("a"), code("b"), code("a")))
    assert refused.value.path == "$.cells[2].id"
    assert not any(rows(store).values())
    created = repository.create(new_notebook(code("a", "1")))
    with pytest.raises(InvalidData) as refused:
        repository.update(created.id, UpdateNotebook(cells=[code("b"), code("b")]))
    assert refused.value.path == "$.cells[1].id"
    assert repository.find_by_id(created.id) == created


# Finding and listing


def test_an_unknown_id_finds_nothing(repository: NotebookRepository) -> None:
    assert repository.find_by_id("nowhere") is None
    assert repository.find_summary("nowhere") is None


def test_lists_are_newest_updated_first_and_come_in_pages(repository: NotebookRepository) -> None:
    create_ids(repository, "a", "b", "c", "d")
    create_ids(repository, "other", user_id="eve")
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


def test_summaries_count_the_cells_and_do_not_hold_them(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(code("a"), code("b"), code("c")))
    (summary,) = repository.list_all()
    assert summary == repository.find_summary(created.id)
    assert summary.cell_count == 3
    assert "cells" not in summary.to_json()
    repository.delete_cell(created.id, "b")
    assert repository.list_all()[0].cell_count == 2


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
def test_lists_and_counts_are_filtered_alike(
    repository: NotebookRepository, condition: dict[str, Any], expected: list[str]
) -> None:
    def tagged(*tags: str) -> NotebookMetadata:
        return NotebookMetadata(tags=list(tags))

    repository.create(
        new_notebook(id="one", name="ResNet", description="Deeper", metadata=tagged("vision", "a"))
    )
    repository.create(
        new_notebook(
            id="two",
            name="resnet 50",
            metadata=tagged("vision"),
            path="/b.ipynb",
            status=NotebookStatus.STOPPED,
        )
    )
    repository.create(new_notebook(id="three", name="Straße"))
    repository.create(
        new_notebook(
            id="eve's", name="ResNet", user_id="eve", metadata=tagged("vision"), path="/b.ipynb"
        )
    )
    assert [found.id for found in repository.list_by_user("ada", **condition)] == expected
    assert repository.count("ada", **condition) == len(expected)
    everybodys = [found.id for found in repository.list_all(**condition)]
    assert [id for id in everybodys if id != "eve's"] == expected
    assert repository.count(**condition) == len(everybodys)
    assert [found.id for found in repository.list_by_user("ada", 1, 1, **condition)] == expected[
        1:2
    ]


# Changing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("description", ""),
        ("description", "told"),
        ("cells", [code("new", "x")]),
        ("cells", []),
        ("model_id", "m2"),
        ("dataset_id", "d2"),
        ("status", NotebookStatus.FAILED),
        ("tags", ["a", "b"]),
        ("tags", []),
    ],
)
def test_an_update_changes_the_given_field_and_the_time_only(
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
    before, after = created.to_json(), updated.to_json()
    holder = (
        after["metadata"].to_json() if hasattr(after["metadata"], "to_json") else after["metadata"]
    )
    changed = {name for name in after if after[name] != before.get(name)} - {"updated_at"}
    assert changed <= (
        {"cells", "version_id"}
        if field == "cells"
        else {"metadata"}
        if field == "tags"
        else {field}
    )
    if field == "tags":
        assert holder == {**before["metadata"], "tags": value}
    else:
        assert getattr(updated, field) == value


def test_an_empty_update_moves_the_time_as_upstream_does(
    repository: NotebookRepository,
) -> None:
    created = repository.create(new_notebook(code("a")))
    updated = repository.update(created.id, UpdateNotebook())
    assert updated.updated_at > created.updated_at
    assert updated.version_id == created.version_id


def test_update_status_changes_the_status(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook())
    for status in NotebookStatus:
        assert repository.update_status(created.id, status).status is status


def test_a_cell_is_replaced_in_its_place(repository: NotebookRepository) -> None:
    created = repository.create(
        new_notebook(code("a", "1"), code("b", "2", "printed", count=1), code("c", "3"))
    )
    replaced = markdown("b", "text", metadata={"k": 1})
    updated = repository.update_cell(created.id, replaced)
    assert updated.cells == [created.cells[0], replaced, created.cells[2]]
    assert repository.find_by_id(created.id) == updated
    assert updated.updated_at > created.updated_at


def test_a_cell_is_changed_by_a_function(repository: NotebookRepository) -> None:
    running = code("b", "2", "printed", count=1, status=CellStatus.RUNNING)
    created = repository.create(new_notebook(code("a", "1"), running, code("c", "3")))

    def change(cell: NotebookCell) -> NotebookCell:
        assert cell == running
        return replace(cell, id="other", source="new")

    updated = repository.change_cell(created.id, "b", change, expected_version=created.version_id)
    assert updated.cells == [created.cells[0], replace(running, source="new"), created.cells[2]]
    assert repository.find_by_id(created.id) == updated
    for id, cell_id, named in (("x", "b", "notebook x"), (created.id, "y", "cell y")):
        with pytest.raises(NotFound, match=f"{named} not found"):
            repository.change_cell(id, cell_id, change)
    with pytest.raises(Stale):
        repository.change_cell(created.id, "b", change, expected_version=created.version_id)


def test_a_file_without_cells_is_recorded_without_cells(repository: NotebookRepository) -> None:
    assert repository.create(new_notebook(metadata=_file_metadata())).cells == []
    assert (
        len(repository.create(new_notebook(metadata=NotebookMetadata(kernel="python3"))).cells) == 2
    )


def test_a_cells_running_status_stays_until_it_is_replaced(repository: NotebookRepository) -> None:
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


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, "nabc"),
        (1, "anbc"),
        (2, "abnc"),
        (3, "abcn"),
        (99, "abcn"),
        (None, "abcn"),
        (-1, "abcn"),
    ],
)
def test_a_cell_is_inserted_at_a_position_inside_and_else_appended(
    repository: NotebookRepository, position: int | None, expected: str
) -> None:
    created = repository.create(new_notebook(*(code(id, id) for id in "abc")))
    updated = repository.add_cell(created.id, code("n", "n"), position)
    assert "".join(sources(updated.cells)) == expected
    found = repository.find_by_id(created.id)
    assert found == updated


def test_a_cell_is_added_to_an_empty_notebook(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(code("a")))
    assert repository.delete_cell(created.id, "a").cells == []
    assert sources(repository.add_cell(created.id, code("n", "n"), 0).cells) == ["n"]


def test_an_existing_cell_id_cannot_be_added(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(code("a", "1"), code("b", "2")))
    with pytest.raises(Conflict, match="cell b"):
        repository.add_cell(created.id, code("b", "3"), 1)
    assert repository.find_by_id(created.id) == created


def test_missing_records_are_named(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(code("a")))
    known = repository.create_checkpoint(new_checkpoint(created.id))
    absent: list[tuple[tuple[str, str], Any]] = [
        (("notebook", "x"), lambda: repository.update("x", UpdateNotebook(name="n"))),
        (("notebook", "x"), lambda: repository.update("x", UpdateNotebook(cells=[]))),
        (("notebook", "x"), lambda: repository.update_status("x", NotebookStatus.DRAFT)),
        (("notebook", "x"), lambda: repository.update_cell("x", code("a"))),
        (("notebook", "x"), lambda: repository.add_cell("x", code("a"))),
        (("notebook", "x"), lambda: repository.delete_cell("x", "a")),
        (("notebook", "x"), lambda: repository.save("x", saved(code("a")))),
        (("notebook", "x"), lambda: repository.delete("x")),
        (("cell", "y"), lambda: repository.update_cell(created.id, code("y"))),
        (("cell", "y"), lambda: repository.delete_cell(created.id, "y")),
        (
            ("version", "v"),
            lambda: repository.versions.diff(created.id, known.version_id or "", "v"),
        ),
        (
            ("version", "v"),
            lambda: repository.versions.diff(created.id, "v", known.version_id or ""),
        ),
    ]
    for (kind, id), attempt in absent:
        with pytest.raises(NotFound) as raised:
            attempt()
        assert (raised.value.kind, raised.value.id) == (kind, id)
        assert str(raised.value) == f"{kind} {id} not found"
    assert repository.find_by_id(created.id) == created


def test_a_change_of_an_older_version_is_stale_and_changes_nothing(
    repository: NotebookRepository,
) -> None:
    created = repository.create(new_notebook(code("a", "1")))
    old = created.version_id
    current = repository.add_cell(created.id, code("b", "2"), expected_version=old)
    attempts: list[Any] = [
        lambda: repository.update(created.id, UpdateNotebook(name="n"), expected_version=old),
        lambda: repository.update(created.id, UpdateNotebook(cells=[]), expected_version=old),
        lambda: repository.update_cell(created.id, code("a", "x"), expected_version=old),
        lambda: repository.add_cell(created.id, code("c"), expected_version=old),
        lambda: repository.delete_cell(created.id, "a", expected_version=old),
    ]
    for attempt in attempts:
        with pytest.raises(Stale, match=f"{current.version_id}.*{old}"):
            attempt()
    assert repository.find_by_id(created.id) == current
    assert (
        repository.delete_cell(created.id, "b", expected_version=current.version_id).cells
        == created.cells
    )


# Deleting


def test_a_deleted_notebook_leaves_nothing_behind(
    repository: NotebookRepository, store: Store, states: RecordedStates
) -> None:
    def made(id: str) -> None:
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

    made("kept")
    before, kept = rows(store), repository.find_by_id("kept")
    made("gone")
    assert all(count == 2 * before[table] for table, count in rows(store).items())
    repository.delete("gone")
    assert rows(store) == before
    assert states.removed == [("gone",)]
    assert repository.find_by_id("gone") is None
    assert (
        repository.list_checkpoints("gone")
        == repository.versions.list("gone")
        == repository.runs.list("gone")
        == []
    )
    assert repository.get_best_checkpoint("gone", "loss", True) is None
    assert repository.find_by_id("kept") == kept
    best = repository.get_best_checkpoint("kept", "loss", False)
    assert best is not None
    assert best.epoch == 2
    repository.delete("kept")
    assert not any(rows(store).values())


def test_an_unknown_notebook_has_no_state_files_to_remove(
    repository: NotebookRepository, states: RecordedStates
) -> None:
    with pytest.raises(NotFound):
        repository.delete("x")
    assert states.removed == []


def test_the_id_and_the_file_of_a_deleted_notebook_are_free_again(
    repository: NotebookRepository,
) -> None:
    repository.create(new_notebook(code("a", "old"), id="x", origin="o", path="/p"))
    repository.delete("x")
    again = repository.create(new_notebook(code("a", "new"), id="x", origin="o", path="/p"))
    assert repository.find_by_id("x") == again
    assert repository.versions.count("x") == 1


def _file_metadata() -> NotebookMetadata:
    return NotebookMetadata(extra={"nbformat": {"metadata": {"kernelspec": {"name": "python3"}}}})


def test_values_set_by_hand_survive_reading_the_same_file_again(
    repository: NotebookRepository,
) -> None:
    file = {"size": 1, "mtime": 1}
    repository.create(new_notebook(id="nb"), saved(code("a"), file=file))
    repository.update_status("nb", NotebookStatus.FAILED)
    repository.update_cell("nb", code("a", status=CellStatus.RUNNING))
    given = repository.find_by_id("nb")
    repository.save("nb", saved(code("a"), file=file))
    again = repository.find_by_id("nb")
    assert again is not None
    assert replace(again, synced_at=given.synced_at) == given
    repository.save("nb", saved(code("a"), file={"size": 1, "mtime": 2}))  # somebody saved it
    assert repository.find_summary("nb").status is NotebookStatus.DRAFT


def everything_stored(store: Store) -> dict[str, dict[str, str]]:
    return {name: dict(store.table(name).iterate_json()) for name in TABLES}
