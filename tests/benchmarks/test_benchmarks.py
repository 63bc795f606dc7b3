"""The benchmarks run. What they measure is for a quiet machine to say."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.engines import postgresql

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that a PostgreSQL server with a user of its own can read."""
    with tempfile.TemporaryDirectory(prefix="axon-benchmarks-") as made:
        yield Path(made)


def run(script: str, *options: str | Path, folder: Path) -> str:
    command = [
        sys.executable,
        BENCHMARKS / f"{script}.py",
        "--rounds",
        "2",
        "--folder",
        folder,
        *options,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def on_both(script: str, *options: str | Path, folder: Path) -> Any:
    """Return the JSON that it prints, measured on both engines."""
    url = postgresql().url("postgres")
    return json.loads(run(script, "--url", url, "--json", *options, folder=folder))


def databases_there() -> list[str]:
    with closing(postgresql().connect()) as connection:
        return [
            name
            for (name,) in connection.execute("SELECT datname FROM pg_database ORDER BY datname")
        ]


@pytest.mark.parametrize(
    ("script", "options", "rows"),
    [
        ("register", ("--sizes", "20", "30"), 3),
        ("best", ("--sizes", "20", "30"), 8),
        ("listing", ("--sizes", "20", "30"), 10),
        ("beside_mlflow", ("--sizes", "20", "--without-mlflow"), 4),
        ("runs", ("--sizes", "20", "--without-mlflow"), 21),
    ],
)
def test_a_benchmark_measures_both_engines_and_leaves_nothing_behind(
    script: str, options: tuple[str, ...], rows: int, folder: Path
) -> None:
    before = databases_there()
    measured = on_both(script, *options, folder=folder)["rows"]
    assert [row["engine"] for row in measured].count("sqlite") == rows
    assert [row["engine"] for row in measured].count("postgresql") == rows
    assert all(row["ours"]["rounds"] >= 1 and row["ours"]["median"] > 0 for row in measured)
    assert list(folder.iterdir()) == []
    assert databases_there() == before


def test_memory_is_that_of_a_server_beside_one_without_the_extension(folder: Path) -> None:
    measured = on_both("memory", "--sizes", "20", "--rounds", "1", folder=folder)["rows"]
    assert len(measured) == 6
    assert all(row["ours"]["pss"] > row["bare"]["pss"] > 0 for row in measured)
    assert all(row["more"] == row["ours"]["pss"] - row["bare"]["pss"] for row in measured)


def test_saves_are_measured_in_a_server_of_their_own(folder: Path) -> None:
    measured = json.loads(run("saves", "--sizes", "20", "60", "--json", folder=folder))
    assert list(measured["sizes"]) == ["20", "60"]
    for size, seen in measured["sizes"].items():
        assert seen["bytes"] >= int(size) * 1000
        assert seen["save"]["rounds"] == 2
        assert min(seen[name]["median"] for name in ("hooks", "emit", "listener", "worker")) > 0
    assert 1 <= measured["storm"]["written"] <= measured["storm"]["saves"]
    assert list(folder.iterdir()) == []


def test_the_panel_is_measured_in_a_browser(folder: Path) -> None:
    measured = json.loads(run("panel", "--checkpoints", "20", "--json", folder=folder))
    opening, *others = measured["rows"]
    assert all(row["ours"]["median"] > 0 for row in [opening, *others])
    assert [row["is_met"] is None for row in measured["rows"]] == [True, False, True, False]
    assert measured["bundle"] < 150_000
    assert list(folder.iterdir()) == []


def test_checkpoints_are_measured_one_by_one_and_in_new_processes(folder: Path) -> None:
    measured = json.loads(
        run("checkpointing", "--processes", "1", "--beside", "--json", "-", folder=folder)
    )["rows"]
    assert len(measured) == 7
    assert all(row["timed"]["median"] > 0 for row in measured)
    assert list(folder.iterdir()) == []


def test_logging_is_timed_and_loses_nothing_by_a_kill(folder: Path) -> None:
    options = ["--rows", "50", "--kill-after", "50", "--beside", "--json"]
    measured = json.loads(run("log", *options, folder=folder))
    assert [row["by"] for row in measured["rows"]] == ["JSON lines", "axon"] * 2
    assert all(row["p99"] >= row["median"] > 0 and row["rate"] > 0 for row in measured["rows"])
    assert [kill["by"] for kill in measured["kills"]] == ["JSON lines", "axon"]
    assert all(kill["acknowledged"] >= 50 and not kill["lost"] for kill in measured["kills"])
    assert list(folder.iterdir()) == []


def test_a_series_is_logged_and_read_back_on_both_engines(folder: Path) -> None:
    measured = on_both("series", "--sizes", "3000", folder=folder)["rows"]
    assert [row["engine"] for row in measured] == ["sqlite", "postgresql"]
    assert all(row["stored"] >= row["logged"] > 0 and row["read"] > 0 for row in measured)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "options", "lines"),
    [
        ("crash", ["--kills", "3"], 3),
        ("concurrency", ["--processes", "2", "--operations", "10", "--engines", "sqlite"], 1),
    ],
)
def test_a_suite_runs_for_longer_and_leaves_nothing_behind(
    script: str, options: list[str], lines: int, tmp_path: Path
) -> None:
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--folder", tmp_path, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    table = [line for line in ended.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + lines
    assert len({line.count("|") for line in table}) == 1
    assert list(tmp_path.iterdir()) == []
