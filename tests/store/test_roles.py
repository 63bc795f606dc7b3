"""Claims about users apart in one PostgreSQL database: as roles that try what they must not."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from engines import FORGETFUL, PostgresqlServer
from nbformat.v4 import new_code_cell, new_notebook
from sqlalchemy import make_url

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StoreError
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.roles import MEMBERS, ROLES, Role, new_password, pass_line
from jupyter_axon_notebooks.store.schema import COLLECTIONS
from jupyter_axon_notebooks.sync import NotebookSync

LOG = logging.getLogger("test")
#: Tables that hold what belongs to notebooks; each row names its notebook.
OF_NOTEBOOKS = [c.name for c in COLLECTIONS if c.name != "axonml_notebooks"] + ["axonml_metrics"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server of its own: roles belong to all of its databases, and here some need a password."""
    server = PostgresqlServer(**FORGETFUL, log_statement="all")
    yield server
    server.close()


@dataclass
class Shared:
    """A database that alice, bob and an admin share."""

    server: PostgresqlServer
    name: str

    def url(self, role: str) -> str:
        return self.server.url(self.name, user=role)

    def sql(self, role: str) -> psycopg.Connection:
        return self.server.connect(self.name, user=role)


@pytest.fixture
def shared(server: PostgresqlServer) -> Shared:
    shared = Shared(server, server.new_database())
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users(
            [Role("alice", "alice"), Role("bob_role", "bob"), Role("boss", "the boss", admin=True)]
        )
    return shared


Opener = Callable[[str], NotebookRepository]


@pytest.fixture
def acting_as(shared: Shared) -> Iterator[Opener]:
    stores: list[Store] = []

    def open(role: str) -> NotebookRepository:
        stores.append(Store(shared.url(role)))
        return NotebookRepository(stores[-1])

    yield open
    for store in stores:
        store.close()


def trained(repository: NotebookRepository, user_id: str) -> tuple[str, str]:
    """A notebook with something in every table that holds anything by now, and a checkpoint of it."""
    notebook = repository.create(
        NewNotebook(user_id=user_id, name="train", cells=[NotebookCell(source="fit()")])
    )
    checkpoint = repository.create_checkpoint(
        NewCheckpoint(
            notebook_id=notebook.id, epoch=1, step=1, metrics={"loss": 0.5}, run_id=f"run of {user_id}"
        )
    )
    return notebook.id, checkpoint.id


def test_each_role_sees_its_own_users_records_and_an_admin_all(acting_as: Opener) -> None:
    alice, bob, boss = acting_as("alice"), acting_as("bob_role"), acting_as("boss")
    of_alice, of_bob = trained(alice, "alice")[0], trained(bob, "bob")[0]
    assert [n.id for n in alice.list_all()] == [of_alice]
    assert [n.id for n in bob.list_all()] == [of_bob]
    assert {n.id for n in boss.list_all()} == {of_alice, of_bob}
    assert boss.update(of_bob, UpdateNotebook(description="seen")).description == "seen"
    assert bob.count_notebooks() == 1


def test_what_is_anothers_is_not_there(acting_as: Opener) -> None:
    alice, bob = acting_as("alice"), acting_as("bob_role")
    notebook_id, checkpoint_id = trained(alice, "alice")
    version_id = alice.list_versions(notebook_id)[0].id
    assert bob.find_by_id(notebook_id) is None
    assert bob.get_version(notebook_id, version_id) is None
    assert bob.get_checkpoint(checkpoint_id) is None
    assert bob.list_checkpoints(notebook_id) == []
    assert bob.get_best_checkpoint(notebook_id, "loss", True) is None
    for change in (
        lambda: bob.update(notebook_id, UpdateNotebook(name="mine now")),
        lambda: bob.delete(notebook_id),
        lambda: bob.delete_checkpoint(checkpoint_id),
        lambda: bob.create_checkpoint(NewCheckpoint(notebook_id=notebook_id, epoch=2, step=2, metrics={})),
    ):
        with pytest.raises(NotFound):
            change()
    assert alice.get_checkpoint(checkpoint_id) is not None


def test_a_user_makes_no_record_in_anothers_name(acting_as: Opener) -> None:
    with pytest.raises(StoreError, match=r"row-level security.*|lacks rights"):
        trained(acting_as("bob_role"), "alice")
    assert acting_as("alice").list_all() == []


@pytest.mark.parametrize("table", ["axonml_notebooks", *OF_NOTEBOOKS])
def test_with_sql_of_his_own_a_user_neither_reads_nor_changes_what_is_anothers(
    shared: Shared, acting_as: Opener, table: str
) -> None:
    notebook_id, _ = trained(acting_as("alice"), "alice")
    trained(acting_as("bob_role"), "bob")
    key = "id" if table == "axonml_notebooks" else "notebook_id"
    with closing(shared.sql("postgres")) as owner, closing(shared.sql("bob_role")) as bob:
        if table == "axonml_provenance":
            owner.execute(
                f"INSERT INTO {table} (id, document, notebook_id) VALUES ('p', '{{}}', %s)", [notebook_id]
            )
        everything = owner.execute(f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]).fetchall()
        assert everything
        assert bob.execute(f"SELECT count(*) FROM {table} WHERE {key} = %s", [notebook_id]).fetchone() == (0,)
        assert bob.execute(f"UPDATE {table} SET {key} = {key}").rowcount < len(
            owner.execute(f"SELECT 1 FROM {table}").fetchall()
        )
        assert bob.execute(f"DELETE FROM {table} WHERE {key} = %s", [notebook_id]).rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(f"TRUNCATE {table}")
        assert (
            owner.execute(f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]).fetchall() == everything
        )


@pytest.mark.parametrize("table", OF_NOTEBOOKS)
def test_nothing_is_put_into_anothers_notebook(shared: Shared, acting_as: Opener, table: str) -> None:
    of_alice, of_bob = trained(acting_as("alice"), "alice")[0], trained(acting_as("bob_role"), "bob")[0]
    values: dict[str, Any] = {"id": "forged", "document": "{}", "notebook_id": of_alice}
    if table == "axonml_metrics":
        values = {
            "notebook_id": of_alice,
            "name": "loss",
            "value": 0.0,
            "created_at": "",
            "checkpoint_id": "x",
        }
    names, holes = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    with closing(shared.sql("bob_role")) as bob:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute(f"INSERT INTO {table} ({names}) VALUES ({holes})", values)
        bob.execute(f"INSERT INTO {table} ({names}) VALUES ({holes})", {**values, "notebook_id": of_bob})
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute(f"UPDATE {table} SET notebook_id = %s", [of_alice])


def test_a_record_is_not_handed_to_somebody_else(shared: Shared, acting_as: Opener) -> None:
    trained(acting_as("bob_role"), "bob")
    handing_over = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
    with closing(shared.sql("bob_role")) as bob, handing_over:
        bob.execute("UPDATE axonml_notebooks SET user_id = 'alice'")


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
        "CREATE TRIGGER t BEFORE INSERT ON axonml_notebooks EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE FUNCTION axon_spy(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE TABLE beside (x int)",
    ],
)
def test_a_user_does_not_get_around_it(shared: Shared, statement: str) -> None:
    with closing(shared.sql("bob_role")) as bob, pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute(statement)


def test_a_user_is_shown_neither_the_other_roles_nor_their_commits(shared: Shared, acting_as: Opener) -> None:
    trained(acting_as("alice"), "alice")
    with closing(shared.sql("bob_role")) as bob:
        assert bob.execute(f"SELECT role FROM {ROLES}").fetchall() == [("bob_role",)]
        assert bob.execute("SELECT count(*) FROM axon_commits").fetchone() == (0,)
        bob.execute(f"SET ROLE {MEMBERS}")  # which stands for nobody
        assert bob.execute("SELECT count(*) FROM axonml_notebooks").fetchone() == (0,)


def test_no_table_is_left_open(shared: Shared) -> None:
    with closing(shared.sql("postgres")) as owner:
        tables = owner.execute(
            "SELECT relname, relrowsecurity FROM pg_class WHERE relkind IN ('r', 'v', 'm') "
            "AND relnamespace = current_schema()::regnamespace"
        ).fetchall()
    assert {name for name, held in tables if not held} == {"axon_properties"}  # which they may only read
    assert len(tables) >= len(COLLECTIONS) + 4


def test_a_notebook_that_another_user_has_too_gets_a_record_of_its_own(
    shared: Shared, acting_as: Opener, tmp_path: Path
) -> None:
    acting_as("alice").create(
        NewNotebook(user_id="alice", name="cloned", id="5c3a9f0e-0000-4000-8000-000000000001")
    )
    bob = acting_as("bob_role")

    @dataclass(frozen=True)
    class Home:
        repository: NotebookRepository
        origin: str = "bob's machine"
        is_lost: bool = False

        def close(self) -> None:
            """The store is the fixture's."""

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


def test_a_large_notebook_can_be_made_and_saved(acting_as: Opener) -> None:
    alice = acting_as("alice")
    cells = [NotebookCell(id=f"cell-{n}", source=f"{n} " * 100_000) for n in range(30)]
    made = alice.create(NewNotebook(user_id="alice", name="large", cells=cells))
    changed = [*cells, NotebookCell(id="last", source="x" * 3_000_000)]
    alice.update(made.id, UpdateNotebook(cells=changed))
    found = alice.find_by_id(made.id)
    assert found is not None
    assert found.cells == changed


def test_users_can_be_added_and_changed_later(shared: Shared, acting_as: Opener) -> None:
    notebook_id, _ = trained(acting_as("alice"), "alice")
    with closing(Store(shared.url("postgres"))) as store:
        separation = store.separate_users([Role("carol", "carol"), Role("bob_role", "alice")])
    assert [(role.name, role.user_id) for role in separation.roles] == [
        ("alice", "alice"),
        ("bob_role", "alice"),
        ("boss", "the boss"),
        ("carol", "carol"),
    ]
    assert [n.id for n in acting_as("bob_role").list_all()] == [notebook_id]
    assert acting_as("carol").list_all() == []
    assert acting_as("boss").count_notebooks() == 1


@pytest.mark.parametrize("name", ['o"hara', "100%", "semi;colon'--", "Größe", "with space"])
def test_a_role_may_be_called_anything(shared: Shared, acting_as: Opener, name: str) -> None:
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role(name, f"user {name}")])
    url = make_url(shared.url("postgres")).set(username=name)
    with closing(Store(url.render_as_string(hide_password=False))) as store:
        repository = NotebookRepository(store)
        trained(repository, f"user {name}")
        assert repository.count_notebooks() == 1


def test_who_could_not_be_held_back_is_refused(shared: Shared) -> None:
    with closing(shared.sql("postgres")) as owner:
        owner.execute("CREATE ROLE deputy LOGIN")
        owner.execute("GRANT postgres TO deputy")
    with closing(Store(shared.url("postgres"))) as store:
        for name, why in [
            ("postgres", "superuser"),
            ("deputy", "may act as the owner"),
            ("n" * 64, "1 to 63 bytes"),
            ("", "1 to 63 bytes"),
        ]:
            with pytest.raises(InvalidData, match=why):
                store.separate_users([Role("dave", "dave"), Role(name, "dave")])
        with closing(shared.sql("postgres")) as owner:  # all or nothing
            assert owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'dave'").fetchone() is None


def test_only_the_owner_separates_users(shared: Shared) -> None:
    with closing(Store(shared.url("bob_role"))) as store, pytest.raises(StoreError, match="rights"):
        store.separate_users([Role("mallory", "alice")])


def test_users_of_a_file_are_not_kept_apart(tmp_path: Path) -> None:
    with (
        closing(Store(f"sqlite:///{tmp_path}/axon.db")) as store,
        pytest.raises(StoreError, match="PostgreSQL"),
    ):
        store.separate_users([Role("alice", "alice")])


def test_a_password_lets_in_who_has_the_passfile_and_shows_up_nowhere(
    server: PostgresqlServer, shared: Shared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = new_password()
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role("guarded", "grace")], {"guarded": password})
    hba = server.folder / "data/pg_hba.conf"
    hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
    with closing(server.connect()) as owner:
        owner.execute("SELECT pg_reload_conf()")
    url = make_url(shared.url("guarded"))
    passfile = tmp_path / "pass: file"
    passfile.write_text(pass_line(url, "guarded", password))
    passfile.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with closing(Store(_with(url, passfile))) as store:
        trained(NotebookRepository(store), "grace")
        shown = [str(store), repr(store)]
    passfile.write_text(pass_line(url, "guarded", password + "x"))
    with pytest.raises(StoreError, match="passfile") as refused:
        Store(_with(url, passfile))
    logged = (server.folder / "data/log").read_text()
    assert 'ALTER ROLE "guarded"' in logged or "ALTER ROLE guarded" in logged
    for text in [*shown, str(refused.value), repr(refused.value), caplog.text, logged]:
        assert password not in text
    with closing(server.connect()) as owner:
        [kept] = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'guarded'").fetchone() or ()
        assert kept.startswith("SCRAM-SHA-256$")


def _with(url: Any, passfile: Path) -> str:
    return str(url.update_query_dict({"passfile": str(passfile)}).render_as_string(hide_password=False))
