"""Pruning removes state files, and keeps records, metrics and protected checkpoints."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace
from support import engines
from support.factories import code, new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, StateError
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.records import NotebookCheckpoint, RunStatus, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention import RunPruning
from jupyter_axon_notebooks.repository.retention_rules import (
    Best,
    Every,
    Newest,
    Tagged,
    parse_rules,
)
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

CreateCheckpoint = Callable[..., NotebookCheckpoint]


@pytest.fixture
def states(store: Store, tmp_path: Path) -> StateStorage:  # type: ignore[override]
    return StateStorage(tmp_path / "states", store_id=store.mark_id)


def attach_state(
    repository: NotebookRepository, states: StateStorage, id: str, part: Any, content: bytes
) -> None:
    with states.open_writer("nb", id, part, format="torch") as writer:
        writer.write(content)
        repository.checkpoints.attach_state(id, part, writer.commit, writer.digest)
    states.mark_recorded("nb", id)


@pytest.fixture
def create(repository: NotebookRepository, states: StateStorage) -> CreateCheckpoint:
    """A function that creates a checkpoint of ``nb`` with state files."""
    repository.create(new_notebook(code("a"), id="nb"))

    def create(
        id: str, loss: float = 0, *, parts: Any = ("model", "optimizer"), **fields: Any
    ) -> Any:
        repository.create_checkpoint(new_checkpoint("nb", {"loss": loss}, id=id, **fields))
        for part in parts:
            attach_state(repository, states, id, part, f"{part} of {id}".encode())
        return repository.get_checkpoint(id)

    return create


def list_files(states: StateStorage) -> list[str]:
    root = Path(states.root)
    return sorted(str(file.relative_to(root / "nb")) for file in root.rglob("*") if file.is_file())


def file_names(*ids: str) -> list[str]:
    """Return the names of the files of checkpoints with a model and an optimizer."""
    return [f"{id}/{part}.pt" for id in ids for part in ("model", "optimizer")]


def checkpoint_ids(prunable: Any) -> list[str]:
    return [one.checkpoint.id for one in prunable]


def test_a_plan_lists_prunable_checkpoints_and_changes_nothing(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    checkpoints = [create(id, loss) for id, loss in zip("abcd", [2, 1, 3, 4], strict=True)]
    plan = repository.retention.plan("nb", [Best("loss", minimize=True)])
    assert [one.checkpoint for one in plan.prunable] == [checkpoints[2], checkpoints[0]]
    assert plan.kept == 2
    assert plan.size == 2 * len("model of a" + "optimizer of a")
    assert list_files(states) == file_names("a", "b", "c", "d")
    assert repository.list_checkpoints("nb") == checkpoints[::-1]
    with pytest.raises(InvalidData, match="at least one"):
        repository.retention.plan("nb", [])
    with pytest.raises(NotFound, match="notebook x not found"):
        repository.retention.prune("x", [Newest(1)])


def test_a_pruned_checkpoint_keeps_its_record_and_metrics(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    before, _ = create("a", 0.5, tags=["t"]), create("b", 1)
    progress: list[tuple[int, int]] = []
    removed = repository.retention.prune("nb", [Newest(1)], lambda *done: progress.append(done))
    assert checkpoint_ids(removed) == ["a"]
    assert progress == [(0, 1), (1, 1)]
    pruned = repository.get_checkpoint("a")
    assert pruned.pruned_at is not None
    assert pruned == replace(
        before, model_state_path="", optimizer_state_path=None, pruned_at=pruned.pruned_at
    )
    assert repository.get_best_checkpoint("nb", "loss", True) == pruned
    assert list_files(states) == file_names("b")
    assert not Path(states.root, "nb", "a").exists()
    assert repository.retention.prune("nb", [Newest(1)]) == []


def test_pinned_and_newest_checkpoints_are_never_pruned(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for id, run_id in zip(
        "abcdefgh", ["done", "done", "failed", "failed", "alive", "alive", None, None], strict=True
    ):
        create(id, run_id=run_id, epoch=ord(id))
    create("nothing", parts=())
    repository.checkpoints.update("a", UpdateCheckpoint(pinned=True))
    repository.runs.update_status("nb", "done", RunStatus.COMPLETED)
    repository.runs.update_status("nb", "failed", RunStatus.FAILED)
    assert checkpoint_ids(repository.retention.prune("nb", [Newest(0)])) == ["g", "e", "c", "b"]
    assert list_files(states) == file_names("a", "d", "f", "h")


def test_rules_compose(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for n, id in enumerate("abcdef"):
        create(id, n, step=n, tags=["t"] if id == "b" else [])
    rules = [Newest(2), Tagged(), Every(3), Best("loss", minimize=True)]
    assert checkpoint_ids(repository.retention.prune("nb", rules)) == ["c"]


def test_registered_files_are_not_pruned(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint, tmp_path: Path
) -> None:
    registered = tmp_path / "registered.pt"
    registered.write_bytes(b"weights")
    create("registered", parts=["optimizer"], model_state_path=str(registered))
    model_path = create("shared").model_state_path
    create("sharing", parts=(), model_state_path=model_path)
    create("last")
    assert checkpoint_ids(repository.retention.prune("nb", [Newest(1)])) == ["shared", "registered"]
    found = {checkpoint.id: checkpoint for checkpoint in repository.list_checkpoints("nb")}
    assert found["registered"].model_state_path == str(registered)
    assert found["registered"].optimizer_state_path is None
    assert found["shared"].model_state_path == found["sharing"].model_state_path == model_path
    assert registered.read_bytes() == b"weights"
    assert list_files(states) == [*file_names("last"), "shared/.store", "shared/model.pt"]


def test_only_the_pruned_state_can_be_added_again(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    before = create("a")
    create("b")
    repository.retention.prune("nb", [Newest(1)])
    with pytest.raises(Conflict, match="recorded with another model state"):
        attach_state(repository, states, "a", "model", b"other")
    attach_state(repository, states, "a", "optimizer", b"optimizer of a")
    assert repository.get_checkpoint("a").pruned_at is not None
    attach_state(repository, states, "a", "model", b"model of a")
    assert repository.get_checkpoint("a") == before
    assert list_files(states) == file_names("a", "b")


def test_a_checkpoint_pinned_during_pruning_keeps_its_files(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for id in "abcd":
        create(id)

    def pin(done: int, _total: int) -> None:
        if not done:
            repository.checkpoints.update("b", UpdateCheckpoint(pinned=True))
            repository.checkpoints.update("c", UpdateCheckpoint(tags=["t"]))

    assert checkpoint_ids(repository.retention.prune("nb", [Newest(1)], pin)) == ["a"]
    assert list_files(states) == file_names("b", "c", "d")


def test_a_checkpoint_that_becomes_the_newest_during_pruning_keeps_its_files(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for id in "abc":
        create(id)

    def delete_newest(done: int, _total: int) -> None:
        if repository.get_checkpoint("c") is not None:
            repository.delete_checkpoint("c")

    assert checkpoint_ids(repository.retention.prune("nb", [Newest(1)], delete_newest)) == ["a"]
    assert list_files(states) == file_names("b")


def test_a_run_reopened_during_pruning_keeps_its_newest_checkpoint(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    create("a", run_id="r")
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    create("b")

    def reopen(_done: int, _total: int) -> None:
        repository.runs.update_status("nb", "r", RunStatus.RUNNING)

    assert repository.retention.prune("nb", [Newest(1)], reopen) == []
    assert list_files(states) == file_names("a", "b")


def test_a_file_registered_during_pruning_is_kept(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    path, _ = create("a").model_state_path, create("b")

    def register(_done: int, _total: int) -> None:
        if repository.get_checkpoint("again") is None:
            create("again", parts=(), model_state_path=path)

    repository.retention.prune("nb", [Newest(1)], register)
    assert "a/model.pt" in list_files(states)


def test_files_left_by_a_killed_pruning_are_removed_by_a_sweep(
    repository: NotebookRepository,
    states: StateStorage,
    create: CreateCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create("a"), create("b")
    with monkeypatch.context() as patch:
        patch.setattr(states, "stage_removal", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            repository.retention.prune("nb", [Newest(1)])
    assert {*file_names("a", "b")} < {*list_files(states)}
    sweep(states, repository.checkpoints.list_state_names, older_than=-1)
    assert list_files(states) == file_names("b")


def test_files_that_cannot_be_removed_are_named(
    repository: NotebookRepository,
    states: StateStorage,
    create: CreateCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create("a"), create("b")
    error = StateError("permission denied")
    monkeypatch.setattr(states, "remove_staged", Mock(side_effect=error))
    with pytest.raises(
        StateError, match="checkpoint a is pruned, but state files remain: permission denied"
    ):
        repository.retention.prune("nb", [Newest(1)])


def test_many_checkpoints_are_pruned_in_batches(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for n in range(130):
        create(f"c{n:03}", n, parts=["model"], step=n)
    progress: list[int] = []
    pruned = repository.retention.prune(
        "nb", [Newest(5), Every(50)], lambda done, _total: progress.append(done)
    )
    assert len(pruned) == 130 - 5 - 3
    assert progress == sorted(progress)
    assert len(progress) > 2
    assert len(list_files(states)) == 8


def prune_run(repository: NotebookRepository, rules: str, ids: Iterable[str]) -> RunPruning:
    return repository.retention.prune_run("nb", "r", list(ids), parse_rules(rules))


@pytest.fixture
def create_of_run(create: CreateCheckpoint) -> Callable[[str, Any], None]:
    """A function that creates checkpoints of the run ``r``, at steps from 0."""

    def create_of_run(ids: str, losses: Any = ()) -> None:
        given = dict(zip(ids, losses, strict=False))
        for step, id in enumerate(ids):
            create(id, given.get(id, 0), run_id="r", step=step)

    return create_of_run


def test_a_run_is_pruned_by_its_own_rules(
    repository: NotebookRepository, states: StateStorage, create_of_run: Any
) -> None:
    create_of_run("abcdefgh", [5, 1, 4, 2, 9, 9, 9, 9])
    result = prune_run(repository, "last:2, best:loss:2, every:4", "abcdefgh")
    assert checkpoint_ids(result.pruned) == ["f", "c"]
    assert result.candidates == set("bdgh")
    assert list_files(states) == file_names(*"abdegh")
    pruned = repository.get_checkpoint("c")
    assert pruned.pruned_at is not None
    assert (pruned.model_state_path, pruned.metrics) == ("", {"loss": 4})
    assert prune_run(repository, "last:2, best:loss:2, every:4", "bdgh").pruned == []


def test_pinned_and_tagged_checkpoints_of_a_run_are_kept(
    repository: NotebookRepository, create_of_run: Any
) -> None:
    create_of_run("abcd")
    repository.checkpoints.update("a", UpdateCheckpoint(pinned=True))
    repository.checkpoints.update("b", UpdateCheckpoint(tags=["release"]))
    result = prune_run(repository, "last:1", "abcd")
    assert checkpoint_ids(result.pruned) == ["c"]
    assert result.candidates == {"d"}


def test_checkpoints_that_were_resumed_from_are_kept(
    repository: NotebookRepository, create: CreateCheckpoint, create_of_run: Any
) -> None:
    create("parent", run_id="before")
    create_of_run("abcd")
    repository.runs.start("nb", id="branch", parent_checkpoint_id="b")
    repository.runs.start("nb", id="other", parent_checkpoint_id="parent")
    create("x", run_id="branch")
    result = prune_run(repository, "last:1", "abcdx")
    assert checkpoint_ids(result.pruned) == ["c", "a"]


def test_checkpoints_of_other_runs_and_notebooks_are_left_alone(
    repository: NotebookRepository, states: StateStorage, create: CreateCheckpoint
) -> None:
    for step, (id, run) in enumerate(zip("abcd", ["s", None, "r", "r"], strict=True)):
        create(id, run_id=run, step=step)
    repository.create(new_notebook(code("a"), id="other"))
    repository.create_checkpoint(new_checkpoint("other", id="e", run_id="r"))
    result = prune_run(repository, "last:1", ["a", "b", "c", "d", "e", "unknown"])
    assert checkpoint_ids(result.pruned) == ["c"]
    assert result.candidates == {"d"}
    assert list_files(states) == file_names("a", "b", "d")
    assert repository.retention.prune_run("gone", "r", ["d"], [Newest(1)]).pruned == []


def test_a_run_can_be_resumed_after_pruning(
    repository: NotebookRepository, create: CreateCheckpoint
) -> None:
    for step, parts in enumerate([["model"], ["model"], ["optimizer"], [], ["optimizer"]]):
        create("abcde"[step], 5 - step, parts=parts, run_id="r", step=step)
    result = prune_run(repository, "best:loss:max:1", "abcde")
    assert checkpoint_ids(result.pruned) == ["c"]  # "b" has the newest state of a model
    assert result.candidates == set("abe")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5"])
def test_a_run_without_the_metric_is_not_pruned(
    repository: NotebookRepository, create_of_run: Any, value: Any
) -> None:
    create_of_run("abcd", [value] * 3 + [1])
    result = prune_run(repository, "last:1, best:loss", "abc")
    assert (result.pruned, result.missing_metric) == ([], "loss")
    assert result.candidates == set("abc")
    result = prune_run(repository, "last:1, best:loss", "abcd")
    assert checkpoint_ids(result.pruned) == ["c", "b", "a"]


def test_files_that_others_use_are_not_pruned_with_a_run(
    repository: NotebookRepository, create: CreateCheckpoint, create_of_run: Any, tmp_path: Path
) -> None:
    registered = tmp_path / "registered.pt"
    registered.write_bytes(b"weights")
    create("r0", parts=(), model_state_path=str(registered), run_id="r", step=90)
    create_of_run("abc")
    shared = repository.get_checkpoint("a").model_state_path
    create("sharing", parts=(), model_state_path=shared)
    result = prune_run(repository, "last:1", ["r0", "a", "b", "c"])
    assert [(one.checkpoint.id, set(one.paths)) for one in result.pruned] == [
        ("b", {"model", "optimizer"}),
        ("a", {"optimizer"}),
    ]
    assert registered.exists()


def test_many_checkpoints_of_a_run_are_pruned_in_several_calls(
    repository: NotebookRepository, create: CreateCheckpoint
) -> None:
    ids = [f"c{n:03}" for n in range(50)]
    for step, id in enumerate(ids):
        create(id, step, parts=["model"], run_id="r", step=step)
    candidates, counts = set(ids), []
    while len(candidates) > 1:
        result = prune_run(repository, "last:1", candidates)
        counts.append(len(result.pruned))
        candidates = result.candidates
    assert (candidates, sum(counts)) == ({"c049"}, 49)
    assert len(counts) > 1


WORKER = """
import sys
from pathlib import Path
from contextlib import closing
from unittest.mock import Mock
from jupyter_axon_notebooks.records import NewCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention_rules import Newest
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
        position = {"epoch": n % 3, "step": 0, "run_id": "r"}
        new = NewCheckpoint(id=f"{task}{n}", notebook_id="nb", metrics={}, **position)
        with states.open_writer("nb", new.id, "model") as writer:
            writer.write(new.id.encode())
            new.model_state_path, digest, _ = writer.commit()
            new.digests = {"model": digest}
            repository.create_checkpoint(new, overwrite=True)
        states.mark_recorded("nb", new.id)
"""


@pytest.fixture(params=engines.ON_DISK)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store for several processes: its URL, repository and state files."""
    url = engines.new_url(request.param, tmp_path)
    with closing(open_store(url)) as store:
        states = StateStorage(tmp_path / "states", store_id=store.mark_id)
        repository = NotebookRepository(store, states=states)
        repository.create(new_notebook(code("a"), id="nb"))
        yield url, repository, states


def run_processes(url: str, states: StateStorage, *tasks: str) -> None:
    command = [sys.executable, "-c", WORKER, url, states.root]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, task], **pipes) for task in tasks]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_concurrent_pruning_and_pinning_agree(shared: Any) -> None:
    url, repository, states = shared
    for n in range(40):
        repository.create_checkpoint(new_checkpoint("nb", id=f"c{n}", epoch=n))
        attach_state(repository, states, f"c{n}", "model", b"weights")
    run_processes(url, states, "prune", "pin", "prune")
    for one in repository.list_checkpoints("nb"):
        assert one.pinned
        assert bool(one.model_state_path) == (one.pruned_at is None)
        assert Path(states.root, "nb", one.id, "model.pt").exists() == (one.pruned_at is None)
    assert repository.list_checkpoints("nb")[0].pruned_at is None


def test_concurrent_overwrites_leave_one_checkpoint_per_position(shared: Any) -> None:
    url, repository, states = shared
    run_processes(url, states, "x", "y")
    found = repository.list_checkpoints("nb")
    assert sorted(one.epoch for one in found) == [0, 1, 2]
    assert list_files(states) == sorted(f"{one.id}/model.bin" for one in found)
    for one in found:
        assert one.digests == {"model": hashlib.sha256(one.id.encode()).hexdigest()}
        assert Path(one.model_state_path).read_text() == one.id
