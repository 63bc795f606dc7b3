"""Trainings continue without losses while the store is unavailable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from support import disks
from support.engines import eventually
from support.training_script import assert_equals_uninterrupted, train

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store

SCRIPT = """
import json, pathlib, subprocess, warnings
import numpy as np
import jupyter_axon_notebooks as axon

model = {"w": np.arange(4.0)}
warned = []
warnings.showwarning = lambda message, *rest: warned.append(str(message))

def train(first, last):
    saved = []
    for epoch in range(first, last):
        model["w"] += 1
        saved.append(axon.checkpoint(model, epoch=epoch, metrics={"loss": 1 / (epoch + 1)}))
        assert saved[-1].has_state
    return [one.is_recorded for one in saved]
"""
REPORT = """
print(json.dumps({"before": before, "during": during, "warned": warned,
                  "resumed": [axon.resume(run=axon.latest().run_id).epoch],
                  "epochs": [c.epoch for c in axon.checkpoints()]}))
"""


def run_script(
    tmp_path: Path,
    body: str,
    *,
    store: Path,
    wrapper: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> Any:
    """Run a training script; return its report, the JSON in its last line of output."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT + body + REPORT)
    done = subprocess.run(
        [*wrapper, sys.executable, str(script)],
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("JUPYTER", "JPY", "AXON"))
            },
            "JUPYTER_DATA_DIR": str(tmp_path / "data"),
            "AXON_STORE_URL": f"sqlite:///{store}",
            **(environment or {}),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_nothing_lost(report: Any) -> None:
    assert report["before"] == [True, True]
    assert report["during"] == [False, False, False]
    assert len(report["warned"]) == 1
    assert "jupyter axon recover" in report["warned"][0]
    assert report["resumed"] == [4]
    assert report["epochs"] == [4, 3, 2, 1, 0]


def test_a_full_disk_of_the_store_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    wrapper = disks.small_disk(disk, "2m")
    body = f"""
before = train(0, 2)
filler = pathlib.Path({str(disk / "filler")!r})
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
during = train(2, 5)
filler.unlink()
"""
    report = run_script(tmp_path, body, store=disk / "axon.db", wrapper=wrapper)
    assert_nothing_lost(report)
    assert "full" in report["warned"][0]


def test_a_read_only_disk_of_the_store_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    wrapper = disks.small_disk(disk, "4m")
    body = f"""
def mount(how):
    subprocess.run(["mount", "-o", "remount," + how, {str(disk)!r}], check=True)

before = train(0, 2)
from jupyter_axon_notebooks.training.session import current_session
current_session().tracker.close()  # an open file prevents a remount
mount("ro")
during = train(2, 5)
mount("rw")
"""
    assert_nothing_lost(run_script(tmp_path, body, store=disk / "axon.db", wrapper=wrapper))


def test_a_locked_store_loses_nothing(tmp_path):
    body = """
import sqlite3
before = train(0, 2)
other = sqlite3.connect(pathlib.Path("axon.db"), isolation_level=None, timeout=30)
other.execute("BEGIN IMMEDIATE")
during = train(2, 5)
other.rollback()
other.close()
"""
    report = run_script(tmp_path, body, store=tmp_path / "axon.db")
    assert_nothing_lost(report)
    assert "locked" in report["warned"][0]


def test_a_training_resumes_from_unrecorded_checkpoints(
    start_kernel, notebook_file, tmp_path, uninterrupted
):
    file = tmp_path / "stores"
    file.touch()
    environment = {"AXON_STORE_URL": f"sqlite:///{file}/axon.db"}
    kernel = start_kernel(**environment)
    kernel.send(train(stops_at=3).replace("axon.resume(model, optimizer)", "None"))
    eventually((tmp_path / "stopped").exists)
    kernel.kill()
    file.unlink()
    file.mkdir()
    kernel = start_kernel(**environment)
    output = kernel.execute(train()).text
    assert "Recorded 3 checkpoints" in output
    with closing(open_store(environment["AXON_STORE_URL"])) as store:
        states = StateStorage(tmp_path / "data" / "axon_notebooks" / "states")
        assert_equals_uninterrupted(NotebookRepository(store, states=states), uninterrupted)


def test_recover_records_checkpoints_of_a_script(tmp_path, environment):
    file = tmp_path / "stores"
    file.touch()
    environment["AXON_STORE_URL"] = f"sqlite:///{file}/axon.db"
    script = tmp_path / "train.py"
    script.write_text(SCRIPT + "print(train(0, 3))")
    trained = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert trained.stdout == "[False, False, False]\n"
    file.unlink()

    def axon(*arguments: str) -> Any:
        command = [
            sys.executable,
            "-c",
            "from jupyter_axon_notebooks.cli import main; main()",
            *arguments,
        ]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    assert len(axon("recover", "--dry-run", "--json")) == 3
    assert not file.exists()  # listing creates no store
    file.mkdir()
    recovered = axon("recover", "--json")
    assert [one["epoch"] for one in recovered["recorded"]] == [0, 1, 2]
    assert recovered["troubles"] == {}
    assert axon("recover", "--json") == {"recorded": [], "troubles": {}}
    for one in recovered["recorded"]:
        assert Path(one["model_state_path"]).is_file()
        assert not Path(one["model_state_path"]).with_name("unrecorded.json").exists()
    with closing(open_store(environment["AXON_STORE_URL"])) as store:
        repository = NotebookRepository(store)
        (notebook,) = repository.list_all()
        assert notebook.path == str(script)
        (run,) = repository.runs.list(notebook.id)
        assert run.status.value == "completed"
