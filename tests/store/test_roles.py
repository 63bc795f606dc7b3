"""Claims about users apart in one PostgreSQL database: as roles that try what they must not."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from engines import FORGETFUL, PostgresqlServer
from nbformat.v4 import new_code_cell, new_notebook
from sqlalchemy import make_url
from wire import Wire

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, StoreError
from jupyter_axon_notebooks.records import (
    NewCheckpoint,
    NewNotebook,
    NotebookCell,
    NotebookMetadata,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.versions import content_id, take_apart
from jupyter_axon_notebooks.states import StateFiles
from jupyter_axon_notebooks.states.tidy import named_files
from jupyter_axon_notebooks.store import Store, document
from jupyter_axon_notebooks.store.codec import decode, encode
from jupyter_axon_notebooks.store.roles import ROLES, Role, new_password, pass_lines
from jupyter_axon_notebooks.store.schema import COLLECTIONS
from jupyter_axon_notebooks.store.server import examine_server, reaching
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


@pytest.fixture
def opened(shared: Shared) -> Iterator[Callable[[str], Store]]:
    stores: list[Store] = []

    def open(role: str) -> Store:
        stores.append(Store(shared.url(role)))
        return stores[-1]

    yield open
    for store in stores:
        store.close()


Opener = Callable[[str], NotebookRepository]


@pytest.fixture
def acting_as(opened: Callable[[str], Store]) -> Opener:
    return lambda role: NotebookRepository(opened(role))


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


def document_of(notebook_id: str) -> str:
    return f'{{"id":"p","notebook_id":"{notebook_id}"}}'


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
    of_bob, _ = trained(acting_as("bob_role"), "bob")
    key = "id" if table == "axonml_notebooks" else "notebook_id"
    with closing(shared.sql("postgres")) as owner, closing(shared.sql("bob_role")) as bob:
        if table == "axonml_provenance":
            owner.execute(
                f"INSERT INTO {table} (id, document, notebook_id) VALUES ('p', %s, %s), ('q', %s, %s)",
                [document_of(notebook_id), notebook_id, document_of(of_bob), of_bob],
            )
        everything = owner.execute(f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]).fetchall()
        assert everything
        assert bob.execute(f"SELECT count(*) FROM {table} WHERE {key} = %s", [notebook_id]).fetchone() == (0,)
        own = len(bob.execute(f"SELECT 1 FROM {table}").fetchall())
        assert own > 0
        changed = "value = 0" if table == "axonml_metrics" else "document = document"
        for blindly in (f"UPDATE {table} SET {changed}", f"DELETE FROM {table}"):
            with bob.transaction(force_rollback=True):
                assert bob.execute(blindly).rowcount == own
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(f"TRUNCATE {table}")
        assert (
            owner.execute(f"SELECT * FROM {table} WHERE {key} = %s", [notebook_id]).fetchall() == everything
        )


@pytest.mark.parametrize("table", OF_NOTEBOOKS)
def test_nothing_is_put_into_anothers_notebook(shared: Shared, acting_as: Opener, table: str) -> None:
    of_alice, of_bob = trained(acting_as("alice"), "alice")[0], trained(acting_as("bob_role"), "bob")[0]
    values: dict[str, Any] = {"id": f"{of_bob}/forged", "document": "{}", "notebook_id": of_alice}
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
        own = {**values, "notebook_id": of_bob, "document": document_of(of_bob)}
        bob.execute(f"INSERT INTO {table} ({names}) VALUES ({holes})", own)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute(f"UPDATE {table} SET notebook_id = %s", [of_alice])


FORGED = {
    "another's name": {"id": "forged", "name": "n", "user_id": "alice"},
    "nobody's name": {"id": "forged", "name": "n"},
    "another's id": {"name": "n", "id": "of alice", "user_id": "bob"},
    "a name that is not its own": {
        "id": "forged",
        "user_id": "alice",
        "metadata": {"id": "forged", "user_id": "bob"},
    },
}


@pytest.mark.parametrize("document", list(FORGED.values()), ids=list(FORGED))
def test_a_document_says_whose_it_is(shared: Shared, document: dict[str, Any]) -> None:
    insert = "INSERT INTO axonml_notebooks (id, document, user_id) VALUES ('forged', %s, 'bob')"
    with closing(shared.sql("bob_role")) as bob:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute(insert, [encode(document)])
        # Of a field that is there twice, readers take the last.
        bob.execute(insert, ['{"user_id":"alice","id":"forged","user_id":"bob"}'])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute("UPDATE axonml_notebooks SET document = %s", [encode(document)])
    with closing(shared.sql("postgres")) as owner:
        [stored] = owner.execute("SELECT document FROM axonml_notebooks").fetchone() or ()
    assert decode(stored)["user_id"] == "bob"


@pytest.mark.parametrize(
    "table", ["axonml_checkpoints", "axonml_runs", "axonml_versions", "axonml_provenance"]
)
def test_a_document_says_of_which_notebook_it_is(shared: Shared, acting_as: Opener, table: str) -> None:
    of_alice, of_bob = trained(acting_as("alice"), "alice")[0], trained(acting_as("bob_role"), "bob")[0]
    insert = f"INSERT INTO {table} (id, document, notebook_id) VALUES ('p', %s, %s)"
    with closing(shared.sql("bob_role")) as bob:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            bob.execute(insert, [document_of(of_alice), of_bob])
        bob.execute(insert, [document_of(of_bob), of_bob])


@pytest.mark.parametrize("user", ['o"hara \\ sons', "Größe 😀", "tab\tbell\x07", "\u2028"])
@pytest.mark.parametrize("name", ["train", "nul \x00", "lone \ud800"])
def test_a_user_may_be_called_anything(
    shared: Shared, opened: Callable[[str], Store], user: str, name: str
) -> None:
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role("alice", user)])
    alice = NotebookRepository(opened("alice"))
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
    alice.create_checkpoint(
        NewCheckpoint(notebook_id=made.id, epoch=1, step=1, metrics={"loss": float("inf")})
    )
    assert [(n.id, n.user_id, n.name) for n in alice.list_all()] == [(made.id, user, name)]


def test_a_record_is_not_handed_to_somebody_else(shared: Shared, acting_as: Opener) -> None:
    trained(acting_as("bob_role"), "bob")
    handing_over = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
    with closing(shared.sql("bob_role")) as bob, handing_over:
        bob.execute("UPDATE axonml_notebooks SET user_id = 'alice'")


def test_nobody_takes_the_place_of_what_anothers_save_will_need(shared: Shared, acting_as: Opener) -> None:
    mias, nats = acting_as("alice"), acting_as("bob_role")
    notebook_id, _ = trained(mias, "alice")
    own, _ = trained(nats, "bob")
    cells = [NotebookCell(id="c", source="import torch")]
    held = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
    with closing(shared.sql("bob_role")) as bob:
        for digest in take_apart(cells, NotebookMetadata()).contents:
            planted = [content_id(notebook_id, digest), own]
            with held:
                bob.execute(
                    "INSERT INTO axonml_contents (id, document, notebook_id) VALUES (%s, '{}', %s)", planted
                )
            with held:
                bob.execute("UPDATE axonml_contents SET id = %s WHERE notebook_id = %s", planted)
    assert mias.update(notebook_id, UpdateNotebook(cells=cells)).cells == cells


@pytest.mark.parametrize(
    "leaving",
    [
        "DELETE FROM axonml_notebooks WHERE id = 'given'",
        """UPDATE axonml_notebooks SET id = 'moved', document = replace(document, '"given"', '"moved"')""",
    ],
)
def test_nothing_is_left_behind_for_the_next_owner_of_an_id(
    shared: Shared, acting_as: Opener, leaving: str
) -> None:
    alice, bob = acting_as("alice"), acting_as("bob_role")
    bob.create(NewNotebook(id="given", user_id="bob", name="bait"))
    bob.create_checkpoint(
        NewCheckpoint(notebook_id="given", epoch=1, step=1, metrics={"loss": 0.0}, run_id="run")
    )
    with closing(shared.sql("bob_role")) as sql, closing(shared.sql("postgres")) as owner:
        sql.execute(
            "INSERT INTO axonml_provenance (id, document, notebook_id) VALUES ('p', %s, 'given')",
            [document_of("given")],
        )
        with suppress(psycopg.errors.ForeignKeyViolation):
            sql.execute(leaving)
        if leaving.startswith("DELETE"):
            for table in OF_NOTEBOOKS:
                assert owner.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            alice.create(NewNotebook(id="given", user_id="alice", name="new"))
            assert alice.get_best_checkpoint("given", "loss", True) is None
            assert len(alice.list_versions("given")) == 1
        else:
            assert bob.find_by_id("given") is not None


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
        bob.execute(f"SET ROLE axon_users_{shared.name}")  # which stands for nobody
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


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("CREATE ROLE {name} LOGIN SUPERUSER", "is a superuser"),
        ("CREATE ROLE {name} LOGIN BYPASSRLS", "bypasses row-level security"),
        ("CREATE ROLE {name} LOGIN CREATEROLE", "may make roles and grant them"),
        ("CREATE ROLE {name} LOGIN REPLICATION", "may copy the whole database"),
        ("CREATE ROLE {name} LOGIN IN ROLE postgres", "may act as postgres, which is a superuser"),
        ("CREATE ROLE {name} LOGIN IN ROLE pg_read_server_files", "which reaches the files of the server"),
        ("CREATE ROLE {name} LOGIN IN ROLE alice", "may act as alice, which stands for another user"),
        (
            "CREATE ROLE {name} LOGIN IN ROLE alice NOINHERIT",
            "may act as alice, which stands for another user",
        ),
        (
            "CREATE ROLE {name} LOGIN; ALTER TABLE axonml_notebooks OWNER TO {name}",
            "owns the tables of the store",
        ),
        ("CREATE ROLE {name} LOGIN; ALTER SCHEMA public OWNER TO {name}", "owns their schema"),
    ],
)
def test_who_could_not_be_held_back_is_refused(shared: Shared, made: str, why: str) -> None:
    name = f"held_{shared.name}"
    with closing(shared.sql("postgres")) as owner:
        owner.execute(made.format(name=name))
        with (
            closing(Store(shared.url("postgres"))) as store,
            pytest.raises(InvalidData, match=f"role '{name}': .*{why}"),
        ):
            store.separate_users([Role("dave", "dave"), Role(name, "dave")])
        # All or nothing.
        assert owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'dave'").fetchone() is None
        assert owner.execute(f"SELECT 1 FROM {ROLES} WHERE role = %s", [name]).fetchone() is None


def test_who_is_no_longer_held_back_is_named_when_others_are_added(shared: Shared) -> None:
    name = f"risen_{shared.name}"
    with closing(Store(shared.url("postgres"))) as store, closing(shared.sql("postgres")) as owner:
        store.separate_users([Role(name, "rita")])
        owner.execute(f"GRANT alice TO {name}")
        with pytest.raises(InvalidData, match=f"role '{name}': may act as alice"):
            store.separate_users([Role("dave", "dave")])
        owner.execute(f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")  # whom nobody can act as any more
        assert Role(name, "rita") in store.separate_users([Role("bob_role", "bob")]).roles


def test_an_admin_and_two_roles_of_one_user_may_act_for_one_another(shared: Shared) -> None:
    names = [f"{name}_{shared.name}" for name in ("laptop", "desktop", "chief")]
    with closing(Store(shared.url("postgres"))) as store, closing(shared.sql("postgres")) as owner:
        for name in names:
            owner.execute(f"CREATE ROLE {name} LOGIN")
        owner.execute(f"GRANT {names[0]} TO {names[1]}")
        owner.execute(f"GRANT alice TO {names[2]}")
        store.separate_users([Role(names[0], "lea"), Role(names[1], "lea"), Role(names[2], "c", admin=True)])


@pytest.mark.parametrize("name", ["n" * 64, "", "two\nlines", "nul\x00", "lone \ud800", "ü" * 32])
def test_what_can_be_no_name_of_a_role_is_refused(shared: Shared, name: str) -> None:
    with (
        closing(Store(shared.url("postgres"))) as store,
        pytest.raises(InvalidData, match="1 to 63 bytes"),
    ):
        store.separate_users([Role(name, "dave")])


def test_the_role_that_all_are_members_of_is_nobodys(shared: Shared) -> None:
    with closing(Store(shared.url("postgres"))) as store, pytest.raises(InvalidData, match="members of"):
        store.separate_users([Role(f"axon_users_{shared.name}", "dave")])


def test_only_the_owner_separates_users(shared: Shared) -> None:
    with closing(Store(shared.url("bob_role"))) as store, pytest.raises(StoreError, match="rights"):
        store.separate_users([Role("mallory", "alice")])


def test_an_ordinary_role_is_found_able_to_write(shared: Shared, acting_as: Opener) -> None:
    trained(acting_as("alice"), "alice")
    with reaching(shared.url("alice")) as connection:
        health = examine_server(connection)
    assert health.may_read
    assert health.may_write
    with closing(shared.sql("postgres")) as owner:
        owner.execute(f"REVOKE UPDATE ON axonml_runs FROM axon_users_{shared.name}")
    with reaching(shared.url("alice")) as connection:
        assert not examine_server(connection).may_write


def test_two_databases_of_a_server_may_have_different_owners(server: PostgresqlServer) -> None:
    for number in range(2):
        name, owner = server.new_database(empty=True), f"owner_{number}"
        with closing(server.connect()) as sql:
            sql.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE")
            sql.execute(f"ALTER DATABASE {name} OWNER TO {owner}")
        with closing(Store(server.url(name, owner))) as store:
            user = f"user {number}"
            assert store.separate_users([Role(f"role_{number}", user)]).roles == [
                Role(f"role_{number}", user)
            ]
        with closing(Store(server.url(name, f"role_{number}"))) as store:
            trained(NotebookRepository(store), user)


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC'),
        (
            "CREATE ROLE {user} LOGIN; GRANT CREATE ON SCHEMA public TO {user}",
            'REVOKE CREATE ON SCHEMA "public" FROM "{user}"',
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            'GRANT USAGE ON SCHEMA "public" TO "{owner}" WITH GRANT OPTION',
        ),
    ],
)
def test_what_only_the_owner_of_the_schema_can_do_is_asked_for(
    server: PostgresqlServer, given: str, needed: str
) -> None:
    name = server.new_database(empty=True)
    roles = {"owner": f"tables_{name}", "user": f"user_{name}"}
    with closing(server.connect(name)) as sql:
        sql.execute(f"CREATE ROLE {roles['owner']} LOGIN CREATEROLE")
        sql.execute("ALTER SCHEMA public OWNER TO postgres")
        sql.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {roles['owner']}")
        sql.execute(given.format(**roles))
        with closing(Store(server.url(name, roles["owner"]))) as store:
            needed = re.escape(needed.format(**roles))
            with pytest.raises(
                StoreError, match=f'schema "public" belongs to postgres, who has to run first: {needed} '
            ):
                store.separate_users([Role(roles["user"], "una")])
            for statement in re.findall(r"(?:GRANT|REVOKE) .*", needed.replace("\\", "")):
                sql.execute(statement)
            store.separate_users([Role(roles["user"], "una")])


def test_to_add_users_waits_for_nobody(shared: Shared, opened: Callable[[str], Store]) -> None:
    working = opened("alice")
    alice = NotebookRepository(working)
    notebook_id, _ = trained(alice, "alice")
    with closing(Store(shared.url("postgres"), busy_timeout=2)) as store, working.transaction():
        alice.update(notebook_id, UpdateNotebook(name="in the middle of it"))
        assert Role("carol", "carol") in store.separate_users([Role("carol", "carol")]).roles


def test_users_are_set_apart_in_the_middle_of_work(server: PostgresqlServer) -> None:
    name = server.new_database()
    inside, waits = threading.Event(), threading.Event()
    with closing(Store(server.url(name))) as working, closing(Store(server.url(name))) as store:
        repository = NotebookRepository(working)
        notebook_id, _ = trained(repository, "alice")

        def work() -> None:
            with working.transaction():
                repository.update(notebook_id, UpdateNotebook(name="changed"))
                inside.set()
                waits.wait(10)
                repository.create_checkpoint(
                    NewCheckpoint(notebook_id=notebook_id, epoch=2, step=2, metrics={})
                )

        with ThreadPoolExecutor(2) as pool, closing(server.connect(name)) as observer:
            worked = pool.submit(working.attempt, work)
            inside.wait(10)
            separated = pool.submit(store.separate_users, [Role("alice", "alice")])
            while observer.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone() == (0,):
                assert not separated.done()
            waits.set()
            worked.result(20)
            assert separated.result(20).roles == [Role("alice", "alice")]
    with closing(Store(server.url(name, "alice"))) as store:
        assert NotebookRepository(store).count_checkpoints(notebook_id) == 2


@pytest.mark.parametrize("delivered", [True, False])
def test_users_are_set_apart_once_though_the_answer_is_lost(
    server: PostgresqlServer, shared: Shared, delivered: bool
) -> None:
    name = f"paula_{shared.name}"
    wire = Wire(f"{shared.url('postgres').split('host=')[1]}/.s.PGSQL.5432", delivered=delivered)
    url = f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{shared.name}"
    with closing(wire), closing(Store(url)) as store, closing(server.connect()) as owner:
        wire.armed = True
        separation = store.separate_users([Role(name, "paula")], {name: "a secret"})
        assert wire.cuts == 1
        assert Role(name, "paula") in separation.roles
        set_password = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s"
        assert owner.execute(set_password, [name]).fetchone() == (True,)


def test_a_policy_that_somebody_changed_is_set_right(shared: Shared, acting_as: Opener) -> None:
    trained(acting_as("alice"), "alice")
    with closing(shared.sql("postgres")) as owner, closing(shared.sql("bob_role")) as bob:
        for change in (
            "ALTER POLICY axon_own ON axonml_notebooks USING (true)",
            "ALTER TABLE axonml_notebooks DISABLE ROW LEVEL SECURITY",
        ):
            owner.execute(change)
            assert bob.execute("SELECT count(*) FROM axonml_notebooks").fetchone() == (1,)
            with closing(Store(shared.url("postgres"))) as store:
                store.separate_users([])
            assert bob.execute("SELECT count(*) FROM axonml_notebooks").fetchone() == (0,)


def test_a_clash_is_named_though_the_database_tells_a_user_little(opened: Callable[[str], Store]) -> None:
    store = opened("alice")
    alice = NotebookRepository(store)
    notebook_id, checkpoint_id = trained(alice, "alice")
    again = NewCheckpoint(notebook_id=notebook_id, epoch=1, step=1, metrics={}, run_id="run of alice")
    with pytest.raises(Conflict, match="run run of alice has a checkpoint at epoch 1, step 1 already"):
        alice.create_checkpoint(again)
    with pytest.raises(Conflict, match=r"^axonml_checkpoints\.id is already there$"):
        store.checkpoints.insert_new(document(checkpoint_id, {"notebook_id": notebook_id}))


def test_a_sweep_leaves_what_another_user_has_recorded(
    opened: Callable[[str], Store], tmp_path: Path
) -> None:
    stores = {role: opened(role) for role in ("alice", "bob_role", "boss", "postgres")}
    repositories = {role: NotebookRepository(store) for role, store in stores.items()}
    notebook_id, _ = trained(repositories["bob_role"], "bob")

    def states(role: str) -> StateFiles:
        return StateFiles(tmp_path / "shared", store_id=stores[role].mark_id)

    def killed_while_recording(role: str, checkpoint_id: str) -> Path:
        with states(role).writer(notebook_id, checkpoint_id, "model", format="torch") as writer:
            writer.write(b"weights")
            path = Path(writer.commit().path)
        repositories[role].create_checkpoint(
            NewCheckpoint(
                id=checkpoint_id,
                notebook_id=notebook_id,
                epoch=2,
                step=2,
                metrics={},
                model_state_path=str(path),
            )
        )
        for aged in (path, *path.parent.iterdir(), path.parent):
            os.utime(aged, (1, 1))
        return path

    files = [killed_while_recording(role, f"by_{role}") for role in ("bob_role", "boss", "postgres")]
    for role, repository in repositories.items():
        report = states(role).sweep(partial(named_files, repository))
        assert (report.folders, report.problems) == ([], []), role
    assert all(file.exists() for file in files)


def test_what_is_marked_follows_the_user_not_the_role(opened: Callable[[str], Store]) -> None:
    stores = {role: opened(role) for role in ("alice", "bob_role", "boss", "postgres")}
    id = stores["postgres"].id
    assert {role: store.mark_id for role, store in stores.items()} == {
        "alice": f"{id} alice",
        "bob_role": f"{id} bob",
        "boss": id,  # who is shown everything
        "postgres": id,
    }
    stores["postgres"].separate_users([Role("bob_role", "alice")])
    assert stores["bob_role"].mark_id == f"{id} alice"


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/axon.db"])
def test_a_store_of_ones_own_marks_with_its_id(url: str, tmp_path: Path) -> None:
    with closing(Store(url.format(folder=tmp_path))) as store:
        assert store.mark_id == store.id


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("o@db.example/axon", ["db.example:*:axon:r:p"]),
        ("o@db.example:6432/axon", ["db.example:6432:axon:r:p"]),
        ("o@[::1]:6432/axon", ["\\:\\:1:6432:axon:r:p"]),
        ("o@/axon", ["*:*:axon:r:p"]),
        ("o@/axon?host=one:1&host=two:2", ["one:1:axon:r:p", "two:2:axon:r:p"]),
        ("o@/axon?host=one,two&port=1,2", ["one:1:axon:r:p", "two:2:axon:r:p"]),
        ("o@/axon?host=/run/pg", ["/run/pg:*:axon:r:p", "localhost:*:axon:r:p"]),
        ("o@/axon?hostaddr=10.0.0.1", ["10.0.0.1:*:axon:r:p"]),
    ],
)
def test_a_passfile_has_a_line_for_each_host(place: str, lines: list[str]) -> None:
    assert pass_lines(make_url(f"postgresql+psycopg://{place}"), "r", "p").splitlines() == lines


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
    passfile.write_text(pass_lines(url, "guarded", password))
    passfile.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with closing(Store(_with(url, passfile))) as store:
        trained(NotebookRepository(store), "grace")
        shown = [str(store), repr(store)]
    passfile.write_text(pass_lines(url, "guarded", password + "x"))
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
