"""Tests of safe reading of user files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_axon_notebooks.userfiles import (
    FileTooLarge,
    NotRegular,
    read_regular,
)

MIB = 1 << 20


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x" * MIB)
    link.symlink_to(file)
    assert read_regular(file, MIB) == read_regular(link, MIB) == b"x" * MIB
    assert read_regular(write(tmp_path / "empty", b""), MIB) == b""
    with pytest.raises(FileTooLarge, match="more than 1,048,575 bytes"):
        read_regular(file, MIB - 1)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("zero", "/dev/zero"), ("to-pipe", "pipe")):
        (tmp_path / name).symlink_to(target)
    kinds = {"pipe": "a pipe", "to-pipe": "a pipe", "zero": "a device", ".": "a folder"}
    for name, kind in kinds.items():
        with pytest.raises(NotRegular, match=f"{kind}, not a regular file") as refused:
            read_regular(tmp_path / name, MIB)
        assert refused.value.filename == str(tmp_path / name)


def test_huge_and_endless_files_stop_at_the_limit(
    tmp_path: Path,
) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with pytest.raises(FileTooLarge):
        read_regular(tmp_path / "sparse", MIB)
    assert os.stat("/proc/self/smaps").st_size == 0
    with pytest.raises(FileTooLarge):
        read_regular("/proc/self/smaps", 100)
    assert b"VmRSS" in read_regular("/proc/self/status", MIB)
