"""Claims about the origin of a data folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.sync import read_origin


def test_a_folder_keeps_its_origin(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "data") == read_origin(tmp_path / "data")


def test_two_folders_have_two_origins(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "a") != read_origin(tmp_path / "b")


def test_those_who_make_it_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        origins = set(pool.map(lambda _: read_origin(tmp_path / "data"), range(64)))
    assert len(origins) == 1
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["origin"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/data/origin"):
        read_origin(tmp_path / "file" / "data")
