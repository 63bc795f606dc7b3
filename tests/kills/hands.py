"""Doing what a plan says, through the repository, as the server and a kernel do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from support.factories import new_checkpoint, new_notebook, saved

from jupyter_axon_notebooks.records import (
    NotebookCell,
    NotebookStatus,
    Record,
    RunStatus,
    TrainingNotebook,
    UpdateCheckpoint,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention import Newest
from jupyter_axon_notebooks.states import StateStorage, StateWriter

from .plans import ORIGIN, Operation


class Hands:
    """Every operation of a plan, by name. What an operation returns is what it acknowledges."""

    def __init__(self, repository: NotebookRepository, states: StateStorage) -> None:
        self._repository = repository
        self._states = states

    def do(self, operation: Operation) -> Record | None:
        """Do one operation."""
        returned: Record | None = getattr(self, operation.name)(**operation.arguments)
        return returned

    def create(
        self, id: str, cells: Sequence[NotebookCell], path: str | None = None
    ) -> TrainingNotebook:
        new = new_notebook(*cells, id=id, name=f"the {id}", path=path, origin=ORIGIN)
        return self._repository.create(new)

    def create_saved(
        self, id: str, cells: Sequence[NotebookCell], path: str | None = None
    ) -> TrainingNotebook:
        new = new_notebook(id=id, name=f"the {id}", path=path, origin=ORIGIN)
        return self._repository.create(new, saved(*cells))

    def save(self, id: str, cells: Sequence[NotebookCell]) -> Record:
        return self._repository.save(id, saved(*cells))

    def update(self, id: str, **fields: Any) -> Record:
        if "status" in fields:
            fields["status"] = NotebookStatus(fields["status"])
        return self._repository.update(id, UpdateNotebook(**fields))

    def add_cell(self, id: str, cell: NotebookCell, position: int) -> Record:
        return self._repository.add_cell(id, cell, position)

    def update_cell(self, id: str, cell: NotebookCell) -> Record:
        return self._repository.update_cell(id, cell)

    def change_cell(self, id: str, cell_id: str, more: str) -> Record:
        def longer(cell: NotebookCell) -> NotebookCell:
            return msgspec.structs.replace(cell, source=cell.source + more)

        return self._repository.change_cell(id, cell_id, longer)

    def delete_cell(self, id: str, cell_id: str) -> Record:
        return self._repository.delete_cell(id, cell_id)

    def bind(self, id: str, path: str) -> Record:
        return self._repository.bindings.bind(id, path)

    def release(self, id: str) -> Record:
        return self._repository.bindings.unbind(id)

    def delete(self, id: str) -> None:
        self._repository.delete(id)

    def tidy(self, id: str, keep: int) -> None:
        for _ in self._repository.garbage.remove_versions(id, keep):
            pass

    def create_checkpoint(self, id: str, notebook_id: str, **fields: Any) -> Record:
        return self._repository.create_checkpoint(new_checkpoint(notebook_id, id=id, **fields))

    def record_checkpoint(
        self,
        id: str,
        notebook_id: str,
        states: dict[str, bytes],
        overwrite: bool = False,
        **fields: Any,
    ) -> Record:
        """The files first and then the record, as a kernel does."""
        stored = {}
        for part, content in states.items():
            with self._written(notebook_id, id, part, content) as writer:
                stored[part] = writer.commit()
        named: dict[str, Any] = {f"{part}_state_path": state.path for part, state in stored.items()}
        named["digests"] = {part: state.digest for part, state in stored.items()}
        named["sizes"] = {part: state.size for part, state in stored.items()}
        new = new_checkpoint(notebook_id, id=id, **named, **fields)
        recorded = self._repository.create_checkpoint(new, overwrite=overwrite)
        self._states.mark_recorded(notebook_id, id)
        return recorded

    def attach_state(self, id: str, part: Any, content: bytes) -> Record:
        """The record first and then a file, as the REST handlers do."""
        checkpoint = self._repository.get_checkpoint(id)
        assert checkpoint is not None
        notebook_id = checkpoint.notebook_id
        with self._written(notebook_id, id, part, content) as writer:
            writer.prepare()
            attached = self._repository.checkpoints.attach_state(
                id,
                part,
                writer.commit,
                writer.digest,
                lambda path: self._states.can_read(path, notebook_id),
            )
        self._states.mark_recorded(notebook_id, id)
        return attached

    def _written(self, notebook_id: str, id: str, part: Any, content: bytes) -> StateWriter:
        writer = self._states.open_writer(notebook_id, id, part, expected_size=len(content))
        for chunk in (content[: len(content) // 2], content[len(content) // 2 :]):
            writer.write(chunk)
        return writer

    def update_checkpoint(self, id: str, tags: list[str], pinned: bool) -> Record:
        return self._repository.checkpoints.update(id, UpdateCheckpoint(tags=tags, pinned=pinned))

    def delete_checkpoint(self, id: str) -> None:
        self._repository.delete_checkpoint(id)

    def prune(self, id: str, keep: int) -> None:
        self._repository.retention.prune(id, [Newest(keep)])

    def create_run(self, id: str, notebook_id: str) -> Record:
        return self._repository.runs.start(notebook_id, id=id)

    def update_run_status(self, id: str, notebook_id: str, status: str) -> Record:
        return self._repository.runs.update_status(notebook_id, id, RunStatus(status))
