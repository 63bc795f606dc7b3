"""Point operations use indexes, so that their cost does not grow with the table.

The tests inspect query plans and the steps of SQLite's virtual machine instead of measuring time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from support.engines import new_url
from tinydb import Query, where

from jupyter_axon_notebooks.store import Document, Store

SMALL, LARGE = 1_000, 10_000


def checkpoint(number: int) -> Document:
    # One in 20 is in the notebook of the queries; all but two of those have the same metrics.
    fields = {
        "id": f"c{number:06}",
        "notebook_id": f"n{number % 20}",
        "created_at": f"2026-01-01T00:00:00.{number:06}Z",
        "run_id": f"r{number % 3}",
        "epoch": number,
        "step": 0,
        "metrics": {"loss": 0.5 if number > 40 else number, "acc": {"val": 0.9}},
    }
    return Document(fields, fields["id"])


def notebook(number: int) -> Document:
    fields = {
        "id": f"n{number:06}",
        "user_id": f"u{number % 5}",
        "updated_at": f"2026-01-01T00:00:00.{(number * 7919) % 1_000_000:06}Z",
        "status": "draft",
        "origin": "o",
        "path": f"/{number}.ipynb",
        "embedded_id": f"e{number}",
    }
    return Document(fields, fields["id"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Store]]:
    """A small and a large store of the same kind."""
    stores = {}
    for size in (SMALL, LARGE):
        stores[size] = Store(new_url("sqlite", tmp_path_factory.mktemp("sized")))
        stores[size].checkpoints.insert_multiple(checkpoint(i) for i in range(size))
        stores[size].notebooks.insert_multiple(notebook(i) for i in range(size))
    yield stores
    for store in stores.values():
        store.close()


NUMBERS = itertools.count(1_000_000)


def insert_and_remove(store: Store) -> None:
    documents = [checkpoint(next(NUMBERS)) for _ in range(100)]
    store.checkpoints.insert_multiple(documents)
    assert len(store.checkpoints.remove(doc_ids=[d.doc_id for d in documents])) == 100


IN_NOTEBOOK = where("notebook_id") == "n7"
AT_PATH = (where("origin") == "o") & (where("path") == "/70.ipynb")
OPERATIONS: dict[str, Callable[[Store], Any]] = {
    "get": lambda s: s.checkpoints.get(doc_id="c000500"),
    "get 100": lambda s: s.checkpoints.get(doc_ids=[f"c{i:06}" for i in range(100)]),
    "contains": lambda s: s.checkpoints.contains(doc_id="c000500"),
    "existing ids": lambda s: s.checkpoints.existing_ids([f"c{i:06}" for i in range(100)]),
    "get for update": lambda s: s.checkpoints.get_for_update("c000500"),
    "insert 100": lambda s: s.runs.insert_multiple({"notebook_id": "n"} for i in range(100)),
    "insert and remove 100 with metrics": insert_and_remove,
    "replace": lambda s: s.notebooks.replace(Document({"tags": [next(NUMBERS)]}, "nowhere")),
    "update": lambda s: s.checkpoints.update({"tags": [next(NUMBERS)]}, doc_ids=["c000500"]),
    "update by fields": lambda s: s.notebooks.update({"tags": [next(NUMBERS)]}, AT_PATH),
    "remove ids": lambda s: s.notebooks.remove_ids([f"nowhere{i}" for i in range(100)]),
    "search by a field": lambda s: s.notebooks.search(where("embedded_id") == "e70"),
    "search by two fields": lambda s: s.notebooks.search(AT_PATH),
    "find one": lambda s: s.checkpoints.find_one(notebook_id="n7", run_id="r1", epoch=7, step=0),
    "smallest": lambda s: s.best("n7", "loss", minimize=True, limit=3),
    "largest": lambda s: s.best("n7", "loss", minimize=False),
    "three largest": lambda s: s.best("n7", "loss", minimize=False, limit=3),
    "two largest, tied": lambda s: s.best("n7", "acc.val", minimize=False, limit=2),
    "newest notebooks of a user": lambda s: s.notebooks.search(
        where("user_id") == "u3", sort=["-updated_at", "-id"], limit=20
    ),
    "newest notebooks": lambda s: s.notebooks.search(
        Query().noop(), sort=["-updated_at", "-id"], limit=20
    ),
    "page of checkpoints": lambda s: s.checkpoints.search(
        IN_NOTEBOOK, sort=["-created_at", "-id"], limit=5, skip=20
    ),
    "checkpoints since": lambda s: s.checkpoints.search(
        IN_NOTEBOOK & (where("created_at") > "2026-01-01T00:00:00.000800Z"),
        sort=["created_at", "id"],
        limit=5,
    ),
}


def count_steps(store: Store, operation: Callable[[Store], Any]) -> int:
    """Return how many steps SQLite's virtual machine takes for an operation."""
    steps = itertools.count()

    def start(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(lambda: next(steps) * 0, 1)

    def stop(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(None, 1)

    engine = store._database.engine
    sa.event.listen(engine, "checkout", start)
    sa.event.listen(engine, "checkin", stop)
    try:
        operation(store)
    finally:
        sa.event.remove(engine, "checkout", start)
        sa.event.remove(engine, "checkin", stop)
    return next(steps)


@pytest.mark.parametrize("name", OPERATIONS)
def test_point_operations_do_not_slow_down_in_a_larger_table(
    stores: dict[int, Store], name: str
) -> None:
    small, large = (count_steps(stores[size], OPERATIONS[name]) for size in (SMALL, LARGE))
    assert 0 < large <= 1.2 * small + 50, (small, large)
