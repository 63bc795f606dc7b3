"""Test of the history limit."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client

from jupyter_axon_notebooks.background import BackgroundWork
from jupyter_axon_notebooks.records import NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the server has looked after its store."""
    look, done = BackgroundWork.run_once, threading.Event()

    def told(self: BackgroundWork) -> None:
        look(self)
        done.set()

    monkeypatch.setattr(BackgroundWork, "run_once", told)
    return done


@pytest.fixture
def jp_server_config(
    jp_server_config: dict[str, Any], jp_data_dir: Path, looked: threading.Event
) -> dict[str, Any]:
    store = open_store(f"sqlite:///{jp_data_dir}/axon_notebooks/axon.db")
    repository = NotebookRepository(store)
    repository.create(NewNotebook(id="nb", user_id="ada", name="n"))
    for n in range(5):
        repository.update("nb", UpdateNotebook(cells=[NotebookCell(id="a", source=f"{n}")]))
    store.close()
    return {**jp_server_config, "AxonNotebooks": {"user_id": "ada", "history_limit": 2}}


async def test_a_server_removes_versions_over_the_limit(
    axon: Client, looked: threading.Event
) -> None:
    assert await asyncio.to_thread(looked.wait, 30)
    versions = (await axon.get("/notebooks/nb/versions")).json
    read = [
        (await axon.get(f"/notebooks/nb/versions/{version['id']}")).json for version in versions
    ]
    assert [[cell["source"] for cell in version["cells"]] for version in read] == [["4"], ["3"]]
