"""Transactions are atomic and isolated, across threads, processes and forks."""

# ruff: noqa: PT012

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.engines import ON_DISK, new_url
from tinydb import where

from jupyter_axon_notebooks.errors import Conflict, StoreBusy, StoreError
from jupyter_axon_notebooks.store import Document, Store

from .conftest import FORKING, Script, finish


def run(id: str, **fields: Any) -> Document:
    return Document({"id": id, "notebook_id": "n", **fields}, id)


def ids(store: Store) -> list[Any]:
    return [d.doc_id for d in store.runs.all()]


def in_thread(action: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


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


def test_a_nested_failure_after_a_write_fails_the_whole_transaction(store: Store) -> None:
    with pytest.raises(StoreError, match="a part of this transaction failed"), store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.runs.insert(run("b"))
            _ = 1 / 0
        store.runs.insert(run("c"))
    assert ids(store) == []


def test_a_nested_failure_without_a_write_does_not(store: Store) -> None:
    def explode(_document: Any) -> None:
        raise ZeroDivisionError

    with store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(ZeroDivisionError):
            store.runs.update(explode, doc_ids=["a"])
        with pytest.raises(TypeError):
            store.runs.update({"v": object()}, doc_ids=["a"])
        with pytest.raises(ZeroDivisionError), store.transaction():
            _ = 1 / 0
    assert store.runs.all() == [run("a")]


def test_a_violated_unique_index_is_a_conflict_and_rolls_back(store: Store) -> None:
    def checkpoint(id: str, **fields: Any) -> Document:
        return Document({"notebook_id": "n", "run_id": "r", "epoch": 1, "step": 2, **fields}, id)

    store.checkpoints.insert(checkpoint("a"))
    with pytest.raises(Conflict, match=r"axonml_checkpoints\.notebook_id.*exists already"):
        store.checkpoints.insert(checkpoint("b", step=3), checkpoint("c", metrics={"loss": 1}))
    with pytest.raises(StoreError, match="a part of this transaction failed"), store.transaction():
        store.runs.insert(run("a"))
        with pytest.raises(Conflict):
            store.checkpoints.insert(checkpoint("c"))
    assert [d.doc_id for d in store.checkpoints.all()] == ["a"]
    assert ids(store) == []
    # The index applies only to documents that have all its fields.
    del (partial := checkpoint("e"))["run_id"]
    store.checkpoints.insert(partial)
    store.checkpoints.insert(Document(partial, "f"))


def test_a_snapshot_is_read_only(store: Store) -> None:
    with store.snapshot():
        with pytest.raises(StoreError, match="a snapshot is read-only"):
            store.runs.insert(run("a"))
        assert ids(store) == []
    with store.transaction():
        store.runs.insert(run("a"))
        with store.snapshot():
            assert ids(store) == ["a"]
        store.runs.insert(run("b"))
    assert ids(store) == ["a", "b"]


def test_all_reads_of_a_snapshot_see_the_same_state(file_store: Store) -> None:
    file_store.runs.insert(run("a"))
    with file_store.snapshot():
        assert ids(file_store) == ["a"]
        in_thread(lambda: file_store.runs.insert(run("b")))
        in_thread(lambda: file_store.runs.remove(doc_ids=["a"]))
        assert ids(file_store) == ["a"]
        assert file_store.runs.get(doc_id="b") is None
    assert ids(file_store) == ["b"]


def test_threads_lose_no_change(store: Store) -> None:
    store.runs.insert(run("counter", n=0))

    def count() -> None:
        for _ in range(25):
            with store.transaction():
                found = store.runs.get_for_update("counter")
                store.runs.update({"n": found["n"] + 1}, doc_ids=["counter"])
            assert store.runs.search(where("notebook_id") == "n")

    with ThreadPoolExecutor(8) as pool:
        for counting in [pool.submit(count) for _ in range(8)]:
            counting.result()
    assert store.runs.get(doc_id="counter")["n"] == 200


@pytest.mark.parametrize("engine", ["sqlite", "memory"])
def test_waiting_for_another_thread_is_limited(engine: str, file_url: str) -> None:
    store = Store(file_url if engine == "sqlite" else "memory://", busy_timeout=0.05)
    message = r"locked by other threads of this process \(waited 0\.05 s\)"
    with store.transaction(), pytest.raises(StoreBusy, match=message):
        in_thread(lambda: store.runs.insert(run("a")))
    in_thread(lambda: store.runs.insert(run("a")))
    store.close()


@pytest.fixture(params=ON_DISK)
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


def stored_ids(url: str) -> list[Any]:
    store = Store(url)
    found = ids(store)
    store.close()
    return found


def test_parent_and_child_can_both_write_after_a_fork(shared_url: str, process: Script) -> None:
    # The parent closes the store while the child writes. It must not remove the log.
    script = """
store = open_store(sys.argv[1])
insert(store, "before")
ready, closed = os.pipe(), os.pipe()

def child():
    import gc
    insert(store, "child 1")
    gc.collect()
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
worker = multiprocessing.get_context("fork").Process(target=insert, args=(store, "worker"))
worker.start()
worker.join()
assert worker.exitcode == 0
insert(store, "after")
store.close()
"""
    with process(FORKING + script, shared_url) as other:
        finish(other)
    expected = ["after", "before", "child 1", "child 2", "parent", "worker"]
    assert sorted(stored_ids(shared_url)) == expected


def test_a_fork_while_another_thread_writes_loses_nothing(shared_url: str, process: Script) -> None:
    script = """
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
    with process(FORKING + script, shared_url) as other:
        (expected,) = finish(other)
    assert len(stored_ids(shared_url)) == int(expected)


def test_a_fork_waits_for_stores_that_another_thread_opens_and_closes(
    shared_url: str, process: Script
) -> None:
    script = """
open_store(sys.argv[1]).close()
stop = threading.Event()

def open_and_close():
    while not stop.is_set():
        open_store(sys.argv[1]).close()

threads = [threading.Thread(target=open_and_close, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()

def child():
    store = open_store(sys.argv[1])
    insert(store, f"child {os.getpid()}")
    store.close()

for _ in range(30):
    assert os.waitpid(in_child(child), 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""
    with process(FORKING + script, shared_url) as other:
        assert finish(other) == []
    assert len(stored_ids(shared_url)) == 30


def test_a_child_does_not_use_a_file_that_was_in_use_at_the_fork(
    tmp_path: Path, process: Script
) -> None:
    script = """
from jupyter_axon_notebooks.errors import StoreError
used, other = (open_store(url) for url in sys.argv[1:])
end = hold(used)

def child():
    insert(other, "child")
    for use in (lambda: insert(used, "child"), lambda: open_store(sys.argv[1])):
        try:
            use()
        except StoreError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("it is used")

assert os.waitpid(in_child(child), 0)[1] == 0
end()
assert os.waitpid(in_child(lambda: insert(used, "later")), 0)[1] == 0
"""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("used", "other")]
    with process(FORKING + script, *urls) as other:
        assert finish(other) == []
    assert [sorted(stored_ids(url)) for url in urls] == [["later", "thread"], ["child"]]


def test_a_fork_that_is_interrupted_while_it_waits_loses_nothing(
    tmp_path: Path, process: Script
) -> None:
    # Python forks even if what it calls before fails.
    script = """
import signal
from jupyter_axon_notebooks.errors import StoreError
sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__)
stores = [open_store(url) for url in sys.argv[1:]]
for store in stores:
    insert(store, "before")
end = hold(stores[0])

def child():
    for store in stores:
        try:
            insert(store, "child")
        except StoreError as error:
            assert store is stores[0], error
            assert "forked" in str(error), error
        else:
            assert store is not stores[0]

signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
assert os.waitpid(in_child(child), 0)[1] == 0
end()
for store in stores:
    insert(store, "after")
"""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "abcd"]
    with process(FORKING + script, *urls) as other:
        assert finish(other) == ["KeyboardInterrupt"]
    first, *others = (set(stored_ids(url)) for url in urls)
    assert first == {"before", "thread", "after"}
    assert others == [{"before", "child", "after"}] * 3


def test_a_signal_handler_uses_stores_while_a_fork_waits(tmp_path: Path, process: Script) -> None:
    script = """
import signal
from jupyter_axon_notebooks.errors import StoreError
used, idle, new = sys.argv[1:]
used, idle = open_store(used), open_store(idle)

def handle(*_):
    insert(idle, "handler")
    assert used.runs.all() == []
    store = open_store(new)
    insert(store, "handler")
    store.close()
    idle.close()
end = hold(used)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.3)

def child():
    for store in (idle, used):
        try:
            insert(store, "child")
        except StoreError as error:
            assert "forked" in str(error), error

assert os.waitpid(in_child(child), 0)[1] == 0
end()
for store in (idle, used):
    insert(store, "after")
"""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("used", "idle", "new")]
    with process(FORKING + script, *urls) as other:
        assert finish(other) == []
    used, idle, new = (set(stored_ids(url)) - {"child"} for url in urls)
    assert (used, idle, new) == ({"thread", "after"}, {"handler", "after"}, {"handler"})


def test_a_child_does_not_wait_for_a_lock_that_another_thread_held(
    tmp_path: Path, process: Script
) -> None:
    # Other libraries use SQLite, too, and its locks are those of the process.
    script = """
import sqlite3, time
from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.store.sqlite import forks
forks._TIMEOUT = 0.5

def use():
    while True:
        sqlite3.connect(":memory:").close()

for _ in range(4):
    threading.Thread(target=use, daemon=True).start()

def child():
    try:
        store = open_store(sys.argv[1])
    except StoreError as error:
        assert "forked" in str(error), error
        os._exit(3)
    insert(store, f"child {os.getpid()}")

codes = [os.waitstatus_to_exitcode(os.waitpid(in_child(child), 0)[1]) for _ in range(40)]
assert set(codes) <= {0, 3}, codes
print(codes.count(0))
"""
    url = f"sqlite:///{tmp_path}/axon.db"
    with process(FORKING + script, url) as other:
        [expected] = finish(other)
    assert len(stored_ids(url)) == int(expected)


def test_a_file_store_can_be_used_after_it_was_closed(file_store: Store) -> None:
    file_store.runs.insert(run("a"))
    file_store.close()
    file_store.close()
    assert ids(file_store) == ["a"]
    file_store.runs.insert(run("b"))
    assert ids(file_store) == ["a", "b"]
