"""Records to test with, and checks of the tables of a store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from jupyter_axon_notebooks.mapping import map_notebook
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellStatus,
    CellType,
    NewCheckpoint,
    NewNotebook,
    NotebookCell,
    NotebookCheckpoint,
    NotebookMetadata,
    NotebookStatus,
    UpdateNotebook,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository, SavedNotebook, States
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store


def code(
    id: str, source: str = "", *printed: str, count: int | None = None, **fields: Any
) -> NotebookCell:
    outputs = [CellOutput(output_type="stream", name="stdout", text=text) for text in printed]
    fields.setdefault("status", CellStatus.IDLE if count is None else CellStatus.COMPLETED)
    return NotebookCell(id=id, source=source, outputs=outputs, execution_count=count, **fields)


def markdown(id: str, source: str = "", **fields: Any) -> NotebookCell:
    return NotebookCell(id=id, source=source, cell_type=CellType.MARKDOWN, **fields)


def new_notebook(*cells: NotebookCell, **fields: Any) -> NewNotebook:
    return NewNotebook(**{"user_id": "ada", "name": "resnet", "cells": list(cells), **fields})


def new_checkpoint(
    notebook_id: str, metrics: Any = None, *, epoch: int = 0, step: int = 0, **fields: Any
) -> NewCheckpoint:
    metrics = {} if metrics is None else metrics
    return NewCheckpoint(notebook_id=notebook_id, epoch=epoch, step=step, metrics=metrics, **fields)


def new_save(*cells: NotebookCell, tags: list[str] | None = None, **fields: Any) -> SavedNotebook:
    return SavedNotebook(
        **{
            "cells": list(cells),
            "metadata": NotebookMetadata(kernel="python3", language="python", tags=tags or []),
            "status": NotebookStatus.DRAFT,
            "synced_at": now(),
            **fields,
        }
    )


def new_save_from(content: dict[str, Any]) -> SavedNotebook:
    """Return the save of a notebook file with this content."""
    mapped = map_notebook(content)
    return new_save(cells=mapped.cells, metadata=mapped.metadata, status=mapped.status)


def create_checkpoint_with_state(
    repository: NotebookRepository,
    states: StateStorage,
    notebook_id: str,
    id: str,
    content: bytes = b"weights",
    *,
    metrics: Any = None,
    mark: bool = True,
    **fields: Any,
) -> NotebookCheckpoint:
    """Write a model state and create its checkpoint.

    Without ``mark``, as a kernel does that is killed before it marks the state as recorded.
    """
    with states.open_writer(notebook_id, id, "model", format="torch") as writer:
        writer.write(content)
        state = writer.commit()
    digests, sizes = {"model": state.digest}, {"model": state.size}
    new = new_checkpoint(
        notebook_id,
        metrics,
        id=id,
        model_state_path=state.path,
        digests=digests,
        sizes=sizes,
        **fields,
    )
    checkpoint = repository.create_checkpoint(new)
    if mark:
        states.mark_recorded(notebook_id, id)
    return checkpoint


def create_notebooks(repository: NotebookRepository, *ids: str, **fields: Any) -> None:
    for id in ids:
        repository.create(new_notebook(code("c"), id=id, **fields))


def update_cells(repository: NotebookRepository, *cells: NotebookCell, id: str = "nb") -> str:
    return repository.update(id, UpdateNotebook(cells=list(cells))).version_id or ""


def create_versions(
    repository: NotebookRepository, count: int, id: str = "nb", **fields: Any
) -> list[str]:
    """Create a notebook with ``count`` versions; return their ids, oldest first.

    The first cell is the same in all versions, the second changes.
    """
    cell = code("a", "same")
    new = new_notebook(cell, code("b", "0", "0"), id=id, **fields)
    first = repository.create(new).version_id or ""
    numbers = map(str, range(1, count))
    return [first, *(update_cells(repository, cell, code("b", n, n), id=id) for n in numbers)]


def sources(cells: list[NotebookCell]) -> list[str]:
    return [cell.source for cell in cells]


def read_contents(store: Store) -> dict[str, Any]:
    """Return everything in the table of contents, by id."""
    return {str(row.doc_id): row["content"] for row in store.contents.all()}


def list_content_ids(store: Store) -> set[str]:
    """Return the ids of the contents that versions refer to."""
    ids = set()
    for version in store.versions.all():
        digests = {digest for _, *parts, _ in version["cells"] for digest in parts if digest}
        if "nbformat" in version["metadata"]["extra"]:
            digests.add(version["metadata"]["extra"]["nbformat"])
        ids |= {f"{version['notebook_id']}/{digest}" for digest in digests}
    return ids


def check_contents(store: Store) -> None:
    """Check that versions and contents exist exactly where something refers to them."""
    assert read_contents(store).keys() == list_content_ids(store)
    versions = {str(version.doc_id) for version in store.versions.all()}
    referring = [*store.notebooks.all(), *store.checkpoints.all()]
    assert {document["version_id"] for document in referring} <= versions
    ordinals = {(version["notebook_id"], version["ordinal"]) for version in store.versions.all()}
    assert len(ordinals) == len(versions)


def count_rows(store: Store) -> dict[str, int]:
    """Return the number of rows of each table, including the index of metrics."""
    with store.snapshot() as connection:
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in (*store._schema.tables, "axonml_metrics")
        }


def to_json_text(record: Any) -> str:
    """Return a record's JSON, which unlike the record distinguishes 1, 1.0 and True."""
    return json.dumps(record.to_json(), sort_keys=True)


class RecordedStates(States):
    """State files that record their removals, and check that these follow the commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.removed: list[tuple[str, ...]] = []
        self._marked: tuple[str, str | None] | None = None

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        assert self._store._work.connection is not None, "marked outside a transaction"
        self._marked = notebook_id, checkpoint_id

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        assert self._marked == (notebook_id, checkpoint_id)
        assert not self._store.checkpoints.contains(doc_id=checkpoint_id)
        self._record(notebook_id, checkpoint_id)

    def remove_notebook(self, notebook_id: str) -> None:
        assert self._marked == (notebook_id, None)
        assert not self._store.notebooks.contains(doc_id=notebook_id)
        self._record(notebook_id)

    def _record(self, *ids: str) -> None:
        assert self._store._work.connection is None, "removed before the commit"
        self.removed.append(ids)


KILLED_SAVE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from support.factories import code, new_notebook, new_save
from jupyter_axon_notebooks.repository import NotebookRepository, versions
from jupyter_axon_notebooks.store import open_store
versions._BATCH_LENGTH = 150
stage = versions.VersionRepository.stage
def stage_and_kill(*arguments):
    stage(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
versions.VersionRepository.stage = stage_and_kill
repository = NotebookRepository(open_store(sys.argv[2]))
cells = [code(f"c{n}", "1", f"{n}q" * 20, count=1) for n in range(5)]
if repository.find_summary("nb") is None:
    repository.create(new_notebook(id="nb"), new_save(*cells))
else:
    repository.save("nb", new_save(*cells))
"""


def kill_during_save(url: str) -> None:
    """Run a large save in a process that is killed after its contents are staged."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED_SAVE, str(Path(__file__).parents[1]), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=60,
    )
    assert process.returncode == -signal.SIGKILL
