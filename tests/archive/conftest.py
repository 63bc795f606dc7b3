"""Fixtures of the archive tests: a store to archive, one to load into, and a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import ON_DISK, new_url, store, store_url

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store

__all__ = ["store", "store_url"]  # fixtures


@pytest.fixture
def repository(store: Store) -> NotebookRepository:
    return NotebookRepository(store)


@pytest.fixture(params=ON_DISK)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store to load into."""
    (tmp_path / "target").mkdir()
    opened = open_store(new_url(request.param, tmp_path / "target"))
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Store:
    """An empty store to load into, in memory."""
    return open_store("memory://")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "archive.zip"
