"""Dumps to test with: a store to dump, and what two stores are compared by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_axon_notebooks.records import (
    CellStatus,
    NotebookStatus,
    UpdateCheckpoint,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.dump import Dumped, dump_store
from jupyter_axon_notebooks.repository.load import load_dump
from jupyter_axon_notebooks.repository.loaded import Loaded
from jupyter_axon_notebooks.repository.sorting import sort_dump
from jupyter_axon_notebooks.store import Store, document
from jupyter_axon_notebooks.store.dumpfile import DumpFile
from jupyter_axon_notebooks.store.dumpformat import TABLES
from support.factories import code, history, markdown, new_checkpoint, new_notebook, saved

#: More checkpoints than are loaded in one transaction where that holds up others.
MANY = 700


def everything(store: Store) -> dict[str, dict[str, str]]:
    """All documents of a store, by table and id, as texts that are equal where the documents are."""
    return {
        name: {
            id: json.dumps(json.loads(text), sort_keys=True)
            for id, text in store.table(name).iterate_json()
        }
        for name in TABLES
    }


def fill(store: Store) -> list[str]:
    """Records of every kind: with histories, bindings, runs, pins, labels, odd metrics and odd texts; their ids."""
    repository = NotebookRepository(store)
    plain = repository.create(
        new_notebook(code("a", "1", "x"), description="", name="pläin \ud83d \x00")
    )
    bound = repository.create(
        new_notebook(path="/w/a.ipynb", origin="here"),
        saved(
            code("a", "1", "first", count=1), markdown("m", "# t"), embedded_id="e-1", tags=["file"]
        ),
    )
    repository.update(bound.id, UpdateNotebook(tags=["mine"], model_id="m"))
    run = repository.runs.start(bound.id)
    metrics = {"loss": float("nan"), "val": {"loss": 0.5}, "note": "x", "n": None, "big": 10**30}
    kept = repository.create_checkpoint(
        new_checkpoint(
            bound.id,
            metrics,
            run_id=run.id,
            model_state_path="/states/model.bin",
            digests={"model": "0" * 64},
            sizes={"model": 7},
            tags=["keep"],
        )
    )
    repository.checkpoints.update(kept.id, UpdateCheckpoint(pinned=True))
    repository.save(
        bound.id, saved(code("a", "1", "second", count=2), file={"size": 1, "mtime": 2})
    )
    repository.save(bound.id, saved(code("b", "2", status=CellStatus.RUNNING)))
    repository.runs.start(bound.id, parent_checkpoint_id=kept.id)
    repository.bindings.bind(bound.id, "/w/b.ipynb")
    gone = repository.create(new_notebook(path="/w/gone.ipynb", origin="here"), saved(code("a")))
    repository.bindings.unbind(gone.id)
    for step in range(3):
        repository.create_checkpoint(new_checkpoint(plain.id, {"loss": 1 / (step + 1)}, step=step))
    repository.update_status(plain.id, NotebookStatus.RUNNING)
    store.provenance.insert(
        document("p-1", {"notebook_id": bound.id, "executed": ["1", float("inf")]})
    )
    return [plain.id, bound.id, gone.id]


def large(store: Store, id: str = "large") -> None:
    """A notebook with a history, and with many checkpoints of each version."""
    repository = NotebookRepository(store)
    versions = history(repository, 4, id)
    one = repository.create_checkpoint(
        new_checkpoint(id, {"loss": 1.0}, run_id=repository.runs.start(id).id)
    )
    with store.transaction():
        for step in range(1, MANY):
            fields = {
                "id": f"{id} {step}",
                "step": step,
                "version_id": versions[step % len(versions)],
            }
            store.checkpoints.insert_new(document(fields["id"], {**one.to_json(), **fields}))


def dump(store: Store, path: Path, only: list[str] | None = None) -> Dumped:
    with path.open("wb") as file:
        return dump_store(store, file, only)


def load(store: Store, path: Path, **options: Any) -> Loaded:
    with DumpFile(path) as file:
        return load_dump(store, sort_dump(file), **options)


def counts(loaded: Loaded) -> dict[str, tuple[int, int, int]]:
    """Added, unchanged and replaced, of the tables that had any."""
    numbers = {
        name: (one.added, one.unchanged, one.replaced) for name, one in loaded.tables.items()
    }
    return {name.removeprefix("axonml_"): those for name, those in numbers.items() if any(those)}


def is_clean(loaded: Loaded) -> bool:
    """Whether all of the file is in the store."""
    return loaded.is_whole


def sums(dumped: Dumped) -> dict[str, Any]:
    return {name: table.to_json() for name, table in dumped.about.tables.items()}
