"""A repository to test, one per engine.

Whatever a test does, it must leave a store in which every content is listed by a version and every version that a
record or a checkpoint refers to is there: the ``repository`` fixture looks when the test is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made import RecordedStates, check_contents

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store

ENGINES = ("sqlite", "memory")


def new_url(engine: str, folder: Path) -> str:
    """The URL of a store that does not exist yet."""
    return "memory://" if engine == "memory" else f"sqlite:///{folder}/axon.db"


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def states(store: Store) -> RecordedStates:
    return RecordedStates(store)


@pytest.fixture
def repository(store: Store, states: RecordedStates) -> Iterator[NotebookRepository]:
    yield NotebookRepository(store, states=states)
    check_contents(store)
