"""The notebook API, in this process, on a store and a folder of state files of its own."""

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
from jupyter_axon_notebooks.training.session import end_session


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": "train()",
    }
    file = tmp_path / "digits.ipynb"
    file.write_text(
        json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return file


@pytest.fixture
def axon(tmp_path: Path, notebook: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The API, as a process that has just begun to train ``notebook`` meets it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AXON_NOTEBOOK", str(notebook))
    monkeypatch.setenv("AXON_USER", "ada")
    for name in ("AXON_STORE_URL", "AXON_STATES_ROOT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    end_session()
    monkeypatch.setattr(distributed, "_said", set())
    yield api
    end_session()


@pytest.fixture
def anew(axon: Any) -> Callable[..., None]:
    """Lets another process go on, as far as the API can tell."""

    return end_session


@pytest.fixture
def records(axon: Any, tmp_path: Path) -> Iterator[NotebookRepository]:
    folder = tmp_path / "data" / "axon_notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{folder}/axon.db")
    yield NotebookRepository(store, states=StateStorage(folder / "states"))
    store.close()
