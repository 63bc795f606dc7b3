"""A database that several users share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell, UpdateRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store.schema import COLLECTIONS, Schema
from support.engines import PostgresqlServer

#: Tables with rows that are derived from documents, or belong to a run.
DERIVED_TABLES = [
    "axonml_metrics",
    "axonml_run_values",
    "axonml_run_metrics",
    "axonml_series",
    "axonml_spools",
]
#: Tables whose rows belong to a notebook.
NOTEBOOK_TABLES = [c.name for c in COLLECTIONS if c.name != "axonml_notebooks"] + DERIVED_TABLES

#: Opens the store with a role.
OpenRepository = Callable[[str], NotebookRepository]


@dataclass
class SharedDatabase:
    """A database of alice, bob and an admin."""

    server: PostgresqlServer
    name: str

    def url(self, role: str) -> str:
        return self.server.url(self.name, user=role)

    def sql(self, role: str) -> psycopg.Connection:
        return self.server.connect(self.name, user=role)


def create_trained_notebook(repository: NotebookRepository, user_id: str) -> tuple[str, str]:
    """Create a notebook with a cell, a run that logged, and a checkpoint.

    Returns the ids of the notebook and of the checkpoint.
    """
    run_id = f"run of {user_id}"
    notebook = repository.create(
        NewNotebook(user_id=user_id, name="train", cells=[NotebookCell(source="fit()")])
    )
    checkpoint = repository.create_checkpoint(
        NewCheckpoint(
            notebook_id=notebook.id,
            epoch=1,
            step=1,
            metrics={"loss": 0.5},
            run_id=run_id,
        )
    )
    rows = [Row(step, 0.0, {f"acc of {user_id}": 0.25}) for step in range(2)]
    repository.series.append(notebook.id, run_id, rows, spool="s", begin=0, end=2)
    config = {f"key of {user_id}": user_id}
    repository.runs.update(notebook.id, run_id, UpdateRun(name=f"name of {user_id}", config=config))
    return notebook.id, checkpoint.id


def row_in(table: str, notebook_id: str) -> dict[str, Any]:
    """Return a row of a table for a notebook, which no other row prevents."""
    if table not in DERIVED_TABLES:
        id = f"{notebook_id}/{'0' * 64}"  # ids of runs end with a digest of this length
        return {"id": id, "document": document_in(notebook_id), "notebook_id": notebook_id}
    values = {sa.Text: "new", sa.BigInteger: 7, sa.Integer: 7, sa.Double: 0.5, sa.LargeBinary: b""}
    columns = Schema().metadata.tables[table].columns
    row = {c.name: values[type(c.type)] for c in columns if not c.nullable}
    return {**row, "notebook_id": notebook_id}


def insert_row(connection: psycopg.Connection, table: str, row: dict[str, Any]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    holes = sql.SQL(", ").join(map(sql.Placeholder, row))
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
    connection.execute(insert.format(sql.Identifier(table), names, holes), row)


def document_in(notebook_id: str) -> str:
    return f'{{"id":"p","notebook_id":"{notebook_id}"}}'
