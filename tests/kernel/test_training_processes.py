"""What becomes of the runs of processes that are told to end, and of those that work in pools."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.engines import eventually
from support.training_script import runs

from jupyter_axon_notebooks.repository import NotebookRepository

SCRIPT = """
import asyncio, concurrent.futures, multiprocessing, os, pathlib, signal, sys, threading, time
import numpy as np
import jupyter_axon_notebooks as axon

def train(fold=0, error=None, epochs=2):
    model = {"w": np.zeros(2)}
    for epoch in range(epochs):
        axon.checkpoint(model, epoch=epoch, metrics={"fold": fold})
    if error is not None:
        raise error

def fails(fold):
    train(fold, MemoryError("bad") if fold == 1 else None)

def once(fold):
    axon.checkpoint({"w": np.zeros(2)}, epoch=fold)

def remembers(fold):
    train(fold)
    try:
        1 / 0
    except ZeroDivisionError as error:
        kept = error  # and with it this frame, in a cycle

def waits(fold):
    train(fold)
    wait()

async def trains():
    train()
    await asyncio.to_thread(wait)

def wait():
    pathlib.Path("waiting").touch()
    while not pathlib.Path("go-on").exists():
        time.sleep(0.01)
"""

Script = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path, environment: dict[str, str]) -> Iterator[Script]:
    """Starts a script that trains, and ends it should it still run when the test is over."""
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


def finished(process: subprocess.Popen[str]) -> str:
    """What a script printed, which has to end well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def statuses(records: NotebookRepository) -> list[str]:
    return [run.status.value for run in runs(records)]


# SIGTERM


@pytest.mark.parametrize(
    "trains",
    [
        "train(); wait()",
        "asyncio.run(trains())",
        "train(); thread = threading.Thread(target=waits, args=(0,)); thread.start(); thread.join()",
        "train(); pool = concurrent.futures.ThreadPoolExecutor(); list(pool.map(waits, [0]))",
    ],
)
def test_a_training_that_is_told_to_end_was_stopped(
    script: Script, records: NotebookRepository, tmp_path: Path, trains: str
) -> None:
    process = script(f"if __name__ == '__main__': {trains}")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    assert statuses(records)[-1] == "stopped"
    assert "running" not in statuses(records)


def test_a_handler_of_the_user_is_called_after_the_run_has_ended(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
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


def test_a_training_whose_handler_lets_it_go_on_is_completed_in_the_end(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("go-on").touch())
train(); wait()
axon.checkpoint({"w": np.zeros(2)}, epoch=2)
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    finished(process)
    assert statuses(records) == ["completed"]


def test_a_training_whose_handler_saves_and_leaves_was_stopped(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
def save_and_leave(*_):
    axon.checkpoint({"w": np.ones(2)}, epoch=1, step=1000)
    sys.exit(0)

signal.signal(signal.SIGTERM, save_and_leave)
train(); wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    finished(process)
    assert statuses(records) == ["stopped"]


def test_a_process_that_ignores_sigterm_goes_on_training(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
train(); wait()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert statuses(records) == ["running"]
    (tmp_path / "go-on").touch()
    assert finished(process) == "True\n"
    assert statuses(records) == ["completed"]


def test_a_handler_that_is_installed_later_takes_the_place(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
train()
ours = signal.getsignal(signal.SIGTERM)
def handle(*given):
    print("first", flush=True)
    ours(*given)
signal.signal(signal.SIGTERM, handle)
wait()
""")
    eventually((tmp_path / "waiting").exists)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    assert statuses(records) == ["stopped"]


@pytest.mark.parametrize("at", range(6))
def test_a_checkpoint_that_is_being_made_is_kept(
    script: Script, records: NotebookRepository, at: int
) -> None:
    """The signal arrives in a call of this package, which holds the store and the lock of the session."""
    process = script(f"""
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.provenance import ProvenanceRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.training import execution, session

def terminated(function):
    def call(*given, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        made = function(*given, **named)
        print("made", flush=True)
        return made
    return call

train()
where = [
    (NotebookRepository, "create_checkpoint"), (session, "write_states"), (session, "current_execution"),
    (ProvenanceRepository, "add"), (StateStorage, "mark_recorded"), (execution, "_register"),
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
    assert [c.epoch for c in records.list_checkpoints(runs(records)[0].notebook_id)][-3:] == [
        2,
        1,
        0,
    ]


def test_a_child_process_is_told_to_end_as_before(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
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
    assert finished(process).split() == ["True", str(-signal.SIGTERM)]
    assert statuses(records) == ["completed"]


def test_what_sigterm_did_is_restored_with_the_end_of_the_last_run(script: Script) -> None:
    process = script("""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(user_ns=globals())
shell.run_cell("train()", store_history=True)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
""")
    assert finished(process) == "True\n"


@pytest.mark.parametrize("later", ["signal.SIG_DFL", "lambda *_: sys.exit(7)"])
def test_a_training_after_a_handler_came_and_went_is_told_to_end(
    script: Script, records: NotebookRepository, tmp_path: Path, later: str
) -> None:
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


def test_a_handler_that_calls_the_one_before_it_is_called_once(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
train()
ours = signal.getsignal(signal.SIGTERM)
def handle(*given):
    print("handled", flush=True)
    ours(*given)
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
def test_a_thread_of_a_script_has_an_end_of_its_own(
    script: Script, records: NotebookRepository, tmp_path: Path, work: str, status: str
) -> None:
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
    (tmp_path / "go-on").touch()
    finished(process)
    assert statuses(records) == [status] * 2


def test_a_thread_that_the_end_of_its_script_kills_was_stopped(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
threading.Thread(target=waits, args=(0,), daemon=True).start()
while not pathlib.Path("waiting").exists(): time.sleep(0.01)
""")
    )
    assert statuses(records) == ["stopped"]


@pytest.mark.parametrize("error", ["None", "MemoryError()"])
def test_a_thread_that_is_over_when_its_script_ends(
    script: Script, records: NotebookRepository, error: str
) -> None:
    finished(script(f"threading.Thread(target=train, args=(0, {error})).start()"))
    assert statuses(records) == ["completed" if error == "None" else "failed"]


def test_a_thread_that_saves_for_a_script_ends_nothing(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    for epoch in range(3): pool.submit(axon.checkpoint, {"w": np.zeros(2)}, epoch=epoch).result()
""")
    )
    assert statuses(records) == ["completed"]


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
def test_a_task_of_a_pool_of_threads_has_an_end_of_its_own(
    script: Script, records: NotebookRepository, error: str, status: str
) -> None:
    finished(
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
def test_an_exit_that_a_script_caught_did_not_end_it(
    script: Script, records: NotebookRepository, main: str, end: str, status: str
) -> None:
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
        "with concurrent.futures.ProcessPoolExecutor(2, context) as p: list(p.map({work}, range(3)))",
    ],
)
def test_each_task_of_a_pool_is_a_run_that_completes(
    script: Script, records: NotebookRepository, start: str, pool: str
) -> None:
    finished(
        script(f"""
if __name__ == "__main__":
    context = multiprocessing.get_context({start!r})
    {pool.format(work="train")}
""")
    )
    assert statuses(records) == ["completed"] * 3
    for run in runs(records):
        assert records.checkpoints.count(run.notebook_id, run_id=run.id) == 2


@pytest.mark.parametrize(
    "pool",
    [
        "with context.Pool(2) as p: {wait}(p.map_async(fails, range(3)))",
        "with context.Pool(1) as p: {wait}(p.map_async(fails, range(3), 3))",
        "with context.Pool(2) as p: {wait}(p.apply_async(fails, (1,)))",
    ],
)
def test_a_task_that_raised_has_failed(
    script: Script, records: NotebookRepository, pool: str
) -> None:
    finished(
        script(f"""
def result(asked):
    try:
        asked.get()
    except MemoryError:
        pass

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    {pool.format(wait="result")}
""")
    )
    assert "failed" in statuses(records)
    for run in runs(records):
        (made, *_) = records.list_checkpoints(run.notebook_id, run_id=run.id)
        assert run.status.value == ("failed" if made.metrics["fold"] == 1 else "completed")


def test_a_future_of_processes_that_raised_has_failed(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as p:
        futures = [p.submit(fails, fold) for fold in range(3)]
    assert [type(future.exception()) for future in futures] == [type(None), MemoryError, type(None)]
""")
    )
    assert statuses(records) == ["completed", "failed", "completed"]


def test_tasks_that_save_once_are_runs_of_their_own(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(once, range(3), 3)
""")
    )
    assert statuses(records) == ["completed"] * 3


def test_a_task_that_leaves_its_frame_in_a_cycle_is_completed(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(remembers, range(2), 1)
""")
    )
    assert statuses(records) == ["completed"] * 2


def test_a_task_whose_pool_is_terminated_was_stopped(
    script: Script, records: NotebookRepository, tmp_path: Path
) -> None:
    process = script("""
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p:
        p.apply(train)
        p.apply_async(waits, (1,))
        while not pathlib.Path("waiting").exists():
            time.sleep(0.01)
""")
    finished(process)
    assert statuses(records) == ["completed", "stopped"]


def test_a_debugger_keeps_no_pool_from_ending_its_runs(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
def traced(fold):
    sys.settrace(lambda *_: None)
    train(fold)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as p: p.map(traced, range(2), 1)
""")
    )
    assert statuses(records) == ["completed"] * 2


def test_a_process_that_is_terminated_while_it_trains_was_stopped(
    script: Script, records: NotebookRepository
) -> None:
    finished(
        script("""
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=waits, args=(0,))
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
    "begins", ["threading.Thread(target=save, args=(epoch,))", "pool.submit(save, epoch)"]
)
@pytest.mark.parametrize(("end", "status"), [("", "completed"), ("raise MemoryError", "failed")])
def test_what_only_saves_for_a_script_ends_with_the_script(
    script: Script, records: NotebookRepository, begins: str, end: str, status: str
) -> None:
    process = script(f"""
model = {{"w": np.zeros(2)}}
pool = concurrent.futures.ThreadPoolExecutor(2)
def save(epoch): axon.checkpoint(model, epoch=epoch)
for epoch in range(3):
    saving = {begins}
    if isinstance(saving, threading.Thread):
        saving.start(); saving.join()
    else:
        saving.result()
{end}
""")
    process.communicate(timeout=60)
    assert statuses(records) == [status]
