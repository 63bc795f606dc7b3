"""What starts the processes of trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import LAUNCHER, Nodes


@pytest.fixture(scope="session")
def launcher() -> Iterator[subprocess.Popen[str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AXON_")}
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**env, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def nodes(launcher: subprocess.Popen[str], tmp_path: Path) -> Nodes:
    (tmp_path / "train.py").write_text("")
    return Nodes(launcher, tmp_path)
