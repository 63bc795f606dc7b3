"""Claims about what is seen of the cells that a real kernel executes."""

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
from support.kernel import Kernel, started

IMPORT = (
    "import jupyter_axon_notebooks\nfrom jupyter_axon_notebooks.training import execution as seen"
)
SEEN = "[(c.execution_count, c.source, c.cell_id, c.status and c.status.value) for c in seen.executed_cells()]"
TOLD = "told = []\nseen.on_training_end(lambda error: told.append(type(error).__name__))"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with started(tmp_path) as kernel:
        yield kernel


def test_each_cell_is_seen_with_source_count_id_and_end(kernel: Kernel) -> None:
    kernel.run("x = 1", "a")
    kernel.run("1 / 0", "b")
    kernel.run(IMPORT, "c")
    kernel.run("%matplotlib --list\nx += 1\n", "d")
    kernel.run("x += nowhere", "e")
    kernel.run("x +", "f")
    kernel.run("", "g")
    kernel.run(f"during = {SEEN}[-1]", "h")
    assert kernel.ask(SEEN) == [
        (1, "x = 1", None, "completed"),  # before anybody looked, nobody noted the cell
        (2, "1 / 0", None, "error"),
        (3, IMPORT, "c", "completed"),
        (4, "%matplotlib --list\nx += 1\n", "d", "completed"),
        (5, "x += nowhere", "e", "error"),
        (6, "x +", "f", "error"),
        (7, f"during = {SEEN}[-1]", "h", "completed"),
    ]
    assert kernel.ask("during") == (7, f"during = {SEEN}[-1]", "h", "running")
    assert kernel.ask("[c.executed_at is None for c in seen.executed_cells()]") == [
        True,
        True,
        *[False] * 5,
    ]


@pytest.mark.parametrize(
    ("disturbance", "again"),
    [
        ("%reset -f", IMPORT),
        ("import importlib; importlib.reload(seen)", "pass"),
        (
            "import sys\nfor name in [n for n in sys.modules if n.startswith('jupyter_axon')]: del sys.modules[name]",
            IMPORT,
        ),
    ],
    ids=["reset", "reload", "imported-anew"],
)
def test_what_was_seen_outlives(kernel: Kernel, disturbance: str, again: str) -> None:
    for source in (IMPORT, "x = 1", disturbance, again, "y = 2"):
        assert kernel.run(source, source[:3])["status"] == "ok"
    assert kernel.ask(SEEN) == [
        (count, source, source[:3], "completed")
        for count, source in enumerate([IMPORT, "x = 1", disturbance, again, "y = 2"], start=1)
    ]


def test_what_was_seen_outlives_autoreload(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run(IMPORT, "a")
    kernel.run("%load_ext autoreload\n%autoreload 2", "b")
    kernel.run("import os; os.utime(seen.__file__)", "c")
    kernel.run("1", "d")
    kernel.run(TOLD, "e")
    assert [cell[2] for cell in kernel.ask(SEEN)] == ["a", "b", "c", "d", "e"]
    assert kernel.ask("told") == ["NoneType"]


def test_what_no_person_executes_is_no_cell(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run("hidden = 1", silent=True, store_history=False)
    kernel.run("variables = 1", store_history=False)
    kernel.run(
        f"{TOLD}\nget_ipython().run_cell('inner = 1')\nget_ipython().run_cell(' ')\nstill = list(told)",
        "b",
    )
    assert [cell[2] for cell in kernel.ask(SEEN)] == ["a", "b"]
    assert kernel.ask("(still, told)") == ([], ["NoneType"])


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
def test_a_cell_tells_what_ended_it_once(kernel: Kernel, end: str, error: str) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(f"{TOLD}\n{end}", "b")
    kernel.run("1", "c")
    assert kernel.ask("told") == [error]


@pytest.mark.parametrize(
    "cell",
    [
        "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)",
        "import asyncio\nprint('begun', flush=True)\nwhile True: await asyncio.sleep(0.01)",
        "%%time\nimport time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)",
    ],
    ids=["plain", "await", "timed"],
)
def test_an_interrupted_cell_says_so(kernel: Kernel, cell: str) -> None:
    kernel.run(IMPORT, "a")
    first, *rest = cell.split("\n")
    magic, first = (first + "\n", "") if first.startswith("%%") else ("", first)
    running = kernel.send("\n".join([magic + TOLD, first, *rest]), "b")
    kernel.printed("begun")
    kernel.manager.interrupt_kernel()
    kernel.reply(running)
    assert kernel.ask("told") == ["KeyboardInterrupt"]


def test_one_that_fails_to_hear_keeps_nobody_else_from_being_told(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    assert kernel.run(f"seen.on_training_end(lambda error: 1 / 0)\n{TOLD}", "b")["status"] == "ok"
    assert kernel.ask("told") == ["NoneType"]


def test_an_execution_is_the_same_within_a_cell_and_another_one_after(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    twice = "now = [seen.current_execution(), seen.current_execution()]"
    kernel.run(twice, "b")
    kernel.run("then = now", "c")
    kernel.run(twice, "b")
    assert kernel.ask(
        "[now[0] == now[1], now[0] == then[0], then[0].execution_count, now[0].execution_count]"
    ) == [
        True,
        False,
        2,
        4,
    ]
    assert kernel.ask("seen.current_execution()") is None


def test_a_thread_belongs_to_the_cell_that_runs(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(
        "import threading\nfound = []\n"
        "thread = threading.Thread(target=lambda: found.append(seen.current_execution() == here))\n"
        "here = seen.current_execution()\nthread.start()\nthread.join()",
        "b",
    )
    assert kernel.ask("found") == [True]


BACKGROUND = """
import threading
begun, go, gone_on, stop, over = (threading.Event() for _ in range(5))
told, found = [], []
def tell(error):
    told.append(type(error).__name__)
    over.set()
def train():
    found.append(seen.current_execution())
    seen.on_training_end(tell)
    begun.set()
    go.wait()
    found.append(seen.current_execution())
    gone_on.set()
    stop.wait()
    if fails: raise MemoryError
thread = threading.Thread(target=train, daemon=True)
thread.start()
begun.wait()
"""


@pytest.mark.parametrize(("fails", "error"), [(False, "NoneType"), (True, "MemoryError")])
def test_a_thread_that_outlives_its_cell_is_ended_by_no_other(
    kernel: Kernel, fails: bool, error: str
) -> None:
    kernel.run(f"{IMPORT}\nfails = {fails}", "a")
    kernel.run(BACKGROUND, "b")
    assert kernel.run("go.set(); gone_on.wait(); 1 / 0", "c")["status"] == "error"
    assert kernel.ask("told") == []
    assert kernel.ask("found[0] == found[1], found[0].execution_count") == (True, 2)
    kernel.run("stop.set(); over.wait(30)", "d")
    assert kernel.ask("told") == [error]


def test_a_cell_that_fails_ends_what_its_threads_do(kernel: Kernel) -> None:
    kernel.run(IMPORT, "a")
    kernel.run(f"{BACKGROUND}\n1 / 0", "b")
    assert kernel.ask("told") == ["ZeroDivisionError"]


def test_a_thread_of_a_pool_works_for_the_cell_that_runs(kernel: Kernel) -> None:
    kernel.run(
        f"{IMPORT}\nfrom concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)",
        "a",
    )
    kernel.run("pool.submit(int).result()", "b")
    kernel.run(
        "told = []\npool.submit(seen.on_training_end, lambda e: told.append(type(e).__name__)).result()\n1 / 0",
        "c",
    )
    assert kernel.ask("told") == ["ZeroDivisionError"]


def test_a_thread_that_the_interpreter_does_not_wait_for_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "shell.py"
    cell = f"{IMPORT}\nfails = False\n{BACKGROUND.replace('told.append', 'print')}"
    path.write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        f"InteractiveShell.instance().run_cell({cell!r}, store_history=True)\n"
    )
    assert run([str(path)]).stdout.splitlines()[-1] == "KeyboardInterrupt"


WORKER = """
import multiprocessing, os, sys
from jupyter_axon_notebooks.training import execution as seen
def train():
    seen.on_training_end(lambda error: print("forked:", type(error).__name__, flush=True))
    {end}
seen.on_training_end(lambda error: print("first:", type(error).__name__, flush=True))
{fork}
"""
FORK = "if os.fork() == 0: train(); sys.exit(0)\nos.wait()"
PROCESS = "worker = multiprocessing.get_context('fork').Process(target=train); worker.start(); worker.join()"


@pytest.mark.parametrize(
    ("end", "error"),
    [("pass", "NoneType"), ("1 / 0", "ZeroDivisionError"), ("sys.exit(3)", "SystemExit")],
)
@pytest.mark.parametrize("fork", [FORK, PROCESS], ids=["os.fork", "multiprocessing"])
def test_a_forked_process_has_an_end_of_its_own(
    tmp_path: Path, fork: str, end: str, error: str
) -> None:
    path = tmp_path / "train.py"
    path.write_text(WORKER.format(end=end, fork=fork))
    assert run([str(path)]).stdout.splitlines() == [f"forked: {error}", "first: NoneType"]


def test_nbclient_names_no_cells(tmp_path: Path) -> None:
    cells = [IMPORT, "x = 1", f"import json\nprint(json.dumps({SEEN}))"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [output] = notebook.cells[-1].outputs
    assert json.loads(output.text) == [
        [1, cells[0], None, "completed"],
        [2, cells[1], None, "completed"],
        [3, cells[2], None, "running"],
    ]


SCRIPT = """
import sys
from jupyter_axon_notebooks.training import execution as seen
previous = sys.excepthook = lambda *_: print("hooked")
seen.on_training_end(lambda error: print(type(error).__name__, [c.status.value for c in seen.executed_cells()]))
[script] = seen.executed_cells()
assert seen.current_execution() is None
assert script.source == open(__file__).read() and script.execution_count is None
print(script.status.value)
"""


@pytest.mark.parametrize(
    ("end", "said"),
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
def test_a_script_is_its_own_only_cell(tmp_path: Path, end: str, said: list[str]) -> None:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT + end)
    ran = run([str(path)])
    assert ran.stdout.splitlines() == said


def test_a_command_has_no_source() -> None:
    ran = run(
        [
            "-c",
            "from jupyter_axon_notebooks.training import execution as seen; print(seen.executed_cells())",
        ]
    )
    assert ran.stdout == "[]\n"


def test_being_imported_in_a_kernel_loads_no_more_than_elsewhere(kernel: Kernel) -> None:
    kernel.run(
        "import sys; before = set(sys.modules); import jupyter_axon_notebooks; after = set(sys.modules)"
    )
    ours = kernel.ask("sorted(name for name in after - before if name.startswith('jupyter_axon'))")
    assert ours == [
        "jupyter_axon_notebooks",
        "jupyter_axon_notebooks._version",
        "jupyter_axon_notebooks.startup",
        "jupyter_axon_notebooks.training",
        "jupyter_axon_notebooks.training.execution",
        "jupyter_axon_notebooks.training.execution.shell",
        "jupyter_axon_notebooks.userfiles",
    ]
    assert (
        kernel.ask(
            "[name for name in after - before if name.split('.')[0] in ('msgspec', 'sqlalchemy', 'torch')]"
        )
        == []
    )


def run(arguments: list[str]) -> Any:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
