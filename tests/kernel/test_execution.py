"""The record of the cells, scripts and threads that a process executes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support.kernel import Kernel, running_kernel

IMPORT = "import jupyter_axon_notebooks\nfrom jupyter_axon_notebooks.training import execution"
CELLS = (
    "[(c.execution_count, c.source, c.cell_id, c.status and c.status.value)"
    " for c in execution.executed_cells()]"
)
REPORT = "ends = []\nexecution.on_training_end(lambda error: ends.append(type(error).__name__))"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running_kernel(tmp_path) as kernel:
        yield kernel


def run(arguments: list[str]) -> Any:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_each_cell_is_recorded_with_source_count_id_and_status(kernel: Kernel) -> None:
    kernel.run("x = 1", "a")
    kernel.run("1 / 0", "b")
    kernel.run(IMPORT, "c")
    kernel.run("%matplotlib --list\nx += 1\n", "d")
    kernel.run("x += nowhere", "e")
    kernel.run("x +", "f")
    kernel.run("", "g")
    kernel.run(f"during = {CELLS}[-1]", "h")
    assert kernel.evaluate(CELLS) == [
        (1, "x = 1", None, "completed"),  # the ids of cells before the import are unknown
        (2, "1 / 0", None, "error"),
        (3, IMPORT, "c", "completed"),
        (4, "%matplotlib --list\nx += 1\n", "d", "completed"),
        (5, "x += nowhere", "e", "error"),
        (6, "x +", "f", "error"),
        (7, f"during = {CELLS}[-1]", "h", "completed"),
    ]
    assert kernel.evaluate("during") == (7, f"during = {CELLS}[-1]", "h", "running")
    times = kernel.evaluate("[c.executed_at is None for c in execution.executed_cells()]")
    assert times == [True, True, *[False] * 5]


@pytest.mark.parametrize(
    ("disturbance", "again"),
    [
        ("%reset -f", IMPORT),
        ("import importlib; importlib.reload(execution)", "pass"),
        (
            "import sys\nfor name in [n for n in sys.modules if n.startswith('jupyter_axon')]:\n"
            "    del sys.modules[name]",
            IMPORT,
        ),
    ],
    ids=["reset", "reload", "imported again"],
)
def test_recorded_cells_survive(kernel: Kernel, disturbance: str, again: str) -> None:
    sources = [IMPORT, "x = 1", disturbance, again, "y = 2"]
    for source in sources:
        assert kernel.run(source, source[:3])["status"] == "ok"
    assert kernel.evaluate(CELLS) == [
        (count, source, source[:3], "completed") for count, source in enumerate(sources, start=1)
    ]


def test_code_that_is_not_in_the_history_is_not_a_cell(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run("hidden = 1", silent=True, store_history=False)
    kernel.run("variables = 1", store_history=False)
    inner = "get_ipython().run_cell('inner = 1')\nget_ipython().run_cell(' ')"
    kernel.run(f"{REPORT}\n{inner}\nduring = list(ends)", "b")
    assert [cell[2] for cell in kernel.evaluate(CELLS)] == ["a", "b"]
    assert kernel.evaluate("(during, ends)") == ([], ["NoneType"])


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("", "NoneType"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import asyncio; await asyncio.sleep(0)", "NoneType"),
        ("import asyncio; await asyncio.sleep(0); {}['a']", "KeyError"),
    ],
)
def test_the_end_of_a_cell_is_reported_once(kernel: Kernel, end: str, error: str) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(f"{REPORT}\n{end}", "b")
    kernel.run("1", "c")
    assert kernel.evaluate("ends") == [error]


@pytest.mark.parametrize(
    ("magic", "sleep"),
    [
        ("", "time.sleep(0.01)"),
        ("", "await asyncio.sleep(0.01)"),
        ("%%time\n", "time.sleep(0.01)"),
    ],
)
def test_an_interrupt_is_reported(kernel: Kernel, magic: str, sleep: str) -> None:
    kernel.run(f"{IMPORT}\nimport asyncio, time", "a")
    cell = f"{magic}{REPORT}\nprint('started', flush=True)\nwhile True: {sleep}"
    message = kernel.send(cell, "b")
    kernel.wait_for_text("started")
    kernel.manager.interrupt_kernel()
    kernel.wait_for_reply(message)
    assert kernel.evaluate("ends") == ["KeyboardInterrupt"]


def test_a_callback_that_fails_does_not_affect_others(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    failing = "execution.on_training_end(lambda error: 1 / 0)"
    assert kernel.run(f"{failing}\n{REPORT}", "b")["status"] == "ok"
    assert kernel.evaluate("ends") == ["NoneType"]


def test_an_execution_identifies_one_execution_of_a_cell(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    twice = "now = [execution.current_execution(), execution.current_execution()]"
    kernel.run(twice, "b")
    kernel.run("then = now", "c")
    kernel.run(twice, "b")
    assert kernel.evaluate("[now[0] == now[1], now[0] == then[0]]") == [True, False]
    assert kernel.evaluate("[then[0].execution_count, now[0].execution_count]") == [2, 4]
    assert kernel.evaluate("execution.current_execution()") is None


def test_a_thread_belongs_to_the_cell_that_runs(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(
        "import threading\nfound = []\nhere = execution.current_execution()\n"
        "compare = lambda: found.append(execution.current_execution() == here)\n"
        "thread = threading.Thread(target=compare)\nthread.start()\nthread.join()",
        "b",
    )
    assert kernel.evaluate("found") == [True]


BACKGROUND = """
import threading
started, go, continued, stop, ended = (threading.Event() for _ in range(5))
ends, found = [], []
def report(error):
    ends.append(type(error).__name__)
    ended.set()
def train():
    found.append(execution.current_execution())
    execution.on_training_end(report)
    started.set()
    go.wait()
    found.append(execution.current_execution())
    continued.set()
    stop.wait()
    if fails: raise MemoryError
thread = threading.Thread(target=train, daemon=True)
thread.start()
started.wait()
"""


@pytest.mark.parametrize(("fails", "error"), [(False, "NoneType"), (True, "MemoryError")])
def test_a_thread_that_outlives_its_cell_is_reported_when_it_ends(
    kernel: Kernel, fails: bool, error: str
) -> None:
    kernel.run(f"{IMPORT}\nfails = {fails}", "a")
    kernel.run(BACKGROUND, "b")
    assert kernel.run("go.set(); continued.wait(); 1 / 0", "c")["status"] == "error"
    assert kernel.evaluate("ends") == []
    assert kernel.evaluate("found[0] == found[1], found[0].execution_count") == (True, 2)
    kernel.run("stop.set(); ended.wait(30)", "d")
    assert kernel.evaluate("ends") == [error]


def test_a_cell_that_fails_ends_its_threads(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(f"{BACKGROUND}\n1 / 0", "b")
    assert kernel.evaluate("ends") == ["ZeroDivisionError"]


def test_a_thread_of_a_pool_works_for_the_cell_that_runs(kernel: Kernel) -> None:
    pool = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)"
    kernel.run(f"{IMPORT}\n{pool}", "a")
    kernel.run("pool.submit(int).result()", "b")
    report = "ends = []\nreport = lambda error: ends.append(type(error).__name__)"
    kernel.run(f"{report}\npool.submit(execution.on_training_end, report).result()\n1 / 0", "c")
    assert kernel.evaluate("ends") == ["ZeroDivisionError"]


def test_a_daemon_thread_ends_with_a_keyboard_interrupt_at_exit(tmp_path: Path) -> None:
    path = tmp_path / "shell.py"
    cell = f"{IMPORT}\nfails = False\n{BACKGROUND.replace('ends.append', 'print')}"
    path.write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        f"InteractiveShell.instance().run_cell({cell!r}, store_history=True)\n"
    )
    assert run([str(path)]).stdout.splitlines()[-1] == "KeyboardInterrupt"


WORKER = """
import multiprocessing, os, sys
from jupyter_axon_notebooks.training import execution
def report(name):
    return lambda error: print(name, type(error).__name__, flush=True)
def train():
    execution.on_training_end(report("child:"))
    {end}
execution.on_training_end(report("parent:"))
{fork}
"""
FORK = "if os.fork() == 0: train(); sys.exit(0)\nos.wait()"
PROCESS = (
    "process = multiprocessing.get_context('fork').Process(target=train)\n"
    "process.start(); process.join()"
)


@pytest.mark.parametrize(
    ("end", "error"),
    [("pass", "NoneType"), ("1 / 0", "ZeroDivisionError"), ("sys.exit(3)", "SystemExit")],
)
@pytest.mark.parametrize("fork", [FORK, PROCESS], ids=["os.fork", "multiprocessing"])
def test_the_end_of_a_forked_process_is_reported_by_itself(
    tmp_path: Path, fork: str, end: str, error: str
) -> None:
    path = tmp_path / "train.py"
    path.write_text(WORKER.format(end=end, fork=fork))
    assert run([str(path)]).stdout.splitlines() == [f"child: {error}", "parent: NoneType"]


def test_nbclient_sends_no_cell_ids(tmp_path: Path) -> None:
    sources = [IMPORT, "x = 1", f"import json\nprint(json.dumps({CELLS}))"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [output] = notebook.cells[-1].outputs
    assert json.loads(output.text) == [
        [1, sources[0], None, "completed"],
        [2, sources[1], None, "completed"],
        [3, sources[2], None, "running"],
    ]


SCRIPT = """
import sys
from jupyter_axon_notebooks.training import execution
previous = sys.excepthook = lambda *_: print("hooked")
def report(error):
    print(type(error).__name__, [cell.status.value for cell in execution.executed_cells()])
execution.on_training_end(report)
[script] = execution.executed_cells()
assert execution.current_execution() is None
assert script.source == open(__file__).read() and script.execution_count is None
print(script.status.value)
"""


@pytest.mark.parametrize(
    ("end", "output"),
    [
        ("", ["running", "NoneType ['completed']"]),
        ("1 / 0", ["running", "hooked", "ZeroDivisionError ['error']"]),
        ("raise KeyboardInterrupt", ["running", "hooked", "KeyboardInterrupt ['error']"]),
        ("sys.exit(3)", ["running", "SystemExit ['error']"]),
        ("sys.exit()", ["running", "NoneType ['completed']"]),
        (
            "import os\nif os.fork() == 0: sys.exit(1)\nos.wait()",
            ["running", "NoneType ['completed']"],
        ),
    ],
)
def test_a_script_is_its_only_cell(tmp_path: Path, end: str, output: list[str]) -> None:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT + end)
    assert run([str(path)]).stdout.splitlines() == output


def test_a_command_has_no_source() -> None:
    code = (
        "from jupyter_axon_notebooks.training import execution; print(execution.executed_cells())"
    )
    assert run(["-c", code]).stdout == "[]\n"


def test_the_import_in_a_kernel_loads_little(kernel: Kernel) -> None:
    kernel.run(
        "import sys; before = set(sys.modules); import jupyter_axon_notebooks\n"
        "loaded = set(sys.modules) - before"
    )
    modules = kernel.evaluate("[name for name in loaded if name.startswith('jupyter_axon')]")
    expected = ("_version", "startup", "training", "training.execution", "userfiles")
    for name in modules:
        part = name.removeprefix("jupyter_axon_notebooks").removeprefix(".")
        assert not part or part.startswith(expected)
    heavy = "{'msgspec', 'sqlalchemy', 'torch', 'numpy'}"
    assert kernel.evaluate(f"sorted({heavy} & {{name.split('.')[0] for name in loaded}})") == []
