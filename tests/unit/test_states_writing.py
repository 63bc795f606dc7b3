"""A state file is complete and durable, or absent, whatever happens while it is written."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.state_files import list_files, make_older, read_state, write_state

from jupyter_axon_notebooks.errors import InvalidData, NoSpace, NotFound, StateError
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states import writer as writer_module
from jupyter_axon_notebooks.states.folders import (
    convert_os_errors,
    format_size,
    free_bytes,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "states"


@pytest.fixture
def storage(root: Path) -> StateStorage:
    return StateStorage(root)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 65_537, (1 << 20) - 1, 1 << 20, (16 << 20) + 3])
def test_the_content_is_kept(storage: StateStorage, size: int) -> None:
    content = random.Random(size).randbytes(size)
    stored = write_state(storage, content)
    assert read_state(storage, stored.path) == content
    assert (stored.size, stored.digest) == (size, digest(content))


def test_size_and_digest_are_those_of_all_chunks(storage: StateStorage) -> None:
    content = random.Random(1).randbytes(5 << 20)
    with storage.open_writer("n", "c", "model") as writer:
        writer.write(memoryview(b"").cast("H"))
        at = 0
        for step in [1, 0, 999, 1 << 20, 3 << 20, len(content)]:
            writer.write(memoryview(content)[at : at + step])
            at += step
            written = content[:at]
            assert (writer.size, writer.digest) == (len(written), digest(written))
        stored = writer.commit()
    assert Path(stored.path).read_bytes() == content


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_buffer_can_be_reused_when_write_returns(storage: StateStorage, is_reused: bool) -> None:
    sizes = [10, 1 << 20, 5, 40 << 20, 100, 3 << 20, 0, 17 << 20]
    chance = random.Random(4)
    buffer = bytearray(max(sizes))
    with storage.open_writer("n", "c", "model") as writer:
        for size in sizes:
            content = chance.randbytes(size)
            chunk = memoryview(buffer)[:size] if is_reused else memoryview(content)
            if is_reused:
                chunk[:] = content
            writer.write(chunk)
        stored = writer.commit()
    assert stored.size == sum(sizes)
    assert stored.digest == digest(read_state(storage, stored.path))


def test_the_digest_is_that_of_the_file_while_the_content_changes(storage: StateStorage) -> None:
    weights = bytearray(64 << 20)
    started, stopped = threading.Event(), threading.Event()

    def train() -> None:
        for step in itertools.count(1):
            for at in range(0, len(weights), 4096):
                weights[at] = step % 256
                if stopped.is_set():
                    return
            started.set()

    training = threading.Thread(target=train)
    training.start()
    try:
        assert started.wait(60)
        with storage.open_writer("n", "c", "model") as writer:
            writer.write(weights)
            stored = writer.commit()
    finally:
        stopped.set()
        training.join()
    assert stored.digest == digest(read_state(storage, stored.path))


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("safetensors", "model.safetensors"),
        ("torch", "model.pt"),
        ("skops", "model.skops"),
        (None, "model.bin"),
        ("", "model.bin"),
        ("exe", "model.bin"),
        ("../../x", "model.bin"),
    ],
)
def test_the_extension_is_one_of_a_list(
    storage: StateStorage, root: Path, format: str | None, name: str
) -> None:
    assert write_state(storage, format=format).path == str(root / "n" / "c" / name)


def test_an_unknown_part_is_refused(storage: StateStorage, root: Path) -> None:
    with pytest.raises(InvalidData, match="expected model or optimizer"):
        storage.open_writer("n", "c", "../model")  # type: ignore[arg-type]
    assert not root.exists()


def test_a_file_appears_with_the_commit(storage: StateStorage, root: Path) -> None:
    writer = storage.open_writer("n", "c", "model")
    writer.write(b"x")
    writer.prepare()
    writer.write(b"y")
    writer.prepare()
    assert not (root / "n/c/model.bin").exists()
    stored = writer.commit()
    writer.abort()
    assert writer.commit() == stored
    assert read_state(storage, stored.path) == b"xy"
    with pytest.raises(ValueError, match="already committed"):
        writer.write(b"z")


def test_without_a_commit_nothing_remains(storage: StateStorage, root: Path) -> None:
    with storage.open_writer("n", "c", "model") as writer:
        writer.write(bytes(64 << 20))
    assert list_files(root) == []
    with pytest.raises(ZeroDivisionError), storage.open_writer("n", "c", "model") as writer:
        writer.write(bytes([1 // (writer.size or 0)]))
    assert list_files(root) == []
    assert not [one for one in threading.enumerate() if one.name.startswith("axon-state")]
    write_state(storage, b"model")
    with storage.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
    assert list_files(root) == ["n", "n/c", "n/c/.store", "n/c/model.bin"]


def test_a_new_file_replaces_that_of_the_same_part(storage: StateStorage, root: Path) -> None:
    write_state(storage, part="optimizer", format="torch")
    write_state(storage, b"1", format="torch")
    write_state(storage, b"2", format="safetensors")
    stored = write_state(storage, b"3", format="safetensors")
    assert read_state(storage, stored.path) == b"3"
    assert list_files(root / "n/c") == [".store", "model.safetensors", "optimizer.pt"]


def test_folders_and_files_are_private(storage: StateStorage, root: Path) -> None:
    old = os.umask(0)
    try:
        stored = write_state(storage)
    finally:
        os.umask(old)
    for folder in [root.parent, root, root / "n", root / "n/c"]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(stored.path).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "n/c/.store").stat().st_mode) == 0o600


# Durability


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_file_is_synced_before_its_name(
    storage: StateStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    write_state(storage)
    folders = [str(path) for path in (root.parent.parent, root.parent, root / "n", root)]
    assert synced[:4] == folders
    assert "/.model." in synced[4]
    assert synced[5:] == [str(root / "n/c")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_of_the_background_sync_is_reported(
    storage: StateStorage, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(writer_module, "_SYNC_INTERVAL", 1000)
    writer = storage.open_writer("n", "c", "model")
    fsync, failures = os.fsync, [OSError(code, os.strerror(code))]

    def fail_once(fd: int) -> None:
        if failures:
            raise failures.pop()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    writer.write(bytes(1000))
    with pytest.raises(NoSpace if code == errno.ENOSPC else StateError):
        writer.commit()
    assert failures == list_files(root) == []


@pytest.mark.parametrize("has_threads", [True, False])
def test_background_syncs_do_not_change_the_content(
    storage: StateStorage, monkeypatch: pytest.MonkeyPatch, has_threads: bool
) -> None:
    monkeypatch.setattr(writer_module, "_SYNC_INTERVAL", 10_000)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    if not has_threads:  # as in an exit handler from Python 3.12 on
        monkeypatch.setattr(threading.Thread, "start", refuse)
    content = random.Random(3).randbytes(5 << 20)
    with storage.open_writer("n", "c", "model") as writer:
        for at in range(0, len(content), 1 << 16):
            writer.write(content[at : at + (1 << 16)])
        writer.write(content)
        stored = writer.commit()
    assert read_state(storage, stored.path) == 2 * content
    assert stored.digest == digest(2 * content)


AT_EXIT = """
import atexit, hashlib, sys, threading
from pathlib import Path
from jupyter_axon_notebooks.states import StateStorage, writer as writer_module

writer_module._SYNC_INTERVAL = 1 << 20
content = bytes(range(256)) * (16 << 10)
main = threading.main_thread()

def write(wait):
    wait()
    with StateStorage(Path(sys.argv[1])).open_writer("n", "c", "model") as writer:
        writer.write(content)
        stored = writer.commit()
    assert stored.digest == hashlib.sha256(content).hexdigest()
    print("written", flush=True)

if sys.argv[2] == "thread":
    threading.Thread(target=write, args=(main.join,)).start()
else:
    atexit.register(write, lambda: None)
"""


@pytest.mark.parametrize("when", ["thread", "atexit"])
def test_a_file_can_be_written_at_interpreter_exit(root: Path, when: str) -> None:
    command = [sys.executable, "-c", AT_EXIT, str(root), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("written\n", "")


# Concurrency


def test_one_of_several_concurrent_writers_wins(storage: StateStorage, root: Path) -> None:
    formats = ["safetensors", "torch", "npz", None]
    for number in range(15):
        start = threading.Barrier(len(formats))
        failures: list[Exception] = []

        def write(format, start=start, failures=failures, number=number):
            try:
                with storage.open_writer("n", "c", "model", format=format) as writer:
                    for _ in range(8):
                        writer.write(f"{format}{number}".encode() * 1000)
                    start.wait(30)
                    writer.commit()
            except Exception as error:  # noqa: BLE001 - checked below
                failures.append(error)

        threads = [threading.Thread(target=write, args=(kind,)) for kind in formats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        (left,) = [path for path in (root / "n/c").iterdir() if path.name != ".store"]
        assert left.read_bytes() in {f"{kind}{number}".encode() * 8000 for kind in formats}


def test_writing_and_removing_at_once_raise_no_errors(storage: StateStorage, root: Path) -> None:
    stopped = threading.Event()
    failures: list[Exception] = []

    def remove() -> None:
        while not stopped.is_set():
            storage.remove_checkpoint("n", "c")

    def write() -> None:
        for number in range(150):
            try:
                with storage.open_writer("n", "c", "model") as writer:
                    writer.write(b"x" * 1000)
                    if number % 2:
                        writer.commit()
            except NotFound:
                pass  # removed before the commit
            except Exception as error:  # noqa: BLE001 - checked below
                failures.append(error)

    remover = threading.Thread(target=remove)
    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in [remover, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    stopped.set()
    remover.join()
    assert failures == []
    assert all(path.stat().st_size == 1000 for path in root.rglob("model.*"))
    assert not list(root.rglob("*.tmp"))


def test_a_commit_into_a_removed_folder_fails(storage: StateStorage, root: Path) -> None:
    with storage.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
        storage.remove_notebook("n")
        with pytest.raises(NotFound, match="checkpoint c not found"):
            writer.commit()
    assert list_files(root) == []


# Killed processes

CHILD = """
import os, sys, time
from pathlib import Path
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.states import StateStorage

def reach(point):
    if point == sys.argv[2]:
        print("reached", flush=True)
        time.sleep(600)

replace = os.replace
def watched(*args, **kwargs):
    reach("before rename")
    replace(*args, **kwargs)
    reach("after rename")
os.replace = watched

writer = StateStorage(Path(sys.argv[1])).open_writer("n", "c", "model")
reach("opened")
for number in range(3):
    writer.write(b"new" * 500_000)
    reach("writing")
writer.prepare()
reach("prepared")
writer.commit()
reach("committed")
"""
POINTS = ["opened", "writing", "prepared", "before rename", "after rename", "committed"]


@pytest.mark.parametrize("is_replacing", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_process_leaves_a_complete_file_or_none(
    storage: StateStorage, root: Path, point: str, is_replacing: bool
) -> None:
    if is_replacing:
        write_state(storage, b"old")
    command = [sys.executable, "-c", CHILD, str(root), point]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reached\n"
        child.kill()
    found = [path.read_bytes() for path in (root / "n/c").glob("model.*")]
    if point in ("after rename", "committed"):
        assert found == [b"new" * 1_500_000]
    else:
        assert found == ([b"old"] if is_replacing else [])
        assert len(list(root.rglob("*.tmp"))) == 1
    make_older(root)
    report = sweep(storage, lambda n, c: {"model.bin"} if is_replacing else None)
    assert list_files(root) == (["n", "n/c", "n/c/model.bin"] if is_replacing else [])
    assert report.problems == []


# Full disks and other errors

FULL = """
import os, sys
from pathlib import Path
from jupyter_axon_notebooks.errors import NoSpace
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.states import StateStorage

root = Path(sys.argv[1]) / "states"
storage = StateStorage(root)
with storage.open_writer("n", "old", "model") as writer:
    writer.write(b"old")
    stored = writer.commit()
try:
    with storage.open_writer("n", "c", "model", expected_size=int(sys.argv[2])) as writer:
        if len(sys.argv) > 3:  # other processes fill the disk meanwhile
            (root.parent / "others").write_bytes(bytes(int(sys.argv[3])))
        for _ in range(64):
            writer.write(bytes(1 << 20))
        writer.commit()
except NoSpace as error:
    print(error)
    assert sorted(p.name for p in root.rglob("*.*")) == [".store", "model.bin"]
    assert not (root / "n/c").exists()
    assert storage.open(stored.path, "n").read() == b"old"
else:
    raise SystemExit("written without space")
"""
LIMITED = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))\n{FULL}"
MOUNTED = """
set -e
mount -t tmpfs -o size=20m tmpfs "$1"
exec "$2" -W ignore -c "$3" "$1" "$4" $5
"""


def run_limited(folder: Path, expected: int = 0) -> str:
    """Run FULL with a limit on the size of files and return its output."""
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(folder), str(expected)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_on_small_disk(folder: Path, expected: int, others: int | None) -> str:
    """Run FULL on a disk of 20 MB and return its output; with a limit if it cannot be mounted."""
    folder.mkdir()
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        mount = [*unshare, "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", str(folder)]
        try:
            if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
                continue
        except FileNotFoundError:
            continue
        command = [*unshare, "sh", "-c", MOUNTED, "sh", str(folder), sys.executable, FULL]
        command += [str(expected), *([] if others is None else [str(others)])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    return run_limited(folder, 1 << 60 if expected else 0)


@pytest.mark.parametrize(("expected", "others"), [(64 << 20, None), (0, 15 << 20)])
def test_a_full_disk_is_reported(tmp_path: Path, expected: int, others: int | None) -> None:
    output = run_on_small_disk(tmp_path / "disk", expected, others)
    for part in ("no space for a state file in", "needed", "jupyter axon prune", "states_root"):
        assert part in output


def test_a_limit_on_file_sizes_is_reported(tmp_path: Path) -> None:
    assert "largest file allowed" in run_limited(tmp_path)


def test_a_size_that_no_disk_has_is_refused_at_once(storage: StateStorage, root: Path) -> None:
    with pytest.raises(NoSpace, match=r"1152921\.5 TB needed, .* free"):
        storage.open_writer("n", "c", "model", expected_size=1 << 60)
    assert list_files(root) == []


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (errno.EDQUOT, NoSpace, "quota is used up"),
        (errno.EROFS, StateError, "read-only"),
        (errno.EACCES, StateError, "permission denied"),
        (errno.EIO, StateError, "Input/output error"),
    ],
)
def test_errors_of_the_system_are_explained(code: int, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text), convert_os_errors("write", "/data", needed=1):
        raise OSError(code, os.strerror(code))


def test_a_root_that_cannot_be_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "states"):
        with pytest.raises(StateError, match="cannot write state files in"):
            StateStorage(root).open_writer("n", "c", "model")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (10**10, "10.0 GB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes_are_formatted(size: int, text: str) -> None:
    assert format_size(size) == text


def test_free_space_may_be_unknown(tmp_path: Path) -> None:
    assert free_bytes(str(tmp_path / "none")) is None
