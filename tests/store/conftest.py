"""Stores to test, one per engine, and what can be asked of them behind their back."""

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
from support.engines import ENGINES, new_url, store, store_url

from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.schema import COLLECTIONS, Collection, Field

__all__ = ["store", "store_url"]  # fixtures

THINGS = Collection(
    "things",
    fields=(Field("t"), Field("u"), Field("n", "integer"), Field("m", "integer")),
    indexes=(("t",), ("n",)),
)
OTHERS = Collection("others")


@pytest.fixture(scope="session", params=ENGINES)
def things_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with a collection of the tests' own. It is shared: a test clears what it uses."""
    url = new_url(request.param, tmp_path_factory.mktemp("things"))
    opened = Store(url, (*COLLECTIONS, THINGS, OTHERS))
    yield opened
    opened.close()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return new_url("sqlite", tmp_path)


@pytest.fixture
def file_store(file_url: str) -> Iterator[Store]:
    opened = Store(file_url)
    yield opened
    opened.close()


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """The statements, each with its parameters, that are sent to the engine inside."""
    sent: list[tuple[str, Any]] = []
    engine = store._database.engine

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


Script = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def process(tmp_path: Path) -> Script:
    """Start a Python script as a process of its own, with pipes to talk to it."""

    @contextmanager
    def started(
        script: str, *arguments: str, command: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        running = subprocess.Popen(
            [*command, sys.executable, "-W", "error", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "JUPYTER_PLATFORM_DIRS": "1",
            },  # of which older packages warn those who do not say
        )
        with running:
            try:
                yield running
            finally:
                running.kill()

    return started


def finished(running: subprocess.Popen[str]) -> list[str]:
    """The lines a process wrote, once it has ended without an error."""
    output, complaint = running.communicate()
    assert running.returncode == 0, complaint
    return output.splitlines()


#: What a script begins with that forks.
FORKING = """
import multiprocessing, os, sys, threading
from jupyter_axon_notebooks.store import Document, Store, open_store

def insert(store, *ids):
    for id in ids:
        store.runs.insert(Document({"id": id}, id))

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
