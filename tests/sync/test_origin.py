"""Tests of the origin of a data directory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_axon_notebooks.kernel_config import write_kernel_config
from jupyter_axon_notebooks.records import is_record_id, new_id
from jupyter_axon_notebooks.sync import read_origin

LOG = logging.getLogger("test")


def damaged_by(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": damaged_by(b""),
    "garbage": damaged_by(b"\x00\xff" * 100),
    "two origins": damaged_by(f"{new_id()}\n{new_id()}\n".encode()),
    "large": lambda file: file.touch() or os.truncate(file, 1 << 40),
    "a pipe": os.mkfifo,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        file.unlink(missing_ok=True)
        DAMAGES[request.param](file)

    return put


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def leave_pointer(data: Path) -> Callable[[str], None]:
    return lambda origin: write_kernel_config(data / "kernels.json", {"origin": origin})


def test_a_damaged_origin_is_replaced_with_a_warning(
    data: Path, damage: Callable[[Path], None]
) -> None:
    damage(data / "origin")
    told: list[str] = []
    made = read_origin(data, told.append)
    assert is_record_id(made)
    assert read_origin(data) == made == (data / "origin").read_text().strip()
    assert ["was damaged and a new origin was created" in text for text in told] == [True]
    assert [file.name for file in data.iterdir()] == ["origin"]


def test_concurrent_threads_replace_a_damaged_origin_once(
    data: Path, damage: Callable[[Path], None]
) -> None:
    damage(data / "origin")
    with ThreadPoolExecutor(16) as pool:
        origins = set(pool.map(lambda _: read_origin(data), range(64)))
    assert origins == {(data / "origin").read_text().strip()}


def test_a_lost_origin_is_restored_from_the_kernel_config(
    data: Path, damage: Callable[[Path], None]
) -> None:
    told: list[str] = []
    origin = read_origin(data)
    leave_pointer(data)(origin)
    damage(data / "origin")
    assert read_origin(data) == origin
    (data / "origin").unlink()
    assert read_origin(data, told.append) == origin == (data / "origin").read_text().strip()
    assert ["restored from kernels.json" in text for text in told] == [True]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"origin": 5}', '{"origin": "../x"}', "[" * 100_000]
)
def test_a_kernel_config_without_an_origin_is_ignored(data: Path, content: str) -> None:
    (data / "kernels.json").write_text(content)
    assert is_record_id(read_origin(data))


def test_a_kernel_config_writable_by_others_is_ignored(data: Path) -> None:
    planted = new_id()
    leave_pointer(data)(planted)
    (data / "kernels.json").chmod(0o666)
    assert read_origin(data) != planted
    (data / "origin").unlink()
    (data / "kernels.json").chmod(0o600)
    (data / "kernels.json").rename(data / "elsewhere")
    (data / "kernels.json").symlink_to("elsewhere")
    assert read_origin(data) != planted
