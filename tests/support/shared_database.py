"""A database that several users share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store.schema import COLLECTIONS
from support.engines import PostgresqlServer

#: Tables whose rows belong to a notebook.
NOTEBOOK_TABLES = [c.name for c in COLLECTIONS if c.name != "axonml_notebooks"] + ["axonml_metrics"]

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
    """Create a notebook with a cell, a run and a checkpoint; return the notebook's and its id."""
    notebook = repository.create(
        NewNotebook(user_id=user_id, name="train", cells=[NotebookCell(source="fit()")])
    )
    checkpoint = repository.create_checkpoint(
        NewCheckpoint(
            notebook_id=notebook.id,
            epoch=1,
            step=1,
            metrics={"loss": 0.5},
            run_id=f"run of {user_id}",
        )
    )
    return notebook.id, checkpoint.id


def document_in(notebook_id: str) -> str:
    return f'{{"id":"p","notebook_id":"{notebook_id}"}}'
