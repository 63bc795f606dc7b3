"""Tests that runs end with signals, threads and pools of processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.engines import eventually
from support.training_script import list_runs

from jupyter_axon_notebooks.repository import NotebookRepository

SCRIPT = """
import concurrent.futures, multiprocessing, os, pathlib, signal, sys, threading, time
from concurrent import futures
import numpy as np
import jupyter_axon_notebooks as axon

def train(fold=0, error=None, epochs=2):
    model = {"w": np.zeros(2)}
    for epoch in range(epochs):
        axon.checkpoint(model, epoch=epoch, metrics={"fold": fold})
    if error is not None:
        raise error

def fail_in_fold_1(fold):
    train(fold, MemoryError("bad") if fold == 1 else None)

def train_and_wait(fold):
    train(fold)
    wait()

def wait():
    pathlib.Path("waiting").touch()
    while not pathlib.Path("continue").exists():
        time.sleep(0.01)
"""

Script = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path, environment: dict[str, str]) -> Iterator[Script]:
    """Start scripts that train, and kill them at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        (tmp_path / "train.py").write_text(SCRIPT + body)
        started.append(
            subprocess.Popen(
                [sys.executable, str(tmp_path / "train.py")],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str]) -> str:
    """Wait for a script, which must succeed; return its output."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def statuses(records: NotebookRepository) -> list[str]:
    return [run.status.value for run in list_runs(records)]


# SIGTERM


@pytest.mark.parametrize(
    "code",
    [
        "train(); wait()",
        "train(); pool = concurrent.futures.ThreadPoolExecutor(); "
        "list(pool.map(train_and_wait, [0]))",
    ],
)
def test_sigterm_stops_a_training(script, records, tmp_path, code):
    process = script(f"if __name__ == '__main__': {code}")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    assert statuses(records)[-1] == "stopped"
    assert "running" not in statuses(records)


def test_the_handler_of_the_user_is_called_after_the_run_has_ended(script, records, tmp_path):
    process = script("""
def handle(number, frame):
    print("handled", number, frame is not None, flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, handle)
train(); wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, f"handled {signal.SIGTERM.value} True\n")
    assert statuses(records) == ["stopped"]


def test_a_training_whose_handler_saves_and_exits_is_stopped(script, records, tmp_path):
    process = script("""
def save_and_exit(*_):
    axon.checkpoint({"w": np.ones(2)}, epoch=1, step=1000)
    sys.exit(0)

signal.signal(signal.SIGTERM, save_and_exit)
train(); wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    wait_for(process)
    assert statuses(records) == ["stopped"]


# Threads of scripts


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("train()", "completed"),
        ("train(error=MemoryError())", "failed"),
    ],
)
def test_a_run_in_a_thread_ends_with_the_thread(script, records, tmp_path, work, status):
    process = script(f"""
hook = threading.excepthook = lambda *_: None
threads = [threading.Thread(target=lambda: {work}) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
while any(thread.name.startswith("axon-") for thread in threading.enumerate()): time.sleep(0.01)
assert threading.excepthook is hook
wait()
""")
    eventually((tmp_path / "waiting").exists)
    assert statuses(records) == [status] * 2
    (tmp_path / "continue").touch()
    wait_for(process)
    assert statuses(records) == [status] * 2


def test_a_daemon_thread_is_stopped_at_the_end_of_its_script(script, records):
    wait_for(
        script("""
threading.Thread(target=train_and_wait, args=(0,), daemon=True).start()
while not pathlib.Path("waiting").exists(): time.sleep(0.01)
""")
    )
    assert statuses(records) == ["stopped"]


# Exits that were caught


# Pools of processes


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize(
    "pool",
    [
        "with context.Pool(2) as p: p.map({work}, range(3))",
        "with context.Pool(1, maxtasksperchild=1) as p: p.map({work}, range(3), 1)",
        "with futures.ProcessPoolExecutor(2, context) as p: list(p.map({work}, range(3)))",
    ],
)
def test_each_task_of_a_process_pool_is_a_completed_run(script, records, start, pool):
    wait_for(
        script(f"""
if __name__ == "__main__":
    context = multiprocessing.get_context({start!r})
    {pool.format(work="train")}
""")
    )
    assert statuses(records) == ["completed"] * 3
    for run in list_runs(records):
        assert records.checkpoints.count(run.notebook_id, run_id=run.id) == 2


def test_a_task_that_raises_is_a_failed_run(script, records):
    wait_for(
        script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as p:
        try:
            p.map(fail_in_fold_1, range(3))
        except MemoryError:
            pass
""")
    )
    assert "failed" in statuses(records)
    for run in list_runs(records):
        (last, *_) = records.list_checkpoints(run.notebook_id, run_id=run.id)
        assert run.status.value == ("failed" if last.metrics["fold"] == 1 else "completed")


def test_a_future_of_a_process_pool_that_raises_is_a_failed_run(script, records):
    wait_for(
        script("""
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as p:
        futures = [p.submit(fail_in_fold_1, fold) for fold in range(3)]
    assert [type(future.exception()) for future in futures] == [type(None), MemoryError, type(None)]
""")
    )
    assert statuses(records) == ["completed", "failed", "completed"]


def test_a_terminated_process_is_stopped(script, records):
    wait_for(
        script("""
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=train_and_wait, args=(0,))
    process.start()
    while not pathlib.Path("waiting").exists():
        time.sleep(0.01)
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGTERM
""")
    )
    assert statuses(records) == ["stopped"]
