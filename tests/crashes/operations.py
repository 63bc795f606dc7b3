"""The operations during which processes are killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from support.factories import code, markdown, new_checkpoint, new_notebook, new_save
from support.sites import OpenSite

from jupyter_axon_notebooks.records import (
    NotebookCell,
    Record,
    RunStatus,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention_rules import Newest
from jupyter_axon_notebooks.states import StateStorage, StateWriter

ORIGIN = "an origin"
#: The killed processes stage the contents of a save that are longer than this in all.
STAGING_LENGTH = 2000
_LARGE_OUTPUT = 1500


class Operation(NamedTuple):
    """A method of `Operations` and its arguments."""

    name: str
    arguments: dict[str, Any]


def op(name: str, id: str, **arguments: Any) -> Operation:
    return Operation(name, {"id": id, **arguments})


class Operations:
    """The operations of a server and a kernel on one store."""

    def __init__(self, repository: NotebookRepository, states: StateStorage) -> None:
        self._repository = repository
        self._states = states

    def execute(self, operation: Operation) -> Record | None:
        """Execute an operation and return the record that it acknowledges."""
        record: Record | None = getattr(self, operation.name)(**operation.arguments)
        return record

    def create(self, id: str, cells: Sequence[NotebookCell], path: str | None = None) -> Record:
        return self._repository.create(
            new_notebook(*cells, id=id, name=f"the {id}", path=path, origin=ORIGIN)
        )

    def create_saved(
        self, id: str, cells: Sequence[NotebookCell], path: str | None = None
    ) -> Record:
        new = new_notebook(id=id, name=f"the {id}", path=path, origin=ORIGIN)
        return self._repository.create(new, new_save(*cells))

    def save(self, id: str, cells: Sequence[NotebookCell]) -> Record:
        return self._repository.save(id, new_save(*cells))

    def update(self, id: str, **fields: Any) -> Record:
        return self._repository.update(id, UpdateNotebook(**fields))

    def update_cell(self, id: str, cell: NotebookCell) -> Record:
        return self._repository.update_cell(id, cell)

    def delete_cell(self, id: str, cell_id: str) -> Record:
        return self._repository.delete_cell(id, cell_id)

    def bind(self, id: str, path: str) -> Record:
        return self._repository.bindings.bind(id, path)

    def delete(self, id: str) -> None:
        self._repository.delete(id)

    def remove_versions(self, id: str, keep: int) -> None:
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
        """Write the files first and then the record, as a kernel does."""
        stored = {}
        for part, content in states.items():
            with self._write(notebook_id, id, part, content) as writer:
                stored[part] = writer.commit()
        for part, state in stored.items():
            fields[f"{part}_state_path"] = state.path
        fields["digests"] = {part: state.digest for part, state in stored.items()}
        fields["sizes"] = {part: state.size for part, state in stored.items()}
        new = new_checkpoint(notebook_id, id=id, **fields)
        record = self._repository.create_checkpoint(new, overwrite=overwrite)
        self._states.mark_recorded(notebook_id, id)
        return record

    def attach_state(self, id: str, part: Any, content: bytes) -> Record:
        """Write the record first and then a file, as the REST handlers do."""
        checkpoint = self._repository.get_checkpoint(id)
        assert checkpoint is not None
        notebook_id = checkpoint.notebook_id
        with self._write(notebook_id, id, part, content) as writer:
            writer.prepare()
            record = self._repository.checkpoints.attach_state(
                id,
                part,
                writer.commit,
                writer.digest,
                lambda path: self._states.can_read(path, notebook_id),
            )
        self._states.mark_recorded(notebook_id, id)
        return record

    def _write(self, notebook_id: str, id: str, part: Any, content: bytes) -> StateWriter:
        writer = self._states.open_writer(notebook_id, id, part, expected_size=len(content))
        for chunk in (content[: len(content) // 2], content[len(content) // 2 :]):
            writer.write(chunk)
        return writer

    def delete_checkpoint(self, id: str) -> None:
        self._repository.delete_checkpoint(id)

    def prune(self, id: str, keep: int) -> None:
        self._repository.retention.prune(id, [Newest(keep)])

    def update_run_status(self, id: str, notebook_id: str, status: str) -> Record:
        return self._repository.runs.update_status(notebook_id, id, RunStatus(status))


def execute(site: OpenSite, *operations: Operation) -> None:
    """Execute operations in this process."""
    for operation in operations:
        Operations(site.repository, site.states).execute(operation)


def cells_after(epochs: int, *, size: int = 10) -> list[NotebookCell]:
    """Return the cells of a notebook after some epochs: prose, code, and a cell that prints."""
    log = "".join(f"epoch {epoch} loss {1 / (1 + epoch)}\n" for epoch in range(epochs))
    return [
        markdown("title", "# Training"),
        code("imports", "import torch", count=1),
        code("fit", "fit(model)", *([log] if log else []), "x" * size, count=2 + epochs),
    ]


def large_cells(epochs: int) -> list[NotebookCell]:
    """Return cells whose outputs are long enough to be staged."""
    plots = [
        code(f"plot{n}", f"plot({n})", f"{n}{epochs}" * _LARGE_OUTPUT, count=9) for n in range(4)
    ]
    return [*cells_after(epochs), *plots]


def _checkpoint(name: str, id: str, **fields: Any) -> Operation:
    defaults = {"notebook_id": "nb", "epoch": 1, "step": 10, "metrics": {"loss": 0.5}}
    return op(name, id, **{**defaults, **fields})


_CREATE = [op("create_saved", "nb", cells=cells_after(1), path="/a.ipynb")]
_FINISH_RUN = op("update_run_status", "run", notebook_id="nb", status="completed")
_RECORD = [
    *_CREATE,
    _checkpoint(
        "record_checkpoint",
        "cp",
        metrics={"loss": 0.5, "accuracy": float("nan")},
        run_id="run",
        states={"model": b"weights" * 40, "optimizer": b"moments" * 50},
    ),
]
_UPDATE_CELL = op("update_cell", "nb", cell=code("imports", "import jax"))
_CREATE_CHECKPOINT = [*_CREATE, _checkpoint("create_checkpoint", "cp")]
_ATTACH = op("attach_state", "cp", part="model", content=b"w" * 300)


def _second_checkpoint(**fields: Any) -> Operation:
    fields = {"metrics": {"loss": 0.25}, "states": {"model": b"better" * 30}, **fields}
    return _checkpoint("record_checkpoint", "second", **fields)


#: The operations to set up, and the operation in which a process is killed.
SCENARIOS: dict[str, tuple[list[Operation], Operation]] = {
    "create": ([], op("create", "nb", cells=cells_after(0))),
    "create, staged": ([], op("create_saved", "nb", cells=large_cells(1), path="/a.ipynb")),
    "save new outputs": (_CREATE, op("save", "nb", cells=cells_after(2))),
    "save new sources": (_CREATE, op("save", "nb", cells=cells_after(2)[1:])),
    "save, staged": (_RECORD, op("save", "nb", cells=large_cells(2))),
    "save new outputs, staged": (
        [*_CREATE, op("save", "nb", cells=large_cells(1))],
        op("save", "nb", cells=large_cells(2)),
    ),
    "update cells, staged": (_CREATE, op("update", "nb", cells=large_cells(2))),
    "update a cell": (_CREATE, _UPDATE_CELL),
    "delete a cell": (_CREATE, op("delete_cell", "nb", cell_id="fit")),
    "bind to the file of another record": (
        [*_CREATE, op("create", "other", cells=cells_after(0), path="/b.ipynb")],
        op("bind", "nb", path="/b.ipynb"),
    ),
    "delete": (
        [*_RECORD, _UPDATE_CELL, _checkpoint("create_checkpoint", "other")],
        op("delete", "nb"),
    ),
    "create a checkpoint": (_CREATE, _checkpoint("create_checkpoint", "cp")),
    "record a checkpoint": (_CREATE, _RECORD[1]),
    "attach a state": (_CREATE_CHECKPOINT, _ATTACH),
    "remove old versions": (
        [
            *_RECORD,
            _UPDATE_CELL,
            *(op("save", "nb", cells=cells_after(n)[n % 2 :]) for n in range(6)),
        ],
        op("remove_versions", "nb", keep=2),
    ),
    "delete a checkpoint": (_RECORD, op("delete_checkpoint", "cp")),
    "replace a checkpoint": (_RECORD, _second_checkpoint(run_id="run", overwrite=True)),
    "prune": ([*_RECORD, _FINISH_RUN, _second_checkpoint()], op("prune", "nb", keep=1)),
    "finish a run": (_RECORD, _FINISH_RUN),
}
