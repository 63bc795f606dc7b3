"""Tests of loaded records with unusual ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from support.factories import new_checkpoint, new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

#: Ids that name no folder.
IDS = ["a/b", "..", "a:b", "x" * 5000, "\x1b[31m", "\u202e/.."]


@pytest.fixture
def loaded(axon: Client, data: Path) -> Iterator[NotebookRepository]:
    """The server's repository, opened beside it, with state files of another record."""
    other = data / "axon_notebooks" / "states" / "other" / "c"
    other.mkdir(parents=True)
    (other / "model.bin").write_bytes(b"weights")
    store = open_store(f"sqlite:///{data}/axon_notebooks/axon.db")
    yield NotebookRepository(store)
    store.close()


@pytest.mark.parametrize("id", IDS, ids=lambda text: ascii(text)[:20])
async def test_records_with_any_id_are_deleted(
    axon: Client, loaded: NotebookRepository, data: Path, id: str
) -> None:
    loaded.create(new_notebook(id=id, name="loaded"))
    for one in (id, f"{id}2"):
        loaded.create_checkpoint(new_checkpoint(id, id=one, epoch=len(one)))
    before = sorted((data / "axon_notebooks" / "states").rglob("*"))
    url = f"/notebooks/{quote(id, safe='')}"
    checkpoint = f"{url}/checkpoints/{quote(id, safe='')}"
    assert (await axon.get(checkpoint)).status == 200
    assert (await axon.delete(checkpoint)).status == 204
    assert (await axon.get(checkpoint)).status == 404
    assert (await axon.delete(checkpoint)).status == 404
    assert (await axon.delete(url)).status == 204
    assert (await axon.get(url)).status == 404
    assert loaded.get_checkpoint(f"{id}2") is None
    assert sorted((data / "axon_notebooks" / "states").rglob("*")) == before


@pytest.mark.parametrize("id", ["..", "a:b"])
async def test_records_whose_id_is_no_folder_name_take_no_states(
    axon: Client, loaded: NotebookRepository, id: str
) -> None:
    loaded.create(new_notebook(id=id, name="loaded"))
    url = f"/notebooks/{quote(id, safe='')}/checkpoints"
    refused = await axon.post(
        url, {"epoch": 0, "step": 0, "metrics": {}, "model_state_base64": "AAAA"}
    )
    assert (refused.status, "cannot name a folder" in refused.message) == (400, True)
    assert (await axon.get(url)).json == []
