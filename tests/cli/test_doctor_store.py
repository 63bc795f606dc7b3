"""`doctor` on the content of stores, and on files and servers."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import ON_DISK, PostgresqlServer, new_url, postgresql
from support.factories import new_checkpoint, new_notebook
from tinydb import where

from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import Store, open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

from .conftest import Axon


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
    records.create(new_notebook(id=id, name="train"))
    for n in range(1, length):
        records.update(id, UpdateNotebook(cells=[NotebookCell(id="a", source=f"{n}" * 100)]))


def test_a_sound_store_has_its_facts_and_no_problems(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    records.create_checkpoint(new_checkpoint("nb", {"loss": 1}))
    facts, problems = report(axon, store)
    assert problems == {}
    told = facts["store"]
    assert (told["notebooks"], told["versions"], told["checkpoints"]) == (1, 3, 1)
    assert told["size"] > 0


def test_a_version_that_cannot_be_put_together_is_told(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    history(records)
    [newest, *_] = records.versions.list("nb")
    store.contents.remove([min(store.contents.ids(where("notebook_id") == "nb"))])
    assert "missing-contents" in report(axon, store)[1]
    store.versions.remove([newest.id])
    assert "incomplete in the store" in report(axon, store)[1]["missing-contents"]["message"]


def test_a_damaged_document_is_told(axon: Axon, store: Store, records: NotebookRepository) -> None:
    history(records, 2)
    version = min(found.doc_id for found in store.versions.all())
    with store.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE axonml_versions SET document = 'no document' WHERE id = '{version}'"
        )
    problems = report(axon, store)[1]
    assert problems.keys() == {"damaged-records"}
    assert (
        f"1 record damaged; the first: version {version}" in problems["damaged-records"]["message"]
    )


# Files


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
    assert told["server"].split(".")[0].isdecimal()


def test_a_database_without_a_store_is_told_and_left_alone(
    axon: Axon, server: PostgresqlServer
) -> None:
    database = server.new_database(empty=True)
    told, problems = doctored(axon, server.url(database))
    assert problems == {}
    assert "there is no store yet" in told["nothing yet"]
    with closing(server.connect(database)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


GRANTS = {
    "nothing": ([], "may not read"),
    "reading": (["GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"], "may not write"),
    "tables only": (["GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"], "may not write"),
    "everything": (
        [
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ],
        None,
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
    assert list(problems) == ([] if expected is None else ["missing-rights"])
    assert expected is None or expected in problems["missing-rights"]["message"]
    assert told["role"] == role


def test_a_server_that_is_not_there_is_told(axon: Axon, tmp_path: Path) -> None:
    told, problems = doctored(axon, f"postgresql+psycopg://ada@/axon?host={tmp_path}")
    assert list(problems) == ["store-out-of-reach"]
    assert json.dumps(told)


def test_a_damaged_checkpoint_is_told_and_its_folder_is_no_stray(
    axon: Axon, store: Store, records: NotebookRepository, jupyter: Path
) -> None:
    history(records)
    records.create_checkpoint(new_checkpoint("nb", id="bad"))
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
        problems = report(axon, store)[1]
        assert problems.keys() == {"damaged-records"}
        assert problems["damaged-records"]["items"] == ["checkpoint bad"]


@pytest.mark.parametrize("name", ["axon.db", "axon.db-wal"])
@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_a_special_file_in_place_of_the_store_is_told_and_not_read(
    axon: Axon, tmp_path: Path, name: str, target: str
) -> None:
    url = new_url("sqlite", tmp_path)
    open_store(url).close()
    file = Path(url.removeprefix("sqlite:///")).with_name(name)
    file.unlink(missing_ok=True)
    if target == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(target)
    found = axon("doctor", "--json", "--store-url", url).json["problems"]
    [problem] = [problem for problem in found if problem["code"] == "not-examined"]
    assert "not a regular file" in problem["message"]


def test_rows_of_lost_runs_are_reported_until_they_are_collected(
    axon: Axon, store: Store, records: NotebookRepository
) -> None:
    records.create(new_notebook(id="nb"))
    for run_id in ("lost", "kept"):
        records.runs.start("nb", id=run_id, config={"lr": 0.1})
        row = Row(0, 0.0, {"loss": 1.0})
        records.series.append("nb", run_id, [row], spool="s", begin=0, end=1)
    assert report(axon, store)[1] == {}
    with store.transaction() as connection:
        store.mark_written()
        lost = run_key("nb", "lost")
        connection.exec_driver_sql(f"DELETE FROM axonml_runs WHERE id = '{lost}'")
    problem = report(axon, store)[1]["lost-runs"]
    assert "1 run gone" in problem["message"]
    assert "of notebook nb" in problem["message"]
    deque(records.garbage.remove_lost_runs())
    assert report(axon, store)[1] == {}
