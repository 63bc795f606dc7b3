"""`doctor` on what is in a store: what does not belong together, what is slow, what takes up space."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import ON_DISK, PostgresqlServer, new_url, postgresql
from tinydb import where

from jupyter_axon_notebooks.cli import storecheck
from jupyter_axon_notebooks.cli.census import take
from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document, open_store
from jupyter_axon_notebooks.store.postgresql.health import connect_to_server
from jupyter_axon_notebooks.store.postgresql.roles import Role
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.store.sqlite import health as file_health
from jupyter_axon_notebooks.store.sqlite.health import connect_to_file
from jupyter_axon_notebooks.store.urls import file_of

from .conftest import USER, Axon


@pytest.fixture(params=ON_DISK)
def store(request: pytest.FixtureRequest, db: Path) -> Iterator[Store]:
    db.parent.mkdir(mode=0o700)
    opened = open_store(new_url(request.param, db.parent))
    yield opened
    opened.close()


@pytest.fixture
def records(store: Store) -> NotebookRepository:
    return NotebookRepository(store)


def report(axon: Axon, store: Store) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    ran = axon("doctor", "--json", "--store-url", store.url)
    assert ran.exit_code == (1 if ran.json["problems"] else 0)
    assert axon("doctor", "--store-url", store.url).exit_code == ran.exit_code
    return ran.json["facts"], {problem["code"]: problem for problem in ran.json["problems"]}


def history(records: NotebookRepository, length: int = 3, id: str = "nb") -> None:
    records.create(NewNotebook(id=id, user_id=USER, name="train"))
    for n in range(1, length):
        records.update(id, UpdateNotebook(cells=[NotebookCell(id="a", source=f"{n}" * 100)]))


def test_a_sound_store_has_its_facts_and_no_problems(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    records.create_checkpoint(NewCheckpoint(notebook_id="nb", epoch=0, step=0, metrics={"loss": 1}))
    facts, problems = report(axon, store)
    assert problems == {}
    told = facts["store"]
    assert (told["exists"], told["notebooks"], told["versions"], told["checkpoints"]) == (
        True,
        1,
        3,
        1,
    )
    assert facts["contents"]["listed by no version"] == 0
    assert facts["contents"]["most versions of a notebook"] == 3
    assert facts["contents"]["largest notebook"] > 200
    tables = {name.removeprefix("axonml_") for name in (*store._schema.tables, "axonml_metrics")}
    assert set(facts.get("sizes", {})) == (tables if tells_sizes(store) else set())
    assert all(size > 0 for size in facts.get("sizes", {}).values())
    assert told["size"] + told.get("log size", 0) >= sum(facts.get("sizes", {}).values())


def test_many_notebooks_are_counted_in_as_many_statements_as_few(
    store: Store, records: NotebookRepository
) -> None:
    counts = []
    for size in (2, 9):
        for n in range(size):
            history(records, n + 2, f"{n} of {size}")
        sent: list[str] = []

        def note(
            _connection: Any, _cursor: Any, statement: str, *_: Any, sent: list[str] = sent
        ) -> None:
            sent.append(statement)

        with store.snapshot() as connection:
            sa.event.listen(connection, "before_cursor_execute", note)
            seen: list[None] = []
            census = take(connection, lambda seen=seen: seen.append(None))  # type: ignore[misc]
        assert (census.damaged, census.unreadable, census.unlisted) == ([], [], 0)
        assert len(seen) == records.count()
        assert census.most_versions is not None
        assert census.most_versions[:2] == (f"{size - 1} of {size}", size + 1)
        counts.append(len(sent))
    assert counts[1] <= counts[0]  # the first also asks what the server is


def tells_sizes(store: Store) -> bool:
    """Whether the engine knows what each table takes up, which some builds of SQLite do not."""
    if not store.url.startswith("sqlite"):
        return True
    with store.snapshot() as connection:
        return (
            "ENABLE_DBSTAT_VTAB" in connection.exec_driver_sql("PRAGMA compile_options").scalars()
        )


def test_contents_that_nobody_lists_are_counted_and_told_when_they_are_many(
    axon: Axon, store: Store, records: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(records)
    store.contents.insert({"notebook_id": "nb", "ordinal": 7, "content": {"source": "x" * 1000}})
    store.contents.insert({"notebook_id": "nobody", "ordinal": 0, "content": {}})
    facts, problems = report(axon, store)
    assert (facts["contents"]["listed by no version"], problems) == (2, {})
    monkeypatch.setattr(storecheck, "_MUCH", 1000)
    told = report(axon, store)[1]["unlisted-contents"]
    assert "2 sources and outputs, 1.1 kB" in told["what"]
    assert "it removes them" in told["do"]


def test_a_version_that_cannot_be_put_together_is_told(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    [newest, *_] = records.versions.list("nb")
    store.contents.remove_ids([min(store.contents.ids(where("notebook_id") == "nb"))])
    assert "missing-contents" in report(axon, store)[1]
    store.versions.remove_ids([newest.id])
    assert "refer to what is not there" in report(axon, store)[1]["missing-contents"]["what"]


def test_provenance_that_is_not_whole_is_told(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    executed = [ExecutedCell(source="fit()")]
    provenance_id = records.provenance.add("nb", executed, Environment(python="3.11"))
    new = NewCheckpoint(
        id="c", notebook_id="nb", epoch=0, step=0, metrics={}, provenance_id=provenance_id
    )
    records.create_checkpoint(new)
    assert report(axon, store)[1] == {}
    store.provenance.remove(where("kind") == "source")
    assert f"the first: {provenance_id}" in report(axon, store)[1]["missing-provenance"]["what"]
    store.provenance.remove_ids([provenance_id])
    assert "the first: c" in report(axon, store)[1]["missing-provenance"]["what"]
    store.provenance.insert(document(provenance_id, {"notebook_id": "nb", "kind": "execution"}))
    assert f"provenance {provenance_id}" in report(axon, store)[1]["damaged-records"]["what"]


def test_rows_of_a_notebook_that_is_not_there_are_told(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    store.runs.insert({"notebook_id": "nobody"})
    store.checkpoints.insert({"notebook_id": "nobody", "metrics": {}})
    told = report(axon, store)[1]["rows-without-notebook"]["what"]
    assert "1 checkpoints, 1 runs of notebooks" in told


def test_a_missing_index_is_told_with_what_makes_it(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    with store.transaction() as connection:
        connection.exec_driver_sql("DROP INDEX ix_axonml_checkpoints_version_id")
    told = report(axon, store)[1]["missing-indexes"]["do"]
    statement = told.partition("in it: ")[2]
    with store.transaction() as connection:
        connection.exec_driver_sql(statement)
    assert report(axon, store)[1] == {}


def test_what_makes_things_slow_is_told(
    axon: Axon, store: Store, records: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(records, 5, "nb1")
    history(records, 2, "nb2")
    monkeypatch.setattr(storecheck, "_MANY_VERSIONS", 4)
    monkeypatch.setattr(storecheck, "_LARGE", 100)
    problems = report(axon, store)[1]
    assert "nb1 has 5 versions" in problems["many-versions"]["what"]
    assert "notebook nb1" in problems["large-notebook"]["what"]


def test_a_damaged_document_is_told(axon: Axon, store: Store, records: NotebookRepository) -> None:
    history(records, 2)
    version = min(found.doc_id for found in store.versions)
    with store.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE axonml_versions SET document = 'no document' WHERE id = '{version}'"
        )
    facts, problems = report(axon, store)
    assert problems.keys() == {"damaged-records"}
    assert (
        f"1 records are damaged; the first: version {version}"
        in problems["damaged-records"]["what"]
    )
    assert facts["contents"]["listed by no version"] == 0


@pytest.fixture(params=["with a log", "without one"])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if request.param == "without one":  # as on a network file system
        monkeypatch.setattr(
            file_health, "NETWORK_FILE_SYSTEMS", {file_health.file_system(tmp_path)}
        )
    return str(request.param)


@pytest.mark.filterwarnings("ignore:the store .* is on a network file system")
def test_a_store_that_is_saved_to_meanwhile_is_seen_at_one_moment(
    journal: str, store: Store, records: NotebookRepository
) -> None:
    history(records)
    path = file_of(store.url)
    saves = iter(range(1000))

    def save(*_: object) -> None:
        cells = [NotebookCell(id="a", source=f"again {next(saves)}")]
        if journal == "with a log" or path is None:
            records.update("nb", UpdateNotebook(cells=cells))
        else:  # a reader keeps writers waiting, so nothing changes
            with pytest.raises(StoreBusy):
                Store(store.url, busy_timeout=0).notebooks.insert({})

    with connect_to_file(path) if path is not None else connect_to_server(store.url) as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM axonml_notebooks")) == 1
        sa.event.listen(connection, "before_cursor_execute", save)
        census = take(connection)
    assert next(saves) > 5
    assert (census.unreadable, census.without_version, census.damaged, census.unlisted) == (
        [],
        [],
        [],
        0,
    )


# Files


def test_where_there_is_no_store_doctor_says_what_makes_one(axon: Axon, db: Path) -> None:
    ran = axon("doctor")
    assert ran.exit_code == 0
    assert "there is no store there yet; a Jupyter server with the extension makes it" in ran.stdout
    assert not db.exists()


def test_a_url_of_no_kind_of_store_is_a_problem(axon: Axon) -> None:
    ran = axon("doctor", "--json", "--store-url", "mysql://ada:secret@db/axon")
    assert ran.exit_code == 1
    [problem] = [one for one in ran.json["problems"] if one["code"] == "unknown-store"]
    assert "starts with 'mysql'; expected sqlite:///" in problem["what"]
    assert "secret" not in ran.stdout


def test_space_that_is_not_used_is_told(
    axon: Axon, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storecheck, "_MUCH", 1_000_000)
    store = open_store(f"sqlite:///{db}")
    store.runs.insert({"notes": "x" * 4_000_000})
    store.runs.truncate()
    facts, problems = report(axon, store)
    assert facts["store"]["unused"] > 3_000_000
    assert "start a server" in problems["unused-space"]["do"]
    assert "MB" in problems["long-log"]["what"]
    store.close()
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        connection.execute("CREATE TABLE filler (a)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(4000000))")
        connection.commit()
        connection.execute("DROP TABLE filler")
    db.chmod(0o600)
    assert "VACUUM" in report(axon, store)[1]["unused-space"]["do"]


def test_a_disk_that_is_nearly_full_is_told(
    axon: Axon, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(f"sqlite:///{db}").close()
    monkeypatch.setattr(storecheck, "LITTLE_SPACE", 1 << 62)
    ran = axon("doctor", "--json")
    assert "little-space-for-store" in {problem["code"] for problem in ran.json["problems"]}


# Servers


@pytest.fixture
def server() -> PostgresqlServer:
    return postgresql()


def doctored(axon: Axon, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    ran = axon("doctor", "--json", "--store-url", url)
    return ran.json["facts"]["store"], {
        problem["code"]: problem for problem in ran.json["problems"]
    }


def test_the_server_and_the_role_are_told(axon: Axon, server: PostgresqlServer) -> None:
    database = server.new_database()
    told, problems = doctored(axon, server.url(database))
    assert problems == {}
    assert (told["database"], told["role"], told["schema version"]) == (
        database,
        "postgres",
        SCHEMA_VERSION,
    )
    assert (told["exists"], told["may read"], told["may write"]) == (True, True, True)
    assert told["server"].split(".")[0].isdecimal()


def test_a_database_without_a_store_is_told_and_left_alone(
    axon: Axon, server: PostgresqlServer
) -> None:
    database = server.new_database(empty=True)
    told, problems = doctored(axon, server.url(database))
    assert (told["exists"], told["may write"], problems) == (False, True, {})
    assert "there is no store there yet" in told["nothing yet"]
    with closing(server.connect(database)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


GRANTS = {
    "nothing": ([], (False, False)),
    "reading": (["GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"], (True, False)),
    "tables only": (["GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"], (True, False)),
    "everything": (
        [
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ],
        (True, True),
    ),
}


@pytest.mark.parametrize("granted", list(GRANTS))
def test_what_the_role_may_do_is_told(axon: Axon, server: PostgresqlServer, granted: str) -> None:
    database = server.new_database()
    role = f"role_of_{database}"
    grants, expected = GRANTS[granted]
    with closing(server.connect(database)) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        for grant in grants:
            connection.execute(grant.format(role=role))
    told, problems = doctored(axon, server.url(database, role))
    assert (told["may read"], told["may write"]) == expected
    assert list(problems) == ([] if all(expected) else ["no-permission"])
    assert told["role"] == role


def test_a_server_that_is_not_there_is_told(axon: Axon, tmp_path: Path) -> None:
    told, problems = doctored(axon, f"postgresql+psycopg://ada@/axon?host={tmp_path}")
    assert list(problems) == ["store-out-of-reach"]
    assert json.dumps(told)


def test_state_files_are_compared_with_the_records_on_every_engine(
    axon: Axon, store: Store, records: NotebookRepository, jupyter: Path
) -> None:
    root = jupyter / "data" / "axon_notebooks" / "states"
    history(records)
    for id in ("there", "gone"):
        file = root / "nb" / id / "model.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"weights")
        records.create_checkpoint(
            NewCheckpoint(
                id=id, notebook_id="nb", epoch=0, step=0, metrics={}, model_state_path=str(file)
            )
        )
    file.unlink()
    stray = root / "nb" / "stray"
    stray.mkdir()
    facts, problems = report(axon, store)
    assert [missing["path"] for missing in facts["state files"]["missing files"]] == [str(file)]
    assert facts["state files"]["folders being written"] == [str(stray)]
    os.utime(stray, (0, 0))
    facts, problems = report(axon, store)
    assert facts["state files"]["folders without a record"] == [str(stray)]
    assert problems.keys() == {"missing-state-files", "folders-without-record"}
    assert facts["versions"]["psycopg"]


def test_a_damaged_checkpoint_is_told_and_its_folder_is_no_stray(
    axon: Axon, store: Store, records: NotebookRepository, jupyter: Path
) -> None:
    history(records)
    records.create_checkpoint(
        NewCheckpoint(id="bad", notebook_id="nb", epoch=0, step=0, metrics={})
    )
    folder = jupyter / "data" / "axon_notebooks" / "states" / "nb" / "bad"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    with store.transaction() as connection:
        whole = connection.scalar(sa.text("SELECT document FROM axonml_checkpoints"))
    too_large = json.dumps({**json.loads(whole), "step": 2**32 - 1, "large_step": 2**53})
    for text in ("{broken", "[1]", too_large):
        with store.transaction() as connection:
            connection.execute(
                sa.text("UPDATE axonml_checkpoints SET document = :text"), {"text": text}
            )
        facts, problems = report(axon, store)
        assert (
            problems["unreadable-checkpoints"]["what"] == "1 checkpoint is damaged; the first: bad"
        )
        assert facts["state files"]["folders without a record"] == []


def test_who_is_shown_only_his_own_is_not_told_that_folders_of_others_are_strays(
    axon: Axon, jupyter: Path
) -> None:
    server = postgresql()
    database = server.new_database()
    with closing(open_store(server.url(database))) as owner:
        owner.separate_users([Role("looks_at_states", USER)])
    folder = jupyter / "data" / "axon_notebooks" / "states" / "of-another" / "checkpoint"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    with closing(open_store(server.url(database, user="looks_at_states"))) as store:
        facts, problems = report(axon, store)
    assert facts["state files"]["folders without a record"] is None
    assert facts["state files"]["missing files"] == []
    assert "folders-without-record" not in problems
