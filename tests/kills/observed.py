"""What there is in a store and beside it, told in the form in which :class:`~.model.Model` says what must be there."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

from support.factories import contents, listed, rows

from jupyter_axon_notebooks.records import NotebookCheckpoint, TrainingNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states.layout import MARKS
from jupyter_axon_notebooks.store import Store


def observe(store: Store, repository: NotebookRepository, states_root: Path) -> dict[str, Any]:
    """Everything, read through the repository; the state files, read from the disk."""
    notebooks, versions, checkpoints, runs, best = {}, {}, {}, {}, {}
    for summary in repository.list_all():
        id = summary.id
        assert id not in notebooks, f"notebook {id} is listed twice"
        notebook = repository.find_by_id(id)
        assert notebook is not None
        ids = [version.id for version in reversed(repository.versions.list(id))]
        notebooks[id] = _notebook(notebook, ids)
        versions[id] = [_version_cells(repository, id, version_id) for version_id in ids]
        for found in repository.list_checkpoints(id):
            assert found.id not in checkpoints, f"checkpoint {found.id} is listed twice"
            checkpoints[found.id] = _checkpoint(found, ids, states_root)
        runs |= {run.id: [run.notebook_id, run.status.value] for run in repository.runs.list(id)}
        winner = repository.get_best_checkpoint(id, "loss", minimize=True)
        best[id] = None if winner is None else winner.metrics["loss"]
    seen = {
        "notebooks": notebooks,
        "versions": versions,
        "checkpoints": checkpoints,
        "runs": runs,
        "best": best,
        "metric rows": rows(store)["axonml_metrics"],
        "files": {
            str(file.relative_to(states_root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(states_root.rglob("*"))
            if file.is_file() and file.name not in MARKS
        },
    }
    _assert_reachable(store, seen)
    return seen


def _assert_reachable(store: Store, seen: dict[str, Any]) -> None:
    """Hold every table to what the records lead to: no row of it belongs to nobody, none is there twice."""
    counted = rows(store)
    reached = {
        "axonml_notebooks": len(seen["notebooks"]),
        "axonml_checkpoints": len(seen["checkpoints"]),
        "axonml_runs": len(seen["runs"]),
        "axonml_versions": sum(map(len, seen["versions"].values())),
        "axonml_provenance": 0,
    }
    there = {name: counted[name] for name in reached}
    assert there == reached, f"rows in the tables: {there}; reached from records: {reached}"


def unlisted_contents(store: Store) -> set[str]:
    """The notebooks of which a content is kept that no version lists; asserts that no listed one is missing."""
    there, wanted = contents(store).keys(), listed(store)
    assert wanted <= there, f"contents are missing: {sorted(wanted - there)}"
    return {id.rpartition("/")[0] for id in there - wanted}


def integrity(store: Store) -> list[str]:
    """What the engine's own check of a SQLite file says; of another engine nothing can be asked."""
    if not store.url.startswith("sqlite:"):
        return ["ok"]
    with store.snapshot() as connection:
        return [
            str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        ]


def difference(expected: dict[str, Any], seen: dict[str, Any]) -> str:
    """Line by line, what is there and should not be, and the other way round; ``""`` where there is none."""
    texts = [
        json.dumps(one, indent=1, sort_keys=True, default=repr).splitlines()
        for one in (expected, seen)
    ]
    return "\n".join(difflib.unified_diff(*texts, "expected", "seen", lineterm="", n=4))


def _notebook(notebook: TrainingNotebook, version_ids: list[str]) -> dict[str, Any]:
    return {
        "name": notebook.name,
        "description": notebook.description,
        "status": notebook.status.value,
        "tags": notebook.metadata.tags,
        "kernel": notebook.metadata.kernel,
        "path": notebook.path,
        "released": "deleted_at" in notebook.metadata.extra.get("axon", {}),
        "cells": [cell.to_json() for cell in notebook.cells],
        "version": version_ids.index(notebook.version_id or ""),
    }


def _version_cells(repository: NotebookRepository, id: str, version_id: str) -> list[Any]:
    version = repository.versions.get(id, version_id)
    assert version is not None
    return [
        {name: value for name, value in cell.to_json().items() if name != "status"}
        for cell in version.cells
    ]


def _checkpoint(
    found: NotebookCheckpoint, version_ids: list[str], states_root: Path
) -> dict[str, Any]:
    paths = {"model": found.model_state_path, "optimizer": found.optimizer_state_path}
    files = {part: Path(path) for part, path in paths.items() if path}
    home = states_root / found.notebook_id / found.id
    assert all(file == home / f"{part}.bin" for part, file in files.items()), files
    if found.pruned_at is None:
        assert (found.digests or {}).keys() == files.keys()
        assert found.sizes == ({part: file.stat().st_size for part, file in files.items()} or None)
    else:
        assert not files
    return {
        "notebook_id": found.notebook_id,
        "at": [found.epoch, found.step],
        "metrics": found.metrics,
        "run_id": found.run_id,
        "version": version_ids.index(found.version_id or ""),
        "tags": found.tags,
        "pinned": found.pinned,
        "files": {part: digest for part, digest in (found.digests or {}).items() if part in files},
    }
