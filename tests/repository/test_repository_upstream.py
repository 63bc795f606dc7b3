"""Documents written by upstream can be read, and the repository needs no server."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from support.factories import code, count_rows, new_checkpoint, new_notebook

from jupyter_axon_notebooks.records import (
    CellStatus,
    CellType,
    NewNotebook,
    NotebookCheckpoint,
    NotebookMetadata,
    NotebookStatus,
    TrainingNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document

NOTEBOOK: dict[str, Any] = {
    "id": "nb-123",
    "user_id": "user-456",
    "name": "Test Notebook",
    "description": "A test notebook",
    "cells": [
        {"id": "cell-1", "source": "# Hello", "cell_type": "markdown"},
        {
            "id": "cell-2",
            "source": "x",
            "outputs": [
                {"output_type": "stream", "text": "1", "unknown": 1},
                {"output_type": "display_data", "data": {}},
            ],
            "status": "running",
            "execution_count": 4294967295,
            "metadata": {"a": None},
        },
    ],
    "created_at": "2026-04-16T23:15:00.123456789Z",
    "updated_at": "2026-04-16T18:15:01-05:00",
    "unknown": {"a": 1},
}
CHECKPOINT: dict[str, Any] = {
    "id": "cp-123",
    "notebook_id": "nb-123",
    "epoch": 10,
    "step": 1000,
    "metrics": {"loss": 0.234, "accuracy": 0.89},
    "model_state_path": "/checkpoints/cp-123/model.bin",
    "created_at": "2026-04-16T23:15:00.123456789Z",
    "unknown": 1,
}


def test_a_notebook_document_of_upstream_is_read() -> None:
    notebook = TrainingNotebook.from_json(NOTEBOOK)
    assert (notebook.status, notebook.metadata) == (NotebookStatus.DRAFT, NotebookMetadata())
    markdown, running = notebook.cells
    assert (markdown.cell_type, markdown.status) == (CellType.MARKDOWN, CellStatus.IDLE)
    assert (running.cell_type, running.status) == (CellType.CODE, CellStatus.RUNNING)
    assert (markdown.outputs, running.metadata) == ([], {"a": None})
    created_at = datetime(2026, 4, 16, 23, 15, tzinfo=timezone.utc)
    assert notebook.created_at.replace(microsecond=0) == created_at
    assert notebook.to_json()["updated_at"] == "2026-04-16T23:15:01.000000Z"
    defaults = {"outputs": [], "status": "idle", "metadata": {}}
    assert notebook.to_json()["cells"][0] == {**NOTEBOOK["cells"][0], **defaults}


def test_a_new_notebook_of_upstream_is_created_and_read_back(
    repository: NotebookRepository,
) -> None:
    fields = {name: NOTEBOOK[name] for name in ("user_id", "name", "description", "cells")}
    created = repository.create(
        NewNotebook.from_json({**fields, "model_id": None, "dataset_id": "d"})
    )
    found = repository.find_by_id(created.id)
    assert found == created
    assert found.cells == TrainingNotebook.from_json(NOTEBOOK).cells
    assert TrainingNotebook.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_checkpoint_documents_of_upstream_are_found_listed_and_ranked(
    repository: NotebookRepository, store: Store
) -> None:
    version_id = repository.create(new_notebook(code("a"), id="nb-123")).version_id
    store.checkpoints.insert(document("cp-123", {**CHECKPOINT, "version_id": version_id}))
    newer = repository.create_checkpoint(new_checkpoint("nb-123", {"loss": 0.5}))
    found = repository.get_checkpoint("cp-123")
    assert found.metrics == CHECKPOINT["metrics"]
    assert found.created_at.microsecond in (123456, 123457)
    listed = {checkpoint.id: checkpoint for checkpoint in repository.list_checkpoints("nb-123")}
    assert listed == {"cp-123": found, newer.id: newer}
    assert repository.get_best_checkpoint("nb-123", "loss", True) == found
    assert repository.get_best_checkpoint("nb-123", "accuracy", False) == found
    repository.delete("nb-123")
    assert not any(count_rows(store).values())


def test_checkpoints_are_stored_with_the_fields_of_upstream(
    repository: NotebookRepository, store: Store
) -> None:
    repository.create(new_notebook(id="nb-123"))
    created = repository.create_checkpoint(
        new_checkpoint("nb-123", {"loss": None}, epoch=1, step=2)
    )
    (stored,) = store.checkpoints.all()
    assert NotebookCheckpoint.from_json(dict(stored)) == created
    needed = {"id", "notebook_id", "epoch", "step", "metrics", "model_state_path", "created_at"}
    assert stored.keys() >= needed
