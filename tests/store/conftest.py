"""Stores to test, one per engine.

:func:`new_url` is the only place that knows how an engine is had; a test that takes ``store`` or ``store_url`` runs
on all of :data:`ENGINES`, one that takes ``file_store`` is about files.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.schema import COLLECTIONS, Collection, Field

ENGINES = ("sqlite", "memory")

THINGS = Collection(
    "things",
    fields=(Field("t"), Field("u"), Field("n", "integer"), Field("m", "integer")),
    indexes=(("t",), ("n",)),
)
OTHERS = Collection("others")


def new_url(engine: str, folder: Path) -> str:
    """The URL of a store that does not exist yet."""
    return "memory://" if engine == "memory" else f"sqlite:///{folder}/axon.db"


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session", params=ENGINES)
def things_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
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
    def started(script: str, *arguments: str, command: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        running = subprocess.Popen(
            [*command, sys.executable, "-W", "error", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
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
