"""Training processes that log rows and report each, and the check that the store has them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jupyter_axon_notebooks.records import TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.store import Store

#: Defines ``log``, which logs a row and then reports its step to the file ``acknowledged``.
LOGGING = """
import math, os, sys
import jupyter_axon_notebooks as axon
VALUES = [0.5, math.nan, math.inf, -math.inf]
report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def log(step):
    axon.log({"loss": VALUES[step % 4], "count": step}, step=step)
    os.write(report, b"%d\\n" % step)
"""


def environment(data: Path, notebook: Path, **others: str) -> dict[str, str]:
    """Return the environment of a training process of the user ada."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "JPY", "AXON", "RANK", "WORLD_SIZE"))
    }
    own = {"JUPYTER_DATA_DIR": str(data), "AXON_NOTEBOOK": str(notebook), "AXON_USER": "ada"}
    return {**inherited, "AXON_SYSTEM_METRICS": "0", **own, **others}


def start(code: str, report: Path, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start a process that executes ``code`` after :data:`LOGGING`."""
    command = [*options.pop("inside", ()), sys.executable, "-c", LOGGING + code, str(report)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, text=True, **{**pipes, **options})


def recover(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Execute ``jupyter axon recover``."""
    code = "import sys; from jupyter_axon_notebooks.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "recover"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def acknowledged(report: Path) -> int:
    """Return how many rows a process reported."""
    return len(report.read_bytes().split()) if report.exists() else 0


def stored(records: NotebookRepository, run: TrainingRun, name: str = "loss") -> dict[int, float]:
    """Return the stored values of a metric by step; each step must be stored once, in order."""
    series = records.series.read(run.notebook_id, run.id, name)
    steps = series.steps.tolist()
    assert steps == sorted(set(steps))
    return dict(zip(steps, series.values.tolist(), strict=True))


def assert_stored_once(store: Store, run: TrainingRun, rows: int) -> None:
    """Check that a run has the rows that were acknowledged, and at most one more."""
    records = NotebookRepository(store)
    found = stored(records, run)
    assert rows <= len(found) <= rows + 1
    assert list(found) == list(range(len(found)))
    assert list(stored(records, run, "count").values()) == list(range(len(found)))
    expected = [0.5, math.nan, math.inf, -math.inf]
    assert [str(value) for value in found.values()] == [str(expected[step % 4]) for step in found]
    assert run.step_count == len(found)
    with store.snapshot() as connection:  # rows of one step are merged when they are read
        row = store.run_index.row_of(connection, run_key(run.notebook_id, run.id))
        c = store.logged_series.chunks.c
        query = sa.select(c.name, sa.func.sum(c.count)).where(c.run == row).group_by(c.name)
        counts = {name: int(count) for name, count in connection.execute(query)}
    assert counts == dict.fromkeys(("count", "loss"), len(found))
