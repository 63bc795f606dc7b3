"""The best checkpoints, as an index finds them, are those that a look at every document would find."""

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

from jupyter_axon_notebooks.metrics import finite_number, resolve
from jupyter_axon_notebooks.store import Document, Store

from .conftest import statements

numbers = st.sampled_from(
    [
        0,
        1,
        1.0,
        -1,
        0.5,
        -0.0,
        2**53,
        2**53 + 1,
        10**30,
        10**400,
        math.nan,
        math.inf,
        -math.inf,
        5e-324,
        -1e308,
    ]
)
leaves = st.one_of(
    numbers, st.booleans(), st.none(), st.sampled_from(["0.1", "NaN", ""]), st.just([1])
)
keys = st.sampled_from(
    ["loss", "val", "val.loss", "a", "a.b", "b", "", ".", "\ud800", "\x00", "x" * 200, "x" * 201]
)
metrics = st.recursive(
    st.dictionaries(keys, leaves, max_size=4),
    lambda inner: st.dictionaries(keys, st.one_of(leaves, inner), max_size=4),
    max_leaves=8,
)
any_metrics = st.one_of(metrics, metrics, metrics, leaves)
NAMES = [
    "loss",
    "val",
    "val.loss",
    "a.b",
    "a.b.b",
    "",
    ".",
    "..",
    "\ud800",
    "\x00",
    "x" * 200,
    "x" * 201,
    "absent",
]

checkpoints = st.lists(
    st.tuples(
        st.sampled_from(["n1", "n2"]),
        any_metrics,
        st.sampled_from(["2026-01", "2026-02", "2026-03"]),
    ),
    max_size=12,
)


def document(
    number: int, notebook_id: str, metrics: Any, created_at: str = "2026-01", **fields: Any
) -> Document:
    # Ids run against the order of insertion, so that a tie tells the two apart.
    doc_id = f"c{99 - number:02}"
    return Document(
        {
            "id": doc_id,
            "notebook_id": notebook_id,
            "metrics": metrics,
            "created_at": created_at,
            **fields,
        },
        doc_id,
    )


def by_hand(store: Store, notebook_id: str, name: str, *, minimize: bool) -> list[str]:
    ranked = []
    for checkpoint in store.checkpoints:
        value = finite_number(resolve(checkpoint["metrics"], name))
        if checkpoint["notebook_id"] == notebook_id and value is not None:
            ranked.append(
                (value if minimize else -value, checkpoint["created_at"], checkpoint["id"])
            )
    return [doc_id for _, _, doc_id in sorted(ranked)]


def assert_as_by_hand(store: Store) -> None:
    with store.snapshot():  # one for all of the questions, which is quicker
        for name in NAMES:
            for notebook_id in ("n1", "n2"):
                for minimize in (True, False):
                    expected = by_hand(store, notebook_id, name, minimize=minimize)
                    for limit in (1, 3, 99):
                        found = store.best(notebook_id, name, minimize=minimize, limit=limit)
                        asked = (name, notebook_id, minimize, limit)
                        assert [d.doc_id for d in found] == expected[:limit], asked


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoints, checkpoints, st.sets(st.integers(0, 11)))
def test_best_equals_a_look_at_every_document(
    things_store: Store, first: list[Any], later: list[Any], gone: set[int]
) -> None:
    store = things_store
    store.checkpoints.truncate()
    store.checkpoints.insert_multiple([document(i, *fields) for i, fields in enumerate(first)])
    assert_as_by_hand(store)
    # As training goes on, metrics are corrected and checkpoints removed.
    for i, (_, changed, created_at) in enumerate(later):
        store.checkpoints.update(
            {"metrics": changed, "created_at": created_at}, doc_ids=[f"c{99 - i:02}"]
        )
    store.checkpoints.remove(doc_ids=[f"c{99 - i:02}" for i in gone])
    assert_as_by_hand(store)


def best_ids(store: Store, name: str, *, minimize: bool = True, limit: int = 10) -> list[Any]:
    return [d.doc_id for d in store.best("n1", name, minimize=minimize, limit=limit)]


def test_a_tie_goes_to_the_earliest_then_to_the_smallest_id(store: Store) -> None:
    store.checkpoints.insert_multiple(
        [
            document(1, "n1", {"acc": 0.9}, "2026-02"),
            document(2, "n1", {"acc": 0.9}, "2026-01"),
            document(3, "n1", {"acc": 0.9}, "2026-01"),
            document(4, "n1", {"acc": 0.1}, "2026-01"),
        ]
    )
    assert best_ids(store, "acc", minimize=False) == ["c96", "c97", "c98", "c95"]
    assert best_ids(store, "acc", minimize=True) == ["c95", "c96", "c97", "c98"]


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize("distinct", [1, 7, 10**6], ids=["all tied", "some tied", "none tied"])
def test_however_many_are_asked_for_it_takes_as_few_statements(
    store: Store, distinct: int, minimize: bool
) -> None:
    asked = []
    for more in (range(20), range(20, 600)):
        store.checkpoints.insert_multiple(
            [
                document(i, "n1", {"acc": i * 7919 % distinct / 8, "note": i}, f"2026-{i:04}")
                for i in more
            ]
        )
        expected = by_hand(store, "n1", "acc", minimize=minimize)
        for limit in (2, 100, 599, 600, 10_000, 10**30):
            with statements(store) as sent:
                assert best_ids(store, "acc", minimize=minimize, limit=limit) == expected[:limit]
            asked.append(len([sql for sql, _ in sent if sql.startswith("SELECT")]))
        assert best_ids(store, "acc", minimize=minimize, limit=0) == []
    assert max(asked) == (1 if minimize else 3)


def test_a_name_that_fits_two_places_is_ranked_once(store: Store) -> None:
    store.checkpoints.insert(document(1, "n1", {"a.b": 1, "a": {"b": 2}}))
    store.checkpoints.insert(document(2, "n1", {"a": {"b": 1.5}}))
    assert best_ids(store, "a.b") == ["c98", "c97"]
    assert best_ids(store, "a.b", minimize=False) == ["c97", "c98"]


def test_a_changed_metric_leaves_no_old_rank(store: Store) -> None:
    store.checkpoints.insert(document(1, "n1", {"loss": 1}))
    store.checkpoints.insert(document(2, "n1", {"loss": 2}))
    store.checkpoints.update({"metrics": {"loss": 3}}, doc_ids=["c98"])
    assert best_ids(store, "loss") == ["c97", "c98"]
    store.checkpoints.update({"notebook_id": "n2"}, doc_ids=["c97"])
    assert best_ids(store, "loss") == ["c98"]


def test_a_change_writes_only_the_ranks_that_change(store: Store) -> None:
    store.checkpoints.insert(document(1, "n1", {"loss": 1, "acc": 0.5}))
    with statements(store) as sent:
        store.checkpoints.update({"tags": ["kept"]}, doc_ids=["c98"])
    assert not [statement for statement, _ in sent if "axonml_metrics" in statement]
    with statements(store) as sent:
        store.checkpoints.update({"metrics": {"loss": 1, "acc": 0.75}}, doc_ids=["c98"])
    written = [parameters for statement, parameters in sent if "axonml_metrics" in statement]
    assert len(written) == 2
    assert all("acc" in str(parameters) and "loss" not in str(parameters) for parameters in written)
    assert best_ids(store, "acc") == ["c98"]


def test_removed_and_truncated_checkpoints_are_not_ranked(store: Store) -> None:
    store.checkpoints.insert_multiple([document(i, "n1", {"loss": i}) for i in range(3)])
    store.checkpoints.remove(doc_ids=["c99"])
    assert best_ids(store, "loss") == ["c98", "c97"]
    store.checkpoints.truncate()
    assert best_ids(store, "loss") == []
    store.checkpoints.insert(document(0, "n1", {"loss": 7}))
    assert best_ids(store, "loss") == ["c99"]


def test_ranks_are_dropped_with_their_transaction(store: Store) -> None:
    store.checkpoints.insert(document(1, "n1", {"loss": 1}))
    with pytest.raises(ZeroDivisionError), store.transaction():  # noqa: PT012 - the block is what fails
        store.checkpoints.insert(document(2, "n1", {"loss": 0}))
        store.checkpoints.remove(doc_ids=["c98"])
        assert best_ids(store, "loss") == ["c97"]
        _ = 1 / 0
    assert best_ids(store, "loss") == ["c98"]


def test_names_and_keys_are_ranked_as_they_will_be_read_back(store: Store) -> None:
    # JSON makes one character of a surrogate pair, and a text of every key.
    store.checkpoints.insert(document(1, "n1", {"\ud83d\ude00": 1, 7: 2.0}))
    assert best_ids(store, "😀") == best_ids(store, "7") == ["c98"]
    store.checkpoints.update({"metrics": {}}, doc_ids=["c98"])
    assert best_ids(store, "😀") == best_ids(store, "7") == []


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, True, "0.1", None, 10**400, [0.1], {"x": 1}]
)
def test_only_finite_numbers_are_ranked(store: Store, value: Any, minimize: bool) -> None:
    store.checkpoints.insert(document(1, "n1", {"loss": value}))
    store.checkpoints.insert(document(2, "n1", {"loss": 5}))
    assert best_ids(store, "loss", minimize=minimize) == ["c97"]


def test_the_best_are_never_more_than_asked_for_though_others_store_meanwhile(
    tmp_path: Path,
) -> None:
    url = new_url("postgresql", tmp_path)
    with closing(Store(url)) as store, closing(Store(url)) as other:
        other.checkpoints.insert_multiple(document(n, "n", {"loss": n}) for n in range(3))

        def store_more(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "OFFSET" in statement:  # the value of the last of them is looked up first
                other.checkpoints.insert_multiple(
                    document(n, "n", {"loss": n}) for n in range(10, 15)
                )

        sa.event.listen(store._database.engine, "after_cursor_execute", store_more)
        with store.transaction():
            found = store.best("n", "loss", minimize=False, limit=2)
        assert [best["metrics"]["loss"] for best in found] == [14, 13]
