"""Stores of earlier schema versions open with their whole content."""

from __future__ import annotations

import json
import math
from collections import deque
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support import old_stores
from support.engines import ON_DISK, new_url
from support.factories import check_contents, code, new_checkpoint, new_save
from tinydb import where

from jupyter_axon_notebooks.records import RunStatus, TrainingRun, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery
from jupyter_axon_notebooks.store import Store, migrations, open_store
from jupyter_axon_notebooks.store.codec import column_text, encode
from jupyter_axon_notebooks.store.migrations import STEPS
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

VERSIONS = range(1, SCHEMA_VERSION + 1)
PAST = [(version, engine) for version in VERSIONS for engine in ON_DISK]


def read_expected(version: int, engine: str) -> Any:
    """Return the content of an old store, with what the migration adds to it."""
    file = old_stores.STORES / f"version{version}.{engine}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    if version < 3:
        for notebook in content["notebooks"]:
            notebook["series"] = {}
            for number, run in enumerate(reversed(notebook["runs"]), 1):
                run |= {"number": number, "tags": []}
        first, second = content["notebooks"][-1]["runs"][::-1]
        assert (first["id"], second["id"]) == ("run-1", "run-2")
        first["metrics"] = METRICS
        checkpoints = {"loss": [0.5, math.nan], "val.loss": [0.75, 0.25], "big": [2.0**70]}
        content["notebooks"][-1]["series"] = {
            f"{run} {name}": str(values)
            for run in ("run-2", "run-1")
            for name, values in sorted(checkpoints.items())
        }
    return content


def summary(*values: tuple[float, int]) -> dict[str, float]:
    (last, last_step), (least, min_step), (greatest, max_step) = values
    return {
        "last": last,
        "last_step": last_step,
        "min": least,
        "min_step": min_step,
        "max": greatest,
        "max_step": max_step,
    }


#: The summaries of the metrics of the checkpoints of run-1, which have one step.
METRICS = {
    "big": summary((2.0**70, 0), (2.0**70, 0), (2.0**70, 0)),
    "loss": summary((0.5, 0), (0.5, 0), (0.5, 0)),
    "val.loss": summary((0.25, 0), (0.25, 0), (0.75, 0)),
}


def pass_through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


ON_SQLITE = """
SELECT type, name, sql FROM sqlite_master WHERE type != 'table' AND sql IS NOT NULL
UNION ALL
SELECT t.name, c.name, c.type || ' ' || c."notnull" || ' '
    || ifnull(c.dflt_value, '') || ' ' || c.pk
FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'
"""
ON_POSTGRESQL = """
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT table_name, column_name,
    concat_ws(' ', data_type, collation_name, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
"""


def read_schema(store: Store) -> set[tuple[str, ...]]:
    """Return the columns and indexes, without their order."""
    with store.snapshot() as connection:
        query = ON_POSTGRESQL if connection.dialect.name == "postgresql" else ON_SQLITE
        return {tuple(row) for row in connection.exec_driver_sql(query)}


def test_every_schema_version_has_a_test_store() -> None:
    assert {file.name for file in old_stores.STORES.iterdir()} >= {
        f"version{version}.{engine}.{kind}" for version, engine in PAST for kind in ("sql", "json")
    }
    assert set(STEPS) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize(("version", "engine"), PAST)
def test_an_old_store_opens_with_its_whole_content(
    tmp_path: Path, version: int, engine: str
) -> None:
    store = open_store(old_stores.create_old_store(version, engine, tmp_path))
    assert pass_through_json(old_stores.export_store(store)) == read_expected(version, engine)
    check_contents(store)
    store.close()


@pytest.mark.parametrize(("version", "engine"), PAST)
def test_an_old_store_gets_the_tables_of_a_new_one(
    tmp_path: Path, version: int, engine: str
) -> None:
    old = open_store(old_stores.create_old_store(version, engine, tmp_path))
    new = open_store(new_url(engine, tmp_path / "new"))
    assert read_schema(old) == read_schema(new)
    assert len(read_schema(old)) > 30
    old.close()
    new.close()


@pytest.mark.parametrize(("version", "engine"), PAST)
def test_an_old_store_can_be_changed(tmp_path: Path, version: int, engine: str) -> None:
    store = open_store(old_stores.create_old_store(version, engine, tmp_path))
    repository = NotebookRepository(store)
    before = read_expected(version, engine)
    [bound] = [one for one in before["notebooks"] if one["notebook"]["id"] == "bound"]
    repository.save("bound", new_save(code("new", "1")))
    deque(repository.garbage.remove_versions("bound", 1))
    repository.delete("unbound")
    [after] = pass_through_json(old_stores.export_store(store))["notebooks"]
    newest, *older = after["versions"]
    assert [cell["source"] for cell in newest["cells"]] == ["1"]
    referred = {checkpoint["version_id"] for checkpoint in bound["checkpoints"]}
    assert older == [one for one in bound["versions"] if one["id"] in referred]
    assert [after[what] for what in ("checkpoints", "runs", "best")] == [
        bound[what] for what in ("checkpoints", "runs", "best")
    ]
    check_contents(store)
    store.close()


@pytest.mark.parametrize("engine", ON_DISK)
def test_the_sizes_of_older_checkpoints_are_summed(tmp_path: Path, engine: str) -> None:
    url = old_stores.create_old_store(2, engine, tmp_path)
    database = sa.create_engine(url)
    with database.begin() as connection:
        update = "UPDATE axonml_checkpoints SET document = :added || substr(document, 2)"
        added = '{"sizes":{"model":7,"optimizer":2},"note":NaN,'
        connection.execute(sa.text(update), {"added": added})
    database.dispose()
    with closing(open_store(url)) as store:
        found = NotebookRepository(store).runs.search(RunQuery()).runs
    assert [(one.checkpoint_count, one.size) for one in found] == [(0, 0), (2, 18)]


def test_the_test_store_of_the_current_version_is_up_to_date(tmp_path: Path) -> None:
    old_stores.write_stores(tmp_path)
    for engine in ON_DISK:
        name = f"version{SCHEMA_VERSION}.{engine}.json"
        now, then = (
            json.loads((folder / name).read_text()) for folder in (tmp_path, old_stores.STORES)
        )
        assert remove_values(now) == remove_values(then)


def remove_values(value: Any) -> Any:
    """Return the structure of a value without its texts and numbers."""
    if isinstance(value, dict):
        return {name: remove_values(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [remove_values(inner) for inner in value]
    return type(value).__name__


ODD_IDS = (
    "baseline",
    "a/b",
    "bound/run-1",
    "NUL \0",
    "\ud800",
    "\ud7ff",
    "Läufe 🏃",
    "",
    "x" * 600,
)


@pytest.mark.parametrize("engine", ON_DISK)
def test_runs_of_version_1_are_found_by_notebook_and_id(tmp_path: Path, engine: str) -> None:
    url = old_stores.create_old_store(1, engine, tmp_path)
    database = sa.create_engine(url, poolclass=sa.NullPool)
    with database.begin() as connection:
        insert = sa.text(
            "INSERT INTO axonml_runs (id, document, notebook_id, started_at, status) "
            "VALUES (:id, :document, :notebook_id, :started_at, 'running')"
        )
        for n, id in enumerate(ODD_IDS):
            run = TrainingRun(
                id=id, notebook_id="unbound", started_at=now() + timedelta(seconds=n)
            ).to_json()
            row = {**run, "id": column_text(id), "document": encode(run)}
            connection.execute(insert, row)
        damaged = {"id": "damaged", "document": "[]", "notebook_id": None, "started_at": None}
        connection.execute(insert, damaged)
    database.dispose()
    for _ in range(2):
        store = open_store(url)
        repository = NotebookRepository(store)
        assert [run.id for run in repository.runs.list("unbound")] == [*ODD_IDS[::-1]]
        for id in ODD_IDS:
            assert repository.runs.get("unbound", id).id == id
        assert repository.runs.get("bound", "baseline") is None
        assert repository.runs.update_status("bound", "run-1", RunStatus.COMPLETED).id == "run-1"
        assert store.runs.ids(where("status") == "running") >= {"damaged"}
        store.close()
    store = open_store(url)
    repository = NotebookRepository(store)
    # Ids that are invalid for new runs remain valid for existing ones.
    for id in ODD_IDS[-2:]:
        repository.create_checkpoint(new_checkpoint("unbound", run_id=id))
        assert repository.checkpoints.count("unbound", run_id=id) == 1
    store.close()


#: SQL values for ids that are not text, by engine.
INVALID_IDS = {"sqlite": ("x'6162'", "x'ff'", "CAST(x'61ff62' AS TEXT)"), "postgresql": ("NULL",)}


@pytest.mark.parametrize("engine", ON_DISK)
def test_runs_of_version_1_with_damaged_ids_do_not_prevent_opening(
    tmp_path: Path, engine: str
) -> None:
    url = old_stores.create_old_store(1, engine, tmp_path)
    database = sa.create_engine(url, poolclass=sa.NullPool)
    damaged_rows = "SELECT count(*) FROM axonml_runs WHERE status = 'damaged'"
    with database.begin() as connection:
        if engine == "postgresql":
            connection.exec_driver_sql("ALTER TABLE axonml_runs ALTER id DROP NOT NULL")
        for n, damaged in enumerate(INVALID_IDS[engine]):
            for id, notebook_id in ((damaged, "'bound'"), (f"'fine {n}'", damaged)):
                connection.exec_driver_sql(
                    "INSERT INTO axonml_runs (id, document, notebook_id, started_at, status) "
                    f"VALUES ({id}, '[]', {notebook_id}, NULL, 'damaged')"
                )
        stored = (
            "id = 'fine 0' AND notebook_id IS NULL" if engine == "postgresql" else "id = x'6162'"
        )
    store = open_store(url)
    assert NotebookRepository(store).runs.get("bound", "run-1") is not None
    store.close()
    with database.begin() as connection:
        assert connection.exec_driver_sql(f"{damaged_rows} AND {stored}").scalar() == 1
        assert connection.exec_driver_sql(damaged_rows).scalar() == 2 * len(INVALID_IDS[engine])
    database.dispose()


@pytest.mark.parametrize("engine", ON_DISK)
def test_odd_values_do_not_prevent_a_migration(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_PAGE", 2)
    url = old_stores.create_old_store(2, engine, tmp_path)
    database = sa.create_engine(url, poolclass=sa.NullPool)
    run = {
        "id": "odd",
        "notebook_id": "bound",
        "started_at": "2026-01-01T00:00:00.000000Z",
        "status": "stopped",
        "lease_until": "\0\ud800",
        "tags": None,
        "config": {"x": [10**400, math.nan], "\ud800": {"y": "\0"}},
    }
    steps = [
        {"step": 10**30},
        {"step": 2**32 - 1, "large_step": 2**40},
        {"step": 1, "epoch": "x"},
        {"step": 2, "run_id": []},
    ]
    with database.begin() as connection:
        insert = "INSERT INTO {} (id, document, notebook_id) VALUES (:id, :document, 'bound')"
        row = {"id": migrations._run_key("bound", "odd"), "document": encode(run)}
        connection.execute(sa.text(insert.format("axonml_runs")), row)
        for number, fields in enumerate(steps):
            point = {"notebook_id": "bound", "run_id": "odd", "metrics": {"a": number}, **fields}
            row = {"id": f"odd {number}", "document": encode(point)}
            connection.execute(sa.text(insert.format("axonml_checkpoints")), row)
    database.dispose()
    store = open_store(url)
    key = migrations._run_key("bound", "odd")
    with store.snapshot() as connection:
        summaries = store.run_index.read_metrics(connection, [key])[key]
    assert (summaries["a"].max, summaries["a"].max_step) == (2.0, 1)
    assert (summaries["a"].min, summaries["a"].min_step) == (1.0, 2**40)
    assert "x" in NotebookRepository(store).runs.config_keys(notebook_id="bound")
    store.close()
