"""Tests that records can be read where nothing can be written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import disks
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.records import NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import EXECUTABLE, Ran, repository, tree

ReadOnly = Callable[..., Ran]


@pytest.fixture
def read_only(db: Path) -> ReadOnly:
    def run(*arguments: str) -> Ran:
        ended = subprocess.run(
            [*disks.read_only_folder(db.parent), EXECUTABLE, "axon", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    return run


def record(records: NotebookRepository) -> str:
    cells = [NotebookCell(id="c", source="train()")]
    notebook = records.create(new_notebook(*cells, name="train"))
    records.create_checkpoint(new_checkpoint(notebook.id, {"loss": 0.5}, epoch=3))
    return notebook.id


def assert_is_shown(read_only: ReadOnly, id: str) -> None:
    listed = read_only("list", "--json")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert [one["id"] for one in listed.json] == [id]
    assert "0.5" in read_only("show", id).stdout
    assert "train()" in read_only("export", id, "-o", "-").stdout


def test_a_store_that_cannot_be_written_is_read(db: Path, read_only: ReadOnly) -> None:
    with repository(db) as records:
        id = record(records)
    before = tree(db.parent)
    assert_is_shown(read_only, id)
    assert tree(db.parent) == before


def test_a_store_that_somebody_else_writes_is_read_with_its_log(
    records: NotebookRepository, read_only: ReadOnly
) -> None:
    assert_is_shown(read_only, record(records))


def test_a_log_that_nobody_can_read_there_is_named(
    db: Path, read_only: ReadOnly, records: NotebookRepository
) -> None:
    record(records)
    left_behind = {
        path: path.read_bytes() for path in db.parent.iterdir() if not path.name.endswith("-shm")
    }
    copied = db.parent / "copy"
    copied.mkdir()
    for path, content in left_behind.items():
        (copied / path.name).write_bytes(content)
    ran = read_only("list", "--store-url", f"sqlite:///{copied}/axon.db")
    assert ran.exit_code == 4
    assert "its log, axon.db-wal, cannot be read where nothing can be written" in ran.stderr
