"""What was acknowledged is there, once, whatever becomes of the server and of the connections to it."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engines import PostgresqlServer, new_url, postgresql

from jupyter_axon_notebooks.errors import StoreBusy, StoreError
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document, Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_url("postgresql", tmp_path, empty=False)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()


def database_of(url: str) -> str:
    return url.split("/")[3].split("?")[0]


def run(id: str, **fields: Any) -> Document:
    return Document({"id": id, "notebook_id": "n", **fields}, id)


def backend(connection: Any) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def terminate(*pids: int) -> None:
    with contextlib.closing(postgresql().connect()) as other:
        for pid in pids:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


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
                    notebook_id=notebook.id, run_id=f"r{number}", epoch=epoch, step=0, metrics={"loss": epoch}
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
        with pytest.raises(StoreBusy, match="kept it locked"):
            store.runs.update({"v": 1}, doc_ids=["a"])
        with pytest.raises(StoreBusy, match="kept it locked"), store.transaction():
            store.runs.locked("a")
        assert store.runs.all() == [run("a")]  # reading goes on
    store.runs.update({"v": 1}, doc_ids=["a"])
    store.close()


# Connecting.


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (b"S", StoreBusy, "the database cannot be reached"),  # and then nothing: it is being restarted
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
            Store(f"postgresql+psycopg://ada@127.0.0.1:{port}/axon?sslmode=require", busy_timeout=0.1)
        assert isinstance(caught.value, StoreBusy) == (kind is StoreBusy)
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", ["password", "certificate", "no pg_hba.conf entry"])
def test_a_host_and_a_database_may_be_called_anything(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreBusy, match="the database cannot be reached"):
        Store(f"postgresql+psycopg://ada@/axon?host={tmp_path}/{name}", busy_timeout=0.1)
    with pytest.raises(StoreError, match="there is no such database"):
        Store(postgresql().url(name))


# The answer to a COMMIT that never comes.


class Wire:
    """A relay to the server, which can be cut at the next COMMIT.

    Parameters
    ----------
    delivered : bool
        Whether the server still gets the COMMIT that the cut is made at.
    """

    def __init__(self, target: str, *, delivered: bool) -> None:
        self._target = target
        self._delivered = delivered
        self.armed = False
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                cut = threading.Event()
                threading.Thread(target=self._to_server, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._to_client, args=(server, client, cut), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.armed and b"; COMMIT" in data:
                    self.armed = False
                    self.cuts += 1
                    cut.set()
                    if not self._delivered:
                        break
                server.sendall(data)
        if not self._delivered or not cut.is_set():
            _shut(server, client)

    def _to_client(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():  # the server has answered, so it is done
                    break
                client.sendall(data)
        _shut(server, client)

    def close(self) -> None:
        _shut(self._listener, *self._sockets)
        for one in (self._listener, *self._sockets):
            one.close()


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[True, False], ids=["delivered", "not delivered"])
def wire(request: pytest.FixtureRequest, url: str) -> Iterator[Wire]:
    folder = url.split("host=")[1]
    wire = Wire(f"{folder}/.s.PGSQL.5432", delivered=request.param)
    yield wire
    wire.close()


def test_a_commit_whose_answer_is_lost_is_done_once(url: str, wire: Wire) -> None:
    store = Store(f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_of(url)}")
    store.runs.insert(run("counter", n=0))

    def count(document: Any) -> None:
        document["n"] += 1

    for expected in range(1, 6):
        wire.armed = True
        store.runs.update(count, doc_ids=["counter"])
        assert wire.cuts == expected
        assert store.runs.get(doc_id="counter")["n"] == expected
    wire.armed = True
    with contextlib.ExitStack() as stack:
        if not wire._delivered:  # nobody attempts this one again
            stack.enter_context(pytest.raises(StoreBusy, match="try again"))
        with store.transaction():
            store.runs.insert(run("a"))
    assert store.runs.contains(doc_id="a") == wire._delivered
    store.close()


def test_what_cannot_be_found_out_is_said_and_not_done_twice(url: str) -> None:
    folder = url.split("host=")[1]
    wire = Wire(f"{folder}/.s.PGSQL.5432", delivered=True)
    store = Store(f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_of(url)}", busy_timeout=0.3)
    attempts = []

    def unit() -> None:
        with store.transaction():
            attempts.append(1)
            store.runs.insert(run("a"))
            _shut(wire._listener)  # no way back
            wire.armed = True

    with pytest.raises(StoreError, match="whether the last change was stored could not be found out"):
        store.attempt(unit)
    assert attempts == [1]
    store.close()
    wire.close()


def test_a_connection_from_another_process_that_still_commits_is_waited_for(store: Store, url: str) -> None:
    # The row with the mark is what the unit in doubt holds, if it is still under way.
    with contextlib.closing(postgresql().connect(database_of(url))) as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO axon_commits VALUES ('mark', 'unit', now())")
        asked: list[bool] = []
        engine: Any = store._database._engine
        asking = threading.Thread(
            target=lambda: asked.append(engine._is_committed("mark", "unit", StoreBusy()))
        )
        asking.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        with contextlib.closing(postgresql().connect(database_of(url))) as observer:
            _until(lambda: observer.execute(waiting).fetchone() == (1,))
        assert asked == []
        other.execute("COMMIT")
        asking.join(10)
    assert asked == [True]


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if holds():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never came to be")
