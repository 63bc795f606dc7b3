"""Tests of the origin of a data directory."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.kernel_config import write_kernel_config
from jupyter_axon_notebooks.records import is_record_id, new_id
from jupyter_axon_notebooks.sync import ServerOrigin, read_origin

LOG = logging.getLogger("test")


def damaged_by(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": damaged_by(b""),
    "blank": damaged_by(b" \n"),
    "garbage": damaged_by(b"\x00\xff" * 100),
    "a path": damaged_by(b"../../x"),
    "upper case": damaged_by(new_id().upper().encode()),
    "two origins": damaged_by(f"{new_id()}\n{new_id()}\n".encode()),
    "large": lambda file: file.touch() or os.truncate(file, 1 << 40),
    "a pipe": os.mkfifo,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file: file.symlink_to(file.name),
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


def test_a_folder_keeps_its_origin(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "data") == read_origin(tmp_path / "data")


def test_two_folders_have_two_origins(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "a") != read_origin(tmp_path / "b")


def test_concurrent_threads_create_one_origin(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        origins = set(pool.map(lambda _: read_origin(tmp_path / "data"), range(64)))
    assert len(origins) == 1
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["origin"]


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/data/origin"):
        read_origin(tmp_path / "file" / "data")


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
    "content", ["", "[]", "{}", '{"origin": 5}', '{"origin": "../x"}', "[" * 100_000]
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


def test_a_folder_in_place_of_the_origin_is_named(data: Path) -> None:
    (data / "origin").mkdir()
    with pytest.raises(StoreError, match="data/origin"):
        read_origin(data)


def test_a_link_to_a_file_that_is_not_there_is_kept(data: Path) -> None:
    (data / "origin").symlink_to("elsewhere")  # a disk that is not mounted
    with pytest.raises(StoreError, match="it is a link to a file that does not exist"):
        read_origin(data)
    assert (data / "origin").is_symlink()


def test_a_running_server_restores_both_files(
    data: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    server = ServerOrigin(data, LOG, leave_pointer(data))
    origin = server.read()
    made = os.stat(data / "origin").st_mtime_ns
    damage(data / "origin")
    (data / "kernels.json").unlink()
    server.check()
    assert "missing or damaged while this server runs; it was restored" in caplog.text
    assert (data / "origin").read_text().strip() == origin
    assert os.stat(data / "origin").st_mtime_ns == made  # tells since when it is the origin
    assert json.loads((data / "kernels.json").read_text())["origin"] == origin
    for file in data.iterdir():
        file.unlink()
    data.rmdir()
    assert server.read() == read_origin(data) == origin


def test_a_running_server_replaces_a_new_origin(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ServerOrigin(data, LOG, leave_pointer(data))
    origin = server.read()
    for file in data.iterdir():
        file.unlink()
    other = read_origin(data)
    server.check()
    assert read_origin(data) == origin
    assert f"was replaced by another ({other})" in caplog.text


def test_two_servers_with_different_origins_do_not_alternate(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = ServerOrigin(data, LOG, leave_pointer(data))
    first.read()
    for file in data.iterdir():
        file.unlink()
    second = ServerOrigin(data, LOG, leave_pointer(data))
    origin = second.read()
    for _ in range(3):
        first.check()
        second.check()
    assert read_origin(data) == origin
    assert (
        len(
            [
                one
                for one in caplog.records
                if "while this server runs with the origin" in one.message
            ]
        )
        == 1
    )


def test_unchanged_files_are_not_written(data: Path) -> None:
    server = ServerOrigin(data, LOG, leave_pointer(data))
    server.read()
    before = [(file.name, os.stat(file).st_mtime_ns) for file in sorted(data.iterdir())]
    server.check()
    assert [(file.name, os.stat(file).st_mtime_ns) for file in sorted(data.iterdir())] == before


_WITHOUT_LINKS = """
import os, sys, errno
def refuse(*_, **__):
    raise OSError(errno.{code}, "no hard links here")
os.link = refuse
from pathlib import Path
from jupyter_axon_notebooks.sync import read_origin
print(read_origin(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP"])
def test_concurrent_processes_without_hard_links_create_one_origin(
    tmp_path: Path, code: str
) -> None:
    command = [sys.executable, "-c", _WITHOUT_LINKS.format(code=code), str(tmp_path / "data")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    origins = {process.communicate(timeout=60)[0].strip() for process in started}
    assert origins == {(tmp_path / "data" / "origin").read_text().strip()}
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["origin"]
