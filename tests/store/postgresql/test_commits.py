"""A commit whose answer is lost: what was committed is there once, and nobody is left in doubt without a word."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.engines import eventually, postgresql
from support.postgresql import backend, database_of, folder_of, run
from support.tcp_proxy import Wire

from jupyter_axon_notebooks.errors import StoreBusy, StoreError
from jupyter_axon_notebooks.store import Store


@pytest.fixture(params=[True, False], ids=["delivered", "not delivered"])
def wire(request: pytest.FixtureRequest, url: str) -> Iterator[Wire]:
    wire = Wire(f"{folder_of(url)}/.s.PGSQL.5432", delivered=request.param)
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


def test_a_commit_that_reaches_the_server_late_comes_to_nothing(store: Store, url: str) -> None:
    wire = Wire(f"{folder_of(url)}/.s.PGSQL.5432", delivered=True, stopped=True)
    relayed = Store(f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_of(url)}")
    attempts = []

    def unit() -> None:
        with relayed.transaction() as connection:
            attempts.append(backend(connection))
            relayed.runs.insert({"n": len(attempts)})
            if len(attempts) == 1:
                wire.backend, wire.armed = attempts[0], True

    try:
        relayed.attempt(unit)
        assert [d["n"] for d in store.runs] == [2]
    finally:
        os.kill(wire.backend, signal.SIGCONT)
    with contextlib.closing(postgresql().connect()) as observer:
        alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: observer.execute(alive, [wire.backend]).fetchone() == (0,))
    assert len(attempts) == 2
    assert [d["n"] for d in store.runs] == [2]
    relayed.close()
    wire.close()


def test_what_cannot_be_found_out_is_said_and_not_done_twice(url: str) -> None:
    wire = Wire(f"{folder_of(url)}/.s.PGSQL.5432", delivered=True)
    store = Store(
        f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{database_of(url)}", busy_timeout=0.3
    )
    attempts = []

    def unit() -> None:
        with store.transaction():
            attempts.append(1)
            store.runs.insert(run("a"))
            wire.refuse()  # no way back
            wire.armed = True

    with pytest.raises(
        StoreError, match="whether the last change was stored could not be found out"
    ):
        store.attempt(unit)
    assert attempts == [1]
    store.close()
    wire.close()


def test_what_no_connection_is_free_to_find_out_is_said(url: str) -> None:
    store = Store(url, busy_timeout=0.1)
    engine: Any = store._database._engine
    with contextlib.ExitStack() as in_use:
        for _ in range(16):
            in_use.enter_context(engine.sql.connect())
        with pytest.raises(
            StoreError, match="whether the last change was stored could not be found out"
        ):
            engine._is_committed("mark", "unit", StoreBusy())
    store.close()


def test_a_connection_from_another_process_that_still_commits_is_waited_for(
    store: Store, url: str
) -> None:
    # The row with the mark is what the unit in doubt holds, if it is still under way.
    with contextlib.closing(postgresql().connect(database_of(url))) as other:
        other.execute("BEGIN")
        other.execute(
            "INSERT INTO axon_commits (connection, unit, made_at, schema_version) VALUES ('mark', 'unit', now(), 1)"
        )
        asked: list[bool] = []
        engine: Any = store._database._engine
        asking = threading.Thread(
            target=lambda: asked.append(engine._is_committed("mark", "unit", StoreBusy()))
        )
        asking.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        with contextlib.closing(postgresql().connect(database_of(url))) as observer:
            eventually(lambda: observer.execute(waiting).fetchone() == (1,))
        assert asked == []
        other.execute("COMMIT")
        asking.join(10)
    assert asked == [True]
