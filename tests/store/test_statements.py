"""Point operations stay point operations: what they ask of the engine does not grow with the table.

Counted, not timed: the statements sent, on PostgreSQL as well, the rows SQLite says it looks for by an index, and the steps of its virtual
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import new_url
from tinydb import Query, where
from tinydb.queries import QueryLike

from jupyter_axon_notebooks.store import Document, Store

from .conftest import statements

SMALL, LARGE = 1_000, 10_000


def checkpoint(number: int) -> Document:
    # A twentieth of all in the notebook that is asked about, all of them tied but for two.
    notebook_id = f"n{number % 20}"
    return Document(
        {
            "id": f"c{number:06}",
            "notebook_id": notebook_id,
            "created_at": f"2026-01-01T00:00:00.{number:06}Z",
            "run_id": f"r{number % 3}",
            "epoch": number,
            "step": 0,
            "metrics": {"loss": 0.5 if number > 40 else number, "acc": {"val": 0.9}},
        },
        f"c{number:06}",
    )


def notebook(number: int) -> Document:
    return Document(
        {
            "id": f"n{number:06}",
            "user_id": f"u{number % 5}",
            "updated_at": f"2026-01-01T00:00:00.{(number * 7919) % 1_000_000:06}Z",
            "status": "draft",
            "origin": "o",
            "path": f"/{number}.ipynb",
            "embedded_id": f"e{number}",
        },
        f"n{number:06}",
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Store]]:
    """A smaller and a larger store of the same kind."""
    opened = {}
    for size in (SMALL, LARGE):
        opened[size] = filled(new_url("sqlite", tmp_path_factory.mktemp("sized")), size)
    yield opened
    for store in opened.values():
        store.close()


def filled(url: str, size: int) -> Store:
    store = Store(url)
    store.checkpoints.insert_multiple(checkpoint(i) for i in range(size))
    store.notebooks.insert_multiple(notebook(i) for i in range(size))
    return store


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def counted(
    request: pytest.FixtureRequest,
    stores: dict[int, Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Store]]:
    """Stores whose statements are counted; on PostgreSQL each is a round trip."""
    if request.param == "sqlite":
        yield list(stores.values())
        return
    store = filled(new_url("postgresql", tmp_path_factory.mktemp("served")), SMALL)
    yield [store]
    store.close()


ROUNDS = iter(range(10**9))


def new_ids(count: int) -> list[Document]:
    start = 1_000_000 + next(ROUNDS) * 1000
    return [
        Document({**checkpoint(start + i), "id": f"c{start + i}"}, f"c{start + i}")
        for i in range(count)
    ]


def inserted_and_removed(store: Store) -> None:
    documents = new_ids(100)
    store.checkpoints.insert_multiple(documents)
    assert len(store.checkpoints.remove(doc_ids=[d.doc_id for d in documents])) == 100


OF_ONE = where("notebook_id") == "n7"
POINTS: dict[str, tuple[Callable[[Store], Any], int]] = {
    "get by id": (lambda s: s.checkpoints.get(doc_id="c000500"), 1),
    "get by 100 ids": (lambda s: s.checkpoints.get(doc_ids=[f"c{i:06}" for i in range(100)]), 1),
    "contains an id": (lambda s: s.checkpoints.contains(doc_id="c000500"), 1),
    "present": (lambda s: s.checkpoints.present([f"c{i:06}" for i in range(100)]), 1),
    "locked": (lambda s: s.checkpoints.locked("c000500"), 1),
    "insert": (lambda s: s.runs.insert({"notebook_id": "n"}), 3),
    "insert 100 under new ids": (
        lambda s: s.runs.insert_new(*(Document({"i": i}, f"r{next(ROUNDS)}") for i in range(100))), 2),
    "replace": (lambda s: s.notebooks.replace(Document({"tags": [next(ROUNDS)]}, "nowhere")), 2),
    "discard": (lambda s: s.notebooks.discard([f"nowhere{i}" for i in range(100)]), 2),
    "insert with metrics": (lambda s: s.checkpoints.insert(new_ids(1)[0]), 4),
    "insert 100": (lambda s: s.runs.insert_multiple({"notebook_id": "n", "i": i} for i in range(100)), 3),
    "insert 100 with metrics, remove them": (inserted_and_removed, 8),
    "update by id": (lambda s: s.checkpoints.update({"tags": [next(ROUNDS)]}, doc_ids=["c000500"]), 3),
    "update by id, without a change": (lambda s: s.checkpoints.update({"step": 0}, doc_ids=["c000500"]), 2),
    "update by an id that is not there": (lambda s: s.checkpoints.update({"step": 0}, doc_ids=["nowhere"]), 2),
    "remove an id that is not there": (lambda s: s.checkpoints.remove(doc_ids=["nowhere"]), 2),
    "search an indexed field": (lambda s: s.notebooks.search(where("embedded_id") == "e70"), 1),
    "search two promoted fields": (
        lambda s: s.notebooks.search((where("origin") == "o") & (where("path") == "/70.ipynb")), 1),
    "update by promoted fields": (
        lambda s: s.notebooks.update(
            {"tags": [next(ROUNDS)]}, (where("origin") == "o") & (where("path") == "/70.ipynb")), 3),
    "best, smallest": (lambda s: s.best("n7", "loss", minimize=True), 1),
    "best, largest, tied": (lambda s: s.best("n7", "acc.val", minimize=False), 1),
    "best of nothing": (lambda s: s.best("n7", "nothing", minimize=False), 1),
    "best three, smallest": (lambda s: s.best("n7", "loss", minimize=True, limit=3), 1),
    "best two, largest, tied": (lambda s: s.best("n7", "acc.val", minimize=False, limit=2), 4),
    "best three, largest": (lambda s: s.best("n7", "loss", minimize=False, limit=3), 4),
    "newest notebooks of a user": (
        lambda s: s.notebooks.search(where("user_id") == "u3", sort=["-updated_at", "-id"], limit=20), 1),
    "newest notebooks": (
        lambda s: s.notebooks.search(Query().noop(), sort=["-updated_at", "-id"], limit=20), 1),
    "newest checkpoints": (lambda s: s.checkpoints.search(OF_ONE, sort=["-created_at", "-id"], limit=20), 1),
    "a later page of checkpoints": (
        lambda s: s.checkpoints.search(OF_ONE, sort=["-created_at", "-id"], limit=5, skip=20), 1),
    "checkpoints since": (
        lambda s: s.checkpoints.search(
            OF_ONE & (where("created_at") > "2026-01-01T00:00:00.000800Z"), sort=["created_at", "id"], limit=5), 1),
    "checkpoint of a run": (
        lambda s: s.checkpoints.one_having(notebook_id="n7", run_id="r1", epoch=7, step=0), 1),
}  # fmt: skip


def steps_of(store: Store, operation: Callable[[Store], Any]) -> int:
    """How many steps SQLite's virtual machine takes for ``operation``."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def count(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(step, 1)

    def stop(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(None, 1)

    engine = store._database.engine
    sa.event.listen(engine, "checkout", count)
    sa.event.listen(engine, "checkin", stop)
    try:
        operation(store)
    finally:
        sa.event.remove(engine, "checkout", count)
        sa.event.remove(engine, "checkin", stop)
    return taken


def plans_of(store: Store, operation: Callable[[Store], Any]) -> str:
    """How SQLite goes about the statements of ``operation``."""
    with statements(store) as sent:
        operation(store)
    lines = []
    with store._database.reading() as connection:
        for statement, parameters in sent:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                one = (
                    parameters[0] if parameters and isinstance(parameters[0], tuple) else parameters
                )
                explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", one)
                lines += [row[3] for row in explained]
    return "\n".join(lines)


@pytest.mark.parametrize("name", POINTS)
def test_a_point_operation_takes_few_statements(counted: list[Store], name: str) -> None:
    operation, expected = POINTS[name]
    for store in counted:
        with statements(store) as sent:
            operation(store)
        but_commits = [statement for statement, _ in sent if not statement.endswith("COMMIT")]
        assert len(but_commits) == expected, sent


@pytest.mark.parametrize("name", POINTS)
def test_a_point_operation_uses_indexes_alone(stores: dict[int, Store], name: str) -> None:
    operation, _ = POINTS[name]
    plans = plans_of(stores[LARGE], operation)
    assert "TEMP B-TREE" not in plans, plans
    assert "(rowid>?)" not in plans, plans  # from some row to the end of the table
    assert all(
        "USING" in line for line in plans.splitlines() if line.startswith(("SCAN", "SEARCH"))
    ), plans


@pytest.mark.parametrize("name", POINTS)
def test_a_point_operation_takes_as_long_in_a_larger_table(
    stores: dict[int, Store], name: str
) -> None:
    operation, _ = POINTS[name]
    small, large = (steps_of(stores[size], operation) for size in (SMALL, LARGE))
    assert 0 < large <= 1.2 * small + 50, (small, large)


def test_checkpoints_of_a_notebook_are_found_without_reading_others(file_store: Store) -> None:
    file_store.checkpoints.insert_multiple(checkpoint(i) for i in range(2_000))
    few, many = (
        steps_of(file_store, lambda s: s.checkpoints.search(where("notebook_id") == asked))  # noqa: B023 - called at once
        for asked in ("absent", "n7")
    )
    assert few < many / 5
    assert len(file_store.checkpoints.search(where("notebook_id") == "n7")) == 100


@contextmanager
def fetched(store: Store) -> Iterator[list[int]]:
    """How many rows PostgreSQL answered each statement inside with."""
    counts: list[int] = []

    def note(_connection: Any, cursor: Any, *_: Any) -> None:
        counts.append(cursor.rowcount)

    engine = store._database.engine
    sa.event.listen(engine, "after_cursor_execute", note)
    try:
        yield counts
    finally:
        sa.event.remove(engine, "after_cursor_execute", note)


@pytest.mark.parametrize("condition", [OF_ONE, Query().noop()], ids=["narrowed", "all"])
def test_whoever_reads_one_after_the_other_has_a_page_in_memory(
    tmp_path: Path, condition: QueryLike
) -> None:
    store = Store(new_url("postgresql", tmp_path, empty=False))
    store.checkpoints.insert_multiple(
        Document({"notebook_id": "n7", "n": i}, f"c{1_000 - i:04}") for i in range(1_000)
    )
    expected = [d.doc_id for d in store.checkpoints.all()]
    for read in (
        lambda: (d.doc_id for d in store.checkpoints.each(condition)),
        lambda: (doc_id for doc_id, _ in store.checkpoints.texts(condition)),
    ):
        with fetched(store) as pages:
            found = read()
            first = next(found)
            assert pages == [32]
            assert [first, *found] == expected
        assert pages == [32, 256, 1_000 - 32 - 256]
    with fetched(store) as pages:
        assert [d.doc_id for d in store.checkpoints.search(condition)] == expected
    assert pages[:1] == [1_000] or condition is not OF_ONE  # whoever keeps them all asks once
    store.close()
