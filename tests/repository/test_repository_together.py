"""Several threads at once on one store: nobody's change is lost, and a race has one winner.

For processes, ``tests/together`` does the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from support.factories import code, new_checkpoint, new_notebook, saved

from jupyter_axon_notebooks.errors import Conflict, Stale
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


def work(repository: NotebookRepository, name: str) -> dict[str, Any]:
    """One worker's share of what all do at once; what it won."""
    won: dict[str, Any] = {"checkpoints": [], "created": [], "counted": 0}
    for n in range(TIMES):
        repository.add_cell("nb", code(f"{name}-{n}", f"{n}"))
        repository.update_cell("nb", code(name, f"{n}", f"{n}\n", count=n))
        try:
            repository.create_checkpoint(new_checkpoint("nb", {"loss": n}, epoch=n, run_id="r"))
            won["checkpoints"].append(n)
        except Conflict:
            pass
        try:
            repository.create(
                new_notebook(code("c", name), origin="o", path=f"/{n}.ipynb", user_id=name)
            )
            won["created"].append(n)
        except Conflict:
            pass
        won["counted"] += count_one(repository)
    return won


def count_one(repository: NotebookRepository) -> int:
    """Raise the number in the cell ``count`` by one; 0 if someone else was quicker."""
    notebook = repository.find_by_id("nb")
    assert notebook is not None
    (number,) = [int(cell.source) for cell in notebook.cells if cell.id == "count"]
    try:
        repository.update_cell(
            "nb", code("count", str(number + 1)), expected_version=notebook.version_id
        )
    except Stale:
        return 0
    return 1


def prepare(repository: NotebookRepository) -> list[str]:
    names = [f"w{n}" for n in range(WORKERS)]
    repository.create(new_notebook(code("count", "0"), *(code(name) for name in names), id="nb"))
    return names


def check(repository: NotebookRepository, names: list[str], won: list[dict[str, Any]]) -> None:
    notebook = repository.find_by_id("nb")
    assert notebook is not None
    cells = {cell.id: cell for cell in notebook.cells}
    assert len(cells) == 1 + len(names) + len(names) * TIMES
    for name in names:
        assert cells[name] == code(name, f"{TIMES - 1}", f"{TIMES - 1}\n", count=TIMES - 1)
        added = [cell.source for cell in notebook.cells if cell.id.startswith(f"{name}-")]
        assert added == [str(n) for n in range(TIMES)]
    assert cells["count"].source == str(sum(one["counted"] for one in won))
    assert sorted(n for one in won for n in one["checkpoints"]) == list(range(TIMES))
    assert sorted(n for one in won for n in one["created"]) == list(range(TIMES))
    assert repository.checkpoints.count("nb", run_id="r") == TIMES
    assert repository.count() == 1 + TIMES
    for name, one in zip(names, won, strict=True):
        assert {found.path for found in repository.list_by_user(name)} == {
            f"/{n}.ipynb" for n in one["created"]
        }
    for checkpoint in repository.list_checkpoints("nb"):
        assert repository.versions.get("nb", checkpoint.version_id or "") is not None
    assert repository.runs.list("nb") == [repository.runs.get("nb", "r")]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(len(calls))

    def started(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(started, calls))


def test_concurrent_threads_lose_nothing_and_each_race_has_one_winner(
    repository: NotebookRepository,
) -> None:
    names = prepare(repository)
    won = at_once(*(lambda name=name: work(repository, name) for name in names))
    check(repository, names, won)


def test_a_reader_always_sees_a_consistent_notebook(repository: NotebookRepository) -> None:
    first = repository.create(new_notebook(id="nb"), saved(code("a", "0", "0")))
    done = threading.Event()

    def write() -> None:
        try:
            for n in range(1, 60):
                repository.save("nb", saved(code("a", str(n // 5), str(n))))
        finally:
            done.set()

    def read() -> None:
        seen = -1
        version_id, source = first.version_id or "", "0"
        while not done.is_set():
            notebook = repository.find_by_id("nb")
            assert notebook is not None
            number = int(notebook.cells[0].outputs[0].text or "")
            assert number >= seen
            assert notebook.cells[0].source == str(number // 5)
            seen = number
            version = repository.versions.get("nb", version_id)
            assert (
                version is None or version.cells[0].source == source
            )  # replaced meanwhile, or as it was
            version_id, source = notebook.version_id or "", notebook.cells[0].source

    at_once(write, read, read)


def test_a_concurrent_save_and_edit_both_take_effect(repository: NotebookRepository) -> None:
    repository.create(new_notebook(id="nb"), saved(code("a", "0")))

    def save() -> None:
        for n in range(20):
            repository.save("nb", saved(code("a", str(n)), tags=["file"]))

    def edit() -> TrainingNotebook:
        for n in range(20):
            repository.update("nb", UpdateNotebook(description=str(n), tags=["file", f"mine{n}"]))
        return repository.update_status("nb", NotebookStatus.STOPPED)

    at_once(save, edit)
    notebook = repository.find_by_id("nb")
    assert notebook is not None
    assert (notebook.description, notebook.cells) == ("19", [code("a", "19")])
    assert notebook.metadata.tags == ["file", "mine19"]


@pytest.mark.parametrize("size", [10, 500_000])
def test_threads_that_save_the_same_file_agree(
    repository: NotebookRepository, store: Store, size: int
) -> None:
    cells = [code(f"c{n}", "x" * n, f"{n}" * size, count=n) for n in range(11)]
    repository.create(new_notebook(id="nb"), saved(code("a")))
    summaries = at_once(*(lambda: repository.save("nb", saved(*cells)) for _ in range(3)))
    assert len({summary.version_id for summary in summaries}) == 1
    notebook = repository.find_by_id("nb")
    assert notebook is not None
    assert notebook.cells == cells


def test_a_notebook_that_is_deleted_while_it_is_saved_leaves_nothing(
    repository: NotebookRepository, store: Store
) -> None:
    from jupyter_axon_notebooks.errors import NotFound

    repository.create(new_notebook(id="nb"), saved(code("a")))

    def save() -> None:
        for n in range(50):
            try:
                repository.save("nb", saved(code("a", str(n))))
            except NotFound:
                return

    at_once(save, save, lambda: repository.delete("nb"))
    assert store.contents.all() == store.versions.all() == []


def deleting_after_commit(store: Store, id: str) -> AbstractContextManager[None]:
    """Somebody else deletes notebook ``id`` as soon as the next unit of work is committed."""
    begin, depth = store.transaction, 0

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
            patched.undo()
            NotebookRepository(store).delete(id)

    @contextmanager
    def patching() -> Iterator[None]:
        patched.setattr(store, "transaction", transaction)
        yield
        patched.undo()

    patched = pytest.MonkeyPatch()
    return patching()


CHANGES: dict[str, Callable[[NotebookRepository], TrainingNotebook | NotebookSummary]] = {
    "update": lambda repository: repository.update("nb", UpdateNotebook(name="new", tags=["t"])),
    "update cells": lambda repository: repository.update(
        "nb", UpdateNotebook(cells=[code("b", "new")])
    ),
    "update_status": lambda repository: repository.update_status("nb", NotebookStatus.STOPPED),
    "update_cell": lambda repository: repository.update_cell("nb", code("a", "new")),
    "change_cell": lambda repository: repository.change_cell("nb", "a", lambda _: code("a", "new")),
    "add_cell": lambda repository: repository.add_cell("nb", code("b", "new")),
    "delete_cell": lambda repository: repository.delete_cell("nb", "a"),
    "save": lambda repository: repository.save("nb", saved(code("a", "new"), code("b", "new"))),
    "bind": lambda repository: repository.bindings.bind("nb", "/new.ipynb"),
    "release": lambda repository: repository.bindings.unbind("nb"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_returned_even_if_the_record_is_deleted_right_after(
    change: str, repository: NotebookRepository, store: Store
) -> None:
    def new() -> None:
        repository.create(
            new_notebook(code("a", "old", "1"), id="nb", origin="o", path="/old.ipynb", name="old")
        )

    def told(changed: TrainingNotebook | NotebookSummary) -> Any:
        shown = changed.to_json()
        for name in ("created_at", "updated_at", "synced_at", "version_id"):
            shown.pop(name, None)
        shown["metadata"]["extra"].pop("axon", None)  # has times
        return shown

    new()
    expected = told(CHANGES[change](repository))
    repository.delete("nb")
    new()
    with deleting_after_commit(store, "nb"):
        assert told(CHANGES[change](repository)) == expected
    assert repository.find_by_id("nb") is None


def test_a_new_record_is_returned_even_if_it_is_deleted_right_after(
    repository: NotebookRepository, store: Store
) -> None:
    with deleting_after_commit(store, "nb"):
        created = repository.create(new_notebook(id="nb"), saved(code("a"), code("b")))
    assert created.summary().cell_count == 2
    assert repository.find_summary("nb") is None


def test_the_summary_of_a_record_equals_the_stored_summary(repository: NotebookRepository) -> None:
    created = repository.create(new_notebook(id="nb"), saved(code("a"), code("b")))
    assert created.summary() == repository.find_summary("nb")


@pytest.mark.parametrize("label", ["tags", "pin", "unpin"])
def test_labels_are_returned_even_if_the_notebook_is_deleted_right_after(
    label: str, repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(id="nb"))
    made = repository.create_checkpoint(new_checkpoint("nb", {}, pinned=label == "unpin"))
    change = (
        UpdateCheckpoint(tags=["t"]) if label == "tags" else UpdateCheckpoint(pinned=label == "pin")
    )
    with deleting_after_commit(store, "nb"):
        changed = repository.checkpoints.update(made.id, change)
    assert (changed.tags == ["t"], changed.pinned) == (label == "tags", label == "pin")
    assert repository.get_checkpoint(made.id) is None


@pytest.mark.parametrize(
    "work", ["create_run", "update_run_status", "renew_run", "create_checkpoint"]
)
def test_runs_and_checkpoints_are_returned_even_if_the_notebook_is_deleted_right_after(
    work: str, repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(id="nb"))
    run = repository.runs.start("nb", id="r")
    works: dict[str, Callable[[], Any]] = {
        "create_run": lambda: repository.runs.start("nb", id="s").id,
        "update_run_status": lambda: (
            repository.runs.update_status("nb", run.id, RunStatus.FAILED).id
        ),
        "renew_run": lambda: repository.runs.renew("nb", run.id, now()).id,
        "create_checkpoint": lambda: (
            repository.create_checkpoint(new_checkpoint("nb", {}, id="c")).id
        ),
    }
    with deleting_after_commit(store, "nb"):
        assert works[work]() == {"create_run": "s", "create_checkpoint": "c"}.get(work, "r")
    assert repository.find_summary("nb") is None
