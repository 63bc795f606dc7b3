"""Parent and child can both use the store after a fork."""

from __future__ import annotations

from jupyter_axon_notebooks.store import Store

from ..conftest import FORKING, Script, finish

OPENING = (
    FORKING
    + """
store = Store(sys.argv[1])
insert(store, "before")
"""
)


def test_parent_and_child_can_both_write_after_a_fork(
    store: Store, url: str, process: Script
) -> None:
    script = """
def child():
    import gc
    insert(store, "child 1")
    gc.collect()
    insert(store, "child 2")
    store.close()

with store.snapshot() as connection:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
for _ in range(2):
    forked = in_child(child if _ == 0 else lambda: insert(store, "child 3"))
    insert(store, f"parent {_}")
    assert os.waitpid(forked, 0)[1] == 0
with store.snapshot() as connection:
    assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid
worker = multiprocessing.get_context("fork").Process(target=insert, args=(store, "worker"))
worker.start()
worker.join()
assert worker.exitcode == 0
insert(store, "after")
store.close()
"""
    with process(OPENING + script, url) as other:
        finish(other)
    expected = [
        "after",
        "before",
        "child 1",
        "child 2",
        "child 3",
        "parent 0",
        "parent 1",
        "worker",
    ]
    assert sorted(d.doc_id for d in store.runs) == expected


def test_a_fork_does_not_affect_transactions_of_other_threads(
    store: Store, url: str, process: Script
) -> None:
    script = """
inside, forked = threading.Event(), threading.Event()

def hold():
    with store.transaction():
        insert(store, "held 1")
        inside.set()
        forked.wait()
        insert(store, "held 2")

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
assert os.waitpid(in_child(lambda: insert(store, "child")), 0)[1] == 0
forked.set()
thread.join()
store.close()
"""
    with process(OPENING + script, url) as other:
        finish(other)
    assert sorted(d.doc_id for d in store.runs) == ["before", "child", "held 1", "held 2"]


def test_a_child_forked_in_a_transaction_cannot_use_the_store(
    store: Store, url: str, process: Script
) -> None:
    script = """
def child():
    for attempt in (lambda: insert(store, "x"), lambda: len(store.runs)):
        try:
            attempt()
        except Exception as error:
            print(type(error).__name__, flush=True)

with store.transaction():
    insert(store, "a")
    assert os.waitpid(in_child(child), 0)[1] == 0
    insert(store, "b")
store.close()
"""
    with process(OPENING + script, url) as other:
        assert finish(other) == ["StoreError"] * 2
    assert sorted(d.doc_id for d in store.runs) == ["a", "b", "before"]
