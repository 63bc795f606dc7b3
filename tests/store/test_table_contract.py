"""Tables match conditions as TinyDB's conditions do, whatever SQL evaluates of them.

There is one intended difference: a range condition raises a ``TypeError`` when it compares a value
of another type. The store may have excluded that document before, and then returns the others.
"""

from __future__ import annotations

import functools
import json
import math
import operator as python
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.engines import ON_DISK
from tinydb import Query, where
from tinydb.queries import QueryInstance

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.store import Document, DocumentTable, Store
from jupyter_axon_notebooks.store.codec import encode


def doc(id: str, **fields: Any) -> Document:
    return Document(fields, id)


DOCUMENTS = [
    doc("d01", t="a", n=1, tags=["x", "y"], o={"a": {"b": 1}}),
    doc("d02", t="b", n=True, tags=[], o={"a": {"b": 2}}),
    doc("d03", t="a", n=1.0, u="z", cells=[{"k": 1}, {"k": 2}]),
    doc("d04", t="c", n=2.5, cells=[{"k": 2}]),
    doc("d05", t="é", n=-7, m=3, o={}),
    doc("d06", t="A\x00", n=2**63, u="a"),
    doc("d07", n=-(2**63), t="\ud800", u="b"),
    doc("d08", t="ab", n=0, o={"a": 5}),
    doc("d09", t="", n=2**63 - 1, u=""),
    doc("d10", t="abc", n=False),
]


def comparable(result: Any) -> Any:
    """Return a form of a result in which True differs from 1 and NaN equals itself."""
    if isinstance(result, Document):
        return "document", comparable(result.doc_id), encode(result)
    if isinstance(result, (list, tuple, Iterator)):
        return [comparable(one) for one in result]
    return repr(result)


on_disk = pytest.mark.parametrize("things_store", ON_DISK, indirect=True)


def fill(table: DocumentTable, documents: list[Document]) -> None:
    table.remove(table.ids(Query().noop()))
    table.insert(*documents)


def check_condition(table: DocumentTable, stored: list[Document], condition: QueryInstance) -> None:
    # As the store reads them: `x in [x]` is true of the same NaN, but not of one that was read.
    read = [doc(str(one.doc_id), **json.loads(json.dumps(one))) for one in stored]
    try:
        expected = [document for document in read if condition(document)]
    except TypeError:
        return
    assert comparable(table.search(condition)) == comparable(expected)
    assert comparable(table.get(condition)) == comparable(expected[0] if expected else None)
    assert comparable(table.iterate(condition)) == comparable(expected)
    assert table.count(condition) == len(expected)
    assert table.ids(condition) == {document.doc_id for document in expected}


@pytest.fixture
def table(things_store: Store) -> DocumentTable:
    table = things_store.table("things")
    fill(table, [])
    return table


Q = Query()
CONDITIONS: dict[str, Any] = {
    "matches": Q.t.matches("a.*"),
    "search": Q.t.search("B", flags=2),
    "test": Q.t.test(lambda value, n: len(value) > n, 1),
    "any": Q.tags.any(["x", "q"]),
    "any of documents": Q.cells.any(Q.k == 1),
    "all": Q.tags.all(["x"]),
    "one_of a text": Q.t.one_of("abc"),
    "one_of more than SQL can bind": Q.n.one_of(list(range(-10, 40_000))),
    "fragment": Q.fragment({"t": "a", "n": 1}),
    "nested fragment": Q.o.fragment({"a": {"b": 1}}),
    "map": Q.t.map(str) == "5",
    "map at the root": Q.map(lambda document: len(document)) == 2,
    "and, half of it SQL": (Q.t == "a") & Q.u.exists(),
    "or, half of it SQL": (Q.t == "b") | Q.u.exists(),
    "a long or": functools.reduce(python.or_, [Q.t == f"q{i}" for i in range(150)] + [Q.t == "a"]),
    "a long and": functools.reduce(
        python.and_, [Q.t != f"q{i}" for i in range(150)] + [Q.t == "a"]),
}  # fmt: skip


@on_disk
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_matches_the_same_documents(table: DocumentTable, name: str) -> None:
    fill(table, DOCUMENTS)
    check_condition(table, DOCUMENTS, CONDITIONS[name])


def test_any_function_is_a_condition(table: DocumentTable) -> None:
    fill(table, DOCUMENTS)
    expected = [document for document in DOCUMENTS if "u" in document]
    assert table.search(lambda document: "u" in document) == expected


def test_documents_are_found_by_their_ids(table: DocumentTable) -> None:
    fill(table, DOCUMENTS)
    assert comparable(table.get(doc_id="d03")) == comparable(DOCUMENTS[2])
    assert table.get(doc_id="nowhere") is None
    found = table.get(doc_ids=["d05", "d01", "d05", "nowhere"])
    assert [document.doc_id for document in found] == ["d01", "d05"]
    assert table.get(doc_ids=[]) == []
    assert table.contains(doc_id="d01")
    assert not table.contains(doc_id="nowhere")
    assert len(table) == len(DOCUMENTS)
    assert comparable(table.all()) == comparable(DOCUMENTS)
    assert table.ids_with_prefix("d0") == [f"d0{i}" for i in range(1, 10)]
    assert len(table.ids_with_prefix("")) == len(DOCUMENTS)


def test_documents_are_changed_by_their_ids(table: DocumentTable) -> None:
    fill(table, DOCUMENTS)
    table.update({"v": 1}, ["d05", "d01", "nowhere"])
    table.update(lambda document: document.pop("t"), ["d01"])
    table.replace(doc("d02", new=True))
    table.replace(doc("nowhere", new=True))
    table.remove(["d03", "nowhere", "d03"])
    expected = {str(document.doc_id): dict(document) for document in DOCUMENTS}
    expected["d05"]["v"] = expected["d01"]["v"] = 1
    del expected["d01"]["t"], expected["d03"]
    expected["d02"] = {"new": True}
    assert comparable({str(one.doc_id): dict(one) for one in table.all()}) == comparable(expected)


def test_a_document_without_an_id_gets_one(table: DocumentTable) -> None:
    table.insert({"t": "x"}, {"t": "x"})
    assert len(table.ids(Q.t == "x")) == 2


def test_an_id_that_exists_is_a_conflict(table: DocumentTable) -> None:
    fill(table, DOCUMENTS)
    for documents in ([doc("d01")], [doc("new"), doc("d01")], [doc("new"), doc("new")]):
        with pytest.raises(Conflict, match=r"things\.id exists already"):
            table.insert(*documents)
    assert comparable(table.all()) == comparable(DOCUMENTS)


def test_there_is_no_limit_on_the_number_of_ids(table: DocumentTable) -> None:
    ids = [f"i{i:05}" for i in range(33_000)]
    existing = ids[::4_000]
    table.insert(*(Document({}, id) for id in existing))
    assert [d.doc_id for d in table.get(doc_ids=reversed(ids))] == existing
    assert table.existing_ids([*ids, "nowhere"]) == set(existing)


@pytest.mark.parametrize(
    "id", ["", "\x00", "a\x00b", "\x01\x01", "\ud800", "\ud7ff", "é", "x" * 5000, "%", "'"]
)
def test_ids_can_be_any_text(table: DocumentTable, id: str) -> None:
    fill(table, [doc("other"), Document({"t": id}, id)])
    assert table.get(doc_id=id) == {"t": id}
    assert [document.doc_id for document in table.search(Q.t == id)] == [id]
    table.update({"v": 1}, [id])
    assert table.get(doc_id=id) == {"t": id, "v": 1}
    table.remove([id])
    assert table.existing_ids([id, "other"]) == {"other"}


def test_a_table_can_change_while_it_is_iterated(table: DocumentTable) -> None:
    table.insert(*(doc(f"i{i:03}", n=i) for i in range(100)))
    for document in table.iterate(Q.noop()):
        table.remove([document.doc_id])
        if document["n"] == 40:
            break
    assert len(table) == 59


# Random conditions.

TRICKY: list[Any] = [
    None, True, False, 0, 1, 1.0, -1, 2.5, -0.0, math.nan, math.inf, -math.inf, 2**53, 2**53 + 1,
    float(2**53), 2**63 - 1, 2**63, float(2**63), -(2**63), -(2**63) - 1, 10**30, 1e300, "", "a",
    "b", "1", "\x00", "\x01", "\x01\x01", "\x01\x02", "\ud7ff", "\ud7ff\x02", "\ud7ff\x03d800",
    "\ud800", "\udfff", "\ue000", "😀", "a\x00b", [], [1], ["a", 1], {}, {"a": 1},
]  # fmt: skip
values = st.sampled_from(TRICKY)
fields = st.sampled_from(["t", "u", "n", "m", "x"])
bodies = st.dictionaries(fields, values, max_size=5)
ids = st.sampled_from([f"i{i}" for i in range(8)] + ["\x00", "\ud800"])
documents = st.builds(lambda doc_id, body: Document(body, doc_id), ids, bodies)
distinct_documents = st.lists(documents, max_size=8, unique_by=lambda d: d.doc_id)


def _leaf(draw: Any) -> QueryInstance:
    field = where(draw(fields))
    match draw(
        st.sampled_from(
            ["==", "!=", "range", "range", "one_of", "exists", "any", "nested", "noop", "test"]
        )
    ):
        case "==":
            return field == draw(values)
        case "!=":
            return field != draw(values)
        case "range":
            sign = draw(st.sampled_from([python.lt, python.le, python.gt, python.ge]))
            return sign(field, draw(values))
        case "one_of":
            return field.one_of(draw(st.lists(values, max_size=3)))
        case "exists":
            return field.exists()
        case "any":
            return field.any(["a", 1])
        case "nested":
            return field.a == draw(values)
        case "noop":
            return Query().noop()
        case _:
            return field.test(lambda value: isinstance(value, str))


@st.composite
def leaves(draw: Any) -> QueryInstance:
    return _leaf(draw)


conditions = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(python.and_, inner, inner),
        st.builds(python.or_, inner, inner),
        st.builds(python.inv, inner),
    ),
    max_leaves=5,
)


@on_disk
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(distinct_documents, st.lists(conditions, min_size=1, max_size=4))
@example([doc("i0", n=math.nan)], [where("n").one_of([math.nan])])
def test_random_conditions_match_the_same_documents(
    things_store: Store, stored: list[Document], asked: list[QueryInstance]
) -> None:
    table = things_store.table("things")
    fill(table, stored)
    for condition in asked:
        check_condition(table, stored, condition)


# Sorted pages.

sortable = st.lists(
    st.builds(
        lambda t, n: {**({} if t is None else {"t": t}), **({} if n is None else {"n": n})},
        st.sampled_from([None, *(v for v in TRICKY if isinstance(v, str))]),
        st.sampled_from([None, 0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)]),
    ),
    max_size=12,
)
orders = st.lists(st.sampled_from(["t", "-t", "n", "-n", "id", "-id"]), max_size=3)


@on_disk
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sortable, orders, st.one_of(st.none(), st.integers(0, 14)), st.integers(0, 5),
    st.sampled_from(
        [Q.noop(), Q.n >= 0, Q.n == 1, Q.t.exists(), (Q.t == "a") | (Q.n == 0), Q.t != "a"]),
)  # fmt: skip
def test_a_page_is_a_part_of_all_sorted_documents(
    things_store: Store,
    stored: list[dict[str, Any]],
    order: list[str],
    limit: int | None,
    skip: int,
    condition: QueryInstance,
) -> None:
    table = things_store.table("things")
    fill(table, [Document(body, f"i{(7 * i) % 13}") for i, body in enumerate(stored)])
    expected = [d for d in table.all() if condition(d)]
    for name in reversed(order):
        field = name.removeprefix("-")
        expected.sort(key=lambda d: _rank(d, field), reverse=name != field)
    expected = expected[skip:] if limit is None else expected[skip : skip + limit]
    assert comparable(table.search(condition, sort=order, limit=limit, skip=skip)) == comparable(
        expected
    )


def _rank(document: Document, field: str) -> tuple[bool, Any]:
    value = document.doc_id if field == "id" else document.get(field)
    return value is not None, value if value is not None else ""
