"""Test of the history limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.factories import new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any], jp_data_dir: Path) -> dict[str, Any]:
    store = open_store(f"sqlite:///{jp_data_dir}/axon_notebooks/axon.db")
    repository = NotebookRepository(store)
    repository.create(new_notebook(id="nb", name="n"))
    for n in range(5):
        repository.update("nb", UpdateNotebook(cells=[NotebookCell(id="a", source=f"{n}")]))
    store.close()
    return {**jp_server_config, "AxonNotebooks": {"user_id": "ada", "history_limit": 2}}


async def test_a_server_removes_versions_over_the_limit(axon: Client) -> None:
    url = "/notebooks/nb/versions"
    while len(versions := (await axon.get(url)).json) > 2:
        pass
    read = [(await axon.get(f"{url}/{version['id']}")).json for version in versions]
    assert [[cell["source"] for cell in version["cells"]] for version in read] == [["4"], ["3"]]
