"""The content of a store and its state files, in a form that can be compared between stores."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

from support.factories import count_rows, list_content_ids, read_contents
from support.sites import OpenSite

from jupyter_axon_notebooks.records import NotebookCheckpoint, TrainingNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states.layout import MARKS
from jupyter_axon_notebooks.store import Store

Observation = dict[str, Any]


def observe(site: OpenSite) -> Observation:
    """Return all records without times and generated ids, and the digests of all state files.

    Asserts that the database is intact and that every row belongs to a record.
    """
    assert check_integrity(site.store) == ["ok"]
    repository, root = site.repository, Path(site.states.root)
    seen: Observation = {"notebooks": {}, "versions": {}, "checkpoints": {}, "runs": {}, "best": {}}
    for summary in repository.list_all():
        id = summary.id
        assert id not in seen["notebooks"], f"notebook {id} is listed twice"
        notebook = repository.find_by_id(id)
        assert notebook is not None
        ids = [version.id for version in reversed(repository.versions.list(id))]
        seen["notebooks"][id] = _notebook(notebook, ids)
        seen["versions"][id] = [_version_cells(repository, id, version_id) for version_id in ids]
        for checkpoint in repository.list_checkpoints(id):
            assert checkpoint.id not in seen["checkpoints"], f"{checkpoint.id} is listed twice"
            seen["checkpoints"][checkpoint.id] = _checkpoint(checkpoint, ids, root)
        seen["runs"] |= {
            run.id: [run.notebook_id, run.status.value] for run in repository.runs.list(id)
        }
        best = repository.get_best_checkpoint(id, "loss", minimize=True)
        seen["best"][id] = None if best is None else best.metrics["loss"]
    counts = count_rows(site.store)
    seen["metric rows"] = counts.pop("axonml_metrics")
    seen["files"] = {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name not in MARKS
    }
    reachable = {
        "axonml_notebooks": len(seen["notebooks"]),
        "axonml_checkpoints": len(seen["checkpoints"]),
        "axonml_runs": len(seen["runs"]),
        "axonml_versions": sum(map(len, seen["versions"].values())),
        "axonml_provenance": 0,
    }
    assert {name: counts[name] for name in reachable} == reachable
    return seen


def is_empty(seen: Observation) -> bool:
    """Return whether there is no record and no state file."""
    return not any(seen.values())


def find_unlisted(store: Store) -> set[str]:
    """Return the notebooks with contents that no version lists; fail if a listed one is missing."""
    present, wanted = read_contents(store).keys(), list_content_ids(store)
    assert wanted <= present, f"contents are missing: {sorted(wanted - present)}"
    return {id.rpartition("/")[0] for id in present - wanted}


def check_integrity(store: Store) -> list[str]:
    """Return the result of SQLite's own check of the file, and ["ok"] for other engines."""
    if not store.url.startswith("sqlite:"):
        return ["ok"]
    with store.snapshot() as connection:
        return [
            str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        ]


def difference(expected: Observation, seen: Observation) -> str:
    """Return the difference line by line; an empty string if there is none."""
    texts = [
        json.dumps(one, indent=1, sort_keys=True, default=repr).splitlines()
        for one in (expected, seen)
    ]
    return "\n".join(difflib.unified_diff(*texts, "expected", "seen", lineterm="", n=4))


def _notebook(notebook: TrainingNotebook, version_ids: list[str]) -> Observation:
    return {
        "name": notebook.name,
        "description": notebook.description,
        "status": notebook.status.value,
        "tags": notebook.metadata.tags,
        "kernel": notebook.metadata.kernel,
        "path": notebook.path,
        "unbound": "deleted_at" in notebook.metadata.extra.get("axon", {}),
        "cells": [cell.to_json() for cell in notebook.cells],
        "version": version_ids.index(notebook.version_id or ""),
    }


def _version_cells(repository: NotebookRepository, id: str, version_id: str) -> list[Any]:
    version = repository.versions.get(id, version_id)
    assert version is not None
    return [cell.to_json() for cell in version.cells]


def _checkpoint(checkpoint: NotebookCheckpoint, version_ids: list[str], root: Path) -> Observation:
    paths = {"model": checkpoint.model_state_path, "optimizer": checkpoint.optimizer_state_path}
    files = {part: Path(path) for part, path in paths.items() if path}
    folder = root / checkpoint.notebook_id / checkpoint.id
    assert all(file == folder / f"{part}.bin" for part, file in files.items()), files
    return {
        "notebook_id": checkpoint.notebook_id,
        "position": [checkpoint.epoch, checkpoint.step],
        "metrics": checkpoint.metrics,
        "run_id": checkpoint.run_id,
        "version": version_ids.index(checkpoint.version_id or ""),
        "tags": checkpoint.tags,
        "pinned": checkpoint.pinned,
        "pruned": checkpoint.pruned_at is not None,
        "digests": checkpoint.digests,
        "sizes": checkpoint.sizes,
        "files": sorted(files),
    }
