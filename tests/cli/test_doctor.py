"""`doctor`: finds what is wrong, says what to do, changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.factories import create_checkpoint_with_state, new_checkpoint, new_notebook
from support.old_stores import STORES

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.notes import Note, write_note
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.store.sqlite import health

from .conftest import USER, Axon, repository, tree

ORIGIN = "0b7e6c52-7d6c-4c5e-9a55-2f3f0d0f9a11"


def problems(axon: Axon) -> dict[str, dict[str, str]]:
    ran = axon("doctor", "--json")
    assert ran.exit_code == (1 if ran.json["problems"] else 0)
    return {problem["code"]: problem for problem in ran.json["problems"]}


def facts(axon: Axon, section: str) -> dict[str, Any]:
    return axon("doctor", "--json").json["facts"][section]


def checkpoint_with_state(records: NotebookRepository, root: Path) -> str:
    id = records.create(new_notebook(name="train")).id
    return create_checkpoint_with_state(records, StateStorage(root), id, "c1").model_state_path


def test_checkpoints_that_wait_to_be_recorded_are_told(axon: Axon, root: Path) -> None:
    document = {"made": "while the store was locked"}
    write_note(str(root), Note("a-notebook", "a-checkpoint", document))
    found = problems(axon)["unrecorded-checkpoints"]
    assert str(root / "a-notebook" / "a-checkpoint") in found["message"]
    assert "jupyter axon recover" in found["advice"]
    assert "folders-without-record" not in problems(axon)


def test_where_nothing_was_recorded_yet_all_is_fine(process: Axon, jupyter: Path) -> None:
    before = tree(jupyter)
    ran = process("doctor")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "No problems found." in ran.stdout
    assert tree(jupyter) == before


def test_the_facts_are_told(axon: Axon, db: Path, root: Path, jupyter: Path) -> None:
    with repository(db) as records:
        checkpoint_with_state(records, root)
    (jupyter / "data" / "axon_notebooks" / "origin").write_text(f"{ORIGIN}\n")
    before = tree(jupyter)
    report = axon("doctor", "--json").json
    assert report["problems"] == []
    assert report["facts"]["versions"].keys() >= {
        "python",
        "sqlite",
        "tinydb",
        "sqlalchemy",
        "jupyter_server",
    }
    store = report["facts"]["store"]
    assert (store["url"], store["origin"], store["user"]) == (f"sqlite:///{db}", ORIGIN, USER)
    assert (store["schema version"], store["integrity"], store["permissions"]) == (
        SCHEMA_VERSION,
        "ok",
        "0600",
    )
    assert [store[name] for name in ("notebooks", "checkpoints", "versions", "runs")] == [
        1,
        1,
        1,
        0,
    ]
    assert store["size"] == db.stat().st_size
    states = report["facts"]["state files"]
    assert (states["root"], states["checkpoint folders"]) == (str(root), 1)
    assert states["size"] >= len(b"weights")
    assert states["free"] > 0
    assert "1" in axon("doctor").stdout
    assert tree(jupyter) == before


def test_a_store_in_use_is_looked_at_with_what_is_only_in_its_log(
    axon: Axon, records: NotebookRepository, db: Path
) -> None:
    records.create(new_notebook(name="train"))
    before = tree(db.parent)
    store = facts(axon, "store")
    assert store["notebooks"] == 1
    # A reader marks its place in the shared index, which is no part of the data.
    after = tree(db.parent)
    assert {name for name in before if before[name] != after[name]} <= {"axon.db-shm"}
    assert before.keys() == after.keys()


def test_damage_is_found(axon: Axon, db: Path) -> None:
    with repository(db) as records:
        for number in range(50):
            records.create(new_notebook(name=f"train{number}"))
    content = bytearray(db.read_bytes())
    content[8192:20480] = b"\xa5" * 12288
    db.write_bytes(content)
    before = tree(db.parent)
    assert "restore a backup" in problems(axon)["damaged"]["advice"]
    assert tree(db.parent) == before
    assert "Problem: the store is damaged" in axon("doctor").stdout


def test_a_database_of_another_program_is_named_and_left_alone(axon: Axon, db: Path) -> None:
    db.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("CREATE TABLE theirs (n INTEGER)")
    content = db.read_bytes()
    assert "no-store" in problems(axon)
    assert axon("doctor", "--start-over").exit_code == 1
    assert db.read_bytes() == content


def test_a_store_that_others_can_read_is_told(axon: Axon, db: Path) -> None:
    with repository(db):
        pass
    db.chmod(0o644)
    assert problems(axon) == {}  # its folder lets nobody in
    db.parent.chmod(0o755)
    assert f"chmod 600 {db}" in problems(axon)["readable-by-others"]["advice"]


def test_a_record_without_its_state_file_is_told(
    axon: Axon, records: NotebookRepository, root: Path
) -> None:
    path = checkpoint_with_state(records, root)
    os.unlink(path)
    assert path in problems(axon)["missing-state-files"]["message"]


def test_a_folder_without_a_record_is_told_once_it_is_old(
    axon: Axon, records: NotebookRepository, root: Path
) -> None:
    path = Path(checkpoint_with_state(records, root))
    records.delete_checkpoint("c1")
    assert problems(axon) == {}
    for old in [path.parent, *path.parent.iterdir()]:
        os.utime(old, (0, 0))
    assert str(path.parent) in problems(axon)["folders-without-record"]["message"]


def test_linked_folders_are_not_folders_of_state_files(
    axon: Axon, records: NotebookRepository, root: Path, tmp_path: Path
) -> None:
    path = Path(checkpoint_with_state(records, root))
    other = tmp_path / "other" / "checkpoint"
    other.mkdir(parents=True)
    os.utime(other, (0, 0))
    (root / "linked").symlink_to(other.parent)
    (path.parents[1] / "linked").symlink_to(other)
    assert problems(axon) == {}
    assert facts(axon, "state files")["checkpoint folders"] == 1


def test_a_store_of_an_older_version_is_told_until_it_is_migrated(axon: Axon, db: Path) -> None:
    older = STORES / f"version{SCHEMA_VERSION - 1}.sqlite.sql"
    db.parent.mkdir(parents=True)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executescript(older.read_text("utf-8"))
    assert "were not checked" in problems(axon)["too-old"]["message"]
    assert axon("list").exit_code == 0
    assert "too-old" not in problems(axon)


def test_start_over_moves_a_damaged_store_aside_and_creates_a_new_one(
    axon: Axon, db: Path, root: Path
) -> None:
    assert axon("doctor", "--start-over").exit_code == 4  # there is no store
    with repository(db) as records:
        records.create(new_notebook(name="train"))
    sound = axon("doctor", "--start-over")
    assert (sound.exit_code, "is not damaged" in sound.stderr) == (1, True)
    damaged = b"damaged" * 10_000
    db.write_bytes(damaged)
    assert "doctor --start-over" in problems(axon)["damaged"]["advice"]
    ran = axon("doctor", "--start-over", "--json")
    assert (ran.exit_code, ran.json["problems"]) == (0, [])
    assert Path(ran.json["moved_to"]).read_bytes() == damaged
    assert "jupyter axon recover" in ran.stderr
    assert axon("list", "--json").json == []


@pytest.mark.parametrize("how", ["a lock", "a folder"])
def test_start_over_leaves_what_it_cannot_examine(
    axon: Axon, db: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(health, "_TIMEOUT", 0.1)
    with repository(db) as records:
        records.create(new_notebook(name="train"))
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        if how == "a lock":
            other.execute("BEGIN EXCLUSIVE")
        else:
            db.rename(db.with_name("moved"))
            db.mkdir()
        before = sorted(db.parent.iterdir())
        assert "not-examined" in problems(axon)
        ran = axon("doctor", "--start-over")
        assert (ran.exit_code, "cannot be examined" in ran.stderr) == (4, True)
        assert sorted(db.parent.iterdir()) == before


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE axon_properties",
        "UPDATE axon_properties SET value = 'zzz' WHERE name = 'schema_version'",
        "DROP TABLE axonml_runs",
        "DROP TABLE axonml_series",
    ],
)
def test_start_over_replaces_a_store_with_missing_parts(axon: Axon, db: Path, damage: str) -> None:
    with repository(db) as records:
        records.create(new_notebook(name="train"))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(damage)
    assert "doctor --start-over" in problems(axon)["damaged"]["advice"]
    assert axon("doctor", "--start-over", "--json").json["problems"] == []
    assert axon("list", "--json").json == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db:54x32/axon?password=hunter2",
        "postgresql://ada:hunter2@db:54x32/axon",
        "db/axon?password=hunter2",
        "ada@db:hunter2",
        "postgresql+psycopg://db/axon?oauth_client_secret=hunter2",
        "postgresql+psycopg://db/axon?scram_client_key=hunter2&SCRAM_SERVER_KEY=hunter2",
    ],
)
def test_a_secret_is_shown_nowhere_even_where_the_url_cannot_be_read(axon: Axon, url: str) -> None:
    for command in (["doctor"], ["list"], ["import", "a.ipynb"]):
        ran = axon(*command, "--store-url", url)
        assert "hunter2" not in ran.stdout + ran.stderr


def outside(records: NotebookRepository, path: Path, notebook_id: str | None = None) -> str:
    """Record a checkpoint whose state file is at ``path``; return its id."""
    if notebook_id is None:
        notebook_id = records.create(new_notebook(name="loaded")).id
    new = new_checkpoint(notebook_id, model_state_path=os.fspath(path))
    return records.create_checkpoint(new).id


def test_a_state_file_outside_all_roots_is_told(
    axon: Axon, records: NotebookRepository, root: Path, jupyter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    outside(records, path)
    found = problems(axon)["state-files-out-of-reach"]
    assert str(path) in found["message"]
    assert "must lie inside one of the configured folders" in found["message"]
    assert "extra_states_roots" in found["advice"]
    config = jupyter / "config" / "jupyter_server_config.py"
    config.write_text(f"c.AxonNotebooks.extra_states_roots = [{str(path.parent)!r}]\n")
    assert problems(axon) == {}
    config.unlink()
    path.unlink()
    assert problems(axon).keys() == {"missing-state-files"}


def test_an_extension_that_is_not_enabled_is_told(axon: Axon, jupyter: Path) -> None:
    config = jupyter / "config" / "jupyter_server_config.d" / "axon.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    extensions = {"jupyter_axon_notebooks": False}
    config.write_text(json.dumps({"ServerApp": {"jpserver_extensions": extensions}}))
    assert "jupyter server extension enable" in problems(axon)["extension-not-enabled"]["advice"]
    config = jupyter / "config" / "jupyter_server_config.py"
    config.write_text("c.ServerApp.jpserver_extensions = {'jupyter_axon_notebooks': True}\n")
    assert problems(axon) == {}
