"""Matching of executed cells, exported scripts, and the collected environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell, GitState
from jupyter_axon_notebooks.records import CellStatus
from jupyter_axon_notebooks.repository.cell_matching import match_cells
from jupyter_axon_notebooks.repository.script import export_script
from jupyter_axon_notebooks.training.execution import environment as environment_module
from jupyter_axon_notebooks.training.execution.environment import (
    collect_environment,
    read_git_state,
)


def cell(source: str, cell_id: str | None = None, count: int | None = 1) -> ExecutedCell:
    return ExecutedCell(source=source, cell_id=cell_id, execution_count=count)


@pytest.mark.parametrize(
    ("executed", "notebook", "expected"),
    [
        ([cell("x", "b")], {"a": "x", "b": "y"}, ["b"]),  # the id takes precedence
        ([cell("x")], {"a": "y", "b": "x"}, ["b"]),
        ([cell("x"), cell("x")], {"a": "x", "b": "x"}, ["a", "b"]),
        ([cell("x"), cell("x"), cell("x")], {"a": "x", "b": "x"}, ["a", "b", "a"]),
        ([cell("y"), cell("x")], {"a": "x", "b": "y", "c": "x"}, ["b", "c"]),  # the next below
        ([cell("x", "?"), cell("z", "?")], {"a": "x"}, ["a", "a"]),
        ([cell("z", "?"), cell("x", "?")], {"a": "x"}, ["a", "a"]),
        ([cell("x", "?"), cell("x", "!")], {"a": "x"}, ["a", None]),  # one cell was deleted
        ([cell("x", "?"), cell("x", "a")], {"a": "x"}, [None, "a"]),
        ([cell("whatever", count=None)], {"a": "x"}, ["a"]),  # a script
        ([cell("x")], {}, [None]),
    ],
)
def test_executed_cells_are_matched_with_cells_of_the_notebook(
    executed: list[ExecutedCell], notebook: dict[str, str], expected: list[str | None]
) -> None:
    assert match_cells(executed, notebook) == expected


def test_a_script_has_the_cells_in_their_order() -> None:
    failed = ExecutedCell(source="1 / 0", execution_count=3, status=CellStatus.ERROR)
    cells = [cell("x = 1\n\n", count=2), failed, cell("!ls", count=7)]
    assert export_script(cells, "Checkpoint c") == (
        "# Checkpoint c\n\n# In [2]\nx = 1\n\n# In [3], which failed\n1 / 0\n\n# In [7]\n# !ls\n"
    )
    assert export_script([cell("x = 1\n", count=None)]) == "x = 1\n"


def run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def add_program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a program to an otherwise empty search path."""
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_git_state_is_that_of_the_folder(tmp_path: Path) -> None:
    assert read_git_state(tmp_path) is None
    assert read_git_state(tmp_path / "nowhere") is None
    run_git(tmp_path, "init", "--quiet", "--initial-branch=topic")
    assert read_git_state(tmp_path) == GitState(branch="topic", dirty=True)
    (tmp_path / "a").write_text("1")
    run_git(tmp_path, "add", "a")
    run_git(tmp_path, "commit", "--quiet", "--message", "first")
    run_git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/a.git")
    commit = run_git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    (tmp_path / "folder").mkdir()
    assert read_git_state(tmp_path / "folder") == GitState(
        commit=commit, branch="topic", dirty=False
    )
    (tmp_path / "a").write_text("2")
    assert read_git_state(tmp_path) == GitState(commit=commit, branch="topic", dirty=True)
    run_git(tmp_path, "checkout", "--quiet", "--detach")
    assert read_git_state(tmp_path) == GitState(commit=commit, branch=None, dirty=True)
    assert "secret" not in repr(collect_environment(tmp_path))


def test_git_state_that_takes_too_long_is_omitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        f"#!{sys.executable}\nimport sys, time\n"
        "if 'status' in sys.argv: time.sleep(60)\nprint('c0ffee\\nmain')\n"
    )
    add_program(tmp_path, "git", script, monkeypatch)
    monkeypatch.setattr(environment_module, "_TIMEOUT", 1.0)
    assert read_git_state(tmp_path) == GitState(commit="c0ffee", branch="main", dirty=None)


def test_gpus_are_those_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment_module._gpus.cache_clear()
    script = "#!/bin/sh\necho 'NVIDIA H100, 80GB, 580.1'\necho 'NVIDIA A10, 580.1'\n"
    add_program(tmp_path, "nvidia-smi", script, monkeypatch)
    environment = collect_environment(tmp_path)
    assert environment.gpus == ["NVIDIA H100, 80GB", "NVIDIA A10"]
    assert (environment.driver, environment.git) == ("580.1", None)
    monkeypatch.setenv("PATH", "")
    environment_module._gpus.cache_clear()
    assert collect_environment(tmp_path).gpus == []
    environment_module._gpus.cache_clear()


def test_the_environment_is_that_of_this_process() -> None:
    environment = collect_environment()
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    assert environment.packages["tinydb"].startswith("4.")
    assert Environment.from_json(environment.to_json()) == environment


def test_unreadable_packages_and_folders_are_omitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, author in (("old", "J\xfcrgen".encode("latin-1")), ("new", "Jürgen".encode())):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        fields = f"Name: the-{name}-one\nVersion: 1.0\nAuthor: ".encode()
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_bytes(fields + author + b"\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    environment_module._packages.cache_clear()
    found = collect_environment()
    environment_module._packages.cache_clear()
    assert found.git is None
    assert found.packages["the-new-one"] == "1.0"
    assert "the-old-one" not in found.packages
    assert "tinydb" in found.packages


def test_collecting_the_environment_imports_no_framework() -> None:
    program = (
        "import sys\nfrom jupyter_axon_notebooks.training.execution import environment\n"
        "environment.collect_environment()\n"
        "assert not {'torch', 'numpy', 'sqlalchemy', 'IPython'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_pipe_in_place_of_package_metadata_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "odd-1.dist-info").mkdir()
    os.mkfifo(tmp_path / "odd-1.dist-info" / "METADATA")
    script = (
        "from jupyter_axon_notebooks.training.execution import environment\n"
        "print(len(environment.collect_environment().packages))"
    )
    command = [sys.executable, "-c", script]
    options = {"cwd": tmp_path, "check": True, "timeout": 30}
    process = subprocess.run(command, capture_output=True, text=True, **options)
    assert int(process.stdout) > 5
