"""Acknowledged writes are durable, even if processes are killed or write concurrently."""

from __future__ import annotations

import contextlib

from jupyter_axon_notebooks.store import Store

from .conftest import Script, finish

PROCESSES = 4

COUNTING = """
import sys
from jupyter_axon_notebooks.store import Document, open_store
url, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = open_store(url)
with store.transaction():
    if not store.runs.contains(doc_id="counter"):
        store.runs.insert(Document({"n": 0}, "counter"))
for i in range(40):
    with store.transaction():
        n = store.runs.get(doc_id="counter")["n"]
        store.runs.update({"n": n + 1}, doc_ids=["counter"])
    id = f"{name}-{i}"
    fields = {"notebook_id": "n", "created_at": "2026", "run_id": name, "epoch": i, "step": 0}
    store.checkpoints.insert(Document({"id": id, "metrics": {"loss": i}, **fields}, id))
    print(id, flush=True)
store.close()
"""


def test_concurrent_processes_lose_no_change(file_url: str, process: Script) -> None:
    # The store does not exist yet, so they create it concurrently as well.
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(process(COUNTING, file_url, f"p{i}")) for i in range(PROCESSES)
        ]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        acknowledged = [line for writer in writers for line in finish(writer)]
    store = Store(file_url)
    assert store.runs.get(doc_id="counter")["n"] == 40 * PROCESSES
    stored = [d.doc_id for d in store.checkpoints.all()]
    assert len(stored) == len(set(stored)) == 40 * PROCESSES
    assert set(stored) == set(acknowledged)
    best = store.best("n", "loss", minimize=False, limit=5)
    assert [d["metrics"]["loss"] for d in best] == [39] * 4 + [38]
    store.close()


WRITING = """
import itertools, sys
from jupyter_axon_notebooks.store import Document, open_store
url, name = sys.argv[1:]
store = open_store(url)
for i in itertools.count():
    id = f"{name}-{i}"
    with store.transaction():
        fields = {"notebook_id": "n", "created_at": "2026", "notes": "x" * 5000}
        store.checkpoints.insert(Document({"id": id, "metrics": {"loss": i}, **fields}, id))
        store.runs.insert(Document({"id": id}, id))
    store.runs.update({"again": True}, doc_ids=[id])
    print(id, flush=True)
"""


def test_a_killed_process_loses_no_acknowledged_write(file_url: str, process: Script) -> None:
    acknowledged: set[str] = set()
    for kill in range(15):
        with process(WRITING, file_url, f"k{kill}") as writer:
            # Killed during a write, each time at a different one.
            for _ in range(1 + 3 * kill):
                acknowledged.add(writer.stdout.readline().strip())
            writer.kill()
            acknowledged.update(line.strip() for line in writer.stdout if line.endswith("\n"))
    store = Store(file_url)
    checkpoints, runs = (
        {d.doc_id: d for d in table.all()} for table in (store.checkpoints, store.runs)
    )
    assert acknowledged <= set(runs)
    assert all(runs[id]["again"] for id in acknowledged)
    assert set(checkpoints) == set(runs)  # from the same transactions
    assert len(store.best("n", "loss", minimize=True, limit=10**6)) == len(checkpoints)
    with store.snapshot() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    store.close()
