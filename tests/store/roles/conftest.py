"""A server whose databases users share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from support.engines import FORGETFUL, PostgresqlServer
from support.shared_database import Opener, Shared

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role


@pytest.fixture(scope="package")
def server() -> Iterator[PostgresqlServer]:
    """A server of its own: roles belong to all of its databases, and here some need a password."""
    server = PostgresqlServer(**FORGETFUL, log_statement="all")
    yield server
    server.close()


@pytest.fixture
def shared(server: PostgresqlServer) -> Shared:
    shared = Shared(server, server.new_database())
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users(
            [Role("alice", "alice"), Role("bob_role", "bob"), Role("boss", "the boss", admin=True)]
        )
    return shared


@pytest.fixture
def opened(shared: Shared) -> Iterator[Callable[[str], Store]]:
    stores: list[Store] = []

    def open(role: str) -> Store:
        stores.append(Store(shared.url(role)))
        return stores[-1]

    yield open
    for store in stores:
        store.close()


@pytest.fixture
def acting_as(opened: Callable[[str], Store]) -> Opener:
    return lambda role: NotebookRepository(opened(role))
