"""Tables of the store behave as TinyDB's tables on its own storage do.

There are two intended differences:

- ``tables()`` does not list tables without documents: the store's tables always exist.
- TinyDB raises a ``TypeError`` when a range condition compares a value of another type. The store
  may have excluded that document before, and then returns the other documents.
"""

from __future__ import annotations

import functools
import math
import operator as python
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tinydb.operations as ops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engines import ON_DISK
from tinydb import Query, TinyDB, where
from tinydb.queries import QueryInstance
from tinydb.storages import MemoryStorage
from tinydb.table import Table

from jupyter_axon_notebooks.records import new_id
from jupyter_axon_notebooks.store import Document, Store
from jupyter_axon_notebooks.store.codec import decode, encode


class ReferenceTable(Table):
    document_id_class = str

    def _get_next_id(self) -> str:
        return new_id()


class ReferenceStorage(MemoryStorage):
    """TinyDB's memory storage, with documents that change only when they are written."""

    def read(self) -> Any:
        return None if self.memory is None else decode(encode(self.memory))


class ReferenceDB(TinyDB):
    table_class = ReferenceTable


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


class TablePair:
    """A table of TinyDB and one of the store, on which the same actions are run."""

    def __init__(self, store: Store) -> None:
        self.reference_db = ReferenceDB(storage=ReferenceStorage)
        self.reference = self.reference_db.table("things")
        self.store_db = store.documents
        self.store_db.drop_tables()
        self.table = store.table("things")

    def fill(self, documents: list[Document]) -> None:
        self(lambda table: table.insert_multiple(documents))

    def __call__(self, action: Callable[[Any], Any], *, lenient: bool = False) -> Any:
        """Return the result; with ``lenient``, the store may differ from a TypeError."""
        expected, outcome = outcome_of(action, self.reference), outcome_of(action, self.table)
        if lenient and is_type_error(expected):
            return expected
        assert outcome == expected
        assert comparable(self.table.all()) == comparable(self.reference.all())
        return outcome


def outcome_of(action: Callable[[Any], Any], table: Any) -> Any:
    try:
        return comparable(action(table))
    except Exception as error:  # noqa: BLE001 - compared with that of the other table
        return type(error), str(error)


def is_type_error(outcome: Any) -> bool:
    return isinstance(outcome, tuple) and outcome[0] is TypeError


_NEW_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def comparable(result: Any) -> Any:
    """Return a form of a result in which True differs from 1 and NaN equals itself."""
    if isinstance(result, Document):
        return "document", comparable(result.doc_id), encode(result)
    if isinstance(result, (list, tuple, Iterator)):
        return [comparable(one) for one in result]
    return _NEW_ID.sub("<new id>", repr(result))


on_disk = pytest.mark.parametrize("things_store", ON_DISK, indirect=True)


@pytest.fixture
def pair(things_store: Store) -> TablePair:
    return TablePair(things_store)


def explode_at(id: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["seen"] = True
        if document.get("t") == id:
            raise ZeroDivisionError("midway")

    return change


READS: dict[str, Callable[[Any], Any]] = {
    "all": lambda t: t.all(),
    "get by id": lambda t: t.get(doc_id="d03"),
    "get by an id that is not there": lambda t: t.get(doc_id="nowhere"),
    "get by ids, in the order of insertion": lambda t: t.get(
        doc_ids=["d05", "d01", "d05", "nowhere"]
    ),
    "get by condition": lambda t: t.get(where("t") == "a"),
    "get by condition and id": lambda t: t.get(where("t") == "a", doc_id="d05"),
    "contains an id": lambda t: (t.contains(doc_id="d01"), t.contains(doc_id="nowhere")),
    "contains a condition": lambda t: (
        t.contains(where("t") == "c"),
        t.contains(where("t") == "nothing"),
    ),
    "an empty query": lambda t: t.search(Query()),
    "a plain function": lambda t: t.search(lambda document: "u" in document),
}

WRITES: dict[str, Callable[[Any], Any]] = {
    "insert an id that is there": lambda t: t.insert(doc("d01", t="x")),
    "insert several mappings": lambda t: t.insert_multiple({"i": i} for i in range(3)),
    "insert the same id twice": lambda t: t.insert_multiple([doc("new"), doc("new")]),
    "update by a function": lambda t: t.update(
        lambda d: d.update(t=d["t"] + "!"), where("t").search("a")
    ),
    "update by a function that raises midway": lambda t: t.update(explode_at("c")),
    "add": lambda t: t.update(ops.add("n", 2), where("n") == 1),
    "decrement past what SQL holds": lambda t: t.update(ops.decrement("n"), doc_ids=["d07"]),
    "update several": lambda t: t.update_multiple(
        [
            ({"t": "b"}, where("t") == "a"),
            (ops.set("v", 1), where("t") == "b"),
            ({"w": 1}, where("u").exists()),
        ]
    ),
    "upsert what is not there, by condition": lambda t: t.upsert({"v": 1}, where("t") == "no"),
    "remove, then insert the same id": lambda t: (
        t.remove(doc_ids=["d01"]),
        t.insert(doc("d01", t="last")),
    ),
    "mutating what was found changes nothing": lambda t: t.get(doc_id="d01").update(t="changed"),
}


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_an_operation_has_the_same_result(pair: TablePair, name: str) -> None:
    pair.fill(DOCUMENTS)
    pair({**READS, **WRITES}[name])


def test_tables_are_listed_and_dropped(pair: TablePair) -> None:
    pair.fill(DOCUMENTS)
    for db in (pair.reference_db, pair.store_db):
        db.table("others").insert(doc("o1"))
        assert db.tables() == {"things", "others"}
        db.drop_table("things")
        db.drop_table("nowhere")
        assert db.tables() == {"others"}
        assert db.table("things").all() == []
        db.table("things").insert(doc("d01"))
        db.drop_tables()
        assert db.tables() == set()


def test_a_plain_tinydb_table_works_on_the_store(pair: TablePair) -> None:
    plain = ReferenceTable(pair.store_db.storage, "things")
    plain.insert_multiple(DOCUMENTS)
    plain.update({"v": 1}, where("t") == "a")
    plain.remove(where("t") == "b")
    pair.reference.insert_multiple(DOCUMENTS)
    pair.reference.update({"v": 1}, where("t") == "a")
    pair.reference.remove(where("t") == "b")
    assert comparable(pair.table.all()) == comparable(pair.reference.all())


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
    "or of many one_ofs": functools.reduce(
        python.or_, [Q.t.one_of([f"{i}-{j}" for j in range(400)] + ["a"]) for i in range(100)]),
}  # fmt: skip


@on_disk
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_matches_the_same_documents(pair: TablePair, name: str) -> None:
    pair.fill(DOCUMENTS)
    condition = CONDITIONS[name]
    for ask in (
        lambda t: t.search(condition),
        lambda t: t.count(condition),
        lambda t: t.get(condition),
        lambda t: t.contains(condition),
        lambda t: t.update({"v": 1}, condition),
        lambda t: t.update_multiple([({"w": 1}, condition), ({"w": 2}, Q.t == "b")]),
        lambda t: t.remove(condition),
    ):
        if is_type_error(pair(ask, lenient=True)):
            return


def test_there_is_no_limit_on_the_number_of_ids(pair: TablePair) -> None:
    ids = [f"i{i:05}" for i in range(33_000)]
    existing = ids[::4_000]
    pair.table.insert_multiple(Document({}, id) for id in existing)
    assert [d.doc_id for d in pair.table.get(doc_ids=reversed(ids))] == existing
    assert pair.table.existing_ids([*ids, "nowhere"]) == set(existing)
    assert [id for id, _ in pair.table.iterate_json(doc_ids=ids)] == existing


@pytest.mark.parametrize(
    "id", ["", "\x00", "a\x00b", "\x01\x01", "\ud800", "\ud7ff", "é", "x" * 5000, "%", "'"]
)
def test_ids_can_be_any_text(pair: TablePair, id: str) -> None:
    pair.fill([doc("other"), Document({"t": id}, id)])
    pair(lambda t: t.get(doc_id=id))
    pair(lambda t: t.get(doc_ids=[id]))
    pair(lambda t: t.search(Q.t == id))
    pair(lambda t: t.update({"v": 1}, doc_ids=[id]))
    pair(lambda t: t.remove(doc_ids=[id]))
    assert pair.table.existing_ids([id, "other"]) == {"other"}


def test_a_table_can_change_while_it_is_iterated(pair: TablePair) -> None:
    pair.table.insert_multiple(doc(f"i{i:03}", n=i) for i in range(100))
    for document in pair.table:
        pair.table.remove(doc_ids=[document.doc_id])
        if document["n"] == 40:
            break
    assert len(pair.table) == 59


# Random conditions and changes.

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
def test_random_conditions_match_the_same_documents(
    things_store: Store, stored: list[Document], asked: list[QueryInstance]
) -> None:
    pair = TablePair(things_store)
    pair.fill(stored)
    for condition in asked:
        pair(lambda t: t.search(condition), lenient=True)  # noqa: B023
        pair(lambda t: t.count(condition), lenient=True)  # noqa: B023
        pair(lambda t: t.contains(condition), lenient=True)  # noqa: B023


actions = st.one_of(
    st.builds(lambda d: lambda t: t.insert(d), documents),
    st.builds(lambda d: lambda t: t.insert_multiple(d), st.lists(documents, max_size=3)),
    st.builds(lambda d: lambda t: t.upsert(d), documents),
    st.builds(lambda f, c: lambda t: t.update(f, c), bodies, conditions),
    st.builds(lambda f, i: lambda t: t.update(f, doc_ids=i), bodies, st.lists(ids, max_size=3)),
    st.builds(
        lambda f, c: lambda t: t.update(ops.delete(f), c & where(f).exists()), fields, conditions
    ),
    st.builds(
        lambda u: lambda t: t.update_multiple(u),
        st.lists(st.tuples(bodies, conditions), max_size=3),
    ),
    st.builds(lambda c: lambda t: t.remove(c), conditions),
    st.builds(lambda i: lambda t: t.remove(doc_ids=i), st.lists(ids, max_size=3)),
    st.builds(lambda: lambda t: t.truncate()),
)


@on_disk
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(distinct_documents, st.lists(actions, max_size=6))
def test_random_changes_have_the_same_result(
    things_store: Store, stored: list[Document], changes: list[Callable[[Any], Any]]
) -> None:
    pair = TablePair(things_store)
    pair.fill(stored)
    for change in changes:
        if is_type_error(pair(change, lenient=True)):
            return


# Operations beyond those of TinyDB.

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
    table.truncate()
    table.insert_multiple(Document(body, f"i{(7 * i) % 13}") for i, body in enumerate(stored))
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
