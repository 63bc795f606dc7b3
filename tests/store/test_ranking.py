"""The metric index finds the checkpoints that a look at every document would find."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engines import new_url
from tinydb import Query

from jupyter_axon_notebooks.metrics import finite_number, resolve
from jupyter_axon_notebooks.store import Document, Store

from .conftest import record_statements

numbers = st.sampled_from(
    [0, 1, 1.0, -1, 0.5, -0.0, 2**53, 2**53 + 1, 10**30, 10**400, 5e-324, -1e308]
)
infinities = st.sampled_from([math.nan, math.inf, -math.inf])
leaves = st.one_of(
    numbers, infinities, st.booleans(), st.none(), st.sampled_from(["0.1", "NaN", ""]), st.just([1])
)
keys = st.sampled_from(
    ["loss", "val", "val.loss", "a", "a.b", "b", "", ".", "\ud800", "\x00", "x" * 200, "x" * 201]
)
metrics = st.recursive(
    st.dictionaries(keys, leaves, max_size=4),
    lambda inner: st.dictionaries(keys, st.one_of(leaves, inner), max_size=4),
    max_leaves=8,
)
NAMES = ["loss", "val", "val.loss", "a.b", "a.b.b", "", ".", "..", "\ud800", "\x00", "absent"]
NAMES += ["x" * 200, "x" * 201]

checkpoints = st.lists(
    st.tuples(
        st.sampled_from(["n1", "n2"]),
        st.one_of(metrics, metrics, metrics, leaves),
        st.sampled_from(["2026-01", "2026-02", "2026-03"]),
    ),
    max_size=12,
)


def checkpoint(
    number: int, notebook_id: str, metrics: Any, created_at: str = "2026-01"
) -> Document:
    doc_id = f"c{99 - number:02}"  # the opposite of the order of insertion
    fields = {"notebook_id": notebook_id, "metrics": metrics, "created_at": created_at}
    return Document({"id": doc_id, **fields}, doc_id)


def expected_ids(store: Store, notebook_id: str, name: str, *, minimize: bool) -> list[str]:
    ranked = []
    for found in store.checkpoints.all():
        value = finite_number(resolve(found["metrics"], name))
        if found["notebook_id"] == notebook_id and value is not None:
            ranked.append((value if minimize else -value, found["created_at"], found["id"]))
    return [doc_id for _, _, doc_id in sorted(ranked)]


def check_all_rankings(store: Store) -> None:
    with store.snapshot():
        for name in NAMES:
            for notebook_id in ("n1", "n2"):
                for minimize in (True, False):
                    expected = expected_ids(store, notebook_id, name, minimize=minimize)
                    for limit in (1, 3, 99):
                        best = store.best(notebook_id, name, minimize=minimize, limit=limit)
                        query = (name, notebook_id, minimize, limit)
                        assert [d.doc_id for d in best] == expected[:limit], query


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoints, checkpoints, st.sets(st.integers(0, 11)))
def test_the_index_agrees_with_the_documents(
    things_store: Store, inserted: list[Any], updated: list[Any], removed: set[int]
) -> None:
    store = things_store
    store.checkpoints.remove(store.checkpoints.ids(Query().noop()))
    store.checkpoints.insert(*(checkpoint(i, *one) for i, one in enumerate(inserted)))
    check_all_rankings(store)
    for i, (_, changed, created_at) in enumerate(updated):
        changes = {"metrics": changed, "created_at": created_at}
        store.checkpoints.update(changes, doc_ids=[f"c{99 - i:02}"])
    store.checkpoints.remove(doc_ids=[f"c{99 - i:02}" for i in removed])
    check_all_rankings(store)


def best_ids(store: Store, name: str, *, minimize: bool = True, limit: int = 10) -> list[Any]:
    return [d.doc_id for d in store.best("n1", name, minimize=minimize, limit=limit)]


def test_names_are_indexed_as_json_reads_them(store: Store) -> None:
    store.checkpoints.insert(checkpoint(1, "n1", {"\ud83d\ude00": 1, 7: 2.0}))
    assert best_ids(store, "😀") == best_ids(store, "7") == ["c98"]
    store.checkpoints.update({"metrics": {}}, doc_ids=["c98"])
    assert best_ids(store, "😀") == best_ids(store, "7") == []


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize("distinct", [1, 7, 10**6], ids=["all tied", "some tied", "none tied"])
def test_the_number_of_statements_does_not_depend_on_the_limit(
    store: Store, distinct: int, minimize: bool
) -> None:
    counts = []
    store.checkpoints.insert(
        *(
            checkpoint(i, "n1", {"acc": i * 7919 % distinct / 8, "note": i}, f"2026-{i:04}")
            for i in range(600)
        )
    )
    expected = expected_ids(store, "n1", "acc", minimize=minimize)
    for limit in (2, 100, 599, 600, 10_000, 10**30):
        with record_statements(store) as sent:
            assert best_ids(store, "acc", minimize=minimize, limit=limit) == expected[:limit]
        counts.append(len([sql for sql, _ in sent if sql.startswith("SELECT")]))
    assert best_ids(store, "acc", minimize=minimize, limit=0) == []
    assert max(counts) <= 3


def test_a_name_with_two_meanings_is_ranked_once(store: Store) -> None:
    store.checkpoints.insert(checkpoint(1, "n1", {"a.b": 1, "a": {"b": 2}}))
    store.checkpoints.insert(checkpoint(2, "n1", {"a": {"b": 1.5}}))
    assert best_ids(store, "a.b") == ["c98", "c97"]
    assert best_ids(store, "a.b", minimize=False) == ["c97", "c98"]


def test_an_update_writes_only_index_rows_that_change(store: Store) -> None:
    store.checkpoints.insert(checkpoint(1, "n1", {"loss": 1, "acc": 0.5}))
    with record_statements(store) as sent:
        store.checkpoints.update({"tags": ["kept"]}, doc_ids=["c98"])
    assert not [statement for statement, _ in sent if "axonml_metrics" in statement]
    with record_statements(store) as sent:
        store.checkpoints.update({"metrics": {"loss": 1, "acc": 0.75}}, doc_ids=["c98"])
    written = [str(parameters) for statement, parameters in sent if "axonml_metrics" in statement]
    assert all("acc" in parameters and "loss" not in parameters for parameters in written)
    assert best_ids(store, "acc") == ["c98"]


def test_concurrent_inserts_do_not_exceed_the_limit(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    with closing(Store(url)) as store, closing(Store(url)) as other:
        other.checkpoints.insert(*(checkpoint(n, "n", {"loss": n}) for n in range(3)))

        def insert(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "OFFSET" in statement:  # the first of three statements
                other.checkpoints.insert(*(checkpoint(n, "n", {"loss": n}) for n in range(10, 15)))

        sa.event.listen(store.engine, "after_cursor_execute", insert)
        with store.transaction():
            best = store.best("n", "loss", minimize=False, limit=2)
        assert [found["metrics"]["loss"] for found in best] == [14, 13]
