"""Opening a store on PostgreSQL, and the settings of its connections."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.engines import PostgresqlServer, new_url, postgresql
from support.postgresql import database_name, execute_sql, run_document

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.store import Store


def test_the_driver_in_the_scheme_is_optional(url: str) -> None:
    store = Store(url.replace("postgresql+psycopg", "postgresql"))
    store.runs.insert(run_document("a"))
    store.close()
    store = Store(url)
    assert store.runs.all() == [run_document("a")]
    store.close()


def test_the_url_can_select_a_schema(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    execute_sql(url, "CREATE SCHEMA one", "CREATE SCHEMA other")
    stores = [Store(f"{url}&options=-csearch_path%3D{schema}") for schema in ("one", "other")]
    assert stores[0].id != stores[1].id
    stores[0].runs.insert(run_document("a"))
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
def test_a_password_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(StoreError, match=r"has a password in it.*passfile") as caught:
        Store(url)
    assert SECRET not in str(caught.value)


def test_the_password_is_read_from_a_passfile(tmp_path: Path) -> None:
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
        store.runs.insert(run_document("a"))
        assert SECRET not in f"{store} {store!r} {store.url}"
        store.close()
        passfile.write_text("*:*:*:ada:wrong\n")
        with pytest.raises(StoreError, match=r"refuses the login.*passfile") as caught:
            Store(url)
        assert "wrong" not in str(caught.value)
    finally:
        server.close()


def test_connection_errors_are_reported_without_retries(url: str) -> None:
    with pytest.raises(
        StoreError, match=r"ada@127\.0\.0\.1:1/db: the database cannot be reached.*refused"
    ):
        Store("postgresql+psycopg://ada@127.0.0.1:1/db")
    with pytest.raises(StoreError, match="the database does not exist"):
        Store(url.replace(database_name(url), "nowhere"))
    with pytest.raises(StoreError, match="refuses the login"):
        Store(url.replace("postgres@", "nobody@"))
    with pytest.raises(StoreError, match=r"is invalid"):
        Store(f"{url}&no_such_option=1")
    with pytest.raises(StoreError, match=r"is invalid|cannot be reached"):
        Store("postgresql+psycopg://ada@/db?host=one,two&port=5432")


def test_without_the_driver_the_error_names_the_extra(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["psycopg"] = None
from jupyter_axon_notebooks.store import open_store
try:
    open_store("postgresql+psycopg://ada@localhost/db")
except Exception as error:
    print(type(error).__name__, error)
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("StoreError")
    assert "pip install 'jupyter-axon-notebooks[postgresql]'" in output


def test_a_database_in_another_encoding_is_refused() -> None:
    server = postgresql()
    with contextlib.closing(server.connect()) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(
        StoreError, match="has the encoding LATIN1; create one with ENCODING 'UTF8'"
    ):
        Store(server.url("latin"))


SETTINGS = "SELECT " + ", ".join(
    f"current_setting('{name}')"
    for name in ("synchronous_commit", "idle_in_transaction_session_timeout", "lock_timeout")
)


@pytest.mark.parametrize(
    ("default", "expected"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_every_transaction_is_durable_and_has_timeouts(
    url: str, default: str, expected: str
) -> None:
    execute_sql(url, f"ALTER DATABASE {database_name(url)} SET synchronous_commit = {default}")
    store = Store(url, busy_timeout=7)
    with store.transaction() as connection:
        assert tuple(connection.exec_driver_sql(SETTINGS).one()) == (expected, "1min", "7s")
    with store.snapshot() as connection:
        connection.exec_driver_sql("RESET ALL")
    for _ in range(
        10
    ):  # as behind a pooler, where a session is not what it was when it was connected to
        with store.transaction() as connection:
            assert tuple(connection.exec_driver_sql(SETTINGS).one()) == (expected, "1min", "7s")
    store.close()


def test_concurrent_creation_results_in_one_store(tmp_path: Path) -> None:
    for _ in range(3):
        url = new_url("postgresql", tmp_path)
        start, opened = threading.Barrier(4), []

        def make(
            url: str = url, start: threading.Barrier = start, opened: list[Store] = opened
        ) -> None:
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
