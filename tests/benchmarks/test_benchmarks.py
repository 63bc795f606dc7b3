"""The benchmarks run. What they measure is for a quiet machine to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *options: str, folder: Path) -> str:
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--rounds", "2", "--folder", folder, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(("script", "rows"), [("register", 3), ("best", 8), ("listing", 8)])
def test_a_benchmark_runs_and_leaves_nothing_behind(script: str, rows: int, tmp_path: Path) -> None:
    measured = json.loads(run(script, "--sizes", "20", "30", "--json", folder=tmp_path))
    assert len(measured["rows"]) == rows
    assert all(row["ours"]["rounds"] == 2 and row["ratio"] > 0 for row in measured["rows"])
    assert list(tmp_path.iterdir()) == []


def test_saves_are_measured_in_a_server_of_their_own(tmp_path: Path) -> None:
    measured = json.loads(run("saves", "--sizes", "20", "60", "--json", folder=tmp_path))
    assert list(measured["sizes"]) == ["20", "60"]
    for size, seen in measured["sizes"].items():
        assert seen["bytes"] >= int(size) * 1000
        assert seen["save"]["rounds"] == 2
        assert min(seen[name]["median"] for name in ("hooks", "emit", "listener", "worker")) > 0
    assert 1 <= measured["storm"]["written"] <= measured["storm"]["saves"]
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_markdown(tmp_path: Path) -> None:
    lines = run("best", "--sizes", "10", folder=tmp_path).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[1].startswith("| --- |")


@pytest.mark.parametrize(
    ("script", "options", "lines"),
    [
        ("crash", ["--kills", "4"], 4),
        ("concurrency", ["--processes", "2", "--operations", "10", "--engines", "sqlite"], 1),
    ],
)
def test_a_suite_is_run_for_longer_and_leaves_nothing_behind(
    script: str, options: list[str], lines: int, tmp_path: Path
) -> None:
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--folder", tmp_path, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    table = [line for line in ended.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + lines
    assert len({line.count("|") for line in table}) == 1
    assert list(tmp_path.iterdir()) == []
