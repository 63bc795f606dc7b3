"""A database that users share, and what they keep in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from jupyter_axon_notebooks.records import (
    NewCheckpoint,
    NewNotebook,
    NotebookCell,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store.schema import COLLECTIONS
from support.engines import PostgresqlServer

#: Tables that hold what belongs to notebooks; each row names its notebook.
OF_NOTEBOOKS = [c.name for c in COLLECTIONS if c.name != "axonml_notebooks"] + ["axonml_metrics"]

#: Opens the store as a role.
Opener = Callable[[str], NotebookRepository]


@dataclass
class Shared:
    """A database that alice, bob and an admin share."""

    server: PostgresqlServer
    name: str

    def url(self, role: str) -> str:
        return self.server.url(self.name, user=role)

    def sql(self, role: str) -> psycopg.Connection:
        return self.server.connect(self.name, user=role)


def trained(repository: NotebookRepository, user_id: str) -> tuple[str, str]:
    """A notebook with something in every table that holds anything by now, and a checkpoint of it."""
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


def document_of(notebook_id: str) -> str:
    return f'{{"id":"p","notebook_id":"{notebook_id}"}}'
