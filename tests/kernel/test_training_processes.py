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
import asyncio, concurrent.futures, multiprocessing, os, pathlib, signal, sys, threading, time
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

def save_once(fold):
    axon.checkpoint({"w": np.zeros(2)}, epoch=fold)

def train_in_cycle(fold):
    train(fold)
    try:
        1 / 0
    except ZeroDivisionError as error:
        reference = error  # refers to this frame: a cycle

def train_and_wait(fold):
    train(fold)
    wait()

async def train_async():
    train()
    await asyncio.to_thread(wait)

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
        "asyncio.run(train_async())",
        "train(); t = threading.Thread(target=train_and_wait, args=(0,)); t.start(); t.join()",
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


def test_a_training_that_continues_after_sigterm_is_completed(script, records, tmp_path):
    process = script("""
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("continue").touch())
train(); wait()
axon.checkpoint({"w": np.zeros(2)}, epoch=2)
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    wait_for(process)
    assert statuses(records) == ["completed"]


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


def test_a_process_that_ignores_sigterm_continues(script, records, tmp_path):
    process = script("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
train(); wait()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert statuses(records) == ["running"]
    (tmp_path / "continue").touch()
    assert wait_for(process) == "True\n"
    assert statuses(records) == ["completed"]


def test_a_handler_that_is_installed_later_may_call_the_previous_one(script, records, tmp_path):
    process = script("""
train()
previous = signal.getsignal(signal.SIGTERM)
def handle(*args):
    print("first", flush=True)
    previous(*args)
signal.signal(signal.SIGTERM, handle)
wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    assert statuses(records) == ["stopped"]


@pytest.mark.parametrize("at", range(6))
def test_sigterm_during_a_checkpoint_keeps_the_checkpoint(script, records, at):
    process = script(f"""
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.provenance import ProvenanceRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.training import run, session, tracker

def terminated(function):
    def call(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **kwargs)
    return call

train()
where = [
    (NotebookRepository, "create_checkpoint"), (session, "write_states"),
    (tracker, "current_execution"), (ProvenanceRepository, "add"),
    (StateStorage, "mark_recorded"), (run, "on_training_end"),
][{at}]
setattr(*where, terminated(getattr(*where)))
try:
    axon.checkpoint({{"w": np.zeros(2)}}, epoch=2)
    axon.checkpoint({{"w": np.zeros(2)}}, epoch=0)  # in a run of its own
    wait()
except BaseException as error:
    print(type(error), flush=True)
""")
    process.wait(30)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGTERM, err
    assert set(statuses(records)) <= {"stopped", "completed"}
    assert statuses(records)[-1] == "stopped"
    assert [c.epoch for c in records.list_checkpoints(list_runs(records)[0].notebook_id)][-3:] == [
        2,
        1,
        0,
    ]


def test_a_forked_process_has_the_default_effect_of_sigterm(script, records, tmp_path):
    process = script("""
train()
child = os.fork()
if child == 0:
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
    wait()
while not pathlib.Path("waiting").exists():
    time.sleep(0.01)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert wait_for(process).split() == ["True", str(-signal.SIGTERM)]
    assert statuses(records) == ["completed"]


def test_the_effect_of_sigterm_is_restored_at_the_end_of_the_last_run(script):
    process = script("""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(user_ns=globals())
shell.run_cell("train()", store_history=True)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
""")
    assert wait_for(process) == "True\n"


@pytest.mark.parametrize("later", ["signal.SIG_DFL", "lambda *_: sys.exit(7)"])
def test_sigterm_stops_a_training_after_handlers_were_replaced(script, records, tmp_path, later):
    process = script(f"""
train()
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGTERM, {later})
train(); wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert process.wait(30) == (-signal.SIGTERM if "SIG_DFL" in later else 7)
    assert statuses(records) == ["completed", "stopped"]


def test_a_handler_that_calls_the_previous_one_is_called_once(script, records, tmp_path):
    process = script("""
train()
previous = signal.getsignal(signal.SIGTERM)
def handle(*args):
    print("handled", flush=True)
    previous(*args)
signal.signal(signal.SIGTERM, handle)
axon.checkpoint({"w": np.zeros(2)}, epoch=2)
wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGTERM, "handled\n")
    assert statuses(records) == ["stopped"]


# Threads of scripts


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("train()", "completed"),
        ("train(error=MemoryError())", "failed"),
        ("(train(), sys.exit(3))", "failed"),
        ("(train(), sys.exit())", "completed"),
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


@pytest.mark.parametrize("error", ["None", "MemoryError()"])
def test_a_run_in_a_thread_has_the_status_of_its_thread(script, records, error):
    wait_for(script(f"threading.Thread(target=train, args=(0, {error})).start()"))
    assert statuses(records) == ["completed" if error == "None" else "failed"]


def test_a_thread_that_only_saves_does_not_end_the_run(script, records):
    wait_for(
        script("""
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    for epoch in range(3): pool.submit(axon.checkpoint, {"w": np.zeros(2)}, epoch=epoch).result()
""")
    )
    assert statuses(records) == ["completed"]


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
def test_a_run_in_a_thread_pool_ends_with_its_task(script, records, error, status):
    wait_for(
        script(f"""
import multiprocessing.pool
pool = multiprocessing.pool.ThreadPool(1)
try: pool.apply(train, (0, {error}))
except MemoryError: pass
""")
    )
    assert statuses(records) == [status]


# Exits that were caught


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", "completed"),
        ("print(1)", "completed"),
        ("sys.exit(2)", "failed"),
        ("raise MemoryError", "failed"),
        ("exits()", "failed"),
    ],
)
@pytest.mark.parametrize("main", ["", "if __name__ == '__main__': train()\n"])
def test_a_caught_system_exit_does_not_decide_the_status(script, records, main, end, status):
    process = script(f"""
def exits():
    sys.exit(2)
{main or "train()"}
try:
    exits()
except SystemExit:
    pass
{end}
""")
    process.communicate(timeout=60)
    assert statuses(records) == [status]


# Pools of processes


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize(
    "pool",
    [
        "with context.Pool(2) as p: p.map({work}, range(3))",
        "with context.Pool(2) as p: p.map({work}, range(3), 3)",
        "with context.Pool(1, maxtasksperchild=1) as p: p.map({work}, range(3), 1)",
        "with context.Pool(2) as p: list(p.imap_unordered({work}, range(3)))",
        "with context.Pool(1) as p: [p.apply({work}, (fold,)) for fold in range(3)]",
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


@pytest.mark.parametrize(
    "pool",
    [
        "with context.Pool(2) as p: {wait}(p.map_async(fail_in_fold_1, range(3)))",
        "with context.Pool(1) as p: {wait}(p.map_async(fail_in_fold_1, range(3), 3))",
        "with context.Pool(2) as p: {wait}(p.apply_async(fail_in_fold_1, (1,)))",
    ],
)
def test_a_task_that_raises_is_a_failed_run(script, records, pool):
    wait_for(
        script(f"""
def result(task):
    try:
        task.get()
    except MemoryError:
        pass

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    {pool.format(wait="result")}
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


def test_each_task_that_saves_once_has_its_own_run(script, records):
    wait_for(
        script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(save_once, range(3), 3)
""")
    )
    assert statuses(records) == ["completed"] * 3


def test_a_task_whose_frame_is_in_a_cycle_is_completed(script, records):
    wait_for(
        script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(train_in_cycle, range(2), 1)
""")
    )
    assert statuses(records) == ["completed"] * 2


def test_a_task_of_a_terminated_pool_is_stopped(script, records, tmp_path):
    process = script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p:
        p.apply(train)
        p.apply_async(train_and_wait, (1,))
        while not pathlib.Path("waiting").exists():
            time.sleep(0.01)
""")
    wait_for(process)
    assert statuses(records) == ["completed", "stopped"]


def test_a_traced_task_is_completed(script, records):
    wait_for(
        script("""
def traced(fold):
    sys.settrace(lambda *_: None)
    train(fold)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(traced, range(2), 1)
""")
    )
    assert statuses(records) == ["completed"] * 2


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


@pytest.mark.parametrize(
    "start_saving", ["threading.Thread(target=save, args=(epoch,))", "pool.submit(save, epoch)"]
)
@pytest.mark.parametrize(("end", "status"), [("", "completed"), ("raise MemoryError", "failed")])
def test_a_run_that_threads_save_ends_with_the_script(script, records, start_saving, end, status):
    process = script(f"""
model = {{"w": np.zeros(2)}}
pool = concurrent.futures.ThreadPoolExecutor(2)
def save(epoch): axon.checkpoint(model, epoch=epoch)
for epoch in range(3):
    saving = {start_saving}
    if isinstance(saving, threading.Thread):
        saving.start(); saving.join()
    else:
        saving.result()
{end}
""")
    process.communicate(timeout=60)
    assert statuses(records) == [status]
