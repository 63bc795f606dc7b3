"""Pruning: state files go, records and metrics stay, and nothing goes that somebody wants to keep."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import engines
from support.factories import code, new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, StateError
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.records import NotebookCheckpoint, RunStatus, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention import Best, Every, Newest, Tagged
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

Make = Callable[..., NotebookCheckpoint]


@pytest.fixture
def states(store: Store, tmp_path: Path) -> StateStorage:  # type: ignore[override]
    return StateStorage(tmp_path / "states", store_id=store.mark_id)


def put(
    repository: NotebookRepository, states: StateStorage, id: str, part: Any, content: bytes
) -> None:
    with states.open_writer("nb", id, part, format="torch") as writer:
        writer.write(content)
        repository.checkpoints.attach_state(id, part, writer.commit, writer.digest)
    states.mark_recorded("nb", id)


@pytest.fixture
def make(repository: NotebookRepository, states: StateStorage) -> Make:
    """Makes a checkpoint of ``nb``, with a model and an optimizer unless told."""
    repository.create(new_notebook(code("a"), id="nb"))

    def make(
        id: str, loss: float = 0, *, parts: Any = ("model", "optimizer"), **fields: Any
    ) -> Any:
        repository.create_checkpoint(new_checkpoint("nb", {"loss": loss}, id=id, **fields))
        for part in parts:
            put(repository, states, id, part, f"{part} of {id}".encode())
        return repository.get_checkpoint(id)

    return make


def files(states: StateStorage) -> list[str]:
    root = Path(states.root)
    return sorted(str(file.relative_to(root / "nb")) for file in root.rglob("*") if file.is_file())


def both(*ids: str) -> list[str]:
    return [f"{id}/{part}.pt" for id in ids for part in ("model", "optimizer")]


def ids(found: Any) -> list[str]:
    return [one.checkpoint.id for one in found]


def test_a_plan_lists_prunable_checkpoints_and_changes_nothing(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    made = {id: make(id, loss) for id, loss in zip("abcd", [2, 1, 3, 4], strict=True)}
    plan = repository.retention.plan("nb", [Best("loss", minimize=True)])
    assert (ids(plan.prunable), plan.kept) == (["c", "a"], 2)
    assert plan.size == 2 * len("model of a" + "optimizer of a")
    assert plan.prunable[0].checkpoint == made["c"]
    assert files(states) == both("a", "b", "c", "d")
    assert repository.list_checkpoints("nb") == list(made.values())[::-1]
    with pytest.raises(InvalidData, match="at least one"):
        repository.retention.plan("nb", [])
    with pytest.raises(NotFound, match="notebook x not found"):
        repository.retention.prune("x", [Newest(1)])


def test_a_pruned_checkpoint_keeps_record_and_metrics(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    old, _ = make("a", 0.5, tags=["t"]), make("b", 1)
    seen: list[tuple[int, int]] = []
    assert ids(repository.retention.prune("nb", [Newest(1)], lambda *done: seen.append(done))) == [
        "a"
    ]
    assert seen == [(0, 1), (1, 1)]
    pruned = repository.get_checkpoint("a")
    assert pruned is not None
    assert (pruned.model_state_path, pruned.optimizer_state_path) == ("", None)
    assert pruned.pruned_at is not None
    assert (pruned.metrics, pruned.tags, pruned.digests, pruned.sizes, pruned.created_at) == (
        old.metrics,
        ["t"],
        old.digests,
        old.sizes,
        old.created_at,
    )
    best = repository.get_best_checkpoint("nb", "loss", True)
    assert best == pruned
    assert files(states) == both("b")
    assert not Path(states.root, "nb", "a").exists()
    assert repository.retention.prune("nb", [Newest(1)]) == []


def test_the_newest_and_pinned_checkpoints_are_never_pruned(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    for run_id in ("done", "failed", "going"):
        repository.runs.start("nb", id=run_id)
    for id, run_id in zip(
        "abcdefgh", ["done", "done", "failed", "failed", "going", "going", None, None], strict=True
    ):
        make(id, run_id=run_id, epoch=ord(id))
    make("nothing", parts=())
    repository.checkpoints.update("a", UpdateCheckpoint(pinned=True))
    repository.runs.update_status("nb", "done", RunStatus.COMPLETED)
    repository.runs.update_status("nb", "failed", RunStatus.FAILED)
    assert ids(repository.retention.prune("nb", [Newest(0)])) == [
        "g",
        "e",
        "c",
        "b",
    ]
    assert files(states) == both("a", "d", "f", "h")


def test_rules_compose(repository: NotebookRepository, states: StateStorage, make: Make) -> None:
    for n, id in enumerate("abcdef"):
        make(id, n, step=n, tags=["t"] if id == "b" else [])
    rules = [Newest(2), Tagged(), Every(3), Best("loss", minimize=True)]
    assert ids(repository.retention.prune("nb", rules)) == ["c"]


def test_registered_files_are_not_pruned(
    repository: NotebookRepository, states: StateStorage, make: Make, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.pt"
    theirs.write_bytes(b"weights")
    make("registered", parts=["optimizer"], model_state_path=str(theirs))
    lent = make("lent")
    make("borrowing", parts=(), model_state_path=lent.model_state_path)
    make("last")
    assert ids(repository.retention.prune("nb", [Newest(1)])) == [
        "lent",
        "registered",
    ]
    found = {one.id: one for one in repository.list_checkpoints("nb")}
    assert found["registered"].model_state_path == str(theirs)
    assert found["registered"].optimizer_state_path is None
    assert (
        found["lent"].model_state_path
        == found["borrowing"].model_state_path
        == lent.model_state_path
    )
    assert theirs.read_bytes() == b"weights"
    assert files(states) == [".store", *both("last"), "lent/.store", "lent/model.pt"][1:]


def test_only_the_pruned_state_can_be_added_again(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    before = make("a")
    make("b")
    repository.retention.prune("nb", [Newest(1)])
    with pytest.raises(Conflict, match="recorded with another model state"):
        put(repository, states, "a", "model", b"other")
    put(repository, states, "a", "optimizer", b"optimizer of a")
    halfway = repository.get_checkpoint("a")
    assert halfway is not None
    assert halfway.pruned_at is not None
    put(repository, states, "a", "model", b"model of a")
    assert repository.get_checkpoint("a") == before
    assert files(states) == both("a", "b")


def test_a_checkpoint_pinned_meanwhile_keeps_its_files(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    for id in "abcd":
        make(id)

    def meanwhile(done: int, _total: int) -> None:
        if not done:
            repository.checkpoints.update("b", UpdateCheckpoint(pinned=True))
            repository.checkpoints.update("c", UpdateCheckpoint(tags=["t"]))

    assert ids(repository.retention.prune("nb", [Newest(1)], meanwhile)) == ["a"]
    assert files(states) == both("b", "c", "d")


def test_a_checkpoint_that_becomes_the_newest_keeps_its_files(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    for id in "abc":
        make(id)

    def meanwhile(done: int, _total: int) -> None:
        if repository.get_checkpoint("c") is not None:
            repository.delete_checkpoint("c")

    assert ids(repository.retention.prune("nb", [Newest(1)], meanwhile)) == ["a"]
    assert files(states) == both("b")


def test_a_run_reopened_meanwhile_keeps_its_newest_checkpoint(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    make("a", run_id="r")
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    make("b")

    def meanwhile(_done: int, _total: int) -> None:
        repository.runs.update_status("nb", "r", RunStatus.RUNNING)

    assert repository.retention.prune("nb", [Newest(1)], meanwhile) == []
    assert files(states) == both("a", "b")


def test_a_file_registered_meanwhile_is_kept(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    old, _ = make("a"), make("b")

    def meanwhile(_done: int, _total: int) -> None:
        if repository.get_checkpoint("again") is None:
            make("again", parts=(), model_state_path=old.model_state_path)

    repository.retention.prune("nb", [Newest(1)], meanwhile)
    assert "a/model.pt" in files(states)


def test_files_left_by_a_killed_pruning_are_removed_by_a_sweep(
    repository: NotebookRepository,
    states: StateStorage,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make("a"), make("b")

    def killed(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(states, "stage_removal", killed)
        with pytest.raises(KeyboardInterrupt):
            repository.retention.prune("nb", [Newest(1)])
    assert {*both("a", "b")} < {*files(states)}

    def named(_notebook_id: str, id: str) -> set[str]:
        checkpoint = repository.get_checkpoint(id)
        assert checkpoint is not None
        paths = (checkpoint.model_state_path, checkpoint.optimizer_state_path)
        return {os.path.basename(path) for path in paths if path}

    sweep(states, named, older_than=-1)
    assert files(states) == both("b")


def test_files_that_cannot_be_removed_are_named(
    repository: NotebookRepository,
    states: StateStorage,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make("a"), make("b")

    def refuse(*_: object) -> None:
        raise StateError("permission denied")

    monkeypatch.setattr(states, "remove_staged", refuse)
    with pytest.raises(
        StateError, match="checkpoint a is pruned, but state files remain: permission denied"
    ):
        repository.retention.prune("nb", [Newest(1)])


def test_many_checkpoints_are_pruned_in_batches(
    repository: NotebookRepository, states: StateStorage, make: Make
) -> None:
    for n in range(130):
        make(f"c{n:03}", n, parts=["model"], step=n)
    done: list[int] = []
    pruned = repository.retention.prune(
        "nb", [Newest(5), Every(50)], lambda now, _total: done.append(now)
    )
    assert len(pruned) == 130 - 5 - 3
    assert done == sorted(done)
    assert len(done) > 2
    assert len(files(states)) == 8


RACER = """
import sys
from pathlib import Path
from jupyter_axon_notebooks.records import NewCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention import Newest
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store
url, root, task = sys.argv[1:]
store = open_store(url)
states = StateStorage(Path(root), store_id=store.mark_id)
repository = NotebookRepository(store, states=states)
print("ready", flush=True)
sys.stdin.readline()
if task == "prune":
    repository.retention.prune("nb", [Newest(1)])
elif task == "pin":
    for checkpoint in repository.list_checkpoints("nb"):
        repository.checkpoints.update(checkpoint.id, UpdateCheckpoint(pinned=True))
else:
    for n in range(25):
        new = NewCheckpoint(id=f"{task}{n}", notebook_id="nb", epoch=n % 3, step=0, metrics={}, run_id="r")
        with states.open_writer("nb", new.id, "model") as writer:
            writer.write(new.id.encode())
            new.model_state_path, digest, _ = writer.commit()
            new.digests = {"model": digest}
            repository.create_checkpoint(new, overwrite=True)
        states.mark_recorded("nb", new.id)
"""


@pytest.fixture(params=engines.ON_DISK)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store of several processes: its URL, and what to see it with."""
    url = engines.new_url(request.param, tmp_path)
    store = open_store(url)
    states = StateStorage(tmp_path / "states", store_id=store.mark_id)
    repository = NotebookRepository(store, states=states)
    repository.create(new_notebook(code("a"), id="nb"))
    yield url, repository, states
    store.close()


def race(url: str, states: StateStorage, *tasks: str) -> None:
    command = [sys.executable, "-c", RACER, url, states.root]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen([*command, task], **pipes) for task in tasks]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in racing:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_concurrent_pruning_and_pinning_agree(shared: Any) -> None:
    url, repository, states = shared
    for n in range(40):
        repository.create_checkpoint(new_checkpoint("nb", id=f"c{n}", epoch=n))
        put(repository, states, f"c{n}", "model", b"weights")
    race(url, states, "prune", "pin", "prune")
    for one in repository.list_checkpoints("nb"):
        assert one.pinned
        assert bool(one.model_state_path) == (one.pruned_at is None)
        assert Path(states.root, "nb", one.id, "model.pt").exists() == (one.pruned_at is None)
    assert repository.list_checkpoints("nb")[0].pruned_at is None


def test_concurrent_overwrites_leave_one_checkpoint_per_position(shared: Any) -> None:
    url, repository, states = shared
    race(url, states, "x", "y")
    found = repository.list_checkpoints("nb")
    assert sorted(one.epoch for one in found) == [0, 1, 2]
    assert files(states) == sorted(f"{one.id}/model.bin" for one in found)
    for one in found:
        assert one.digests == {"model": hashlib.sha256(one.id.encode()).hexdigest()}
        assert Path(one.model_state_path).read_text() == one.id
