"""The store is looked after in the background, at rest most of the time, and until the server stops."""

from __future__ import annotations

import itertools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.factories import (
    check_contents,
    code,
    contents,
    edit,
    history,
    killed_in_a_save,
    new_notebook,
    rows,
)

from jupyter_axon_notebooks import upkeep
from jupyter_axon_notebooks.repository import NotebookRepository, Removal, garbage
from jupyter_axon_notebooks.repository.garbage import GarbageRepository
from jupyter_axon_notebooks.repository.runs import run_key
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.tidy import tidy
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.upkeep import Upkeep

LOG = logging.getLogger("test_upkeep")


class Watched(Upkeep):
    """One that tells of each look when it is done."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._looked = threading.Condition()

    def look(self) -> None:
        super().look()
        with self._looked:
            self._looked.notify_all()

    def looks_until(self, happened: Callable[[], bool]) -> bool:
        """Whether it has happened, after as many looks as are done in 30 s."""
        with self._looked:
            return self._looked.wait_for(happened, 30)


@contextmanager
def upkeep_of(
    store: Store, root: Path, keep: int | None, interval: float = 0.01, **given: Any
) -> Iterator[Watched]:
    states = StateStorage(root / "states", store_id=store.id)
    running = Watched(store, NotebookRepository(store), states, keep, "ada", LOG, interval, **given)
    running.start()
    try:
        yield running
    finally:
        assert running.stop()


def test_runs_that_lapsed_are_written_down(
    repository: NotebookRepository, store: Store, tmp_path: Path
) -> None:
    repository.create(new_notebook(code("a"), id="nb"))
    repository.runs.start("nb", id="r", lease_until=datetime(2999, 1, 1, tzinfo=timezone.utc))
    with upkeep_of(store, tmp_path, None) as running:
        repository.runs.renew("nb", "r", datetime(2020, 1, 1, tzinfo=timezone.utc))
        assert running.looks_until(
            lambda: store.runs.get(doc_id=run_key("nb", "r"))["status"] == "stopped"
        )
    assert store.notebooks.get(doc_id="nb")["status"] == "stopped"


def test_history_goes_down_to_its_limit_and_stays_there(
    repository: NotebookRepository, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    history(repository, 6)
    with upkeep_of(store, tmp_path, 3) as running:
        assert running.looks_until(lambda: repository.versions.count("nb") == 3)
        for n in range(5):
            edit(repository, code("a", f"new {n}"))
        assert running.looks_until(lambda: repository.versions.count("nb") == 3)
    found = re.findall(r"removed (\d+) old versions of notebooks, and (\d+) ", caplog.text)
    assert sum(int(versions) for versions, _ in found) == 8
    assert sum(int(contents) for _, contents in found) == 15
    check_contents(store)


def test_without_a_limit_all_versions_stay(
    repository: NotebookRepository, store: Store, tmp_path: Path
) -> None:
    history(repository, 6)
    Upkeep(store, repository, StateStorage(tmp_path), None, "ada", LOG).look()
    assert repository.versions.count("nb") == 6


@pytest.mark.parametrize(("user_id", "left"), [("ada", [1, 3]), ("bob", [3, 1]), (None, [1, 1])])
def test_the_limit_is_for_the_notebooks_of_the_user_who_set_it(
    repository: NotebookRepository,
    store: Store,
    tmp_path: Path,
    user_id: str | None,
    left: list[int],
) -> None:
    history(repository, 3, "of ada")
    history(repository, 3, "of bob", user_id="bob")
    Upkeep(store, repository, StateStorage(tmp_path), 1, user_id, LOG).look()
    assert [repository.versions.count(id) for id in ("of ada", "of bob")] == left


def test_there_is_a_rest_between_many_short_histories_as_in_a_long_one(
    repository: NotebookRepository, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        history(repository, 3, f"nb{n}")
    ticks = itertools.count(step=upkeep._TURN / 8)
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    keeping = Upkeep(store, repository, StateStorage(tmp_path), 1, "ada", LOG)
    rests: list[float] = []
    monkeypatch.setattr(keeping._stopping, "wait", rests.append)
    keeping.look()
    assert len(rests) >= 3
    assert min(rests) >= upkeep._TURN * upkeep._REST


def test_what_was_written_ahead_goes_at_the_second_look(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    killed_in_a_save(url)
    store = open_store(url)
    keeping = Upkeep(
        store, NotebookRepository(store), StateStorage(tmp_path / "states"), 100, "ada", LOG
    )
    before = contents(store)
    keeping.look()
    assert contents(store) == before
    keeping.look()
    assert not any(rows(store).values())
    store.close()


def test_a_file_is_shorter_in_the_end(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/axon.db")
    repository = NotebookRepository(store)
    repository.create(new_notebook(code("a", "0"), id="nb"))
    for n in range(1, 9):
        edit(repository, code("a", f"{n}" * 1_000_000))
    store.close()
    before = (tmp_path / "axon.db").stat().st_size
    Upkeep(store, repository, StateStorage(tmp_path / "states"), 1, "ada", LOG).look()
    store.close()
    assert (tmp_path / "axon.db").stat().st_size < before / 2


def test_it_stops_after_the_step_it_is_at(
    repository: NotebookRepository, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_TURN", 0.0)
    monkeypatch.setattr(upkeep, "_TURN", 0.0)
    monkeypatch.setattr(upkeep, "_REST", 1e9)
    monkeypatch.setattr(upkeep, "_LONGEST_REST", 1e6)
    tidy_notebook, removed = GarbageRepository.remove_versions, threading.Event()

    def told(self: GarbageRepository, id: str, keep: int) -> Iterator[Removal]:
        for step in tidy_notebook(self, id, keep):
            if step.versions:
                removed.set()
                yield step

    monkeypatch.setattr(GarbageRepository, "remove_versions", told)
    history(repository, 30)
    with upkeep_of(store, tmp_path, 1) as running:
        assert removed.wait(30)
        assert running.stop()
        assert repository.versions.count("nb") == 29
    check_contents(store)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_records_under_another_origin_are_told_of(
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
    if is_damaged:
        store.notebooks.update({"created_at": []}, doc_ids=["damaged"])
    told = (
        "records under other origins could not be looked after"
        if is_damaged
        else f"the first is {file}"
    )
    with upkeep_of(store, tmp_path, None, origin="here") as running:
        assert running.looks_until(lambda: told in caplog.text)


def test_one_that_was_never_started_is_stopped_already(store: Store, tmp_path: Path) -> None:
    assert Upkeep(store, NotebookRepository(store), StateStorage(tmp_path), 100, "ada", LOG).stop()


def test_trouble_with_one_notebook_is_told_and_in_the_way_of_no_other(
    repository: NotebookRepository, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = history(repository, 3, "na")[1]
    whole = store.versions.get(doc_id=damaged)
    history(repository, 3, "nb")
    store.versions.update({"cells": None}, doc_ids=[damaged])
    with upkeep_of(store, tmp_path, 1) as running:
        assert running.looks_until(lambda: repository.versions.count("nb") == 1)
        assert running.looks_until(lambda: "notebook na could not be looked after" in caplog.text)
        assert repository.versions.count("na") == 3
        store.versions.update(whole, doc_ids=[damaged])
        assert running.looks_until(lambda: repository.versions.count("na") == 1)


def test_two_servers_may_look_after_one_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    stores = [open_store(url), open_store(url)]
    repository = NotebookRepository(stores[0])
    with upkeep_of(stores[0], tmp_path, 2) as one, upkeep_of(stores[1], tmp_path, 2) as other:
        history(repository, 40)
        for running in (one, other):
            assert running.looks_until(lambda: repository.versions.count("nb") == 2)
    check_contents(stores[0])
    for store in stores:
        store.close()


def test_state_files_are_looked_at_with_rests_in_between(
    repository: NotebookRepository, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_TURN", 0.0)
    states = StateStorage(tmp_path, store_id=store.id)
    with states.open_writer("nb", "c1", "model", format="torch") as writer:
        writer.write(b"weights")
        writer.prepare()
        writer.commit()
    rests: list[float | None] = []
    before_the_look: list[int] = []

    class Noted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout)
            return super().wait(timeout)

    class Stopping(Upkeep):
        def look(self) -> None:
            before_the_look.append(len(rests))
            self._stopping.set()

    running = Stopping(store, repository, states, None, None, LOG)
    running._stopping = Noted()
    running.start()
    running._threads[0].join(30)
    assert running.stop()
    assert before_the_look[0] >= 2  # after the folder, and after the file


def test_the_sweep_of_state_files_ends_with_the_server_as_well(
    repository: NotebookRepository, store: Store, tmp_path: Path
) -> None:
    states = StateStorage(tmp_path, store_id=store.id)
    for checkpoint_id in ("c1", "c2", "c3"):
        with states.open_writer("nb", checkpoint_id, "model", format="torch") as writer:
            writer.write(b"weights")
            writer.prepare()
            writer.commit()
    folders = list((tmp_path / "nb").iterdir())
    for path in [*folders, *(file for folder in folders for file in folder.iterdir())]:
        os.utime(path, (0, 0))
    tidy(states, repository, LOG, lambda: False)
    assert sum(folder.exists() for folder in folders) == 2
    tidy(states, repository, LOG, lambda: True)
    assert not any(folder.exists() for folder in folders)
