"""Files appear complete under their name, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_axon_notebooks.atomic_files import lock, open_atomic, write_atomic


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open_atomic(path) as file:
        file.write(b"con")
        assert not path.exists()
        file.write(b"tent")
    assert path.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(ZeroDivisionError), open_atomic(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_existing_file_is_kept_on_request(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_atomic(path, b"second", overwrite=False)
    assert path.read_bytes() == b"first"
    write_atomic(path, b"third")
    assert path.read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["file"]


def test_permissions_are_private_or_those_of_the_replaced_file(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode & 0o777

    write_atomic(tmp_path / "private", b"")
    assert mode("private") == 0o600
    (tmp_path / "shared").write_bytes(b"")
    (tmp_path / "shared").chmod(0o664)
    write_atomic(tmp_path / "shared", b"", mode=None)
    assert mode("shared") == 0o664
    mask = os.umask(0o027)
    try:
        write_atomic(tmp_path / "new", b"", mode=None)
    finally:
        os.umask(mask)
    assert mode("new") == 0o640


def test_a_lock_is_exclusive(tmp_path: Path) -> None:
    descriptors = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    assert lock(descriptors[0], wait=True)
    assert not lock(descriptors[1], wait=False)
    os.close(descriptors[0])
    assert lock(descriptors[1], wait=False)
    os.close(descriptors[1])
