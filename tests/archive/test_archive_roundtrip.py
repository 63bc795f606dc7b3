"""A store is archived, and loaded as the same store."""

from __future__ import annotations

import json
import math
import threading
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import tinydb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.archives import (
    archive_store,
    changed_counts,
    fill_store,
    load_file,
    read_all_documents,
    unpack_records,
)
from support.factories import (
    check_contents,
    code,
    create_notebooks,
    new_checkpoint,
    new_notebook,
    new_save,
)

from jupyter_axon_notebooks.archive.format import MANIFEST_TABLE, RECORDS, TABLES, TableSummary
from jupyter_axon_notebooks.metrics import encode_nonfinite
from jupyter_axon_notebooks.records import RunStatus, TrainingNotebook, TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.store.schema import RUNS

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_a_loaded_archive_is_the_same_store_on_every_engine(
    store: Store, target: Store, file: Path
) -> None:
    fill_store(store)
    summary = archive_store(store, file)
    report = load_file(target, file)
    assert report.problems == []
    assert read_all_documents(target) == read_all_documents(store)
    check_contents(target)
    again = archive_store(target, file.with_name("again.zip"))
    assert again.manifest.tables == summary.manifest.tables
    best = [NotebookRepository(one).get_best_checkpoint for one in (store, target)]
    for notebook_id in store.notebooks.ids(tinydb.Query().noop()):
        for name in ("loss", "val.loss"):
            assert best[0](notebook_id, name, True) == best[1](notebook_id, name, True)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    metrics=VALUES,
    extra=st.dictionaries(st.text(), VALUES, max_size=3),
    sources=st.lists(st.text()),
)
def test_any_content_survives(
    file: Path, metrics: object, extra: dict[str, object], sources: list[str]
) -> None:
    source, target = open_store("memory://"), open_store("memory://")
    cells = [
        code(f"c{at}", text, text, metadata=extra, count=at) for at, text in enumerate(sources)
    ]
    repository = NotebookRepository(source)
    notebook = repository.create(new_notebook(*cells, description=str(metrics)))
    repository.create_checkpoint(new_checkpoint(notebook.id, encode_nonfinite(metrics)[0]))
    archive_store(source, file)
    assert load_file(target, file).problems == []
    assert read_all_documents(target) == read_all_documents(source)


def test_plain_tinydb_opens_the_records(store: Store, file: Path, tmp_path: Path) -> None:
    ids = fill_store(store)
    archive_store(store, file)
    with zipfile.ZipFile(file) as archive:
        archive.extract(RECORDS, tmp_path)
    with tinydb.TinyDB(tmp_path / RECORDS) as database:
        notebooks = database.table("axonml_notebooks")
        assert len(notebooks) == len(ids)
        for id in ids:
            found = notebooks.get(tinydb.where("id") == id)
            assert TrainingNotebook.from_json(found) == NotebookRepository(store).find_by_id(id)
        of_notebook = tinydb.where("notebook_id") == ids[0]
        assert len(database.table("axonml_checkpoints").search(of_notebook)) == 3
        assert notebooks.insert({"id": "new"}) == len(ids) + 1


def test_some_notebooks_are_archived_with_everything_that_belongs_to_them(
    store: Store, file: Path, memory: Store
) -> None:
    _, bound, _ = fill_store(store)
    summary = archive_store(store, file, notebook_ids=[bound])
    assert (summary.manifest.notebooks, summary.state_files) == ([bound], 1)
    assert load_file(memory, file).problems == []
    assert read_all_documents(memory) == {
        name: {
            id: text
            for id, text in documents.items()
            if bound in (json.loads(text).get("notebook_id"), json.loads(text).get("id"))
        }
        for name, documents in read_all_documents(store).items()
    }


def test_an_archive_is_of_one_moment_while_others_write(store: Store, file: Path) -> None:
    repository = NotebookRepository(store)
    create_notebooks(repository, *(f"n{number}" for number in range(20)))
    writing, enough = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            for id in ("n0", "n19"):  # the first that is archived, and the last
                repository.save(id, new_save(code("c", str(number), str(number), count=1)))
            repository.create_checkpoint(new_checkpoint("n19", {"loss": number}))
            writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert writing.wait(30)
        for _ in range(3):
            assert archive_store(store, file).problems == []
            with closing(open_store("memory://")) as target:
                assert load_file(target, file).problems == []
                check_contents(target)
    finally:
        enough.set()
        writer.join()


def test_a_notebook_that_cannot_be_read_is_archived_without_its_cells_and_reported(
    store: Store, file: Path, memory: Store
) -> None:
    first, second = fill_store(store)[:2]
    version = store.notebooks.get(doc_id=first)["version_id"]
    store.versions.remove(doc_ids=[version])
    [problem] = archive_store(store, file).problems
    assert (problem.table, problem.id) == ("axonml_notebooks", first)
    assert f"version {version} is missing" in problem.reason
    assert [one.id for one in load_file(memory, file).problems] == [first]
    assert not memory.notebooks.contains(doc_id=first)
    assert NotebookRepository(memory).find_by_id(second) is not None
    assert not memory.checkpoints.count(tinydb.where("notebook_id") == first)


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_dump_of_an_earlier_version_is_loaded_and_verified(
    store: Store, target: Store, file: Path, rewritten: bool
) -> None:
    fill_store(store)
    archive_store(store, file)
    unpack_records(file, manifest=True)
    if rewritten:
        with tinydb.TinyDB(file) as database:
            database.insert({"mine": "a note"})
    assert load_file(target, file).problems == []
    assert read_all_documents(target) == read_all_documents(store)


def test_some_runs_are_archived_with_their_checkpoints(
    store: Store, file: Path, memory: Store
) -> None:
    repository = NotebookRepository(store)
    create_notebooks(repository, "nb")
    for run_id in ("one", "two"):
        repository.create_checkpoint(new_checkpoint("nb", run_id=run_id, id=f"c {run_id}"))
    archive_store(store, file, notebook_ids=["nb"], run_ids=["two"])
    assert load_file(memory, file).problems == []
    loaded = NotebookRepository(memory)
    assert [run.id for run in loaded.runs.list("nb")] == ["two"]
    assert [one.id for one in loaded.list_checkpoints("nb")] == ["c two"]
    check_contents(memory)


def test_loading_again_changes_nothing(store: Store, file: Path) -> None:
    fill_store(store)
    archive_store(store, file)
    before = read_all_documents(store)
    again = load_file(store, file)
    assert again.problems == []
    assert all(added == replaced == 0 for added, _, replaced in changed_counts(again).values())
    assert read_all_documents(store) == before


def test_documents_of_no_record_are_left_out_and_counted(store: Store, file: Path) -> None:
    fill_store(store)
    store.contents.insert({"notebook_id": "nobody", "ordinal": 0, "content": {}})
    store.runs.insert({"id": "r"})
    summary = archive_store(store, file)
    assert summary.orphans == 2
    with zipfile.ZipFile(file) as archive:
        assert list(json.loads(archive.read(RECORDS))) == list(TABLES)


def test_a_loaded_run_has_its_summaries(store: Store, target: Store, file: Path) -> None:
    repository = NotebookRepository(store)
    notebook = repository.create(new_notebook())
    run = repository.runs.start(notebook.id, name="wide", config={"lr": 0.1})
    repository.create_checkpoint(new_checkpoint(notebook.id, {"loss": 0.5}, run_id=run.id))
    archive_store(store, file)
    load_file(target, file)
    found = NotebookRepository(target).runs
    assert found.get(notebook.id, run.id) == repository.runs.get(notebook.id, run.id)
    [one] = found.search(RunQuery(where="config.lr == 0.1 and loss.max == 0.5")).runs
    assert one.run.name == "wide"


def log_rows(
    store: Store, run: TrainingRun, count: int, begin: int = 0, value: float = 1.0
) -> None:
    rows = [Row(step, 1.5, {"loss": value / (step + 1), "acc": math.inf}) for step in range(count)]
    NotebookRepository(store).series.append(
        run.notebook_id, run.id, rows, spool="s", begin=begin, end=begin + count
    )


def read_run(store: Store, run: TrainingRun) -> tuple[object, ...]:
    """Return what was logged in a run: series, offset and summaries."""
    repository = NotebookRepository(store)
    series = [
        repository.series.read(run.notebook_id, run.id, name)
        for name in repository.series.names(run.notebook_id, run.id)
    ]
    found = repository.runs.get(run.notebook_id, run.id)
    return (
        [(one.steps.tolist(), one.values.tolist(), one.times.tolist()) for one in series],
        repository.series.offset(run.notebook_id, run.id, "s"),
        found and found.to_json(),
    )


@pytest.fixture
def run(store: Store) -> TrainingRun:
    """A run that logged more rows than one chunk has, and has a checkpoint."""
    repository = NotebookRepository(store)
    create_notebooks(repository, "nb")
    run = repository.runs.start("nb", id="odd \ud800", tags=["x"])
    log_rows(store, run, 9_000)
    log_rows(store, run, 10, begin=9_000)
    repository.create_checkpoint(new_checkpoint("nb", {"val": 0.5}, run_id=run.id))
    return run


def test_logged_series_are_archived_with_their_run(
    store: Store, target: Store, file: Path, run: TrainingRun
) -> None:
    NotebookRepository(store).runs.start("nb")  # it logs nothing
    archive_store(store, file)
    for _ in range(2):
        assert load_file(target, file).problems == []
        assert read_run(target, run) == read_run(store, run)
    assert load_file(target, file, overwrite=True).problems == []
    assert read_run(target, run) == read_run(store, run)


def test_rows_that_an_archive_lacks_are_never_removed(
    store: Store, file: Path, memory: Store, run: TrainingRun
) -> None:
    archive_store(store, file)
    load_file(memory, file)
    log_rows(memory, run, 5, begin=9_010)
    before = read_run(memory, run)
    [problem] = load_file(memory, file).problems
    assert "series differ" in problem.reason
    unpack_records(file, manifest=True)  # an archive without series
    for changed in (False, True):
        if changed:
            NotebookRepository(memory).save("nb", new_save(code("c", "1")))
        problems = load_file(memory, file, overwrite=True).problems
        assert read_run(memory, run) == before
    assert any("lacks values of this run" in problem.reason for problem in problems)


def test_other_rows_than_those_of_the_archive_are_never_removed(
    store: Store, file: Path, memory: Store, run: TrainingRun
) -> None:
    archive_store(store, file)
    load_file(memory, file)
    repository = NotebookRepository(memory)
    repository.runs.update_status("nb", run.id, RunStatus.COMPLETED)
    repository.checkpoints.delete_run("nb", run.id)
    other = repository.runs.start("nb", id=run.id, tags=["x"])
    log_rows(memory, other, 9_010, value=2.0)
    before = read_run(memory, other)
    assert load_file(memory, file, overwrite=True).of_kind("conflict")
    assert read_run(memory, other) == before


def test_a_run_that_an_archive_lacks_is_never_removed(
    store: Store, target: Store, file: Path, run: TrainingRun
) -> None:
    archive_store(store, file)
    load_file(target, file)
    repository = NotebookRepository(target)
    noted = repository.runs.start("nb", notes="do not lose this")
    repository.save("nb", new_save(code("c", "1")))
    problems = load_file(target, file, overwrite=True).problems
    assert (RUNS.name, noted.id) in {(one.table, one.id) for one in problems}
    for path in (file, unpack_records(file, manifest=True)):
        assert load_file(target, path, overwrite=True).of_kind("conflict")
        assert repository.runs.get("nb", noted.id) == noted
        assert read_run(target, run) == read_run(store, run)


def test_an_archive_without_series_keeps_what_was_logged(
    store: Store, target: Store, file: Path, run: TrainingRun
) -> None:
    archive_store(store, file)
    load_file(target, file)
    NotebookRepository(target).create_checkpoint(
        new_checkpoint("nb", {"val": 0.25}, run_id=run.id, step=7)
    )
    before = read_run(target, run)
    load_file(target, unpack_records(file, manifest=True))
    assert read_run(target, run) == before


def test_series_that_are_loaded_later_keep_the_summaries_of_checkpoints(
    store: Store, target: Store, file: Path, run: TrainingRun
) -> None:
    archive_store(store, file)
    complete = file.rename(file.with_name("complete.zip"))
    file.write_bytes(complete.read_bytes())
    load_file(target, unpack_records(file, manifest=True))
    repository = NotebookRepository(target)
    loaded = repository.runs.get("nb", run.id)
    assert loaded is not None
    assert list(loaded.metrics or {}) == ["val"]
    repository.create_checkpoint(new_checkpoint("nb", {"val": 0.25}, run_id=run.id, step=7))
    load_file(target, complete)
    found = repository.runs.get("nb", run.id)
    expected = NotebookRepository(store).runs.get("nb", run.id)
    assert found is not None
    assert expected is not None
    assert (found.metrics or {})["val"].min == 0.25
    del (found.metrics or {})["val"], (expected.metrics or {})["val"]
    assert found == expected
    loss = [
        NotebookRepository(one).series.read("nb", run.id, "loss").values for one in (target, store)
    ]
    assert loss[0].tolist() == loss[1].tolist()


def test_some_runs_are_archived_with_their_series(
    store: Store, target: Store, file: Path, run: TrainingRun
) -> None:
    other = NotebookRepository(store).runs.start("nb")
    log_rows(store, other, 3)
    archive_store(store, file, notebook_ids=["nb"], run_ids=[other.id])
    assert load_file(target, file).problems == []
    assert [one.id for one in NotebookRepository(target).runs.list("nb")] == [other.id]
    assert read_run(target, other) == read_run(store, other)
    before = read_run(store, run)
    assert load_file(store, file).problems == []
    assert [one.id for one in load_file(store, file, overwrite=True).problems] == []
    assert read_run(store, run) == before
    archive_store(store, file)
    assert load_file(target, file).problems == []
    assert read_run(target, run) == before


def test_an_archive_of_schema_version_2_is_loaded_with_summaries(
    store: Store, target: Store, file: Path
) -> None:
    repository = NotebookRepository(store)
    create_notebooks(repository, "nb")
    for step in range(2):
        repository.create_checkpoint(
            new_checkpoint("nb", {"loss": step}, run_id="r", step=step, sizes={"model": 5})
        )
    archive_store(store, file)
    unpack_records(file, manifest=True)
    tables = json.loads(file.read_text())
    runs = TableSummary()
    for run in tables[RUNS.name].values():
        for added in ("number", "tags", "step_count"):
            run.pop(added, None)
        runs.add(run)
    [manifest] = tables[MANIFEST_TABLE].values()
    manifest["schema_version"] = 2
    manifest["tables"][RUNS.name] = runs.to_json()
    file.write_text(json.dumps(tables))
    assert load_file(target, file).problems == []
    [found] = NotebookRepository(target).runs.search(RunQuery(where="loss.max == 1")).runs
    assert (found.run.number, found.checkpoint_count, found.size) == (1, 2, 10)


def test_a_damaged_series_is_refused(
    store: Store, file: Path, memory: Store, run: TrainingRun
) -> None:
    with store.transaction() as connection:
        store.mark_written()
        connection.execute(store.logged_series.chunks.update().values(count=1))
    archive_store(store, file)
    [problem] = load_file(memory, file).problems
    assert problem.kind == "damaged"
    assert "other than 1 rows" in problem.reason
    assert len(memory.notebooks) == 0


def test_loaded_runs_get_numbers_that_are_free(store: Store, file: Path, memory: Store) -> None:
    repository = NotebookRepository(store)
    create_notebooks(repository, "nb")
    archive_store(store, file)
    load_file(memory, file)
    other = NotebookRepository(memory)
    mine = other.runs.start("nb")
    first, second = repository.runs.start("nb"), repository.runs.start("nb")
    archive_store(store, file)
    assert load_file(memory, file).of_kind("damaged") == []
    numbers = {run.id: run.number for run in other.runs.list("nb")}
    assert numbers == {mine.id: 1, first.id: 3, second.id: 2}
    assert load_file(memory, file).counts["axonml_runs", "unchanged"] == 2
