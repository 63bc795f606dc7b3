"""Outputs, which may be large, are read only for who is shown them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from support.factories import code, markdown, new_checkpoint, new_notebook

from jupyter_axon_notebooks.records import CellOutput, CellStatus, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document, Store

FAILED = NotebookCell(
    id="failed",
    status=CellStatus.ERROR,
    source="1 / 0",
    execution_count=3,
    outputs=[
        CellOutput(output_type="stream", name="stdout", text="so far\n"),
        CellOutput(
            output_type="error", error_name="ZeroDivisionError", error_value="", traceback=[]
        ),
    ],
)
CELLS = [
    markdown("m", "# t"),
    code("printed", "print(1)", "1\n", count=1),
    FAILED,
    code("idle", "2"),
]


@contextmanager
def outputs_read(store: Store) -> Iterator[set[str]]:
    """The ids of the outputs, of any version, that are asked of the engine inside."""
    listed = {
        f"{version['notebook_id']}/{cell[2]}"
        for version in store.versions.all()
        for cell in version["cells"]
        if cell[2]
    }
    read: set[str] = set()
    engine = store._database.engine

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "axonml_contents" in statement:
            given = parameters.values() if isinstance(parameters, dict) else parameters
            read.update(listed.intersection(map(str, given)))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield read
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def statuses(repository: NotebookRepository, *, outputs: bool) -> dict[str, CellStatus]:
    found = repository.find_by_id("nb", outputs=outputs)
    assert found is not None
    return {cell.id: cell.status for cell in found.cells}


def test_a_record_is_read_without_its_outputs(repository: NotebookRepository, store: Store) -> None:
    repository.create(new_notebook(*CELLS, id="nb"))
    whole = repository.find_by_id("nb")
    with outputs_read(store) as read:
        bare = repository.find_by_id("nb", outputs=False)
    assert read == set()
    assert whole is not None
    assert bare is not None
    assert [cell.outputs for cell in bare.cells] == [[]] * 4
    for cell, other in zip(whole.cells, bare.cells, strict=True):
        cell.outputs = other.outputs
    assert bare == whole
    assert statuses(repository, outputs=False)["failed"] is CellStatus.ERROR
    with outputs_read(store) as read:
        repository.find_by_id("nb")
    assert len(read) == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda repository: repository.update("nb", UpdateNotebook(cells=[FAILED, *CELLS[:2]])),
        lambda repository: repository.update_cell("nb", code("failed", "1 / 1", "1\n", count=4)),
        lambda repository: repository.update_cell(
            "nb", code("printed", "print(2)", "2\n", count=4)
        ),
        lambda repository: repository.delete_cell("nb", "failed"),
        lambda repository: repository.add_cell("nb", code("new", "3")),
        lambda repository: repository.change_cell("nb", "idle", lambda _: FAILED),
        lambda repository: repository.change_cell("nb", "failed", lambda _: code("failed", "2")),
    ],
)
def test_statuses_are_known_without_outputs_after_an_edit(
    repository: NotebookRepository, store: Store, edit: Callable[[NotebookRepository], object]
) -> None:
    repository.create(new_notebook(*CELLS, id="nb"))
    edit(repository)
    with outputs_read(store) as read:
        bare = statuses(repository, outputs=False)
    assert read == set()
    assert bare == statuses(repository, outputs=True)


def test_statuses_of_older_versions_are_derived_from_outputs(
    repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(*CELLS, id="nb"))
    [version] = store.versions.all()
    older = {name: value for name, value in version.items() if name != "failed"}
    store.versions.replace(Document(older, version.doc_id))
    assert statuses(repository, outputs=False) == statuses(repository, outputs=True)
    repository.add_cell("nb", code("new", "3"))
    assert statuses(repository, outputs=False) == statuses(repository, outputs=True)


def test_operations_on_sources_read_no_outputs(
    repository: NotebookRepository, store: Store
) -> None:
    before = repository.create(new_notebook(*CELLS, id="nb")).version_id or ""
    checkpoint = repository.create_checkpoint(new_checkpoint("nb"))
    after = repository.update_cell("nb", code("idle", "3")).version_id or ""
    with outputs_read(store) as read:
        assert [change.cell_id for change in repository.versions.diff("nb", before, after)] == [
            "idle"
        ]
        repository.find_summary("nb")
        repository.list_by_user("ada")
        repository.versions.list("nb")
        repository.provenance.get(checkpoint.id)
        repository.provenance.diff(checkpoint.id, checkpoint.id)
    assert read == set()
