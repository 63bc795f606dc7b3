"""Claims about provenance: what is stored of it, when, and what comes back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.archives import archive_store, load_file, read_all_documents
from support.factories import code, new_checkpoint, new_notebook, rows, saved

from jupyter_axon_notebooks.errors import NotFound, RecordDamaged
from jupyter_axon_notebooks.provenance import (
    Change,
    CheckpointDiff,
    Environment,
    ExecutedCell,
    GitState,
)
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


def executed(*sources: str) -> list[ExecutedCell]:
    return [
        ExecutedCell(
            source=source,
            execution_count=count,
            cell_id=f"c{count}",
            status=CellStatus.COMPLETED,
            executed_at=now(),
        )
        for count, source in enumerate(sources, start=1)
    ]


@pytest.fixture
def notebook(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(code("c1", "x = 1", "printed", count=1), id="nb")).id


def checkpoint(repository: NotebookRepository, provenance_id: str | None, **fields: Any) -> str:
    return repository.create_checkpoint(
        new_checkpoint("nb", provenance_id=provenance_id, **fields)
    ).id


def test_provenance_is_returned_as_it_was_stored(
    repository: NotebookRepository, notebook: str
) -> None:
    cells = [
        *executed("x = 1", "\x00 \ud83d é", "", "x = 1"),
        ExecutedCell(source="before anybody looked"),
    ]
    known = repository.provenance.get(
        checkpoint(repository, repository.provenance.add(notebook, cells, ENVIRONMENT))
    )
    assert known.executed == cells
    assert known.environment == ENVIRONMENT
    assert known.version is not None
    assert [(cell.source, cell.outputs) for cell in known.version.cells] == [("x = 1", [])]


def test_each_content_is_stored_once(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    cells = executed("a", "b", "a")
    first = repository.provenance.add(notebook, cells, ENVIRONMENT)
    count = len(store.provenance)
    assert count == 4  # two sources, the environment, the list
    assert repository.provenance.add(notebook, cells, ENVIRONMENT) == first
    assert len(store.provenance) == count
    longer = repository.provenance.add(notebook, [*cells, ExecutedCell(source="c")], ENVIRONMENT)
    assert longer != first
    assert len(store.provenance) == count + 2  # a source and a list
    repository.provenance.add(notebook, cells, Environment(python="3.12"))
    assert len(store.provenance) == count + 4  # an environment and a list
    repository.create(new_notebook(code("c"), id="other"))
    assert repository.provenance.add("other", cells, ENVIRONMENT) != first
    assert len(store.provenance) == 2 * count + 4


def test_stored_provenance_is_looked_up_once_and_not_written_again(
    repository: NotebookRepository, store: Store, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = executed("a")
    provenance_id = repository.provenance.add(notebook, cells, ENVIRONMENT)
    monkeypatch.setattr(Store, "transaction", lambda self: pytest.fail("nothing is to be written"))
    assert repository.provenance.add(notebook, cells, ENVIRONMENT) == provenance_id


def test_concurrent_writers_store_equal_provenance_once(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    cells, start = executed(*map(str, range(50))), threading.Barrier(4)

    def put(_: int) -> str:
        start.wait()
        return repository.provenance.add(notebook, cells, ENVIRONMENT)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(put, range(4)))) == 1
    assert len(store.provenance) == 52


def test_provenance_is_deleted_with_its_notebook(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    with pytest.raises(NotFound, match="notebook nowhere not found"):
        repository.provenance.add("nowhere", [], ENVIRONMENT)
    checkpoint(repository, repository.provenance.add(notebook, executed("a"), ENVIRONMENT))
    repository.delete(notebook)
    assert rows(store)["axonml_provenance"] == 0
    with pytest.raises(NotFound, match="notebook nb not found"):
        repository.provenance.add(notebook, executed("a"), ENVIRONMENT)


@pytest.mark.parametrize("of", [None, "gone", "strange", "another"])
def test_a_checkpoint_without_provenance_has_no_executed_cells(
    repository: NotebookRepository, store: Store, notebook: str, of: str | None
) -> None:
    store.provenance.insert(document("strange", {"notebook_id": "nb", "executed": ["fit()"]}))
    repository.create(new_notebook(code("c"), id="other"))
    others = repository.provenance.add("other", executed("secret"), ENVIRONMENT)
    made = checkpoint(repository, others if of == "another" else of)
    known = repository.provenance.get(made)
    assert (known.executed, known.environment, known.flags) == ([], None, [])
    assert repository.provenance.get_script(made) is None
    [cell] = repository.provenance.get_notebook(made).cells
    assert (cell.source, len(cell.outputs)) == ("x = 1", 1)


def test_damaged_provenance_is_named(
    repository: NotebookRepository, store: Store, notebook: str
) -> None:
    provenance_id = repository.provenance.add(notebook, executed("a"), ENVIRONMENT)
    made = checkpoint(repository, provenance_id)
    store.provenance.remove_ids(
        [id for id in store.provenance.ids_with_prefix("nb/") if id != provenance_id]
    )
    with pytest.raises(RecordDamaged, match=f"provenance {provenance_id} is damaged.*missing"):
        repository.provenance.get(made)


def test_missing_records_are_named(repository: NotebookRepository, notebook: str) -> None:
    made = checkpoint(repository, None)
    for ask in (
        repository.provenance.get,
        repository.provenance.get_script,
        repository.provenance.get_notebook,
        lambda other: repository.provenance.diff(made, other),
        lambda other: repository.provenance.diff(other, made),
    ):
        with pytest.raises(NotFound, match="checkpoint nowhere not found"):
            ask("nowhere")


def test_checkpoints_are_found_by_the_beginning_of_their_ids(
    repository: NotebookRepository, notebook: str
) -> None:
    for step, id in enumerate(("ab1", "ab2", "b")):
        checkpoint(repository, None, id=id, step=step)
    assert repository.checkpoints.find_ids("ab") == ["ab1", "ab2"]
    assert repository.checkpoints.find_ids("c") == []


def test_flags_compare_the_notebook_then_and_now(
    repository: NotebookRepository, notebook: str
) -> None:
    cells = [
        ExecutedCell(source="x = 1", execution_count=1, cell_id="c1", executed_at=now()),
        ExecutedCell(source="fit(x)", execution_count=2, cell_id="c2", executed_at=now()),
    ]
    made = checkpoint(repository, repository.provenance.add(notebook, cells, ENVIRONMENT))
    assert (
        repository.provenance.get(made).flags == []
    )  # what was not saved yet nobody holds against it
    repository.save(notebook, saved(code("c1", "x = 1"), code("c2", "fit(x)")))
    assert repository.provenance.get(made).flags == []
    repository.save(notebook, saved(code("c1", "x = 2"), code("c2", "fit(x)")))
    kinds = [(flag.kind.value, flag.cell_id) for flag in repository.provenance.get(made).flags]
    assert kinds == [("drifted", "c1")]


def test_checkpoints_are_compared_by_what_was_executed(
    repository: NotebookRepository, notebook: str
) -> None:
    one = checkpoint(
        repository,
        repository.provenance.add(notebook, executed("x = 1", "y = 1", "old"), ENVIRONMENT),
        metrics={"val": {"loss": 0.5}, "note": "a", "lr": 1, "gone": 1, "bad": float("nan")},
    )
    later = Environment(python="3.12", platform="Linux", packages={"numpy": "2.4", "jax": "0.9"})
    other = checkpoint(
        repository,
        repository.provenance.add(notebook, executed("x = 2", "y = 1 \n"), later),
        step=1,
        metrics={"val": {"loss": 0.75}, "note": "b", "lr": 1, "bad": float("inf")},
    )
    found = repository.provenance.diff(one, other)
    assert found.executed
    assert found.sources == [
        CellChange(cell_id="c3", change="removed", before="old"),
        CellChange(cell_id="c1", change="changed", before="x = 1", after="x = 2"),
    ]
    assert [metric.to_json() for metric in found.metrics] == [
        {"name": "val.loss", "before": 0.5, "after": 0.75, "delta": 0.25},
        {"name": "note", "before": "a", "after": "b"},
        {"name": "lr", "before": 1, "after": 1, "delta": 0.0},
        {"name": "gone", "before": 1},
        {"name": "bad", "before": "NaN", "after": "Infinity"},
    ]
    assert found.environment is not None
    assert found.environment.values == [
        Change(name="python", before="3.11.9", after="3.12"),
        Change(name="cuda", before="12.8"),
        Change(name="gpus", before="H100, H100"),
        Change(name="git commit", before="c0ffee"),
        Change(name="git branch", before="main"),
        Change(name="git dirty", before=True),
    ]
    assert found.environment.packages == [
        Change(name="jax", after="0.9"),
        Change(name="numpy", before="2.3", after="2.4"),
        Change(name="torch", before="2.9"),
    ]


def test_versions_are_compared_if_the_executed_cells_are_unknown(
    repository: NotebookRepository, notebook: str
) -> None:
    one = checkpoint(
        repository, repository.provenance.add(notebook, executed("x = 9"), ENVIRONMENT)
    )
    repository.save(notebook, saved(code("c1", "x = 2")))
    other = checkpoint(repository, None, step=1)
    assert repository.provenance.diff(one, other) == CheckpointDiff(
        before=one,
        after=other,
        sources=[CellChange(cell_id="c1", change="changed", before="x = 1", after="x = 2")],
    )


def test_cells_of_two_notebooks_are_compared_by_source(
    repository: NotebookRepository, notebook: str
) -> None:
    repository.create(new_notebook(id="other"))
    sources = ["import torch", "x = 1", "fit(x)", "import torch"]
    cells = [
        ExecutedCell(source=source, cell_id=f"a{at}", execution_count=at)
        for at, source in enumerate(sources)
    ]
    one = checkpoint(repository, repository.provenance.add("nb", cells, ENVIRONMENT))
    sources = ["import torch  \n", "x = 2", "import torch", "fit(x)"]
    cells = [
        ExecutedCell(source=source, cell_id=f"b{at}", execution_count=at)
        for at, source in enumerate(sources)
    ]
    provenance_id = repository.provenance.add("other", cells, ENVIRONMENT)
    other = repository.create_checkpoint(new_checkpoint("other", provenance_id=provenance_id)).id
    assert repository.provenance.diff(one, other).sources == [
        CellChange(cell_id="c1", change="removed", before="x = 1"),
        CellChange(cell_id="b1", change="added", after="x = 2"),
        CellChange(cell_id="b3", change="moved", before="fit(x)", after="fit(x)"),
    ]


def test_saved_cells_of_two_notebooks_are_compared_by_source(
    repository: NotebookRepository, notebook: str
) -> None:
    repository.create(new_notebook(code("d1", "import torch"), code("d2", "x = 1"), id="other"))
    one = checkpoint(repository, None)
    other = repository.create_checkpoint(new_checkpoint("other")).id
    added = CellChange(cell_id="d1", change="added", after="import torch")
    assert repository.provenance.diff(one, other).sources == [added]
    removed = CellChange(cell_id="d1", change="removed", before="import torch")
    assert repository.provenance.diff(other, one).sources == [removed]


def test_an_archive_contains_provenance(
    repository: NotebookRepository, store: Store, notebook: str, tmp_path: Path
) -> None:
    made = checkpoint(
        repository, repository.provenance.add(notebook, executed("a", "b"), ENVIRONMENT)
    )
    archive_store(store, tmp_path / "archive.zip")
    target = Store("memory://")
    assert load_file(target, tmp_path / "archive.zip").problems == []
    assert read_all_documents(target) == read_all_documents(store)
    assert NotebookRepository(target).provenance.get(made) == repository.provenance.get(made)
    target.close()
