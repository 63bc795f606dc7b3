"""Concurrent operations on PostgreSQL are serialised where no row exists yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.engines import new_url
from support.factories import (
    check_contents,
    code,
    create_notebooks,
    new_checkpoint,
    new_notebook,
    new_save,
)

from jupyter_axon_notebooks.errors import Conflict, NotFound
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

PROCESSES = 4


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[list[NotebookRepository]]:
    """Repositories with connections of their own, as in several processes."""
    url = new_url("postgresql", tmp_path, empty=False)
    stores = [Store(url) for _ in range(PROCESSES)]
    yield [NotebookRepository(store) for store in stores]
    check_contents(stores[0])
    for store in stores:
        store.close()


def run_at_once(
    repositories: list[NotebookRepository], operation: Callable[[NotebookRepository, int], Any]
) -> list[Any]:
    """Return the result or the error of each call."""
    start = threading.Barrier(PROCESSES)

    def run(number: int) -> Any:
        start.wait()
        try:
            return operation(repositories[number], number)
        except (Conflict, NotFound) as error:
            return error

    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(run, range(PROCESSES)))


#: Cells whose contents are staged before the version.
LARGE = [code(f"c{i}", "x" * 1_500_000 + str(i)) for i in range(4)]


@pytest.mark.parametrize("cells", [[code("c", "1")], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("attempt", range(5))
def test_only_one_process_creates_an_id(
    repositories: list[NotebookRepository], cells: list[Any], attempt: int
) -> None:
    results = run_at_once(repositories, lambda r, _: r.create(new_notebook(*cells, id="nb")))
    conflicts = [result for result in results if isinstance(result, Conflict)]
    assert len(conflicts) == PROCESSES - 1
    assert {str(conflict) for conflict in conflicts} == {"notebook nb exists already"}
    assert repositories[0].find_by_id("nb").cells == cells


@pytest.mark.parametrize("attempt", range(5))
def test_only_one_process_binds_a_file(
    repositories: list[NotebookRepository], attempt: int
) -> None:
    new = {"origin": "o", "path": "/nb.ipynb"}
    results = run_at_once(repositories, lambda r, _: r.create(new_notebook(code("c"), **new)))
    conflicts = [str(result) for result in results if isinstance(result, Conflict)]
    assert len(conflicts) == PROCESSES - 1
    message = "the file /nb.ipynb belongs to notebook"
    assert all(conflict.startswith(message) for conflict in conflicts)


@pytest.mark.parametrize("attempt", range(5))
def test_the_last_binding_of_a_file_replaces_the_others(
    repositories: list[NotebookRepository], attempt: int
) -> None:
    ids = [f"n{number}" for number in range(PROCESSES)]
    create_notebooks(repositories[0], *ids, origin="o")
    run_at_once(repositories, lambda r, number: r.bindings.bind(ids[number], "/nb.ipynb"))
    assert [bound.path for bound in repositories[0].bindings.list("o")] == ["/nb.ipynb"]


@pytest.mark.parametrize("attempt", range(5))
def test_a_save_during_a_deletion_leaves_nothing_behind(
    repositories: list[NotebookRepository], attempt: int
) -> None:
    create_notebooks(repositories[0], "nb")
    operations: list[Callable[[NotebookRepository], Any]] = [
        lambda r: r.delete("nb"),
        lambda r: r.create_checkpoint(new_checkpoint("nb", {"loss": 1}, run_id="r")),
        lambda r: r.save("nb", new_save(*LARGE)),
        lambda r: r.save("nb", new_save(code("c", "2"))),
    ]
    run_at_once(repositories, lambda r, number: operations[number](r))
    first = repositories[0]
    assert first.find_by_id("nb") is None
    for subject in (first.checkpoints, first.versions, first.runs):
        assert subject.list("nb") == []
