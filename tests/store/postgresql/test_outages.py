"""What was acknowledged is there, once, whatever becomes of the server and of the connections to it."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import PostgresqlServer, new_url, postgresql
from support.postgresql import backend, database_of, run, terminate

from jupyter_axon_notebooks.errors import StoreBusy, StoreError
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document, Store


def test_a_restart_in_mid_use_is_survived() -> None:
    server = PostgresqlServer()  # durable: nothing is turned off but what the store turns on
    try:
        store = Store(server.url(server.new_database(empty=True)))
        repository = NotebookRepository(store)
        notebook = repository.create(NewNotebook(user_id="ada", name="n"))
        store.runs.insert(run("counter", n=0))
        acknowledged: list[str] = []
        progress = threading.Condition()
        stop = threading.Event()

        def count(document: Any) -> None:
            document["n"] += 1

        def write(number: int) -> int:
            epoch = 0
            while not stop.is_set():
                new = NewCheckpoint(
                    notebook_id=notebook.id,
                    run_id=f"r{number}",
                    epoch=epoch,
                    step=0,
                    metrics={"loss": epoch},
                )
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


@pytest.mark.parametrize(("empty", "step"), [(False, 1), (True, 9)], ids=["a store", "a new one"])
def test_a_connection_lost_while_a_store_is_opened_is_got_over(
    tmp_path: Path, empty: bool, step: int
) -> None:
    lost = 0
    for fatal in itertools.count(1, step):
        countdown = itertools.count(-fatal)

        def lose(
            connection: Any,
            _cursor: Any,
            statement: str,
            *_: Any,
            countdown: Iterator[int] = countdown,
        ) -> None:
            looked_at = (
                statement.startswith("SHOW") or "to_regclass" in statement
            )  # before it is opened
            if not looked_at and next(countdown) == -1:
                terminate(connection.connection.dbapi_connection.info.backend_pid)

        with listening(lose):
            store = Store(new_url("postgresql", tmp_path, empty=empty))
        store.runs.insert(run("a"))
        assert store.runs.all() == [run("a")]
        store.close()
        if next(countdown) < 0:
            break
        lost += 1
    assert lost >= 2


@contextlib.contextmanager
def listening(note: Callable[..., None]) -> Iterator[None]:
    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


def test_a_connection_that_was_closed_while_idle_is_replaced(store: Store) -> None:
    with store.transaction() as connection:
        pid = backend(connection)
    terminate(pid)
    with store.transaction():  # not attempted again by anybody
        store.runs.insert(run("a"))
    with store.transaction() as connection:
        terminate_later = backend(connection)
    terminate(terminate_later)
    assert store.runs.all() == [run("a")]


def test_what_could_be_done_without_is_found_after_a_restart(store: Store) -> None:
    looks: tuple[Callable[[], object], ...] = (
        lambda: store.leftovers.superseded("n", 1, limit=10),
        lambda: store.leftovers.unshared("n", 0),
        lambda: store.leftovers.crowded(1),
        store.leftovers.ahead,
    )
    store.contents.insert(Document({"notebook_id": "n", "ordinal": 1}, "c"))
    expected = [look() for look in looks]
    assert expected == [[], {"c"}, [], {"n"}]
    for look, answer in zip(looks, expected, strict=True):
        with store.snapshot() as connection:
            idle = backend(connection)
        terminate(idle)
        assert look() == answer


def test_a_unit_that_loses_its_connection_is_done_again_as_a_whole(store: Store) -> None:
    attempts = []

    def unit() -> None:
        with store.transaction() as connection:
            attempts.append(backend(connection))
            store.runs.insert(run(f"a{len(attempts)}"))
            if len(attempts) == 1:
                terminate(attempts[0])
            store.runs.insert(run(f"b{len(attempts)}"))

    store.attempt(unit)
    assert len(attempts) == 2
    assert store.runs.all() == [run("a2"), run("b2")]


def test_without_another_attempt_the_caller_is_told_and_nothing_is_stored(store: Store) -> None:
    with pytest.raises(StoreBusy, match="try again"), store.transaction() as connection:
        store.runs.insert(run("a"))
        terminate(backend(connection))
        store.runs.insert(run("b"))
    assert store.runs.all() == []


def test_a_snapshot_that_loses_its_connection_is_read_again(store: Store) -> None:
    store.runs.insert(run("a"))
    attempts = []

    def read() -> list[Any]:
        with store.snapshot() as connection:
            attempts.append(backend(connection))
            if len(attempts) == 1:
                terminate(attempts[0])
            return store.runs.all()

    assert store.attempt(read) == [run("a")]
    assert len(attempts) == 2


@pytest.mark.parametrize("state", ["40001", "40P01", "53300", "57P01", "57P03", "08006"])
def test_a_unit_that_the_server_breaks_off_is_done_again(store: Store, state: str) -> None:
    attempts = []

    def unit() -> None:
        with store.transaction() as connection:
            attempts.append(1)
            store.runs.insert(run(f"a{len(attempts)}"))
            if len(attempts) == 1:
                raising = (
                    f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'; END $$"
                )
                connection.exec_driver_sql(raising)

    store.attempt(unit)
    assert store.runs.all() == [run("a2")]


def test_a_deadlock_is_got_over(store: Store) -> None:
    store.runs.insert_multiple([run("a", n=0), run("b", n=0)])
    both_hold = threading.Barrier(2)
    first = threading.local()

    def add(ids: tuple[str, str]) -> None:
        with store.transaction():
            for place, id in enumerate(ids):
                found = store.runs.locked(id)
                if place == 0 and not getattr(first, "done", False):
                    first.done = True
                    both_hold.wait(10)
                store.runs.replace(run(id, n=found["n"] + 1))

    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(store.attempt, lambda ids=ids: add(ids)) for ids in (("a", "b"), ("b", "a"))
        ]:
            done.result(30)
    assert store.runs.all() == [run("a", n=2), run("b", n=2)]


def test_a_lock_is_waited_for_only_so_long(url: str) -> None:
    store = Store(url, busy_timeout=0.05)
    store.runs.insert(run("a"))
    with (
        contextlib.closing(postgresql().connect(database_of(url))) as other,
        other.transaction(),
    ):
        other.execute("SELECT 1 FROM axonml_runs WHERE id = 'a' FOR UPDATE")
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.runs.update({"v": 1}, doc_ids=["a"])
        with pytest.raises(StoreBusy, match="locked by another process"), store.transaction():
            store.runs.locked("a")
        assert store.runs.all() == [run("a")]  # reading goes on
    store.runs.update({"v": 1}, doc_ids=["a"])
    store.close()


# Connecting.


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            b"S",
            StoreBusy,
            "the database cannot be reached",
        ),  # and then nothing: it is being restarted
        (b"", StoreBusy, "the database cannot be reached"),
        (b"N", StoreError, "no encrypted connection to the database could be made"),
    ],
)
def test_only_what_a_server_says_of_encryption_is_final(
    answer: bytes, kind: type[StoreError], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(8)
                        client.sendall(answer)

        threading.Thread(target=answering, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(StoreError, match=said) as caught:
            Store(
                f"postgresql+psycopg://ada@127.0.0.1:{port}/axon?sslmode=require", busy_timeout=0.1
            )
        assert isinstance(caught.value, StoreBusy) == (kind is StoreBusy)
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", ["password", "certificate", "no pg_hba.conf entry"])
def test_a_host_and_a_database_may_be_called_anything(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreBusy, match="the database cannot be reached"):
        Store(f"postgresql+psycopg://ada@/axon?host={tmp_path}/{name}", busy_timeout=0.1)
    with pytest.raises(StoreError, match="the database does not exist"):
        Store(postgresql().url(name))
