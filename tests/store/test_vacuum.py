"""Unused space is returned to the disk, and nobody has to wait for that."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import islice

import pytest
from tinydb import Query

from jupyter_axon_notebooks.store import Document, Store
from jupyter_axon_notebooks.store.sqlite import vacuum

from .conftest import path_of, pragma

MEGABYTE = 1_000_000


def insert_megabytes(store: Store, count: int) -> None:
    for n in range(count):
        store.runs.insert(Document({"notes": "x" * MEGABYTE}, f"r{n}"))


def log_size(store: Store) -> int:
    return os.stat(f"{path_of(store.url)}-wal").st_size


def test_a_file_shrinks_after_much_was_removed(file_store: Store) -> None:
    insert_megabytes(file_store, 8)
    file_store.runs.remove(doc_ids=[f"r{n}" for n in range(6)])
    assert 4 * MEGABYTE < sum(file_store.vacuum()) < 6 * MEGABYTE
    file_store.close()
    assert path_of(file_store.url).stat().st_size < 4 * MEGABYTE
    assert [len(run["notes"]) for run in file_store.runs.all()] == [MEGABYTE] * 2
    assert list(file_store.vacuum()) == []


def test_vacuum_can_be_stopped_after_any_step(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "_STEP_TIME", 0.0)
    insert_megabytes(file_store, 4)
    file_store.runs.remove(file_store.runs.ids(Query().noop()))
    page, free = pragma(file_store, "page_size"), pragma(file_store, "freelist_count")
    assert list(islice(file_store.vacuum(), 3)) == [page] * 3
    file_store.runs.insert({"a": 1})
    assert [dict(run) for run in file_store.runs.all()] == [{"a": 1}]
    assert pragma(file_store, "freelist_count") <= free - 3
    assert pragma(file_store, "integrity_check") == "ok"


def test_a_long_log_is_truncated_once_nobody_reads_it(file_store: Store) -> None:
    with closing(sqlite3.connect(path_of(file_store.url), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM axonml_runs").fetchone()
        with file_store.transaction():
            insert_megabytes(file_store, 20)
        assert log_size(file_store) > 20 * MEGABYTE
    for _ in range(2):  # the first one copies the log, and the second one begins it anew
        file_store.runs.insert({"a": 1})
    assert log_size(file_store) < 17 * MEGABYTE
