"""Garbage collection of old versions and contents removes nothing that is needed."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.factories import (
    check_contents,
    code,
    contents,
    edit,
    history,
    killed_in_a_save,
    listed,
    new_checkpoint,
    new_notebook,
    rows,
    saved,
)

from jupyter_axon_notebooks.errors import NotFound, RecordDamaged
from jupyter_axon_notebooks.records import NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository, Removal, garbage
from jupyter_axon_notebooks.repository import versions as repository_versions
from jupyter_axon_notebooks.store import DocumentTable, Store, open_store
from jupyter_axon_notebooks.store.garbage_queries import GarbageQueries


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps as small as they can be."""
    monkeypatch.setattr(garbage, "_TRANSACTION_TIME", 0.0)
    monkeypatch.setattr(garbage, "_PAGE", 2)


def kept(repository: NotebookRepository, id: str = "nb") -> list[str]:
    return [version.id for version in reversed(repository.versions.list(id))]


def tidied(repository: NotebookRepository, keep: int, id: str = "nb") -> Removal:
    done = list(repository.garbage.remove_versions(id, keep))
    return Removal(sum(step.versions for step in done), sum(step.contents for step in done))


# What stays


def test_the_newest_versions_are_kept(repository: NotebookRepository) -> None:
    versions = history(repository, 5)
    assert repository.garbage.list_notebooks(4) == ["nb"]
    assert tidied(repository, 2) == Removal(versions=3, contents=6)
    assert kept(repository) == versions[3:]
    assert repository.garbage.list_notebooks(2) == []
    assert tidied(repository, 2) == Removal()


def test_a_history_within_its_limit_stays_as_it_is(repository: NotebookRepository) -> None:
    versions = history(repository, 3)
    assert repository.garbage.list_notebooks(3) == []
    assert tidied(repository, 3) == Removal()
    assert kept(repository) == versions


@pytest.mark.parametrize("pruned", [False, True])
def test_a_version_that_a_checkpoint_refers_to_is_kept(
    repository: NotebookRepository, store: Store, pruned: bool
) -> None:
    versions = history(repository, 3)
    repository.create_checkpoint(new_checkpoint("nb", id="cp", version_id=versions[0]))
    if pruned:
        gone = {"model_state_path": "", "pruned_at": "2026-01-01T00:00:00.000000Z"}
        store.checkpoints.update(gone, doc_ids=["cp"])
    assert repository.garbage.list_notebooks(1) == ["nb"]
    assert tidied(repository, 1).versions == 1
    assert kept(repository) == [versions[0], versions[2]]
    assert repository.garbage.list_notebooks(1) == []
    repository.delete_checkpoint("cp")
    assert repository.garbage.list_notebooks(1) == ["nb"]
    assert tidied(repository, 1).versions == 1
    assert kept(repository) == versions[2:]


def test_a_content_stays_as_long_as_any_version_lists_it(repository: NotebookRepository) -> None:
    history(repository, 1)
    edit(repository, code("a", "other"))
    edit(repository, code("a", "same"), code("b", "0", "0"))
    assert tidied(repository, 1) == Removal(versions=2, contents=1)
    notebook = repository.find_by_id("nb")
    assert notebook is not None
    assert notebook.cells == [code("a", "same"), code("b", "0", "0")]


def test_a_content_is_removed_with_the_last_version_that_lists_it(
    repository: NotebookRepository, store: Store
) -> None:
    history(repository, 2)
    edit(repository, code("a", "same"), code("b", "2", "0"), code("c", "", "0"))
    tidied(repository, 1)
    edit(repository, code("a", "same"), code("b", "2", "1"), code("c", "", "1"))
    check_contents(store)
    edit(repository, code("a", "new"))
    tidied(repository, 1)
    assert len(contents(store)) == 1


def test_other_notebooks_stay_as_they_are(repository: NotebookRepository) -> None:
    history(repository, 3)
    others = history(repository, 3, id="nb/1")
    tidied(repository, 1)
    assert kept(repository, "nb/1") == others
    assert repository.garbage.list_notebooks(1) == ["nb/1"]


def test_a_missing_notebook_has_no_garbage(repository: NotebookRepository) -> None:
    assert tidied(repository, 1, "none") == Removal()
    assert list(repository.garbage.remove_staged("none")) == []


# Steps


def test_each_step_leaves_a_consistent_store(
    repository: NotebookRepository, store: Store, one_by_one: None
) -> None:
    history(repository, 5)
    left = []
    for _ in repository.garbage.remove_versions("nb", 1):
        check_contents(store)
        left.append(repository.versions.count("nb"))
    assert sorted(set(left), reverse=True) == [5, 4, 3, 2, 1]


def test_waiting_for_the_lock_does_not_count_as_work(tmp_path: Path) -> None:
    store, other = (open_store(f"sqlite:///{tmp_path}/axon.db") for _ in range(2))
    repository = NotebookRepository(store)
    history(repository, 5)
    steps = (step for step in repository.garbage.remove_versions("nb", 1) if step.versions)
    removed: list[Removal] = []
    waiting = threading.Thread(target=lambda: removed.append(next(steps)))
    with other.transaction():
        waiting.start()
        waiting.join(3 * garbage._TRANSACTION_TIME)
        assert waiting.is_alive()
    waiting.join()
    assert removed == [Removal(versions=4, contents=8)]
    other.close()
    store.close()


def test_long_histories_are_read_without_a_lock(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch, one_by_one: None
) -> None:
    asked: set[str] = set()

    def noted(kind: type, name: str) -> None:
        ask = getattr(kind, name)

        def unlocked(*given: Any, **named: Any) -> Any:
            asked.add(name)
            assert not store._database._work.writable, name
            return ask(*given, **named)

        monkeypatch.setattr(kind, name, unlocked)

    history(repository, 5)
    store.contents.insert({"notebook_id": "nb", "ordinal": 0, "content": {}})
    noted(DocumentTable, "ids")
    noted(GarbageQueries, "version_numbers")
    noted(repository_versions.VersionRepository, "content_ids")
    assert tidied(repository, 1) == Removal(versions=4, contents=9)
    assert asked == {"ids", "version_numbers", "content_ids"}


def test_changes_between_two_steps_are_noticed(
    repository: NotebookRepository, store: Store, one_by_one: None
) -> None:
    def save() -> None:
        edit(repository, code("a", "same"), code("b", "0", "0"))

    def replace() -> None:
        edit(repository, code("a", "same"), code("b", "3", "another"))

    def make_anew() -> None:
        repository.delete("nb")
        history(repository, 3)
        edit(repository, code("a", "same"), code("b", "0", "0"))

    for after, happens in itertools.product(range(9), [save, replace, make_anew]):
        history(repository, 4)
        steps = repository.garbage.remove_versions("nb", 1)
        list(itertools.islice(steps, after))
        happens()
        deque(steps)
        tidied(repository, 1)
        check_contents(store)
        repository.delete("nb")


def test_ordinals_may_be_large(repository: NotebookRepository, store: Store) -> None:
    versions = history(repository, 4)
    for n, version in enumerate(versions):
        store.versions.update({"ordinal": 2**63 - 10 + 2 * n}, doc_ids=[version])
    assert tidied(repository, 2) == Removal(versions=2, contents=4)
    assert kept(repository) == versions[2:]


def test_a_notebook_with_a_damaged_record_keeps_its_history(
    repository: NotebookRepository, store: Store
) -> None:
    versions = history(repository, 3)
    store.notebooks.update({"version_id": "none"}, doc_ids=["nb"])
    with pytest.raises(RecordDamaged, match="none"):
        tidied(repository, 1)
    assert kept(repository) == versions
    store.notebooks.update({"version_id": versions[-1]}, doc_ids=["nb"])


def test_a_notebook_may_be_deleted_between_steps(
    repository: NotebookRepository, store: Store, one_by_one: None
) -> None:
    for after in range(8):
        history(repository, 4)
        steps = repository.garbage.remove_versions("nb", 1)
        list(itertools.islice(steps, after))
        repository.delete("nb")
        assert not any(step.versions or step.contents for step in steps)
        assert not any(rows(store).values())


def test_two_concurrent_collections_leave_the_same_as_one(
    repository: NotebookRepository, store: Store, one_by_one: None
) -> None:
    for number, turns in enumerate(itertools.product([0, 1], repeat=6)):
        id = f"nb{number}"
        history(repository, 2, id)
        edit(repository, code("a", "same"), code("b", "0", "0"), code("c", "0", "0"), id=id)
        edit(repository, code("z"), id=id)
        sweeps = [
            repository.garbage.remove_versions(id, 1),
            repository.garbage.remove_versions(id, 1),
        ]
        for turn in turns:
            next(sweeps[turn], None)
        for sweep in sweeps:
            deque(sweep)
        assert repository.versions.count(id) == 1
    check_contents(store)


def test_a_checkpoint_added_between_steps_keeps_its_version(
    repository: NotebookRepository, store: Store, one_by_one: None
) -> None:
    for after in range(6):
        id = f"nb{after}"
        versions = history(repository, 4, id)
        steps = repository.garbage.remove_versions(id, 1)
        list(itertools.islice(steps, after))
        oldest = kept(repository, id)[0]
        repository.create_checkpoint(new_checkpoint(id, version_id=oldest))
        deque(steps)
        assert kept(repository, id) == sorted({oldest, versions[-1]}, key=versions.index)
    check_contents(store)


# Large saves, which write contents ahead of the version that lists them


class Between:
    """Does steps of a sweep before each unit of work of what is done inside: ``times[n]`` before the n-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self._transaction = store.transaction
        self._times: Iterator[int] = iter(())
        self._steps: Iterator[Removal] | None = None
        self.units = 0
        monkeypatch.setattr(store, "transaction", self._begin)

    def _begin(self) -> AbstractContextManager[Any]:
        steps, self._steps = self._steps, None  # a step's own units are not stepped between
        if steps is not None:
            self.units += 1
            deque(itertools.islice(steps, next(self._times, 0)))
        self._steps = steps
        return self._transaction()

    def run(
        self,
        steps: Iterator[Removal],
        times: tuple[int, ...],
        work: Callable[..., Any],
        *given: Any,
    ) -> None:
        """Do ``work``, then the steps that are left."""
        self._steps, self._times, self.units = steps, iter(times), 0
        work(*given)
        self._steps = None
        deque(steps)


def sweep(repository: NotebookRepository, id: str) -> Iterator[Removal]:
    """All there is, with no regard to whether a save is under way."""
    yield from repository.garbage.remove_staged(id)
    yield from repository.garbage.remove_versions(id, 1)
    yield from repository.garbage.remove_staged(id)


def ways(steps: int, places: int) -> Iterator[tuple[int, ...]]:
    """All ways to do at most ``steps`` steps in ``places`` places."""
    return (way for way in itertools.product(range(steps + 1), repeat=places) if sum(way) <= steps)


def bulky(text: str, source: str = "1") -> list[NotebookCell]:
    return [code(f"c{n}", source, f"{n}{text}" * 20, count=1) for n in range(5)]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch, store: Store, one_by_one: None) -> Between:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 150)
    return Between(monkeypatch, store)


@pytest.mark.parametrize("source", ["1", "2"])
def test_collection_during_a_large_save_removes_nothing_needed(
    repository: NotebookRepository, store: Store, between: Between, source: str
) -> None:
    cells = bulky("q", source)
    for times in ways(3, 4):
        repository.create(new_notebook(id="nb"), saved(code("z", "z")))
        repository.save("nb", saved(*bulky("p")))
        between.run(sweep(repository, "nb"), times, repository.save, "nb", saved(*cells))
        assert between.units >= (3 if store.admits_one_writer else 1)
        notebook = repository.find_by_id("nb")
        assert notebook is not None
        assert notebook.cells == cells
        for version in repository.versions.list("nb"):
            assert repository.versions.get("nb", version.id) is not None
        deque(sweep(repository, "nb"))
        check_contents(store)
        repository.delete("nb")


def test_collection_during_a_large_creation_removes_nothing_needed(
    repository: NotebookRepository, store: Store, between: Between
) -> None:
    cells = bulky("q")
    for times in ways(3, 4):
        steps = itertools.chain.from_iterable(
            repository.garbage.remove_staged("nb") for _ in range(4)
        )
        between.run(steps, times, repository.create, new_notebook(id="nb"), saved(*cells))
        assert between.units >= (3 if store.admits_one_writer else 1)
        notebook = repository.find_by_id("nb")
        assert notebook is not None
        assert notebook.cells == cells
        check_contents(store)
        repository.delete("nb")


def test_concurrent_saves_and_collections_lose_nothing(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch, one_by_one: None
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 150)
    done = threading.Event()

    def keep_sweeping() -> int:
        turns = 0
        while not done.is_set():
            deque(sweep(repository, "nb"))
            turns += 1
        return turns

    def save(n: int) -> None:
        cells = bulky(f"{n}", f"{n // 2}")
        if repository.find_summary("nb") is None:
            repository.create(new_notebook(id="nb"), saved(*cells))
        else:
            repository.save("nb", saved(*cells))
        if n % 5 == 0:
            repository.create_checkpoint(new_checkpoint("nb"))
        notebook = repository.find_by_id("nb")
        assert notebook is not None
        assert notebook.cells == cells
        if n % 8 == 7:
            repository.delete("nb")

    with ThreadPoolExecutor(2) as threads:
        sweeps = [threads.submit(keep_sweeping) for _ in range(2)]
        try:
            for n in range(30):
                save(n)
        finally:
            done.set()
        assert all(sweeping.result() > 1 for sweeping in sweeps)
    deque(sweep(repository, "nb"))
    for checkpoint in repository.list_checkpoints("nb"):
        assert repository.versions.get("nb", checkpoint.version_id or "") is not None


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
    killed_in_a_save(url)
    assert len(contents(store).keys() - listed(store)) > 1
    assert repository.garbage.list_staged() == {"nb"}
    assert repository.garbage.list_notebooks(1) == []
    deque(repository.garbage.remove_staged("nb"))
    assert repository.garbage.list_staged() == set()
    check_contents(store)
    assert repository.count() == bool(recorded)
    store.close()


def test_contents_staged_by_a_killed_save_are_used_by_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/axon.db"
    killed_in_a_save(url)
    store = open_store(url)
    repository = NotebookRepository(store)
    made = repository.create(new_notebook(id="nb"), saved(*bulky("q")))
    assert repository.find_by_id("nb") == made
    assert repository.garbage.list_staged() == set()
    check_contents(store)
    store.close()


def test_unlisted_contents_are_removed_with_the_next_old_version(
    repository: NotebookRepository, store: Store
) -> None:
    history(repository, 2)
    of_killed = {"notebook_id": "nb", "ordinal": 0, "content": {}}
    store.contents.insert(of_killed)
    edit(repository, code("a", "same"), code("b", "2"))
    tidied(repository, 1)
    check_contents(store)


# At random

IDS = st.sampled_from(["nb", "nc"])
WORDS = st.text("xy", max_size=1)
CELLS = st.lists(
    st.tuples(st.sampled_from("abc"), WORDS, WORDS), max_size=3, unique_by=lambda cell: cell[0]
)
OPERATIONS = st.one_of(
    st.tuples(st.just("save"), IDS, CELLS),
    st.tuples(st.just("checkpoint"), IDS, st.integers(0, 3)),
    st.tuples(st.just("forget checkpoint"), IDS, st.integers(0, 3)),
    st.tuples(st.just("delete"), IDS, st.none()),
    st.tuples(st.just("tidy"), IDS, st.integers(1, 3)),
    st.tuples(st.just("begin to tidy"), IDS, st.integers(1, 3)),
    st.tuples(st.just("drop ahead"), IDS, st.none()),
)


class Life:
    """What happens to a store, and what its versions have to say in the end."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.repository = NotebookRepository(store)
        self.cells: dict[str, list[NotebookCell]] = {}

    def do(self, what: str, id: str, how: Any) -> None:
        repository = self.repository
        match what:
            case "save":
                self._save(id, [code(cell, source, output) for cell, source, output in how])
            case "checkpoint" if versions := repository.versions.list(id):
                version = versions[how % len(versions)].id
                repository.create_checkpoint(new_checkpoint(id, version_id=version))
            case "forget checkpoint" if made := repository.list_checkpoints(id):
                repository.delete_checkpoint(made[how % len(made)].id)
            case "delete" if repository.find_summary(id) is not None:
                repository.delete(id)
            case "tidy":
                deque(repository.garbage.remove_versions(id, how))
            case "begin to tidy":
                deque(itertools.islice(repository.garbage.remove_versions(id, how), 2))
            case "drop ahead":
                deque(repository.garbage.remove_staged(id))

    def _save(self, id: str, cells: list[NotebookCell]) -> None:
        try:
            version_id = self.repository.save(id, saved(*cells)).version_id
        except NotFound:
            version_id = self.repository.create(new_notebook(id=id), saved(*cells)).version_id
        self.cells[version_id or ""] = cells

    def check(self) -> None:
        """Everything that is there reads back as it was saved."""
        assert listed(self.store) <= contents(self.store).keys()
        for notebook in self.repository.list_all():
            found = self.repository.find_by_id(notebook.id)
            assert found is not None
            assert found.cells == self.cells[found.version_id or ""]
            for version in self.repository.versions.list(notebook.id):
                read = self.repository.versions.get(notebook.id, version.id)
                assert read is not None
                assert read.cells == self.cells[version.id]
            for checkpoint in self.repository.list_checkpoints(notebook.id):
                assert (
                    self.repository.versions.get(notebook.id, checkpoint.version_id or "")
                    is not None
                )


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(OPERATIONS, max_size=25))
def test_any_sequence_of_operations_leaves_a_consistent_store(
    store: Store, operations: list[tuple[str, str, Any]]
) -> None:
    life = Life(store)
    for operation in operations:
        life.do(*operation)
    life.check()
    for notebook in life.repository.list_all():
        before = kept(life.repository, notebook.id)
        referred = {made.version_id for made in life.repository.list_checkpoints(notebook.id)}
        deque(life.repository.garbage.remove_versions(notebook.id, 2))
        expected = [version for version in before if version in {*before[-2:], *referred}]
        assert kept(life.repository, notebook.id) == expected
    life.check()
    check_contents(store)
    for notebook in life.repository.list_all():
        life.repository.delete(notebook.id)
    assert not any(rows(store).values())
