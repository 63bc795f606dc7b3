"""What is PostgreSQL's own: opening, rights, index plans, long keys, locales, forks."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import PostgresqlServer, new_url, postgresql
from tinydb import Query, where

from jupyter_axon_notebooks.errors import Conflict, NoSpace, RecordDamaged, StoreBusy, StoreError, StoreTooNew
from jupyter_axon_notebooks.store import Document, Store, has_tables

from .conftest import Script, finished, statements


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_url("postgresql", tmp_path, empty=False)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()


def database_of(url: str) -> str:
    return url.split("/")[3].split("?")[0]


def sql(url: str, *commands: str) -> None:
    with contextlib.closing(postgresql().connect(database_of(url))) as connection:
        for command in commands:
            connection.execute(command)


def run(id: str, **fields: Any) -> Document:
    return Document({"id": id, "notebook_id": "n", **fields}, id)


# Opening


def test_a_plain_scheme_means_the_same_driver(url: str) -> None:
    store = Store(url.replace("postgresql+psycopg", "postgresql"))
    store.runs.insert(run("a"))
    store.close()
    store = Store(url)
    assert store.runs.all() == [run("a")]
    store.close()


def test_looking_for_a_store_makes_none(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    assert not has_tables(url)
    assert not has_tables(url)
    Store(url).close()
    assert has_tables(url)


def test_a_schema_of_its_own_is_named_in_the_url(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    sql(url, "CREATE SCHEMA one", "CREATE SCHEMA other")
    stores = [Store(f"{url}&options=-csearch_path%3D{schema}") for schema in ("one", "other")]
    assert stores[0].id != stores[1].id
    stores[0].runs.insert(run("a"))
    assert [len(store.runs) for store in stores] == [1, 0]
    for store in stores:
        store.close()


SECRET = "geheim"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://ada:{SECRET}@localhost/db",
        f"postgresql://ada:{SECRET}@localhost/db",
        f"postgresql+psycopg://ada@localhost/db?password={SECRET}",
    ],
)
def test_a_password_in_the_url_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(StoreError, match=r"has a password in it.*passfile") as caught:
        Store(url)
    assert SECRET not in str(caught.value)


def test_a_password_comes_from_a_passfile_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    server = PostgresqlServer()
    try:
        database = server.new_database(empty=True)
        with contextlib.closing(server.connect(database)) as connection:
            connection.execute(f"CREATE ROLE ada LOGIN PASSWORD '{SECRET}'")
            connection.execute(f"GRANT ALL ON DATABASE {database} TO ada")
            connection.execute("GRANT ALL ON SCHEMA public TO ada")
        access = server.folder / "data/pg_hba.conf"
        access.write_text("local all postgres trust\nlocal all ada scram-sha-256\n")
        with contextlib.closing(server.connect(database)) as connection:
            connection.execute("SELECT pg_reload_conf()")
        passfile = tmp_path / "pass"
        passfile.touch(mode=0o600)
        url = f"{server.url(database, user='ada')}&passfile={passfile}"
        with pytest.raises(StoreError, match=r"refuses the login.*passfile"):
            Store(url)
        passfile.write_text(f"*:*:*:ada:{SECRET}\n")
        store = Store(url)
        store.runs.insert(run("a"))
        assert SECRET not in f"{store} {store!r} {store.url}"
        store.close()
        passfile.write_text("*:*:*:ada:wrong\n")
        with pytest.raises(StoreError, match=r"refuses the login.*passfile") as caught:
            Store(url)
        assert "wrong" not in str(caught.value)
    finally:
        server.close()


def test_what_cannot_be_reached_is_said_at_once_with_where_it_was_looked_for(url: str) -> None:
    with pytest.raises(StoreError, match=r"ada@127\.0\.0\.1:1/db: the database cannot be reached.*refused"):
        Store("postgresql+psycopg://ada@127.0.0.1:1/db")
    with pytest.raises(StoreError, match="there is no such database"):
        Store(url.replace(database_of(url), "nowhere"))
    with pytest.raises(StoreError, match="refuses the login"):
        Store(url.replace("postgres@", "nobody@"))
    with pytest.raises(StoreError, match=r"cannot be read|parameter"):
        Store(f"{url}&no_such_option=1")


def test_without_the_driver_the_extra_is_named(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["psycopg"] = None
from jupyter_axon_notebooks.store import open_store
try:
    open_store("postgresql+psycopg://ada@localhost/db")
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith("StoreError")
    assert "pip install 'jupyter-axon-notebooks[postgresql]'" in said


def test_a_database_in_another_encoding_is_refused() -> None:
    server = postgresql()
    with contextlib.closing(server.connect()) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match="is in LATIN1; create one with ENCODING 'UTF8'"):
        Store(server.url("latin"))


def test_a_newer_store_is_refused(url: str) -> None:
    sql(url, "UPDATE axon_properties SET value = '999' WHERE name = 'schema_version'")
    with pytest.raises(StoreTooNew, match="has schema version 999"):
        Store(url)


SETTINGS = "SELECT " + ", ".join(
    f"current_setting('{name}')"
    for name in ("synchronous_commit", "idle_in_transaction_session_timeout", "lock_timeout")
)


@pytest.mark.parametrize(
    ("default", "expected"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_every_unit_waits_for_the_disk_and_not_for_ever_for_a_lock(
    url: str, default: str, expected: str
) -> None:
    sql(url, f"ALTER DATABASE {database_of(url)} SET synchronous_commit = {default}")
    store = Store(url, busy_timeout=7)
    with store.transaction() as connection:
        assert tuple(connection.exec_driver_sql(SETTINGS).one()) == (expected, "1min", "7s")
    with store.snapshot() as connection:
        connection.exec_driver_sql("RESET ALL")
    for _ in range(10):  # as behind a pooler, where a session is not what it was when it was connected to
        with store.transaction() as connection:
            assert tuple(connection.exec_driver_sql(SETTINGS).one()) == (expected, "1min", "7s")
    store.close()


def test_a_unit_that_does_nothing_for_too_long_lets_go_of_what_it_locked(store: Store, url: str) -> None:
    store.runs.insert(run("a"))
    stopped = Store(f"{url}&options=-cidle_in_transaction_session_timeout%3D50ms")
    with pytest.raises(StoreBusy, match="idle for too long"), stopped.transaction():
        stopped.runs.locked("a")
        store.runs.update({"n": 1}, doc_ids=["a"])  # waits, and then
        assert store.runs.all() == [run("a", n=1)]
        stopped.runs.locked("a")
    stopped.close()


def test_who_only_reads_changes_nothing(store: Store, url: str) -> None:
    store.runs.insert(run("a"))
    sql(url, "UPDATE axon_commits SET made_at = now() - interval '2 days'")
    marks = "SELECT count(*) FROM axon_commits"
    for read_only, left in ((True, 1), (False, 0)):
        reader = Store(url, read_only=read_only)
        assert reader.runs.all() == [run("a")]
        with store.snapshot() as connection:
            assert connection.exec_driver_sql(marks).scalar_one() == left
        reader.close()


def test_two_that_make_the_same_store_at_once_make_one(tmp_path: Path) -> None:
    for _ in range(3):
        url = new_url("postgresql", tmp_path)
        start, opened = threading.Barrier(4), []

        def make(url: str = url, start: threading.Barrier = start, opened: list[Store] = opened) -> None:
            start.wait()
            opened.append(Store(url))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({store.id for store in opened}) == 1
        assert len(opened) == 4
        for store in opened:
            store.close()


# What the engine refuses


def test_what_is_unique_is_named_as_on_any_engine(store: Store) -> None:
    one = Document({"origin": "o", "path": "/a.ipynb"}, "one")
    store.notebooks.insert(one)
    with pytest.raises(
        Conflict, match=r"^axonml_notebooks\.origin, axonml_notebooks\.path is already there$"
    ):
        store.notebooks.insert(Document(dict(one), "other"))
    with pytest.raises(Conflict, match=r"^axonml_notebooks\.id is already there$"):
        store.notebooks.insert_new(Document({}, "one"))


def test_a_role_without_rights_is_told_so(url: str) -> None:
    role = f"reader_{database_of(url)}"
    sql(url, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    store = Store(url.replace("postgres@", f"{role}@"))
    assert store.runs.all() == []
    with pytest.raises(StoreError, match=r"lacks rights.*jupyter axon init-db"):
        store.runs.insert(run("a"))
    store.close()


def test_a_role_that_may_not_make_tables_is_told_so(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    role = f"guest_{database_of(url)}"
    sql(url, f"CREATE ROLE {role} LOGIN")
    with pytest.raises(StoreError, match=r"lacks rights.*jupyter axon init-db"):
        Store(url.replace("postgres@", f"{role}@"))


def test_a_database_that_only_reads_is_named(url: str) -> None:
    store = Store(url)
    with pytest.raises(StoreError, match="it is read-only"), store.transaction() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        store.runs.insert(run("a"))
    store.close()


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("53100", NoSpace, "disk is full"),
        ("57014", StoreBusy, "longer than the database allows"),
        ("54000", RecordDamaged, "longer than PostgreSQL takes"),
    ],
)
def test_a_failure_of_the_server_has_a_name(store: Store, state: str, kind: type, said: str) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(kind, match=said), store.transaction() as connection:
        connection.exec_driver_sql(raising)


# What indexes answer

NOTEBOOKS = 4_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    url = new_url("postgresql", tmp_path_factory.mktemp("large"))
    store = Store(url)
    store.notebooks.insert_multiple(
        Document(
            {
                "id": f"n{i:05}",
                "user_id": f"u{i % 5}",
                "updated_at": f"2026-{(i * 7919) % NOTEBOOKS:05}",
                "origin": "o",
                "path": f"/{i % 40}/{i}.ipynb",
            },
            f"n{i:05}",
        )
        for i in range(NOTEBOOKS)
    )
    store.checkpoints.insert_multiple(
        Document(
            {
                "notebook_id": f"n{i % 4:05}",
                "created_at": f"2026-{i:05}",
                "version_id": f"v{i}",
                "metrics": {"loss": 0.5 if i > 40 else i},
            },
            f"c{i:05}",
        )
        for i in range(NOTEBOOKS)
    )
    store.versions.insert_multiple(
        Document({"notebook_id": f"n{i % 4:05}", "ordinal": i // 4}, f"v{i:05}") for i in range(NOTEBOOKS)
    )
    sql(url, "ANALYZE")
    yield store
    store.close()


PLANS: dict[str, tuple[Callable[[Store], Any], str]] = {
    "newest notebooks of a user": (
        lambda s: s.notebooks.search(where("user_id") == "u3", sort=["-updated_at", "-id"], limit=20),
        "ix_axonml_notebooks_user_id_updated_at_id",
    ),
    "newest notebooks": (
        lambda s: s.notebooks.search(Query().noop(), sort=["-updated_at", "-id"], limit=20),
        "ix_axonml_notebooks_updated_at_id",
    ),
    "newest checkpoints": (
        lambda s: s.checkpoints.search(
            where("notebook_id") == "n00001", sort=["-created_at", "-id"], limit=20
        ),
        "ix_axonml_checkpoints_notebook_id_created_at_id",
    ),
    "smallest": (lambda s: s.best("n00001", "loss", minimize=True, limit=2), "axonml_metrics_pkey"),
    "largest": (lambda s: s.best("n00001", "loss", minimize=False, limit=2), "axonml_metrics_pkey"),
    "newest versions": (
        lambda s: s.versions.search(where("notebook_id") == "n00001", sort=["-ordinal"], limit=20),
        "uq_axonml_versions_notebook_id_ordinal",
    ),
    "who is bound to a file": (
        lambda s: s.notebooks.search((where("origin") == "o") & (where("path") == "/7/7.ipynb")),
        "px_axonml_notebooks_path",
    ),
    "who is bound beneath a folder": (
        lambda s: s.notebooks.search(
            (where("origin") == "o") & (where("path") > "/7/") & (where("path") < "/70")
        ),
        "px_axonml_notebooks_path",
    ),
    "by id, to be changed": (
        lambda s: s.notebooks.update({"a": 1}, doc_ids=["n00007"]),
        "axonml_notebooks_id_key",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_look_up_is_an_index_scan_without_a_sort(large: Store, name: str) -> None:
    operation, index = PLANS[name]
    with statements(large) as sent:
        assert operation(large)
    plans = []
    with large.snapshot() as connection:
        for statement, parameters in sent:
            if statement.startswith("SELECT axonml") or "max(" in statement:
                explained = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                plans.append("\n".join(row[0] for row in explained))
    assert index in plans[0], plans
    for plan in plans:
        assert "Seq Scan" not in plan, plan
        # An incremental one is of those that the index has as equal, and there is but one version of a number.
        assert not re.search(r"(?<!Incremental )Sort  \(", plan), plan


# Long keys

LONG_PATH = "/" + "ä/é😀" * 490  # about 4,000 bytes, as long as a path may be


def test_a_path_may_be_as_long_as_the_system_allows(store: Store) -> None:
    hashed = os.urandom(1980).hex()  # nothing that could be compressed
    for number, path in enumerate((LONG_PATH, f"{LONG_PATH}x", f"/{hashed}")):
        store.notebooks.insert(Document({"origin": "o", "path": path}, f"n{number}"))
        assert store.notebooks.search(where("path") == path) == [
            Document({"origin": "o", "path": path}, f"n{number}")
        ]
        with pytest.raises(Conflict, match=r"axonml_notebooks\.origin, axonml_notebooks\.path"):
            store.notebooks.insert(Document({"origin": "o", "path": path}, "other"))
        store.notebooks.insert(Document({"origin": "another", "path": path}, f"m{number}"))
    assert store.notebooks.count((where("path") > "/ä/") & (where("path") < "/ä0")) == 4


def test_a_path_with_any_character_is_itself_alone(store: Store) -> None:
    paths = ["\\", "\\\\", "\\x41", "A", "\\101", "\x00", "\ud800", "%", "a'b", "", "é"]
    for number, path in enumerate(paths):
        store.notebooks.insert(Document({"origin": "o", "path": path}, f"n{number}"))
    for number, path in enumerate(paths):
        assert [d.doc_id for d in store.notebooks.search(where("path") == path)] == [f"n{number}"]


def test_ids_and_metric_names_may_be_long(store: Store) -> None:
    id, name = "😀" * 200, "é" * 200
    store.checkpoints.insert(
        Document({"notebook_id": id, "created_at": "2026", "metrics": {name: 1.0}}, f"c{id}")
    )
    assert store.best(id, name, minimize=True) == store.checkpoints.all()
    with pytest.raises(RecordDamaged, match="longer than PostgreSQL takes"):
        store.checkpoints.insert(Document({}, os.urandom(4000).hex()))
    assert len(store.checkpoints) == 1


def test_a_document_of_50_mb_is_kept(store: Store) -> None:
    document = run("a", text="é\x00\ud800" * 9_000_000, n=10**400)
    store.runs.insert(document)
    assert store.runs.get(doc_id="a") == document


# Locales


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresqlServer]:
    """A server that knows a locale whose order is not that of code points: American English."""
    folder = PostgresqlServer.new_folder()
    made = subprocess.run(["localedef", "-i", "en_US", "-f", "UTF-8", folder / "en_US.UTF-8"], check=False)
    assert made.returncode == 0, (
        "no source of a locale is installed (Debian and Ubuntu: apt-get install locales)"
    )
    monkeypatch.setenv("LOCPATH", str(folder))
    server = PostgresqlServer()
    yield server
    server.close()
    shutil.rmtree(folder)


def test_texts_are_ordered_by_code_point_whatever_the_databases_locale(words: PostgresqlServer) -> None:
    with contextlib.closing(words.connect()) as connection:
        connection.execute(
            "CREATE DATABASE words LOCALE 'en_US.UTF-8' LOCALE_PROVIDER libc TEMPLATE template0"
        )
    with contextlib.closing(words.connect("words")) as connection:
        assert connection.execute("SELECT 'a' < 'B', 'a' < 'B' COLLATE \"C\"").fetchone() == (True, False)
    store = Store(words.url("words"))
    ids = ["B", "a", "_", "Z", "é", "e", "😀", "\uffff", "-", "ab", "a b"]
    store.notebooks.insert_multiple(
        Document({"user_id": "u", "updated_at": id, "origin": "o", "path": id}, id) for id in ids
    )
    found = store.notebooks.search(where("user_id") == "u", sort=["updated_at", "id"])
    assert [d.doc_id for d in found] == sorted(ids)
    for bound in ids:
        smaller = store.notebooks.search(where("path") < bound)
        assert {d.doc_id for d in smaller} == {id for id in ids if id < bound}
    store.checkpoints.insert_multiple(
        Document({"notebook_id": "n", "created_at": "2026", "metrics": {"loss": 1}}, id) for id in ids
    )
    assert [d.doc_id for d in store.best("n", "loss", minimize=True, limit=99)] == sorted(ids)
    store.close()


# Forks

FORKING = """
import multiprocessing, os, sys, threading
from jupyter_axon_notebooks.store import Document, Store

def insert(store, *ids):
    for id in ids:
        store.runs.insert(Document({"id": id}, id))

def in_child(act):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
        finally:
            os._exit(code)
    return child

store = Store(sys.argv[1])
insert(store, "before")
"""


def test_a_fork_leaves_two_that_both_go_on_writing(store: Store, url: str, process: Script) -> None:
    script = """
def child():
    import gc
    insert(store, "child 1")
    gc.collect()
    insert(store, "child 2")
    store.close()

with store.snapshot() as connection:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
for _ in range(2):
    forked = in_child(child if _ == 0 else lambda: insert(store, "child 3"))
    insert(store, f"parent {_}")
    assert os.waitpid(forked, 0)[1] == 0
with store.snapshot() as connection:  # the same connection, undisturbed
    assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid
worker = multiprocessing.get_context("fork").Process(target=insert, args=(store, "worker"))
worker.start()
worker.join()
assert worker.exitcode == 0
insert(store, "after")
store.close()
"""
    with process(FORKING + script, url) as other:
        finished(other)
    expected = ["after", "before", "child 1", "child 2", "child 3", "parent 0", "parent 1", "worker"]
    assert sorted(d.doc_id for d in store.runs) == expected


def test_a_fork_while_another_thread_has_a_transaction_open_harms_neither(
    store: Store, url: str, process: Script
) -> None:
    script = """
inside, forked = threading.Event(), threading.Event()

def hold():
    with store.transaction():
        insert(store, "held 1")
        inside.set()
        forked.wait()
        insert(store, "held 2")

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
assert os.waitpid(in_child(lambda: insert(store, "child")), 0)[1] == 0
forked.set()
thread.join()
store.close()
"""
    with process(FORKING + script, url) as other:
        finished(other)
    assert sorted(d.doc_id for d in store.runs) == ["before", "child", "held 1", "held 2"]


def test_a_child_forked_in_a_transaction_is_told_and_harms_nothing(
    store: Store, url: str, process: Script
) -> None:
    script = """
def child():
    for attempt in (lambda: insert(store, "x"), lambda: len(store.runs)):
        try:
            attempt()
        except Exception as error:
            print(type(error).__name__, flush=True)

with store.transaction():
    insert(store, "a")
    assert os.waitpid(in_child(child), 0)[1] == 0
    insert(store, "b")
store.close()
"""
    with process(FORKING + script, url) as other:
        assert finished(other) == ["StoreError"] * 2
    assert sorted(d.doc_id for d in store.runs) == ["a", "b", "before"]
