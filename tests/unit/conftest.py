"""Fixtures for the notebook API in this process, with a store and state files of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.training import api, distributed
from jupyter_axon_notebooks.training.discovery import location
from jupyter_axon_notebooks.training.session import end_session


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook file with one cell."""
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": "train()",
    }
    file = tmp_path / "digits.ipynb"
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def axon(tmp_path: Path, notebook: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The notebook API in a process that has just begun to train ``notebook``."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AXON_NOTEBOOK", str(notebook))
    monkeypatch.setenv("AXON_USER", "ada")
    for name in ("AXON_STORE_URL", "AXON_STATES_ROOT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    end_session()
    distributed.print_once.cache_clear()
    yield api
    end_session()
    location.use(None)  # which `use` has set


@pytest.fixture
def restart(axon: Any) -> Callable[..., None]:
    """A function that ends the session like the end of the process; takes a status for runs."""
    return end_session


@pytest.fixture
def unavailable_store(
    axon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Make the store unavailable; the function makes it available."""
    folder = tmp_path / "stores"
    folder.touch()
    monkeypatch.setenv("AXON_STORE_URL", f"sqlite:///{folder}/axon.db")

    def make_available() -> None:
        folder.unlink()
        folder.mkdir(exist_ok=True)  # the thread that stores rows may be faster

    return make_available


@pytest.fixture
def records(axon: Any, tmp_path: Path) -> Iterator[NotebookRepository]:
    """The records of the trainings."""
    folder = tmp_path / "data" / "axon_notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{folder}/axon.db")
    yield NotebookRepository(store, states=StateStorage(folder / "states"))
    store.close()
