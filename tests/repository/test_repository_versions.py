"""Versions of notebooks: when one is created, what is stored, and their differences."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.factories import (
    check_contents,
    code,
    count_rows,
    markdown,
    new_checkpoint,
    new_notebook,
    new_save,
    read_contents,
)

from jupyter_axon_notebooks.records import (
    NotebookCell,
    NotebookMetadata,
    TrainingNotebook,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

CELLS = [markdown("m", "# t", metadata={"k": 1}), code("a", "1", "one\n", count=1), code("b", "2")]


def create(repository: NotebookRepository) -> TrainingNotebook:
    return repository.create(new_notebook(*CELLS, id="nb", metadata=NotebookMetadata(kernel="k")))


def update(repository: NotebookRepository, *cells: NotebookCell) -> str:
    return repository.update("nb", UpdateNotebook(cells=list(cells))).version_id


def list_ids(repository: NotebookRepository) -> list[str]:
    return [version.id for version in repository.versions.list("nb")]


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
def test_a_change_of_sources_or_order_creates_a_version(
    repository: NotebookRepository, cells: list[NotebookCell]
) -> None:
    first = create(repository).version_id
    second = update(repository, *cells)
    newest, oldest = repository.versions.list("nb")
    assert (newest.id, oldest.id) == (second, first)
    assert (newest.cell_count, oldest.cell_count) == (len(cells), 3)
    assert newest.created_at > oldest.created_at
    assert repository.versions.get("nb", first).cells == CELLS
    assert repository.versions.get("nb", second).cells == cells


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
    first = create(repository).version_id
    second = update(repository, CELLS[0], cell, CELLS[2])
    assert second != first
    assert list_ids(repository) == [second]
    assert repository.versions.get("nb", first) is None
    check_contents(store)


def test_the_version_of_a_checkpoint_is_not_replaced_until_it_is_deleted(
    repository: NotebookRepository, store: Store
) -> None:
    first = create(repository).version_id
    repository.create_checkpoint(new_checkpoint("nb", id="cp"))
    update(repository, CELLS[0], code("a", "1", "two\n", count=2), CELLS[2])
    third = update(repository, CELLS[0], code("a", "1", "three\n", count=3), CELLS[2])
    assert list_ids(repository) == [third, first]
    check_contents(store)
    update(repository, code("z"))
    assert repository.get_checkpoint("cp").version_id == first
    assert repository.versions.get("nb", first).cells == CELLS
    last = update(repository, *CELLS)
    repository.create_checkpoint(new_checkpoint("nb", id="deleted"))
    repository.delete_checkpoint("deleted")
    update(repository, CELLS[0], code("a", "1", "four\n"), CELLS[2])
    assert last not in list_ids(repository)


def test_an_equal_update_keeps_the_version(repository: NotebookRepository, store: Store) -> None:
    first = create(repository).version_id
    before = count_rows(store)
    assert update(repository, *CELLS) == first
    repository.update("nb", UpdateNotebook(name="n", tags=["t"], status=None, description="d"))
    repository.update_cell("nb", CELLS[1])
    assert list_ids(repository) == [first]
    assert count_rows(store) == before


def test_a_version_has_the_metadata_of_its_file(repository: NotebookRepository) -> None:
    def metadata(text: str) -> NotebookMetadata:
        return NotebookMetadata(
            tags=["t"], extra={"nbformat": {"metadata": {"widgets": text * 100_000}}, "axon": {}}
        )

    first = repository.create(new_notebook(id="nb"), new_save(*CELLS, metadata=metadata("a")))
    repository.create_checkpoint(new_checkpoint("nb"))
    second = repository.save("nb", new_save(*CELLS, metadata=metadata("b")))
    for version_id, text in ((first.version_id, "a"), (second.version_id, "b")):
        version = repository.versions.get("nb", version_id)
        assert (version.metadata, version.cells) == (metadata(text), CELLS)
    assert repository.find_by_id("nb").metadata == metadata("b")


# What is stored


def test_a_save_stores_only_the_cell_that_changed(
    repository: NotebookRepository, store: Store
) -> None:
    cells = [code(f"c{n}", f"x = {n}", f"{n}\n", count=n) for n in range(100)]
    repository.create(new_notebook(id="nb"), new_save(*cells))
    before = read_contents(store)
    assert len(before) == 200
    cells[50] = code("c50", "y = 50", "50\n", count=101)
    repository.save("nb", new_save(*cells))
    added = read_contents(store).keys() - before.keys()
    assert [read_contents(store)[id]["source"] for id in added] == ["y = 50"]


@pytest.mark.parametrize(("checkpoints", "versions"), [(0, 1), (1, 2)])
def test_growing_outputs_do_not_fill_the_store(
    repository: NotebookRepository, store: Store, checkpoints: int, versions: int
) -> None:
    repository.create(new_notebook(id="nb"), new_save(code("a", "import x"), code("b", "train()")))
    for _ in range(checkpoints):
        repository.create_checkpoint(new_checkpoint("nb"))
    log = ""
    for second in range(200):
        log += f"{second}\n"
        repository.save("nb", new_save(code("a", "import x"), code("b", "train()", log)))
    assert repository.versions.count("nb") == versions
    assert len(read_contents(store)) == 3


_cells = st.lists(
    st.builds(
        lambda cell_id, source, outputs, count: code(cell_id, source, *outputs, count=count),
        st.sampled_from("abcde"),
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
        st.tuples(st.sampled_from(["save", "save", "checkpoint", "delete"]), _cells, _metadata),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_versions_do_not_change_after_later_saves(
    steps: list[tuple[str, list[NotebookCell], Any]],
) -> None:
    with closing(Store("memory://")) as store:
        repository = NotebookRepository(store)
        first = repository.create(new_notebook(id="nb"), new_save(code("a")))
        expected = {first.version_id: first.cells}
        for step, cells, metadata in steps:
            if step == "save":
                version_id = repository.save("nb", new_save(*cells, metadata=metadata)).version_id
                expected[version_id] = cells
            elif step == "checkpoint":
                repository.create_checkpoint(new_checkpoint("nb"))
            elif (latest := repository.checkpoints.get_latest("nb")) is not None:
                repository.delete_checkpoint(latest.id)
            check_contents(store)
        for version_id in list_ids(repository):
            assert repository.versions.get("nb", version_id).cells == expected[version_id]


# Differences


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (
            [code(id, id) for id in "abcd"],
            [code("d", "d"), code("a", "a"), code("b", "new"), code("e", "e")],
            [
                {"cell_id": "c", "change": "removed", "before": "c"},
                {"cell_id": "d", "change": "moved", "before": "d", "after": "d"},
                {"cell_id": "b", "change": "changed", "before": "b", "after": "new"},
                {"cell_id": "e", "change": "added", "after": "e"},
            ],
        ),
        (  # cells with new ids are recognized by their source
            [code(id, id) for id in "abc"],
            [code("x", "a"), code("y", "b"), code("z", "new")],
            [
                {"cell_id": "c", "change": "removed", "before": "c"},
                {"cell_id": "z", "change": "added", "after": "new"},
            ],
        ),
        ([code("a", "x", "1")], [code("a", "x", "2", count=4)], []),
        (
            [code("a", "x")],
            [markdown("a", "x")],
            [{"cell_id": "a", "change": "changed", "before": "x", "after": "x"}],
        ),
    ],
    ids=["changes", "new ids", "outputs", "cell type"],
)
def test_a_diff_lists_added_removed_changed_and_moved_cells(
    repository: NotebookRepository,
    before: list[NotebookCell],
    after: list[NotebookCell],
    changes: list[dict[str, str]],
) -> None:
    repository.create(new_notebook(*before, id="nb"))
    first = repository.create_checkpoint(new_checkpoint("nb")).version_id
    diff = repository.versions.diff("nb", first, update(repository, *after))
    assert [change.to_json() for change in diff] == changes
