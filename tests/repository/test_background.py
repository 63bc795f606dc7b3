"""The background work of a server: garbage collection, expired runs, and logged problems."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.factories import (
    check_contents,
    code,
    count_rows,
    create_versions,
    kill_during_save,
    new_notebook,
    read_contents,
    update_cells,
)

from jupyter_axon_notebooks.background import BackgroundWork
from jupyter_axon_notebooks.garbage import GarbageCollector, Pace
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.runs import run_key
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

LOG = logging.getLogger("test_background")


class ObservedWork(BackgroundWork):
    """Background work whose rounds can be waited for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._round = threading.Condition()

    def run_once(self) -> None:
        super().run_once()
        with self._round:
            self._round.notify_all()

    def runs_until(self, condition: Callable[[], bool]) -> bool:
        """Return whether ``condition`` held after one of the rounds of 30 seconds."""
        with self._round:
            return self._round.wait_for(condition, 30)


def garbage_collector(
    store: Store, root: Path, limit: int | None = None, user_id: str | None = "ada"
) -> GarbageCollector:
    states = StateStorage(root / "states", store_id=store.id)
    repository = NotebookRepository(store)
    return GarbageCollector(repository, states, LOG, history_limit=limit, user_id=user_id)


@contextmanager
def background_work(
    store: Store, root: Path, limit: int | None = None, **options: Any
) -> Iterator[ObservedWork]:
    work = ObservedWork(
        NotebookRepository(store),
        garbage_collector(store, root, limit),
        LOG,
        interval=0.01,
        **options,
    )
    work.start()
    try:
        yield work
    finally:
        assert work.stop()


def collect(collector: GarbageCollector) -> None:
    collector.collect(Pace(threading.Event()))


def test_expired_runs_are_stored_as_stopped(
    repository: NotebookRepository, store: Store, tmp_path: Path
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    repository.runs.start("nb", id="r", lease_until=datetime(2999, 1, 1, tzinfo=timezone.utc))
    with background_work(store, tmp_path) as work:
        repository.runs.renew("nb", "r", datetime(2020, 1, 1, tzinfo=timezone.utc))
        stored = run_key("nb", "r")
        assert work.runs_until(lambda: store.runs.get(doc_id=stored)["status"] == "stopped")
    assert store.notebooks.get(doc_id="nb")["status"] == "stopped"


def test_old_versions_are_removed_down_to_the_limit(
    repository: NotebookRepository, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    create_versions(repository, 6)
    with background_work(store, tmp_path, 3) as work:
        assert work.runs_until(lambda: repository.versions.count("nb") == 3)
        for n in range(5):
            update_cells(repository, code("a", f"new {n}"))
        assert work.runs_until(lambda: repository.versions.count("nb") == 3)
    logged = re.findall(r"removed (\d+) old versions of notebooks and (\d+) ", caplog.text)
    assert [sum(map(int, counts)) for counts in zip(*logged, strict=True)] == [8, 15]
    check_contents(store)


@pytest.mark.parametrize(
    ("limit", "user_id", "left"),
    [(None, "ada", [3, 3]), (1, "ada", [1, 3]), (1, "bob", [3, 1]), (1, None, [1, 1])],
)
def test_the_limit_applies_to_the_notebooks_of_its_user(
    repository: NotebookRepository,
    store: Store,
    tmp_path: Path,
    limit: int | None,
    user_id: str | None,
    left: list[int],
) -> None:
    create_versions(repository, 3, "of ada")
    create_versions(repository, 3, "of bob", user_id="bob")
    collect(garbage_collector(store, tmp_path, limit, user_id))
    assert [repository.versions.count(id) for id in ("of ada", "of bob")] == left


def test_staged_contents_are_removed_by_the_second_collection(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    kill_during_save(url)
    store = open_store(url)
    collection = garbage_collector(store, tmp_path, 100)
    before = read_contents(store)
    collect(collection)
    assert read_contents(store) == before
    collect(collection)
    assert not any(count_rows(store).values())
    store.close()


def test_a_damaged_notebook_does_not_prevent_the_cleanup_of_others(
    repository: NotebookRepository, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = create_versions(repository, 3, "na")[1]
    whole = store.versions.get(doc_id=damaged)
    create_versions(repository, 3, "nb")
    store.versions.update({"cells": None}, doc_ids=[damaged])
    with background_work(store, tmp_path, 1) as work:
        assert work.runs_until(lambda: repository.versions.count("nb") == 1)
        assert work.runs_until(lambda: "clean-up of notebook na failed" in caplog.text)
        assert repository.versions.count("na") == 3
        store.versions.update(whole, doc_ids=[damaged])
        assert work.runs_until(lambda: repository.versions.count("na") == 1)


def test_two_servers_collect_the_garbage_of_one_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    stores = [open_store(url), open_store(url)]
    repository = NotebookRepository(stores[0])
    with (
        background_work(stores[0], tmp_path, 2) as one,
        background_work(stores[1], tmp_path, 2) as other,
    ):
        create_versions(repository, 40)
        for work in (one, other):
            assert work.runs_until(lambda: repository.versions.count("nb") == 2)
    check_contents(stores[0])
    for store in stores:
        store.close()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_records_under_another_origin_are_logged(
    repository: NotebookRepository,
    store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    is_damaged: bool,
) -> None:
    file = tmp_path / "a.ipynb"
    file.write_text("{}")
    for id, path in (("nb", str(file)), ("damaged", "/gone")):
        repository.create(new_notebook(code("a"), id=id, origin="lost", path=path))
    logged = f"for example {file}"
    if is_damaged:
        store.notebooks.update({"created_at": []}, doc_ids=["damaged"])
        logged = "the search for records under other origins failed"
    with background_work(store, tmp_path, origin="here") as work:
        assert work.runs_until(lambda: logged in caplog.text)
