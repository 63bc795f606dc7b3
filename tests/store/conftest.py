"""Stores to test, one per engine, and access to their databases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import ENGINES, new_url, store

from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.schema import COLLECTIONS, Collection, Field

__all__ = ["store"]  # a fixture

THINGS = Collection(
    "things",
    fields=(Field("t"), Field("u"), Field("n", "integer"), Field("m", "integer")),
    indexes=(("t",), ("n",)),
)


@pytest.fixture(scope="session", params=ENGINES)
def things_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A shared store with collections for tests, which clear what they use."""
    url = new_url(request.param, tmp_path_factory.mktemp("things"))
    store = Store(url, (*COLLECTIONS, THINGS))
    yield store
    store.close()


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path, empty=False)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return new_url("sqlite", tmp_path)


@pytest.fixture
def file_store(file_url: str) -> Iterator[Store]:
    store = Store(file_url)
    yield store
    store.close()


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def pragma(store: Store, name: str) -> Any:
    with store.snapshot() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@contextmanager
def record_statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are sent to the database, with their parameters."""
    sent: list[tuple[str, Any]] = []
    engine = store.engine

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", record)


Script = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]


@pytest.fixture
def process(tmp_path: Path) -> Script:
    """Run a Python script in a process of its own, with pipes."""

    @contextmanager
    def start(
        script: str, *arguments: str, command: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*command, sys.executable, "-W", "error", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            # Older versions of jupyter_core warn if this is not set.
            env={**os.environ, "JUPYTER_PLATFORM_DIRS": "1"},
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    return start


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process to end without an error; return the lines that it printed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.splitlines()


#: The beginning of scripts that fork.
FORKING = """
import multiprocessing, os, sys, threading
from jupyter_axon_notebooks.store import Document, Store, open_store

def insert(store, *ids):
    for id in ids:
        store.runs.insert(Document({"id": id}, id))

def hold(store):
    # Another thread writes in a transaction, which the returned function ends.
    began, stop = threading.Event(), threading.Event()

    def write():
        with store.transaction():
            insert(store, "thread")
            began.set()
            stop.wait()

    thread = threading.Thread(target=write)
    thread.start()
    began.wait()

    def end():
        stop.set()
        thread.join()

    return end

def in_child(act):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
        finally:
            os._exit(code)
    return child
"""
