"""Loading into stores that have records, and loading plain and damaged documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tinydb
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
    sources,
)

from jupyter_axon_notebooks.archive.format import TableSummary
from jupyter_axon_notebooks.mapping import export_notebook
from jupyter_axon_notebooks.records import NotebookCheckpoint, TrainingNotebook, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

NOTEBOOK = {
    "id": "nb-123",
    "user_id": "u",
    "name": "train",
    "description": None,
    "cells": [
        {
            "id": "a",
            "cell_type": "code",
            "source": "1",
            "outputs": [],
            "status": "completed",
            "execution_count": 1,
        },
        {
            "id": "b",
            "cell_type": "markdown",
            "source": "# t",
            "outputs": [],
            "status": "idle",
            "execution_count": None,
        },
    ],
    "metadata": {"kernel": "python3", "language": "python", "framework": None, "tags": ["t"]},
    "model_id": None,
    "dataset_id": None,
    "status": "completed",
    "created_at": "2024-01-02T03:04:05.000006Z",
    "updated_at": "2024-01-02T03:04:06Z",
}
CHECKPOINT = {
    "id": "cp-123",
    "notebook_id": "nb-123",
    "epoch": 10,
    "step": 1000,
    "metrics": {"loss": 0.25},
    "model_state_path": "/models/cp-123.bin",
    "optimizer_state_path": None,
    "created_at": "2024-01-02T03:04:05Z",
}


def write_plain(file: Path, *notebooks: Any, checkpoints: Any = (), **tables: Any) -> None:
    """Write documents as upstream stores them."""
    numbered = {
        "axonml_notebooks": dict(enumerate(notebooks, 1)),
        "axonml_checkpoints": dict(enumerate(checkpoints, 1)),
        **tables,
    }
    file.write_text(json.dumps(numbered, indent=2))


# Conflicts


def test_a_record_that_differs_is_reported_and_left_alone(store: Store, file: Path) -> None:
    ids = fill_store(store)
    archive_store(store, file)
    NotebookRepository(store).update(ids[0], UpdateNotebook(name="newer"))
    NotebookRepository(store).delete(ids[1])
    before = read_all_documents(store)
    [problem] = load_file(store, file).problems
    assert problem[:3] == ("conflict", "axonml_notebooks", ids[0])
    after = read_all_documents(store)
    assert after["axonml_notebooks"].keys() == set(ids)
    assert before["axonml_notebooks"].items() < after["axonml_notebooks"].items()


def test_overwrite_replaces_a_record_with_everything_that_belongs_to_it(
    store: Store, file: Path
) -> None:
    ids = fill_store(store)
    archive_store(store, file)
    before = read_all_documents(store)
    repository = NotebookRepository(store)
    repository.update(ids[1], UpdateNotebook(name="newer", cells=[code("z", "z")]))
    repository.delete_checkpoint(repository.list_checkpoints(ids[1])[0].id)
    report = load_file(store, file, overwrite=True)
    assert report.problems == []
    assert changed_counts(report)["notebooks"] == (0, 2, 1)
    assert read_all_documents(store) == before
    check_contents(store)


@pytest.mark.parametrize("change", ["checkpoint", "state"])
def test_overwrite_never_loses_checkpoints_or_state_files(
    store: Store, file: Path, change: str
) -> None:
    id = fill_store(store)[0]
    archive_store(store, file)
    repository = NotebookRepository(store)
    repository.update(id, UpdateNotebook(name="newer"))
    if change == "checkpoint":
        repository.create_checkpoint(new_checkpoint(id, {"loss": 0}))
    else:
        [trained, *_] = store.checkpoints.ids(tinydb.where("notebook_id") == id)
        store.checkpoints.update({"model_state_path": "/states/new.bin"}, doc_ids=[trained])
    before = read_all_documents(store)
    [conflict] = load_file(store, file, overwrite=True).problems
    assert "the archive lacks this checkpoint or its state file" in conflict.reason
    assert read_all_documents(store) == before


@pytest.mark.parametrize(
    "table", ["axonml_notebooks", "axonml_contents", "axonml_checkpoints", "axonml_versions"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_document_in_the_store_is_reported_and_other_notebooks_are_loaded(
    store: Store, file: Path, table: str, overwrite: bool
) -> None:
    ids = fill_store(store)
    archive_store(store, file)
    NotebookRepository(store).delete(ids[1])
    owned = "id" if table == "axonml_notebooks" else "notebook_id"
    with store.transaction() as connection:
        damage = sa.text(f"UPDATE {table} SET document = '{{broken' WHERE {owned} = :id")
        connection.execute(damage, {"id": ids[0]})
    report = load_file(store, file, overwrite=overwrite)
    [problem] = report.problems
    assert problem[:3] == ("damaged", "axonml_notebooks", ids[0])
    assert "is damaged" in problem.reason
    assert changed_counts(report)["notebooks"] == (1, 1, 0)


def test_a_changed_checkpoint_is_reported_and_deleted_ones_come_back(
    store: Store, file: Path
) -> None:
    id = fill_store(store)[0]
    archive_store(store, file)
    changed, removed, _ = store.checkpoints.search(tinydb.where("notebook_id") == id)
    store.checkpoints.update({"tags": ["new"]}, doc_ids=[changed["id"]])
    store.checkpoints.remove(doc_ids=[removed["id"]])
    [problem] = load_file(store, file).problems
    assert problem[:3] == ("conflict", "axonml_checkpoints", changed["id"])
    assert store.checkpoints.get(doc_id=changed["id"])["tags"] == ["new"]
    assert store.checkpoints.contains(doc_id=removed["id"])
    assert load_file(store, file, overwrite=True).problems == []
    assert store.checkpoints.get(doc_id=changed["id"])["tags"] == []


def test_an_interrupted_load_leaves_whole_notebooks_and_is_continued(
    store: Store, target: Store, file: Path
) -> None:
    ids = fill_store(store)
    archive_store(store, file)

    def interrupt(done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_file(target, file, progress=interrupt)
    assert 0 < len(target.notebooks) < len(ids)
    check_contents(target)
    assert load_file(target, file).problems == []
    assert read_all_documents(target) == read_all_documents(store)


# Files and owners


def test_a_record_whose_file_belongs_to_another_record_is_loaded_without_a_file(
    store: Store, file: Path, memory: Store
) -> None:
    bound = fill_store(memory)[1]
    archive_store(memory, file)
    repository = NotebookRepository(store)
    mine = repository.create(new_notebook(path="/w/b.ipynb", origin="here")).id
    report = load_file(store, file)
    assert (report.problems, report.rebound) == ([], {bound: None})
    found = repository.find_summary(bound)
    assert found is not None
    assert found.path is None
    assert store.notebooks.get(doc_id=bound)["former_paths"][-1] == "/w/b.ipynb"
    assert repository.bindings.find_by_path("here", "/w/b.ipynb").id == mine  # type: ignore[union-attr]
    assert load_file(store, file).problems == []
    check_contents(store)


@pytest.mark.parametrize("case", ["free", "has a record", "two files", "same origin"])
def test_a_record_is_bound_to_the_file_that_carries_its_id(
    store: Store, file: Path, memory: Store, tmp_path: Path, case: str
) -> None:
    new = new_notebook(code("a"), id="nb", path="/old/train.ipynb", origin="there")
    NotebookRepository(memory).create(new)
    archive_store(memory, file)
    folder = tmp_path / "project"
    folder.mkdir()
    text = json.dumps({"metadata": {"axon": {"notebook_id": "nb"}}, "cells": []})
    path = (folder / "moved.ipynb").resolve()
    path.write_text(text)
    (folder / "broken.ipynb").write_text("{")
    if case == "two files":
        (folder / "copy.ipynb").write_text(text)
    repository = NotebookRepository(store)
    origin = "there" if case == "same origin" else "here"
    if case == "has a record":
        repository.create(new_notebook(id="own", path=str(path), origin=origin))
    report = load_file(store, file, origin=origin, folder=folder)
    assert report.problems == []
    assert report.rebound == ({"nb": str(path)} if case == "free" else {})
    stored = store.notebooks.get(doc_id="nb")
    if case == "free":
        assert (stored["origin"], stored["path"]) == ("here", str(path))
        assert stored["former_paths"] == ["/old/train.ipynb"]
        assert repository.bindings.find_by_path("here", str(path)).id == "nb"  # type: ignore[union-attr]
    else:
        assert (stored["origin"], stored["path"]) == ("there", "/old/train.ipynb")
    assert load_file(store, file, origin=origin, folder=folder).problems == []


# Plain documents


def test_upstreams_documents_become_records_with_a_version(store: Store, file: Path) -> None:
    write_plain(file, NOTEBOOK, checkpoints=[CHECKPOINT])
    for counts in ((1, 0, 0), (0, 1, 0)):
        report = load_file(store, file)
        assert report.problems == []
        assert changed_counts(report)["notebooks"] == counts
    repository = NotebookRepository(store)
    found = repository.find_by_id("nb-123")
    assert found is not None
    expected = TrainingNotebook.from_json(NOTEBOOK)
    expected.version_id = found.version_id
    assert found == expected
    [version] = repository.versions.list("nb-123")
    assert (version.id, version.created_at) == (found.version_id, found.updated_at)
    assert repository.get_checkpoint("cp-123") == NotebookCheckpoint.from_json(CHECKPOINT)
    repository.update("nb-123", UpdateNotebook(cells=[code("n", "new")]))
    assert len(repository.versions.list("nb-123")) == 2


def test_documents_without_their_notebook_are_not_loaded(store: Store, file: Path) -> None:
    write_plain(file, checkpoints=[CHECKPOINT])
    [problem] = load_file(store, file).problems
    assert problem[:3] == ("damaged", "axonml_notebooks", "nb-123")
    assert not any(read_all_documents(store).values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"created_at": 3}, "$.created_at: expected datetime, got int"),
        ({"cells": [{"id": "a", "source": 1}]}, "$.cells[0].source: expected str, got int"),
        ({"cells": [{"id": "a", "source": ""}] * 2}, "$.cells[1].id: a is the id of cell 0"),
        ({"former_paths": "x"}, "former_paths"),
        ({"path": 1, "origin": "o"}, "$.path: expected str | null, got int"),
    ],
)
def test_an_invalid_notebook_is_reported_and_the_others_are_loaded(
    store: Store, file: Path, changes: dict[str, Any], reason: str
) -> None:
    write_plain(file, {**NOTEBOOK, "id": "bad", **changes}, NOTEBOOK, checkpoints=[CHECKPOINT])
    report = load_file(store, file)
    [problem] = report.problems
    assert problem[:3] == ("damaged", "axonml_notebooks", "bad")
    assert reason in problem.reason
    assert changed_counts(report)["notebooks"] == (1, 0, 0)
    assert changed_counts(report)["checkpoints"] == (1, 0, 0)


def test_invalid_documents_of_other_tables_are_reported_and_left_out(
    store: Store, file: Path
) -> None:
    checkpoints = [
        CHECKPOINT,
        {**CHECKPOINT, "id": "a", "epoch": "3"},
        {**CHECKPOINT, "id": "b", "epoch": -1},
        {**CHECKPOINT, "id": "c", "notebook_id": 7},
        {name: value for name, value in CHECKPOINT.items() if name != "id"},
        "nothing",
        {**CHECKPOINT, "epoch": 11},
    ]
    runs = {"1": {"id": "r", "notebook_id": "nb-123", "started_at": "yesterday"}}
    write_plain(file, NOTEBOOK, NOTEBOOK, checkpoints=checkpoints, axonml_runs=runs)
    report = load_file(store, file)
    assert {(one.table.removeprefix("axonml_"), one.id) for one in report.problems} == {
        ("notebooks", "nb-123"),  # the second
        *(("checkpoints", id) for id in ("a", "b", "c", "#5", "#6", "cp-123")),
        ("runs", "r"),
    }
    assert changed_counts(report)["checkpoints"] == (1, 0, 0)
    found = NotebookRepository(store).get_checkpoint("cp-123")
    assert found is not None
    assert found.epoch == CHECKPOINT["epoch"]


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a version lists what is not a content": lambda tables: next(
        iter(tables["axonml_versions"].values())
    )["metadata"].update(extra={"nbformat": []}),
    "an ordinal is too large": lambda tables: next(iter(tables["axonml_versions"].values())).update(
        ordinal=2**63
    ),
    "a content has the id of another notebook": lambda tables: next(
        iter(tables["axonml_contents"].values())
    ).update(axon_id="other/abc"),
    "a content is missing": lambda tables: tables["axonml_contents"].popitem(),
    "a content of an older version is missing": lambda tables: tables["axonml_contents"].pop(
        next(iter(tables["axonml_contents"]))
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_notebook_with_an_invalid_history_is_rejected_as_a_whole(
    store: Store, file: Path, memory: Store, edit: Callable[[dict[str, Any]], None]
) -> None:
    """An archive may be forged: its digests are right, and its documents are not."""
    repository = NotebookRepository(memory)
    repository.create(new_notebook(code("a", "1", "x"), id="nb"))
    repository.update("nb", UpdateNotebook(cells=[code("a", "2", "y")]))
    archive_store(memory, file)
    unpack_records(file, manifest=True)
    tables = json.loads(file.read_text())
    edit(tables)
    for name, documents in tables.items():
        if name != "axonml_dump":
            summary = TableSummary()
            for one in documents.values():
                summary.add(one)
            tables["axonml_dump"]["1"]["tables"][name] = summary.to_json()
    file.write_text(json.dumps(tables))
    assert {one.kind for one in load_file(store, file).problems} == {"damaged"}
    assert not any(read_all_documents(store).values())


def test_loaded_records_are_not_trusted(store: Store, file: Path) -> None:
    metadata = {"trusted": True, "jupyter": {"trusted": True}, "tags": ["t"]}
    output = {"output_type": "display_data", "data": {"text/html": "<script>"}}
    cell = {"id": "a", "cell_type": "code", "source": "x", "metadata": metadata}
    cell["outputs"] = [{**output, "metadata": metadata}]
    kept = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": {"a": cell}}
    extra = {"kernel": "python3", "language": "python", "tags": [], "extra": {"nbformat": kept}}
    write_plain(file, {**NOTEBOOK, "cells": [cell], "metadata": extra})
    assert load_file(store, file).problems == []
    record = NotebookRepository(store).find_by_id("nb-123")
    assert record is not None
    exported = export_notebook(record.cells, record.metadata)
    assert "trusted" not in json.dumps([record.to_json(), exported])
    assert "<script>" in json.dumps(exported)
    assert record.cells[0].metadata["tags"] == ["t"]


def test_a_notebook_that_was_saved_since_is_kept_and_gets_the_checkpoints_that_it_lacks(
    store: Store, file: Path
) -> None:
    repository = NotebookRepository(store)
    repository.create(new_notebook(code("a"), id="nb"))
    for step in range(3):
        repository.create_checkpoint(new_checkpoint("nb", step=step, run_id="r"))
    archive_store(store, file)
    store.checkpoints.remove(store.checkpoints.ids(tinydb.where("step") > 0))
    store.runs.remove(store.runs.ids(tinydb.where("id") == "r"))
    repository.update("nb", UpdateNotebook(cells=[code("a", "saved since")]))
    kept = repository.find_by_id("nb")
    for added in (True, False):
        report = load_file(store, file)
        [conflict] = report.problems
        assert (conflict.table, conflict.id) == ("axonml_notebooks", "nb")
        assert ("it is kept, and the runs" in conflict.reason) is added
        assert changed_counts(report)["checkpoints"] == ((2, 1, 0) if added else (0, 3, 0))
        assert repository.find_by_id("nb").cells == kept.cells  # type: ignore[union-attr]
        assert len(repository.runs.list("nb")) == 1
    check_contents(store)


def test_another_notebook_with_the_same_id_gets_nothing(
    store: Store, file: Path, memory: Store
) -> None:
    fill_store(memory)
    source = NotebookRepository(memory)
    source.create(new_notebook(code("a"), id="nb"))
    source.create_checkpoint(new_checkpoint("nb"))
    archive_store(memory, file, notebook_ids=["nb"])
    NotebookRepository(store).create(new_notebook(code("a", "mine"), id="nb"))
    before = read_all_documents(store)
    [conflict] = load_file(store, file).problems
    assert conflict.reason == "it differs from the one in the store"
    assert read_all_documents(store) == before


def test_cells_without_ids_get_the_same_ids_each_time(store: Store, file: Path) -> None:
    write_plain(file, {**NOTEBOOK, "cells": [{"source": "1"}, {"source": "2"}]})
    assert load_file(store, file).problems == []
    found = NotebookRepository(store).find_by_id("nb-123")
    assert sources(found.cells) == ["1", "2"]  # type: ignore[union-attr]
    assert changed_counts(load_file(store, file))["notebooks"] == (0, 1, 0)


def test_records_as_rest_returns_them_are_loaded(store: Store, file: Path, memory: Store) -> None:
    source = NotebookRepository(memory)
    notebook = source.create(new_notebook(code("a", "1", "x", count=1)))
    checkpoint = source.create_checkpoint(new_checkpoint(notebook.id, {"loss": float("nan")}))
    write_plain(file, notebook.to_json(), checkpoints=[checkpoint.to_json()])
    assert load_file(store, file).problems == []
    assert NotebookRepository(store).find_by_id(notebook.id) == notebook
    metrics = NotebookRepository(store).get_checkpoint(checkpoint.id).metrics  # type: ignore[union-attr]
    assert json.dumps(metrics) == json.dumps(checkpoint.metrics)
    check_contents(store)


def test_records_without_a_manifest_are_loaded_without_their_history(
    store: Store, file: Path, memory: Store
) -> None:
    ids = fill_store(memory)
    archive_store(memory, file)
    unpack_records(file, manifest=False)
    report = load_file(store, file)
    assert report.problems == []
    for id in ids:
        found = NotebookRepository(store).find_by_id(id)
        assert found == NotebookRepository(memory).find_by_id(id)
        assert len(NotebookRepository(store).versions.list(id)) == 1


def test_checkpoints_alone_join_the_notebook_in_the_store(store: Store, file: Path) -> None:
    create_notebooks(NotebookRepository(store), "nb-123")
    stray = {**CHECKPOINT, "id": "cp-2", "notebook_id": "nowhere"}
    write_plain(file, checkpoints=[CHECKPOINT, stray])
    report = load_file(store, file)
    assert changed_counts(report) == {"checkpoints": (1, 0, 0)}
    [problem] = report.problems
    assert (problem.kind, problem.id) == ("damaged", "nowhere")
