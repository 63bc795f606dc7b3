"""Errors of PostgreSQL are mapped to errors of this project."""

# ruff: noqa: PT012

from __future__ import annotations

from pathlib import Path

import pytest
from support.engines import new_url
from support.postgresql import database_name, execute_sql, run_document

from jupyter_axon_notebooks.errors import Conflict, NoSpace, RecordDamaged, StoreBusy, StoreError
from jupyter_axon_notebooks.store import Document, Store


def test_a_conflict_names_the_columns(store: Store) -> None:
    one = Document({"origin": "o", "path": "/a.ipynb"}, "one")
    store.notebooks.insert(one)
    with pytest.raises(
        Conflict, match=r"^axonml_notebooks\.origin, axonml_notebooks\.path exists already$"
    ):
        store.notebooks.insert(Document(dict(one), "other"))
    with pytest.raises(Conflict, match=r"^axonml_notebooks\.id exists already$"):
        store.notebooks.insert(Document({}, "one"))


def test_a_role_that_may_not_write(url: str) -> None:
    role = f"reader_{database_name(url)}"
    execute_sql(
        url, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    store = Store(url.replace("postgres@", f"{role}@"))
    assert store.runs.all() == []
    with pytest.raises(StoreError, match=r"lacks rights.*jupyter axon init-db"):
        store.runs.insert(run_document("a"))
    store.close()


def test_a_role_that_may_not_create_tables(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    role = f"guest_{database_name(url)}"
    execute_sql(url, f"CREATE ROLE {role} LOGIN")
    with pytest.raises(StoreError, match=r"lacks rights.*jupyter axon init-db"):
        Store(url.replace("postgres@", f"{role}@"))


def test_a_read_only_database(url: str) -> None:
    store = Store(url)
    with pytest.raises(StoreError, match="it is read-only"), store.transaction() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        store.runs.insert(run_document("a"))
    store.close()


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        ("53100", NoSpace, "disk of the database is full"),
        ("57014", StoreBusy, "longer than the database allows"),
        ("54000", RecordDamaged, "larger than PostgreSQL supports"),
    ],
)
def test_errors_of_the_server(store: Store, state: str, kind: type, message: str) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'a test' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(kind, match=message), store.transaction() as connection:
        connection.exec_driver_sql(raising)
