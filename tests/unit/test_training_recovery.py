"""Recovery of checkpoints that were saved while the store was unavailable."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
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
OTHER_NOTEBOOK = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def states(tmp_path):
    return StateStorage(tmp_path / "states")


@pytest.fixture
def records(states):
    with closing(open_store("memory://")) as store:
        yield NotebookRepository(store, states=states)


@pytest.fixture
def notebook_file(tmp_path):
    file = tmp_path / "train.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return str(file)


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


def note_file(states, id):
    return Path(states.root) / NOTEBOOK / id / NOTE


def find_notes(states):
    return [note for note in find_unrecorded(states) if isinstance(note, UnrecordedCheckpoint)]


def recover_all(records, states):
    """Record all checkpoints that have a note; return the results, those of bad notes last."""
    failed = [result for result in find_unrecorded(states) if isinstance(result, RecoveryResult)]
    return [*recover(records, states, ORIGIN, find_notes(states)), *failed]


def recover_by_folder(records, states):
    return {Path(result.folder).name: result for result in recover_all(records, states)}


def assert_all_recovered(records, states, count):
    assert [result.error for result in recover_all(records, states)] == [None] * count
    assert list(find_unrecorded(states)) == []


@contextmanager
def locked(database):
    """Lock a database against writing."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_checkpoints_are_recorded_in_the_order_of_their_notes(records, states, write_note):
    for epoch, id in enumerate(["c", "a", "b"]):
        write_note(id, epoch, status=RunStatus.RUNNING if epoch < 2 else RunStatus.COMPLETED)
    assert_all_recovered(records, states, 3)
    checkpoints = records.list_checkpoints(NOTEBOOK)
    assert [(one.id, one.epoch) for one in checkpoints] == [("b", 2), ("a", 1), ("c", 0)]
    assert all(states.can_read(one.model_state_path, NOTEBOOK) for one in checkpoints)
    (run,) = records.runs.list(NOTEBOOK)
    assert (run.id, run.status) == (RUN, RunStatus.COMPLETED)
    assert records.find_summary(NOTEBOOK).status is NotebookStatus.COMPLETED
    assert recover_all(records, states) == []


def test_a_checkpoint_whose_note_remains_is_recorded_once(records, states, write_note):
    note = write_note("a")
    (result,) = recover_all(records, states)
    assert (result.error, result.is_new) == (None, True)
    note.write(states)  # as if the process had been killed before it removed the note
    (result,) = recover_all(records, states)
    assert (result.error, result.is_new, result.checkpoint is not None) == (None, False, True)
    assert records.checkpoints.count(NOTEBOOK) == 1
    assert list(find_unrecorded(states)) == []


def test_a_run_whose_process_has_ended_is_recorded_as_stopped(records, states, write_note):
    note = write_note("a")
    note.run.process = RunProcess(host="another host", pid=1, started_at=now())
    note.made_at = now() - timedelta(days=1)
    note.write(states)
    recover_all(records, states)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.STOPPED
    assert records.find_summary(NOTEBOOK).status is not NotebookStatus.RUNNING


def test_recovered_checkpoints_keep_their_times(records, states, write_note):
    note = write_note("yesterday")
    note.run.started_at = note.made_at = now() - timedelta(days=1)
    note.write(states)
    records.create(NewNotebook(id=NOTEBOOK, user_id="ada", name="train"))
    today = records.create_checkpoint(
        NewCheckpoint(notebook_id=NOTEBOOK, run_id="today", epoch=50, step=50, metrics={})
    )
    (result,) = recover_all(records, states)
    assert result.checkpoint.created_at == note.made_at
    assert records.checkpoints.get_latest(NOTEBOOK) == today
    assert [run.id for run in records.runs.list(NOTEBOOK)] == ["today", RUN]


def test_the_end_of_a_run_may_be_recorded_after_its_checkpoints(records, states, write_note):
    write_note("a")
    recover_all(records, states)
    write_note("a", status=RunStatus.COMPLETED)  # by a process without the result of the recovery
    assert_all_recovered(records, states, 1)
    assert records.runs.list(NOTEBOOK)[0].status is RunStatus.COMPLETED


def test_checkpoints_move_to_the_notebook_of_their_file(records, states, write_note, notebook_file):
    write_note("a", 0, path=notebook_file)
    write_note("b", 1, path=notebook_file)
    assert_all_recovered(records, states, 2)
    (notebook,) = records.list_all()
    assert notebook.path == notebook_file
    checkpoints = records.list_checkpoints(notebook.id)
    assert [one.id for one in checkpoints] == ["b", "a"]
    for one in checkpoints:
        assert one.model_state_path.startswith(f"{states.root}/{notebook.id}/{one.id}/")
        assert states.can_read(one.model_state_path, notebook.id)
    assert os.listdir(states.root) == [notebook.id]


def test_an_interrupted_move_is_finished(records, states, write_note, notebook_file):
    write_note("a", path=notebook_file)
    move_checkpoint(states.root, "a", NOTEBOOK, OTHER_NOTEBOOK)
    assert_all_recovered(records, states, 1)
    (notebook,) = records.list_all()
    (checkpoint,) = records.list_checkpoints(notebook.id)
    assert states.can_read(checkpoint.model_state_path, notebook.id)


def test_a_note_refers_only_to_files_in_its_own_folder(records, states, write_note, tmp_path):
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"secret")
    note = write_note("a")
    note.checkpoint.model_state_path = str(secret)
    note.write(states)
    (result,) = recover_all(records, states)
    assert "secret.safetensors not found" in str(result.error)
    note_file(states, "a").with_name(secret.name).symlink_to(secret)
    (result,) = recover_all(records, states)
    assert result.error is not None
    assert records.get_checkpoint("a") is None


def test_the_id_of_a_checkpoint_is_the_name_of_its_folder(records, states, write_note):
    note = write_note("a")
    note.checkpoint.id = "../../elsewhere"
    note_file(states, "a").write_text(json.dumps(note.to_json()))
    (result,) = recover_all(records, states)
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
    note_file(states, "a").write_text(text)
    recorded, failed = recover_all(records, states)
    assert recorded.checkpoint is not None
    assert failed.error is not None
    assert note_file(states, "a").exists()


def test_garbage_collection_keeps_folders_with_notes(states, write_note):
    write_note("a")
    report = sweep(StateStorage(Path(states.root)), lambda *_: None, older_than=-1)
    assert report.folders == []
    assert note_file(states, "a").exists()


# Notes with invalid or unusual content


def change(note, states, **values):
    """Write a note with other values, named by their paths in it."""
    document = note.to_json()
    for path, value in values.items():
        *parents, name = path.split("__")
        target = document
        for parent in parents:
            target = target[parent]
        target[name] = value
    note_file(states, str(note.checkpoint.id)).write_text(json.dumps(document))
    return note


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"m": value}
    return value


LAST, FIRST = "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"
PROCESS = {"host": "h", "pid": 1, "started_at": "2026-01-01T00:00:00Z"}
#: Values with which a note is rejected.
INVALID = {
    "time before year 1": {"made_at": "0001-01-01T00:00:00+14:00"},
    "time after year 9999": {"made_at": "9999-12-31T23:59:59-14:00"},
    "not a time": {"made_at": "soon"},
    "large epoch": {"checkpoint__epoch": 2**32},
    "huge epoch": {"checkpoint__epoch": 10**400},
    "negative step": {"checkpoint__step": -1},
    "epoch is NaN": {"checkpoint__epoch": float("nan")},
    "negative size": {"checkpoint__sizes": {"model": -1}},
    "huge size": {"checkpoint__sizes": {"model": 10**400}},
    "deeply nested metrics": {"checkpoint__metrics": nested(500)},
    "metrics nested beyond the recursion limit": {"checkpoint__metrics": nested(900)},
    "malformed digest": {"checkpoint__digests": {"model": "../../etc"}},
    "no digest": {"checkpoint__digests": {}},
    "digest of another state": {"checkpoint__digests": {"optimizer": "0" * 64}},
    "tags are not strings": {"checkpoint__tags": [1]},
    "lone surrogate in path": {"path": "/a/\ud800.ipynb"},
    "NUL in path": {"path": "/a/\0.ipynb"},
    "relative path": {"path": "../../train.ipynb"},
    "long path": {"path": "/" + "x" * 1_000_000},
    "long host": {"run__process": {**PROCESS, "host": "h" * 1_000_000}},
    "huge pid": {"run__process": {**PROCESS, "pid": 2**70}},
    "negative pid": {"run__process": {**PROCESS, "pid": -1}},
    "pid 0": {"run__process": {**PROCESS, "pid": 0}},
    "long owner": {"owner": "o" * 1_000_000},
    "lone surrogate in run id": {"run__id": "\udfff", "checkpoint__run_id": "\udfff"},
    "run of another checkpoint": {"run__id": "another"},
    "checkpoint without the run": {"checkpoint__run_id": None},
    "unknown run status": {"run__status": "paused"},
    "executed cells are not objects": {"executed": [[]]},
    "state is a device": {"checkpoint__model_state_path": "/dev/zero"},
    "state is a parent folder": {"checkpoint__model_state_path": ".."},
    "NUL in state path": {"checkpoint__model_state_path": "/a/\0"},
}
#: Values with which a checkpoint is still recorded.
UNUSUAL = {
    "made in year 9999": {"made_at": LAST},
    "made in year 1": {"made_at": FIRST},
    "started in year 9999": {"run__started_at": LAST},
    "started in year 1": {"run__started_at": FIRST, "made_at": FIRST},
    "leased until year 9999": {"run__lease_until": LAST},
    "process started in year 9999": {"run__process": {**PROCESS, "started_at": LAST}},
    "ended in year 1": {"run__ended_at": FIRST, "run__status": "failed"},
    "metrics are not numbers": {"checkpoint__metrics": {"loss": "low", "a": [None, {}], "": True}},
    "metrics are not an object": {"checkpoint__metrics": "low"},
    "huge numbers": {
        "checkpoint__metrics": {"loss": 10**400, "acc": float("nan"), "x": float("-inf")}
    },
    "many metrics": {"checkpoint__metrics": {f"m{n}": n for n in range(3000)}},
    "control characters in names": {
        "checkpoint__metrics": {"\0\ud800\x1b": 1.0},
        "checkpoint__tags": ["\udc80\x1b", ""],
    },
    "size of a missing state": {"checkpoint__sizes": {"model": 18, "else": -(2**70)}},
    "digest of a missing state": {"checkpoint__digests": {"model": "0" * 64, "else": "1" * 64}},
    "path is a device": {"path": "/dev/zero", "kind": "script"},
    "path is a folder": {"path": "/", "kind": "notebook"},
    "unknown fields": {"more": {"deep": nested(50)}},
    "unknown version": {"checkpoint__version_id": "44444444-4444-4444-8444-444444444444"},
    "unknown parent": {"run__parent_checkpoint_id": "../x"},
    "unusual cells": {
        "executed": [{"source": "x" * 1_000_000 + "\ud800\0"}] * 3,
        "environment": {"python": "\ud800", "packages": {"\0": "\x1b"}},
    },
}


@pytest.mark.parametrize("values", INVALID.values(), ids=INVALID)
def test_an_invalid_note_does_not_affect_other_notes(records, states, write_note, values):
    write_note("before", 0)
    change(write_note("invalid", 1), states, **values)
    write_note("after", 2)
    results = recover_by_folder(records, states)
    assert (results["before"].error, results["after"].error) == (None, None)
    assert len(str(results["invalid"].error)) > 10
    assert records.get_checkpoint("invalid") is None
    assert {one.id for one in records.list_checkpoints(NOTEBOOK)} == {"before", "after"}
    assert note_file(states, "invalid").exists()


@pytest.mark.parametrize("values", UNUSUAL.values(), ids=UNUSUAL)
def test_a_note_with_unusual_values_is_recorded(records, states, write_note, values):
    write_note("before", 0)
    change(write_note("unusual", 1), states, **values)
    write_note("after", 2)
    assert_all_recovered(records, states, 3)
    checkpoint = records.get_checkpoint("unusual")
    assert checkpoint is not None
    assert states.can_read(checkpoint.model_state_path, checkpoint.notebook_id)
    assert checkpoint.sizes == {"model": len(b"weights of unusual")}
    assert checkpoint.created_at <= now()
    assert records.checkpoints.get_latest(NOTEBOOK).id == "after"
    assert all(run.started_at <= now() for run in records.runs.list(NOTEBOOK))
    repr(Checkpoint(checkpoint, states))


@pytest.mark.parametrize("owner", ["ada", "eve"])
@pytest.mark.parametrize("link", ["folder", "record_id", "file", "checkpoint"])
def test_a_note_does_not_change_the_notebook_of_another_user(
    records, states, write_note, notebook_file, link, owner
):
    id = NOTEBOOK if link == "folder" else OTHER_NOTEBOOK
    records.create(
        NewNotebook(id=id, user_id="bob", name="bobs", path=notebook_file, origin=ORIGIN)
    )
    records.runs.start(id, id="bobs-run")
    if link == "checkpoint":
        records.create_checkpoint(
            NewCheckpoint(id="a", notebook_id=id, epoch=7, step=7, metrics={})
        )
    values = {"record_id": {"record_id": id}, "file": {"path": notebook_file}}.get(link, {})

    def read_notebook():
        return records.list_checkpoints(id), records.runs.list(id), records.find_by_id(id)

    before = read_notebook()
    change(write_note("a", status=RunStatus.FAILED), states, owner=owner, **values)
    (result,) = recover_all(records, states)
    assert read_notebook() == before
    if link in ("folder", "checkpoint"):
        assert result.error is not None
    else:
        assert records.find_summary(result.checkpoint.notebook_id).user_id == owner


def test_a_note_does_not_end_a_run_of_another_notebook(records, states, write_note):
    records.create(NewNotebook(id="bobs", user_id="bob", name="bobs"))
    records.runs.start("bobs", id="bobs-run")
    note = write_note("a", status=RunStatus.FAILED)
    change(note, states, run__id="bobs-run", checkpoint__run_id="bobs-run")
    recover_all(records, states)
    assert records.runs.list("bobs")[0].status is RunStatus.RUNNING


@pytest.mark.parametrize(
    "kind", ["pipe", "/dev/zero", f"../good/{NOTE}", "dangling", "folder", "empty", "huge", "half"]
)
def test_a_note_that_is_not_a_regular_file_is_reported(records, states, write_note, kind):
    write_note("good", 1)
    write_note("bad")
    note = note_file(states, "bad")
    content = note.read_bytes()
    note.unlink()
    match kind:
        case "pipe":
            os.mkfifo(note)
        case "folder":
            note.mkdir()
        case "huge":
            note.touch()
            os.truncate(note, 1 << 36)
        case "empty":
            note.touch()
        case "half":
            note.write_bytes(content[: len(content) // 2])
        case target:
            note.symlink_to(target)
    results = recover_by_folder(records, states)
    assert results["good"].checkpoint is not None
    assert str(note) in str(results["bad"].error)
    assert records.get_checkpoint("bad") is None


def test_folders_with_unusual_names_are_skipped(records, states, write_note):
    content = json.dumps(write_note("good").to_json())
    root, notebook = os.fsencode(states.root), NOTEBOOK.encode()
    for name in (b"\xff\xfe", b"\x1b]0;x\x07", b".hidden", b"a:b", b"x\ny"):
        for folder in (os.path.join(root, name, b"c"), os.path.join(root, notebook, name)):
            os.makedirs(folder)
            Path(os.fsdecode(folder), NOTE).write_text(content)
    good, *failed = recover_all(records, states)
    assert good.checkpoint.id == "good"
    assert len(failed) == 2 * 5
    for result in failed:
        assert result.checkpoint is None
        str(result.error).encode()


# Unavailable stores and concurrency


def test_recovery_stops_when_the_store_becomes_unavailable(states, write_note, tmp_path):
    write_note("a", 0)
    write_note("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        records = NotebookRepository(store, states=states)
        results = recover(records, states, ORIGIN, find_notes(states))
        assert next(results).error is None
        with locked(tmp_path / "axon.db"), pytest.raises(StoreError):
            next(results)
        assert [note.checkpoint.id for note in find_notes(states)] == ["b"]
        assert_all_recovered(records, states, 1)


def test_concurrent_recoveries_record_each_checkpoint_once(
    states, write_note, tmp_path, notebook_file
):
    for epoch in range(12):
        write_note(f"c{epoch}", epoch, path=notebook_file)
    start, url = threading.Barrier(4), f"sqlite:///{tmp_path}/axon.db"

    def recover_in_thread(_):
        with closing(open_store(url)) as store:
            notes = find_notes(states)
            start.wait(30)
            return list(recover(NotebookRepository(store, states=states), states, ORIGIN, notes))

    with ThreadPoolExecutor(4) as pool:
        results = [one for each in pool.map(recover_in_thread, range(4)) for one in each]
    assert {result.error for result in results} == {None}
    with closing(open_store(url)) as store:
        records = NotebookRepository(store)
        (notebook,) = records.list_all()
        checkpoints = records.list_checkpoints(notebook.id)
        assert [one.epoch for one in checkpoints] == list(range(11, -1, -1))
        assert all(states.can_read(one.model_state_path, notebook.id) for one in checkpoints)
        assert list(find_unrecorded(states)) == []
        assert len(records.runs.list(notebook.id)) == 1


# In a server


@pytest.fixture
def background(records, states):
    return BackgroundRecovery(records, states, ORIGIN, "memory://", "ada")


def run_pass(background):
    """Run one pass; return the ids of recorded checkpoints, and the folders of others."""
    return [
        result.checkpoint.id if result.checkpoint is not None else f"not {Path(result.folder).name}"
        for result in background.run_once()
        if result is not None
    ]


@pytest.mark.parametrize(
    ("saved", "recorded_by_kernel", "message"),
    [
        ("a", "", "recorded 1 checkpoint made while"),
        ("abc", "a", "recorded 2 checkpoints made while"),
        ("ab", "ab", None),
    ],
)
def test_a_server_logs_how_many_checkpoints_it_recorded(
    saved, recorded_by_kernel, message, records, background, states, write_note, caplog
):
    caplog.set_level(logging.INFO)
    notes = [write_note(id, epoch, status=RunStatus.COMPLETED) for epoch, id in enumerate(saved)]
    list(recover(records, states, ORIGIN, notes[: len(recorded_by_kernel)]))
    for note in notes:  # as if the kernel had been killed before it removed its notes
        note.write(states)
    log = logging.getLogger("test_recovery")
    collector = GarbageCollector(records, states, log)
    server = BackgroundWork(records, collector, log, recovery=background)
    server.start()
    try:
        eventually(lambda: not list(find_unrecorded(states)))
    finally:
        assert server.stop()
    assert records.checkpoints.count(NOTEBOOK) == len(saved)
    messages = [text for text in caplog.messages if "recorded" in text]
    assert len(messages) == (message is not None)
    assert message is None or message in messages[0]


def test_a_running_process_records_its_own_checkpoints(background, states, write_note):
    notes = [write_note("a", 0), write_note("b", 1)]
    for note in notes:
        note.run.process = this_process()
        note.write(states)
    assert run_pass(background) == []
    assert run_pass(background) == []
    notes[-1].run.status = RunStatus.FAILED  # the cell failed, and the kernel still runs
    notes[-1].write(states)
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
    note.run.process = RunProcess(host="another host", pid=1, started_at=now())
    note.write(states)
    assert run_pass(background) == []
    note.made_at = now() - timedelta(minutes=61)
    note.write(states)
    assert run_pass(background) == ["a"]


@pytest.mark.parametrize(
    "other", [{"store_url": "sqlite:////x.db"}, {"owner": "bob"}, {"origin": "another"}]
)
def test_notes_for_other_stores_users_and_origins_remain(background, states, write_note, other):
    change(write_note("other", 0), states, **other)
    write_note("own", 1)
    assert run_pass(background) == ["own"]
    assert note_file(states, "other").exists()


def test_an_error_is_reported_once_until_the_folder_changes(background, states, write_note):
    note = change(write_note("invalid", 0), states, made_at="never")
    write_note("good", 1)
    assert run_pass(background) == ["not invalid", "good"]
    write_note("other", 2)
    assert run_pass(background) == ["not invalid", "other"]
    assert run_pass(background) == []
    note.write(states)
    assert run_pass(background) == ["invalid"]


def test_a_pass_continues_when_the_store_is_available(states, write_note, tmp_path):
    write_note("a", 0)
    write_note("b", 1)
    with closing(Store(f"sqlite:///{tmp_path}/axon.db", busy_timeout=0.2)) as store:
        records = NotebookRepository(store, states=states)
        background = BackgroundRecovery(records, states, ORIGIN, "memory://", None)
        with locked(tmp_path / "axon.db"):
            for _ in range(2):
                with pytest.raises(StoreError):
                    run_pass(background)
        assert run_pass(background) == ["a", "b"]


def test_an_idle_pass_reads_no_folder(background, states, write_note, monkeypatch):
    write_note("a")
    assert run_pass(background) == ["a"]
    assert run_pass(background) == []  # the first pass changed the folders
    with monkeypatch.context() as patched:
        for name in ("scandir", "listdir", "open", "lstat"):
            patched.setattr(os, name, lambda *paths, **_: pytest.fail(f"{paths} was read"))
        assert run_pass(background) == []
    write_note("b", 1)
    assert run_pass(background) == ["b"]


def test_the_first_pass_finds_notes_of_any_age(background, states, write_note):
    write_note("a")
    os.utime(states.root, (0, 0))
    assert run_pass(background) == ["a"]
