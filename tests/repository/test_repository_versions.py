"""Versions: when one begins, what it keeps, what it costs, and how two differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.factories import (
    check_contents,
    code,
    contents,
    markdown,
    new_checkpoint,
    new_notebook,
    rows,
    saved,
)

from jupyter_axon_notebooks.records import (
    CellStatus,
    NotebookCell,
    NotebookMetadata,
    TrainingNotebook,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.diff import diff_cells
from jupyter_axon_notebooks.store import Store

CELLS = [markdown("m", "# t", metadata={"k": 1}), code("a", "1", "one\n", count=1), code("b", "2")]


def created(repository: NotebookRepository) -> TrainingNotebook:
    return repository.create(new_notebook(*CELLS, id="nb", metadata=NotebookMetadata(kernel="k")))


def update(repository: NotebookRepository, *cells: NotebookCell) -> str:
    version_id = repository.update("nb", UpdateNotebook(cells=list(cells))).version_id
    assert version_id is not None
    return version_id


@pytest.mark.parametrize(
    "cells",
    [
        [CELLS[0], code("a", "1 ", "one\n", count=1), CELLS[2]],
        [CELLS[1], CELLS[0], CELLS[2]],
        CELLS[:2],
        [],
        [*CELLS, code("c")],
        [*CELLS[:2], markdown("b", "2")],
        [*CELLS[:2], code("b", "2", metadata={"tags": []})],
        [markdown("m", "# t", metadata={"k": 1.0}), *CELLS[1:]],
        [markdown("m", "# t", metadata={"k": 1}, nbformat_type="raw"), *CELLS[1:]],
        [markdown("m", "# t", metadata={"k": 1}, attachments={}), *CELLS[1:]],
        [CELLS[0], code("x", "1", "one\n", count=1), CELLS[2]],
    ],
)
def test_a_version_begins_when_sources_or_order_change(
    repository: NotebookRepository, cells: list[NotebookCell]
) -> None:
    first = created(repository)
    second = update(repository, *cells)
    newest, oldest = repository.versions.list("nb")
    assert (newest.id, oldest.id) == (second, first.version_id)
    assert (newest.cell_count, oldest.cell_count) == (len(cells), 3)
    assert newest.created_at > oldest.created_at
    kept = repository.versions.get("nb", oldest.id)
    assert kept is not None
    assert kept.cells == CELLS
    changed = repository.versions.get("nb", newest.id)
    assert changed is not None
    assert changed.cells == cells


@pytest.mark.parametrize(
    "cell",
    [
        code("a", "1", "two\n", count=1),
        code("a", "1", count=1),
        code("a", "1", "one\n", "two\n", count=1),
        code("a", "1", "one\n", count=2),
        code("a", "1", "one\n"),
    ],
)
def test_a_change_of_outputs_or_counts_replaces_the_newest_version(
    repository: NotebookRepository, store: Store, cell: NotebookCell
) -> None:
    first = created(repository)
    second = update(repository, CELLS[0], cell, CELLS[2])
    assert second != first.version_id
    assert [version.id for version in repository.versions.list("nb")] == [second]
    assert repository.versions.get("nb", first.version_id or "") is None
    check_contents(store)


def test_a_version_a_checkpoint_refers_to_is_kept(
    repository: NotebookRepository, store: Store
) -> None:
    first = created(repository)
    repository.create_checkpoint(new_checkpoint("nb", id="cp"))
    second = update(repository, CELLS[0], code("a", "1", "two\n", count=2), CELLS[2])
    third = update(repository, CELLS[0], code("a", "1", "three\n", count=3), CELLS[2])
    assert [version.id for version in repository.versions.list("nb")] == [third, first.version_id]
    check_contents(store)
    update(repository, code("z"))
    update(repository)
    checkpoint = repository.get_checkpoint("cp")
    assert checkpoint is not None
    version = repository.versions.get("nb", checkpoint.version_id or "")
    assert version is not None
    assert version.cells == CELLS
    assert second not in {found.id for found in repository.versions.list("nb")}


def test_the_version_of_a_deleted_checkpoint_may_be_replaced(
    repository: NotebookRepository, store: Store
) -> None:
    created(repository)
    repository.create_checkpoint(new_checkpoint("nb", id="cp"))
    repository.delete_checkpoint("cp")
    update(repository, CELLS[0], code("a", "1", "two\n"), CELLS[2])
    assert repository.versions.count("nb") == 1
    check_contents(store)


def test_an_equal_save_keeps_the_version(repository: NotebookRepository, store: Store) -> None:
    first = created(repository)
    before = rows(store)
    assert update(repository, *CELLS) == first.version_id
    repository.update("nb", UpdateNotebook(name="n", tags=["t"], status=None, description="d"))
    repository.update_cell("nb", CELLS[1])
    assert [version.id for version in repository.versions.list("nb")] == [first.version_id]
    assert rows(store) == before


def test_versions_come_newest_first_and_in_pages(repository: NotebookRepository) -> None:
    created(repository)
    made = [update(repository, code("a", str(n))) for n in range(4)][::-1]
    assert [version.id for version in repository.versions.list("nb")][:4] == made
    assert [version.id for version in repository.versions.list("nb", 2, 1)] == made[1:3]
    assert repository.versions.count("nb") == 5
    assert repository.versions.list("x") == []


def test_a_version_is_found_under_its_own_notebook_only(repository: NotebookRepository) -> None:
    first = created(repository)
    other = repository.create(new_notebook())
    assert repository.versions.get(other.id, first.version_id or "") is None
    assert repository.versions.get("nb", "none") is None


def test_versions_keep_the_metadata_of_the_file(repository: NotebookRepository) -> None:
    def metadata(text: str) -> NotebookMetadata:
        return NotebookMetadata(
            tags=["t"], extra={"nbformat": {"metadata": {"widgets": text * 100_000}}, "axon": {}}
        )

    first = repository.create(new_notebook(id="nb"), saved(*CELLS, metadata=metadata("a")))
    repository.create_checkpoint(new_checkpoint("nb"))
    second = repository.save("nb", saved(*CELLS, metadata=metadata("b")))
    for version_id, text in ((first.version_id, "a"), (second.version_id, "b")):
        version = repository.versions.get("nb", version_id or "")
        assert version is not None
        assert version.metadata == metadata(text)
        assert version.cells == CELLS
    found = repository.find_by_id("nb")
    assert found is not None
    assert found.metadata == metadata("b")


def test_a_status_that_is_not_derived_is_stored_in_the_record(
    repository: NotebookRepository,
) -> None:
    first = created(repository)
    running = [CELLS[0], CELLS[1], code("b", "2", status=CellStatus.RUNNING)]
    assert update(repository, *running) == first.version_id
    found = repository.find_by_id("nb")
    assert found is not None
    assert found.cells == running
    version = repository.versions.get("nb", first.version_id or "")
    assert version is not None
    assert version.cells == CELLS


def test_cell_statuses_in_history_follow_from_outputs_and_counts(
    repository: NotebookRepository,
) -> None:
    cells = [
        code("a", count=1, status=CellStatus.IDLE),
        code("b"),
        markdown("m", execution_count=3),
    ]
    first = repository.create(new_notebook(*cells))
    version = repository.versions.get(first.id, first.version_id or "")
    assert version is not None
    assert [cell.status.value for cell in version.cells] == ["completed", "idle", "idle"]
    assert [cell.status.value for cell in first.cells] == ["idle", "idle", "idle"]


# What it costs


def test_a_save_stores_only_the_cell_that_changed(
    repository: NotebookRepository, store: Store
) -> None:
    cells = [code(f"c{n}", f"x = {n}", f"{n}\n", count=n) for n in range(100)]
    repository.create(new_notebook(id="nb"), saved(*cells))
    before = contents(store)
    assert len(before) == 200
    cells[50] = code("c50", "y = 50", "50\n", count=101)
    repository.save("nb", saved(*cells))
    added = contents(store).keys() - before.keys()
    assert [contents(store)[id]["source"] for id in added] == ["y = 50"]


def test_equal_contents_are_stored_once(repository: NotebookRepository, store: Store) -> None:
    repository.create(new_notebook(), saved(*(code(f"c{n}", "x", "y", count=n) for n in range(20))))
    assert len(contents(store)) == 2


def test_notebooks_share_no_contents(repository: NotebookRepository, store: Store) -> None:
    for id in ("one", "two"):
        repository.create(new_notebook(code("a", "same"), id=id))
    assert len(contents(store)) == 2
    repository.delete("one")
    found = repository.find_by_id("two")
    assert found is not None
    assert found.cells == [code("a", "same")]


def test_execution_counts_store_nothing_but_the_list(
    repository: NotebookRepository, store: Store
) -> None:
    def executed(count: int) -> list[NotebookCell]:
        result = {
            "output_type": "execute_result",
            "data": {"text/plain": "1"},
            "execution_count": count,
        }
        document = {
            "id": "a",
            "source": "1",
            "outputs": [result],
            "execution_count": count,
            "status": "completed",
        }
        return [NotebookCell.from_json(document)]

    repository.create(new_notebook(id="nb"), saved(*executed(1)))
    before = contents(store)
    for count in (2, 3, 900):
        repository.save("nb", saved(*executed(count)))
        assert contents(store) == before
        found = repository.find_by_id("nb")
        assert found is not None
        assert found.cells == executed(count)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_repeated_outputs_do_not_fill_the_store(
    repository: NotebookRepository, store: Store, checkpointed: bool
) -> None:
    before = [code("a", "import x"), code("b", "train()", "0\n")]
    repository.create(new_notebook(id="nb"), saved(*before))
    if checkpointed:
        repository.create_checkpoint(new_checkpoint("nb"))
    log = ""
    for second in range(200):
        log += f"{second}\n"
        repository.save("nb", saved(before[0], code("b", "train()", log)))
    expected = 2 if checkpointed else 1
    assert repository.versions.count("nb") == expected
    assert len(contents(store)) == 2 + expected


def test_undoing_a_change_adds_a_version_without_contents(
    repository: NotebookRepository, store: Store
) -> None:
    created(repository)
    update(repository, code("a", "other"))
    before = contents(store)
    update(repository, *CELLS)
    assert contents(store) == before
    assert repository.versions.count("nb") == 3


_ids = st.sampled_from("abcde")
_cells = st.lists(
    st.builds(
        lambda cell_id, source, printed, count: code(cell_id, source, *printed, count=count),
        _ids,
        st.sampled_from(["", "x", "y"]),
        st.lists(st.sampled_from(["1", "2"]), max_size=2),
        st.sampled_from([None, 1, 2]),
    ),
    max_size=5,
    unique_by=lambda cell: cell.id,
)
_metadata = st.sampled_from([NotebookMetadata(), NotebookMetadata(extra={"nbformat": {"a": 1}})])


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["save", "save", "checkpoint", "forget"]), _cells, _metadata),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_versions_do_not_change_after_later_saves(
    steps: list[tuple[str, list[NotebookCell], Any]],
) -> None:
    store = Store("memory://")
    try:
        repository = NotebookRepository(store)
        first = repository.create(new_notebook(id="nb"), saved(code("a")))
        was = {first.version_id: first.cells}
        for step, cells, metadata in steps:
            if step == "save":
                was[repository.save("nb", saved(*cells, metadata=metadata)).version_id] = cells
            elif step == "checkpoint":
                repository.create_checkpoint(new_checkpoint("nb"))
            elif (latest := repository.checkpoints.get_latest("nb")) is not None:
                repository.delete_checkpoint(latest.id)
            check_contents(store)
        for summary in repository.versions.list("nb"):
            version = repository.versions.get("nb", summary.id)
            assert version is not None
            assert version.cells == was[version.id]
    finally:
        store.close()


# How two differ


def test_a_diff_lists_added_removed_changed_and_moved_cells(
    repository: NotebookRepository,
) -> None:
    first = repository.create(new_notebook(*(code(id, id) for id in "abcd"), id="nb"))
    second = update(repository, code("d", "d"), code("a", "a"), code("b", "new"), code("e", "e"))
    changes = repository.versions.diff("nb", first.version_id or "", second)
    assert [change.to_json() for change in changes] == [
        {"cell_id": "c", "change": "removed", "before": "c"},
        {"cell_id": "d", "change": "moved", "before": "d", "after": "d"},
        {"cell_id": "b", "change": "changed", "before": "b", "after": "new"},
        {"cell_id": "e", "change": "added", "after": "e"},
    ]


def test_a_diff_recognizes_cells_with_new_ids_by_their_source(
    repository: NotebookRepository,
) -> None:
    first = repository.create(new_notebook(*(code(id, id) for id in "abc"), id="nb"))
    second = update(repository, code("x", "a"), code("y", "b"), code("z", "new"))
    assert [
        change.to_json()
        for change in repository.versions.diff("nb", first.version_id or "", second)
    ] == [
        {"cell_id": "c", "change": "removed", "before": "c"},
        {"cell_id": "z", "change": "added", "after": "new"},
    ]


def test_a_change_of_outputs_is_no_difference() -> None:
    assert diff_cells([code("a", "x", "1")], [code("a", "x", "2", count=4)]) == []


def test_a_change_of_type_is_a_difference() -> None:
    (change,) = diff_cells([code("a", "x")], [markdown("a", "x")])
    assert (change.change, change.before, change.after) == ("changed", "x", "x")


@given(_cells, _cells)
@settings(deadline=None)
def test_a_diff_accounts_for_every_cell_once(
    before: list[NotebookCell], after: list[NotebookCell]
) -> None:
    changes = diff_cells(before, after)
    old, new = {cell.id: cell for cell in before}, {cell.id: cell for cell in after}
    by_kind: dict[str, set[str]] = {
        kind: set() for kind in ("added", "removed", "changed", "moved")
    }
    for change in changes:
        by_kind[change.change].add(change.cell_id)
        assert change.before == (old[change.cell_id].source if change.cell_id in old else None)
        assert change.after == (new[change.cell_id].source if change.cell_id in new else None)
    assert sum(map(len, by_kind.values())) == len(changes)
    assert by_kind["added"] == new.keys() - old.keys()
    assert by_kind["removed"] == old.keys() - new.keys()
    assert by_kind["changed"] == {
        id for id in old.keys() & new.keys() if old[id].source != new[id].source
    }
    unmoved = (old.keys() & new.keys()) - by_kind["moved"] - by_kind["changed"]
    assert [id for id in old if id in unmoved] == [id for id in new if id in unmoved]
    if list(old) == list(new):
        assert not by_kind["moved"]
    assert diff_cells(before, before) == []
