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
MIXED = [
    doc("d11", t=5, n="1"),
    doc("d12", t=None, n=None),
    doc("d13", t=["a"], n=[1]),
    doc("d14", t={"a": 1}, n={"b": 2}),
    doc("d15", n=math.nan, t="nan"),
    doc("d16", n=math.inf),
    doc("d17"),
]
ALL = DOCUMENTS + MIXED


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


def explode(_document: Any) -> None:
    raise ZeroDivisionError("midway")


def explode_at(id: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["seen"] = True
        if document.get("t") == id:
            raise ZeroDivisionError("midway")

    return change


READS: dict[str, Callable[[Any], Any]] = {
    "all": lambda t: t.all(),
    "len": len,
    "iteration": lambda t: list(t),
    "name": lambda t: t.name,
    "get by id": lambda t: t.get(doc_id="d03"),
    "get by an id that is not there": lambda t: t.get(doc_id="nowhere"),
    "get by ids, in the order of insertion": lambda t: t.get(
        doc_ids=["d05", "d01", "d05", "nowhere"]
    ),
    "get by no ids": lambda t: t.get(doc_ids=[]),
    "get by condition": lambda t: t.get(where("t") == "a"),
    "get by a condition nothing meets": lambda t: t.get(where("t") == "nothing"),
    "get by condition and id": lambda t: t.get(where("t") == "a", doc_id="d05"),
    "get by nothing": lambda t: t.get(),
    "contains an id": lambda t: (t.contains(doc_id="d01"), t.contains(doc_id="nowhere")),
    "contains a condition": lambda t: (
        t.contains(where("t") == "c"),
        t.contains(where("t") == "nothing"),
    ),
    "contains nothing": lambda t: t.contains(),
    "an empty query": lambda t: t.search(Query()),
    "a query without a path": lambda t: t.search(Query() == 1),
    "a plain function": lambda t: t.search(lambda document: "u" in document),
    "search twice": lambda t: (t.search(where("t") == "a"), t.search(where("t") == "a")),
    "clear_cache": lambda t: t.clear_cache(),
}

WRITES: dict[str, Callable[[Any], Any]] = {
    "insert with an id": lambda t: t.insert(doc("new", t="x")),
    "insert a mapping": lambda t: t.insert({"t": "x"}),
    "insert an id that is there": lambda t: t.insert(doc("d01", t="x")),
    "insert what is no mapping": lambda t: t.insert(["x"]),
    "insert several": lambda t: t.insert_multiple([doc("new", t="x"), doc("newer")]),
    "insert several mappings": lambda t: t.insert_multiple({"i": i} for i in range(3)),
    "insert several, one of them there": lambda t: t.insert_multiple([doc("new"), doc("d01")]),
    "insert the same id twice": lambda t: t.insert_multiple([doc("new"), doc("new")]),
    "insert several, one no mapping": lambda t: t.insert_multiple([doc("new"), 5]),
    "insert none": lambda t: t.insert_multiple([]),
    "update fields by condition": lambda t: t.update({"t": "q", "v": [1]}, where("t") == "a"),
    "update fields by ids": lambda t: t.update({"v": 1}, doc_ids=["d05", "d01", "nowhere"]),
    "update fields by no ids": lambda t: t.update({"v": 1}, doc_ids=[]),
    "update an id twice": lambda t: t.update(ops.increment("m"), doc_ids=["d05", "d05"]),
    "update all": lambda t: t.update({"v": 1}),
    "update by a function": lambda t: t.update(
        lambda d: d.update(t=d["t"] + "!"), where("t").search("a")
    ),
    "update by a function that raises": lambda t: t.update(explode, where("t") == "a"),
    "update by a function that raises midway": lambda t: t.update(explode_at("c")),
    "update ids by a function that raises midway": lambda t: t.update(
        explode_at("c"), doc_ids=["d01", "d04"]
    ),
    "update nothing by a function that raises": lambda t: t.update(
        explode, where("t") == "nothing"
    ),
    "delete a field": lambda t: t.update(ops.delete("t"), where("t") == "a"),
    "delete a field that is not there": lambda t: t.update(ops.delete("nope"), where("t") == "a"),
    "add": lambda t: t.update(ops.add("n", 2), where("n") == 1),
    "subtract": lambda t: t.update(ops.subtract("n", 2), doc_ids=["d01"]),
    "set": lambda t: t.update(ops.set("n", None), where("n") == 1),
    "increment": lambda t: t.update(ops.increment("n"), where("n") <= 0),
    "decrement past what SQL holds": lambda t: t.update(ops.decrement("n"), doc_ids=["d07"]),
    "update several": lambda t: t.update_multiple(
        [
            ({"t": "b"}, where("t") == "a"),
            (ops.set("v", 1), where("t") == "b"),
            ({"w": 1}, where("u").exists()),
        ]
    ),
    "update several by conditions on columns": lambda t: t.update_multiple(
        [
            ({"t": "b"}, where("t") == "a"),
            ({"v": 1}, where("t") == "b"),
            ({"t": "c"}, where("n").one_of([0, 1])),
        ]
    ),
    "update several with no updates": lambda t: t.update_multiple([]),
    "upsert what is there, by id": lambda t: t.upsert(doc("d01", v=1)),
    "upsert what is not there, by id": lambda t: t.upsert(doc("new", v=1)),
    "upsert what is there, by condition": lambda t: t.upsert({"v": 1}, where("t") == "a"),
    "upsert what is not there, by condition": lambda t: t.upsert({"v": 1}, where("t") == "no"),
    "upsert by id and condition": lambda t: t.upsert(doc("d05", v=1), where("t") == "a"),
    "upsert by nothing": lambda t: t.upsert({"v": 1}),
    "remove by condition": lambda t: t.remove(where("t") == "a"),
    "remove by a condition SQL cannot tell": lambda t: t.remove(where("t").matches("a")),
    "remove by ids": lambda t: t.remove(doc_ids=["d05", "nowhere", "d01"]),
    "remove an id twice": lambda t: t.remove(doc_ids=["d05", "d05"]),
    "remove by no ids": lambda t: t.remove(doc_ids=[]),
    "remove by nothing": lambda t: t.remove(),
    "remove, then insert the same id": lambda t: (
        t.remove(doc_ids=["d01"]),
        t.insert(doc("d01", t="last")),
    ),
    "truncate": lambda t: t.truncate(),
    "truncate, then insert": lambda t: (t.truncate(), t.insert(doc("d01", t="x"))),
    "mutating what was found changes nothing": lambda t: t.get(doc_id="d01").update(t="changed"),
}


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_an_operation_has_the_same_result(pair: TablePair, name: str) -> None:
    pair.fill(DOCUMENTS)
    pair({**READS, **WRITES}[name])


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_an_operation_on_an_empty_table_has_the_same_result(pair: TablePair, name: str) -> None:
    if name == "mutating what was found changes nothing":
        name = "all"
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


def test_an_unknown_table_is_an_error(pair: TablePair) -> None:
    with pytest.raises(KeyError, match=r"no table 'nope'; it has .*things"):
        pair.store_db.table("nope")


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
    **{f"t {sign.__name__} {v!r}": sign(Q.t, v) for sign in (python.eq, python.ne) for v in
       ("a", "", "A\x00", "\ud800", 5, None, ["a"], {"a": 1}, True)},
    **{f"n {sign.__name__} {v!r}": sign(Q.n, v) for sign in (python.eq, python.ne) for v in
       (1, 1.0, True, False, 0, 2.5, 2**63, 2**63 - 1, -(2**63), 10**40, math.nan, math.inf, "1",
        None, [1])},
    **{f"t {sign.__name__} {v!r}": sign(Q.t, v)
       for sign in (python.lt, python.le, python.gt, python.ge)
       for v in ("a", "b", "", "\ud800", "\ue000", 5)},
    **{f"n {sign.__name__} {v!r}": sign(Q.n, v)
       for sign in (python.lt, python.le, python.gt, python.ge)
       for v in (1, 1.0, 2, 2.4, True, 2**63 - 1, 2**63, -(2**63), math.inf, math.nan, "1")},
    "exists": Q.u.exists(),
    "nested exists": Q.o.a.exists(),
    "nested": Q.o.a.b == 1,
    "nested range": Q.o.a.b >= 1,
    "path into a text": Q.t.a == 1,
    "item": Q["o"]["a"]["b"] == 2,
    "matches": Q.t.matches("a.*"),
    "search": Q.t.search("B", flags=2),
    "test": Q.t.test(lambda value, n: len(value) > n, 1),
    "any": Q.tags.any(["x", "q"]),
    "any of documents": Q.cells.any(Q.k == 1),
    "any in a promoted field": Q.t.any(["a"]),
    "all": Q.tags.all(["x"]),
    "all of documents": Q.cells.all(Q.k == 2),
    "one_of texts": Q.t.one_of(["a", "é", "A\x00"]),
    "one_of numbers": Q.n.one_of([1, 0, 2**63 - 1]),
    "one_of mixed": Q.n.one_of([1, "1", None]),
    "one_of none": Q.t.one_of([]),
    "one_of a text": Q.t.one_of("abc"),
    "one_of a tuple": Q.t.one_of(("a", "b")),
    "one_of a set": Q.u.one_of({"a", "z"}),
    "one_of more than SQL can bind": Q.n.one_of(list(range(-10, 40_000))),
    "fragment": Q.fragment({"t": "a", "n": 1}),
    "nested fragment": Q.o.fragment({"a": {"b": 1}}),
    "noop": Q.noop(),
    "not noop": ~Q.noop(),
    "map": Q.t.map(str) == "5",
    "map of a promoted field": Q.n.map(lambda value: value) == 1,
    "map at the root": Q.map(lambda document: len(document)) == 2,
    "and": (Q.t == "a") & (Q.n == 1),
    "and, half of it SQL": (Q.t == "a") & Q.u.exists(),
    "and of a range": (Q.t == "a") & (Q.n >= 1),
    "or": (Q.t == "a") | (Q.n == 0),
    "or, half of it SQL": (Q.t == "b") | Q.u.exists(),
    "or noop": (Q.t == "b") | Q.noop(),
    "noop or": Q.noop() | (Q.t == "b"),
    "and noop": (Q.t == "b") & Q.noop(),
    "noop and": Q.noop() & (Q.t == "b"),
    "or of noops": Q.noop() | Q.noop(),
    "not": ~(Q.t == "a"),
    "not not": ~~(Q.t == "a"),
    "not and": ~((Q.t == "a") & (Q.n == 1)),
    "and not": (Q.t == "a") & ~(Q.n == 1),
    "or of equal parts": (Q.n == 1) | (Q.n == 1.0) | (Q.n == True),  # noqa: E712 - a condition
    "a long or": functools.reduce(python.or_, [Q.t == f"q{i}" for i in range(150)] + [Q.t == "a"]),
    "a long and": functools.reduce(
        python.and_, [Q.t != f"q{i}" for i in range(150)] + [Q.t == "a"]),
    "an or of ors": ((Q.t == "a") | (Q.t == "b")) | ((Q.u == "a") & (Q.n.one_of([2**63]))),
    "or of many one_ofs": functools.reduce(
        python.or_, [Q.t.one_of([f"{i}-{j}" for j in range(400)] + ["a"]) for i in range(100)]),
}  # fmt: skip


@on_disk
@pytest.mark.parametrize("documents", [DOCUMENTS, ALL], ids=["of like types", "of mixed types"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_matches_the_same_documents(
    pair: TablePair, name: str, documents: list[Document]
) -> None:
    pair.fill(documents)
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


def test_ids_and_iterate_agree_with_search(pair: TablePair) -> None:
    pair.fill(DOCUMENTS)
    for condition in (Q.t == "a", Q.t.matches("a"), Q.noop(), Q.t == "nothing"):
        expected = pair.reference.search(condition)
        assert pair.table.ids(condition) == {d.doc_id for d in expected}
        assert list(pair.table.iterate(condition)) == expected


@pytest.mark.parametrize(
    "fields",
    [{"t": "a"}, {"t": "\x00"}, {"t": "\ud800"}, {"t": "a", "n": 1}, {"n": 2}, {"t": "no"}],
)
def test_find_one_and_exists_agree_with_a_condition(
    pair: TablePair, fields: dict[str, Any]
) -> None:
    pair.fill(DOCUMENTS)
    pair.fill(
        [
            Document({"t": text, "n": n}, f"{text!a} {n}")
            for text in ("a", "\x00", "\ud800")
            for n in (1, 2)
        ]
    )
    expected = {d.doc_id for d in pair.reference.search(Q.fragment(fields))}
    assert pair.table.exists(**fields) == bool(expected)
    found = pair.table.find_one(**fields)
    assert (found is None and not expected) or pair.reference.get(doc_id=found.doc_id) == found


def test_there_is_no_limit_on_the_number_of_ids(pair: TablePair) -> None:
    ids = [f"i{i:05}" for i in range(33_000)]
    existing = ids[::4_000]
    pair.table.insert_multiple(Document({}, id) for id in existing)
    assert [d.doc_id for d in pair.table.get(doc_ids=reversed(ids))] == existing
    assert pair.table.existing_ids([*ids, "nowhere"]) == set(existing)
    assert [id for id, _ in pair.table.iterate_json(doc_ids=ids)] == existing


def test_a_thousand_updates_at_once(pair: TablePair) -> None:
    pair.fill(ALL)
    pair(
        lambda t: t.update_multiple(
            [({"v": i}, Q.t == f"{i}") for i in range(1000)] + [({"v": -1}, Q.t == "a")]
        )
    )


def test_other_ids_are_converted_to_text(pair: TablePair) -> None:
    pair.table.insert(Document({"t": "x"}, 7))
    assert pair.table.update({"v": 1}, doc_ids=[7]) == ["7"]
    assert pair.table.get(doc_id=7) == pair.table.get(doc_id="7") == {"t": "x", "v": 1}
    with pytest.raises(ValueError, match="Document with ID 7 already exists"):
        pair.table.insert(Document({}, 7))
    assert pair.table.remove(doc_ids=[7]) == ["7"]


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


def test_columns_agree_with_the_decoded_document(pair: TablePair) -> None:
    pair.table.insert(Document({"t": "\ud83d\ude00"}, "d"))
    assert [d.doc_id for d in pair.table.search(Q.t == "😀")] == ["d"]


def test_an_update_that_cannot_be_encoded_changes_nothing(pair: TablePair) -> None:
    pair.fill(DOCUMENTS)
    with pytest.raises(TypeError):
        pair.table.update({"v": object()}, Q.t == "a")
    assert comparable(pair.table.all()) == comparable(pair.reference.all())


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


@pytest.mark.parametrize("name", ["x", "-x", "document", "", "-", "t.a"])
def test_sorting_by_other_fields_is_an_error(pair: TablePair, name: str) -> None:
    with pytest.raises(ValueError, match="not a promoted field"):
        pair.table.search(Q.noop(), sort=[name])


@pytest.mark.parametrize("page", [{"limit": -1}, {"skip": -1}])
def test_a_negative_limit_or_skip_is_an_error(pair: TablePair, page: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        pair.table.search(Q.noop(), **page)
