"""Logging while disks, stores and processes fail, and with input that is wrong."""

from __future__ import annotations

import decimal
import math
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
from support import disks, logged_rows
from support.engines import eventually

from jupyter_axon_notebooks import spool
from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.records import RunStatus, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row, SpoolReader, SpoolWriter, list_spools
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.stores import find_settings, open_store_at
from jupyter_axon_notebooks.training import run_log, spooled, store_connection, system_metrics
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.session import current_session, end_session
from jupyter_axon_notebooks.training.spooled import recover_spools, spool_folders


def list_runs(records):
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def stored(records, name="loss"):
    [run] = list_runs(records)
    return logged_rows.stored(records, run, name)


def is_recording():
    """Return whether another thread uses the tracker."""
    lock = current_session().tracker.lock
    is_free = lock.acquire(blocking=False)
    if is_free:
        lock.release()
    return not is_free


def is_stored(records):
    return any(
        logged_rows.stored(records, run, "loss")
        for notebook in records.list_all()
        for run in records.runs.list(notebook.id)
    )


def recover():
    settings = find_settings()
    with open_store_at(settings) as opened:
        folders = spool_folders(settings.data_folder)
        found = recover_spools(
            opened.repository, opened.origin, folders, settings.store_url, settings.user_id
        )
        return [error for _, error in found]


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """A folder for temporary files of this test and its processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def restart(restart):
    """A function that ends the session, and waits until the store has all rows."""

    def end():
        restart()
        folder = spool_folders(find_settings().data_folder)[0]
        eventually(lambda: recover() is not None and list_spools(folder) == [])

    return end


class TestStore:
    @pytest.fixture
    def locked(self, records, tmp_path):
        """The store, which another program locks; the function unlocks it."""
        file = tmp_path / "data/axon_notebooks/axon.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection.rollback

    def test_no_call_waits_for_a_locked_store(self, axon, locked, restart, records, monkeypatch):
        for module in (store_connection, spooled):
            monkeypatch.setattr(module, "_BUSY_TIMEOUT", 1e6)  # whoever waits hangs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for run in range(2):
                for step in range(3):
                    axon.log({"loss": float(run)}, step=step)  # the second run begins here
                eventually(is_recording)
        locked()
        restart()
        first, second = list_runs(records)
        assert logged_rows.stored(records, first, "loss") == {0: 0.0, 1: 0.0, 2: 0.0}
        assert logged_rows.stored(records, second, "loss") == {0: 1.0, 1: 1.0, 2: 1.0}
        assert (first.number, second.number) == (1, 2)
        assert (first.status, second.status) == (RunStatus.COMPLETED, RunStatus.RUNNING)

    def test_a_run_is_recorded_when_the_store_is_back(self, axon, unavailable_store):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            axon.log({"loss": 1.0})
            unavailable_store()
            settings = find_settings()
            with open_store_at(settings) as opened:
                records = opened.repository
                eventually(lambda: is_stored(records))
                [run] = list_runs(records)
                assert (run.number, run.status) == (1, RunStatus.RUNNING)
                assert run.lease_until > now() + timedelta(minutes=1)

    def test_the_end_of_a_run_is_recorded_when_the_store_is_back(self, axon, unavailable_store):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = axon.start_run()
            run.log({"loss": 1.0})
            run.finish()
            unavailable_store()
            with open_store_at(find_settings()) as opened:
                records = opened.repository
                eventually(lambda: is_stored(records))
                eventually(lambda: list_runs(records)[0].status is RunStatus.COMPLETED)

    def test_rows_wait_for_a_store_that_a_newer_version_migrated(self, axon, records, tmp_path):
        axon.log({"loss": 1.0})
        eventually(lambda: stored(records) == {0: 1.0})
        file = tmp_path / "data/axon_notebooks/axon.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                axon.log({"loss": 2.0})
                end_session()
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        eventually(lambda: recover() == [None])
        assert stored(records) == {0: 1.0, 1: 2.0}


class TestDisk:
    def test_rows_stay_in_memory_while_the_disk_is_full(self, notebook, tmp_path):
        disk, report = tmp_path / "disk", tmp_path / "report"
        url = f"sqlite:///{tmp_path}/axon.db"
        env = logged_rows.environment(disk / "data", notebook, AXON_STORE_URL=url)
        code = f"""
folder, filler = {str(disk)!r}, {str(disk / "filler")!r}
for step in range(10):
    log(step)
with open(filler, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        pass
for step in range(10, 3000):
    log(step)
os.unlink(filler)
for step in range(3000, 3010):
    log(step)
"""
        process = logged_rows.start(
            code, report, {**env, "TMPDIR": str(disk)}, inside=disks.small_disk(disk, "1m")
        )
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert errors.count("logged values cannot be written") == 1
        with closing(open_store(url)) as store:
            [run] = list_runs(NotebookRepository(store))
            logged_rows.assert_stored_once(store, run, 3010)

    def test_rows_in_the_temporary_folder_are_recovered(
        self, axon, notebook, records, tmp_path, temporary_folder
    ):
        (tmp_path / "data/axon_notebooks/spool").touch()  # root may write to any folder
        report = tmp_path / "report"
        env = logged_rows.environment(tmp_path / "data", notebook)
        code = "log(0); log(1); os.kill(os.getpid(), 9)"
        _, errors = logged_rows.start(code, report, env).communicate()
        assert f"logged values are written to {temporary_folder}" in errors
        assert logged_rows.recover(env).returncode == 0
        assert list(stored(records)) == [0, 1]
        assert list(temporary_folder.rglob("*.spool")) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_a_temporary_folder_of_another_user_is_not_used(self, axon, records, tmp_path, restart):
        folder = spool_folders(tmp_path)[1]
        folder.mkdir()
        with closing(SpoolWriter(folder, {})) as writer:
            foreign = writer.path
        os.chown(folder, 12345, 12345)
        usual = tmp_path / "data/axon_notebooks/spool"
        usual.touch()
        with pytest.warns(AxonWarning, match="cannot be written"):
            axon.log({"loss": 1.0})
        assert recover() == []
        usual.unlink()
        restart()
        assert stored(records) == {0: 1.0}
        assert list_spools(folder) == [foreign]

    @pytest.mark.parametrize("tail", [b"", b"\0" * 4096, bytes(range(100)), b"\x40\0\0\0junk"])
    @pytest.mark.parametrize("cut", [0, 12])
    def test_what_a_power_failure_leaves_at_the_end_is_ignored(
        self, axon, notebook, records, tmp_path, tail, cut
    ):
        env = logged_rows.environment(
            tmp_path / "data", notebook, AXON_STORE_URL="sqlite:////proc/none"
        )
        code = "for step in range(4): log(step)\nos._exit(0)"
        logged_rows.start(code, tmp_path / "report", env).communicate()
        [file] = list_spools(spool_folders(tmp_path / "data/axon_notebooks")[0])
        content = file.read_bytes()
        file.write_bytes(content[: len(content) - cut] + tail)
        settings = find_settings()
        with open_store_at(settings) as opened:
            found = recover_spools(
                opened.repository, opened.origin, [file.parent], "sqlite:////proc/none", "ada"
            )
            assert [error for _, error in found] == [None]
        assert list(stored(records)) == list(range(4 if cut == 0 else 3))

    def test_rows_are_flushed_to_the_disk_soon(self, axon, monkeypatch):
        flushed = threading.Event()
        flush = os.fdatasync

        def fdatasync(fd):
            flush(fd)
            flushed.set()

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        axon.log({"loss": 1.0})
        assert flushed.wait(30)


class TestRecovery:
    def test_a_file_that_was_stored_is_not_stored_again(self, tmp_path):
        writer = SpoolWriter(tmp_path, {})
        writer.append(Row(0, 0.0, {"loss": 1.0}))
        with SpoolReader(writer.path) as late:
            assert not late.is_abandoned()
            writer.close(remove=True)
            assert not late.is_abandoned()

    def test_a_file_that_another_process_stores_is_left_alone(self, tmp_path):
        writer = SpoolWriter(tmp_path, {})
        writer.close()
        with SpoolReader(writer.path) as first, SpoolReader(writer.path) as second:
            assert first.is_abandoned()
            assert not second.is_abandoned()
            first.remove()
        with pytest.raises(FileNotFoundError):
            SpoolReader(writer.path)

    def test_a_file_of_a_living_process_is_left_alone_where_files_have_no_locks(
        self, axon, records, restart, monkeypatch
    ):
        axon.log({"loss": 1.0})
        with monkeypatch.context() as patched:
            patched.setattr(spool, "lock", lambda fd, *, wait: True)
            assert recover() == []
        axon.log({"loss": 2.0})
        restart()
        assert stored(records) == {0: 1.0, 1: 2.0}

    def test_a_file_without_a_header_is_never_seen(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "write", lambda fd, data: os.kill(os.getpid(), 9))
        pid = os.fork()
        if pid == 0:
            SpoolWriter(tmp_path, {})
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        assert list_spools(tmp_path) == []


ENDS = {
    "its end": "",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise ValueError",
    "os._exit": "os._exit(0)",
    "abort": "os.abort()",
    "a thread that goes on": (
        "import threading; begins = threading.Event()\n"
        "def go_on():\n    begins.wait()\n    threading.main_thread().join()\n    log(3)\n"
        "threading.Thread(target=go_on).start(); begins.set()"
    ),
    "a handler at exit": "import atexit; atexit.register(log, 3)",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_row_before_the_end_is_stored(axon, notebook, records, tmp_path, end):
    report = tmp_path / "report"
    env = logged_rows.environment(tmp_path / "data", notebook)
    process = logged_rows.start(f"for step in range(3): log(step)\n{ENDS[end]}", report, env)
    process.communicate()
    assert logged_rows.recover(env).returncode == 0
    rows = [step for run in list_runs(records) for step in logged_rows.stored(records, run, "loss")]
    assert sorted(rows) == list(range(logged_rows.acknowledged(report)))


def test_a_handler_that_was_registered_before_the_import_can_log(axon, notebook, records, tmp_path):
    report = tmp_path / "report"
    env = logged_rows.environment(tmp_path / "data", notebook)
    code = """
import subprocess
before = "import atexit, sys; late = []; atexit.register(lambda: [call() for call in late])"
body = "import jupyter_axon_notebooks as axon; axon.log({'loss': 0.0}); " \\
    "late.append(lambda: (axon.log({'loss': 1.0}), print('logged')))"
print(subprocess.run([sys.executable, "-c", before + "\\n" + body], text=True,
      stdout=subprocess.PIPE).stdout)
"""
    output, errors = logged_rows.start(code, report, env).communicate()
    assert "logged" in output, errors
    assert logged_rows.recover(env).returncode == 0
    values = [v for run in list_runs(records) for v in logged_rows.stored(records, run).values()]
    assert sorted(values) == [0.0, 1.0]


def test_a_run_that_ended_takes_further_rows(axon, records, restart):
    run = axon.start_run()
    run.log({"loss": 1.0})
    run.finish()
    run.log({"loss": 2.0})
    axon.log({"loss": 3.0})  # no run is trained here any more
    restart()
    first, second = list_runs(records)
    assert logged_rows.stored(records, first, "loss") == {0: 1.0, 1: 2.0}
    assert logged_rows.stored(records, second, "loss") == {0: 3.0}
    assert first.status is RunStatus.COMPLETED


class TestFiles:
    """Other programs remove or change the file of a run that logs."""

    @pytest.fixture
    def spool(self, axon, records):
        """The file of a run of which a value was stored."""
        axon.log({"loss": 0.0})
        eventually(lambda: is_stored(records))
        [path] = list_spools(spool_folders(find_settings().data_folder)[0])
        return path

    @pytest.mark.parametrize("removed", ["file", "folder"])
    def test_no_value_is_lost_when_it_is_removed(self, axon, spool, removed, restart, records):
        axon.log({"loss": 1.0})
        if removed == "file":
            spool.unlink()
        else:
            shutil.rmtree(spool.parent)
        axon.log({"loss": 2.0})
        restart()
        assert stored(records) == {0: 0.0, 1: 1.0, 2: 2.0}

    @pytest.mark.parametrize("change", ["empty", "cut", "extend"])
    def test_later_values_are_stored_when_it_is_changed(
        self, axon, spool, change, restart, records
    ):
        def change_and_log():
            with spool.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if change == "extend":
                    file.write(b"damaged")
                else:
                    file.truncate(0 if change == "empty" else size - 1)
            axon.log({"loss": 1.0})
            eventually(lambda: not spool.exists())
            axon.log({"loss": 2.0})
            restart()

        with pytest.warns(AxonWarning, match="logged values were lost"):
            change_and_log()
        assert stored(records)[2] == 2.0


def test_many_runs_keep_few_files_open_without_a_store(axon, unavailable_store):
    process = psutil.Process()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axon.log({"loss": 0.0})
        before = process.num_fds()
        for _ in range(150):
            axon.start_run().log({"loss": 1.0})
        assert process.num_fds() < before + 110
        unavailable_store()
        with open_store_at(find_settings()) as opened:
            records = opened.repository
            eventually(lambda: is_stored(records) and len(list_runs(records)) == 151)
            end_session(RunStatus.COMPLETED)
            folder = spool_folders(find_settings().data_folder)[0]
            eventually(lambda: recover() is not None and list_spools(folder) == [])
            runs = list_runs(records)
            assert {run.status for run in runs} == {RunStatus.COMPLETED}
            assert all(len(logged_rows.stored(records, run)) == 1 for run in runs)


def test_values_are_logged_where_the_load_cannot_be_read(axon, records, restart, monkeypatch):
    def refuse(*_):
        raise PermissionError("/proc/stat")

    for name in ("cpu_percent", "virtual_memory"):
        monkeypatch.setattr(system_metrics.psutil, name, refuse)
    for step in range(3):
        axon.log({"loss": 1.0}, step=step)
    restart()
    assert stored(records) == dict.fromkeys(range(3), 1.0)


def test_a_file_that_another_process_has_stored_meanwhile_is_no_error(axon, records):
    folder = spool_folders(find_settings().data_folder)[0]
    for name in ("one", "two"):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.spool").touch()
    settings = find_settings()
    with open_store_at(settings) as opened:
        found = recover_spools(
            opened.repository, opened.origin, [folder], settings.store_url, settings.user_id
        )
        assert "not a spool file" in next(found)[1]
        shutil.rmtree(folder)
        assert list(found) == []


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal to send")
def test_a_signal_handler_may_log_at_every_line_of_a_call(axon, records, restart):
    logged, lines = [], iter(())

    def handle(*_):
        logged.append(float(len(logged)))
        axon.log({"signal": logged[-1]}, step=len(logged) - 1)

    def trace(frame, event, _):
        if frame.f_code.co_filename.endswith(("run.py", "run_log.py", "spool.py")):
            if event == "line" and next(lines, 1) == 0:
                signal.raise_signal(signal.SIGUSR1)
            return trace
        return None

    previous = signal.signal(signal.SIGUSR1, handle)
    step, was_interrupted = 0, True
    axon.log({"loss": 0.0}, step=0)
    try:
        while was_interrupted:
            step, count, lines = step + 1, len(logged), iter(range(step, -1, -1))
            sys.settrace(trace)
            axon.log({"loss": float(step)}, step=step)
            sys.settrace(None)
            was_interrupted = len(logged) > count
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, previous)
    assert step > 20
    restart()
    assert stored(records) == {number: float(number) for number in range(step + 1)}
    assert stored(records, "signal") == dict(enumerate(logged))


def test_a_run_that_ended_has_no_further_samples_of_the_load(axon, records, monkeypatch):
    monkeypatch.setattr(run_log, "_SAMPLE_INTERVAL", 0.01)
    ended = axon.start_run()
    ended.finish()
    ended.log({"loss": 1.0})
    running = axon.start_run()
    running.log({"loss": 1.0})

    def samples(run):
        return logged_rows.stored(records, run.record, "system/cpu_percent")

    eventually(lambda: len(samples(running)) > 1)
    assert samples(ended) == {}


def _log_in_child(value):
    import jupyter_axon_notebooks as axon

    axon.log({"loss": value})


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_logs_to_a_run_of_its_own(axon, records, restart, method):
    axon.log({"loss": 0.0})
    children = [
        multiprocessing.get_context(method).Process(target=_log_in_child, args=(float(number),))
        for number in (1, 2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    axon.log({"loss": 9.0})
    restart()
    recover()
    runs = [logged_rows.stored(records, run, "loss") for run in list_runs(records)]
    assert sorted(runs, key=str) == [{0: 0.0, 1: 9.0}, {0: 1.0}, {0: 2.0}]


def test_a_forked_process_neither_writes_to_nor_ends_the_run_of_its_parent(axon, records, restart):
    with axon.start_run() as run:
        run.log({"loss": 0.0})
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run.log({"loss": 5.0})
                run.finish()
                end_session()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert records.runs.get(run.record.notebook_id, run.id).status is RunStatus.RUNNING
        run.log({"loss": 1.0})
    restart()
    recover()
    parent, child = (logged_rows.stored(records, run, "loss") for run in list_runs(records))
    assert (parent, child) == ({0: 0.0, 1: 1.0}, {0: 5.0})


def test_a_forked_process_reads_and_changes_the_run_of_its_parent(axon, records):
    ended = threading.Event()
    run = axon.start_run()
    run.log({"loss": 1.0})
    eventually(lambda: is_stored(records))

    def use():  # what holds the locks of the run and its session
        while not ended.is_set():
            run.log({"loss": 1.0})
            assert run.metrics["loss"] == 1.0
            assert len(run.series("loss"))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with suppress(StoreError):  # SQLite may have been in use
                    assert run.metrics["loss"] == 1.0
                    assert run.series("loss").values[0] == 1.0
                    run.update(notes=f"child {number}")
                status = 0
            finally:
                os._exit(status)
        codes.append(os.waitpid(pid, 0)[1])
    ended.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8


def test_processes_can_fork_while_threads_log(axon, records, restart):
    ended = threading.Event()

    def log():
        while not ended.wait(0.001):
            axon.log({"loss": 1.0})

    threads = [threading.Thread(target=log) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                axon.log({"loss": 2.0})
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    ended.set()
    for thread in threads:
        thread.join()
    restart()
    recover()
    runs = [logged_rows.stored(records, run, "loss") for run in list_runs(records)]
    assert sum(set(run.values()) == {2.0} for run in runs) == 8
    assert len(runs) == 11


def test_a_clock_that_is_set_back_changes_no_order(axon, records, restart, monkeypatch):
    axon.log({"loss": 1.0})
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    axon.log({"loss": 2.0})
    restart()
    [run] = list_runs(records)
    series = records.series.read(run.notebook_id, run.id, "loss")
    assert series.steps.tolist() == [0, 1]
    assert series.times[1] < series.times[0]


def test_a_run_never_ends_before_it_starts(records, axon):
    notebook = axon.notebook()
    run = records.runs.start(notebook.id, started_at=now() + timedelta(hours=1))
    ended = records.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
    assert ended.ended_at > ended.started_at


NAMES = ["a.b", "a/b", "a\nb", "<script>", "", " ", "é" * 1000, "\0", "𝔘" * 1000]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_stored_as_given(axon, records, restart, name):
    axon.log({name: 1.0, "loss": 2.0})
    restart()
    assert stored(records, name) == {0: 1.0}
    assert stored(records) == {0: 2.0}


def test_half_a_surrogate_pair_in_a_name_is_escaped(axon, records, restart):
    axon.log({"a\ud800": 1.0, "loss": 2.0})
    restart()
    assert stored(records, "a\\ud800") == {0: 1.0}
    assert stored(records) == {0: 2.0}


@pytest.mark.parametrize("name", ["x" * 1001, "x" * 10**6])
def test_names_that_are_too_long_cost_a_warning(axon, records, restart, name):
    with pytest.warns(AxonWarning, match="characters"):
        axon.log({name: 1.0, "loss": 2.0})
    restart()
    [run] = list_runs(records)
    assert [name for name in run.metrics if not name.startswith("system/")] == ["loss"]


def test_ten_thousand_metrics_are_stored(axon, records, restart):
    axon.log({f"layer.{number}": float(number) for number in range(10_000)})
    restart()
    assert stored(records, "layer.9999") == {0: 9999.0}


VALUES = [
    (True, 1.0),
    (np.float16(0.5), 0.5),
    (np.int64(3), 3.0),
    (np.array(2.5), 2.5),
    (np.array([2.5]), 2.5),
    (decimal.Decimal("0.25"), 0.25),
    (10**400, None),
    (1j, None),
    ("text", None),
    (None, None),
    ([1.0, 2.0], None),
    (np.zeros(3), None),
    (object(), None),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: type(value).__name__)
def test_values_are_numbers_or_cost_a_warning(axon, records, restart, value, expected):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(3):
            axon.log({"odd": value, "loss": 1.0})
    assert [("odd" in str(one.message)) for one in warned] == [True] * (expected is None)
    restart()
    assert len(stored(records)) == 3
    if expected is not None:
        assert stored(records, "odd") == dict.fromkeys(range(3), expected)


def test_a_run_can_end_while_a_thread_logs_to_it(axon, records, restart):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    logged = 0

    def log(run, ended):
        nonlocal logged
        while not ended.is_set():
            run.log({"loss": 1.0})
            logged += 1

    try:
        for _ in range(5):
            run, ended = axon.start_run(), threading.Event()
            thread = threading.Thread(target=log, args=(run, ended))
            thread.start()
            for _ in range(10):
                run.finish()
            ended.set()
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    restart()
    assert (
        sum(len(logged_rows.stored(records, run, "loss")) for run in list_runs(records)) == logged
    )


class _SlowStore:
    """A store whose rows take until an event is set."""

    def __init__(self):
        self.is_storing, self.may_end = threading.Event(), threading.Event()

    def append(self, reader, run):
        self.is_storing.set()
        self.may_end.wait()
        return reader.path.stat().st_size

    def finish(self, spool, run, *, is_over):
        pass

    def close(self):
        pass


def test_a_file_stays_locked_while_its_rows_are_being_stored(axon, records, tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "_EXIT_TIMEOUT", 0)
    store = _SlowStore()
    run = records.runs.start(axon.notebook().id)
    thread = run_log.LogThread(store, warnings.warn)
    log = thread.open([tmp_path / "spool"], run, {}, with_system=False)
    log.append(Row(0, 0.0, {"loss": 1.0}))
    store.is_storing.wait()
    [path] = list_spools(tmp_path / "spool")
    for _ in range(2):  # when the session ends, and when the process does
        thread.finish()
        with SpoolReader(path) as reader:
            assert not reader.is_abandoned()
    store.may_end.set()
    eventually(lambda: list_spools(tmp_path / "spool") == [])


class _Broken(dict):
    def items(self):
        raise RuntimeError("broken")


@pytest.mark.parametrize("metrics", [None, {}, [], [1.0], "loss", 3, _Broken(loss=1.0)], ids=str)
def test_a_call_without_values_does_nothing(axon, records, restart, metrics):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axon.log(metrics)
    axon.log({"loss": 1.0})
    restart()
    assert stored(records) == {0: 1.0}


def test_keys_that_are_no_strings_become_strings(axon, records, restart):
    axon.log({1: 1.0, None: 2.0, "a": {"b": {"c": 4.0}}})
    restart()
    assert [stored(records, name) for name in ("1", "None", "a.b.c")] == [
        {0: 1.0},
        {0: 2.0},
        {0: 4.0},
    ]


STEPS = [
    (3.0, 3),
    (np.int32(3), 3),
    (True, 1),
    (2**53 - 1, 2**53 - 1),
    (3.7, 3),
    (-1, 0),
    (2**53, 0),
    (2**70, 0),
    (10**5000, 0),
    (math.nan, 0),
    (math.inf, 0),
    ("seven", 0),
    ([], 0),
]


@pytest.mark.parametrize(("step", "expected"), STEPS, ids=lambda value: type(value).__name__)
def test_a_step_that_is_none_is_omitted(axon, records, restart, step, expected):
    is_exact = type(step) is not bool and step == expected
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        axon.log({"loss": 1.0}, step=step)
    assert bool(warned) == (not is_exact and step is not True)
    restart()
    assert stored(records) == {expected: 1.0}


def test_no_step_follows_the_largest_one(axon, records, restart):
    axon.log({"loss": 1.0}, step=2**53 - 1)
    with pytest.warns(AxonWarning, match="no step follows"):
        axon.log({"loss": 2.0})
    restart()
    assert stored(records) == {2**53 - 1: 1.0}


def test_warnings_that_are_errors_do_not_stop_the_storing(axon, unavailable_store, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axon.log({"loss": 1.0})
        eventually(lambda: "not being stored" in capsys.readouterr().out)
        unavailable_store()
        with open_store_at(find_settings()) as opened:
            eventually(lambda: bool(opened.repository.list_all()))


def test_a_training_goes_on_when_its_data_folder_is_removed(axon, tmp_path):
    axon.log({"loss": 1.0})
    shutil.rmtree(Path(tmp_path / "data"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axon.log({"loss": 2.0})
        end_session()
