"""The separation of users, and when it is refused."""

from __future__ import annotations

import logging
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url
from support.engines import PostgresqlServer, eventually
from support.factories import new_checkpoint
from support.shared_database import OpenRepository, SharedDatabase, create_trained_notebook
from support.tcp_proxy import TcpProxy

from jupyter_axon_notebooks.errors import InvalidData, StoreError
from jupyter_axon_notebooks.records import UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.passfile import pass_lines
from jupyter_axon_notebooks.store.postgresql.roles import Role, new_password
from jupyter_axon_notebooks.store.postgresql.row_level_security import ROLES


def test_users_can_be_added_and_changed_later(
    shared: SharedDatabase, repository_of: OpenRepository
) -> None:
    notebook_id, _ = create_trained_notebook(repository_of("alice"), "alice")
    with closing(Store(shared.url("postgres"))) as store:
        separation = store.separate_users([Role("carol", "carol"), Role("bob_role", "alice")])
    assert [(role.name, role.user_id) for role in separation.roles] == [
        ("alice", "alice"),
        ("bob_role", "alice"),
        ("boss", "the boss"),
        ("carol", "carol"),
    ]
    assert [n.id for n in repository_of("bob_role").list_all()] == [notebook_id]
    assert repository_of("carol").list_all() == []
    assert repository_of("boss").count() == 1


@pytest.mark.parametrize("name", ['o"hara', "100%", "semi;colon'--", "Größe", "with space"])
def test_roles_can_have_almost_any_name(
    shared: SharedDatabase, repository_of: OpenRepository, name: str
) -> None:
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role(name, f"user {name}")])
    url = make_url(shared.url("postgres")).set(username=name)
    with closing(Store(url.render_as_string(hide_password=False))) as store:
        repository = NotebookRepository(store)
        create_trained_notebook(repository, f"user {name}")
        assert repository.count() == 1


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("CREATE ROLE {name} LOGIN SUPERUSER", "is a superuser"),
        ("CREATE ROLE {name} LOGIN BYPASSRLS", "bypasses row-level security"),
        ("CREATE ROLE {name} LOGIN CREATEROLE", "can create roles and grant them"),
        ("CREATE ROLE {name} LOGIN REPLICATION", "can copy the whole database"),
        ("CREATE ROLE {name} LOGIN IN ROLE postgres", "may act as postgres, which is a superuser"),
        (
            "CREATE ROLE {name} LOGIN IN ROLE pg_read_server_files",
            "which can access files of the server",
        ),
        (
            "CREATE ROLE {name} LOGIN IN ROLE alice",
            "may act as alice, which stands for another user",
        ),
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
def test_roles_that_policies_do_not_limit_are_refused(
    shared: SharedDatabase, statement: str, why: str
) -> None:
    name = f"held_{shared.name}"
    with closing(shared.sql("postgres")) as owner:
        owner.execute(statement.format(name=name))
        with (
            closing(Store(shared.url("postgres"))) as store,
            pytest.raises(InvalidData, match=f"role '{name}': .*{why}"),
        ):
            store.separate_users([Role("dave", "dave"), Role(name, "dave")])
        assert owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'dave'").fetchone() is None
        assert owner.execute(f"SELECT 1 FROM {ROLES} WHERE role = %s", [name]).fetchone() is None


def test_earlier_roles_are_checked_again(shared: SharedDatabase) -> None:
    name = f"risen_{shared.name}"
    with closing(Store(shared.url("postgres"))) as store, closing(shared.sql("postgres")) as owner:
        store.separate_users([Role(name, "rita")])
        owner.execute(f"GRANT alice TO {name}")
        with pytest.raises(InvalidData, match=f"role '{name}': may act as alice"):
            store.separate_users([Role("dave", "dave")])
        owner.execute(f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")
        assert Role(name, "rita") in store.separate_users([Role("bob_role", "bob")]).roles


@pytest.mark.parametrize("user", ["nul\x00", "\x01", "lone \ud800", "\ud7ff"])
def test_user_names_that_columns_escape_are_refused(shared: SharedDatabase, user: str) -> None:
    with (
        closing(Store(shared.url("postgres"))) as store,
        pytest.raises(InvalidData, match=re.escape(f"user {user!r}")),
    ):
        store.separate_users([Role("alice", user)])


def test_only_the_owner_can_separate_users(shared: SharedDatabase) -> None:
    with closing(Store(shared.url("bob_role"))) as store, pytest.raises(StoreError, match="rights"):
        store.separate_users([Role("mallory", "alice")])


def _waits_for_lock(observer: psycopg.Connection) -> bool:
    waiting = (
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return observer.execute(waiting).fetchone() is not None


def test_users_can_be_separated_while_others_write(server: PostgresqlServer) -> None:
    name = server.new_database()
    inside, waits = threading.Event(), threading.Event()
    with closing(Store(server.url(name))) as working, closing(Store(server.url(name))) as store:
        repository = NotebookRepository(working)
        notebook_id, _ = create_trained_notebook(repository, "alice")

        def work() -> None:
            with working.transaction():
                repository.update(notebook_id, UpdateNotebook(name="changed"))
                inside.set()
                waits.wait(10)
                repository.create_checkpoint(new_checkpoint(notebook_id, epoch=2, step=2))

        with ThreadPoolExecutor(2) as pool, closing(server.connect(name)) as observer:
            worked = pool.submit(working.retry, work)
            inside.wait(10)
            separated = pool.submit(store.separate_users, [Role("alice", "alice")])
            eventually(lambda: _waits_for_lock(observer))
            waits.set()
            worked.result(20)
            assert separated.result(20).roles == [Role("alice", "alice")]
    with closing(Store(server.url(name, "alice"))) as store:
        assert NotebookRepository(store).checkpoints.count(notebook_id) == 2


def test_a_changed_policy_is_restored(
    shared: SharedDatabase, repository_of: OpenRepository
) -> None:
    create_trained_notebook(repository_of("alice"), "alice")
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


@pytest.mark.parametrize("delivered", [True, False])
def test_users_are_separated_once_if_the_answer_is_lost(
    server: PostgresqlServer, shared: SharedDatabase, delivered: bool
) -> None:
    name = f"paula_{shared.name}"
    wire = TcpProxy(
        f"{shared.url('postgres').split('host=')[1]}/.s.PGSQL.5432", delivered=delivered
    )
    url = f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/{shared.name}"
    with closing(wire), closing(Store(url)) as store, closing(server.connect()) as owner:
        wire.armed = True
        separation = store.separate_users([Role(name, "paula")], lambda _: {name: "a secret"})
        assert wire.cuts == 1
        assert Role(name, "paula") in separation.roles
        set_password = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s"
        assert owner.execute(set_password, [name]).fetchone() == (True,)


def test_databases_of_a_server_can_have_different_owners(server: PostgresqlServer) -> None:
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
            create_trained_notebook(NotebookRepository(store), user)


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("o@db.example/axon", ["db.example:*:axon:r:p"]),
        ("o@db.example:6432/axon", ["db.example:6432:axon:r:p"]),
        ("o@[::1]:6432/axon", ["\\:\\:1:6432:axon:r:p"]),
        ("o@/axon", ["*:*:axon:r:p"]),
        ("o@/axon?host=one,two&port=1,2", ["one:1:axon:r:p", "two:2:axon:r:p"]),
        ("o@/axon?host=one:1&host=two:2", ["one:1:axon:r:p", "two:2:axon:r:p"]),
        ("o@/axon?hostaddr=10.0.0.1", ["10.0.0.1:*:axon:r:p"]),
        (
            "o@/axon?hostaddr=10.0.0.1,10.0.0.2&port=7",
            ["10.0.0.1:7:axon:r:p", "10.0.0.2:7:axon:r:p"],
        ),
        ("o@/?host=one&dbname=axon", ["one:*:axon:r:p"]),
        ("o@/axon?host=/run/pg", ["/run/pg:*:axon:r:p", "localhost:*:axon:r:p"]),
        ("o@/postgres?host=one&dbname=axon", ["one:*:axon:r:p"]),
    ],
)
def test_a_passfile_has_a_line_for_each_host(place: str, lines: list[str]) -> None:
    assert pass_lines(make_url(f"postgresql+psycopg://{place}"), "r", "p").splitlines() == lines


def test_a_password_appears_in_no_log_or_message(
    server: PostgresqlServer,
    shared: SharedDatabase,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    password = new_password()
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role("guarded", "grace")], lambda _: {"guarded": password})
    hba = server.folder / "data/pg_hba.conf"
    hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
    with closing(server.connect()) as owner:
        owner.execute("SELECT pg_reload_conf()")
    url = make_url(shared.url("guarded"))
    passfile = tmp_path / "pass: file"
    passfile.write_text(pass_lines(url, "guarded", password))
    passfile.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with closing(Store(_with(url, passfile))) as store:
        create_trained_notebook(NotebookRepository(store), "grace")
        shown = [str(store), repr(store)]
    passfile.write_text(pass_lines(url, "guarded", password + "x"))
    with pytest.raises(StoreError, match="passfile") as refused:
        Store(_with(url, passfile))
    logged = (server.folder / "data/log").read_text()
    assert 'ALTER ROLE "guarded"' in logged or "ALTER ROLE guarded" in logged
    for text in [*shown, str(refused.value), repr(refused.value), caplog.text, logged]:
        assert password not in text
    with closing(server.connect()) as owner:
        [kept] = (
            owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'guarded'").fetchone()
            or ()
        )
        assert kept.startswith("SCRAM-SHA-256$")


def _with(url: Any, passfile: Path) -> str:
    return str(
        url.update_query_dict({"passfile": str(passfile)}).render_as_string(hide_password=False)
    )
