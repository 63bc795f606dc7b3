"""A repository to test, one per engine.

Whatever a test does, it must leave a store in which every content is listed by a version and every version that a
record or a checkpoint refers to is there: the ``repository`` fixture looks when the test is done.
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
