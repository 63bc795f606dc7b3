"""A repository to test, one per engine.

After each test, the ``repository`` fixture checks that the store is consistent.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.engines import store, store_url
from support.factories import RecordedStates, check_contents

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

__all__ = ["store", "store_url"]  # fixtures


@pytest.fixture
def states(store: Store) -> RecordedStates:
    return RecordedStates(store)


@pytest.fixture
def repository(store: Store, states: RecordedStates) -> Iterator[NotebookRepository]:
    yield NotebookRepository(store, states=states)
    check_contents(store)
