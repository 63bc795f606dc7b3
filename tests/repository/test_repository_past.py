"""Stores of every past version open, and all that was in them is found."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import past
import pytest
from made import check_contents, code, saved

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.migrations import STEPS
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

VERSIONS = range(1, SCHEMA_VERSION + 1)


def build(version: int, path: Path) -> str:
    """The URL of a store of a past version, made from what was put down then."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((past.STORES / f"version{version}.sql").read_text(encoding="utf-8"))
    return f"sqlite:///{path}"


def expected(version: int) -> Any:
    return json.loads((past.STORES / f"version{version}.json").read_text(encoding="utf-8"))


def plain(found: Any) -> Any:
    return json.loads(json.dumps(found))


def schema(path: Path) -> set[tuple[str, str]]:
    """Columns and indexes, whatever the order they were made in."""
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        columns = {
            (name, str(column[1:]))
            for name in names
            for column in connection.execute(f"PRAGMA table_info({name})")
        }
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        return columns | set(indexes)


def test_a_store_of_every_version_was_put_down() -> None:
    assert {file.name for file in past.STORES.iterdir()} >= {
        f"version{version}.{kind}" for version in VERSIONS for kind in ("sql", "json")
    }
    assert set(STEPS) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_in_a_store_of_the_past_is_found(tmp_path: Path, version: int) -> None:
    store = open_store(build(version, tmp_path / "axon.db"))
    repository = NotebookRepository(store)
    assert plain(past.everything(repository)) == expected(version)
    check_contents(store)
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_the_past_has_the_tables_of_a_new_one(tmp_path: Path, version: int) -> None:
    open_store(build(version, tmp_path / "axon.db")).close()
    open_store(f"sqlite:///{tmp_path}/new.db").close()
    assert schema(tmp_path / "axon.db") == schema(tmp_path / "new.db")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_the_past_can_be_written_to(tmp_path: Path, version: int) -> None:
    store = open_store(build(version, tmp_path / "axon.db"))
    repository = NotebookRepository(store)
    before = expected(version)
    [bound] = [one for one in before["notebooks"] if one["notebook"]["id"] == "bound"]
    repository.save("bound", saved(code("new", "1")))
    deque(repository.tidy_notebook("bound", 1))
    repository.delete("unbound")
    [after] = plain(past.everything(repository))["notebooks"]
    newest, *older = after["versions"]
    assert [cell["source"] for cell in newest["cells"]] == ["1"]
    referred = {checkpoint["version_id"] for checkpoint in bound["checkpoints"]}
    assert older == [one for one in bound["versions"] if one["id"] in referred]
    assert [after[what] for what in ("checkpoints", "runs", "best")] == [
        bound[what] for what in ("checkpoints", "runs", "best")
    ]
    check_contents(store)
    store.close()


def test_what_is_put_down_for_tests_to_come_is_all_there_is(tmp_path: Path) -> None:
    past.write(tmp_path)
    kinds = [
        json.loads((folder / f"version{SCHEMA_VERSION}.json").read_text())
        for folder in (tmp_path, past.STORES)
    ]
    assert len({str(shape(kind)) for kind in kinds}) == 1


def shape(value: Any) -> Any:
    """What a value is made of, without what is different each time."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__
