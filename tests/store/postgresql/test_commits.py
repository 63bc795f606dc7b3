"""A commit whose answer is lost takes effect once, or an error is raised."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from support.engines import eventually, postgresql
from support.postgresql import backend_pid, database_name, run_document, socket_folder
from support.tcp_proxy import TcpProxy

from jupyter_axon_notebooks.errors import StoreBusy, StoreError
from jupyter_axon_notebooks.store import Store


@pytest.fixture(params=[True, False], ids=["delivered", "not delivered"])
def wire(request: pytest.FixtureRequest, url: str) -> Iterator[TcpProxy]:
    wire = TcpProxy(f"{socket_folder(url)}/.s.PGSQL.5432", delivered=request.param)
    yield wire
    wire.close()


def test_a_commit_with_a_lost_answer_takes_effect_once(url: str, wire: TcpProxy) -> None:
    store = Store(f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_name(url)}")
    store.runs.insert(run_document("counter", n=0))

    def count(document: Any) -> None:
        document["n"] += 1

    for expected in range(1, 6):
        wire.armed = True
        store.runs.update(count, doc_ids=["counter"])
        assert wire.cuts == expected
        assert store.runs.get(doc_id="counter")["n"] == expected
    wire.armed = True
    with contextlib.ExitStack() as stack:
        if not wire.delivered:
            stack.enter_context(pytest.raises(StoreBusy, match="try again"))
        with store.transaction():
            store.runs.insert(run_document("a"))
    assert store.runs.contains(doc_id="a") == wire.delivered
    store.close()


def test_a_commit_that_arrives_late_has_no_effect(store: Store, url: str) -> None:
    wire = TcpProxy(f"{socket_folder(url)}/.s.PGSQL.5432", delivered=True, stopped=True)
    proxied = Store(f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_name(url)}")
    attempts = []

    def insert() -> None:
        with proxied.transaction() as connection:
            attempts.append(backend_pid(connection))
            proxied.runs.insert({"n": len(attempts)})
            if len(attempts) == 1:
                wire.backend, wire.armed = attempts[0], True

    try:
        proxied.retry(insert)
        assert [d["n"] for d in store.runs.all()] == [2]
    finally:
        os.kill(wire.backend, signal.SIGCONT)
    with contextlib.closing(postgresql().connect()) as observer:
        alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: observer.execute(alive, [wire.backend]).fetchone() == (0,))
    assert len(attempts) == 2
    assert [d["n"] for d in store.runs.all()] == [2]
    proxied.close()
    wire.close()


def test_an_unknown_outcome_is_an_error_and_not_retried(url: str) -> None:
    wire = TcpProxy(f"{socket_folder(url)}/.s.PGSQL.5432", delivered=True)
    store = Store(
        f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_name(url)}",
        busy_timeout=0.3,
    )
    attempts = []

    def insert() -> None:
        with store.transaction():
            attempts.append(1)
            store.runs.insert(run_document("a"))
            wire.refuse_connections()
            wire.armed = True

    with pytest.raises(
        StoreError, match="whether the last change was stored could not be found out"
    ):
        store.retry(insert)
    assert attempts == [1]
    store.close()
    wire.close()
