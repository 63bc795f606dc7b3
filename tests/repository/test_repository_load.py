"""What is no whole dump is refused before anything is written; what differs or is damaged is named and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tinydb
from support.dumps import counts, dump, everything, fill, is_clean, load
from support.factories import (
    check_contents,
    code,
    create_ids,
    new_checkpoint,
    new_notebook,
    sources,
)
from test_repository_upstream import CHECKPOINT, NOTEBOOK

from jupyter_axon_notebooks.errors import DumpRefused
from jupyter_axon_notebooks.metrics import encode_nonfinite
from jupyter_axon_notebooks.records import NotebookCheckpoint, TrainingNotebook, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store

Tables = dict[str, dict[str, Any]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dump.json"


@pytest.fixture
def filled() -> Store:
    store = open_store("memory://")
    fill(store)
    return store


def write(file: Path, tables: Tables, **layout: Any) -> None:
    file.write_text(json.dumps(tables, **layout))


def by_hand(file: Path, *notebooks: Any, checkpoints: Any = (), **tables: Any) -> None:
    """A file as TinyDB would write it, with these documents."""
    numbered = {str(number): one for number, one in enumerate(notebooks, 1)}
    of_them = {str(number): one for number, one in enumerate(checkpoints, 1)}
    write(file, {"axonml_notebooks": numbered, "axonml_checkpoints": of_them, **tables})


def edited(file: Path, edit: Callable[[Tables], object], **layout: Any) -> None:
    tables = json.loads(file.read_text())
    edit(tables)
    write(file, tables, **layout)


# Files that are refused


def test_a_dump_that_was_cut_off_anywhere_is_refused(filled: Store, file: Path) -> None:
    dump(filled, file)
    whole = file.read_bytes()
    store = open_store("memory://")
    ends = {at for at, octet in enumerate(whole) if octet in b"\n{}"} | set(
        range(0, len(whole), 401)
    )
    for end in sorted(ends):
        if whole[end:].strip() == b"":
            continue  # only the last line's end is gone
        file.write_bytes(whole[:end])
        with pytest.raises(DumpRefused, match=r"cut off|empty|not JSON"):
            load(store, file)
    assert not any(everything(store).values())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda tables: tables["axonml_checkpoints"].pop("2"),
            "axonml_checkpoints should have 4 documents, and has 3",
        ),
        (
            lambda tables: tables["axonml_notebooks"]["1"].update(name="x"),
            "documents of table axonml_notebooks are not as they were dumped",
        ),
        (lambda tables: tables.pop("axonml_contents"), "axonml_contents should have"),
        (
            lambda tables: tables["axonml_dump"]["1"].update(format=2),
            "format is 2, this package knows up to 1",
        ),
        (
            lambda tables: tables["axonml_dump"]["1"].update(schema_version=99),
            "schema version is 99",
        ),
        (lambda tables: tables["axonml_dump"]["1"].pop("format"), "has no format"),
        (
            lambda tables: tables["axonml_dump"]["1"].pop("tables"),
            "axonml_dump is damaged: \\$.tables",
        ),
        (lambda tables: tables.update(axonml_dump={}), "axonml_dump is damaged"),
        (lambda tables: tables.update(axonml_runs=[]), "not a dump: expected an object of tables"),
    ],
)
@pytest.mark.parametrize("layout", [{}, {"indent": 0}, {"indent": 2}])
def test_a_dump_that_was_changed_is_refused_with_what_is_wrong(
    filled: Store, file: Path, edit: Callable[[Tables], object], reason: str, layout: dict[str, Any]
) -> None:
    dump(filled, file)
    edited(file, edit, **layout)
    store = open_store("memory://")
    with pytest.raises(DumpRefused, match=reason):
        load(store, file)
    assert not any(everything(store).values())


def test_a_line_that_was_changed_is_named(filled: Store, file: Path) -> None:
    dump(filled, file)
    lines = file.read_bytes().splitlines(keepends=True)
    store = open_store("memory://")
    for at, broken, reason in [
        (3, b'"2": {"id": \n', "line 4: in table axonml_notebooks"),
        (4, b'"3": {"id": 1, }\n', "line 5: in table axonml_notebooks: .* in column \\d+$"),
        (3, b"nonsense\n", "line 4: in table axonml_notebooks: not a document"),
        (6, b'"x": [\n', "line 7: not the beginning of a table"),
        (len(lines), b"more\n", "something follows the end"),
    ]:
        file.write_bytes(b"".join([*lines[:at], broken, *lines[at + 1 :]]))
        with pytest.raises(DumpRefused, match=reason):
            load(store, file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("no json", "not JSON"),
        ("[1]", "not a dump: expected an object of tables"),
        ("{}", "has none of the tables axonml_notebooks"),
        ('{"_default": {}}', "has none of the tables"),
        ("[" * 100_000, "not JSON"),
        ('{"cells": [], "nbformat": 4}', "not a dump"),
    ],
)
def test_what_is_no_dump_is_refused(file: Path, text: str, reason: str) -> None:
    file.write_text(text)
    with pytest.raises(DumpRefused, match=reason):
        load(open_store("memory://"), file)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DumpRefused, match="is a folder, not a dump"):
        load(open_store("memory://"), tmp_path)


# What is there already


def test_what_differs_in_the_store_is_named_and_left_alone(store: Store, file: Path) -> None:
    ids = fill(store)
    dump(store, file)
    NotebookRepository(store).update(ids[0], UpdateNotebook(name="newer"))
    NotebookRepository(store).delete(ids[1])
    before = everything(store)
    loaded = load(store, file)
    assert [(one.table, one.id) for one in loaded.conflicts] == [("axonml_notebooks", ids[0])]
    assert not loaded.damaged
    after = everything(store)
    assert after["axonml_notebooks"].keys() == set(ids)
    assert before["axonml_notebooks"].items() < after["axonml_notebooks"].items()


def test_what_differs_is_replaced_on_demand_with_all_that_belongs_to_it(
    store: Store, file: Path
) -> None:
    ids = fill(store)
    dump(store, file)
    before = everything(store)
    repository = NotebookRepository(store)
    repository.update(ids[1], UpdateNotebook(name="newer", cells=[code("z", "z")]))
    repository.delete_checkpoint(repository.list_checkpoints(ids[1])[0].id)
    loaded = load(store, file, overwrite=True)
    assert is_clean(loaded)
    assert counts(loaded)["notebooks"] == (0, 2, 1)
    assert everything(store) == before
    check_contents(store)


def test_a_notebook_with_newer_checkpoints_is_never_replaced(store: Store, file: Path) -> None:
    ids = fill(store)
    dump(store, file)
    repository = NotebookRepository(store)
    repository.update(ids[0], UpdateNotebook(name="newer"))
    repository.create_checkpoint(new_checkpoint(ids[0], {"loss": 0}))
    before = everything(store)
    loaded = load(store, file, overwrite=True)
    (conflict,) = loaded.conflicts
    assert conflict.id == ids[0]
    assert "a checkpoint of it that the file lacks" in conflict.reason
    assert everything(store) == before


@pytest.mark.parametrize("renamed", [False, True])
def test_a_notebook_is_never_replaced_where_that_takes_the_weights_from_a_checkpoint(
    store: Store, file: Path, renamed: bool
) -> None:
    id = fill(store)[0]
    dump(store, file)
    if renamed:
        NotebookRepository(store).update(id, UpdateNotebook(name="newer"))
    trained = store.checkpoints.search(tinydb.where("notebook_id") == id)[0].doc_id
    store.checkpoints.update({"model_state_path": "/states/new.bin"}, doc_ids=[trained])
    before = everything(store)
    loaded = load(store, file, overwrite=True)
    (conflict,) = loaded.conflicts
    assert (conflict.table, conflict.id) == ("axonml_checkpoints", trained)
    assert "the store has a state file of it that the file lacks" in conflict.reason
    assert everything(store) == before


@pytest.mark.parametrize(
    ("path", "is_lost"), [("nb/c/model.bin", False), ("nb/other/model.bin", True)]
)
def test_a_state_file_is_the_same_whatever_root_its_path_was_recorded_with(
    store: Store, file: Path, path: str, is_lost: bool
) -> None:
    repository = NotebookRepository(store)
    repository.create(new_notebook(code("a"), id="nb"))
    former = "/home/ada/states/nb/c/model.bin"
    repository.create_checkpoint(new_checkpoint("nb", id="c", model_state_path=former))
    dump(store, file)
    store.checkpoints.update({"model_state_path": path}, doc_ids=["c"])
    loaded = load(store, file, overwrite=True)
    assert bool(loaded.conflicts) == is_lost
    assert store.checkpoints.get(doc_id="c")["model_state_path"] == (path if is_lost else former)


@pytest.mark.parametrize(
    "table", ["axonml_notebooks", "axonml_contents", "axonml_checkpoints", "axonml_versions"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_document_in_the_store_is_named_and_the_other_notebooks_are_loaded(
    store: Store, file: Path, table: str, overwrite: bool
) -> None:
    ids = fill(store)
    dump(store, file)
    NotebookRepository(store).delete(ids[1])
    owned = "id" if table == "axonml_notebooks" else "notebook_id"
    with store.transaction() as connection:
        damage = sa.text(f"UPDATE {table} SET document = '{{broken' WHERE {owned} = :id")
        connection.execute(damage, {"id": ids[0]})
    damaged = {id for id, text in store.table(table).iterate_json() if text == "{broken"}
    loaded = load(store, file, overwrite=overwrite)
    (fault,) = loaded.damaged
    assert (fault.table, fault.id) == ("axonml_notebooks", ids[0])
    assert any(f"the stored document {id} is damaged" in fault.reason for id in damaged)
    assert counts(loaded)["notebooks"] == (1, 1, 0)


def test_a_checkpoint_that_differs_is_named_and_those_that_are_gone_come_back(
    store: Store, file: Path
) -> None:
    id = fill(store)[0]
    dump(store, file)
    changed, removed, _ = store.checkpoints.search(tinydb.where("notebook_id") == id)
    store.checkpoints.update({"tags": ["new"]}, doc_ids=[changed["id"]])
    store.checkpoints.remove(doc_ids=[removed["id"]])
    loaded = load(store, file)
    assert [(one.table, one.id) for one in loaded.conflicts] == [
        ("axonml_checkpoints", changed["id"])
    ]
    assert store.checkpoints.get(doc_id=changed["id"])["tags"] == ["new"]
    assert store.checkpoints.contains(doc_id=removed["id"])
    assert counts(load(store, file, overwrite=True))["checkpoints"][2]
    assert store.checkpoints.get(doc_id=changed["id"])["tags"] == []


def test_a_file_that_another_record_is_bound_to_is_a_conflict(store: Store, file: Path) -> None:
    source = open_store("memory://")
    bound = fill(source)[1]
    dump(source, file)
    mine = NotebookRepository(store).create(new_notebook(path="/w/b.ipynb", origin="here")).id
    for options in ({}, {"overwrite": True}):
        loaded = load(store, file, **options)
        (conflict,) = loaded.conflicts
        assert conflict.id == bound
        assert conflict.reason == f"its file /w/b.ipynb belongs to notebook {mine} in the store"
    assert not store.versions.count(tinydb.where("notebook_id") == bound)
    check_contents(store)


# What others wrote


def test_upstreams_documents_become_records_with_a_version(store: Store, file: Path) -> None:
    by_hand(file, NOTEBOOK, checkpoints=[CHECKPOINT])
    loaded = load(store, file)
    assert loaded.about is None
    assert is_clean(loaded)
    repository = NotebookRepository(store)
    found = repository.find_by_id("nb-123")
    assert found is not None
    expected = TrainingNotebook.from_json(NOTEBOOK)
    expected.version_id = found.version_id
    assert found == expected
    (version,) = repository.versions.list("nb-123")
    assert (version.id, version.created_at) == (found.version_id, found.updated_at)
    assert repository.get_checkpoint("cp-123") == NotebookCheckpoint.from_json(CHECKPOINT)
    assert repository.get_best_checkpoint("nb-123", "loss", True).id == "cp-123"
    assert store.notebooks.get(doc_id="nb-123")["created_at"].endswith("Z")
    assert is_clean(again := load(store, file))
    assert counts(again)["notebooks"] == (0, 1, 0)
    repository.update("nb-123", UpdateNotebook(cells=[code("n", "new")]))
    assert len(repository.versions.list("nb-123")) == 2


def test_cells_without_ids_get_the_same_ones_each_time(store: Store, file: Path) -> None:
    cells = [{"source": "1"}, {"source": "2"}]
    by_hand(file, {**NOTEBOOK, "cells": cells})
    assert is_clean(load(store, file))
    found = NotebookRepository(store).find_by_id("nb-123")
    assert sources(found.cells) == ["1", "2"]
    assert counts(load(store, file))["notebooks"] == (0, 1, 0)


def test_what_rest_answers_is_loaded_with_its_version(store: Store, file: Path) -> None:
    source = NotebookRepository(open_store("memory://"))
    made = source.create(new_notebook(code("a", "1", "x", count=1)))
    checkpoint = source.create_checkpoint(new_checkpoint(made.id, {"loss": float("nan")}))
    by_hand(file, made.to_json(), checkpoints=[checkpoint.to_json()])
    assert is_clean(load(store, file))
    assert NotebookRepository(store).find_by_id(made.id) == made
    assert NotebookRepository(store).get_checkpoint(checkpoint.id).to_json() == checkpoint.to_json()
    check_contents(store)


def test_a_dump_that_was_edited_on_purpose_is_loaded_with_a_version_of_the_new_cells(
    filled: Store, store: Store, file: Path
) -> None:
    dump(filled, file)
    with tinydb.TinyDB(file) as database:
        database.drop_table("axonml_dump")
        notebooks = database.table("axonml_notebooks")
        first, second, _ = notebooks.all()
        notebooks.update(
            {"cells": [{"id": "n", "source": "edited"}]}, tinydb.where("id") == first["id"]
        )
        notebooks.update({"name": "renamed"}, tinydb.where("id") == second["id"])
    assert is_clean(load(store, file))
    repository, before = NotebookRepository(store), NotebookRepository(filled)
    assert sources(repository.find_by_id(first["id"]).cells) == ["edited"]
    listed = [one.id for one in repository.versions.list(first["id"])]
    assert listed[1:] == [one.id for one in before.versions.list(first["id"])]
    renamed = repository.find_by_id(second["id"])
    assert (renamed.name, renamed.cells) == ("renamed", before.find_by_id(second["id"]).cells)
    assert repository.versions.list(second["id"]) == before.versions.list(second["id"])
    check_contents(store)
    assert is_clean(load(store, file))


def test_checkpoints_alone_join_the_notebook_in_the_store(store: Store, file: Path) -> None:
    create_ids(NotebookRepository(store), "nb-123")
    by_hand(file, checkpoints=[CHECKPOINT, {**CHECKPOINT, "id": "cp-2", "notebook_id": "nowhere"}])
    loaded = load(store, file)
    assert counts(loaded) == {"checkpoints": (1, 0, 0)}
    (fault,) = loaded.damaged
    assert (fault.id, fault.reason) == (
        "cp-2",
        "its notebook nowhere is neither in the file nor in the store",
    )


# What is damaged


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"created_at": 3}, "$.created_at: expected datetime, got int"),
        ({"created_at": None}, "$.created_at"),
        ({"cells": {}}, "$.cells: expected array, got object"),
        ({"cells": [{"id": "a", "source": 1}]}, "$.cells[0].source: expected str, got int"),
        (
            {"cells": [{"id": "a", "source": ""}] * 2},
            "$.cells[1].id: a is the id of cell 0 already",
        ),
        ({"status": "great"}, "$.status"),
        ({"former_paths": "x"}, "former_paths"),
        ({"path": 1, "origin": "o"}, "$.path: expected str | null, got int"),
        ({"user_id": float("nan")}, "$.user_id: expected str, got float"),
    ],
)
def test_a_damaged_notebook_is_named_and_the_rest_is_loaded(
    store: Store, file: Path, changes: dict[str, Any], reason: str
) -> None:
    by_hand(file, {**NOTEBOOK, "id": "bad", **changes}, NOTEBOOK, checkpoints=[CHECKPOINT])
    loaded = load(store, file)
    (fault,) = loaded.damaged
    assert (fault.table, fault.id) == ("axonml_notebooks", "bad")
    assert reason in fault.reason
    assert counts(loaded)["notebooks"] == (1, 0, 0)
    assert counts(loaded)["checkpoints"] == (1, 0, 0)


def test_damaged_documents_of_other_kinds_are_named_and_left_out(store: Store, file: Path) -> None:
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
    versions = {
        "1": {
            "id": "v",
            "notebook_id": "nb-123",
            "ordinal": 0,
            "created_at": NOTEBOOK["created_at"],
            "cells": [["a", "missing", None, None]],
            "metadata": {},
        }
    }
    by_hand(
        file,
        NOTEBOOK,
        NOTEBOOK,
        checkpoints=checkpoints,
        axonml_runs=runs,
        axonml_versions=versions,
    )
    loaded = load(store, file)
    assert {(one.table.removeprefix("axonml_"), one.id) for one in loaded.damaged} == {
        ("notebooks", "nb-123"),  # the second
        *(("checkpoints", id) for id in ("a", "b", "c", "#5", "#6", "cp-123")),
        ("runs", "r"),
        ("versions", "v"),
    }
    assert counts(loaded)["checkpoints"] == (1, 0, 0)
    assert NotebookRepository(store).get_checkpoint("cp-123").epoch == CHECKPOINT["epoch"]
    assert len(NotebookRepository(store).find_by_id("nb-123").cells) == 2


def test_a_version_that_lists_what_is_no_content_is_named(store: Store, file: Path) -> None:
    version = {
        "id": "v",
        "notebook_id": "nb-123",
        "ordinal": 0,
        "created_at": NOTEBOOK["created_at"],
        "cells": [],
    }
    by_hand(
        file, NOTEBOOK, axonml_versions={"1": {**version, "metadata": {"extra": {"nbformat": []}}}}
    )
    loaded = load(store, file)
    assert [(one.table, one.id) for one in loaded.damaged] == [("axonml_versions", "v")]
    assert counts(loaded)["notebooks"] == (1, 0, 0)


def test_nan_in_metrics_is_taken_as_the_project_spells_it(store: Store, file: Path) -> None:
    by_hand(file, NOTEBOOK, checkpoints=[{**CHECKPOINT, "metrics": {"loss": float("nan")}}])
    assert is_clean(load(store, file))
    stored = store.checkpoints.get(doc_id="cp-123")
    assert (stored["metrics"], stored["nonfinite"]) == encode_nonfinite({"loss": float("nan")})
