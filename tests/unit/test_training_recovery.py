"""Recovery of checkpoints that were written while the store was unavailable."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

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
def states(tmp_path):
    return StateStorage(tmp_path / "states")


@pytest.fixture
def records(states):
    store = open_store("memory://")
    yield NotebookRepository(store, states=states)
    store.close()


@pytest.fixture
def write_note(states):
    """Write a checkpoint and its note, as a training does without a store."""

    def write_note(id, epoch=0, *, path=None, status=RunStatus.RUNNING):
        with states.open_writer(NOTEBOOK, id, "model", format="safetensors") as writer:
            writer.write(b"weights of " + id.encode())
            stored = writer.commit()
        note = UnrecordedCheckpoint(
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
        note.write(states)
        return note

    return write_note


def recover_all(records, states):
    """Record everything that has a note; return all results."""
    found = list(find_unrecorded(states))
    notes = [one for one in found if isinstance(one, UnrecordedCheckpoint)]
    return [
        *recover(records, states, ORIGIN, notes),
        *(one for one in found if isinstance(one, RecoveryResult)),
    ]


def test_checkpoints_are_recorded_in_the_order_of_their_notes(records, states, write_note):
    for epoch, id in enumerate(["c", "a", "b"]):
        write_note(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.FAILED)
    assert [one.error for one in recover_all(records, states)] == [None] * 3
    made = records.list_checkpoints(NOTEBOOK)
    assert [(one.id, one.epoch) for one in made] == [("b", 2), ("a", 1), ("c", 0)]
    assert all(states.can_read(one.model_state_path, NOTEBOOK) for one in made)
    (run,) = records.runs.list(NOTEBOOK)
    assert (run.id, run.status) == (RUN, RunStatus.FAILED)
    assert recover_all(records, states) == []


def test_a_checkpoint_whose_note_remains_is_recorded_once(records, states, write_note):
    note = write_note("a")
    (result,) = recover_all(records, states)
    assert (result.error, result.is_new) == (None, True)
    note.write(states)  # as if the process had been killed before it could remove the note
    (result,) = recover_all(records, states)
    assert (result.error, result.is_new, result.checkpoint is not None) == (None, False, True)
    assert records.checkpoints.count(NOTEBOOK) == 1
    assert list(find_unrecorded(states)) == []


def test_a_run_whose_process_is_gone_is_recorded_as_stopped(records, states, write_note):
    note = write_note("a")
    note.run.process = RunProcess(
        host="elsewhere, or before it was started anew", pid=1, started_at=now()
    )
    note.made_at = now() - timedelta(days=1)
    note.write(states)
    recover_all(records, states)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.STOPPED
    assert records.find_summary(NOTEBOOK).status is not NotebookStatus.RUNNING


def test_recovered_checkpoints_keep_their_times(records, states, write_note):
    note = write_note("monday")
    note.made_at = now() - timedelta(days=1)
    note.run.started_at = note.made_at
    note.write(states)
    records.create(NewNotebook(id=NOTEBOOK, user_id="ada", name="train"))
    today = records.create_checkpoint(
        NewCheckpoint(notebook_id=NOTEBOOK, run_id="today", epoch=50, step=50, metrics={})
    )
    (result,) = recover_all(records, states)
    assert result.checkpoint is not None
    assert result.checkpoint.created_at == note.made_at
    assert records.checkpoints.get_latest(NOTEBOOK) == today
    assert [run.id for run in records.runs.list(NOTEBOOK)] == ["today", RUN]


def test_the_last_note_decides_the_status_of_the_notebook(records, states, write_note):
    for epoch, id in enumerate(["a", "b", "c"]):
        write_note(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.COMPLETED)
    recover_all(records, states)
    (notebook,) = records.list_all()
    assert notebook.status is NotebookStatus.COMPLETED


def test_the_end_of_a_run_is_recorded_after_its_checkpoints(records, states, write_note):
    write_note("a")
    recover_all(records, states)
    write_note(
        "a", status=RunStatus.COMPLETED
    )  # the process that made it ends, unaware of the recovery
    recover_all(records, states)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.COMPLETED
    assert list(find_unrecorded(states)) == []


def test_checkpoints_move_to_the_notebook_of_their_file(records, states, write_note, tmp_path):
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    write_note("a", 0, path=str(file))
    write_note("b", 1, path=str(file))
    assert [one.error for one in recover_all(records, states)] == [None, None]
    (notebook,) = records.list_all()
    assert notebook.path == str(file)
    assert [one.id for one in records.list_checkpoints(notebook.id)] == ["b", "a"]
    for one in records.list_checkpoints(notebook.id):
        assert one.model_state_path.startswith(f"{states.root}/{notebook.id}/{one.id}/")
        assert states.can_read(one.model_state_path, notebook.id)
    assert os.listdir(states.root) == [notebook.id]


def test_an_interrupted_move_is_finished(records, states, write_note, tmp_path):
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    write_note("a", path=str(file))
    other = "33333333-3333-4333-8333-333333333333"
    move_checkpoint(states.root, "a", NOTEBOOK, other)
    assert [one.error for one in recover_all(records, states)] == [None]
    (notebook,) = records.list_all()
    assert states.can_read(records.list_checkpoints(notebook.id)[0].model_state_path, notebook.id)


def test_a_note_refers_only_to_files_in_its_own_folder(records, states, write_note, tmp_path):
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"not yours")
    note = write_note("a")
    note.checkpoint.model_state_path = str(secret)
    note.write(states)
    (result,) = recover_all(records, states)
    assert "secret.safetensors not found" in str(result.error)
    link = Path(states.root) / NOTEBOOK / "a" / "secret.safetensors"
    link.symlink_to(secret)
    (result,) = recover_all(records, states)
    assert result.error is not None
    assert records.get_checkpoint("a") is None


def test_ids_are_those_of_the_folders(records, states, write_note):
    note = write_note("a")
    note.checkpoint.id = "../../elsewhere"
    document = note.to_json()
    (Path(states.root) / NOTEBOOK / "a" / NOTE).write_text(json.dumps(document))
    (result,) = recover_all(records, states)
    assert result.checkpoint is not None
    assert result.checkpoint.id == "a"


def test_an_incomplete_state_is_not_recorded(records, states, write_note):
    note = write_note("a")
    Path(note.checkpoint.model_state_path).write_bytes(b"half")
    (result,) = recover_all(records, states)
    assert "has 4 bytes" in str(result.error)
    assert records.get_checkpoint("a") is None


@pytest.mark.parametrize("text", ["", "[]", '{"checkpoint": 3}', "{" * 100_000])
def test_an_unreadable_note_is_reported_and_remains(records, states, write_note, text):
    write_note("a")
    write_note("b", 1)
    broken = Path(states.root) / NOTEBOOK / "a" / NOTE
    broken.write_text(text)
    recorded, trouble = recover_all(records, states)
    assert recorded.checkpoint is not None
    assert trouble.error is not None
    assert broken.exists()


def test_a_sweep_keeps_folders_with_notes(states, write_note):
    note = write_note("a")
    folder = os.path.dirname(note.checkpoint.model_state_path)
    report = sweep(
        StateStorage(Path(states.root)), lambda _notebook, _checkpoint: None, older_than=-1
    )
    assert report.folders == []
    assert os.path.exists(os.path.join(folder, NOTE))


# Notes that others may have written


def change(note, states, **values):
    """Write a note with other values, given by their paths in it; return its file."""
    document = note.to_json()
    for path, value in values.items():
        *above, name = path.split("__")
        target = document
        for step in above:
            target = target[step]
        target[name] = value
    file = Path(states.root) / NOTEBOOK / str(note.checkpoint.id) / NOTE
    file.write_text(json.dumps(document))
    return file


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"m": value}
    return value


LAST, FIRST = "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"
PROCESS = {"host": "h", "pid": 1, "started_at": "2026-01-01T00:00:00Z"}
#: Values with which a note is refused.
INVALID = {
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
#: Values with which a checkpoint is recorded all the same.
UNUSUAL = {
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


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_note_keeps_no_other_from_being_recorded(records, states, write_note, name):
    write_note("before", 0)
    file = change(write_note("hostile", 1), states, **INVALID[name])
    write_note("after", 2)
    results = {Path(one.folder).name: one for one in recover_all(records, states)}
    assert (results["before"].error, results["after"].error) == (None, None)
    assert len(str(results["hostile"].error)) > 10
    assert records.get_checkpoint("hostile") is None
    assert {one.id for one in records.list_checkpoints(NOTEBOOK)} == {"before", "after"}
    assert file.exists()


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_note_is_recorded(records, states, write_note, name):
    write_note("before", 0)
    change(write_note("odd", 1), states, **UNUSUAL[name])
    write_note("after", 2)
    assert [one.error for one in recover_all(records, states)] == [None] * 3
    assert list(find_unrecorded(states)) == []
    found = records.get_checkpoint("odd")
    assert found is not None
    assert states.can_read(found.model_state_path, found.notebook_id)
    assert found.sizes == {"model": len(b"weights of odd")}
    assert found.created_at <= now()
    assert records.checkpoints.get_latest(NOTEBOOK).id == "after"
    assert all(run.started_at <= now() for run in records.runs.list(NOTEBOOK))
    repr(Checkpoint(found, states))


@pytest.mark.parametrize("owner", ["ada", "eve"])
@pytest.mark.parametrize("how", ["its folder", "record_id", "its file", "its checkpoint"])
def test_a_note_adds_nothing_to_the_notebook_of_another_user(
    records, states, write_note, tmp_path, how, owner
):
    file = tmp_path / "theirs.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    theirs = NOTEBOOK if how == "its folder" else "33333333-3333-4333-8333-333333333333"
    records.create(
        NewNotebook(id=theirs, user_id="bob", name="theirs", path=str(file), origin=ORIGIN)
    )
    records.runs.start(theirs, id="their-run")
    values = {
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
    change(write_note("a", status=RunStatus.FAILED), states, owner=owner, **values)
    (result,) = recover_all(records, states)
    assert (
        records.list_checkpoints(theirs),
        records.runs.list(theirs),
        records.find_by_id(theirs),
    ) == before
    if how in ("its folder", "its checkpoint"):
        assert result.error is not None
    else:  # in a notebook of its own user
        assert result.checkpoint is not None
        assert records.find_summary(result.checkpoint.notebook_id).user_id == owner


def test_a_note_ends_no_run_of_another_notebook(records, states, write_note):
    records.create(NewNotebook(id="theirs", user_id="bob", name="theirs"))
    records.runs.start("theirs", id="their-run")
    change(
        write_note("a", status=RunStatus.FAILED),
        states,
        run__id="their-run",
        checkpoint__run_id="their-run",
    )
    recover_all(records, states)
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
def test_a_note_that_is_no_regular_file_blocks_nothing(records, states, write_note, kind):
    write_note("good", 1)
    write_note("bad")
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
    results = {Path(one.folder).name: one for one in recover_all(records, states)}
    assert results["good"].checkpoint is not None
    assert str(note) in str(results["bad"].error)
    assert records.get_checkpoint("bad") is None


def test_folders_with_unusual_names_are_skipped(records, states, write_note):
    note = write_note("good")
    text = json.dumps(note.to_json())
    for name in (b"\xff\xfe", b"\x1b]0;x\x07", b".hidden", b"a:b", b"x\ny"):
        for folder in (
            os.path.join(os.fsencode(states.root), name, b"c"),
            os.path.join(os.fsencode(states.root), NOTEBOOK.encode(), name),
        ):
            os.makedirs(folder)
            Path(os.fsdecode(folder), NOTE).write_text(text)
    results = recover_all(records, states)
    assert [one.checkpoint.id for one in results if one.checkpoint is not None] == ["good"]
    assert len(results) == 1 + 2 * 5
    for one in results[1:]:
        str(one.error).encode()


def test_recovery_stops_when_the_store_becomes_unavailable(states, write_note, tmp_path):
    write_note("a", 0)
    write_note("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        records = NotebookRepository(store, states=states)
        notes = [one for one in find_unrecorded(states) if isinstance(one, UnrecordedCheckpoint)]
        results = recover(records, states, ORIGIN, notes)
        assert next(results).error is None
        with closing(sqlite3.connect(tmp_path / "axon.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError):
                next(results)
        waiting = [
            one.checkpoint.id
            for one in find_unrecorded(states)
            if isinstance(one, UnrecordedCheckpoint)
        ]
        assert waiting == ["b"]
        assert [one.error for one in recover_all(records, states)] == [None]


def test_concurrent_recoveries_record_each_checkpoint_once(states, write_note, tmp_path):
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    for epoch in range(12):
        write_note(f"c{epoch}", epoch, path=str(file))
    start, url = threading.Barrier(4), f"sqlite:///{tmp_path}/axon.db"

    def work():
        with closing(open_store(url)) as store:
            notes = [
                one for one in find_unrecorded(states) if isinstance(one, UnrecordedCheckpoint)
            ]
            start.wait(30)
            return list(recover(NotebookRepository(store, states=states), states, ORIGIN, notes))

    with ThreadPoolExecutor(4) as pool:
        results = [
            one for worker in [pool.submit(work) for _ in range(4)] for one in worker.result(60)
        ]
    assert [one.error for one in results if one.error is not None] == []
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
def background(records, states):
    return BackgroundRecovery(records, states, ORIGIN, "memory://", "ada")


def run_pass(background):
    """Run one pass; return the ids of recorded checkpoints, and the others with their folders."""
    results = [one for one in background.run_once() if one is not None]
    return [
        one.checkpoint.id if one.checkpoint is not None else f"not {Path(one.folder).name}"
        for one in results
    ]


@pytest.mark.parametrize(
    ("made", "by_kernel", "message"),
    [
        ("a", "", "recorded 1 checkpoint made while"),
        ("abc", "a", "recorded 2 checkpoints made while"),
        ("ab", "ab", None),
    ],
)
def test_a_server_logs_how_many_checkpoints_it_recorded(
    made, by_kernel, message, states, write_note, caplog
):
    caplog.set_level(logging.INFO)
    with closing(open_store("memory://")) as store:
        records = NotebookRepository(store, states=states)
        notes = [write_note(id, epoch, status=RunStatus.COMPLETED) for epoch, id in enumerate(made)]
        assert len(list(recover(records, states, ORIGIN, notes[: len(by_kernel)]))) == len(
            by_kernel
        )
        for one in notes:
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
    messages = [
        record.getMessage() for record in caplog.records if "recorded" in record.getMessage()
    ]
    assert len(messages) == (message is not None)
    assert message is None or message in messages[0]


def test_a_running_process_records_its_own_checkpoints(background, states, write_note):
    notes = [write_note("a", 0), write_note("b", 1)]
    for one in notes:
        one.run.process = this_process()
        one.write(states)
    assert run_pass(background) == []
    assert run_pass(background) == []
    last = notes[-1]
    last.run.status = RunStatus.FAILED  # the cell failed, and the kernel lives on
    last.write(states)
    assert run_pass(background) == ["a", "b"]
    assert run_pass(background) == []


def test_checkpoints_are_recorded_when_their_process_ends(background, states, write_note, records):
    note = write_note("a")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started_at = datetime.fromtimestamp(psutil.Process(process.pid).create_time(), timezone.utc)
        note.run.process = RunProcess(host=this_host(), pid=process.pid, started_at=started_at)
        note.write(states)
        assert run_pass(background) == []
        process.communicate()
    assert run_pass(background) == ["a"]
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.STOPPED


def test_a_run_on_another_host_counts_as_running_for_an_hour(background, states, write_note):
    note = write_note("a")
    note.run.process = RunProcess(host="another machine", pid=1, started_at=now())
    note.write(states)
    assert run_pass(background) == []
    note.made_at = now() - timedelta(minutes=61)
    note.write(states)
    assert run_pass(background) == ["a"]


@pytest.mark.parametrize(
    "other", [{"store_url": "sqlite:////x.db"}, {"owner": "bob"}, {"origin": "another"}]
)
def test_notes_for_other_stores_users_and_origins_remain(background, states, write_note, other):
    note = change(write_note("theirs", 0), states, **other)
    write_note("ours", 1)
    assert run_pass(background) == ["ours"]
    assert note.exists()


def test_an_error_is_reported_once_until_the_folder_changes(background, states, write_note):
    note = write_note("hostile", 0)
    change(note, states, made_at="never")
    write_note("good", 1)
    assert run_pass(background) == ["not hostile", "good"]
    write_note("other", 2)
    assert run_pass(background) == ["not hostile", "other"]
    assert run_pass(background) == []
    note.write(states)
    assert run_pass(background) == ["hostile"]


def test_a_pass_continues_when_the_store_is_available(states, write_note, tmp_path):
    write_note("a", 0)
    write_note("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        background = BackgroundRecovery(
            NotebookRepository(store, states=states), states, ORIGIN, "memory://", None
        )
        with closing(sqlite3.connect(tmp_path / "axon.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                with pytest.raises(StoreError):
                    run_pass(background)
        assert run_pass(background) == ["a", "b"]


def test_an_idle_pass_reads_no_folder(background, states, write_note, monkeypatch):
    write_note("a")
    assert run_pass(background) == ["a"]
    assert run_pass(background) == []  # recording changed the folders
    with monkeypatch.context() as patched:
        for name in ("scandir", "listdir", "open", "lstat"):
            patched.setattr(os, name, lambda *given, **_: pytest.fail(f"{given} was read"))
        assert run_pass(background) == []
    write_note("b", 1)
    assert run_pass(background) == ["b"]


def test_the_first_pass_finds_notes_of_any_age(background, states, write_note):
    write_note("a")
    os.utime(states.root, (0, 0))
    assert run_pass(background) == ["a"]
