"""Stores to archive, and helpers that write, load and compare archives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from jupyter_axon_notebooks.archive import (
    ArchiveReader,
    ArchiveSummary,
    LoadReport,
    load_archive,
    write_archive,
)
from jupyter_axon_notebooks.archive.format import MANIFEST_TABLE, RECORDS, TABLES
from jupyter_axon_notebooks.records import (
    CellStatus,
    NotebookStatus,
    UpdateCheckpoint,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document
from support.factories import code, markdown, new_checkpoint, new_notebook, new_save


def read_all_documents(store: Store) -> dict[str, dict[str, str]]:
    """Return all documents of a store as comparable texts, by table and id."""
    return {
        name: {
            id: json.dumps(json.loads(text), sort_keys=True)
            for id, text in store.table(name).iterate_json()
        }
        for name in TABLES
    }


def fill_store(store: Store) -> list[str]:
    """Create records of every kind; return their ids."""
    repository = NotebookRepository(store)
    plain = repository.create(
        new_notebook(code("a", "1", "x"), description="", name="pläin \ud83d \x00")
    )
    bound = repository.create(
        new_notebook(path="/w/a.ipynb", origin="here"),
        new_save(
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
        bound.id, new_save(code("a", "1", "second", count=2), file={"size": 1, "mtime": 2})
    )
    repository.save(bound.id, new_save(code("b", "2", status=CellStatus.RUNNING)))
    repository.runs.start(bound.id, parent_checkpoint_id=kept.id)
    repository.bindings.bind(bound.id, "/w/b.ipynb")
    gone = repository.create(new_notebook(path="/w/gone.ipynb", origin="here"), new_save(code("a")))
    repository.bindings.unbind(gone.id)
    for step in range(3):
        repository.create_checkpoint(new_checkpoint(plain.id, {"loss": 1 / (step + 1)}, step=step))
    repository.update_status(plain.id, NotebookStatus.RUNNING)
    store.provenance.insert(
        document("p-1", {"notebook_id": bound.id, "executed": ["1", float("inf")]})
    )
    return [plain.id, bound.id, gone.id]


def archive_store(store: Store, path: Path, **options: Any) -> ArchiveSummary:
    """Write an archive of ``store`` to ``path``."""
    with path.open("wb") as file:
        return write_archive(store, file, **options)


def load_file(store: Store, path: Path, **options: Any) -> LoadReport:
    """Load the archive, or the JSON file, at ``path``."""
    with ArchiveReader(path) as archive:
        return load_archive(store, archive, **options)


def unpack_records(path: Path, *, manifest: bool) -> Path:
    """Replace an archive by its records as JSON, with or without a manifest."""
    with zipfile.ZipFile(path) as archive:
        tables = json.loads(archive.read(RECORDS))
        described = json.loads(archive.read("manifest.json"))
    if manifest:
        tables[MANIFEST_TABLE] = {"1": {**described, "format": 1}}
    lines = ",\n".join(
        "\n".join([f"{json.dumps(name)}: {{", *_document_lines(documents), "}"])
        for name, documents in tables.items()
    )
    path.write_text("{\n" + lines + "\n}\n")
    return path


def _document_lines(documents: dict[str, Any]) -> list[str]:
    lines = [f"{json.dumps(key)}: {json.dumps(document)}" for key, document in documents.items()]
    return ",\n".join(lines).split("\n") if lines else []


def changed_counts(report: LoadReport) -> dict[str, tuple[int, int, int]]:
    """Return added, unchanged and replaced, for the tables that had any."""
    results = ("added", "unchanged", "replaced")
    counts = {name: tuple(report.counts[name, result] for result in results) for name in TABLES}
    return {
        name.removeprefix("axonml_"): numbers for name, numbers in counts.items() if any(numbers)
    }
