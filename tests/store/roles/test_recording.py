"""A server records what its user saves, whatever others are said to have saved there."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from nbformat.v4 import new_notebook
from support.shared_database import Opener

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import ForeignRecord
from jupyter_axon_notebooks.sync import NotebookSync


@dataclass(frozen=True)
class Home:
    repository: NotebookRepository
    origin: str = "this machine"
    is_lost: bool = False

    def close(self) -> None:
        """The store is the test's."""


def test_what_is_somebody_elses_keeps_nobody_waiting(acting_as: Opener, tmp_path: Path) -> None:
    repository = acting_as("alice")
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
