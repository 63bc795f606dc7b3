"""What must be in a store after certain operations: the oracle.

:class:`Model` has a method for each operation of :class:`~.hands.Hands`, under its name and with its arguments, and does
nothing but note in plain objects what the operation promises. It shares no code with what it judges.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jupyter_axon_notebooks.records import NotebookCell

from .plans import Operation

#: The kind of a record and its id.
Key = tuple[str, str]


@dataclass(eq=False)
class Version:
    """The cells of a notebook at one moment; ``kernel`` stands for its metadata."""

    cells: list[NotebookCell]
    kernel: str

    def sources(self) -> list[Any]:
        """What a new version begins with."""
        return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in self.cells]

    def plain(self) -> list[Any]:
        """Its cells as JSON; a version knows no statuses."""
        return [
            {name: value for name, value in cell.to_json().items() if name != "status"}
            for cell in self.cells
        ]


@dataclass
class Notebook:
    """A notebook record."""

    name: str
    cells: list[NotebookCell]
    kernel: str
    path: str | None
    description: str | None = None
    status: str = "draft"
    tags: list[str] = field(default_factory=list)
    released: bool = False
    versions: list[Version] = field(default_factory=list)


@dataclass
class Checkpoint:
    """A checkpoint; ``files`` are the digests of its state files."""

    notebook_id: str
    epoch: int
    step: int
    metrics: dict[str, Any]
    run_id: str | None
    version: Version
    tags: list[str] = field(default_factory=list)
    pinned: bool = False
    files: dict[str, str] = field(default_factory=dict)


class Model:
    """All records and state files there must be."""

    def __init__(self) -> None:
        self.notebooks: dict[str, Notebook] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.runs: dict[str, tuple[str, str]] = {}

    def apply(self, operation: Operation) -> set[Key]:
        """Note an operation; the records it changed."""
        changed: set[Key] = getattr(self, operation.name)(**operation.arguments)
        return changed

    def plain(self) -> dict[str, Any]:
        """All of it, in the form of :func:`.observed.observe`."""
        return {
            "notebooks": {id: _plain_notebook(notebook) for id, notebook in self.notebooks.items()},
            "versions": {
                id: [version.plain() for version in notebook.versions]
                for id, notebook in self.notebooks.items()
            },
            "checkpoints": {
                id: self._plain_checkpoint(found) for id, found in self.checkpoints.items()
            },
            "runs": {id: list(run) for id, run in self.runs.items()},
            "best": {id: self._best(id) for id in self.notebooks},
            "metric rows": sum(len(_finite(found.metrics)) for found in self.checkpoints.values()),
            "files": {
                f"{found.notebook_id}/{id}/{part}.bin": digest
                for id, found in self.checkpoints.items()
                for part, digest in found.files.items()
            },
        }

    def _plain_checkpoint(self, found: Checkpoint) -> dict[str, Any]:
        return {
            "notebook_id": found.notebook_id,
            "at": [found.epoch, found.step],
            "metrics": found.metrics,
            "run_id": found.run_id,
            "version": self.notebooks[found.notebook_id].versions.index(found.version),
            "tags": found.tags,
            "pinned": found.pinned,
            "files": found.files,
        }

    def _best(self, notebook_id: str) -> float | None:
        losses = [
            _finite(found.metrics).get("loss", math.inf)
            for found in self.checkpoints.values()
            if found.notebook_id == notebook_id
        ]
        best = min(losses, default=math.inf)
        return None if best == math.inf else best

    # Notebooks

    def create(self, id: str, cells: Sequence[NotebookCell], path: str | None = None) -> set[Key]:
        self.notebooks[id] = Notebook(f"the {id}", list(cells), "axonml", path)
        self._set_version(self.notebooks[id])
        return {("notebook", id)}

    def create_saved(
        self, id: str, cells: Sequence[NotebookCell], path: str | None = None
    ) -> set[Key]:
        self.notebooks[id] = Notebook(f"the {id}", list(cells), "python3", path)
        self._set_version(self.notebooks[id])
        return {("notebook", id)}

    def save(self, id: str, cells: Sequence[NotebookCell]) -> set[Key]:
        notebook = self.notebooks[id]
        notebook.cells, notebook.kernel = list(cells), "python3"
        if notebook.status != "running" or not self._has_living_run(id):
            notebook.status = "draft"
        self._set_version(notebook, "python3")
        return {("notebook", id)}

    def update(self, id: str, **fields: Any) -> set[Key]:
        for name, value in fields.items():
            setattr(self.notebooks[id], name, value)
        if "cells" in fields:
            self._set_version(self.notebooks[id])
        return {("notebook", id)}

    def add_cell(self, id: str, cell: NotebookCell, position: int) -> set[Key]:
        cells = self.notebooks[id].cells
        return self._edit(id, [*cells[:position], cell, *cells[position:]])

    def update_cell(self, id: str, cell: NotebookCell) -> set[Key]:
        return self._edit(
            id, [cell if cell.id == one.id else one for one in self.notebooks[id].cells]
        )

    def change_cell(self, id: str, cell_id: str, more: str) -> set[Key]:
        (cell,) = [one for one in self.notebooks[id].cells if one.id == cell_id]
        return self.update_cell(id, msgspec.structs.replace(cell, source=cell.source + more))

    def delete_cell(self, id: str, cell_id: str) -> set[Key]:
        return self._edit(id, [one for one in self.notebooks[id].cells if one.id != cell_id])

    def bind(self, id: str, path: str) -> set[Key]:
        released = {
            other for other, one in self.notebooks.items() if one.path == path and other != id
        }
        for other in released:
            self.release(other)
        self.notebooks[id].path, self.notebooks[id].released = path, False
        return {("notebook", id), *(("notebook", other) for other in released)}

    def release(self, id: str) -> set[Key]:
        self.notebooks[id].path, self.notebooks[id].released = None, True
        return {("notebook", id)}

    def delete(self, id: str) -> set[Key]:
        of_notebook = [other for other, one in self.checkpoints.items() if one.notebook_id == id]
        runs = [other for other, (notebook_id, _) in self.runs.items() if notebook_id == id]
        del self.notebooks[id]
        for other in of_notebook:
            del self.checkpoints[other]
        for other in runs:
            del self.runs[other]
        gone = {("checkpoint", other) for other in of_notebook} | {("run", other) for other in runs}
        return {("notebook", id), *gone}

    def tidy(self, id: str, keep: int) -> set[Key]:
        versions = self.notebooks[id].versions
        referred = {found.version for found in self.checkpoints.values()}
        versions[:-keep] = [version for version in versions[:-keep] if version in referred]
        return set()

    def _edit(self, id: str, cells: list[NotebookCell]) -> set[Key]:
        self.notebooks[id].cells = cells
        self._set_version(self.notebooks[id])
        return {("notebook", id)}

    def _set_version(self, notebook: Notebook, kernel: str | None = None) -> None:
        """Keep the newest version if nothing changed, replace it if only outputs did, else begin another."""
        before = notebook.versions[-1] if notebook.versions else None
        kernel = kernel or (before.kernel if before else notebook.kernel)
        version = Version(notebook.cells, kernel)
        if before is not None:
            if before.plain() == version.plain() and before.kernel == kernel:
                return
            referred = any(found.version is before for found in self.checkpoints.values())
            if before.sources() == version.sources() and not referred:
                notebook.versions.pop()
        notebook.versions.append(version)

    # Checkpoints and runs

    def create_checkpoint(
        self,
        id: str,
        notebook_id: str,
        epoch: int,
        step: int,
        metrics: dict[str, Any],
        run_id: str | None = None,
    ) -> set[Key]:
        version = self.notebooks[notebook_id].versions[-1]
        self.checkpoints[id] = Checkpoint(notebook_id, epoch, step, metrics, run_id, version)
        if run_id is not None and run_id not in self.runs:
            return {("checkpoint", id), *self.create_run(run_id, notebook_id)}
        return {("checkpoint", id)}

    def record_checkpoint(
        self, id: str, states: dict[str, bytes], overwrite: bool = False, **fields: Any
    ) -> set[Key]:
        changed = set()
        if overwrite:
            place = fields["notebook_id"], fields["run_id"], fields["epoch"], fields["step"]
            for other, one in list(self.checkpoints.items()):
                if (one.notebook_id, one.run_id, one.epoch, one.step) == place:
                    changed |= self.delete_checkpoint(other)
        changed |= self.create_checkpoint(id, **fields)
        self.checkpoints[id].files = {part: _digest(content) for part, content in states.items()}
        return changed

    def attach_state(self, id: str, part: str, content: bytes) -> set[Key]:
        self.checkpoints[id].files[part] = _digest(content)
        return {("checkpoint", id)}

    def update_checkpoint(self, id: str, tags: list[str], pinned: bool) -> set[Key]:
        self.checkpoints[id].tags, self.checkpoints[id].pinned = tags, pinned
        return {("checkpoint", id)}

    def delete_checkpoint(self, id: str) -> set[Key]:
        del self.checkpoints[id]
        return {("checkpoint", id)}

    def prune(self, id: str, keep: int) -> set[Key]:
        held = [
            other for other, one in self.checkpoints.items() if one.notebook_id == id and one.files
        ]
        for other in held[:-keep]:
            self.checkpoints[other].files = {}
        return {("checkpoint", other) for other in held[:-keep]}

    def create_run(self, id: str, notebook_id: str) -> set[Key]:
        self.runs[id] = (notebook_id, "running")
        self.notebooks[notebook_id].status = "running"
        return {("run", id), ("notebook", notebook_id)}

    def update_run_status(self, id: str, notebook_id: str, status: str) -> set[Key]:
        self.runs[id] = (notebook_id, status)
        notebook = self.notebooks[notebook_id]
        if status == "running" or (
            notebook.status == "running" and not self._has_living_run(notebook_id)
        ):
            notebook.status = status
        return {("run", id), ("notebook", notebook_id)}

    def _has_living_run(self, notebook_id: str) -> bool:
        return (notebook_id, "running") in self.runs.values()


def _plain_notebook(notebook: Notebook) -> dict[str, Any]:
    return {
        "name": notebook.name,
        "description": notebook.description,
        "status": notebook.status,
        "tags": notebook.tags,
        "kernel": notebook.kernel,
        "path": notebook.path,
        "released": notebook.released,
        "cells": [cell.to_json() for cell in notebook.cells],
        "version": len(notebook.versions) - 1,
    }


def _finite(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, float) and math.isfinite(value)
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
