"""Provenance of checkpoints: storage, flags and differences."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.factories import code, count_rows, new_checkpoint, new_notebook, new_save

from jupyter_axon_notebooks.errors import NotFound, RecordDamaged
from jupyter_axon_notebooks.provenance import Change, Environment, ExecutedCell, GitState
from jupyter_axon_notebooks.records import CellChange, CellStatus, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document

ENVIRONMENT = Environment(
    python="3.11.9",
    platform="Linux",
    packages={"torch": "2.9", "numpy": "2.3"},
    git=GitState(commit="c0ffee", branch="main", dirty=True),
    gpus=["H100", "H100"],
    cuda="12.8",
)


def execute(*sources: str, prefix: str = "c") -> list[ExecutedCell]:
    return [
        ExecutedCell(
            source=source,
            execution_count=count,
            cell_id=f"{prefix}{count}",
            status=CellStatus.COMPLETED,
            executed_at=now(),
        )
        for count, source in enumerate(sources, start=1)
    ]


@pytest.fixture
def notebook(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("c1", "x = 1", "printed", count=1), id="nb")).id


def create_checkpoint(
    repository: NotebookRepository,
    executed: list[ExecutedCell] | None = None,
    environment: Environment = ENVIRONMENT,
    notebook_id: str = "nb",
    **fields: Any,
) -> str:
    """Create a checkpoint, with provenance if cells are given; return its id."""
    provenance_id = None
    if executed is not None:
        provenance_id = repository.provenance.add(notebook_id, executed, environment)
    new = new_checkpoint(notebook_id, provenance_id=provenance_id, **fields)
    return repository.create_checkpoint(new).id


def test_provenance_is_returned_as_it_was_stored(
    repository: NotebookRepository, notebook: str
) -> None:
    cells = [*execute("x = 1", "\x00 \ud83d é", "", "x = 1"), ExecutedCell(source="unidentified")]
    found = repository.provenance.get(create_checkpoint(repository, cells))
    assert (found.executed, found.environment) == (cells, ENVIRONMENT)
    assert [(cell.source, cell.outputs) for cell in found.version.cells] == [("x = 1", [])]


def test_concurrent_writers_store_equal_provenance_once(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    cells, start = execute(*map(str, range(50))), threading.Barrier(4)

    def add(_: int) -> str:
        start.wait()
        return repository.provenance.add(notebook, cells, ENVIRONMENT)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(add, range(4)))) == 1
    assert len(store.provenance) == 52


def test_provenance_is_deleted_with_its_notebook(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    create_checkpoint(repository, execute("a"))
    repository.delete(notebook)
    assert count_rows(store)["axonml_provenance"] == 0
    with pytest.raises(NotFound, match="notebook nb not found"):
        repository.provenance.add(notebook, execute("a"), ENVIRONMENT)


@pytest.mark.parametrize("provenance_id", [None, "missing", "unknown kind", "other notebook"])
def test_a_checkpoint_without_provenance_has_no_executed_cells(
    repository: NotebookRepository, store: Store, notebook: str, provenance_id: str | None
) -> None:
    fields = {"notebook_id": "nb", "executed": ["fit()"]}
    store.provenance.insert(document("unknown kind", fields))
    if provenance_id == "other notebook":
        repository.create(new_notebook(code("c"), id="other"))
        provenance_id = repository.provenance.add("other", execute("secret"), ENVIRONMENT)
    new = new_checkpoint("nb", provenance_id=provenance_id)
    checkpoint_id = repository.create_checkpoint(new).id
    found = repository.provenance.get(checkpoint_id)
    assert (found.executed, found.environment, found.flags) == ([], None, [])
    assert repository.provenance.get_script(checkpoint_id) is None
    [cell] = repository.provenance.get_notebook(checkpoint_id).cells
    assert (cell.source, len(cell.outputs)) == ("x = 1", 1)


def test_damaged_provenance_is_named(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    checkpoint_id = create_checkpoint(repository, execute("a"))
    provenance_id = repository.get_checkpoint(checkpoint_id).provenance_id
    store.provenance.remove(
        [id for id in store.provenance.ids_with_prefix("nb/") if id != provenance_id]
    )
    with pytest.raises(RecordDamaged, match=f"provenance {provenance_id} is damaged.*missing"):
        repository.provenance.get(checkpoint_id)


def test_flags_compare_the_executed_cells_with_the_saved_notebook(
    repository: NotebookRepository, notebook: str
) -> None:
    def flags() -> list[tuple[str, str | None]]:
        found = repository.provenance.get(checkpoint_id).flags
        return [(flag.kind.value, flag.cell_id) for flag in found]

    checkpoint_id = create_checkpoint(repository, execute("x = 1", "fit(x)"))
    assert flags() == []  # c2 has not been saved yet
    repository.save(notebook, new_save(code("c1", "x = 1"), code("c2", "fit(x)")))
    assert flags() == []
    repository.save(notebook, new_save(code("c1", "x = 2"), code("c2", "fit(x)")))
    assert flags() == [("drifted", "c1")]


def test_checkpoints_are_compared_by_executed_cells_metrics_and_environment(
    repository: NotebookRepository, notebook: str
) -> None:
    one = create_checkpoint(
        repository,
        execute("x = 1", "y = 1", "old"),
        metrics={"val": {"loss": 0.5}, "note": "a", "lr": 1, "gone": 1, "bad": float("nan")},
    )
    other = create_checkpoint(
        repository,
        execute("x = 2", "y = 1 \n"),
        Environment(python="3.12", platform="Linux", packages={"numpy": "2.4", "jax": "0.9"}),
        step=1,
        metrics={"val": {"loss": 0.75}, "note": "b", "lr": 1, "bad": float("inf")},
    )
    diff = repository.provenance.diff(one, other)
    assert diff.executed
    assert diff.sources == [
        CellChange(cell_id="c3", change="removed", before="old"),
        CellChange(cell_id="c1", change="changed", before="x = 1", after="x = 2"),
    ]
    assert [metric.to_json() for metric in diff.metrics] == [
        {"name": "val.loss", "before": 0.5, "after": 0.75, "delta": 0.25},
        {"name": "note", "before": "a", "after": "b"},
        {"name": "lr", "before": 1, "after": 1, "delta": 0.0},
        {"name": "gone", "before": 1},
        {"name": "bad", "before": "NaN", "after": "Infinity"},
    ]
    assert diff.environment.values == [
        Change(name="python", before="3.11.9", after="3.12"),
        Change(name="cuda", before="12.8"),
        Change(name="gpus", before="H100, H100"),
        Change(name="git commit", before="c0ffee"),
        Change(name="git branch", before="main"),
        Change(name="git dirty", before=True),
    ]
    assert diff.environment.packages == [
        Change(name="jax", after="0.9"),
        Change(name="numpy", before="2.3", after="2.4"),
        Change(name="torch", before="2.9"),
    ]


def test_executed_cells_of_two_notebooks_are_compared_by_source(
    repository: NotebookRepository, notebook: str
) -> None:
    repository.create(new_notebook(id="other"))
    cells = execute("import torch", "x = 1", "fit(x)", "import torch", prefix="a")
    one = create_checkpoint(repository, cells)
    cells = execute("import torch  \n", "x = 2", "import torch", "fit(x)", prefix="b")
    other = create_checkpoint(repository, cells, notebook_id="other")
    assert repository.provenance.diff(one, other).sources == [
        CellChange(cell_id="c1", change="removed", before="x = 1"),
        CellChange(cell_id="b2", change="added", after="x = 2"),
        CellChange(cell_id="b4", change="moved", before="fit(x)", after="fit(x)"),
    ]
