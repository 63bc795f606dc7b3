"""What is written together is there together, whoever else reads or writes."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tinydb import where

from jupyter_axon_notebooks.errors import Conflict, StoreBusy, StoreError
from jupyter_axon_notebooks.store import Document, Store

from .conftest import FORKING, Script, finished


def run(id: str, **fields: Any) -> Document:
    return Document({"id": id, "notebook_id": "n", **fields}, id)


def ids(store: Store) -> list[Any]:
    return [d.doc_id for d in store.runs]


def in_thread(action: Callable[[], Any]) -> Any:
    """What ``action`` gives in another thread; what it raises is raised here."""
    outcome: dict[str, Any] = {}

    def act() -> None:
        try:
            outcome["result"] = action()
        except BaseException as error:  # noqa: BLE001 - carried over
            outcome["error"] = error

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def test_nested_transactions_are_one(file_store: Store) -> None:
    with file_store.transaction() as outer:
        file_store.runs.insert(run("a"))
        with file_store.transaction() as inner:
            assert inner is outer
            file_store.runs.insert(run("b"))
        assert ids(file_store) == ["a", "b"]
        assert in_thread(lambda: ids(file_store)) == []
    assert in_thread(lambda: ids(file_store)) == ["a", "b"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_rolls_everything_back(store: Store, error: type[BaseException]) -> None:
    store.runs.insert(run("before", v=1))
    with pytest.raises(error), store.transaction():
        store.runs.insert(run("a"))
        store.checkpoints.insert({"notebook_id": "n", "metrics": {"loss": 1}, "created_at": "2026"})
        store.runs.update({"v": 2}, doc_ids=["before"])
        raise error
    assert store.runs.all() == [run("before", v=1)]
    assert store.checkpoints.all() == store.best("n", "loss", minimize=True) == []
    store.runs.insert(run("after"))
    assert ids(store) == ["before", "after"]


def test_an_inner_failure_that_wrote_dooms_the_outer(store: Store) -> None:
    with pytest.raises(StoreError, match="a part of this transaction failed"), store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.runs.insert(run("b"))
            _ = 1 / 0
        store.runs.insert(run("c"))
    assert ids(store) == []


def test_an_inner_failure_that_wrote_nothing_leaves_the_outer_usable(store: Store) -> None:
    def explode(_document: Any) -> None:
        raise ZeroDivisionError

    with store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(ZeroDivisionError):
            store.runs.update(explode, doc_ids=["a"])
        with pytest.raises(ValueError, match="already exists"):
            store.runs.insert(run("a"))
        with pytest.raises(TypeError):
            store.runs.update({"v": object()}, doc_ids=["a"])
        with pytest.raises(ZeroDivisionError), store.transaction():
            _ = 1 / 0
    assert store.runs.all() == [run("a")]


def test_what_is_unique_is_a_conflict_where_it_happens_and_rolls_back(store: Store) -> None:
    def checkpoint(id: str, **fields: Any) -> Document:
        return Document({"notebook_id": "n", "run_id": "r", "epoch": 1, "step": 2, **fields}, id)

    store.checkpoints.insert(checkpoint("a"))
    with pytest.raises(Conflict, match=r"axonml_checkpoints\.notebook_id.*exists already"):
        store.checkpoints.insert_multiple(
            [checkpoint("b", step=3), checkpoint("c", metrics={"loss": 1})]
        )
    with pytest.raises(Conflict):
        store.checkpoints.upsert(checkpoint("d"))
    with pytest.raises(StoreError, match="a part of this transaction failed"), store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(Conflict):
            store.checkpoints.insert(checkpoint("c"))
    assert [d.doc_id for d in store.checkpoints] == ["a"]
    assert ids(store) == []
    # Unique binds only what has all its fields.
    del (loose := checkpoint("e"))["run_id"]
    store.checkpoints.insert(loose)
    store.checkpoints.insert(Document(loose, "f"))
    # Two that swap places clash on the way, as in any database.
    store.checkpoints.update({"step": 4}, doc_ids=["a"])
    assert store.checkpoints.count(where("step") == 4) == 1


def test_a_document_that_was_replaced_is_found_by_what_it_says_now(store: Store) -> None:
    store.runs.insert_new(run("a", status="running"), run("b", status="running"))
    with store.transaction():
        assert store.runs.locked("a") is not None
        store.runs.replace(run("a", status="completed"))
    assert store.runs.search(where("status") == "completed") == [run("a", status="completed")]
    assert store.runs.search(where("status") == "running") == [run("b", status="running")]


def test_discarding_takes_what_is_there(store: Store) -> None:
    store.runs.insert_new(run("a"), run("b"), run("c"))
    store.runs.discard(["a", "nowhere", "c"])
    assert ids(store) == ["b"]


def test_an_error_of_the_user_passes_as_it_is(store: Store) -> None:
    # Even one that another database raised: it says nothing about this store.
    for block in (store.transaction, store.snapshot):
        with pytest.raises(sqlite3.OperationalError, match="no such table"), block():
            other = sqlite3.connect(":memory:")
            try:
                other.execute("SELECT * FROM nowhere")
            finally:
                other.close()


def test_a_write_in_a_snapshot_is_refused(store: Store) -> None:
    with store.snapshot():
        with pytest.raises(StoreError, match="a snapshot is read-only"):
            store.runs.insert(run("a"))
        with pytest.raises(StoreError, match="a snapshot is read-only"), store.transaction():
            pass
        assert ids(store) == []
    store.runs.insert(run("a"))
    assert ids(store) == ["a"]


def test_a_snapshot_in_a_transaction_sees_what_it_wrote(store: Store) -> None:
    with store.transaction():
        store.runs.insert(run("a"))
        with store.snapshot():
            assert ids(store) == ["a"]
        store.runs.insert(run("b"))
    assert ids(store) == ["a", "b"]


def test_a_snapshot_sees_one_moment_while_others_write(file_store: Store) -> None:
    file_store.runs.insert(run("a"))
    with file_store.snapshot():
        assert ids(file_store) == ["a"]
        in_thread(lambda: file_store.runs.insert(run("b")))
        in_thread(lambda: file_store.runs.remove(doc_ids=["a"]))
        assert ids(file_store) == ["a"]
        assert file_store.runs.get(doc_id="b") is None
    assert ids(file_store) == ["b"]


def test_readers_go_on_while_another_process_writes(
    file_store: Store, file_url: str, process: Script
) -> None:
    file_store.runs.insert(run("a"))
    script = """
import sys
from jupyter_axon_notebooks.store import open_store
store = open_store(sys.argv[1])
with store.transaction():
    store.runs.update({"v": 1}, doc_ids=["a"])
    print("written", flush=True)
    sys.stdin.readline()
store.close()
"""
    with process(script, file_url) as other:
        assert other.stdout.readline() == "written\n"
        assert file_store.runs.all() == [run("a")]
        finished(other)
    assert file_store.runs.all() == [run("a", v=1)]


def test_threads_never_lose_each_others_change(store: Store) -> None:
    store.runs.insert(run("counter", n=0))
    failed: list[BaseException] = []

    def count() -> None:
        try:
            for _ in range(25):
                with store.transaction():
                    found = store.runs.locked("counter")
                    store.runs.update({"n": found["n"] + 1}, doc_ids=["counter"])
                assert store.runs.search(where("notebook_id") == "n")
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.runs.get(doc_id="counter")["n"] == 200


def test_two_upserts_at_once_insert_one(store: Store) -> None:
    start = threading.Barrier(4)

    def upsert() -> None:
        start.wait()
        store.runs.upsert({"v": 1}, where("notebook_id") == "n")
        store.runs.upsert({"notebook_id": "n"}, where("notebook_id") == "n")

    threads = [threading.Thread(target=upsert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.runs.count(where("notebook_id") == "n") == 1


@pytest.mark.parametrize("engine", ["sqlite", "memory"])
def test_a_thread_waits_for_another_only_so_long(engine: str, file_url: str) -> None:
    store = Store(file_url if engine == "sqlite" else "memory://", busy_timeout=0.05)
    with (
        store.transaction(),
        pytest.raises(
            StoreBusy, match=r"is locked by other threads of this process .waited 0\.05 s"
        ),
    ):
        in_thread(lambda: store.runs.insert(run("a")))
    in_thread(lambda: store.runs.insert(run("a")))
    store.close()


def test_a_fork_leaves_two_that_both_go_on_writing(
    file_store: Store, file_url: str, process: Script
) -> None:
    # The parent closes while the child still writes: it must not take itself for the last.
    script = (
        FORKING
        + """
store = open_store(sys.argv[1])
insert(store, "before")
ready, closed = os.pipe(), os.pipe()

def child():
    insert(store, "child 1")
    os.write(ready[1], b"x")
    os.read(closed[0], 1)
    insert(store, "child 2")
    store.close()

forked = in_child(child)
os.read(ready[0], 1)
insert(store, "parent")
store.close()
os.write(closed[1], b"x")
assert os.waitpid(forked, 0)[1] == 0
insert(store, "after")
store.close()
"""
    )
    file_store.close()
    with process(script, file_url) as other:
        finished(other)
    assert sorted(ids(file_store)) == ["after", "before", "child 1", "child 2", "parent"]


def test_a_fork_while_another_thread_writes_harms_neither(file_url: str, process: Script) -> None:
    script = (
        FORKING
        + """
import threading
store = open_store(sys.argv[1])
stop = threading.Event()
written = []

def write():
    while not stop.is_set():
        insert(store, f"thread {len(written)}")
        written.append(1)

thread = threading.Thread(target=write, daemon=True)
thread.start()
for number in range(5):
    forked = in_child(lambda: insert(store, f"child {number}"))
    insert(store, f"parent {number}")
    assert os.waitpid(forked, 0)[1] == 0
stop.set()
thread.join()
print(len(written) + 10)
store.close()
"""
    )
    with process(script, file_url) as other:
        (expected,) = finished(other)
    store = Store(file_url)
    assert len(store.runs) == int(expected)
    store.close()


def test_a_child_forked_in_a_transaction_is_told_and_harms_nothing(
    file_store: Store, file_url: str, process: Script
) -> None:
    script = (
        FORKING
        + """
store = open_store(sys.argv[1])

def child():
    for attempt in (lambda: insert(store, "x"), lambda: len(store.runs), lambda: store.snapshot().__enter__()):
        try:
            attempt()
        except Exception as error:
            print(type(error).__name__, flush=True)

with store.transaction():
    insert(store, "before")
    assert os.waitpid(in_child(child), 0)[1] == 0
    insert(store, "after")

def leave():
    with store.transaction():
        insert(store, "parent's")
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    return child

try:
    if leave() == 0:
        os._exit(1)
except Exception as error:
    print(type(error).__name__, flush=True)
    os._exit(0)
store.close()
"""
    )
    with process(script, file_url) as other:
        assert finished(other) == ["StoreError"] * 4
    assert ids(file_store) == ["before", "after", "parent's"]


def test_a_forked_child_has_its_own_copy_of_a_store_in_memory(process: Script) -> None:
    script = (
        FORKING
        + """
store = open_store("memory://")
insert(store, "before")
forked = in_child(lambda: (insert(store, "child"), print(len(store.runs), flush=True)))
assert os.waitpid(forked, 0)[1] == 0
print(len(store.runs))
store.close()
"""
    )
    with process(script) as other:
        assert finished(other) == ["2", "1"]


def test_a_file_store_can_be_used_after_it_was_closed(file_store: Store) -> None:
    file_store.runs.insert(run("a"))
    file_store.close()
    file_store.close()
    assert ids(file_store) == ["a"]
    file_store.runs.insert(run("b"))
    assert ids(file_store) == ["a", "b"]
