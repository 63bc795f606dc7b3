"""Stores of a given size, and the bare database that is their baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from databases import Databases, insert_statement

from jupyter_axon_notebooks.records import (
    NewNotebook,
    NotebookCell,
    NotebookCheckpoint,
    NotebookStatus,
    RunStatus,
    TrainingRun,
    format_time,
    new_id,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.store import Document, Store, document, open_store
from jupyter_axon_notebooks.store.metric_index import MetricIndex
from jupyter_axon_notebooks.store.schema import CHECKPOINTS, CollectionTable

#: The owner of the notebooks.
USER = "ada"
#: The run of the checkpoints.
RUN = "7d0c8f0e-1b57-4f5e-9d7e-0c9c1d8a5b10"
#: The origin of the notebooks.
ORIGIN = "0b7e6c52-7d6c-4c5e-9a55-2f3f0d0f9a11"
#: The number of users that share many notebooks.
USERS = 10

_EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
_BATCH = 50_000
#: The number of runs of a notebook, where there are many.
_RUNS = 100


@contextmanager
def open_at(url: str) -> Iterator[Store]:
    """Open the store at `url`, created if missing."""
    with closing(open_store(url)) as store:
        yield store


def new_notebook(repository: NotebookRepository) -> str:
    """Create a notebook record with a few cells and return its id."""
    cells = [NotebookCell(source=f"model.fit(x, y, epochs={number})") for number in range(10)]
    return repository.create(NewNotebook(user_id=USER, name="train", cells=cells)).id


def metrics(epoch: int, *, tied: bool = False) -> dict[str, float]:
    """Return the four metrics that a training loop logs."""
    loss = 0.5 if tied else 1.0 / (1 + (epoch * 7919) % 1_000_003)
    return {"loss": loss, "val_loss": loss * 1.1, "accuracy": 1 - loss / 2, "learning_rate": 1e-3}


def state_path(notebook_id: str, epoch: int) -> str:
    """Return the path of the state of a checkpoint."""
    return f"/states/{notebook_id}/{epoch}/model.safetensors"


def new_store_of_checkpoints(
    databases: Databases, count: int, *, tied: bool = False
) -> tuple[str, str]:
    """Create a store with `count` checkpoints of one run; return its URL and the notebook's id."""
    url = databases.new_url()
    with open_at(url) as store:
        repository = NotebookRepository(store)
        notebook_id = new_notebook(repository)
        repository.runs.start(notebook_id, id=RUN)
        version_id = store.notebooks.get(doc_id=notebook_id)["version_id"]
    _load_checkpoints(databases, url, notebook_id, version_id, count, tied=tied)
    databases.settle(url)
    return url, notebook_id


def _load_checkpoints(
    databases: Databases, url: str, notebook_id: str, version_id: str, count: int, *, tied: bool
) -> None:
    """Write the rows that the store would write, many at once."""
    table = CollectionTable(CHECKPOINTS, sa.MetaData())
    index = table.index
    assert isinstance(index, MetricIndex)

    def made(epoch: int) -> Document:
        checkpoint = NotebookCheckpoint(
            id=new_id(),
            notebook_id=notebook_id,
            run_id=RUN,
            version_id=version_id,
            epoch=epoch,
            step=epoch * 100,
            metrics=metrics(epoch, tied=tied),
            model_state_path=state_path(notebook_id, epoch),
            created_at=_EPOCH + timedelta(seconds=epoch),
        )
        return document(checkpoint.id, checkpoint.to_json())

    epochs = iter(range(count))
    while batch := [made(epoch) for epoch in islice(epochs, _BATCH)]:
        rows = [table.make_row(str(one.doc_id), one) for one in batch]
        ranks = [rank._asdict() for rank in index.make_rows(batch)]
        for name, many in ((table.sql.name, rows), (index.sql.name, ranks)):
            databases.load(url, name, list(many[0]), (tuple(row.values()) for row in many))


def new_store_of_notebooks(
    databases: Databases, count: int, *, users: int = USERS, root: Path = Path("/home/ada")
) -> str:
    """Create a store with `count` notebooks of files below `root`; return its URL."""
    url = databases.new_url()
    with open_at(url) as store:
        template = store.notebooks.get(doc_id=new_notebook(NotebookRepository(store)))
        store.notebooks.remove(doc_ids=[template["id"]])
        notebooks = (_copy(template, number, users, root) for number in range(count))
        store.notebooks.insert(*(document(fields["id"], fields) for fields in notebooks))
    databases.settle(url)
    return url


def _copy(template: dict[str, Any], number: int, users: int, root: Path) -> dict[str, Any]:
    notebook_id = new_id()
    return {
        **template,
        "id": notebook_id,
        "name": f"train-{number}",
        "user_id": f"user-{number % users}" if number % users else USER,
        "status": list(NotebookStatus)[number % len(NotebookStatus)].value,
        "updated_at": format_time(_EPOCH + timedelta(seconds=number)),
        "origin": ORIGIN,
        "path": str(root / f"project-{number // 100}" / f"train-{number}.ipynb"),
        "embedded_id": notebook_id,
    }


def run_config(number: int) -> dict[str, Any]:
    """Return 50 keys of the configuration of a run, all with different values in different runs."""
    spread = (number * 7919) % 10_007 / 10_007
    config: dict[str, Any] = {f"key_{key}": spread * key for key in range(48)}
    return {**config, "lr": spread / 10, "optimizer": ("sgd", "adam", "adamw")[number % 3]}


def run_metrics(number: int) -> dict[str, float]:
    """Return the last values of 20 metrics of a run."""
    spread = (number * 6197) % 10_009 / 10_009
    return {"val_acc": spread, **{f"metric_{key}": spread * key - key % 3 for key in range(19)}}


def run_tags(number: int) -> list[str]:
    """Return the tags of a run."""
    return ["baseline"] if number % 4 == 0 else []


def new_store_of_runs(databases: Databases, count: int) -> str:
    """Create a store with `count` runs, 100 of each notebook; return its URL."""
    url = databases.new_url()
    with open_at(url) as store:
        repository = NotebookRepository(store)
        for start in range(0, count, _RUNS):
            notebook_id = new_notebook(repository)
            numbers = range(start, min(start + _RUNS, count))
            runs = [_make_run(notebook_id, start, number) for number in numbers]
            with store.transaction() as connection:
                documents = (run.to_json() for run in runs)
                store.runs.insert(
                    *(document(run_key(notebook_id, one["id"]), one) for one in documents)
                )
                for number, run in zip(numbers, runs, strict=True):
                    row = store.run_index.row_of(connection, run_key(notebook_id, run.id))
                    columns = {
                        name: ([99], [value], [0.0]) for name, value in run_metrics(number).items()
                    }
                    store.run_index.add_metrics(connection, row, notebook_id, columns)
    databases.settle(url)
    return url


def _make_run(notebook_id: str, first: int, number: int) -> TrainingRun:
    started_at = _EPOCH + timedelta(seconds=number)
    return TrainingRun(
        id=new_id(),
        notebook_id=notebook_id,
        name=f"run {number}",
        number=number - first + 1,
        status=RunStatus.COMPLETED,
        started_at=started_at,
        ended_at=started_at + timedelta(minutes=1),
        config=run_config(number),
        tags=run_tags(number),
        step_count=100,
    )


class RawCopy:
    """A copy of a store as a bare database with the same rows, tables and indexes.

    The engine copies the database, so it follows every change of the schema.
    """

    def __init__(self, databases: Databases, url: str) -> None:
        copied = databases.copy(url)
        databases.settle(copied)
        self._mark = databases.mark
        self._store = databases.connect(url)
        self._connection = databases.connect(copied)
        self._cursor = self._connection.cursor()

    def replay(self, table: str, *keys: Mapping[str, Any]) -> tuple[str, list[tuple[Any, ...]]]:
        """Return the statement and the rows that copy `keys` from the store to this database."""
        rows: list[tuple[Any, ...]] = []
        for key in keys:
            where = " AND ".join(f'"{name}" = {self._mark}' for name in key)
            found = self._store.execute(
                f'SELECT * FROM "{table}" WHERE {where}', tuple(key.values())
            )
            rows += found.fetchall()
        return insert_statement(
            table, [column[0] for column in found.description], self._mark
        ), rows

    def write(self, inserts: Sequence[tuple[str, list[tuple[Any, ...]]]]) -> None:
        """Write rows in one durable transaction."""
        execute = self._cursor.execute
        execute("BEGIN IMMEDIATE" if self._mark == "?" else "BEGIN")
        for statement, rows in inserts:
            if len(rows) == 1:
                execute(statement, rows[0])
            else:
                self._cursor.executemany(statement, rows)
        execute("COMMIT")

    def difference(self, tables: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the numbers of rows in the store and here, for tables where they differ."""
        counts = {
            table: tuple(
                connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
                for connection in (self._store, self._connection)
            )
            for table in tables
        }
        return {table: (ours, raw) for table, (ours, raw) in counts.items() if ours != raw}

    def close(self) -> None:
        """Close both databases."""
        self._store.close()
        self._connection.close()
