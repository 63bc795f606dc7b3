"""A file gets shorter after much was removed from it, and nobody has to wait for that."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from itertools import islice

import pytest
import sqlalchemy as sa

from jupyter_axon_notebooks.store import Document, Store
from jupyter_axon_notebooks.store.sqlite import vacuum

from .conftest import statements
from .test_opening import path_of, pragma

MEGABYTE = 1_000_000


def fill(store: Store, megabytes: int) -> None:
    for n in range(megabytes):
        store.runs.insert(Document({"notes": "x" * MEGABYTE}, f"r{n}"))


def size(store: Store) -> int:
    return os.stat(path_of(store.url)).st_size


def log(store: Store) -> int:
    return os.stat(f"{path_of(store.url)}-wal").st_size


def test_a_file_shrinks_after_much_was_removed(file_store: Store) -> None:
    fill(file_store, 8)
    file_store.runs.remove(doc_ids=[f"r{n}" for n in range(6)])
    given_back = sum(file_store.reclaim())
    assert 4 * MEGABYTE < given_back < 6 * MEGABYTE
    file_store.close()
    assert size(file_store) < 4 * MEGABYTE
    assert [len(run["notes"]) for run in file_store.runs] == [MEGABYTE] * 2
    assert list(file_store.reclaim()) == []


def test_it_shrinks_in_steps_that_may_be_the_last(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "_STEP_TIME", 0.0)
    fill(file_store, 4)
    file_store.runs.truncate()
    page = pragma(file_store, "page_size")
    free = pragma(file_store, "freelist_count")
    assert list(islice(file_store.reclaim(), 3)) == [page] * 3
    file_store.runs.insert({"a": 1})
    assert [dict(run) for run in file_store.runs] == [{"a": 1}]
    assert pragma(file_store, "freelist_count") <= free - 3
    assert pragma(file_store, "integrity_check") == "ok"


def test_to_wait_for_another_writer_is_no_part_of_a_step(file_store: Store) -> None:
    fill(file_store, 4)
    file_store.runs.truncate()

    def wait(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("BEGIN"):
            threading.Event().wait(2 * vacuum._STEP_TIME)

    engine = file_store._database.engine
    sa.event.listen(engine, "before_cursor_execute", wait)
    assert next(file_store.reclaim()) > pragma(file_store, "page_size")
    sa.event.remove(engine, "before_cursor_execute", wait)


def test_a_little_room_is_left_for_the_writes_to_come(file_store: Store) -> None:
    fill(file_store, 1)
    file_store.runs.truncate()
    with statements(file_store) as sent:
        assert list(file_store.reclaim()) == []
    assert not any("BEGIN" in statement for statement, _ in sent)


def test_a_file_made_without_the_means_keeps_its_length(file_url: str) -> None:
    with contextlib.closing(sqlite3.connect(path_of(file_url))) as connection:
        connection.executescript("CREATE TABLE t (a); DROP TABLE t")
    store = Store(file_url)
    fill(store, 4)
    store.runs.truncate()
    assert list(store.reclaim()) == []
    store.close()


def test_a_long_log_is_cut_off(file_store: Store) -> None:
    with file_store.transaction():
        fill(file_store, 20)
    assert log(file_store) > vacuum.LONG_LOG
    assert sum(file_store.reclaim()) > vacuum.LONG_LOG
    assert log(file_store) == 0
    assert pragma(file_store, "busy_timeout") == 30_000


def test_a_log_that_is_being_read_stays(file_store: Store) -> None:
    reader = sqlite3.connect(path_of(file_store.url), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM axonml_runs").fetchone()
    with file_store.transaction():
        fill(file_store, 20)
    assert list(file_store.reclaim()) == []
    assert log(file_store) > vacuum.LONG_LOG
    reader.close()
    deque(file_store.reclaim())
    assert log(file_store) == 0


def test_what_is_removed_is_not_written_over(file_store: Store) -> None:
    fill(file_store, 20)
    file_store.close()
    file_store.runs.truncate()
    assert log(file_store) < MEGABYTE


def test_other_engines_look_after_themselves() -> None:
    store = Store("memory://")
    assert list(store.reclaim()) == []
    store.close()
