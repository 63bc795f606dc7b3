"""Databases that several users share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from support.engines import NOT_DURABLE, PostgresqlServer
from support.shared_database import OpenRepository, SharedDatabase

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role


@pytest.fixture(scope="package")
def server() -> Iterator[PostgresqlServer]:
    """A separate server, since roles belong to the whole server and some need a password here."""
    server = PostgresqlServer(**NOT_DURABLE, log_statement="all")
    yield server
    server.close()


@pytest.fixture
def shared(server: PostgresqlServer) -> SharedDatabase:
    shared = SharedDatabase(server, server.new_database())
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users(
            [Role("alice", "alice"), Role("bob_role", "bob"), Role("boss", "the boss", admin=True)]
        )
    return shared


@pytest.fixture
def open_as(shared: SharedDatabase) -> Iterator[Callable[[str], Store]]:
    stores: list[Store] = []

    def open(role: str) -> Store:
        stores.append(Store(shared.url(role)))
        return stores[-1]

    yield open
    for store in stores:
        store.close()


@pytest.fixture
def repository_of(open_as: Callable[[str], Store]) -> OpenRepository:
    return lambda role: NotebookRepository(open_as(role))
