"""Acknowledged means durable, whoever is killed and however many write at once."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from jupyter_axon_notebooks.store import Store

from .conftest import Script, finished

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
    store.checkpoints.insert(Document(
        {"id": id, "notebook_id": "n", "created_at": "2026", "metrics": {"loss": i}, "run_id": name, "epoch": i, "step": 0},
        id,
    ))
    print(id, flush=True)
store.close()
"""


def test_processes_never_lose_each_others_change(file_url: str, process: Script) -> None:
    # None of them finds the store made, so that they meet in making it as well.
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(process(COUNTING, file_url, f"p{i}")) for i in range(PROCESSES)
        ]
        for one in running:
            assert one.stdout.readline() == "ready\n"
        for one in running:
            one.stdin.write("\n")
            one.stdin.flush()
        acknowledged = [line for one in running for line in finished(one)]
    store = Store(file_url)
    assert store.runs.get(doc_id="counter")["n"] == 40 * PROCESSES
    stored = [d.doc_id for d in store.checkpoints]
    assert len(stored) == len(set(stored)) == 40 * PROCESSES
    assert set(stored) == set(acknowledged)
    assert [d["metrics"]["loss"] for d in store.best("n", "loss", minimize=False, limit=5)] == [
        39
    ] * 4 + [38]
    store.close()


OPENING = """
import sys
from jupyter_axon_notebooks.store import Document, open_store
print("ready", flush=True)
for line in sys.stdin:
    store = open_store(line.strip())
    store.runs.insert({"by": sys.argv[1]})
    store.close()
    print("opened", flush=True)
"""


def test_two_processes_may_make_the_same_store(tmp_path: Path, process: Script) -> None:
    with process(OPENING, "one") as one, process(OPENING, "other") as other:
        for each in (one, other):
            assert each.stdout.readline() == "ready\n"
        for attempt in range(10):
            url = f"sqlite:///{tmp_path}/new {attempt}/axon.db"
            for each in (one, other):
                each.stdin.write(url + "\n")
                each.stdin.flush()
            for each in (one, other):
                assert each.stdout.readline() == "opened\n", each.stderr.read()
            store = Store(url)
            assert sorted(d["by"] for d in store.runs) == ["one", "other"]
            store.close()


WRITING = """
import itertools, sys
from jupyter_axon_notebooks.store import Document, open_store
url, name = sys.argv[1:]
store = open_store(url)
for i in itertools.count():
    id = f"{name}-{i}"
    with store.transaction():
        store.checkpoints.insert(Document(
            {"id": id, "notebook_id": "n", "created_at": "2026", "metrics": {"loss": i}, "notes": "x" * 5000}, id))
        store.runs.insert(Document({"id": id}, id))
    store.runs.update({"again": True}, doc_ids=[id])
    print(id, flush=True)
"""


def test_what_a_killed_process_was_told_is_kept_is_kept(file_url: str, process: Script) -> None:
    acknowledged: set[str] = set()
    for kill in range(15):
        with process(WRITING, file_url, f"k{kill}") as writer:
            # Killed in the midst of the next write, at a different place of it each time.
            for _ in range(1 + 3 * kill):
                acknowledged.add(writer.stdout.readline().strip())
            writer.kill()
            acknowledged.update(line.strip() for line in writer.stdout if line.endswith("\n"))
    store = Store(file_url)
    checkpoints, runs = ({d.doc_id: d for d in table} for table in (store.checkpoints, store.runs))
    assert acknowledged <= set(runs)
    assert all(runs[known]["again"] for known in acknowledged)
    assert set(checkpoints) == set(runs)  # written together, or not at all
    assert len(store.best("n", "loss", minimize=True, limit=10**6)) == len(checkpoints)
    with store.snapshot() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    store.close()


def test_a_commit_is_in_the_file_before_the_call_returns(file_store: Store, file_url: str) -> None:
    # Seen by a connection that shares nothing with the store but the disk.
    file_store.runs.insert({"id": "a"})
    with contextlib.closing(sqlite3.connect(file_url.removeprefix("sqlite:///"))) as other:
        assert other.execute("SELECT count(*) FROM axonml_runs").fetchone() == (1,)
