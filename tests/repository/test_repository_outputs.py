"""Outputs, which may be large, are read only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace
from store.conftest import record_statements
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
def record_reads(store: Store) -> Iterator[set[str]]:
    """Collect the ids of the outputs that are read from the database."""
    outputs = {
        f"{version['notebook_id']}/{cell[2]}"
        for version in store.versions.all()
        for cell in version["cells"]
        if cell[2]
    }
    read: set[str] = set()
    with record_statements(store) as statements:
        yield read
    for statement, parameters in statements:
        if "axonml_contents" in statement:
            values = parameters.values() if isinstance(parameters, dict) else parameters
            read.update(outputs.intersection(map(str, values)))


def read_statuses(repository: NotebookRepository, *, outputs: bool) -> dict[str, CellStatus]:
    cells = repository.find_by_id("nb", outputs=outputs).cells
    return {cell.id: cell.status for cell in cells}


def test_a_notebook_can_be_read_without_outputs(
    repository: NotebookRepository, store: Store
) -> None:
    created = repository.create(new_notebook(*CELLS, id="nb"))
    expected = replace(created, cells=[replace(cell, outputs=[]) for cell in created.cells])
    with record_reads(store) as read:
        assert repository.find_by_id("nb", outputs=False) == expected
    assert read == set()
    with record_reads(store) as read:
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
    ],
)
def test_statuses_are_known_without_outputs_after_an_edit(
    repository: NotebookRepository, store: Store, edit: Callable[[NotebookRepository], object]
) -> None:
    repository.create(new_notebook(*CELLS, id="nb"))
    edit(repository)
    with record_reads(store) as read:
        without_outputs = read_statuses(repository, outputs=False)
    assert read == set()
    assert without_outputs == read_statuses(repository, outputs=True)


def test_statuses_of_older_versions_are_derived_from_outputs(
    repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(*CELLS, id="nb"))
    [version] = store.versions.all()
    older = {name: value for name, value in version.items() if name != "failed"}
    store.versions.replace(Document(older, version.doc_id))
    assert read_statuses(repository, outputs=False) == read_statuses(repository, outputs=True)
    repository.add_cell("nb", code("new", "3"))
    assert read_statuses(repository, outputs=False) == read_statuses(repository, outputs=True)


def test_operations_on_sources_read_no_outputs(
    repository: NotebookRepository, store: Store
) -> None:
    before = repository.create(new_notebook(*CELLS, id="nb")).version_id
    checkpoint = repository.create_checkpoint(new_checkpoint("nb"))
    after = repository.update_cell("nb", code("idle", "3")).version_id
    with record_reads(store) as read:
        diff = repository.versions.diff("nb", before, after)
        repository.find_summary("nb")
        repository.list_by_user("ada")
        repository.versions.list("nb")
        repository.provenance.get(checkpoint.id)
        repository.provenance.diff(checkpoint.id, checkpoint.id)
    assert [change.cell_id for change in diff] == ["idle"]
    assert read == set()
