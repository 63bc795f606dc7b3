"""A role sees and changes only records of its user, even with SQL of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from support.factories import new_checkpoint
from support.shared_database import (
    DERIVED_TABLES,
    NOTEBOOK_TABLES,
    OpenRepository,
    SharedDatabase,
    create_trained_notebook,
    document_in,
    insert_row,
    row_in,
)

from jupyter_axon_notebooks.errors import NotFound, StoreError, WrongUser
from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import (
    NewNotebook,
    NotebookCell,
    NotebookMetadata,
    RunStatus,
    UpdateNotebook,
    UpdateRun,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.parts import content_id, split
from jupyter_axon_notebooks.repository.run_queries import RunQuery, run_key
from jupyter_axon_notebooks.run_filters import InvalidFilter
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.codec import decode, encode
from jupyter_axon_notebooks.store.postgresql.roles import Role
from jupyter_axon_notebooks.store.postgresql.row_level_security import ROLES
from jupyter_axon_notebooks.store.schema import COLLECTIONS
from jupyter_axon_notebooks.stores import find_settings
from jupyter_axon_notebooks.sync import NotebookSync
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.tracker import StoreConnection, TrackingUnavailable

LOG = logging.getLogger("test")
#: Run ids end with a digest of this length.
DIGEST = "0" * 64


@pytest.fixture
def trained(repository_of: OpenRepository) -> tuple[str, str]:
    """The ids of a notebook of alice and one of bob, each with a run and a checkpoint."""
    return (
        create_trained_notebook(repository_of("alice"), "alice")[0],
        create_trained_notebook(repository_of("bob_role"), "bob")[0],
    )


def rejected() -> Any:
    """Expect that row-level security rejects a statement."""
    return pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")


def test_a_role_sees_the_records_of_its_user_and_an_admin_all(
    repository_of: OpenRepository,
    trained: tuple[str, str],
) -> None:
    alice, bob, boss = repository_of("alice"), repository_of("bob_role"), repository_of("boss")
    of_alice, of_bob = trained
    assert [n.id for n in alice.list_all()] == [of_alice]
    assert [n.id for n in bob.list_all()] == [of_bob]
    assert {n.id for n in boss.list_all()} == {of_alice, of_bob}
    assert boss.update(of_bob, UpdateNotebook(description="seen")).description == "seen"
    assert bob.count() == 1


def test_records_of_others_are_not_found(repository_of: OpenRepository) -> None:
    alice, bob = repository_of("alice"), repository_of("bob_role")
    notebook_id, checkpoint_id = create_trained_notebook(alice, "alice")
    version_id = alice.versions.list(notebook_id)[0].id
    assert bob.find_by_id(notebook_id) is None
    assert bob.versions.get(notebook_id, version_id) is None
    assert bob.get_checkpoint(checkpoint_id) is None
    assert bob.list_checkpoints(notebook_id) == []
    assert bob.get_best_checkpoint(notebook_id, "loss", True) is None
    for change in (
        lambda: bob.update(notebook_id, UpdateNotebook(name="mine now")),
        lambda: bob.delete(notebook_id),
        lambda: bob.delete_checkpoint(checkpoint_id),
        lambda: bob.create_checkpoint(new_checkpoint(notebook_id, epoch=2, step=2)),
    ):
        with pytest.raises(NotFound):
            change()
    assert alice.get_checkpoint(checkpoint_id) is not None


def test_provenance_is_not_shared(repository_of: OpenRepository, trained: tuple[str, str]) -> None:
    alice, bob = repository_of("alice"), repository_of("bob_role")
    notebook_id, of_bob = trained
    executed, environment = [ExecutedCell(source="secret = 1")], Environment(python="3.11")
    provenance_id = alice.provenance.add(notebook_id, executed, environment)
    made = alice.create_checkpoint(
        new_checkpoint(notebook_id, epoch=7, step=7, provenance_id=provenance_id)
    )
    assert alice.provenance.get(made.id).executed == executed
    with pytest.raises(NotFound):
        bob.provenance.get(made.id)
    with pytest.raises(NotFound):
        bob.provenance.add(notebook_id, [*executed, *executed], environment)
    borrowed = bob.create_checkpoint(
        new_checkpoint(of_bob, epoch=7, step=7, provenance_id=provenance_id)
    )
    assert bob.provenance.get(borrowed.id).executed == []
    assert repository_of("boss").provenance.get(made.id).executed == executed


def test_a_user_cannot_create_a_record_for_another(repository_of: OpenRepository) -> None:
    with pytest.raises(StoreError, match=r"row-level security.*|lacks rights"):
        create_trained_notebook(repository_of("bob_role"), "alice")
    assert repository_of("alice").list_all() == []


@pytest.mark.parametrize("table", ["axonml_notebooks", *NOTEBOOK_TABLES])
def test_sql_neither_reads_nor_changes_rows_of_others(
    shared: SharedDatabase, trained: tuple[str, str], table: str
) -> None:
    notebook_id, of_bob = trained
    key = "id" if table == "axonml_notebooks" else "notebook_id"
    with closing(shared.sql("postgres")) as owner, closing(shared.sql("bob_role")) as bob:
        if table == "axonml_provenance":
            owner.execute(
                f"INSERT INTO {table} (id, document, notebook_id) "
                "VALUES ('p', %s, %s), ('q', %s, %s)",
                [document_in(notebook_id), notebook_id, document_in(of_bob), of_bob],
            )
        everything = owner.execute(
            f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]
        ).fetchall()
        assert everything
        assert bob.execute(
            f"SELECT count(*) FROM {table} WHERE {key} = %s", [notebook_id]
        ).fetchone() == (0,)
        own = len(bob.execute(f"SELECT 1 FROM {table}").fetchall())
        assert own > 0
        for blindly in (f"UPDATE {table} SET {key} = {key}", f"DELETE FROM {table}"):
            with bob.transaction(force_rollback=True):
                assert bob.execute(blindly).rowcount == own
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(f"TRUNCATE {table}")
        assert (
            owner.execute(f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]).fetchall()
            == everything
        )


@pytest.mark.parametrize("table", NOTEBOOK_TABLES)
def test_rows_cannot_be_added_to_a_notebook_of_another(
    shared: SharedDatabase, trained: tuple[str, str], table: str
) -> None:
    of_alice, of_bob = trained
    with closing(shared.sql("bob_role")) as bob:
        for row in (row_in(table, of_alice), {**row_in(table, of_bob), "notebook_id": of_alice}):
            with rejected():
                insert_row(bob, table, row)
        insert_row(bob, table, row_in(table, of_bob))
        with rejected():
            bob.execute(f"UPDATE {table} SET notebook_id = %s", [of_alice])


FORGED = {
    "the name of another": {"id": "forged", "name": "n", "user_id": "alice"},
    "no name": {"id": "forged", "name": "n"},
    "the id of another": {"name": "n", "id": "of alice", "user_id": "bob"},
    "a nested name": {
        "id": "forged",
        "user_id": "alice",
        "metadata": {"id": "forged", "user_id": "bob"},
    },
}


@pytest.mark.parametrize("document", list(FORGED.values()), ids=list(FORGED))
def test_a_notebook_document_must_agree_with_its_columns(
    shared: SharedDatabase, document: dict[str, Any]
) -> None:
    insert = "INSERT INTO axonml_notebooks (id, document, user_id) VALUES ('forged', %s, 'bob')"
    with closing(shared.sql("bob_role")) as bob:
        with rejected():
            bob.execute(insert, [encode(document)])
        # Readers use the last of two fields of the same name.
        bob.execute(insert, ['{"user_id":"alice","id":"forged","user_id":"bob"}'])
        with rejected():
            bob.execute("UPDATE axonml_notebooks SET document = %s", [encode(document)])
    with closing(shared.sql("postgres")) as owner:
        [stored] = owner.execute("SELECT document FROM axonml_notebooks").fetchone() or ()
    assert decode(stored)["user_id"] == "bob"


@pytest.mark.parametrize(
    "table",
    [
        "axonml_checkpoints",
        "axonml_runs",
        "axonml_versions",
        "axonml_provenance",
        "axonml_contents",
    ],
)
def test_a_document_must_name_its_notebook(
    shared: SharedDatabase, trained: tuple[str, str], table: str
) -> None:
    of_alice, of_bob = trained
    insert = f"INSERT INTO {table} (id, document, notebook_id) VALUES (%s, %s, %s)"
    with closing(shared.sql("bob_role")) as bob:
        for forged in (document_in(of_alice), document_in(of_bob)[:-1], "}", ""):
            with rejected():
                bob.execute(insert, [f"{of_bob}/{DIGEST}", forged, of_bob])
        bob.execute(insert, [f"{of_bob}/{DIGEST}", document_in(of_bob), of_bob])


@pytest.mark.parametrize("user", ['o"hara \\ sons', "Größe 😀", "tab\tbell\x07", "\u2028"])
@pytest.mark.parametrize("name", ["train", "nul \x00", "lone \ud800"])
def test_user_names_can_have_almost_any_character(
    shared: SharedDatabase, open_as: Callable[[str], Store], user: str, name: str
) -> None:
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role("alice", user)])
    alice = NotebookRepository(open_as("alice"))
    extra = {"nan": float("nan"), "huge": 10**400, "user_id": "bob"}
    made = alice.create(
        NewNotebook(
            id=f"n {user}",
            user_id=user,
            name=name,
            metadata=NotebookMetadata(kernel="k", language="l", extra=extra),
        )
    )
    alice.update(made.id, UpdateNotebook(description=name))
    alice.create_checkpoint(new_checkpoint(made.id, {"loss": float("inf")}, epoch=1, step=1))
    assert [(n.id, n.user_id, n.name) for n in alice.list_all()] == [(made.id, user, name)]


def test_a_record_cannot_be_given_to_another_user(
    shared: SharedDatabase, repository_of: OpenRepository
) -> None:
    create_trained_notebook(repository_of("bob_role"), "bob")
    with closing(shared.sql("bob_role")) as bob, rejected():
        bob.execute("UPDATE axonml_notebooks SET user_id = 'alice'")


def test_predictable_ids_of_contents_cannot_be_occupied(
    shared: SharedDatabase, repository_of: OpenRepository, trained: tuple[str, str]
) -> None:
    alice = repository_of("alice")
    notebook_id, own = trained
    cells = [NotebookCell(id="c", source="import torch")]
    with closing(shared.sql("bob_role")) as bob:
        for digest in split(cells, NotebookMetadata()).contents:
            row = [content_id(notebook_id, digest), own]
            with rejected():
                bob.execute(
                    "INSERT INTO axonml_contents (id, document, notebook_id) VALUES (%s, '{}', %s)",
                    row,
                )
            with rejected():
                bob.execute("UPDATE axonml_contents SET id = %s WHERE notebook_id = %s", row)
    assert alice.update(notebook_id, UpdateNotebook(cells=cells)).cells == cells


def test_runs_of_two_users_may_share_an_id(
    shared: SharedDatabase, repository_of: OpenRepository, trained: tuple[str, str]
) -> None:
    alice, bob = repository_of("alice"), repository_of("bob_role")
    of_alice, of_bob = trained
    row = [run_key(of_alice, "baseline"), document_in(of_bob), of_bob]
    with closing(shared.sql("bob_role")) as sql:
        with rejected():
            sql.execute(
                "INSERT INTO axonml_runs (id, document, notebook_id) VALUES (%s, %s, %s)", row
            )
        # Neither with a notebook whose id is a prefix of hers.
        bob.create(NewNotebook(id=of_alice[:8], user_id="bob", name="near"))
        with rejected():
            row[1:] = document_in(of_alice[:8]), of_alice[:8]
            sql.execute(
                "INSERT INTO axonml_runs (id, document, notebook_id) VALUES (%s, %s, %s)", row
            )
    for repository, notebook_id in ((alice, of_alice), (bob, of_bob)):
        repository.create_checkpoint(
            new_checkpoint(notebook_id, epoch=2, step=2, run_id="baseline")
        )
    bob.runs.update_status(of_bob, "baseline", RunStatus.FAILED)
    assert bob.runs.get(of_alice, "baseline") is None
    with pytest.raises(NotFound):
        bob.runs.update_status(of_alice, "baseline", RunStatus.FAILED)
    run = alice.runs.get(of_alice, "baseline")
    assert run is not None
    assert run.status is RunStatus.RUNNING


def test_runs_and_series_of_others_are_not_found(
    repository_of: OpenRepository, trained: tuple[str, str]
) -> None:
    of_alice, of_bob = trained
    alice, bob = repository_of("alice"), repository_of("bob_role")
    before = alice.runs.get(of_alice, "run of alice")
    rows = [Row(2, 0.0, {"acc of alice": 9.0})]
    own = bob.runs.start(of_bob, id="resumed")
    for access in (
        lambda: bob.runs.find("run of alice"),
        lambda: bob.runs.find("run of a"),  # the beginning of an id
        lambda: bob.runs.find("run of alice", by_id=True),
        lambda: bob.runs.find("name of alice", of_alice),
        lambda: bob.runs.start(of_alice),
        lambda: bob.runs.update(of_alice, "run of alice", UpdateRun(name="mine now")),
        lambda: bob.runs.update_status(of_alice, "run of alice", RunStatus.FAILED),
        lambda: bob.runs.renew(of_alice, "run of alice", now()),
        lambda: bob.runs.remove(of_alice, "run of alice"),
        lambda: bob.checkpoints.delete_run(of_alice, "run of alice"),
        lambda: bob.series.append(of_alice, "run of alice", rows, spool="s", begin=2, end=3),
        lambda: bob.series.append(of_bob, "run of alice", rows, spool="s", begin=2, end=3),
        lambda: bob.series.offset(of_alice, "run of alice", "s"),
        lambda: bob.series.names(of_alice, "run of alice"),
        lambda: bob.series.read(of_alice, "run of alice", "acc of alice"),
    ):
        with pytest.raises(NotFound) as refused:
            access()
        assert "alice" not in str(refused.value).partition("did you mean")[2]
    bob.series.forget_spool(of_alice, "run of alice", "s")
    assert bob.runs.get(of_alice, "run of alice") is None
    assert bob.runs.list(of_alice) == bob.series.list(of_alice) == []
    assert bob.runs.count(of_alice) == 0
    assert own.number == 2
    assert alice.runs.get(of_alice, "run of alice") == before
    assert alice.series.offset(of_alice, "run of alice", "s") == 2


def test_a_search_tells_nothing_of_runs_of_others(
    repository_of: OpenRepository, trained: tuple[str, str]
) -> None:
    for role, own, other in (("alice", "alice", "bob"), ("bob_role", "bob", "alice")):
        runs = repository_of(role).runs
        assert runs.config_keys() == [f"key of {own}"]
        assert runs.metric_names() == [f"acc of {own}", "loss"]
        for query in (
            RunQuery(),
            RunQuery(user_id=None, where=f'name != "name of {other}"'),
            RunQuery(sort="-loss"),
        ):
            page = runs.search(query)
            assert (page.total, [one.run.id for one in page.runs]) == (1, [f"run of {own}"])
        assert runs.search(RunQuery(where=f'name == "name of {other}"')).total == 0
        assert runs.search(RunQuery(user_id=other)).total == 0
        for variable in (f'config["key of {other}"]', f'metrics["acc of {other}"]'):
            with pytest.raises(InvalidFilter) as refused:
                runs.search(RunQuery(where=f"{variable} > 0"))
            assert f"of {other}" not in "".join(refused.value.suggestions)
    assert repository_of("boss").runs.metric_names() == ["acc of alice", "acc of bob", "loss"]


@pytest.mark.parametrize("table", DERIVED_TABLES[1:])
def test_rows_for_a_run_of_another_are_not_used(
    shared: SharedDatabase, repository_of: OpenRepository, trained: tuple[str, str], table: str
) -> None:
    of_alice, of_bob = trained
    alice = repository_of("alice")

    def read() -> list[Any]:
        [found] = alice.runs.search(RunQuery(where="loss >= 0")).runs
        series = alice.series.read(of_alice, "run of alice", "acc of alice")
        offset = alice.series.offset(of_alice, "run of alice", "s")
        return [found, alice.runs.config_keys(), series.values.tolist(), offset]

    before = read()
    query = "SELECT seq FROM axonml_runs WHERE notebook_id = %s"
    with closing(shared.sql("postgres")) as owner, closing(shared.sql("bob_role")) as bob:
        [run] = owner.execute(query, [of_alice]).fetchone() or ()
        for name in ("name", "config.key of alice", "loss", "acc of alice"):
            row = {**row_in(table, of_bob), "run": run}
            row |= {"name": name} if "name" in row else {"spool": f"s {name}"}
            row |= {"item": -1, "text": "forged"} if "item" in row else {}
            insert_row(bob, table, row)
    assert read() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM axonml_notebooks WHERE id = 'reused'",
        "UPDATE axonml_notebooks "
        """SET id = 'moved', document = replace(document, '"reused"', '"moved"')""",
    ],
)
def test_rows_are_deleted_with_their_notebook(
    shared: SharedDatabase, repository_of: OpenRepository, statement: str
) -> None:
    alice, bob = repository_of("alice"), repository_of("bob_role")
    bob.create(NewNotebook(id="reused", user_id="bob", name="bait"))
    bob.create_checkpoint(new_checkpoint("reused", {"loss": 0.0}, epoch=1, step=1, run_id="run"))
    with closing(shared.sql("bob_role")) as sql, closing(shared.sql("postgres")) as owner:
        sql.execute(
            "INSERT INTO axonml_provenance (id, document, notebook_id) VALUES ('p', %s, 'reused')",
            [document_in("reused")],
        )
        with suppress(psycopg.errors.ForeignKeyViolation):
            sql.execute(statement)
        if statement.startswith("DELETE"):
            for table in NOTEBOOK_TABLES:
                assert owner.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            alice.create(NewNotebook(id="reused", user_id="alice", name="new"))
            assert alice.get_best_checkpoint("reused", "loss", True) is None
            assert len(alice.versions.list("reused")) == 1
        else:
            assert bob.find_by_id("reused") is not None


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {ROLES} SET user_id = 'alice'",
        f"UPDATE {ROLES} SET admin = true",
        f"INSERT INTO {ROLES} VALUES ('bob_role', 'alice', true)",
        f"DELETE FROM {ROLES}",
        "UPDATE axon_properties SET value = '999'",
        "SET ROLE alice",
        "SET ROLE postgres",
        "ALTER TABLE axonml_notebooks DISABLE ROW LEVEL SECURITY",
        "DROP POLICY axon_own ON axonml_notebooks",
        "ALTER TABLE axonml_notebooks OWNER TO bob_role",
        "CREATE TRIGGER t BEFORE INSERT ON axonml_notebooks "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE FUNCTION axon_spy(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE TABLE beside (x int)",
    ],
)
def test_a_user_cannot_change_the_rules(shared: SharedDatabase, statement: str) -> None:
    with (
        closing(shared.sql("bob_role")) as bob,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        bob.execute(statement)


def test_roles_and_commit_marks_of_others_are_hidden(
    shared: SharedDatabase, repository_of: OpenRepository
) -> None:
    create_trained_notebook(repository_of("alice"), "alice")
    with closing(shared.sql("bob_role")) as bob:
        assert bob.execute(f"SELECT role FROM {ROLES}").fetchall() == [("bob_role",)]
        assert bob.execute("SELECT count(*) FROM axon_commits").fetchone() == (0,)
        bob.execute(f"SET ROLE axon_users_{shared.name}")
        assert bob.execute("SELECT count(*) FROM axonml_notebooks").fetchone() == (0,)


def test_every_table_has_row_level_security(shared: SharedDatabase) -> None:
    with closing(shared.sql("postgres")) as owner:
        tables = owner.execute(
            "SELECT relname, relrowsecurity FROM pg_class WHERE relkind IN ('r', 'v', 'm') "
            "AND relnamespace = current_schema()::regnamespace"
        ).fetchall()
    assert {name for name, held in tables if not held} == {"axon_properties"}
    assert len(tables) >= len(COLLECTIONS) + 4


def test_a_copy_of_a_notebook_of_another_user_gets_its_own_record(
    shared: SharedDatabase, repository_of: OpenRepository, tmp_path: Path
) -> None:
    repository_of("alice").create(
        NewNotebook(user_id="alice", name="cloned", id="5c3a9f0e-0000-4000-8000-000000000001")
    )
    bob = repository_of("bob_role")

    @dataclass(frozen=True)
    class Home:
        repository: NotebookRepository
        origin: str = "bob's machine"
        is_lost: bool = False

        def close(self) -> None:
            """Do nothing: the store belongs to the fixture."""

    content = new_notebook(cells=[new_code_cell("1")])
    content["metadata"]["axon"] = {"notebook_id": "5c3a9f0e-0000-4000-8000-000000000001"}
    sync = NotebookSync("the store", lambda: Home(bob), LOG, read=lambda path: content)
    sync.start()
    path = tmp_path / "cloned.ipynb"
    path.write_text("{}")
    record = sync.sync_file(str(path), "bob")
    assert sync.stop()
    assert record.metadata.extra["axon"]["copied_from"] == "5c3a9f0e-0000-4000-8000-000000000001"
    assert [n.id for n in bob.list_all()] == [record.id]


def test_a_kernel_of_another_user_is_warned(
    shared: SharedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (
        ("JUPYTER_DATA_DIR", str(tmp_path)),
        ("AXON_STORE_URL", shared.url("alice")),
        ("AXON_USER", "bob"),
    ):
        monkeypatch.setenv(variable, value)
    connection = StoreConnection(find_settings())
    message = "the role alice stands for the user alice there, but the user here is bob"
    with pytest.raises(WrongUser, match=message):
        connection.open()
    with pytest.warns(AxonWarning, match=message), pytest.raises(TrackingUnavailable):
        connection.attempt(lambda home: home.origin)
    monkeypatch.setenv("AXON_USER", "alice")
    connection = StoreConnection(find_settings())
    assert connection.open().store.shown_user == "alice"
    connection.close()
