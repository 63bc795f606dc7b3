"""A store on PostgreSQL to test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import new_url

from jupyter_axon_notebooks.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_url("postgresql", tmp_path, empty=False)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()
