"""The benchmark of state files runs and removes its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "states.py"


def test_the_benchmark_runs_and_leaves_no_files(tmp_path: Path) -> None:
    command = [
        sys.executable,
        BENCHMARK,
        "--sizes",
        "1",
        "2",
        "--rounds",
        "2",
        "--folder",
        tmp_path,
    ]
    ended = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["rows"]
    assert [(row["what"], row["megabytes"]) for row in rows] == [
        (what, size) for size in (1, 2) for what in ("write", "restore")
    ]
    assert all(row["ours"]["median"] > 0 and row["ratio"] > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []
    table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert len({line.count("|") for line in table.splitlines()[:6]}) == 1
