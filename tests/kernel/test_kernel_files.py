"""Special, endless and damaged files where a training process expects its own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_QUERY = """
import json, sys
import jupyter_axon_notebooks as axon
from jupyter_axon_notebooks.training.execution import executed_cells
from jupyter_axon_notebooks.training.discovery.kernel import connection_file
from jupyter_axon_notebooks.training.discovery.location import find_location
from jupyter_axon_notebooks.training.discovery.servers import running_servers
location = find_location()
answer = {"path": location.path, "file": connection_file(), "cells": len(executed_cells())}
answer["servers"] = len(list(running_servers([sys.argv[1]])))
answer["record"] = axon.notebook().name
print(json.dumps(answer))
"""


def query(tmp_path: Path, command: list[object], **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={
            **os.environ,
            "JUPYTER_DATA_DIR": str(tmp_path / "data"),
            "PYTHONPATH": "",
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A runtime folder with files like those of servers."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    os.mkfifo(folder / "jpserver-1.json")
    (folder / "jpserver-2.json").symlink_to("/dev/zero")
    (folder / "jpserver-3.json").symlink_to("jpserver-3.json")
    (folder / "jpserver-4.json").touch()
    os.truncate(folder / "jpserver-4.json", 1 << 40)
    (folder / "jpserver-5.json").write_text("[" * 60_000)
    return folder


@pytest.mark.parametrize("what", ["pipe", "device", "loop", "large"])
def test_a_special_file_is_not_a_connection_file(tmp_path: Path, runtime: Path, what: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(_QUERY)
    number = ["pipe", "device", "loop", "large"].index(what) + 1
    answer = query(tmp_path, [script, runtime, "-f", runtime / f"jpserver-{number}.json"])
    assert answer == {
        "path": str(script),
        "file": None,
        "cells": 1,
        "servers": 0,
        "record": "train",
    }


def test_a_program_from_a_pipe_has_no_source(tmp_path: Path, runtime: Path) -> None:
    os.mkfifo(tmp_path / "program.py")
    script = tmp_path / "write.py"
    script.write_text(f"open('program.py', 'w').write({_QUERY!r})")
    with subprocess.Popen([sys.executable, script], cwd=tmp_path) as writer:
        answer = query(tmp_path, ["program.py", runtime])
        assert writer.wait(60) == 0
    assert (answer["cells"], answer["path"]) == (0, None)


@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "a.ipynb"])
def test_a_notebook_that_became_a_special_file_is_not_read(
    tmp_path: Path, runtime: Path, target: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(_QUERY)
    os.mkfifo(tmp_path / "pipe")
    notebook = tmp_path / "a.ipynb"
    notebook.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    assert query(tmp_path, [script, runtime], AXON_NOTEBOOK=str(notebook))["record"] == "a"
    notebook.unlink()
    notebook.symlink_to(target)
    answer = query(tmp_path, [script, runtime], AXON_NOTEBOOK=str(notebook))
    assert (answer["path"], answer["record"]) == (str(notebook), "a")
