"""Cells with IPython syntax: their lines in a script, and whether they may run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_axon_notebooks.provenance import ExecutedCell, FlagKind
from jupyter_axon_notebooks.records import CellStatus, NotebookCell
from jupyter_axon_notebooks.repository.flags import SavedCells, find_flags
from jupyter_axon_notebooks.repository.magics import MAX_PARSED
from jupyter_axon_notebooks.repository.script import export_script


@pytest.mark.parametrize(
    ("source", "python"),
    [
        ("%time model.fit(x)", "model.fit(x)  # %time"),
        ("ls = 1", "ls = 1"),
        (
            "get_ipython().run_line_magic('time', 'f(1)')",
            "f(1)  # %time",
        ),
        (
            "get_ipython().run_cell_magic('bash', '', 'ls')",
            "# %%bash\n# ls",
        ),
        ("get_ipython().kernel", "get_ipython().kernel"),
        ("%time f(); g()", "f(); g()  # %time"),
        ("%time f(1, \\\n  2)\ny", "f(1, 2)  # %time\ny"),
        ("%timeit -n 10 -r3 f()", "f()  # %timeit -n 10 -r3"),
        ("x = %time f()", "x = f()  # %time"),
        ("x = %timeit -o f()", "x = f()  # %time"),
        (
            "for e in s:\n    %time fit(e)\n    !ls",
            "for e in s:\n    fit(e)  # %time\n    pass  # !ls",
        ),
        ("with a:\n\t%time x = 1", "with a:\n\tx = 1  # %time"),
        (
            "def f():\n    y = %time g()\n    return y",
            "def f():\n    y = g()  # %time\n    return y",
        ),
        ("%%time\r\nfit()\r\n", "# %%time\nfit()\n"),
        ("%%capture out\n%%time\nfit()", "# %%capture out\n# %%time\nfit()"),
        ("%time !ls", "# %time !ls"),
        ("pip install torch", "# pip install torch"),
        ("f??", "# f??"),
        ("%timeit?", "# %timeit?"),
        ("%%time?", "# %%time?"),
        ("%%foo\nfit()", "# %%foo\n# fit()"),
        ("!a\rb", "# !a\nb"),
        ("s = '''\n%time f()\n'''", "s = '''\n%time f()\n'''"),
        ("return\n%time f()", "# return\n# %time f()"),
    ],
)
def test_ipython_syntax_becomes_python_in_a_script(source: str, python: str) -> None:
    assert export_script([ExecutedCell(source=source)]).endswith(f"{python.rstrip()}\n")


def run_script(folder: Path, cells: list[str], title: str) -> str:
    """Export a script with ``cells``, run it in plain Python and return its output."""
    script = folder / "script.py"
    executed = [ExecutedCell(source=cell, execution_count=1) for cell in cells]
    script.write_text(export_script(executed, title))
    process = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    return process.stdout


def test_a_script_runs_in_plain_python(tmp_path: Path) -> None:
    cells = [
        "ran = []",
        "%load_ext autoreload\n!pip install nothing",
        "def fit(x):\n    ran.append(x)\n    return x",
        "%time fit(1)",
        "loss = %time fit(2)",
        "for epoch in range(3, 5):\n    %time fit(epoch)\n    if epoch:\n        %cd nowhere",
        "%%capture out\n%%time\nfit(5)",
        "text = '''6\n%s'''\nfit(6)",
        "x = '\x00'",
        "%%bash\npython train.py",
        "loss?",
        "print(ran, loss, text)",
    ]
    assert run_script(tmp_path, cells, "a\nb") == "[1, 2, 3, 4, 5, 6] 2 6\n%s\n"


@pytest.mark.parametrize(
    "cells",
    [
        ["x = 1", "'about it'\nfrom __future__ import annotations\ny: Unknown = 2\nprint(x, y)"],
        ["if get_ipython() is None:\n    print(1, 2)"],
        ["def shown(x):\n    display(x)\nprint(1, 2)\nshown(3)"],
        ["get_ipython().run_cell_magic('time', '', 'x = 1\\ny = 2\\n')", "print(x, y)"],
    ],
)
def test_notebook_only_syntax_runs_in_a_script(cells: list[str], tmp_path: Path) -> None:
    assert run_script(tmp_path, cells, "title").splitlines()[0] == "1 2"


def test_a_very_long_cell_is_exported_without_parsing() -> None:
    source = "x = [" + "1," * MAX_PARSED + "]"
    cell = ExecutedCell(source=source, execution_count=1, status=CellStatus.COMPLETED)
    assert export_script([cell]).endswith(f"\n{source}\n")
    cell.status = CellStatus.ERROR
    assert export_script([cell]).startswith("# In [1], which failed\n# x = [")


def find_kinds(source: str) -> set[FlagKind]:
    """Return the flags of a checkpoint whose notebook ran ``source`` twice before."""
    notebook = [NotebookCell(id="a", source=source), NotebookCell(id="b", source="train()")]
    runs = [ExecutedCell(source=source, cell_id="a", execution_count=count) for count in (1, 2)]
    training = ExecutedCell(source="train()", cell_id="b", execution_count=3)
    flags = find_flags([*runs, training], SavedCells(notebook), SavedCells(notebook))
    return {flag.kind for flag in flags}


@pytest.mark.parametrize(
    "source",
    [
        "!python make_data.py",
        "!pip install x && python make_data.py",
        "!ls | python make_data.py",
        "!ls & ./make_data",
        "!echo $(python make_data.py)",
        "!echo `python make_data.py`",
        "!echo 1 >> data.csv",
        "files = !ls",
        "x = %env HOME",
        "%run make_data.py",
        "%cd data",
        "get_ipython().system('python make_data.py')",
        "get_ipython().run_cell_magic('time', '', 'f()')",
        "%env X=1",
        "%unheard_of",
        "%time f()",
        "%time !python make_data.py",
        "%%time\nf()",
        "%%bash\npip install x\npython make_data.py",
        "%%writefile a.py\nx = 1",
        "if True:\n    !python make_data.py",
        "def f(): pass\n" + "#" * MAX_PARSED,
    ],
)
def test_a_repeated_cell_with_side_effects_is_flagged(source: str) -> None:
    assert find_kinds(source) == {FlagKind.RERUN}


@pytest.mark.parametrize(
    "source",
    [
        "!pip install -q 'torch>=2' torchvision>=0.17 > /dev/null 2>&1",
        "!{sys.executable} -m pip install torch",
        "!nvidia-smi",
        "get_ipython().run_line_magic('matplotlib', 'inline')",
        "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n%config InlineBackend.rc = {}",
        "%env HOME",
        "%time import torch",
        "%%time\nimport torch\ndef f(): pass",
        "%%html\n<b>bold</b>",
    ],
)
def test_a_repeated_setup_cell_is_not_flagged(source: str) -> None:
    assert find_kinds(source) == set()
