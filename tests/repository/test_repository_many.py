"""Notebooks with many checkpoints: the number of statements stays constant where possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from support.factories import code, new_checkpoint, new_notebook, rows
from tinydb import where

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Document, Store


def fill(repository: NotebookRepository, store: Store, id: str, count: int) -> None:
    repository.create(new_notebook(code("a", "1"), id=id))
    first = repository.create_checkpoint(
        new_checkpoint(id, {"loss": 1.0, "acc": 0.5}, run_id=f"run of {id}")
    )
    stored = store.checkpoints.get(doc_id=first.id)
    copies = (
        Document({**stored, "id": f"{id}-{n}", "epoch": n}, f"{id}-{n}") for n in range(1, count)
    )
    store.checkpoints.insert_multiple(copies)


@contextmanager
def sent(store: Store) -> Iterator[list[int]]:
    """How many sets of parameters each statement inside is sent with."""
    counts: list[int] = []
    engine = store._database.engine

    def note(
        _c: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        counts.append(len(parameters) if many else 1)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield counts
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def test_deleting_a_notebook_takes_a_constant_number_of_statements(
    repository: NotebookRepository, store: Store
) -> None:
    totals = []
    for id, count in (("few", 2), ("many", 700)):
        fill(repository, store, id, count)
        with sent(store) as counts:
            repository.delete(id)
        totals.append(sum(counts))
    assert totals[0] == totals[1]
    assert set(rows(store).values()) <= {0, 1, 2}, rows(store)


def test_deleting_a_notebook_leaves_others_unchanged(
    repository: NotebookRepository, store: Store
) -> None:
    for id in ("a", "b"):
        fill(repository, store, id, 3)
    repository.delete("a")
    assert repository.checkpoints.count("a") == 0
    assert repository.checkpoints.count("b") == 3
    assert repository.get_best_checkpoint("a", "loss", True) is None
    assert repository.get_best_checkpoint("b", "loss", True) is not None
    for table in (store.checkpoints, store.runs, store.versions, store.contents):
        assert not table.search(where("notebook_id") == "a")
        assert table.search(where("notebook_id") == "b")


def test_a_notebook_with_a_damaged_checkpoint_can_be_deleted(
    repository: NotebookRepository, store: Store
) -> None:
    fill(repository, store, "nb", 3)
    with store.transaction() as connection:
        connection.execute(
            sa.text("UPDATE axonml_checkpoints SET document = '{' WHERE id = 'nb-1'")
        )
    repository.delete("nb")
    assert repository.find_summary("nb") is None
    assert len(store.checkpoints) == 0
