"""The import of the package changes nothing in the process, and loads little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {"jax", "numpy", "safetensors", "sklearn", "skops", "tensorflow", "torch"}
SERVER = {"jupyter_events", "jupyter_server", "nbformat", "tornado", "zmq"}
KERNEL = {"IPython", "ipykernel", "jupyter_client", "traitlets"}


def run(code: str, tmp_path: Path, *options: str) -> str:
    """Run a script, which must succeed; return its output."""
    script = tmp_path / "train.py"
    script.write_text(code)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AXON", "JPY_", "JUPYTER"))
    }
    environment["JUPYTER_DATA_DIR"] = str(tmp_path / "data")
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    done = subprocess.run(
        [sys.executable, *options, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_packages(code: str, tmp_path: Path) -> set[str]:
    program = (
        f"import sys; before = set(sys.modules)\n{code}\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*new - sys.stdlib_module_names)"
    )
    return set(run(program, tmp_path).split())


def test_the_import_loads_only_the_standard_library(tmp_path: Path) -> None:
    assert loaded_packages("import jupyter_axon_notebooks", tmp_path) == {"jupyter_axon_notebooks"}


@pytest.mark.parametrize(
    "code",
    [
        "axon.checkpoint, axon.resume, axon.best, axon.Checkpoint",
        "axon.checkpoint(None, metrics={'loss': 0.5})",
    ],
)
def test_the_api_loads_neither_a_framework_nor_a_server(code: str, tmp_path: Path) -> None:
    packages = loaded_packages(f"import jupyter_axon_notebooks as axon; {code}", tmp_path)
    assert "jupyter_axon_notebooks" in packages
    assert packages & (FRAMEWORKS | SERVER | KERNEL) == set()


#: Compares what may be hooked in a process before and after a statement.
UNCHANGED = """
import atexit, builtins, os, signal, sys, threading, warnings

def hooks():
    names = ("excepthook", "exit", "stdout", "stderr", "displayhook", "meta_path", "path_hooks")
    return [
        *(getattr(sys, name) for name in names),
        sys.gettrace(), sys.getprofile(), dict(vars(builtins)), dict(os.environ), os.fork,
        threading.excepthook, threading.enumerate(), atexit._ncallbacks(), list(warnings.filters),
        *(signal.getsignal(number) for number in signal.valid_signals()),
    ]

before = hooks()
import jupyter_axon_notebooks as axon
assert hooks() == before
"""


def test_the_import_changes_no_hooks(tmp_path: Path) -> None:
    run(UNCHANGED, tmp_path)


def test_the_import_changes_no_hooks_of_a_shell(tmp_path: Path) -> None:
    cell = UNCHANGED.replace("axon\n", "axon\nchanged = set(vars(shell)) - attributes\n")
    output = run(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "attributes = set(vars(shell))\n"
        f"{cell}"
        "print(sorted(changed))\n"
        "print([len(shell.events.callbacks[name]) for name in ('pre_run_cell', 'post_run_cell')])",
        tmp_path,
    )
    assert output.splitlines() == ["['_axon_recorder']", "[1, 1]"]


def real_shell(change: str = "") -> str:
    """Return code that creates an IPython shell and changes it."""
    return (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = type('Shell', (InteractiveShell,), {}).instance()\n"
        f"{change}"
    )


#: Objects in place of IPython's shell, as in editors, other kernels and tests.
SHELLS = {
    "no IPython": "sys.modules['IPython'] = None",
    "IPython without get_ipython": "sys.modules['IPython'] = types.ModuleType('IPython')",
    "None": "replace(lambda: None)",
    "an object": "replace(object)",
    "get_ipython that raises": "replace(lambda: 1 / 0)",
    "a mock": "import unittest.mock; replace(unittest.mock.MagicMock())",
    "no type for InteractiveShell": (
        "replace(object); sys.modules['IPython.core.interactiveshell'].InteractiveShell = 3"
    ),
    "a real shell without events": real_shell("shell.events = None"),
    "a real shell without history": real_shell("shell.history_manager = None"),
    "a real shell without run_cell_async": real_shell("type(shell).run_cell_async = None"),
    "a real shell without a namespace": real_shell("type(shell).user_ns = None"),
    "a real shell whose get_parent raises": real_shell("type(shell).get_parent = lambda _: 1 / 0"),
}

SCRIPT = """
import builtins, sys, types

def replace(get_ipython):
    module = types.ModuleType("IPython")
    core = types.ModuleType("IPython.core.interactiveshell")
    core.InteractiveShell = type("InteractiveShell", (), {{}})
    module.get_ipython = builtins.get_ipython = get_ipython
    sys.modules |= {{"IPython": module, "IPython.core.interactiveshell": core}}

{shell}
import jupyter_axon_notebooks as axon
for epoch in range(2):
    made = axon.checkpoint({{"w": [1.0, epoch]}}, epoch=epoch, metrics={{"loss": 1.0 - epoch}})
    assert made.is_recorded, made
assert axon.best("loss").epoch == 1
assert axon.resume(run=axon.latest().run_id).epoch == 1
assert [one.epoch for one in axon.checkpoints()] == [1, 0]
axon.checkpoints()._repr_html_(), repr(made)
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_api_works_with_any_shell(shell: str, tmp_path: Path) -> None:
    run(SCRIPT.format(shell=SHELLS[shell]), tmp_path, "-W", "error")


def test_cells_of_other_kernels_are_recorded(tmp_path: Path) -> None:
    """As in xeus-python or Pyodide, whose events have fewer fields."""
    code = real_shell() + (
        """
import types
import jupyter_axon_notebooks as axon
from jupyter_axon_notebooks.training.execution import executed_cells

shell.run_cell("x = 1", store_history=True)
shell.events.trigger("pre_run_cell", types.SimpleNamespace(raw_cell="y = 2"))
result = types.SimpleNamespace(error_before_exec=None, error_in_exec=None)
shell.events.trigger("post_run_cell", result)
print([cell.source for cell in executed_cells()])
"""
    )
    assert run(code, tmp_path).splitlines()[-1] == "['x = 1', 'y = 2']"
