"""Stores of earlier schema versions, for tests of migrations.

``PYTHONPATH=tests python -m support.old_stores`` writes a small store of the present version for
each engine to ``tests/data/stores``: as SQL, and its content as JSON. Do so before you raise the
schema version, and review the files.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jupyter_axon_notebooks.records import (
    NotebookMetadata,
    RunStatus,
    UpdateCheckpoint,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import Store, document, open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from support.engines import ON_DISK, new_url, postgresql
from support.factories import code, markdown, new_checkpoint, new_notebook, new_save

STORES = Path(__file__).parents[1] / "data" / "stores"


def export_store(store: Store) -> dict[str, Any]:
    """Return the content of a store as JSON."""
    repository = NotebookRepository(store)
    notebooks = []
    for summary in repository.list_all():
        found = repository.find_by_id(summary.id)
        assert found is not None
        versions = [
            repository.versions.get(found.id, version.id)
            for version in repository.versions.list(found.id)
        ]
        checkpoints = repository.list_checkpoints(found.id)
        best = repository.get_best_checkpoint(found.id, "val.loss", minimize=True)
        notebooks.append(
            {
                "notebook": found.to_json(),
                "versions": [version.to_json() for version in versions if version is not None],
                "checkpoints": [checkpoint.to_json() for checkpoint in checkpoints],
                "runs": [run.to_json() for run in repository.runs.list(found.id)],
                "series": {
                    f"{run.id} {name}": str(
                        repository.series.read(found.id, run.id, name).values.tolist()
                    )
                    for run in repository.runs.list(found.id)
                    for name in repository.series.names(found.id, run.id)
                },
                "best": None if best is None else best.id,
            }
        )
    bindings = sorted(binding.id for binding in repository.bindings.list("0123456789abcdef"))
    provenance = [{"id": found.doc_id, **found} for found in store.provenance.all()]
    return {"notebooks": notebooks, "bound": bindings, "provenance": provenance}


def fill_store(store: Store) -> None:
    """Insert records of every kind."""
    repository = NotebookRepository(store)
    file = {"metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
    metadata = NotebookMetadata(
        kernel="python3", language="python", tags=["vision"], extra={"nbformat": file}
    )
    new = new_notebook(
        id="bound", origin="0123456789abcdef", path="/home/ada/train.ipynb", name="train"
    )
    first = [markdown("title", "# Grüße \ud800"), code("import", "import torch", count=1)]
    repository.create(
        new,
        new_save(*first, metadata=metadata, embedded_id="bound", file={"size": 10, "mtime": 20}),
    )
    config = {"lr": 0.1, "layers": [64, 64], "model": {"name": "wide"}}
    repository.runs.start("bound", id="run-1", name="first", config=config, tags=["baseline"])
    rows = [Row(step, step + 0.5, {"loss": 1 / (step + 1)}) for step in range(10)]
    repository.series.append("bound", "run-1", rows, spool="s", begin=0, end=100)
    step = {"run_id": "run-1", "tags": ["warm-up"]}
    repository.create_checkpoint(
        new_checkpoint(
            "bound",
            {"loss": 0.5, "val": {"loss": 0.75}},
            id="c1",
            model_state_path="/states/m",
            **step,
        )
    )
    repository.create_checkpoint(
        new_checkpoint(
            "bound",
            {"loss": float("nan"), "val": {"loss": 0.25}, "big": 2**70},
            id="c2",
            epoch=1,
            provenance_id="p1",
            **step,
        )
    )
    store.provenance.insert(
        document("p1", {"notebook_id": "bound", "executed": ["import torch", "fit()"]})
    )
    repository.checkpoints.update("c2", UpdateCheckpoint(pinned=True))
    repository.runs.update_status("bound", "run-1", RunStatus.COMPLETED)
    repository.runs.start("bound", id="run-2", parent_checkpoint_id="c2")
    repository.save(
        "bound",
        new_save(*first, code("train", "fit()", "epoch 1\n", count=2), metadata=metadata, file={}),
    )
    repository.create(new_notebook(code("a", "1 + 1"), id="unbound", description="by hand"))
    repository.update("unbound", UpdateNotebook(cells=[code("a", "2 + 2")], tags=["mine"]))


def write_stores(folder: Path = STORES) -> None:
    """Write a store of the present schema version for each engine to ``folder``."""
    for engine in ON_DISK:
        with tempfile.TemporaryDirectory() as temporary:
            store = open_store(new_url(engine, Path(temporary)))
            fill_store(store)
            found = json.dumps(export_store(store), indent=1)
            store.close()
            (folder / f"version{SCHEMA_VERSION}.{engine}.sql").write_text(
                dump_sql(store.url) + "\n", encoding="utf-8"
            )
            (folder / f"version{SCHEMA_VERSION}.{engine}.json").write_text(
                found + "\n", encoding="utf-8"
            )


def create_old_store(version: int, engine: str, folder: Path) -> str:
    """Create a store of an earlier version from its SQL; return its URL."""
    url = new_url(engine, folder)
    name = str(sa.make_url(url).database)
    sql = (STORES / f"version{version}.{engine}.sql").read_text(encoding="utf-8")
    if engine == "postgresql":
        with closing(postgresql().connect(name)) as connection:
            connection.execute(sql.encode())
    else:
        with closing(sqlite3.connect(name)) as connection:
            connection.executescript(sql)
    return url


def dump_sql(url: str) -> str:
    """Return a store that is not in use as SQL."""
    engine, name = sa.make_url(url).get_backend_name(), str(sa.make_url(url).database)
    if engine == "postgresql":
        return postgresql().dump(name)
    with closing(sqlite3.connect(name)) as connection:
        return "\n".join(connection.iterdump())


if __name__ == "__main__":
    write_stores()
