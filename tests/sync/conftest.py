"""A store and a running synchronization."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sync import StoreSession, create_sync

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import NotebookSync


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[NotebookRepository]:
    store = open_store(f"sqlite:///{tmp_path}/store/axon.db")
    yield NotebookRepository(store)
    store.close()


@pytest.fixture
def sync(repository: NotebookRepository) -> Iterator[NotebookSync[StoreSession]]:
    sync = create_sync(repository)
    sync.start()
    sync.drain()
    yield sync
    assert sync.stop()
