"""Concurrent threads on one store lose no changes, and each race has one winner.

``tests/concurrency`` does the same with processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from support.factories import code, new_checkpoint, new_notebook, new_save

from jupyter_axon_notebooks.errors import Conflict, NotFound, Stale
from jupyter_axon_notebooks.records import (
    NotebookStatus,
    NotebookSummary,
    RunStatus,
    TrainingNotebook,
    UpdateCheckpoint,
    UpdateNotebook,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

WORKERS = 4
TIMES = 8


def run_worker(repository: NotebookRepository, name: str) -> dict[str, Any]:
    """Do one worker's part of the concurrent changes; return where it succeeded."""
    won: dict[str, Any] = {"checkpoints": [], "created": [], "counted": 0}
    for n in range(TIMES):
        repository.add_cell("nb", code(f"{name}-{n}", f"{n}"))
        repository.update_cell("nb", code(name, f"{n}", f"{n}\n", count=n))
        with suppress(Conflict):
            repository.create_checkpoint(new_checkpoint("nb", {"loss": n}, epoch=n, run_id="r"))
            won["checkpoints"].append(n)
        with suppress(Conflict):
            repository.create(
                new_notebook(code("c", name), origin="o", path=f"/{n}.ipynb", user_id=name)
            )
            won["created"].append(n)
        won["counted"] += increment(repository)
    return won


def increment(repository: NotebookRepository) -> int:
    """Increment the number in the cell ``count``; return 0 if another thread was faster."""
    notebook = repository.find_by_id("nb")
    (number,) = [int(cell.source) for cell in notebook.cells if cell.id == "count"]
    try:
        repository.update_cell(
            "nb", code("count", str(number + 1)), expected_version=notebook.version_id
        )
    except Stale:
        return 0
    return 1


def run_at_once(*calls: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(len(calls))

    def wait_and_call(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


def test_concurrent_threads_lose_nothing_and_each_race_has_one_winner(
    repository: NotebookRepository,
) -> None:
    names = [f"w{n}" for n in range(WORKERS)]
    repository.create(new_notebook(code("count", "0"), *(code(name) for name in names), id="nb"))
    won = run_at_once(*(lambda name=name: run_worker(repository, name) for name in names))
    cells = {cell.id: cell for cell in repository.find_by_id("nb").cells}
    assert len(cells) == 1 + len(names) + len(names) * TIMES
    for name, worker in zip(names, won, strict=True):
        assert cells[name] == code(name, f"{TIMES - 1}", f"{TIMES - 1}\n", count=TIMES - 1)
        added = [cell.source for id, cell in cells.items() if id.startswith(f"{name}-")]
        assert added == [str(n) for n in range(TIMES)]
        paths = {summary.path for summary in repository.list_by_user(name)}
        assert paths == {f"/{n}.ipynb" for n in worker["created"]}
    assert cells["count"].source == str(sum(worker["counted"] for worker in won))
    for race in ("checkpoints", "created"):
        assert sorted(n for worker in won for n in worker[race]) == list(range(TIMES))
    assert repository.checkpoints.count("nb", run_id="r") == TIMES
    assert repository.count() == 1 + TIMES
    for checkpoint in repository.list_checkpoints("nb"):
        assert repository.versions.get("nb", checkpoint.version_id) is not None
    assert [run.id for run in repository.runs.list("nb")] == ["r"]


def test_a_reader_always_sees_a_consistent_notebook(repository: NotebookRepository) -> None:
    first = repository.create(new_notebook(id="nb"), new_save(code("a", "0", "0")))
    done = threading.Event()

    def write() -> None:
        try:
            for n in range(1, 60):
                repository.save("nb", new_save(code("a", str(n // 5), str(n))))
        finally:
            done.set()

    def read() -> None:
        previous, version_id, source = -1, first.version_id, "0"
        while not done.is_set():
            notebook = repository.find_by_id("nb")
            number = int(notebook.cells[0].outputs[0].text)
            assert number >= previous
            assert notebook.cells[0].source == str(number // 5)
            version = repository.versions.get("nb", version_id)  # None if it was replaced
            assert version is None or version.cells[0].source == source
            previous = number
            version_id, source = notebook.version_id, notebook.cells[0].source

    run_at_once(write, read, read)


def test_a_concurrent_save_and_edit_both_take_effect(repository: NotebookRepository) -> None:
    repository.create(new_notebook(id="nb"), new_save(code("a", "0")))

    def save() -> None:
        for n in range(20):
            repository.save("nb", new_save(code("a", str(n)), tags=["file"]))

    def edit() -> TrainingNotebook:
        for n in range(20):
            repository.update("nb", UpdateNotebook(description=str(n), tags=["file", f"mine{n}"]))
        return repository.update_status("nb", NotebookStatus.STOPPED)

    run_at_once(save, edit)
    notebook = repository.find_by_id("nb")
    assert (notebook.description, notebook.cells) == ("19", [code("a", "19")])
    assert notebook.metadata.tags == ["file", "mine19"]


@pytest.mark.parametrize("size", [10, 500_000])
def test_threads_that_save_the_same_file_agree(
    repository: NotebookRepository, store: Store, size: int
) -> None:
    cells = [code(f"c{n}", "x" * n, f"{n}" * size, count=n) for n in range(11)]
    repository.create(new_notebook(id="nb"), new_save(code("a")))
    summaries = run_at_once(*(lambda: repository.save("nb", new_save(*cells)) for _ in range(3)))
    assert len({summary.version_id for summary in summaries}) == 1
    assert repository.find_by_id("nb").cells == cells


def test_a_notebook_deleted_during_saves_leaves_nothing_behind(
    repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(id="nb"), new_save(code("a")))

    def save() -> None:
        with suppress(NotFound):
            for n in range(50):
                repository.save("nb", new_save(code("a", str(n))))

    run_at_once(save, save, lambda: repository.delete("nb"))
    assert store.contents.all() == store.versions.all() == []


@contextmanager
def delete_after_commit(store: Store, id: str) -> Iterator[None]:
    """Delete notebook ``id`` as another process would, right after the next commit."""
    begin, depth = store.transaction, 0
    patch = pytest.MonkeyPatch()

    @contextmanager
    def transaction() -> Iterator[Any]:
        nonlocal depth
        depth += 1
        try:
            with begin() as connection:
                yield connection
        finally:
            depth -= 1
        if depth == 0 and store.notebooks.contains(doc_id=id):
            patch.undo()
            NotebookRepository(store).delete(id)

    patch.setattr(store, "transaction", transaction)
    try:
        yield
    finally:
        patch.undo()


CHANGES: dict[str, Callable[[NotebookRepository], TrainingNotebook | NotebookSummary]] = {
    "update": lambda r: r.update("nb", UpdateNotebook(name="new", tags=["t"])),
    "update cells": lambda r: r.update("nb", UpdateNotebook(cells=[code("b", "new")])),
    "update_status": lambda r: r.update_status("nb", NotebookStatus.STOPPED),
    "update_cell": lambda r: r.update_cell("nb", code("a", "new")),
    "change_cell": lambda r: r.change_cell("nb", "a", lambda _: code("a", "new")),
    "add_cell": lambda r: r.add_cell("nb", code("b", "new")),
    "delete_cell": lambda r: r.delete_cell("nb", "a"),
    "save": lambda r: r.save("nb", new_save(code("a", "new"), code("b", "new"))),
    "bind": lambda r: r.bindings.bind("nb", "/new.ipynb"),
    "unbind": lambda r: r.bindings.unbind("nb"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_returned_even_if_the_notebook_is_deleted_right_after(
    change: str, repository: NotebookRepository, store: Store
) -> None:
    def create() -> None:
        repository.create(
            new_notebook(code("a", "old", "1"), id="nb", origin="o", path="/old.ipynb", name="old")
        )

    def without_times(record: TrainingNotebook | NotebookSummary) -> Any:
        document = record.to_json()
        for name in ("created_at", "updated_at", "synced_at", "version_id"):
            document.pop(name, None)
        document["metadata"]["extra"].pop("axon", None)
        return document

    create()
    expected = without_times(CHANGES[change](repository))
    repository.delete("nb")
    create()
    with delete_after_commit(store, "nb"):
        assert without_times(CHANGES[change](repository)) == expected
    assert repository.find_by_id("nb") is None


def test_a_new_notebook_is_returned_even_if_it_is_deleted_right_after(
    repository: NotebookRepository, store: Store
) -> None:
    with delete_after_commit(store, "nb"):
        created = repository.create(new_notebook(id="nb"), new_save(code("a"), code("b")))
    assert created.summary().cell_count == 2
    assert repository.find_summary("nb") is None


def test_the_summary_of_a_record_equals_the_stored_summary(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(id="nb"), new_save(code("a"), code("b")))
    assert created.summary() == repository.find_summary("nb")


@pytest.mark.parametrize(
    "operation",
    [
        lambda r: r.checkpoints.update("cp", UpdateCheckpoint(tags=["t"])).tags == ["t"],
        lambda r: r.checkpoints.update("cp", UpdateCheckpoint(pinned=True)).pinned,
        lambda r: r.runs.start("nb", id="s").id == "s",
        lambda r: r.runs.update_status("nb", "r", RunStatus.FAILED).status is RunStatus.FAILED,
        lambda r: r.runs.renew("nb", "r", now()).id == "r",
        lambda r: r.create_checkpoint(new_checkpoint("nb", {}, id="c")).id == "c",
    ],
    ids=["tags", "pin", "start run", "end run", "renew run", "create checkpoint"],
)
def test_runs_and_checkpoints_are_returned_even_if_the_notebook_is_deleted_right_after(
    operation: Callable[[NotebookRepository], bool], repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(id="nb"))
    repository.create_checkpoint(new_checkpoint("nb", {}, id="cp"))
    repository.runs.start("nb", id="r")
    with delete_after_commit(store, "nb"):
        assert operation(repository)
    assert repository.find_summary("nb") is None
