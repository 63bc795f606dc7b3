"""Fixtures: a data folder, a notebook that trains, and processes that train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.distributed import LAUNCHER, ProcessLauncher

from jupyter_axon_notebooks.training import api
from jupyter_axon_notebooks.training.session import end_session


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return Jupyter's data folder, which has the signing key."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    for name in ("AXON_DATA_DIR", "AXON_STORE_URL", "AXON_STATES_ROOT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


@pytest.fixture
def axon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the API in a process that trains a notebook."""
    file = tmp_path / "training.ipynb"
    file.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    monkeypatch.setenv("AXON_NOTEBOOK", str(file))
    monkeypatch.setenv("AXON_USER", "ada")
    end_session()
    yield api
    end_session()


@pytest.fixture
def resume(axon: Any) -> Callable[..., Any]:
    """Return a function that resumes from the latest checkpoint, whatever its run's status."""

    return lambda *args, **options: axon.resume(*args, checkpoint=axon.latest(), **options)


@pytest.fixture(scope="session")
def launcher_process() -> Iterator[subprocess.Popen[str]]:
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
def launcher(launcher_process: subprocess.Popen[str], tmp_path: Path) -> ProcessLauncher:
    (tmp_path / "train.py").write_text("")
    return ProcessLauncher(launcher_process, tmp_path)
