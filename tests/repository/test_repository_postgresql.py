"""Concurrent operations on PostgreSQL are serialised where no row exists yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.engines import new_url
from support.factories import check_contents, code, create_ids, new_checkpoint, new_notebook, saved

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


def at_once(
    repositories: list[NotebookRepository], act: Callable[[NotebookRepository, int], Any]
) -> list[Any]:
    """Return the result or the error of each call."""
    start = threading.Barrier(PROCESSES)

    def one(number: int) -> Any:
        start.wait()
        try:
            return act(repositories[number], number)
        except (Conflict, NotFound) as error:
            return error

    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(one, range(PROCESSES)))


LARGE = [code(f"c{i}", "x" * 1_500_000 + str(i)) for i in range(4)]  # written ahead of the record


@pytest.mark.parametrize("cells", [[code("c", "1")], LARGE], ids=["small", "large"])
def test_one_of_several_creates_an_id(
    repositories: list[NotebookRepository], cells: list[Any]
) -> None:
    for round in range(5):
        id = f"n{round}"
        results = at_once(
            repositories, lambda r, _, made=id: r.create(new_notebook(*cells, id=made))
        )
        conflicts = [one for one in results if isinstance(one, Conflict)]
        assert len(conflicts) == PROCESSES - 1
        assert {str(one) for one in conflicts} == {f"notebook {id} exists already"}
        assert [cell.source for cell in repositories[0].find_by_id(id).cells] == [
            c.source for c in cells
        ]


def test_one_of_several_binds_a_file(repositories: list[NotebookRepository]) -> None:
    for round in range(5):
        path = f"/{round}.ipynb"
        results = at_once(
            repositories,
            lambda r, _, path=path: r.create(new_notebook(code("c"), origin="o", path=path)),
        )
        conflicts = [one for one in results if isinstance(one, Conflict)]
        assert len(conflicts) == PROCESSES - 1
        assert all(str(one).startswith(f"the file {path} belongs to notebook") for one in conflicts)


def test_the_last_binding_of_a_file_replaces_the_others(
    repositories: list[NotebookRepository],
) -> None:
    ids = [f"n{number}" for number in range(PROCESSES)]
    create_ids(repositories[0], *ids, origin="o")
    for round in range(5):
        path = f"/{round}.ipynb"
        at_once(repositories, lambda r, number, path=path: r.bindings.bind(ids[number], path))
        bound = repositories[0].bindings.list("o")
        assert len(bound) == 1
        assert bound[0].path == path


def test_a_save_during_a_deletion_leaves_nothing_behind(
    repositories: list[NotebookRepository],
) -> None:
    for round in range(5):
        id = f"n{round}"
        create_ids(repositories[0], id)

        def act(repository: NotebookRepository, number: int, id: str = id) -> Any:
            if number == 0:
                return repository.delete(id)
            if number == 1:
                return repository.create_checkpoint(
                    new_checkpoint(id, {"loss": 1}, run_id=f"r{id}")
                )
            return repository.save(id, saved(*LARGE) if number == 2 else saved(code("c", "2")))

        at_once(repositories, act)
        assert repositories[0].find_by_id(id) is None
        assert repositories[0].list_checkpoints(id) == []
        assert repositories[0].versions.list(id) == []
        assert repositories[0].runs.list(id) == []
