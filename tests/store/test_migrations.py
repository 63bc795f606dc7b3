"""An older store is brought up to date when it is opened: once, whole, or not at all."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.engines import new_url

from jupyter_axon_notebooks.errors import StoreError, StoreTooNew
from jupyter_axon_notebooks.store import Store, migrations
from jupyter_axon_notebooks.store import document_store as store_package
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

from .conftest import Script, finished

ENGINES = ("sqlite", "postgresql")  # what is in memory is never older than the process

#: A package of two versions later, for this process and others; ``interrupt`` is called in the middle.
LATER = """
from jupyter_axon_notebooks.store import document_store as store
from jupyter_axon_notebooks.store import migrations

def later(interrupt=lambda: None):
    first, second = store.SCHEMA_VERSION, store.SCHEMA_VERSION + 1
    def rename(connection):
        connection.exec_driver_sql("ALTER TABLE axonml_runs ADD COLUMN colour TEXT")
        connection.exec_driver_sql("UPDATE axonml_runs SET colour = 'red', document = '{\\"n\\":2}'")
    def index(connection):
        connection.exec_driver_sql("CREATE INDEX later ON axonml_runs (colour)")
        interrupt()
        connection.exec_driver_sql("CREATE TABLE steps (n INTEGER)")
    return {first: rename, second: index}, first + 2
"""


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of today's with one document in it."""
    made = new_url(request.param, tmp_path_factory.mktemp("store"))
    store = Store(made)
    store.runs.insert({"n": 1})
    store.close()
    return made


@contextmanager
def later(
    monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], None] = lambda: None
) -> Iterator[int]:
    """Two schema versions later; gives the version then."""
    made: dict[str, Callable[..., tuple[dict[int, migrations.Step], int]]] = {}
    exec(LATER, made)
    steps, version = made["later"](interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", steps)
        patch.setattr(store_package, "SCHEMA_VERSION", version)
        yield version


def found(url: str) -> tuple[str, list[dict[str, int]], list[str]]:
    """The schema version, the documents and the tables and columns that a store has, as they are."""
    store = Store.__new__(Store)
    store._schema = store_package.Schema()
    store._database = store_package.Database(url)
    store.documents = store_package.DocumentDB(
        store._database, store._schema, storage=store_package.SqlStorage
    )
    with store.snapshot() as connection:
        version = store._read_properties(connection)["schema_version"]
        inspector = sa.inspect(connection)
        columns = [column["name"] for column in inspector.get_columns("axonml_runs")]
        indexes = [str(index["name"]) for index in inspector.get_indexes("axonml_runs")]
        tables = inspector.get_table_names()
    documents = [dict(run) for run in store.runs]
    store.close()
    return version, documents, sorted({*columns, *indexes, *tables} & {"colour", "later", "steps"})


AS_IT_WAS = (str(SCHEMA_VERSION), [{"n": 1}], [])
MIGRATED = (str(SCHEMA_VERSION + 2), [{"n": 2}], ["colour", "later", "steps"])


def test_an_older_store_is_brought_up_to_date_step_by_step(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Store(url)
    with later(monkeypatch):
        for _ in range(2):
            store = Store(url)
            assert store.id == before.id
            store.close()
        assert found(url) == MIGRATED
    before.close()
    with pytest.raises(StoreTooNew):
        Store(url)


def test_whoever_had_it_open_before_can_read_it_and_write_no_more(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Store(url)
    before.runs.insert({"n": 3})
    with later(monkeypatch):
        store = Store(url)
        with pytest.raises(StoreTooNew, match="upgrade jupyter-axon-notebooks"):
            before.runs.insert({"n": 4})
        with (
            pytest.raises(StoreTooNew, match="upgrade jupyter-axon-notebooks"),
            before.transaction(),
        ):
            before.runs.update({"n": 5})
        store.runs.insert({"n": 6})
        assert [dict(run) for run in before.runs] == [{"n": 2}, {"n": 2}, {"n": 6}]
        store.close()
    before.close()


def test_a_unit_that_was_begun_before_is_there_before_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_url("postgresql", tmp_path, empty=False)
    before = Store(url)
    with (
        later(monkeypatch),
        pytest.raises(StoreTooNew, match="upgrade jupyter-axon-notebooks"),
        before.transaction(),
    ):
        migrated = Store(url)
        before.runs.insert({"n": 3})
    assert migrated.runs.all() == []
    migrated.close()
    before.close()


@pytest.mark.parametrize("error", [RuntimeError("in the middle"), KeyboardInterrupt()])
def test_a_step_that_fails_leaves_the_store_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with later(monkeypatch, fail), pytest.raises(type(error)):
        Store(url)
    assert found(url) == AS_IT_WAS
    with later(monkeypatch):
        Store(url).close()
        assert found(url) == MIGRATED


def test_a_step_that_sql_refuses_leaves_the_store_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with later(monkeypatch) as version:
        steps = {**migrations.STEPS, version - 1: lambda c: c.exec_driver_sql("DROP TABLE nowhere")}
        with monkeypatch.context() as patch:  # undone before what it lies on is
            patch.setattr(migrations, "STEPS", steps)
            with pytest.raises(StoreError, match="nowhere"):
                Store(url)
    assert found(url) == AS_IT_WAS


OPENING = (
    LATER
    + """
import os, sys
def interrupt():
    print("in the middle", flush=True)
    sys.stdin.readline()
migrations.STEPS, store.SCHEMA_VERSION = later(interrupt)
print("open", store.Store(sys.argv[1]).id, flush=True)
"""
)


def test_a_process_killed_in_the_middle_leaves_the_store_as_it_was(
    url: str, process: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(OPENING, url) as running:
        assert running.stdout.readline() == "in the middle\n"
        running.send_signal(signal.SIGKILL)
        assert running.wait(30) == -signal.SIGKILL
    assert found(url) == AS_IT_WAS
    with later(monkeypatch):
        Store(url).close()
        assert found(url) == MIGRATED


AT_ONCE = (
    LATER
    + """
import sys
migrations.STEPS, store.SCHEMA_VERSION = later(lambda: print("migrated", flush=True))
print("ready", flush=True)
sys.stdin.readline()
print("open", store.Store(sys.argv[1]).id)
"""
)


def test_of_processes_that_open_it_at_once_one_does_the_work(
    url: str, process: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as running:
        openers = [running.enter_context(process(AT_ONCE, url)) for _ in range(3)]
        for opener in openers:
            assert opener.stdout.readline() == "ready\n"
        for opener in openers:
            opener.stdin.write("go\n")
            opener.stdin.flush()
        said = [line for opener in openers for line in finished(opener)]
    assert said.count("migrated") == 1
    assert len({line for line in said if line.startswith("open")}) == 1
    assert len(said) == 4
    with later(monkeypatch):
        assert found(url) == MIGRATED
