"""A server records the notebooks of its user, even if others cannot be recorded."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from nbformat.v4 import new_notebook
from support.shared_database import OpenRepository

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import ForeignRecord
from jupyter_axon_notebooks.sync import NotebookSync


@dataclass(frozen=True)
class Home:
    repository: NotebookRepository
    origin: str = "this machine"
    is_lost: bool = False

    def close(self) -> None:
        """Do nothing: the store belongs to the test."""


def test_a_notebook_of_another_user_does_not_block_others(
    repository_of: OpenRepository, tmp_path: Path
) -> None:
    repository = repository_of("alice")
    sync = NotebookSync("the store", lambda: Home(repository), logging.getLogger("test"))
    for name in ("hers", "his"):
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(new_notebook()))
    sync.start()
    try:
        with pytest.raises(ForeignRecord):
            sync.sync_file(str(tmp_path / "his.ipynb"), "bob")
        assert sync.sync_file(str(tmp_path / "hers.ipynb"), "alice").name == "hers"
    finally:
        assert sync.stop()
    assert [found.name for found in repository.list_all()] == ["hers"]
