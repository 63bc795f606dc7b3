"""PostgreSQL answers point queries from indexes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.engines import new_url
from support.postgresql import execute_sql
from tinydb import Query, where

from jupyter_axon_notebooks.store import Document, Store

from ..conftest import record_statements

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
        Document({"notebook_id": f"n{i % 4:05}", "ordinal": i // 4}, f"v{i:05}")
        for i in range(NOTEBOOKS)
    )
    execute_sql(url, "ANALYZE")
    yield store
    store.close()


PLANS: dict[str, tuple[Callable[[Store], Any], str]] = {
    "newest notebooks of a user": (
        lambda s: s.notebooks.search(
            where("user_id") == "u3", sort=["-updated_at", "-id"], limit=20
        ),
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
    "notebook of a file": (
        lambda s: s.notebooks.search((where("origin") == "o") & (where("path") == "/7/7.ipynb")),
        "px_axonml_notebooks_path",
    ),
    "notebooks in a folder": (
        lambda s: s.notebooks.search(
            (where("origin") == "o") & (where("path") > "/7/") & (where("path") < "/70")
        ),
        "px_axonml_notebooks_path",
    ),
    "update by id": (
        lambda s: s.notebooks.update({"a": 1}, doc_ids=["n00007"]),
        "axonml_notebooks_id_key",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_point_queries_are_index_scans_without_sorts(large: Store, name: str) -> None:
    operation, index = PLANS[name]
    with record_statements(large) as sent:
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
        # An incremental sort only sorts rows that are equal in the index.
        assert not re.search(r"(?<!Incremental )Sort  \(", plan), plan


def test_iterating_filters_before_it_sorts(large: Store) -> None:
    with record_statements(large) as sent:
        assert list(large.notebooks.iterate(where("path") == "/7/7.ipynb"))
    with large.snapshot() as connection:
        [(statement, parameters)] = sent
        plan = "\n".join(
            row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        )
    assert "px_axonml_notebooks_path" in plan
