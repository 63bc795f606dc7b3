"""Helpers for tests of the synchronization of notebook files."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_notebook

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.sync import NotebookSync

LOG = logging.getLogger("test")
ORIGIN = "this machine"


@dataclass
class StoreSession:
    """An open store; the test closes it."""

    repository: NotebookRepository
    origin: str = ORIGIN
    is_lost: bool = False

    def close(self) -> None:
        pass


def create_sync(repository: NotebookRepository, **options: Any) -> NotebookSync[StoreSession]:
    return NotebookSync("the store", lambda: StoreSession(repository), LOG, **options)


def notebook(*sources: str, **metadata: Any) -> dict[str, Any]:
    cells = [new_code_cell(source, id=f"cell-{index}") for index, source in enumerate(sources)]
    return json.loads(json.dumps(new_notebook(cells=cells, metadata=metadata)))  # type: ignore[no-any-return]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def recorded_sources(repository: NotebookRepository, path: Path) -> list[str]:
    """Return the sources of the cells in the record of a file."""
    summary = repository.find_by_path(ORIGIN, os.path.realpath(path))
    assert summary is not None
    record = repository.find_by_id(summary.id)
    assert record is not None
    return [cell.source for cell in record.cells]
