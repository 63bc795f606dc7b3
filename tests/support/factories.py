"""Records to test with, and what can be asked of a store behind the repository's back."""

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
    NotebookMetadata,
    NotebookStatus,
    UpdateNotebook,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository, SavedNotebook, States
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


def saved(*cells: NotebookCell, tags: list[str] | None = None, **fields: Any) -> SavedNotebook:
    return SavedNotebook(
        **{
            "cells": list(cells),
            "metadata": NotebookMetadata(kernel="python3", language="python", tags=tags or []),
            "status": NotebookStatus.DRAFT,
            "synced_at": now(),
            **fields,
        }
    )


def saved_file(content: dict[str, Any]) -> SavedNotebook:
    """The save of a notebook file with this content."""
    mapped = map_notebook(content)
    return saved(cells=mapped.cells, metadata=mapped.metadata, status=mapped.status)


def create_ids(repository: NotebookRepository, *ids: str, **fields: Any) -> None:
    for id in ids:
        repository.create(new_notebook(code("c"), id=id, **fields))


def edit(repository: NotebookRepository, *cells: NotebookCell, id: str = "nb") -> str:
    return repository.update(id, UpdateNotebook(cells=list(cells))).version_id or ""


def history(
    repository: NotebookRepository, length: int, id: str = "nb", **fields: Any
) -> list[str]:
    """A notebook of so many versions, oldest first; one cell stays, the other changes."""
    first = repository.create(new_notebook(code("a", "same"), code("b", "0", "0"), id=id, **fields))
    return [
        first.version_id or "",
        *(
            edit(repository, code("a", "same"), code("b", f"{n}", f"{n}"), id=id)
            for n in range(1, length)
        ),
    ]


def sources(cells: list[NotebookCell]) -> list[str]:
    return [cell.source for cell in cells]


def contents(store: Store) -> dict[str, Any]:
    """Everything in the contents table, by id."""
    return {str(found.doc_id): found["content"] for found in store.contents.all()}


def listed(store: Store) -> set[str]:
    """The ids of the contents that any version lists."""
    ids = set()
    for version in store.versions.all():
        digests = {digest for _, *parts, _ in version["cells"] for digest in parts if digest}
        digests |= {
            version["metadata"]["extra"][name]
            for name in version["metadata"]["extra"]
            if name == "nbformat"
        }
        ids |= {f"{version['notebook_id']}/{digest}" for digest in digests}
    return ids


def check_contents(store: Store) -> None:
    """Every content is listed, every listed content is there, and so is every version that something refers to."""
    assert contents(store).keys() == listed(store)
    versions = {str(version.doc_id) for version in store.versions.all()}
    referring = [*store.notebooks.all(), *store.checkpoints.all()]
    assert {document["version_id"] for document in referring} <= versions
    numbers = {(v["notebook_id"], v["ordinal"]) for v in store.versions.all()}
    assert len(numbers) == len(versions)


def rows(store: Store) -> dict[str, int]:
    """How many rows each table has, the metric index included."""
    with store.snapshot() as connection:
        names = [
            *store._schema.tables,
            "axonml_metrics",
        ]
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in names
        }


def plain(value: Any) -> Any:
    """A record's JSON, as text: equal only where types are."""
    return json.dumps(value.to_json(), sort_keys=True)


class RecordedStates(States):
    """A home of state files that notes what it is asked to remove, and that no transaction was open then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.removed: list[tuple[str, ...]] = []
        self._abandoned: tuple[str, str | None] | None = None

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        assert self._store._database._work.connection is not None, "noted before the commit"
        self._abandoned = notebook_id, checkpoint_id

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        assert self._abandoned == (notebook_id, checkpoint_id)
        assert not self._store.checkpoints.contains(doc_id=checkpoint_id)
        self._note(notebook_id, checkpoint_id)

    def remove_notebook(self, notebook_id: str) -> None:
        assert self._abandoned == (notebook_id, None)
        assert not self._store.notebooks.contains(doc_id=notebook_id)
        self._note(notebook_id)

    def _note(self, *what: str) -> None:
        assert self._store._database._work.connection is None, (
            "state files are removed after the commit"
        )
        self.removed.append(what)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from support.factories import code, new_notebook, saved
from jupyter_axon_notebooks.repository import NotebookRepository, versions
from jupyter_axon_notebooks.store import open_store
versions._BATCH_LENGTH = 150
written = versions.VersionRepository.stage
def and_die(*arguments):
    written(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
versions.VersionRepository.stage = and_die
repository = NotebookRepository(open_store(sys.argv[2]))
cells = [code(f"c{n}", "1", f"{n}q" * 20, count=1) for n in range(5)]
if repository.find_summary("nb") is None:
    repository.create(new_notebook(id="nb"), saved(*cells))
else:
    repository.save("nb", saved(*cells))
"""


def killed_in_a_save(url: str) -> None:
    """Have a process killed between what it writes ahead of a large save and the save itself."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
