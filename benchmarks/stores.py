"""Stores of a given size, and the bare SQLite database that is the baseline beside one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from jupyter_axon_notebooks.records import NewNotebook, NotebookCell, NotebookCheckpoint, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document, open_store

_EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
_BATCH = 10_000


@contextmanager
def new_store(path: Path) -> Iterator[Store]:
    """An empty store in the file ``path``."""
    store = open_store(f"sqlite:///{path}")
    try:
        yield store
    finally:
        store.close()


def new_notebook(repository: NotebookRepository) -> str:
    """A notebook record with a few cells; its id."""
    cells = [NotebookCell(source=f"model.fit(x, y, epochs={number})") for number in range(10)]
    return repository.create(NewNotebook(user_id="ada", name="train", cells=cells)).id


def metrics(epoch: int, *, tied: bool = False) -> dict[str, float]:
    """What a training loop logs: four numbers."""
    loss = 0.5 if tied else 1.0 / (1 + (epoch * 7919) % 1_000_003)
    return {"loss": loss, "val_loss": loss * 1.1, "accuracy": 1 - loss / 2, "learning_rate": 1e-3}


def add_checkpoints(store: Store, notebook_id: str, count: int, *, run_id: str, tied: bool = False) -> None:
    """Fill a store with ``count`` checkpoints of one notebook."""
    version_id = store.notebooks.get(doc_id=notebook_id)["version_id"]

    def documents() -> Iterator[Any]:
        for epoch in range(count):
            checkpoint = NotebookCheckpoint(
                id=new_id(),
                notebook_id=notebook_id,
                run_id=run_id,
                version_id=version_id,
                epoch=epoch,
                step=epoch * 100,
                metrics=metrics(epoch, tied=tied),
                model_state_path=f"/states/{notebook_id}/{epoch}/model.safetensors",
                created_at=_EPOCH + timedelta(seconds=epoch),
            )
            yield document(checkpoint.id, checkpoint.to_json())

    made = documents()
    while batch := list(islice(made, _BATCH)):
        store.checkpoints.insert_multiple(batch)


class RawCopy:
    """A bare SQLite database with all that a store has in it, and as durable: same rows, same tables, same indexes.

    Its tables are the store's own, so it follows every change of the schema.
    """

    def __init__(self, store_path: Path, path: Path) -> None:
        self._store = sqlite3.connect(f"{store_path.as_uri()}?mode=ro", uri=True)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self._store.backup(self.connection)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._tables = self._all_tables()

    def _all_tables(self) -> list[str]:
        named = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        )
        return [name for (name,) in self._store.execute(named)]

    def replay(self, table: str, where: str, value: str) -> tuple[str, list[tuple[Any, ...]]]:
        """The statement, and its rows, that write here what the store has in ``table`` where a column has a value."""
        rows = self._store.execute(f'SELECT * FROM "{table}" WHERE "{where}" = ?', (value,)).fetchall()
        marks = ", ".join("?" * len(rows[0])) if rows else ""
        return f'INSERT INTO "{table}" VALUES ({marks})', rows

    def write(self, inserts: Sequence[tuple[str, list[tuple[Any, ...]]]]) -> None:
        """Write rows in one durable transaction."""
        execute: Callable[..., Any] = self.connection.execute
        execute("BEGIN IMMEDIATE")
        for statement, rows in inserts:
            if len(rows) == 1:
                execute(statement, rows[0])
            else:
                self.connection.executemany(statement, rows)
        execute("COMMIT")

    def difference(self) -> dict[str, tuple[int, int]]:
        """Rows in the store and here, of the tables where these are not as many."""
        counts = {
            table: tuple(
                connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
                for connection in (self._store, self.connection)
            )
            for table in self._tables
        }
        return {table: (ours, raw) for table, (ours, raw) in counts.items() if ours != raw}

    def close(self) -> None:
        """Close both databases."""
        self._store.close()
        self.connection.close()
