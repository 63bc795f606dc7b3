"""A store is dumped as JSON that plain TinyDB opens, and loaded as the same store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
import tinydb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import corpus
from support.dumps import counts, dump, everything, fill, is_clean, large, load, sums
from support.engines import ENGINES, ON_DISK, new_url
from support.factories import (
    check_contents,
    code,
    create_ids,
    new_checkpoint,
    new_notebook,
    saved,
    saved_file,
)
from tinydb.operations import delete

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.mapping import read_notebook
from jupyter_axon_notebooks.metrics import encode_nonfinite
from jupyter_axon_notebooks.records import NotebookStatus, RunStatus, TrainingNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(params=ENGINES)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Another store, to load into."""
    (tmp_path / "other").mkdir()
    opened = open_store(new_url(request.param, tmp_path / "other"))
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dump.json"


def test_a_loaded_dump_is_the_same_store_on_every_engine(
    store: Store, other: Store, file: Path
) -> None:
    fill(store)
    dumped = dump(store, file)
    loaded = load(other, file)
    assert is_clean(loaded)
    assert everything(other) == everything(store)
    check_contents(other)
    assert sums(dump(other, file.with_name("again.json"))) == sums(dumped)
    best = [NotebookRepository(one).get_best_checkpoint for one in (store, other)]
    for notebook_id in store.notebooks.ids(tinydb.Query().noop()):
        for name in ("loss", "val.loss"):
            assert best[0](notebook_id, name, True) == best[1](notebook_id, name, True)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    metrics=VALUES,
    extra=st.dictionaries(st.text(), VALUES, max_size=3),
    sources=st.lists(st.text()),
)
def test_whatever_documents_hold_survives(
    file: Path, metrics: object, extra: dict[str, object], sources: list[str]
) -> None:
    store, other = open_store("memory://"), open_store("memory://")
    cells = [
        code(f"c{at}", source, source, metadata=extra, count=at)
        for at, source in enumerate(sources)
    ]
    notebook = NotebookRepository(store).create(new_notebook(*cells, description=str(metrics)))
    NotebookRepository(store).create_checkpoint(
        new_checkpoint(notebook.id, encode_nonfinite(metrics)[0])
    )
    dump(store, file)
    assert is_clean(load(other, file))
    assert everything(other) == everything(store)


@pytest.mark.parametrize("name", corpus.notebooks())
def test_real_notebooks_survive(name: str, file: Path) -> None:
    store, other = open_store("memory://"), open_store("memory://")
    saved = saved_file(read_notebook(corpus.notebooks()[name].read_bytes()))
    id = NotebookRepository(store).create(new_notebook(path=f"/{name}", origin="here"), saved).id
    dump(store, file)
    assert is_clean(load(other, file))
    assert everything(other) == everything(store)
    ours, theirs = (NotebookRepository(one).find_by_id(id) for one in (store, other))
    assert ours is not None
    assert ours == theirs


def test_plain_tinydb_opens_searches_and_fills_a_dump(store: Store, file: Path) -> None:
    ids = fill(store)
    dump(store, file)
    with tinydb.TinyDB(file) as database:
        notebooks = database.table("axonml_notebooks")
        assert len(notebooks) == len(ids)
        for id in ids:
            found = notebooks.get(tinydb.where("id") == id)
            assert TrainingNotebook.from_json(found) == NotebookRepository(store).find_by_id(id)
        of_notebook = tinydb.where("notebook_id") == ids[0]
        assert len(database.table("axonml_checkpoints").search(of_notebook)) == 3
        assert notebooks.insert({"id": "new"}) == len(ids) + 1
        assert notebooks.get(tinydb.where("id") == "new").doc_id == len(ids) + 1


def test_runs_that_share_an_id_are_dumped_and_loaded_by_notebook(
    store: Store, other: Store, file: Path
) -> None:
    repository = NotebookRepository(store)
    create_ids(repository, "nb", "other")
    ended = {"nb": RunStatus.COMPLETED, "other": RunStatus.FAILED}
    for notebook_id, status in ended.items():
        repository.create_checkpoint(new_checkpoint(notebook_id, {"loss": 1}, run_id="baseline"))
        repository.runs.update_status(notebook_id, "baseline", status)
    dump(store, file)
    with closing(tinydb.TinyDB(file, access_mode="r")) as plain:
        runs = plain.table("axonml_runs").all()
        assert {run["notebook_id"]: run["id"] for run in runs} == {
            "nb": "baseline",
            "other": "baseline",
        }
        assert not any("axon_id" in run for run in runs)
    # What version 1 wrote, whose runs had ids of their own, differs in nothing but its number.
    text = file.read_text()
    file.write_text(text.replace(f'"schema_version":{SCHEMA_VERSION}', '"schema_version":1'))
    assert file.read_text() != text
    taken = NotebookRepository(other)
    create_ids(taken, "third")
    kept = taken.runs.start("third", id="baseline")
    for _ in range(2):
        assert is_clean(load(other, file))
        assert taken.runs.list("third") == [kept]
        for notebook_id in ended:
            run = taken.runs.get(notebook_id, "baseline")
            assert run == repository.runs.get(notebook_id, "baseline")
            assert taken.runs.list(notebook_id) == [run]


def test_a_run_that_differs_is_named_as_its_notebook_knows_it(store: Store, file: Path) -> None:
    repository = NotebookRepository(store)
    create_ids(repository, "nb")
    repository.runs.start("nb", id="baseline")
    dump(store, file)
    repository.runs.update_status("nb", "baseline", RunStatus.STOPPED)
    repository.update_status("nb", NotebookStatus.DRAFT)
    conflicts = load(store, file).conflicts
    assert ("axonml_runs", "baseline") in [(fault.table, fault.id) for fault in conflicts]


def test_what_tinydb_wrote_anew_is_still_the_dump(store: Store, file: Path) -> None:
    fill(store)
    dump(store, file)
    with tinydb.TinyDB(file) as database:
        database.insert({"mine": "a note"})
    other = open_store("memory://")
    loaded = load(other, file)
    assert loaded.about is not None
    assert is_clean(loaded)
    assert everything(other) == everything(store)


def test_some_notebooks_are_dumped_with_all_that_belongs_to_them(store: Store, file: Path) -> None:
    _, bound, _ = fill(store)
    dumped = dump(store, file, [bound])
    assert dumped.about.notebooks == [bound]
    assert dumped.state_files == 1
    other = open_store("memory://")
    assert is_clean(load(other, file))
    owners = {"axonml_notebooks": "id"}
    assert everything(other) == {
        name: {
            id: text
            for id, text in documents.items()
            if json.loads(text)[owners.get(name, "notebook_id")] == bound
        }
        for name, documents in everything(store).items()
    }


def test_loading_again_changes_nothing(store: Store, file: Path) -> None:
    fill(store)
    dump(store, file)
    before = everything(store)
    again = load(store, file)
    assert is_clean(again)
    assert all(added == replaced == 0 for added, _, replaced in counts(again).values())
    assert everything(store) == before


def test_a_dump_is_of_one_moment_while_others_write(store: Store, file: Path) -> None:
    repository = NotebookRepository(store)
    create_ids(repository, *(f"n{number}" for number in range(20)))
    writing, enough = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            for id in ("n0", "n19"):  # the first that is dumped, and the last
                repository.save(id, saved(code("c", str(number), str(number), count=1)))
            repository.create_checkpoint(new_checkpoint("n19", {"loss": number}))
            writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert writing.wait(30)
        for _ in range(3):
            dumped = dump(store, file)
            other = open_store("memory://")
            assert not dumped.damaged
            assert is_clean(load(other, file))
            check_contents(other)
    finally:
        enough.set()
        writer.join()


def test_a_notebook_that_cannot_be_read_is_dumped_without_its_cells_and_named(
    store: Store, file: Path
) -> None:
    first, second = fill(store)[:2]
    version = store.notebooks.get(doc_id=first)["version_id"]
    store.versions.remove(doc_ids=[version])
    dumped = dump(store, file)
    (fault,) = dumped.damaged
    assert (fault.table, fault.id) == ("axonml_notebooks", first)
    assert f"version {version} is missing" in fault.reason
    other = open_store("memory://")
    loaded = load(other, file)
    assert [one.id for one in loaded.damaged] == [first]
    assert not other.notebooks.contains(doc_id=first)
    assert NotebookRepository(other).find_by_id(second) is not None
    assert not other.checkpoints.count(tinydb.where("notebook_id") == first)


@pytest.mark.parametrize("text", ["{broken", "[1]", ""])
def test_documents_that_are_none_are_named_and_the_others_are_dumped(
    store: Store, file: Path, text: str
) -> None:
    first, second = fill(store)[:2]
    checkpoints = store.checkpoints.search(tinydb.where("notebook_id") == second)
    broken = {"axonml_notebooks": first, "axonml_checkpoints": checkpoints[0].doc_id}
    with store.transaction() as connection:
        for table, id in broken.items():
            damage = sa.text(f"UPDATE {table} SET document = :text WHERE id = :id")
            connection.execute(damage, {"text": text, "id": id})
    dumped = dump(store, file)
    assert {one.table: one.id for one in dumped.damaged} == broken
    assert all("it is not in the dump" in one.reason for one in dumped.damaged)
    other = open_store("memory://")
    load(other, file)
    assert NotebookRepository(other).find_by_id(second) == NotebookRepository(store).find_by_id(
        second
    )


@pytest.mark.parametrize("field", ["version_id", "cell_statuses", "id"])
def test_a_notebook_that_lacks_a_field_is_dumped_as_it_is_and_named(
    store: Store, file: Path, field: str
) -> None:
    first = fill(store)[0]
    store.notebooks.update(delete(field), doc_ids=[first])
    (fault,) = dump(store, file).damaged
    assert (fault.table, fault.id) == ("axonml_notebooks", first)
    assert f"notebook {first} is damaged in the store" in fault.reason
    assert field in fault.reason


def test_what_belongs_to_no_record_is_left_out(store: Store, file: Path) -> None:
    fill(store)
    store.contents.insert_new(
        tinydb.table.Document({"notebook_id": "gone", "ordinal": 0}, "gone/1")
    )
    dumped = dump(store, file)
    assert (dumped.orphans, dumped.damaged) == (1, [])
    assert is_clean(load(open_store("memory://"), file))


@pytest.mark.parametrize("engine", ON_DISK)
def test_two_loads_at_once_load_everything_once(engine: str, tmp_path: Path, file: Path) -> None:
    source = open_store("memory://")
    create_ids(NotebookRepository(source), *(f"n{number}" for number in range(30)))
    fill(source)
    dump(source, file)
    url = new_url(engine, tmp_path)
    stores = [open_store(url), open_store(url)]
    together = threading.Barrier(2)
    results = []

    def load_it(store: Store) -> None:
        together.wait()
        results.append(load(store, file))

    threads = [threading.Thread(target=load_it, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert all(map(is_clean, results))
    notebooks = [result.tables["axonml_notebooks"] for result in results]
    assert sum(one.added for one in notebooks) == sum(one.unchanged for one in notebooks) == 33
    assert everything(stores[0]) == everything(source)
    for store in stores:
        store.close()


_KILLED = """
import os, pathlib, signal, sys
import sqlalchemy as sa
from jupyter_axon_notebooks.repository.load import load_dump
from jupyter_axon_notebooks.repository.sorting import sort_dump
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.dumpfile import DumpFile

def load(url, last):
    sent = 0
    store = open_store(url)

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def count(*_):
        nonlocal sent
        sent += 1
        if sent == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with DumpFile(pathlib.Path(sys.argv[1])) as dump:
        load_dump(store, sort_dump(dump))
    return sent

sa.create_engine("postgresql+psycopg://")  # which imports what it takes
for asked in sys.stdin:
    last, url = asked.split()
    pid = os.fork()
    if pid == 0:
        print(load(url, int(last)), flush=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else "failed", flush=True)
"""


class Killed:
    """Loads a file in processes of their own, forked from one that has all the imports."""

    def __init__(self, file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, url: str, last: int) -> int:
        """How many statements it took; less than 0 is the signal that ended it, after the ``last`` one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(last, url, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.mark.parametrize("engine", ON_DISK)
@pytest.mark.parametrize("filling", [fill, large])
def test_a_load_that_was_killed_anywhere_is_run_again_and_ends_right(
    engine: str, filling: Callable[[Store], object], tmp_path: Path, file: Path
) -> None:
    source = open_store("memory://")
    filling(source)
    dump(source, file)
    in_turns = filling is large and engine == "sqlite"
    with closing(Killed(file)) as killed:
        statements = killed.load(new_url(engine, tmp_path, empty=False), 0)
        for number, last in enumerate(range(2, statements + 1, statements // 6)):
            (tmp_path / str(number)).mkdir()
            url = new_url(engine, tmp_path / str(number), empty=False)
            assert killed.load(url, last) == -signal.SIGKILL
            store = open_store(url)
            for notebook_id in store.notebooks.ids(
                tinydb.Query().noop()
            ):  # whoever is there is whole
                of_notebook = tinydb.where("notebook_id") == notebook_id
                whole = source.checkpoints.count(of_notebook)
                assert store.checkpoints.count(of_notebook) in (
                    range(1, whole + 1) if in_turns else [whole]
                )
                found = NotebookRepository(store).find_by_id(notebook_id)
                assert found == NotebookRepository(source).find_by_id(notebook_id)
            assert is_clean(load(store, file))
            assert everything(store) == everything(source)
            store.close()


def test_large_steps_are_dumped_as_upstream_reads_them_and_loaded_whole(
    store: Store, other: Store, file: Path
) -> None:
    repository = NotebookRepository(store)
    create_ids(repository, "nb")
    steps = [5_000_000_000, 6_000_000_000]
    for step in steps:
        repository.create_checkpoint(new_checkpoint("nb", epoch=0, step=step, run_id="r"))
    dump(store, file)
    with closing(tinydb.TinyDB(file)) as database:
        dumped = database.table("axonml_checkpoints").all()
    assert {one["step"] for one in dumped} == {2**32 - 1}
    assert is_clean(load(other, file))
    loaded = NotebookRepository(other)
    assert sorted(one.step for one in loaded.list_checkpoints("nb")) == steps
    with pytest.raises(Conflict):
        loaded.create_checkpoint(new_checkpoint("nb", epoch=0, step=steps[0], run_id="r"))
