"""Tests of requests while another program locks the store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.engines import ON_DISK, postgresql
from support.server_processes import Answer, Server, notebook, write

from jupyter_axon_notebooks.store import open_store

Servers = Callable[..., Server]

#: Seconds within which a response is immediate; a lock is waited for 30 s.
SOON = 15


class Kept:
    """A server with a store that can be locked."""

    def __init__(self, server: Server, database: str | None) -> None:
        self.server = server
        self._database = database

    @property
    def file(self) -> Path:
        return self.server.data / "axon_notebooks" / "axon.db"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the store."""
        if self._database is None:
            with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield
            return
        with closing(postgresql().connect(self._database)) as connection, connection.transaction():
            for table in ("notebooks", "checkpoints", "runs", "versions", "contents", "provenance"):
                connection.execute(f"LOCK TABLE axonml_{table} IN EXCLUSIVE MODE")
            yield


@pytest.fixture(params=ON_DISK)
def kept(request: pytest.FixtureRequest, servers: Servers) -> Kept:
    if request.param == "sqlite":
        server, database = servers(), None
    else:
        database = postgresql().new_database()
        server = servers(config={"AxonNotebooks": {"store_url": postgresql().url(database)}})
    server.wait_for_its_store()
    return Kept(server, database)


def timed(ask: Callable[[], Answer]) -> tuple[Answer, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


def reads_of(id: str, path: str) -> list[str]:
    checkpoints = f"/notebooks/{id}/checkpoints"
    return [
        "/notebooks",
        f"/notebooks?path={path}",
        f"/notebooks/{id}",
        f"/notebooks/{id}?outputs=false",
        f"/notebooks/{id}/versions",
        f"/notebooks/{id}/export",
        f"/notebooks/{id}/export?download=1",
        f"/notebooks/{id}/runs",
        f"/notebooks/{id}/metrics",
        checkpoints,
        f"{checkpoints}/best",
    ]


def test_reads_return_the_recorded_state_while_a_save_is_pending(kept: Kept) -> None:
    server = kept.server
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    with kept.locked():
        assert server.save("a.ipynb", notebook("2")).status == 200
        for path in reads_of(id, "a.ipynb"):
            answer, seconds = timed(lambda path=path: server.axon("GET", path))  # type: ignore[misc]
            assert (answer.status, answer.headers.get("X-Axon-Stale")) == (200, "true"), path
            assert answer.headers["Cache-Control"] == "no-store"
            assert seconds < SOON
        shown = server.axon("GET", f"/notebooks/{id}").json
        assert [cell["source"] for cell in shown["cells"]] == ["1"]
        assert server.axon("GET", "/notebooks/none").status == 404
    assert [cell["source"] for cell in server.got(f"/notebooks/{id}")["cells"]] == ["2"]
    assert "X-Axon-Stale" not in server.axon("GET", f"/notebooks/{id}").headers


def test_reads_succeed_while_a_changed_file_is_pending(
    kept: Kept,
) -> None:
    server = kept.server
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    with kept.locked():
        write(server.root / "a.ipynb", notebook("2", axon={"notebook_id": id}))
        for path in reads_of(id, "a.ipynb"):
            answer, seconds = timed(lambda path=path: server.axon("GET", path))  # type: ignore[misc]
            assert (answer.status, answer.headers.get("X-Axon-Stale")) == (200, "true"), path
            assert seconds < SOON
    assert [cell["source"] for cell in server.got(f"/notebooks/{id}")["cells"]] == ["2"]


def test_reads_succeed_while_all_writer_threads_wait(kept: Kept) -> None:
    server = kept.server
    server.save("a.ipynb", notebook("1"))
    bound = server.record("a.ipynb")["id"]
    alone = server.axon("POST", "/notebooks", {"name": "alone"}).json["id"]
    changes: list[tuple[str, str, Any]] = [
        *[("PUT", f"/notebooks/{alone}", {"description": str(number)}) for number in range(8)],
        ("PUT", f"/notebooks/{bound}", {"description": "changed"}),
        *[
            ("POST", f"/notebooks/{alone}/checkpoints", {"epoch": n, "step": n, "metrics": {}})
            for n in range(4)
        ],
        ("POST", "/notebooks", {"name": "another"}),
        ("POST", f"/notebooks/{alone}/cells", {"id": "new", "cell_type": "code", "source": "x"}),
        ("POST", f"/notebooks/{bound}/cells", {"id": "new", "cell_type": "code", "source": "x"}),
        ("POST", "/notebooks/sync", {"path": "a.ipynb"}),
        ("DELETE", f"/notebooks/{alone}", None),
    ]
    with ThreadPoolExecutor(40) as pool:
        with kept.locked():
            server.save("a.ipynb", notebook("2"))
            changing = [pool.submit(server.axon, *change) for change in changes]
            reading = [
                pool.submit(timed, lambda path=path: server.axon("GET", path))  # type: ignore[misc]
                for path in reads_of(bound, "a.ipynb") * 2
            ]
            for answer, seconds in (read.result() for read in reading):
                assert answer.status == 200
                assert seconds < SOON
            assert not any(change.done() and change.result().status < 300 for change in changing)
        answers = [change.result() for change in changing]
    assert {answer.status for answer in answers} <= {200, 201, 204, 404, 503}, answers
    assert server.got(f"/notebooks/{bound}")["cells"][0]["source"] == "2"


def test_a_stale_response_has_no_tag(kept: Kept) -> None:
    server = kept.server
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    metrics = f"/notebooks/{id}/metrics"
    server.axon(
        "POST", f"/notebooks/{id}/checkpoints", {"epoch": 1, "step": 1, "metrics": {"loss": 1}}
    )
    tag = server.axon("GET", metrics).headers["Etag"]
    with kept.locked():
        server.save("a.ipynb", notebook("2"))
        for _ in range(3):
            answer = server.axon(
                "GET", metrics, headers={"Authorization": "token a-token", "If-None-Match": tag}
            )
            assert (answer.status, "Etag" in answer.headers) == (200, False)
            assert answer.headers["Cache-Control"] == "no-store"
    server.got(metrics)
    answer = server.axon(
        "GET", metrics, headers={"Authorization": "token a-token", "If-None-Match": tag}
    )
    assert answer.status == 304


def test_reads_fail_soon_if_the_store_cannot_be_read(servers: Servers) -> None:
    database = postgresql().new_database()
    server = servers(config={"AxonNotebooks": {"store_url": postgresql().url(database)}})
    server.wait_for_its_store()
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    with closing(postgresql().connect(database)) as connection, connection.transaction():
        connection.execute("LOCK TABLE axonml_notebooks IN ACCESS EXCLUSIVE MODE")
        server.save("a.ipynb", notebook("2"))
        with ThreadPoolExecutor(40) as pool:
            paths = reads_of(id, "a.ipynb")
            reading = [
                pool.submit(timed, lambda path=path: server.axon("GET", path))  # type: ignore[misc]
                for path in (paths * 4)[:40]
            ]
            for answer, seconds in (read.result() for read in reading):
                assert (answer.status, "Retry-After" in answer.headers) == (503, True)
                assert "locked" in answer.json["message"]
                assert seconds < SOON
    assert server.got(f"/notebooks/{id}")["cells"][0]["source"] == "2"


def test_large_reads_of_a_locked_store_fail_in_parallel(servers: Servers) -> None:
    database = postgresql().new_database()
    server = servers(config={"AxonNotebooks": {"store_url": postgresql().url(database)}})
    server.wait_for_its_store()
    server.save("a.ipynb", notebook("1"))
    path = f"/notebooks/{server.record('a.ipynb')['id']}"
    with closing(postgresql().connect(database)) as connection, connection.transaction():
        connection.execute("LOCK TABLE axonml_versions, axonml_contents IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(10) as pool:
            reading = [
                pool.submit(timed, lambda path=path: server.axon("GET", path))  # type: ignore[misc]
                for path in [path, f"{path}/export", f"{path}/export?download=1"] * 3 + [path]
            ]
            for answer, seconds in (read.result() for read in reading):
                assert (answer.status, "Retry-After" in answer.headers) == (503, True)
                assert seconds < SOON
    assert server.got(path)["cells"][0]["source"] == "1"


@contextmanager
def writing(store: Path) -> Iterator[None]:
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def compacting(store: Path) -> Iterator[None]:
    """A VACUUM that is stopped in its middle and locks the store."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("DELETE FROM axonml_contents WHERE id = 'none'")
        yield


@pytest.mark.parametrize("lock", [writing, compacting])
def test_a_store_that_is_locked_at_the_start_is_opened(
    servers: Servers, tmp_path: Path, lock: Callable[[Path], AbstractContextManager[None]]
) -> None:
    file = tmp_path / "server/data/axon_notebooks/axon.db"
    first = servers()
    first.save("a.ipynb", notebook("1"))
    id = first.record("a.ipynb")["id"]
    first.stop()
    with lock(file):
        write(
            first.root / "a.ipynb", notebook("2", axon={"notebook_id": id})
        )  # recorded at its start
        first.start()
        answer, seconds = timed(lambda: first.axon("GET", f"/notebooks/{id}"))
        while answer.status == 503:  # still being opened
            answer, seconds = timed(lambda: first.axon("GET", f"/notebooks/{id}"))
        assert (answer.status, answer.headers["X-Axon-Stale"]) == (200, "true")
        assert seconds < SOON
    assert first.got(f"/notebooks/{id}")["cells"][0]["source"] == "2"


def test_a_new_store_does_not_delay_responses(servers: Servers, tmp_path: Path) -> None:
    folder = tmp_path / "server/data/axon_notebooks"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "axon.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        server = servers()
        for _ in range(3):
            answer, seconds = timed(lambda: server.axon("GET", "/notebooks"))
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
            assert seconds < SOON
    server.wait_for_its_store()
    assert server.records() == []
    open_store(f"sqlite:///{folder}/axon.db").close()
