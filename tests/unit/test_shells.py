"""Whatever `get_ipython` returns, the import changes nothing and the API works as in a plain script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def real(change: str) -> str:
    """Lines that make a shell of IPython's and take something from it."""
    return (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = type('Shell', (InteractiveShell,), {}).instance()\n"
        f"{change}"
    )


#: Stand-ins for IPython, as editors, other kernels and tests have them; each is a script's first lines.
STAND_INS = {
    "no IPython": "sys.modules['IPython'] = None",
    "IPython without get_ipython": "sys.modules['IPython'] = types.ModuleType('IPython')",
    "None": "stand_in(lambda: None)",
    "an object": "stand_in(object)",
    "get_ipython that raises": "stand_in(lambda: 1 / 0)",
    "a shell without history and events": "stand_in(lambda: types.SimpleNamespace(user_ns={}, kernel=None))",
    "a mock": "import unittest.mock; stand_in(unittest.mock.MagicMock())",
    "no type for InteractiveShell": "stand_in(object); sys.modules['IPython.core.interactiveshell'].InteractiveShell = 3",
    "a class that cannot be asked": """
class Odd:
    def __getattribute__(self, name):
        raise RuntimeError(name)
stand_in(Odd)""",
    "a real shell without events": real("shell.events = None"),
    "a real shell without history": real("shell.history_manager = None"),
    "a real shell without run_cell_async": real("type(shell).run_cell_async = None"),
    "a real shell without a namespace": real("type(shell).user_ns = None"),
    "a real shell whose get_parent raises": real("type(shell).get_parent = lambda self: 1 / 0"),
}

SCRIPT = """
import builtins, sys, threading, types

def stand_in(get_ipython):
    module = types.ModuleType("IPython")
    core = types.ModuleType("IPython.core.interactiveshell")
    core.InteractiveShell = type("InteractiveShell", (), {{}})
    module.get_ipython = builtins.get_ipython = get_ipython
    sys.modules |= {{"IPython": module, "IPython.core.interactiveshell": core}}

{first}
hooks = sys.excepthook, sys.exit, threading.excepthook, sys.stdout
import jupyter_axon_notebooks as axon
assert hooks == (sys.excepthook, sys.exit, threading.excepthook, sys.stdout)
for epoch in range(2):
    made = axon.checkpoint({{"w": [1.0, epoch]}}, epoch=epoch, metrics={{"loss": 1.0 - epoch}})
    assert made.is_recorded, made
assert axon.best("loss").epoch == 1
assert axon.resume(run=axon.latest().run_id).epoch == 1
assert [one.epoch for one in axon.checkpoints()] == [1, 0]
axon.checkpoints()._repr_html_(), repr(made)
print("done")
"""


@pytest.mark.parametrize("name", STAND_INS)
def test_it_works_as_in_a_script(name: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(first=STAND_INS[name]))
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AXON", "JPY_", "JUPYTER"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=kept
        | {"JUPYTER_DATA_DIR": str(tmp_path / "data"), "IPYTHONDIR": str(tmp_path / "ipython")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr


def test_a_shell_of_another_kernel_tells_its_cells(tmp_path: Path) -> None:
    """Such as xeus-python's or Pyodide's: a subclass of IPython's shell with no `kernel`, whose events tell less."""
    script = tmp_path / "kernel.py"
    script.write_text(
        real("")
        + """
import types
import jupyter_axon_notebooks as axon
from jupyter_axon_notebooks.training.execution import executed_cells

shell.run_cell("x = 1", store_history=True)
shell.events.trigger("pre_run_cell", types.SimpleNamespace(raw_cell="y = 2"))
shell.events.trigger("post_run_cell", types.SimpleNamespace(error_before_exec=None, error_in_exec=None))
print([cell.source for cell in executed_cells()])
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == ["['x = 1', 'y = 2']"], done.stderr
