"""A server keeps the history that it is configured to keep."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from served import Client

from jupyter_axon_notebooks.records import NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any], jp_data_dir: Path) -> dict[str, Any]:
    store = open_store(f"sqlite:///{jp_data_dir}/axon_notebooks/axon.db")
    repository = NotebookRepository(store)
    repository.create(NewNotebook(id="nb", user_id="ada", name="n"))
    for n in range(5):
        repository.update("nb", UpdateNotebook(cells=[NotebookCell(id="a", source=f"{n}")]))
    store.close()
    return {**jp_server_config, "AxonNotebooks": {"user_id": "ada", "history_limit": 2}}


async def test_a_server_brings_history_down_to_its_limit(axon: Client) -> None:
    for _ in range(1500):
        versions = (await axon.get("/notebooks/nb/versions")).json
        if len(versions) == 2:
            break
        await asyncio.sleep(0.02)
    read = [(await axon.get(f"/notebooks/nb/versions/{version['id']}")).json for version in versions]
    assert [[cell["source"] for cell in version["cells"]] for version in read] == [["4"], ["3"]]
