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
        ("time model.fit(x)", "model.fit(x)  # %time"),
        ("ls", "# %ls"),
        ("ls -l", "# %ls -l"),
        ("cd /tmp", "# %cd /tmp"),
        ("time - f()", "time - f()"),
        ("ls = 1", "ls = 1"),
        (
            "get_ipython().run_line_magic('time', 'f(1)')",
            "f(1)  # get_ipython().run_line_magic('time', 'f(1)')",
        ),
        (
            "if x:\n    get_ipython().magic('time f()')",
            "if x:\n    f()  # get_ipython().magic('time f()')",
        ),
        ("get_ipython().run_line_magic('cd', 'x')", "# get_ipython().run_line_magic('cd', 'x')"),
        ("get_ipython().system('ls')", "# get_ipython().system('ls')"),
        (
            "get_ipython().run_cell_magic('bash', '', 'ls')",
            "# get_ipython().run_cell_magic('bash', '', 'ls')",
        ),
        ("get_ipython().kernel", "get_ipython().kernel"),
        ("%time f(); g()", "f(); g()  # %time"),
        ("%time -f()", "-f()  # %time"),
        ("%time f(1, \\\n  2)\ny", "f(1,    2)  # %time f(1, \\ 2)\ny"),
        ("# first\n%time f()  # note", "# first\nf()  # note  # %time"),
        ("%timeit -n 10 -r3 f()", "f()  # %timeit -n 10 -r3"),
        ("%timeit -qn10 f()", "f()  # %timeit -qn10"),
        ("%prun -s cumulative -l 20 f()", "f()  # %prun -s cumulative -l 20"),
        ("%lprun -f model.fit model.fit(x)", "model.fit(x)  # %lprun -f model.fit"),
        ("%memit -r 1 f()", "f()  # %memit -r 1"),
        ("%time %prun -q f()", "f()  # %time %prun -q"),
        ("x = %time f()", "x = f()  # x = %time"),
        ("a, b['='] = %time f()", "a, b['='] = f()  # a, b['='] = %time"),
        ("x = %time y = f()", "y = f()  # x = %time"),
        ("x = %timeit -o f()", "f()  # x = %timeit -o"),
        (
            "for e in s:\n    %time fit(e)\n    !ls",
            "for e in s:\n    fit(e)  # %time\n    pass  # !ls",
        ),
        ("with a:\n\t%time x = 1", "with a:\n\tx = 1  # %time"),
        (
            "def f():\n    y = %time g()\n    return y",
            "def f():\n    y = g()  # y = %time\n    return y",
        ),
        ("    x = 1\n    %time f()", "x = 1\nf()  # %time"),
        (">>> f()\n>>> g()", "f()\ng()"),
        ("\n\n%%time\nfit()", "# %%time\nfit()"),
        ("%%time\r\nfit()\r\n", "# %%time\nfit()\n"),
        ("%%capture out\n%%time\nfit()", "# %%capture out\n# %%time\nfit()"),
        ("%%timeit -n 1 x = 3\nfit(x)", "x = 3  # %%timeit -n 1\nfit(x)"),
        ("%%prun -q\nfit()", "# %%prun -q\nfit()"),
        ("/f x y", "f(x, y)  # /f x y"),
        (",f a b", 'f("a", "b")  # ,f a b'),
        (";f a b", 'f("a b")  # ;f a b'),
        ("%time", "# %time"),
        ("%time !ls", "# %time !ls"),
        ("%time f(", "# %time f("),
        ("%run other.py", "# %run other.py"),
        ("%env X=1\n%cd data", "# %env X=1\n# %cd data"),
        ("f??", "# f??"),
        ("%timeit?", "# %timeit?"),
        ("%%time?", "# %%time?"),
        ("%%foo\nfit()", "# %%foo\n# fit()"),
        ("!a\rb", "# !a\nb"),
        ("s = '''\n%time f()\n'''", "s = '''\n%time f()\n'''"),
        ("a = b \\\n%c", "a = b \\\n%c"),
        ("d = {\n# '\n'a': b\n%time\n}\n%time f()", "d = {\n# '\n'a': b\n%time\n}\nf()  # %time"),
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
        "import asyncio\nran = []\nasync def soon(value):\n    return value",
        "%load_ext autoreload\n!pip install nothing",
        "def fit(x):\n    ran.append(x)\n    return x",
        "%time fit(1)",
        "loss = %time fit(2)",
        "for epoch in range(3, 5):\n    %time fit(epoch)\n    if epoch:\n        %cd nowhere",
        "%%capture out\n%%time\nfit(5)",
        "text = '''6\n%s'''\nseen = await soon(text)\nasync with asyncio.Lock():\n    fit(6)",
        "x = '\x00'",
        "%%bash\npython train.py",
        "/fit 7",
        "loss?",
        "print(ran, loss, seen)",
    ]
    assert run_script(tmp_path, cells, "a\nb") == "[1, 2, 3, 4, 5, 6, 7] 2 6\n%s\n"


@pytest.mark.parametrize(
    "cells",
    [
        ["x = 1", "'about it'\nfrom __future__ import annotations\ny: Unknown = 2\nprint(x, y)"],
        [
            "import asyncio",
            "from __future__ import annotations\nawait asyncio.sleep(0)\nprint(1, 2)",
        ],
        [
            "import asyncio",
            "from math import *\nawait asyncio.sleep(0)",
            "print(floor(1.5), floor(2.5))",
        ],
        ["import asyncio", "x: str = await asyncio.sleep(0, '1 2\\n')\nprint(x)"],
        ["import asyncio", "%time print(await asyncio.sleep(0, '1 2'))"],
        ["if get_ipython() is None:\n    print(1, 2)"],
        ["def shown(x):\n    display(x)\nprint(1, 2)\nshown(3)"],
        ["get_ipython().run_cell_magic('time', '', 'x = 1\\ny = 2\\n')", "print(x, y)"],
    ],
)
def test_notebook_only_syntax_runs_in_a_script(cells: list[str], tmp_path: Path) -> None:
    assert run_script(tmp_path, cells, "title").splitlines()[0] == "1 2"


def test_a_very_long_cell_is_exported_without_parsing() -> None:
    source = "x = [" + "1," * MAX_PARSED + "]\n%time fit(x)"
    cell = ExecutedCell(source=source, execution_count=1, status=CellStatus.COMPLETED)
    assert export_script([cell]).endswith("]\nfit(x)  # %time\n")
    cell.status = CellStatus.ERROR
    assert export_script([cell]).endswith("]\n# %time fit(x)\n")


def find_kinds(source: str) -> set[FlagKind]:
    """Return the flags of a checkpoint whose notebook ran ``source`` twice in its only pass."""
    sources = {"first": "n = 1", "a": source, "b": "train()"}
    notebook = [NotebookCell(id=id, source=source) for id, source in sources.items()]
    ran = [
        ExecutedCell(source=sources[id], cell_id=id, execution_count=count)
        for count, id in enumerate(("first", "a", "a", "b"), 1)
    ]
    flags = find_flags(ran, SavedCells(notebook), SavedCells(notebook))
    return {flag.kind for flag in flags}


@pytest.mark.parametrize(
    "source",
    [
        "!python make_data.py",
        "import os\n!python3 make_data.py --seed 1",
        "!!./make_data",
        "!wget https://example.org/data.zip",
        "!pip install x && python make_data.py",
        "!ls; python make_data.py",
        "!ls | python make_data.py",
        "!ls & ./make_data",
        "!echo $(python make_data.py)",
        "!echo `python make_data.py`",
        "!echo 1 >> data.csv",
        "!conda run python make_data.py",
        "!python -c 'print(1)'",
        "!python\\\n make_data.py",
        "!'unclosed",
        "files = !ls",
        "x = %env HOME",
        "%sx python make_data.py",
        "%run make_data.py",
        "%cd data",
        "cd /tmp",
        "get_ipython().system('python make_data.py')",
        "get_ipython().run_cell_magic('time', '', 'f()')",
        "%env X=1",
        "%reset -f",
        "%unheard_of",
        "%time f()",
        "%time import os; f()",
        "%timeit f()",
        "%time !python make_data.py",
        "/f x",
        "%%time\nf()",
        "%%timeit f()\nimport os",
        "%%capture\n!python make_data.py",
        "%%bash\npip install x\npython make_data.py",
        "%%writefile a.py\nx = 1",
        "%%unheard_of\nimport os",
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
        "!pip install \\\n  torch",
        "!{sys.executable} -m pip install torch",
        "!sudo apt-get install -y graphviz",
        "!CUDA=1 python -m pip install x | tail -1",
        "!nvidia-smi",
        "!!ls -l",
        "!python --version",
        "!git log -1",
        "%pip install torch",
        "pip install torch",
        "ls",
        "get_ipython().run_line_magic('matplotlib', 'inline')",
        "get_ipython().system('pip install torch')",
        "%conda install torch",
        "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n%config InlineBackend.rc = {}",
        "%load_ext tensorboard\n%tensorboard --logdir runs",
        "%env HOME",
        "torch.nn?",
        "%time import torch",
        "%%time\nimport torch\ndef f(): pass",
        "%%capture\n!pip install torch",
        "%%bash\n# needed\npip install torch\n",
        "%%html\n<b>bold</b>",
    ],
)
def test_a_repeated_setup_cell_is_not_flagged(source: str) -> None:
    assert find_kinds(source) == set()
