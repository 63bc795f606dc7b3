"""What is noted while the store cannot be had is recorded once, whoever tries, and only what is noted in its own place."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.engines import eventually

from jupyter_axon_notebooks.background import BackgroundWork
from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.garbage import GarbageCollector, sweep
from jupyter_axon_notebooks.records import (
    NewCheckpoint,
    NewNotebook,
    NotebookStatus,
    RunProcess,
    RunStatus,
    TrainingRun,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.notes import NOTE, move_checkpoint
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.training.checkpoint import Checkpoint
from jupyter_axon_notebooks.training.processes import this_host, this_process
from jupyter_axon_notebooks.training.recovery import (
    BackgroundRecovery,
    RecoveryResult,
    UnrecordedCheckpoint,
    find_unrecorded,
    recover,
)

ORIGIN = "an-origin"
NOTEBOOK, RUN = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def states(tmp_path: Path) -> StateStorage:
    return StateStorage(tmp_path / "states")


@pytest.fixture
def records(states: StateStorage) -> Iterator[NotebookRepository]:
    store = open_store("memory://")
    yield NotebookRepository(store, states=states)
    store.close()


Leave = Callable[..., UnrecordedCheckpoint]


@pytest.fixture
def leave(states: StateStorage) -> Leave:
    """Leaves a checkpoint that no store has, as a training does."""

    def leave(
        id: str, epoch: int = 0, *, path: str | None = None, status: RunStatus = RunStatus.RUNNING
    ) -> UnrecordedCheckpoint:
        with states.open_writer(NOTEBOOK, id, "model", format="safetensors") as writer:
            writer.write(b"weights of " + id.encode())
            stored = writer.commit()
        noted = UnrecordedCheckpoint(
            checkpoint=NewCheckpoint(
                id=id,
                notebook_id=NOTEBOOK,
                run_id=RUN,
                epoch=epoch,
                step=epoch,
                metrics={"loss": 1.0},
                model_state_path=stored.path,
                digests={"model": stored.digest},
                sizes={"model": stored.size},
            ),
            made_at=now(),
            run=TrainingRun(id=RUN, notebook_id=NOTEBOOK, started_at=now(), status=status),
            store_url="memory://",
            owner="ada",
            origin=ORIGIN,
            path=path,
            kind="notebook",
        )
        noted.write(states)
        return noted

    return leave


def take_in(records: NotebookRepository, states: StateStorage) -> list[RecoveryResult]:
    found = list(find_unrecorded(states))
    noted = [one for one in found if isinstance(one, UnrecordedCheckpoint)]
    return [
        *recover(records, states, ORIGIN, noted),
        *(one for one in found if isinstance(one, RecoveryResult)),
    ]


def test_what_was_noted_is_recorded_in_its_order(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    for epoch, id in enumerate(["c", "a", "b"]):
        leave(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.FAILED)
    assert [done.error for done in take_in(records, states)] == [None] * 3
    made = records.list_checkpoints(NOTEBOOK)
    assert [(one.id, one.epoch) for one in made] == [("b", 2), ("a", 1), ("c", 0)]
    assert all(states.can_read(one.model_state_path, NOTEBOOK) for one in made)
    (run,) = records.runs.list(NOTEBOOK)
    assert (run.id, run.status) == (RUN, RunStatus.FAILED)
    assert take_in(records, states) == []


def test_it_is_recorded_once_even_if_its_note_stays(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("a")
    (done,) = take_in(records, states)
    assert (done.error, done.is_new) == (None, True)
    noted.write(states)  # as if the process had been killed before it could remove the note
    (done,) = take_in(records, states)
    assert (done.error, done.is_new, done.checkpoint is not None) == (None, False, True)
    assert records.checkpoints.count(NOTEBOOK) == 1
    assert list(find_unrecorded(states)) == []


def test_a_run_whose_process_is_gone_is_stopped(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("a")
    assert noted.run is not None
    noted.run.process = RunProcess(
        host="elsewhere, or before it was started anew", pid=1, started_at=now()
    )
    noted.made_at = now() - timedelta(days=1)
    noted.write(states)
    take_in(records, states)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.STOPPED
    assert records.find_summary(NOTEBOOK).status is not NotebookStatus.RUNNING  # type: ignore[union-attr]


def test_what_was_made_before_does_not_become_the_newest(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("monday")
    noted.made_at = now() - timedelta(days=1)
    assert noted.run is not None
    noted.run.started_at = noted.made_at
    noted.write(states)
    records.create(NewNotebook(id=NOTEBOOK, user_id="ada", name="train"))
    today = records.create_checkpoint(
        NewCheckpoint(notebook_id=NOTEBOOK, run_id="today", epoch=50, step=50, metrics={})
    )
    (done,) = take_in(records, states)
    assert done.checkpoint is not None
    assert done.checkpoint.created_at == noted.made_at
    assert records.checkpoints.get_latest(NOTEBOOK) == today
    assert [run.id for run in records.runs.list(NOTEBOOK)] == ["today", RUN]


def test_a_training_that_was_completed_leaves_its_notebook_completed(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    for epoch, id in enumerate(["a", "b", "c"]):
        leave(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.COMPLETED)
    take_in(records, states)
    (notebook,) = records.list_all()
    assert notebook.status is NotebookStatus.COMPLETED


def test_how_a_run_ended_is_recorded_even_if_its_checkpoints_are(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    leave("a")
    take_in(records, states)
    leave(
        "a", status=RunStatus.COMPLETED
    )  # the process that made it learns nothing of that, and ends
    take_in(records, states)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.COMPLETED
    assert list(find_unrecorded(states)) == []


def test_its_folder_goes_to_the_notebook_that_its_file_belongs_to(
    records: NotebookRepository, states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    leave("a", 0, path=str(file))
    leave("b", 1, path=str(file))
    assert [done.error for done in take_in(records, states)] == [None, None]
    (notebook,) = records.list_all()
    assert notebook.path == str(file)
    assert [one.id for one in records.list_checkpoints(notebook.id)] == ["b", "a"]
    for one in records.list_checkpoints(notebook.id):
        assert one.model_state_path.startswith(f"{states.root}/{notebook.id}/{one.id}/")
        assert states.can_read(one.model_state_path, notebook.id)
    assert os.listdir(states.root) == [notebook.id]


def test_a_move_that_was_cut_short_is_finished(
    records: NotebookRepository, states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    leave("a", path=str(file))
    other = "33333333-3333-4333-8333-333333333333"
    move_checkpoint(states.root, "a", NOTEBOOK, other)
    assert [done.error for done in take_in(records, states)] == [None]
    (notebook,) = records.list_all()
    assert states.can_read(records.list_checkpoints(notebook.id)[0].model_state_path, notebook.id)


def test_a_note_leads_nowhere_but_to_its_own_folder(
    records: NotebookRepository, states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"not yours")
    noted = leave("a")
    noted.checkpoint.model_state_path = str(secret)
    noted.write(states)
    (done,) = take_in(records, states)
    assert "secret.safetensors not found" in str(done.error)
    link = Path(states.root) / NOTEBOOK / "a" / "secret.safetensors"
    link.symlink_to(secret)
    (done,) = take_in(records, states)
    assert done.error is not None
    assert records.get_checkpoint("a") is None


def test_ids_in_a_note_do_not_count(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("a")
    noted.checkpoint.id = "../../elsewhere"
    document = noted.to_json()
    (Path(states.root) / NOTEBOOK / "a" / NOTE).write_text(json.dumps(document))
    (done,) = take_in(records, states)
    assert done.checkpoint is not None
    assert done.checkpoint.id == "a"


def test_a_state_that_is_not_whole_is_not_recorded(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("a")
    Path(noted.checkpoint.model_state_path).write_bytes(b"half")
    (done,) = take_in(records, states)
    assert "has 4 bytes" in str(done.error)
    assert records.get_checkpoint("a") is None


@pytest.mark.parametrize("text", ["", "[]", '{"checkpoint": 3}', "{" * 100_000])
def test_a_note_that_cannot_be_read_is_named_and_stays(
    records: NotebookRepository, states: StateStorage, leave: Leave, text: str
) -> None:
    leave("a")
    leave("b", 1)
    broken = Path(states.root) / NOTEBOOK / "a" / NOTE
    broken.write_text(text)
    recorded, trouble = take_in(records, states)
    assert recorded.checkpoint is not None
    assert trouble.error is not None
    assert broken.exists()


def test_no_sweep_takes_what_is_noted(states: StateStorage, leave: Leave) -> None:
    noted = leave("a")
    folder = os.path.dirname(noted.checkpoint.model_state_path)
    report = sweep(
        StateStorage(Path(states.root)), lambda _notebook, _checkpoint: None, older_than=-1
    )
    assert report.folders == []
    assert os.path.exists(os.path.join(folder, NOTE))


# Notes that somebody else may have written


def change(noted: UnrecordedCheckpoint, states: StateStorage, **values: Any) -> Path:
    """Write a note with other values, by their paths in it; the file."""
    document = noted.to_json()
    for path, value in values.items():
        *above, name = path.split("__")
        target = document
        for step in above:
            target = target[step]
        target[name] = value
    file = Path(states.root) / NOTEBOOK / str(noted.checkpoint.id) / NOTE
    file.write_text(json.dumps(document))
    return file


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"m": value}
    return value


LAST, FIRST = "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"
PROCESS = {"host": "h", "pid": 1, "started_at": "2026-01-01T00:00:00Z"}
#: What is not believed.
REFUSED: dict[str, dict[str, Any]] = {
    "a time before time": {"made_at": "0001-01-01T00:00:00+14:00"},
    "a time after time": {"made_at": "9999-12-31T23:59:59-14:00"},
    "no time": {"made_at": "soon"},
    "a huge epoch": {"checkpoint__epoch": 2**32},
    "a huger epoch": {"checkpoint__epoch": 10**400},
    "a negative step": {"checkpoint__step": -1},
    "an epoch that is no number": {"checkpoint__epoch": float("nan")},
    "a negative size": {"checkpoint__sizes": {"model": -1}},
    "a huge size": {"checkpoint__sizes": {"model": 10**400}},
    "deeply nested metrics": {"checkpoint__metrics": nested(500)},
    "metrics nested deeper than Python goes": {"checkpoint__metrics": nested(900)},
    "a digest of another form": {"checkpoint__digests": {"model": "../../etc"}},
    "no digest": {"checkpoint__digests": {}},
    "a digest of another state": {"checkpoint__digests": {"optimizer": "0" * 64}},
    "tags that are no texts": {"checkpoint__tags": [1]},
    "half a surrogate pair in a path": {"path": "/a/\ud800.ipynb"},
    "a NUL in a path": {"path": "/a/\0.ipynb"},
    "a relative path": {"path": "../../train.ipynb"},
    "a path of a megabyte": {"path": "/" + "x" * 1_000_000},
    "a host of a megabyte": {"run__process": {**PROCESS, "host": "h" * 1_000_000}},
    "a process beyond all numbers": {"run__process": {**PROCESS, "pid": 2**70}},
    "a negative process": {"run__process": {**PROCESS, "pid": -1}},
    "process 0": {"run__process": {**PROCESS, "pid": 0}},
    "an owner of a megabyte": {"owner": "o" * 1_000_000},
    "half a surrogate pair in a run's id": {"run__id": "\udfff", "checkpoint__run_id": "\udfff"},
    "another run's end": {"run__id": "another"},
    "a run that the checkpoint is not of": {"checkpoint__run_id": None},
    "no run's status": {"run__status": "paused"},
    "executed cells that are none": {"executed": [[]]},
    "a state that leads elsewhere": {"checkpoint__model_state_path": "/dev/zero"},
    "a state in a folder above": {"checkpoint__model_state_path": ".."},
    "a state with a NUL": {"checkpoint__model_state_path": "/a/\0"},
}
#: What is odd, and no reason not to record a checkpoint.
RECORDED: dict[str, dict[str, Any]] = {
    "made in the year 9999": {"made_at": LAST},
    "made in the year 1": {"made_at": FIRST},
    "begun in the year 9999": {"run__started_at": LAST},
    "begun in the year 1": {"run__started_at": FIRST, "made_at": FIRST},
    "leased until the year 9999": {"run__lease_until": LAST},
    "a process from the year 9999": {"run__process": {**PROCESS, "started_at": LAST}},
    "ended in the year 1": {"run__ended_at": FIRST, "run__status": "failed"},
    "metrics that are no numbers": {
        "checkpoint__metrics": {"loss": "low", "a": [None, {}], "": True}
    },
    "metrics that are no object": {"checkpoint__metrics": "low"},
    "huge numbers": {
        "checkpoint__metrics": {"loss": 10**400, "acc": float("nan"), "x": float("-inf")}
    },
    "many metrics": {"checkpoint__metrics": {f"m{n}": n for n in range(3000)}},
    "odd text in names": {
        "checkpoint__metrics": {"\0\ud800\x1b": 1.0},
        "checkpoint__tags": ["\udc80\x1b", ""],
    },
    "sizes of what is not there": {"checkpoint__sizes": {"model": 14, "else": -(2**70)}},
    "digests of what is not there": {"checkpoint__digests": {"model": "0" * 64, "else": "1" * 64}},
    "a path to a device": {"path": "/dev/zero", "kind": "script"},
    "a path to a folder": {"path": "/", "kind": "notebook"},
    "fields nobody knows": {"more": {"deep": nested(50)}},
    "another version": {"checkpoint__version_id": "44444444-4444-4444-8444-444444444444"},
    "another parent": {"run__parent_checkpoint_id": "../x"},
    "odd cells": {
        "executed": [{"source": "x" * 1_000_000 + "\ud800\0"}] * 3,
        "environment": {"python": "\ud800", "packages": {"\0": "\x1b"}},
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_note_is_its_own_trouble(
    records: NotebookRepository, states: StateStorage, leave: Leave, name: str
) -> None:
    leave("before", 0)
    file = change(leave("hostile", 1), states, **REFUSED[name])
    leave("after", 2)
    done = {Path(one.folder).name: one for one in take_in(records, states)}
    assert (done["before"].error, done["after"].error) == (None, None)
    assert len(str(done["hostile"].error)) > 10
    assert records.get_checkpoint("hostile") is None
    assert {one.id for one in records.list_checkpoints(NOTEBOOK)} == {"before", "after"}
    assert file.exists()


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_odd_in_a_note_keeps_no_checkpoint_from_being_recorded(
    records: NotebookRepository, states: StateStorage, leave: Leave, name: str
) -> None:
    leave("before", 0)
    change(leave("odd", 1), states, **RECORDED[name])
    leave("after", 2)
    assert [done.error for done in take_in(records, states)] == [None] * 3
    assert list(find_unrecorded(states)) == []
    found = records.get_checkpoint("odd")
    assert found is not None
    assert states.can_read(found.model_state_path, found.notebook_id)
    assert found.sizes == {"model": len(b"weights of odd")}
    assert found.created_at <= now()
    assert records.checkpoints.get_latest(NOTEBOOK).id == "after"  # type: ignore[union-attr]
    assert all(run.started_at <= now() for run in records.runs.list(NOTEBOOK))
    repr(Checkpoint(found, states))


@pytest.mark.parametrize("owner", ["ada", "eve"])
@pytest.mark.parametrize("how", ["its folder", "record_id", "its file", "its checkpoint"])
def test_a_note_puts_nothing_into_another_users_notebook(
    records: NotebookRepository,
    states: StateStorage,
    leave: Leave,
    tmp_path: Path,
    how: str,
    owner: str,
) -> None:
    file = tmp_path / "theirs.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    theirs = NOTEBOOK if how == "its folder" else "33333333-3333-4333-8333-333333333333"
    records.create(
        NewNotebook(id=theirs, user_id="bob", name="theirs", path=str(file), origin=ORIGIN)
    )
    records.runs.start(theirs, id="their-run")
    values: dict[str, Any] = {
        "its folder": {},
        "record_id": {"record_id": theirs},
        "its file": {"path": str(file)},
        "its checkpoint": {},
    }[how]
    if how == "its checkpoint":
        records.create_checkpoint(
            NewCheckpoint(id="a", notebook_id=theirs, epoch=7, step=7, metrics={})
        )
    before = records.list_checkpoints(theirs), records.runs.list(theirs), records.find_by_id(theirs)
    change(leave("a", status=RunStatus.FAILED), states, owner=owner, **values)
    (done,) = take_in(records, states)
    assert (
        records.list_checkpoints(theirs),
        records.runs.list(theirs),
        records.find_by_id(theirs),
    ) == before
    if how in ("its folder", "its checkpoint"):
        assert done.error is not None
    else:  # it is kept, in a notebook of its owner's
        assert done.checkpoint is not None
        assert records.find_summary(done.checkpoint.notebook_id).user_id == owner  # type: ignore[union-attr]


def test_a_note_ends_no_run_of_another_notebook(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    records.create(NewNotebook(id="theirs", user_id="bob", name="theirs"))
    records.runs.start("theirs", id="their-run")
    change(
        leave("a", status=RunStatus.FAILED),
        states,
        run__id="their-run",
        checkpoint__run_id="their-run",
    )
    take_in(records, states)
    assert records.runs.list("theirs")[0].status is RunStatus.RUNNING


@pytest.mark.parametrize(
    "kind",
    [
        "fifo",
        "link to a device",
        "link to another note",
        "dangling link",
        "folder",
        "empty",
        "huge",
        "half",
    ],
)
def test_a_note_that_is_no_plain_file_holds_nobody_up(
    records: NotebookRepository, states: StateStorage, leave: Leave, kind: str
) -> None:
    leave("good", 1)
    leave("bad")
    note = Path(states.root) / NOTEBOOK / "bad" / NOTE
    text = note.read_bytes()
    note.unlink()
    if kind == "fifo":
        os.mkfifo(note)
    elif kind == "folder":
        note.mkdir()
    elif kind == "huge":
        with note.open("wb") as file:
            file.truncate(1 << 36)
    elif kind in ("empty", "half"):
        note.write_bytes(text[: len(text) // 2] if kind == "half" else b"")
    else:
        targets = {"link to a device": "/dev/zero", "link to another note": f"../good/{NOTE}"}
        note.symlink_to(targets.get(kind, "nothing"))
    done = {Path(one.folder).name: one for one in take_in(records, states)}
    assert done["good"].checkpoint is not None
    assert str(note) in str(done["bad"].error)
    assert records.get_checkpoint("bad") is None


def test_folders_of_any_name_are_passed_over(
    records: NotebookRepository, states: StateStorage, leave: Leave
) -> None:
    noted = leave("good")
    text = json.dumps(noted.to_json())
    for name in (b"\xff\xfe", b"\x1b]0;x\x07", b".hidden", b"a:b", b"x\ny"):
        for folder in (
            os.path.join(os.fsencode(states.root), name, b"c"),
            os.path.join(os.fsencode(states.root), NOTEBOOK.encode(), name),
        ):
            os.makedirs(folder)
            Path(os.fsdecode(folder), NOTE).write_text(text)
    done = take_in(records, states)
    assert [one.checkpoint.id for one in done if one.checkpoint is not None] == ["good"]
    assert len(done) == 1 + 2 * 5
    for one in done[1:]:
        str(one.error).encode()


def test_a_store_that_becomes_unavailable_ends_the_loop(
    states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    leave("a", 0)
    leave("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        records = NotebookRepository(store, states=states)
        noted = [one for one in find_unrecorded(states) if isinstance(one, UnrecordedCheckpoint)]
        done = recover(records, states, ORIGIN, noted)
        assert next(done).error is None
        with closing(sqlite3.connect(tmp_path / "axon.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError):
                next(done)
        waiting = [
            one.checkpoint.id
            for one in find_unrecorded(states)
            if isinstance(one, UnrecordedCheckpoint)
        ]
        assert waiting == ["b"]
        assert [one.error for one in take_in(records, states)] == [None]


def test_two_that_record_the_same_at_once_record_it_once(
    states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    for epoch in range(12):
        leave(f"c{epoch}", epoch, path=str(file))
    start, url = threading.Barrier(4), f"sqlite:///{tmp_path}/axon.db"

    def work() -> list[RecoveryResult]:
        with closing(open_store(url)) as store:
            noted = [
                one for one in find_unrecorded(states) if isinstance(one, UnrecordedCheckpoint)
            ]
            start.wait(30)
            return list(recover(NotebookRepository(store, states=states), states, ORIGIN, noted))

    with ThreadPoolExecutor(4) as pool:
        done = [
            one for worker in [pool.submit(work) for _ in range(4)] for one in worker.result(60)
        ]
    assert [one.error for one in done if one.error is not None] == []
    with closing(open_store(url)) as store:
        records = NotebookRepository(store)
        (notebook,) = records.list_all()
        made = records.list_checkpoints(notebook.id)
        assert [one.epoch for one in made] == list(range(11, -1, -1))
        assert all(states.can_read(one.model_state_path, notebook.id) for one in made)
        assert list(find_unrecorded(states)) == []
        assert len(records.runs.list(notebook.id)) == 1


# In a server


@pytest.fixture
def background(records: NotebookRepository, states: StateStorage) -> BackgroundRecovery:
    return BackgroundRecovery(records, states, ORIGIN, "memory://", "ada")


def taken(background: BackgroundRecovery) -> list[str]:
    """What a look records, and what is told of it."""
    done = [one for one in background.run_once() if one is not None]
    return [
        one.checkpoint.id if one.checkpoint is not None else f"not {Path(one.folder).name}"
        for one in done
    ]


@pytest.mark.parametrize(
    ("made", "by_kernel", "said"),
    [
        ("a", "", "recorded 1 checkpoint made while"),
        ("abc", "a", "recorded 2 checkpoints made while"),
        ("ab", "ab", None),
    ],
)
def test_a_server_tells_how_many_it_recorded_itself(
    made: str,
    by_kernel: str,
    said: str | None,
    states: StateStorage,
    leave: Leave,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with closing(open_store("memory://")) as store:
        records = NotebookRepository(store, states=states)
        noted = [leave(id, epoch, status=RunStatus.COMPLETED) for epoch, id in enumerate(made)]
        assert len(list(recover(records, states, ORIGIN, noted[: len(by_kernel)]))) == len(
            by_kernel
        )
        for one in noted:
            one.write(
                states
            )  # also those that the kernel recorded, and was killed before it removed them
        background = BackgroundRecovery(records, states, ORIGIN, "memory://", "ada")
        log = logging.getLogger("test_recovery")
        collector = GarbageCollector(records, states, log)
        server = BackgroundWork(records, collector, log, recovery=background)
        server.start()
        try:
            eventually(lambda: not list(find_unrecorded(states)))
        finally:
            assert server.stop()
        assert records.checkpoints.count(NOTEBOOK) == len(made)
    told = [record.getMessage() for record in caplog.records if "recorded" in record.getMessage()]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


def test_a_run_that_goes_on_is_left_to_its_process(
    background: BackgroundRecovery, states: StateStorage, leave: Leave
) -> None:
    noted = [leave("a", 0), leave("b", 1)]
    for one in noted:
        assert one.run is not None
        one.run.process = this_process()
        one.write(states)
    assert taken(background) == []
    assert taken(background) == []
    last = noted[-1]
    assert last.run is not None
    last.run.status = RunStatus.FAILED  # the cell failed, and the kernel lives on
    last.write(states)
    assert taken(background) == ["a", "b"]
    assert taken(background) == []


def test_a_run_whose_process_ends_is_recorded(
    background: BackgroundRecovery, states: StateStorage, leave: Leave, records: NotebookRepository
) -> None:
    noted = leave("a")
    assert noted.run is not None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started_at = datetime.fromtimestamp(psutil.Process(process.pid).create_time(), timezone.utc)
        noted.run.process = RunProcess(host=this_host(), pid=process.pid, started_at=started_at)
        noted.write(states)
        assert taken(background) == []
        process.communicate()
    assert taken(background) == ["a"]
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.STOPPED


def test_a_run_that_cannot_be_seen_goes_on_for_an_hour(
    background: BackgroundRecovery, states: StateStorage, leave: Leave
) -> None:
    noted = leave("a")
    assert noted.run is not None
    noted.run.process = RunProcess(host="another machine", pid=1, started_at=now())
    noted.write(states)
    assert taken(background) == []
    noted.made_at = now() - timedelta(minutes=61)
    noted.write(states)
    assert taken(background) == ["a"]


@pytest.mark.parametrize(
    "other", [{"store_url": "sqlite:////x.db"}, {"owner": "bob"}, {"origin": "another"}]
)
def test_what_is_not_the_servers_stays(
    background: BackgroundRecovery, states: StateStorage, leave: Leave, other: dict[str, str]
) -> None:
    note = change(leave("theirs", 0), states, **other)
    leave("ours", 1)
    assert taken(background) == ["ours"]
    assert note.exists()


def test_what_cannot_be_recorded_is_told_once_until_it_changes(
    background: BackgroundRecovery, states: StateStorage, leave: Leave
) -> None:
    noted = leave("hostile", 0)
    change(noted, states, made_at="never")
    leave("good", 1)
    assert taken(background) == ["not hostile", "good"]
    leave("other", 2)
    assert taken(background) == ["not hostile", "other"]
    assert taken(background) == []
    noted.write(states)
    assert taken(background) == ["hostile"]


def test_a_look_goes_on_once_the_store_is_available(
    states: StateStorage, leave: Leave, tmp_path: Path
) -> None:
    leave("a", 0)
    leave("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        background = BackgroundRecovery(
            NotebookRepository(store, states=states), states, ORIGIN, "memory://", None
        )
        with closing(sqlite3.connect(tmp_path / "axon.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                with pytest.raises(StoreError):
                    taken(background)
        assert taken(background) == ["a", "b"]


def test_while_nothing_is_noted_no_folder_is_looked_into(
    background: BackgroundRecovery,
    states: StateStorage,
    leave: Leave,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave("a")
    assert taken(background) == ["a"]
    assert taken(background) == []  # recording changed the folders
    with monkeypatch.context() as patched:
        for name in ("scandir", "listdir", "open", "lstat"):
            patched.setattr(os, name, lambda *given, **_: pytest.fail(f"{given} was looked at"))
        assert taken(background) == []
    leave("b", 1)
    assert taken(background) == ["b"]


def test_a_note_that_is_put_there_by_other_means_is_found_at_the_first_look(
    background: BackgroundRecovery, states: StateStorage, leave: Leave
) -> None:
    leave("a")
    os.utime(states.root, (0, 0))
    assert taken(background) == ["a"]
