"""A store with its folder of state files, opened by several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

from .engines import new_url


class Server(Protocol):
    """A database server that can be killed."""

    def crash(self) -> None:
        """Kill it."""

    def start(self) -> None:
        """Start it again, and return when it accepts connections."""


@dataclass(frozen=True)
class Site:
    """A store and a folder of state files."""

    url: str
    states_root: Path
    server: Server | None = None

    @contextmanager
    def open(self, *, clean: bool = True) -> Iterator[OpenSite]:
        """Open the store; with ``clean``, remove what killed processes left, as a server does at its start."""
        store = open_store(self.url)
        if clean and self.url.startswith("postgresql"):
            _wait_for_others(store)
        try:
            states = StateStorage(self.states_root, store_id=store.id)
            opened = OpenSite(store, NotebookRepository(store, states=states), states)
            if clean:
                opened.clean()
            yield opened
        finally:
            store.close()


def _wait_for_others(store: Store) -> None:
    """Wait until PostgreSQL has noticed that a killed client is gone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + 60
    with store.snapshot() as connection:
        while connection.exec_driver_sql(query).scalar_one():
            assert time.monotonic() < deadline, "another client still has the store open"
            connection.exec_driver_sql("SELECT pg_sleep(0.001), pg_stat_clear_snapshot()")


@dataclass(frozen=True)
class OpenSite:
    """An open store with its repository and state files."""

    store: Store
    repository: NotebookRepository
    states: StateStorage

    def clean(self) -> None:
        """Remove what killed processes left, however young it is."""
        report = sweep(self.states, self.repository.checkpoints.list_state_names, older_than=-1)
        assert not report.problems, report.problems
        for id in self.repository.garbage.list_staged():
            for _ in self.repository.garbage.remove_staged(id):
                pass


def new_site(engine: str, folder: Path, *, empty: bool = False) -> Site:
    """Return a store that nobody has opened yet, and a folder beside it."""
    return Site(new_url(engine, folder, empty=empty), folder / "states")
