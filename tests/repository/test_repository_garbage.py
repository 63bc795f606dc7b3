"""Garbage collection of old versions and contents removes nothing that is needed."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.factories import (
    check_contents,
    code,
    count_rows,
    create_versions,
    kill_during_save,
    list_content_ids,
    new_checkpoint,
    new_notebook,
    new_save,
    read_contents,
)

from jupyter_axon_notebooks.errors import NotFound, RecordDamaged
from jupyter_axon_notebooks.garbage import GarbageCollector, Pace
from jupyter_axon_notebooks.records import NotebookCell, RunStatus, now
from jupyter_axon_notebooks.repository import NotebookRepository, Removal, garbage
from jupyter_axon_notebooks.repository import versions as repository_versions
from jupyter_axon_notebooks.repository.retention_rules import Newest
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.store.schema import COLLECTIONS

LOG = logging.getLogger("test")
RUN_TABLES = {"axonml_run_values", "axonml_run_metrics", "axonml_series", "axonml_spools"}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each step of a collection as small as possible."""
    monkeypatch.setattr(garbage, "_TRANSACTION_TIME", 0.0)
    monkeypatch.setattr(garbage, "_PAGE", 2)


def list_versions(repository: NotebookRepository, id: str = "nb") -> list[str]:
    """Return the ids of a notebook's versions, oldest first."""
    return [version.id for version in reversed(repository.versions.list(id))]


def collect(repository: NotebookRepository, keep: int, id: str = "nb") -> Removal:
    steps = list(repository.garbage.remove_versions(id, keep))
    return Removal(sum(step.versions for step in steps), sum(step.contents for step in steps))


# What is kept


def test_the_newest_versions_are_kept(repository: NotebookRepository) -> None:
    versions = create_versions(repository, 5)
    assert repository.garbage.list_notebooks(5) == []
    assert collect(repository, 5) == Removal()
    assert repository.garbage.list_notebooks(4) == ["nb"]
    assert collect(repository, 2) == Removal(versions=3, contents=6)
    assert list_versions(repository) == versions[3:]
    assert repository.garbage.list_notebooks(2) == []
    assert collect(repository, 2) == Removal()


@pytest.mark.parametrize("pruned", [False, True])
def test_the_version_of_a_checkpoint_is_kept(
    repository: NotebookRepository, store: Store, pruned: bool
) -> None:
    versions = create_versions(repository, 3)
    repository.create_checkpoint(new_checkpoint("nb", id="cp", version_id=versions[0]))
    if pruned:
        changes = {"model_state_path": "", "pruned_at": "2026-01-01T00:00:00.000000Z"}
        store.checkpoints.update(changes, doc_ids=["cp"])
    assert repository.garbage.list_notebooks(1) == ["nb"]
    assert collect(repository, 1).versions == 1
    assert list_versions(repository) == [versions[0], versions[2]]
    assert repository.garbage.list_notebooks(1) == []
    repository.delete_checkpoint("cp")
    assert repository.garbage.list_notebooks(1) == ["nb"]
    assert collect(repository, 1).versions == 1
    assert list_versions(repository) == versions[2:]


def test_a_notebook_with_a_damaged_record_keeps_its_history(
    repository: NotebookRepository, store: Store
) -> None:
    versions = create_versions(repository, 3)
    store.notebooks.update({"version_id": "none"}, doc_ids=["nb"])
    with pytest.raises(RecordDamaged, match="none"):
        collect(repository, 1)
    assert list_versions(repository) == versions
    store.notebooks.update({"version_id": versions[-1]}, doc_ids=["nb"])


# Changes between the steps of a collection


class InterleavedCollections(RuleBasedStateMachine):
    """Saves, checkpoints and deletions between the steps of concurrent collections."""

    IDS = st.sampled_from(["nb", "nc"])
    WORDS = st.text("xy", max_size=1)
    CELLS = st.lists(
        st.tuples(st.sampled_from("abc"), WORDS, WORDS), max_size=3, unique_by=lambda cell: cell[0]
    )

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.repository = NotebookRepository(store)
        self.collections: list[Iterator[Removal]] = []
        self.cells: dict[str | None, list[NotebookCell]] = {}

    @rule(id=IDS, cells=CELLS)
    def save(self, id: str, cells: list[tuple[str, str, str]]) -> None:
        save = new_save(*(code(cell_id, source, output) for cell_id, source, output in cells))
        try:
            summary = self.repository.save(id, save)
        except NotFound:
            summary = self.repository.create(new_notebook(id=id), save)
        self.cells[summary.version_id] = save.cells

    @rule(id=IDS, number=st.integers(0, 3))
    def create_checkpoint(self, id: str, number: int) -> None:
        if versions := list_versions(self.repository, id):
            version_id = versions[number % len(versions)]
            self.repository.create_checkpoint(new_checkpoint(id, version_id=version_id))

    @rule(id=IDS, number=st.integers(0, 3))
    def delete_checkpoint(self, id: str, number: int) -> None:
        if checkpoints := self.repository.list_checkpoints(id):
            self.repository.delete_checkpoint(checkpoints[number % len(checkpoints)].id)

    @rule(id=IDS)
    def delete_notebook(self, id: str) -> None:
        if self.repository.find_summary(id) is not None:
            self.repository.delete(id)

    @rule(id=IDS, keep=st.integers(1, 3))
    def start_collection(self, id: str, keep: int) -> None:
        self.collections.append(self.repository.garbage.remove_versions(id, keep))

    @precondition(lambda self: self.collections)
    @rule(number=st.integers(0, 3), steps=st.integers(1, 5))
    def step_collection(self, number: int, steps: int) -> None:
        deque(itertools.islice(self.collections[number % len(self.collections)], steps))

    @rule(id=IDS)
    def remove_staged(self, id: str) -> None:
        deque(self.repository.garbage.remove_staged(id))

    @invariant()
    def every_version_can_be_read(self) -> None:
        assert list_content_ids(self.store) <= read_contents(self.store).keys()
        for notebook in self.repository.list_all():
            found = self.repository.find_by_id(notebook.id)
            assert found.cells == self.cells[found.version_id]
            for version_id in list_versions(self.repository, notebook.id):
                version = self.repository.versions.get(notebook.id, version_id)
                assert version.cells == self.cells[version_id]
            for checkpoint in self.repository.list_checkpoints(notebook.id):
                assert checkpoint.version_id in list_versions(self.repository, notebook.id)

    def teardown(self) -> None:
        for collection in self.collections:
            deque(collection)
        self.every_version_can_be_read()
        for notebook in self.repository.list_all():
            before = list_versions(self.repository, notebook.id)
            checkpoints = self.repository.list_checkpoints(notebook.id)
            needed = {*before[-2:], *(checkpoint.version_id for checkpoint in checkpoints)}
            collect(self.repository, 2, notebook.id)
            assert list_versions(self.repository, notebook.id) == [
                version_id for version_id in before if version_id in needed
            ]
        check_contents(self.store)
        for notebook in self.repository.list_all():
            self.repository.delete(notebook.id)
        assert not any(count_rows(self.store).values())


def test_changes_between_the_steps_of_collections_lose_nothing(
    store: Store, small_steps: None
) -> None:
    run_state_machine_as_test(
        lambda: InterleavedCollections(store),
        settings=settings(deadline=None, max_examples=40, stateful_step_count=25),
    )


# Large saves, which write contents before the version that lists them


def collect_everything(repository: NotebookRepository, id: str) -> Iterator[Removal]:
    """Collect old versions and staged contents, without waiting for a running save."""
    yield from repository.garbage.remove_staged(id)
    yield from repository.garbage.remove_versions(id, 1)
    yield from repository.garbage.remove_staged(id)


def large_cells(text: str, source: str = "1") -> list[NotebookCell]:
    return [code(f"c{n}", source, f"{n}{text}" * 20, count=1) for n in range(5)]


def test_concurrent_saves_and_collections_lose_nothing(
    repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch, small_steps: None
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 150)
    done = threading.Event()

    def keep_collecting() -> int:
        rounds = 0
        while not done.is_set():
            deque(collect_everything(repository, "nb"))
            rounds += 1
        return rounds

    def save(n: int) -> None:
        cells = large_cells(f"{n}", f"{n // 2}")
        if repository.find_summary("nb") is None:
            repository.create(new_notebook(id="nb"), new_save(*cells))
        else:
            repository.save("nb", new_save(*cells))
        if n % 5 == 0:
            repository.create_checkpoint(new_checkpoint("nb"))
        assert repository.find_by_id("nb").cells == cells
        if n % 8 == 7:
            repository.delete("nb")

    with ThreadPoolExecutor(2) as threads:
        collections = [threads.submit(keep_collecting) for _ in range(2)]
        try:
            for n in range(30):
                save(n)
        finally:
            done.set()
        assert all(collection.result() > 1 for collection in collections)
    deque(collect_everything(repository, "nb"))
    for checkpoint in repository.list_checkpoints("nb"):
        assert repository.versions.get("nb", checkpoint.version_id) is not None


@pytest.mark.parametrize(
    "recorded",
    [[], [code("a")], [code(f"c{n}", "1") for n in range(5)]],
    ids=["new", "other sources", "other outputs"],
)
def test_contents_staged_by_a_killed_save_are_removed(
    tmp_path: Path, recorded: list[NotebookCell]
) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    store = open_store(url)
    repository = NotebookRepository(store)
    if recorded:
        repository.create(new_notebook(*recorded, id="nb"))
    kill_during_save(url)
    assert len(read_contents(store).keys() - list_content_ids(store)) > 1
    assert repository.garbage.list_staged() == {"nb"}
    assert repository.garbage.list_notebooks(1) == []
    deque(repository.garbage.remove_staged("nb"))
    assert repository.garbage.list_staged() == set()
    check_contents(store)
    assert repository.count() == bool(recorded)
    store.close()


def test_contents_staged_by_a_killed_save_are_used_by_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    kill_during_save(url)
    store = open_store(url)
    repository = NotebookRepository(store)
    created = repository.create(new_notebook(id="nb"), new_save(*large_cells("q")))
    assert repository.find_by_id("nb") == created
    assert repository.garbage.list_staged() == set()
    check_contents(store)
    store.close()


# Rows of runs


def create_logged_runs(repository: NotebookRepository) -> None:
    """Create two runs in each of two notebooks, with values, summaries, series and offsets."""
    for id in ("nb", "other"):
        repository.create(new_notebook(id=id))
        for run_id in ("gone", "kept"):
            repository.runs.start(id, id=run_id, config={"lr": 0.1}, lease_until=now())
            rows = [Row(step, 0.0, {"loss": 1.0}) for step in range(3)]
            repository.series.append(id, run_id, rows, spool="s", begin=0, end=3)
            new = new_checkpoint(id, {"acc": 0.5}, run_id=run_id)
            repository.create_checkpoint(new)
            repository.runs.update_status(id, run_id, RunStatus.COMPLETED)


def read_run_rows(store: Store) -> dict[tuple[str, str], Counter[str]]:
    """Return the number of rows in each table of runs, by notebook and run."""
    runs = store.run_index.runs
    found: dict[tuple[str, str], Counter[str]] = {}
    with store.snapshot() as connection:
        ids = {row.seq: row.id for row in connection.execute(sa.select(runs.c.seq, runs.c.id))}
        for table in (*store.run_index.tables, *store.logged_series.tables):
            for row in connection.execute(sa.select(table.c.notebook_id, table.c.run)):
                key = row.notebook_id, ids.get(row.run, "lost")
                found.setdefault(key, Counter())[table.name] += 1
    return found


WAYS_TO_DELETE: dict[str, Callable[[NotebookRepository], object]] = {
    "the notebook": lambda r: r.delete("nb"),
    "the run": lambda r: r.runs.remove("nb", "gone"),
    "the run with its checkpoints": lambda r: r.checkpoints.delete_run("nb", "gone"),
    "a checkpoint": lambda r: [r.delete_checkpoint(c.id) for c in r.list_checkpoints("other")],
    "states": lambda r: r.retention.prune("nb", [Newest(1)]),
}


@pytest.mark.parametrize("way", WAYS_TO_DELETE)
def test_the_rows_of_a_run_are_removed_with_it_and_no_others(
    repository: NotebookRepository, store: Store, way: str
) -> None:
    create_logged_runs(repository)
    before = read_run_rows(store)
    assert [set(rows) for rows in before.values()] == [RUN_TABLES] * 4
    if way == "a checkpoint":
        for key in before:
            before[key]["axonml_run_metrics"] -= key[0] == "other"
    runs = {"the notebook": ["gone", "kept"], "a checkpoint": [], "states": []}.get(way, ["gone"])
    for run_id in runs:
        del before["nb", run_key("nb", run_id)]
    WAYS_TO_DELETE[way](repository)
    assert read_run_rows(store) == before
    assert store.garbage.lost_runs() == []


@pytest.mark.parametrize("lost", ["a run", "a notebook"])
def test_the_rows_of_lost_runs_are_collected(
    repository: NotebookRepository, store: Store, tmp_path: Path, lost: str
) -> None:
    create_logged_runs(repository)
    before = read_run_rows(store)
    kept = {("nb", run_key("nb", "kept"))} if lost == "a run" else set()
    rows = {"axonml_runs": f"id = '{run_key('nb', 'gone')}'"}
    if lost == "a notebook":
        rows = {collection.name: "notebook_id = 'nb'" for collection in COLLECTIONS}
        rows["axonml_notebooks"] = "id = 'nb'"
    with store.transaction() as connection:
        store.mark_written()
        for table, condition in rows.items():
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE {condition}")
    assert {id for id, _ in store.garbage.lost_runs()} == {"nb"}
    GarbageCollector(repository, StateStorage(tmp_path), LOG).collect(Pace(threading.Event()))
    assert store.garbage.lost_runs() == []
    assert read_run_rows(store) == {
        key: rows for key, rows in before.items() if key[0] == "other" or key in kept
    }
