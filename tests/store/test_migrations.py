"""An old store is migrated when it is opened: once, and completely or not at all."""

# ruff: noqa: PT012

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.engines import ON_DISK, new_url
from support.old_stores import create_old_store

from jupyter_axon_notebooks.errors import StoreTooNew
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery
from jupyter_axon_notebooks.store import Store, document_store, migrations
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

from .conftest import Script, finish

#: The migrations of a package two versions later; they call ``interrupt`` in the second step.
LATER = """
from jupyter_axon_notebooks.store import document_store, migrations

def later(interrupt=lambda: None):
    first, second = document_store.SCHEMA_VERSION, document_store.SCHEMA_VERSION + 1
    def rename(connection):
        connection.exec_driver_sql("ALTER TABLE axonml_runs ADD COLUMN colour TEXT")
        update = "UPDATE axonml_runs SET colour = 'red', document = '{\\"n\\":2}'"
        connection.exec_driver_sql(update)
    def index(connection):
        connection.exec_driver_sql("CREATE INDEX later ON axonml_runs (colour)")
        interrupt()
        connection.exec_driver_sql("CREATE TABLE steps (n INTEGER)")
    return {first: rename, second: index}, first + 2
"""
NEW_NAMES = {"colour", "later", "steps"}


@pytest.fixture(params=ON_DISK)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store of the present version with one document."""
    url = new_url(request.param, tmp_path_factory.mktemp("store"))
    store = Store(url)
    store.runs.insert({"n": 1})
    store.close()
    return url


@contextmanager
def upgraded_package(
    monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], None] = lambda: None
) -> Iterator[int]:
    """Replace this package by one two schema versions later; yield its schema version."""
    names: dict[str, Callable[..., tuple[dict[int, migrations.Step], int]]] = {}
    exec(LATER, names)
    steps, version = names["later"](interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", steps)
        patch.setattr(document_store, "SCHEMA_VERSION", version)
        yield version


def read_content(url: str) -> tuple[str, list[str], list[str]]:
    """Return the schema version, the documents, and which of the new names exist."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        version = connection.exec_driver_sql(
            "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        ).scalar_one()
        documents = connection.exec_driver_sql("SELECT document FROM axonml_runs").scalars().all()
        inspector = sa.inspect(connection)
        names = {column["name"] for column in inspector.get_columns("axonml_runs")}
        names |= {str(index["name"]) for index in inspector.get_indexes("axonml_runs")}
        names |= set(inspector.get_table_names())
    engine.dispose()
    return version, list(documents), sorted(names & NEW_NAMES)


BEFORE = (str(SCHEMA_VERSION), ['{"n":1}'], [])
MIGRATED = (str(SCHEMA_VERSION + 2), ['{"n":2}'], sorted(NEW_NAMES))


def test_an_old_store_is_migrated_step_by_step(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Store(url)
    with upgraded_package(monkeypatch):
        for _ in range(2):
            store = Store(url)
            assert store.id == before.id
            store.close()
        assert read_content(url) == MIGRATED
    before.close()
    with pytest.raises(StoreTooNew):
        Store(url)


def test_processes_of_the_old_version_can_still_read_but_not_write(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Store(url)
    with upgraded_package(monkeypatch):
        new = Store(url)
        with pytest.raises(StoreTooNew, match="upgrade jupyter-axon-notebooks"):
            old.runs.insert({"n": 4})
        with pytest.raises(StoreTooNew), old.transaction():
            old.runs.update({"n": 5}, [run.doc_id for run in old.runs.all()])
        new.runs.insert({"n": 6})
        assert [dict(run) for run in old.runs.all()] == [{"n": 2}, {"n": 6}]
        new.close()
    old.close()


def test_a_transaction_that_began_before_the_migration_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_url("postgresql", tmp_path, empty=False)
    old = Store(url)
    with upgraded_package(monkeypatch), pytest.raises(StoreTooNew), old.transaction():
        new = Store(url)
        old.runs.insert({"n": 3})
    assert new.runs.all() == []
    new.close()
    old.close()


@pytest.mark.parametrize("error", [RuntimeError("in the middle"), KeyboardInterrupt()])
def test_a_failed_step_leaves_the_store_unchanged(
    url: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with upgraded_package(monkeypatch, fail), pytest.raises(type(error)):
        Store(url)
    assert read_content(url) == BEFORE
    with upgraded_package(monkeypatch):
        Store(url).close()
    assert read_content(url) == MIGRATED


OPENING = (
    LATER
    + """
import sys
def interrupt():
    print("in the middle", flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.readline()
migrations.STEPS, document_store.SCHEMA_VERSION = later(interrupt)
print("ready", flush=True)
sys.stdin.readline()
print("open", document_store.Store(sys.argv[1]).id, flush=True)
"""
)


def test_a_killed_migration_leaves_the_store_unchanged(
    url: str, process: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(OPENING, url, "wait") as opener:
        opener.stdin.write("go\n")
        opener.stdin.flush()
        assert [opener.stdout.readline() for _ in range(2)] == ["ready\n", "in the middle\n"]
        opener.send_signal(signal.SIGKILL)
        assert opener.wait(30) == -signal.SIGKILL
    assert read_content(url) == BEFORE
    with upgraded_package(monkeypatch):
        Store(url).close()
    assert read_content(url) == MIGRATED


def test_one_of_several_concurrent_processes_migrates(url: str, process: Script) -> None:
    with ExitStack() as stack:
        openers = [stack.enter_context(process(OPENING, url, "go on")) for _ in range(3)]
        for opener in openers:
            assert opener.stdout.readline() == "ready\n"
        for opener in openers:
            opener.stdin.write("go\n")
            opener.stdin.flush()
        output = [line for opener in openers for line in finish(opener)]
    assert output.count("in the middle") == 1
    assert len({line for line in output if line.startswith("open")}) == 1
    assert len(output) == 4
    assert read_content(url) == MIGRATED


OPENING_OLD = """
import sys
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import migrations, open_store

def counted(number, step):
    def run(connection):
        print("step", number, flush=True)
        step(connection)
    return run

migrations.STEPS = {number: counted(number, step) for number, step in migrations.STEPS.items()}
print("ready", flush=True)
sys.stdin.readline()
repository = NotebookRepository(open_store(sys.argv[1]))
print("run", repository.runs.start("bound", config={"opener": 1}).number, flush=True)
"""


@pytest.mark.parametrize("engine", ON_DISK)
@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_processes_that_open_an_old_store_at_once_can_all_write(
    tmp_path: Path, process: Script, engine: str, version: int
) -> None:
    url = create_old_store(version, engine, tmp_path)
    with ExitStack() as stack:
        openers = [stack.enter_context(process(OPENING_OLD, url)) for _ in range(3)]
        for opener in openers:
            assert opener.stdout.readline() == "ready\n"
        for opener in openers:
            opener.stdin.write("go\n")
            opener.stdin.flush()
        output = sorted(line for opener in openers for line in finish(opener))
    steps = [f"step {number}" for number in range(version, SCHEMA_VERSION)]
    assert output == ["run 3", "run 4", "run 5", *steps]
    with closing(Store(url)) as store:
        runs = NotebookRepository(store).runs
        assert runs.search(RunQuery(where="config.opener == 1")).total == 3
        assert runs.search(RunQuery(where="loss.last == 0.5")).total == 1
