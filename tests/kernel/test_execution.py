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
        (
            "import sys\nfor name in [n for n in sys.modules if n.startswith('jupyter_axon')]:\n"
            "    del sys.modules[name]",
            IMPORT,
        ),
    ],
    ids=["reset", "imported again"],
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
        ("sys.exit(3)", ["running", "SystemExit ['error']"]),
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
