"""Acknowledged writes survive restarts of the server and lost connections, without duplicates."""

# ruff: noqa: PT012

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.engines import PostgresqlServer, postgresql
from support.factories import new_checkpoint, new_notebook
from support.postgresql import backend_pid, database_name, run_document, terminate

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store


def test_restarts_under_load_lose_nothing() -> None:
    server = PostgresqlServer()  # with durable settings
    try:
        store = Store(server.url(server.new_database(empty=True)))
        repository = NotebookRepository(store)
        notebook = repository.create(new_notebook(name="n"))
        store.runs.insert(run_document("counter", n=0))
        acknowledged: list[str] = []
        progress = threading.Condition()
        stop = threading.Event()

        def count(document: Any) -> None:
            document["n"] += 1

        def write(number: int) -> int:
            epoch = 0
            while not stop.is_set():
                new = new_checkpoint(notebook.id, {"loss": epoch}, run_id=f"r{number}", epoch=epoch)
                checkpoint = repository.create_checkpoint(new)
                store.runs.update(count, doc_ids=["counter"])
                assert repository.get_checkpoint(checkpoint.id) == checkpoint
                with progress:
                    acknowledged.append(checkpoint.id)
                    progress.notify_all()
                epoch += 1
            return epoch

        def wait_for(more: int) -> None:
            with progress:
                goal = len(acknowledged) + more
                assert progress.wait_for(lambda: len(acknowledged) >= goal, timeout=60)

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write, number) for number in range(4)]
            try:
                for mode in ("immediate", "fast", "immediate"):
                    wait_for(20)
                    server.stop(mode)
                    server.start()
                wait_for(20)
            finally:
                stop.set()
            epochs = [writer.result() for writer in writers]
        stored = [c.id for c in repository.list_checkpoints(notebook.id)]
        assert len(stored) == len(set(stored)) == sum(epochs)
        assert set(stored) == set(acknowledged)
        assert store.runs.get(doc_id="counter")["n"] == sum(epochs)
        store.close()
    finally:
        server.close()


def test_a_connection_that_was_closed_while_idle_is_replaced(store: Store) -> None:
    with store.transaction() as connection:
        pid = backend_pid(connection)
    terminate(pid)
    with store.transaction():
        store.runs.insert(run_document("a"))
    with store.transaction() as connection:
        terminate_later = backend_pid(connection)
    terminate(terminate_later)
    assert store.runs.all() == [run_document("a")]


def test_a_transaction_that_loses_its_connection_is_retried_as_a_whole(store: Store) -> None:
    attempts = []

    def insert() -> None:
        with store.transaction() as connection:
            attempts.append(backend_pid(connection))
            store.runs.insert(run_document(f"a{len(attempts)}"))
            if len(attempts) == 1:
                terminate(attempts[0])
            store.runs.insert(run_document(f"b{len(attempts)}"))

    store.retry(insert)
    assert len(attempts) == 2
    assert store.runs.all() == [run_document("a2"), run_document("b2")]


def test_without_a_retry_nothing_is_stored_and_an_error_raised(store: Store) -> None:
    with pytest.raises(StoreBusy, match="try again"), store.transaction() as connection:
        store.runs.insert(run_document("a"))
        terminate(backend_pid(connection))
        store.runs.insert(run_document("b"))
    assert store.runs.all() == []


@pytest.mark.parametrize("state", ["40001", "40P01", "53300", "57P01", "57P03", "08006"])
def test_a_transaction_that_the_server_aborts_is_retried(store: Store, state: str) -> None:
    attempts = []

    def insert() -> None:
        with store.transaction() as connection:
            attempts.append(1)
            store.runs.insert(run_document(f"a{len(attempts)}"))
            if len(attempts) == 1:
                raising = f"DO $$ BEGIN RAISE EXCEPTION 'a test' USING ERRCODE = '{state}'; END $$"
                connection.exec_driver_sql(raising)

    store.retry(insert)
    assert store.runs.all() == [run_document("a2")]


def test_a_deadlock_is_resolved_by_a_retry(store: Store) -> None:
    store.runs.insert(run_document("a", n=0), run_document("b", n=0))
    both_hold = threading.Barrier(2)
    first = threading.local()

    def add(ids: tuple[str, str]) -> None:
        with store.transaction():
            for place, id in enumerate(ids):
                found = store.runs.get_for_update(id)
                if place == 0 and not getattr(first, "done", False):
                    first.done = True
                    both_hold.wait(10)
                store.runs.replace(run_document(id, n=found["n"] + 1))

    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(store.retry, lambda ids=ids: add(ids)) for ids in (("a", "b"), ("b", "a"))
        ]:
            done.result(30)
    assert store.runs.all() == [run_document("a", n=2), run_document("b", n=2)]


def test_waiting_for_a_lock_is_limited(url: str) -> None:
    store = Store(url, busy_timeout=0.05)
    store.runs.insert(run_document("a"))
    with contextlib.closing(postgresql().connect(database_name(url))) as other, other.transaction():
        other.execute("SELECT 1 FROM axonml_runs WHERE id = 'a' FOR UPDATE")
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.runs.update({"v": 1}, doc_ids=["a"])
        with pytest.raises(StoreBusy, match="locked by another process"), store.transaction():
            store.runs.get_for_update("a")
        assert store.runs.all() == [run_document("a")]
    store.runs.update({"v": 1}, doc_ids=["a"])
    store.close()


# Connecting.
