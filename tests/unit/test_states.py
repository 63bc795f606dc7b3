"""State files are opaque bytes that are there whole, where they belong, or not at all."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from jupyter_axon_notebooks.errors import InvalidData, NoSpace, NotFound, StateError
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.states import StateStorage, StoredState
from jupyter_axon_notebooks.states import writer as states_writer
from jupyter_axon_notebooks.states.folders import Folder, convert_os_errors, format_size, free_bytes
from jupyter_axon_notebooks.training.formats import encode_model
from jupyter_axon_notebooks.training.writing import write_states

DAY = 86400.0
BAD_IDS = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "a\0b",
    "a\nb",
    "\\x",
    "c:x",
    ".hidden",
    "x.",
    "x ",
    "x" * 256,
]
BAD_IDS += ["é" * 128, "\ud800", "*"]
GOOD_IDS = [
    "n",
    "0b4e6d0e-7c2a-4f5e-8c51-3f6d2f8f8a11",
    "é" * 127,
    "x" * 255,
    "a b",
    "笔记",
    "model.bin",
    "-rf",
    "~",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "states"


@pytest.fixture
def files(root: Path) -> StateStorage:
    return StateStorage(root)


def put(
    files: StateStorage,
    content: bytes = b"weights",
    notebook: str = "n",
    checkpoint: str = "c",
    **how,
) -> StoredState:
    with files.open_writer(notebook, checkpoint, how.pop("part", "model"), **how) as writer:
        writer.write(content)
        return writer.commit()


def read(files: StateStorage, path: str, notebook: str = "n") -> bytes:
    with files.open(path, notebook) as file:
        return file.read()


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def age(path: Path, seconds: float = DAY) -> None:
    """Make all beneath ``path`` look untouched for ``seconds``."""
    then = time.time() - seconds
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, (then, then), follow_symlinks=False)


# Writing


@pytest.mark.parametrize("size", [0, 1, 65_537, (1 << 20) - 1, 1 << 20, (16 << 20) + 3])
def test_what_is_read_is_what_was_written_bit_for_bit(files, size):
    content = random.Random(size).randbytes(size)
    stored = put(files, content)
    assert read(files, stored.path) == content
    assert stored.size == size
    assert stored.digest == hashlib.sha256(content).hexdigest()


def test_the_digest_does_not_depend_on_how_the_bytes_are_cut(files):
    content = random.Random(1).randbytes(5 << 20)
    with files.open_writer("n", "c", "model") as writer:
        at = 0
        for step in [1, 0, 999, 1 << 20, 3 << 20, len(content)]:
            writer.write(memoryview(content)[at : at + step])
            at += step
            assert writer.size == min(at, len(content))
            assert writer.digest == hashlib.sha256(content[:at]).hexdigest()
        stored = writer.commit()
    assert Path(stored.path).read_bytes() == content


def test_a_buffer_may_be_reused_as_soon_as_write_returns(files):
    buffer = bytearray(2 << 20)
    with files.open_writer("n", "c", "model") as writer:
        for number in range(5):
            buffer[:] = bytes([number]) * len(buffer)
            writer.write(buffer)
            buffer.extend(b"")  # would raise if it were still held
        stored = writer.commit()
    expected = b"".join(bytes([number]) * len(buffer) for number in range(5))
    assert read(files, stored.path) == expected
    assert stored.digest == hashlib.sha256(expected).hexdigest()


def test_any_contiguous_buffer_counts_in_bytes(files):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(memoryview(b"\1\0\2\0").cast("H"))
        writer.write(memoryview(b""))
        assert writer.size == 4
        assert writer.commit().size == 4


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("safetensors", "model.safetensors"),
        ("torch", "model.pt"),
        ("skops", "model.skops"),
        ("keras", "model.keras"),
        ("npz", "model.npz"),
        (None, "model.bin"),
        ("", "model.bin"),
        ("exe", "model.bin"),
        ("../../x", "model.bin"),
        ("pt", "model.bin"),
    ],
)
def test_the_extension_comes_from_a_table_and_never_from_a_text_given(files, root, format, name):
    assert put(files, format=format).path == str(root / "n" / "c" / name)


def test_a_part_that_is_none_is_refused(files, root):
    with pytest.raises(InvalidData, match="expected model or optimizer"):
        files.open_writer("n", "c", "../model")
    assert not root.exists()


def test_nothing_has_the_final_name_before_the_commit(files, root):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
        writer.prepare()
        assert not (root / "n/c/model.bin").exists()
        stored = writer.commit()
        assert Path(stored.path).read_bytes() == b"x"


def test_leaving_without_commit_leaves_nothing(files, root):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
    assert everything(root) == []


def test_an_error_in_the_middle_leaves_nothing_and_is_not_hidden(files, root):
    with pytest.raises(ZeroDivisionError), files.open_writer("n", "c", "model") as writer:
        writer.write(bytes([1 // (writer.size or 0)]))
    assert everything(root) == []


def test_an_abort_keeps_what_others_wrote(files, root):
    model = put(files, b"model")
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
    assert read(files, model.path) == b"model"
    assert everything(root) == ["n", "n/c", "n/c/.store", "n/c/model.bin"]


def test_commit_is_final_and_can_be_asked_twice(files):
    writer = files.open_writer("n", "c", "model")
    writer.write(b"x")
    stored = writer.commit()
    writer.abort()
    assert writer.commit() == stored
    assert read(files, stored.path) == b"x"
    with pytest.raises(ValueError, match="already committed"):
        writer.write(b"y")


def test_bytes_after_prepare_are_kept_too(files):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
        writer.prepare()
        writer.write(b"y")
        assert read(files, writer.commit().path) == b"xy"


def test_a_new_state_replaces_the_old_one_in_whatever_format_and_leaves_the_other_part(files, root):
    put(files, b"o", part="optimizer", format="torch")
    put(files, b"1", format="torch")
    put(files, b"2", format="safetensors")
    stored = put(files, b"3", format="safetensors")
    assert read(files, stored.path) == b"3"
    assert everything(root / "n/c") == [".store", "model.safetensors", "optimizer.pt"]


def test_folders_and_files_are_the_owners_alone(files, root):
    old = os.umask(0)
    try:
        stored = put(files)
    finally:
        os.umask(old)
    for folder in [root.parent, root, root / "n", root / "n/c"]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(stored.path).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "n/c/.store").stat().st_mode) == 0o600


def test_each_folder_is_synced_once_for_all_parts_of_a_checkpoint(files, root, monkeypatch):
    put(files, notebook="m")
    synced: list[str] = []
    real = Folder.sync

    def sync(folder: Folder) -> None:
        names = sorted(path.name for path in (root / "n/c").glob("[!.]*"))
        synced.append(f"{os.path.relpath(folder.path, root)} with {names}")
        real(folder)

    monkeypatch.setattr(Folder, "sync", sync)
    parts = {part: encode_model({"w": part.encode()}) for part in ("model", "optimizer")}
    stored = write_states(files, "n", "c", parts, lambda _written, _total: None)
    both = ["model.safetensors", "optimizer.safetensors"]
    assert synced == ["n with []", ". with []", f"n/c with {both}"]
    assert [os.path.basename(state.path) for state in stored.values()] == both


def test_a_writer_beside_one_whose_folder_is_gone_makes_its_own_durable(files, root, monkeypatch):
    with files.open_writer("n", "c", "model") as first:
        files.remove_checkpoint("n", "c")
        synced: list[str] = []
        monkeypatch.setattr(Folder, "sync", lambda folder: synced.append(folder.path))
        with files.open_writer("n", "c", "optimizer", beside=first) as second:
            assert not first.is_beside(second)
            assert synced == [str(root / "n"), str(root)]


def test_file_and_every_new_folder_are_synced_in_order(files, root, monkeypatch):
    """Watches the calls; they still reach the disk."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}") if sys.platform == "linux" else str(fd))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
        if sys.platform == "linux":
            assert synced == [
                str(path) for path in (root.parent.parent, root.parent, root / "n", root)
            ]
        writer.prepare()
        prepared = len(synced)
        writer.commit()
    assert len(synced) == prepared + 1
    if sys.platform == "linux":
        assert "/.model." in synced[-2]
        assert synced[-1] == str(root / "n/c")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_the_disk_tells_of_only_once_and_early_is_not_lost(
    files, root, monkeypatch, code
):
    """As after a delayed allocation: the sync behind the writer fails, the one at the end would not."""
    monkeypatch.setattr(states_writer, "_BEHIND", 1000)
    writer = files.open_writer("n", "c", "model")
    real, failures = os.fsync, [OSError(code, os.strerror(code))]

    def fsync(fd: int) -> None:
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    writer.write(bytes(1000))
    with pytest.raises(NoSpace if code == errno.ENOSPC else StateError):
        writer.commit()
    assert failures == everything(root) == []


def test_the_disk_is_set_to_work_early_without_changing_the_bytes(files, monkeypatch):
    monkeypatch.setattr(states_writer, "_BEHIND", 10_000)
    content = random.Random(3).randbytes(1 << 20)
    with files.open_writer("n", "c", "model") as writer:
        for at in range(0, len(content), 4096):
            writer.write(content[at : at + 4096])
        stored = writer.commit()
    assert read(files, stored.path) == content
    assert stored.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("reused", [False, True])
def test_the_digest_is_that_of_the_file_however_far_it_is_behind(files, reused):
    chance = random.Random(4)
    sizes = [10, 1 << 20, 5, 40 << 20, 100, 3 << 20, 0, 17 << 20]
    with files.open_writer("n", "c", "model") as writer:
        buffer = bytearray(max(sizes))
        for size in sizes:
            content = chance.randbytes(size)
            chunk = memoryview(buffer)[:size] if reused else memoryview(content)
            if reused:
                chunk[:] = content
            writer.write(chunk)
        stored = writer.commit()
    assert stored.size == sum(sizes)
    assert stored.digest == writer.digest == hashlib.sha256(read(files, stored.path)).hexdigest()


def test_the_digest_is_that_of_the_file_while_another_thread_trains_on_what_is_written(files):
    weights = bytearray(64 << 20)
    begun, done = threading.Event(), threading.Event()

    def train() -> None:
        for step in itertools.count(1):
            for at in range(0, len(weights), 4096):
                weights[at] = step % 256
                if done.is_set():
                    return
            begun.set()

    training = threading.Thread(target=train)
    training.start()
    try:
        assert begun.wait(60)
        with files.open_writer("n", "c", "model") as writer:
            writer.write(weights)
            stored = writer.commit()
    finally:
        done.set()
        training.join()
    assert stored.digest == hashlib.sha256(read(files, stored.path)).hexdigest()


LATE = """
import atexit, hashlib, sys, threading
from pathlib import Path
from jupyter_axon_notebooks.states import StateStorage, writer as states_writer

states_writer._BEHIND = 1 << 20
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
def test_a_file_is_written_also_while_the_interpreter_ends(root, when):
    """In a thread that outlives the main one, or by whoever is told of the end."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(root), when], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("written\n", "")


def test_where_no_thread_can_be_started_all_is_done_in_this_one(files, monkeypatch):
    """As in an exit handler from Python 3.12 on."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(states_writer, "_BEHIND", 1 << 20)
    content = random.Random(5).randbytes(5 << 20)
    stored = put(files, content)
    assert read(files, stored.path) == content
    assert stored.digest == hashlib.sha256(content).hexdigest()


def test_a_writer_that_gives_up_does_not_wait_for_the_digest_and_leaves_no_thread(files, root):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(memoryview(bytes(64 << 20)))
    assert everything(root) == []
    assert not [one for one in threading.enumerate() if one.name.startswith("axon-state")]


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (errno.EDQUOT, NoSpace, "quota is used up"),
        (errno.EROFS, StateError, "read-only"),
        (errno.EACCES, StateError, "permission denied"),
        (errno.EIO, StateError, "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_said_in_words_that_help(code, error, text):
    with pytest.raises(error, match=text), convert_os_errors("write", "/data", needed=1):
        raise OSError(code, os.strerror(code))


def test_a_folder_removed_while_its_file_is_written_is_said_so(files, root):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"x")
        files.remove_notebook("n")
        with pytest.raises(NotFound, match="checkpoint c not found"):
            writer.commit()
    assert everything(root) == []


# Many at once


def test_concurrent_writers_of_one_part_never_mix_and_one_of_them_stays(files, root):
    formats = ["safetensors", "torch", "npz", None]
    for number in range(15):
        start = threading.Barrier(len(formats))
        failures: list[Exception] = []

        def write(format, start=start, failures=failures, number=number):
            try:
                with files.open_writer("n", "c", "model", format=format) as writer:
                    for _ in range(8):
                        writer.write(f"{format}{number}".encode() * 1000)
                    start.wait(30)
                    writer.commit()
            except Exception as error:  # noqa: BLE001 (whatever it is, the test must see it)
                failures.append(error)

        threads = [threading.Thread(target=write, args=(kind,)) for kind in formats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        (left,) = [path for path in (root / "n/c").iterdir() if path.name != ".store"]
        content = left.read_bytes()
        assert content in {f"{kind}{number}".encode() * 8000 for kind in formats}


def test_writers_and_removers_of_one_folder_never_meet_an_error_or_leave_half_a_file(files, root):
    stop = threading.Event()
    failures: list[Exception] = []

    def remove() -> None:
        while not stop.is_set():
            files.remove_checkpoint("n", "c")
            sweep(StateStorage(root), lambda n, c: None)

    def write() -> None:
        for number in range(150):
            try:
                writer = files.open_writer("n", "c", "model")
                with writer:
                    writer.write(b"x" * 1000)
                    if number % 2:
                        writer.commit()
            except NotFound:
                pass  # removed before it was committed
            except Exception as error:  # noqa: BLE001 (whatever it is, the test must see it)
                failures.append(error)

    remover = threading.Thread(target=remove)
    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in [remover, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    remover.join()
    assert failures == []
    assert all(path.stat().st_size == 1000 for path in root.rglob("model.*"))
    assert not list(root.rglob("*.tmp"))


# Killed

CHILD = """
import os, sys, time
from pathlib import Path
from jupyter_axon_notebooks.states import StateStorage

def here(name):
    if name == sys.argv[2]:
        print("here", flush=True)
        time.sleep(600)

replace = os.replace
def watched(*args, **kwargs):
    here("before rename")
    replace(*args, **kwargs)
    here("after rename")
os.replace = watched

writer = StateStorage(Path(sys.argv[1])).open_writer("n", "c", "model")
here("begun")
for number in range(3):
    writer.write(b"new" * 500_000)
    here("in the middle")
writer.prepare()
here("prepared")
writer.commit()
here("committed")
"""
POINTS = ["begun", "in the middle", "prepared", "before rename", "after rename", "committed"]


def killed_at(point: str, root: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), point], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        child.kill()


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_while_writing_leaves_a_whole_file_or_none(files, root, point, replacing):
    if replacing:
        put(files, b"old")
    killed_at(point, root)

    found = [path.read_bytes() for path in (root / "n/c").glob("model.*")]
    if point in ("after rename", "committed"):
        assert found == [b"new" * 1_500_000]
    else:
        assert found == ([b"old"] if replacing else [])
        assert len(list(root.rglob("*.tmp"))) == 1

    age(root)
    report = sweep(files, lambda n, c: {"model.bin"} if replacing else None)
    assert not list(root.rglob("*.tmp"))
    assert everything(root) == (["n", "n/c", "n/c/model.bin"] if replacing else [])
    assert report.problems == []
    assert report.freed == (1_500_000 * {"begun": 0, "in the middle": 1}.get(point, 3)) or replacing


def test_a_process_killed_at_any_moment_leaves_a_whole_file(files, root):
    put(files, b"\0" * 3_000_000)
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from jupyter_axon_notebooks.states import StateStorage
        files = StateStorage(Path(sys.argv[1]))
        print("ready", flush=True)
        for number in range(1_000_000):
            with files.open_writer("n", "c", "model", format=["torch", None][number % 2]) as writer:
                for _ in range(3):
                    writer.write(bytes([number % 256]) * 1_000_000)
                writer.commit()
    """)
    moment = random.Random(7)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with pytest.raises(
                subprocess.TimeoutExpired
            ):  # a moment to be killed at, not one to wait for
                child.wait(moment.uniform(0.0, 0.15))
            child.kill()
        present = [path.read_bytes() for path in (root / "n/c").glob("model.*")]
        assert present
        for content in present:
            assert len(content) == 3_000_000
            assert len(set(content)) == 1


def test_a_writer_that_lives_is_never_swept_however_slow(files, root):
    with files.open_writer("n", "c", "model") as writer:
        writer.write(b"slow")
        age(root)
        report = sweep(StateStorage(root), lambda n, c: None)
        assert report.temporaries == report.folders == []
        assert read(files, writer.commit().path) == b"slow"


# A full disk

FULL = """
import errno, os, sys
from pathlib import Path
from jupyter_axon_notebooks.errors import NoSpace
from jupyter_axon_notebooks.states import StateStorage

root = Path(sys.argv[1]) / "states"
files = StateStorage(root)
stored = None
with files.open_writer("n", "old", "model") as writer:
    writer.write(b"old")
    stored = writer.commit()
try:
    with files.open_writer("n", "c", "model", expected_size=int(sys.argv[2])) as writer:
        if len(sys.argv) > 3:  # others fill the disk meanwhile
            (root.parent / "others").write_bytes(bytes(int(sys.argv[3])))
        for _ in range(64):
            writer.write(bytes(1 << 20))
        writer.commit()
except NoSpace as error:
    print(error)
    assert [str(p.relative_to(root)) for p in root.rglob("*.*")] == ["n/old/.store", "n/old/model.bin"] or \\
        sorted(p.name for p in root.rglob("*.*")) == [".store", "model.bin"], list(root.rglob("*"))
    assert not (root / "n/c").exists()
    assert files.open(stored.path, "n").read() == b"old"
else:
    raise SystemExit("written, although there was no room")
"""

MOUNTED = """
set -e
mount -t tmpfs -o size=20m tmpfs "$1"
exec "$2" -W ignore -c "$3" "$1" "$4" $5
"""


def on_a_small_disk(
    folder: Path, expected: int, others: int | None
) -> subprocess.CompletedProcess[str]:
    """Run FULL on a disk of 20 MB that only this process sees; without the right to mount, under `ulimit -f`."""
    folder.mkdir()
    more = [] if others is None else [str(others)]
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            mount = ["sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", str(folder)]
            if subprocess.run([*unshare, *mount], capture_output=True).returncode != 0:
                continue
        except FileNotFoundError:
            continue
        command = [
            *unshare,
            "sh",
            "-c",
            MOUNTED,
            "sh",
            str(folder),
            sys.executable,
            FULL,
            str(expected),
            *more,
        ]
        return subprocess.run(command, capture_output=True, text=True)
    limited = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))\n" + FULL
    )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        limited,
        str(folder),
        str(1 << 60 if expected else 0),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_disk_without_room_is_refused_before_a_byte_is_written(tmp_path):
    done = on_a_small_disk(tmp_path / "disk", 64 << 20, None)
    assert done.returncode == 0, done.stderr
    assert "no room for a state file in" in done.stdout
    assert "needed" in done.stdout
    assert "jupyter axon prune" in done.stdout


def test_a_disk_that_fills_up_in_the_middle_is_said_so_and_cleaned_up(tmp_path):
    done = on_a_small_disk(tmp_path / "disk", 0, 15 << 20)
    assert done.returncode == 0, done.stderr
    assert "no room for a state file in" in done.stdout
    assert "states_root" in done.stdout


def test_a_limit_on_the_size_of_files_counts_as_no_room(tmp_path):
    script = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))\n" + FULL
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "largest file allowed" in done.stdout


def test_a_size_no_disk_has_is_refused_with_the_numbers(files, root):
    with pytest.raises(NoSpace, match=r"1152921\.5 TB needed, .* free"):
        files.open_writer("n", "c", "model", expected_size=1 << 60)
    assert everything(root) == []


def test_a_root_that_cannot_be_a_folder_is_a_state_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "states"):
        with pytest.raises(StateError, match="cannot write state files in"):
            StateStorage(root).open_writer("n", "c", "model")


def test_a_notebook_folder_that_is_a_link_is_not_written_through(files, root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    root.mkdir(parents=True)
    (root / "n").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        files.open_writer("n", "c", "model")
    assert everything(tmp_path / "elsewhere") == []


# Ids


@pytest.mark.parametrize("id", BAD_IDS, ids=ascii)
def test_nothing_is_written_or_read_under_an_id_that_cannot_name_a_folder(
    files, root, tmp_path, id
):
    put(files)
    before = everything(tmp_path)
    for call in (
        lambda: files.open_writer(id, "c", "model"),
        lambda: files.open(str(root / "n/c/model.bin"), id),
        lambda: files.validate_path(str(root / "n/c/model.bin"), id),
    ):
        with pytest.raises(InvalidData, match=r"\$\.notebook_id: cannot name a folder"):
            call()
    with pytest.raises(InvalidData, match=r"\$\.checkpoint_id: cannot name a folder"):
        files.open_writer("n", id, "model")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("id", BAD_IDS, ids=ascii)
def test_under_an_id_that_cannot_name_a_folder_there_is_nothing_to_remove(files, tmp_path, id):
    put(files)
    before = everything(tmp_path)
    files.remove_notebook(id)
    for notebook_id, checkpoint_id in ((id, "c"), ("n", id), (id, id)):
        files.mark_unrecorded(notebook_id, checkpoint_id)
        files.mark_recorded(notebook_id, checkpoint_id)
        files.remove_checkpoint(notebook_id, checkpoint_id)
        assert files.stage_removal(notebook_id, checkpoint_id, ["model.bin"]) == []
        files.remove_staged(notebook_id, checkpoint_id, ["model.bin"])
    files.mark_unrecorded(id)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("id", GOOD_IDS, ids=ascii)
def test_every_other_id_works(files, root, id):
    stored = put(files, b"x", id, id)
    assert files.validate_path(stored.path, id) == os.path.realpath(stored.path)
    assert read(files, stored.path, id) == b"x"
    files.remove_checkpoint(id, id)
    assert everything(root) == []


# What may be reached


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.pt").write_bytes(b"a")
    return tmp_path / "models"


def refused(files: StateStorage, path: object, notebook: str = "n") -> str:
    with pytest.raises(InvalidData) as caught:
        files.validate_path(str(path), notebook, field="$.optimizer_state_path")
    assert caught.value.path == "$.optimizer_state_path"
    return caught.value.reason


def test_a_file_in_the_notebooks_own_folder_or_another_root_is_admitted(root, other):
    files = StateStorage(root, other_roots=[other])
    own = put(files).path
    assert files.validate_path(own, "n") == os.path.realpath(own)
    assert files.validate_path(str(other / "a.pt"), "n") == str(other / "a.pt")
    assert files.validate_path(f"{other}/../models//a.pt", "n") == str(other / "a.pt")
    assert read(files, str(other / "a.pt")) == b"a"


def test_the_folder_of_another_notebook_is_refused(files, root):
    path = put(files, notebook="theirs").path
    assert "another notebook" in refused(files, path)
    assert "another notebook" in refused(files, root / "n" / ".." / "theirs" / "c" / "model.bin")
    with pytest.raises(InvalidData, match="another notebook"):
        files.open(path, "n")


@pytest.mark.parametrize("which", ["the parent", "the folder itself", "a link to it", "the root"])
def test_another_root_is_no_way_into_the_folder_of_another_notebook(root, tmp_path, which):
    path = put(StateStorage(root), notebook="theirs").path
    (tmp_path / "way").symlink_to(root / "theirs")
    roots = {"the parent": root.parent, "the folder itself": root / "theirs", "the root": root}
    files = StateStorage(root, other_roots=[roots.get(which, tmp_path / "way")])
    assert "another notebook" in refused(files, path)
    assert "another notebook" in refused(files, tmp_path / "way" / "c" / "model.bin")
    with pytest.raises(InvalidData):
        files.open(str(tmp_path / "way" / "c" / "model.bin"), "n")


def test_a_root_reached_by_another_name_keeps_its_rule(root, tmp_path, monkeypatch):
    """As on a disk that ignores case: the path's text does not lie in the root, the file does."""
    files = StateStorage(tmp_path / "DATA" / "states", other_roots=[tmp_path])
    path = put(StateStorage(root), notebook="theirs").path
    mine = put(StateStorage(root)).path
    real = os.stat
    monkeypatch.setattr(
        os,
        "stat",
        lambda p, **k: real(str(p).replace("DATA", "data") if isinstance(p, str) else p, **k),
    )
    assert "another notebook" in refused(files, path)
    assert files.validate_path(mine, "n") == mine


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "absolute"),
        ("model.bin", "absolute"),
        ("./model.bin", "absolute"),
        ("~/model.bin", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("/etc/passwd", "must lie inside"),
        ("/", "must lie inside"),
        ("{root}", "must lie inside"),
        ("{root}-evil/model.bin", "must lie inside"),
        ("{root}/n/c/../../../../x", "must lie inside"),
        ("{root}/n/c/none.bin", "there is no file"),
        ("{root}/n/none/model.bin", "there is no file"),
        ("{root}/n/c", "regular file"),
        ("{root}/n/c/model.bin/x", "no folder"),
        ("{root}/n", "no notebook's folder"),
        ("{root}/n/c/.store", "server's own"),
        ("{root}/n/c/" + "x" * 300, "too long"),
        ("{root}/n/c/model.bin\0", "cannot be one"),
        ("{root}/n/\ud800", "cannot be one"),
    ],
    ids=ascii,
)
def test_a_path_that_breaks_a_rule_is_refused_naming_it(files, root, path, rule):
    put(files)
    assert rule in refused(files, path.replace("{root}", str(root)))


def test_a_link_is_followed_before_a_path_is_judged(root, other, tmp_path):
    files = StateStorage(root, other_roots=[other])
    put(files)
    (tmp_path / "secret").write_bytes(b"s")
    (other / "out").symlink_to(tmp_path / "secret")
    (other / "in").symlink_to(other / "a.pt")
    (root / "n/c/optimizer.bin").symlink_to("/etc/passwd")
    (root / "n/away").symlink_to("/etc")
    (other / "loop").symlink_to(other / "loop")
    assert "must lie inside" in refused(files, other / "out")
    assert files.validate_path(str(other / "in"), "n") == str(other / "a.pt")
    assert "must lie inside" in refused(files, root / "n/c/optimizer.bin")
    assert "must lie inside" in refused(files, root / "n/away/passwd")
    assert "symbolic link" in refused(files, other / "loop")


def test_a_file_or_folder_swapped_for_a_link_after_it_was_admitted_is_not_read(
    root, other, tmp_path
):
    files = StateStorage(root, other_roots=[other])
    (other / "deep").mkdir()
    (other / "deep" / "b.pt").write_bytes(b"b")
    paths = [
        put(files).path,
        put(files, checkpoint="d").path,
        str(other / "a.pt"),
        str(other / "deep/b.pt"),
    ]
    paths = [files.validate_path(path, "n") for path in paths]
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("model.bin", "a.pt", "b.pt"):
        (outside / name).write_bytes(b"secret")
    for index, path in enumerate(map(Path, paths)):
        if index % 2:
            path.unlink()
            path.parent.rename(tmp_path / f"moved{index}")
            path.parent.symlink_to(outside)
        else:
            path.unlink()
            path.symlink_to(outside / path.name)
        with pytest.raises(InvalidData, match="symbolic link"):
            files.open(str(path), "n")


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(root, other):
    files = StateStorage(root, other_roots=[other])
    os.mkfifo(other / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(other)  # a socket's path may have only some 100 bytes
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        assert "regular file" in refused(files, other / "fifo")
        assert "regular file" in refused(files, other / "socket")
    assert "must lie inside" in refused(StateStorage(root), "/dev/zero")


def test_a_state_that_is_gone_is_not_found(files, root):
    stored = put(files)
    files.remove_checkpoint("n", "c")
    for path in (stored.path, "", str(root / "n/x/y/z")):
        with pytest.raises(NotFound, match="state file"):
            files.open(path, "n")
    with pytest.raises(InvalidData, match=r"\.\."):
        files.open(f"{root}/n/../m/c/model.bin", "n")
    with pytest.raises(InvalidData, match="must lie inside"):
        files.open("/etc/passwd", "n")
    with pytest.raises(InvalidData, match="cannot be one"):
        files.open("/a\0b", "n")


def test_a_root_behind_a_link_works_by_both_its_names(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    files = StateStorage(tmp_path / "link" / "states")
    stored = put(files, b"x")
    assert stored.path == str(tmp_path / "link/states/n/c/model.bin")
    assert files.validate_path(stored.path, "n") == str(tmp_path / "disk/states/n/c/model.bin")
    assert read(files, stored.path) == read(files, files.validate_path(stored.path, "n")) == b"x"
    assert "another notebook" in refused(files, stored.path, "m")
    files.remove_notebook("n")
    assert everything(tmp_path / "disk/states") == []


# Removing


def test_removing_takes_what_was_asked_and_nothing_else(files, root):
    for notebook, checkpoint in [("n", "c"), ("n", "d"), ("m", "c")]:
        put(files, notebook=notebook, checkpoint=checkpoint)
    files.remove_checkpoint("n", "c")
    assert sorted(path.name for path in (root / "n").iterdir()) == ["d"]
    files.remove_checkpoint("n", "d")
    assert [path.name for path in root.iterdir()] == ["m"]
    files.remove_notebook("m")
    assert everything(root) == []


def test_removing_what_is_not_there_is_fine(files, root):
    files.remove_checkpoint("n", "c")
    files.remove_notebook("n")
    put(files)
    files.remove_checkpoint("n", "x")
    files.remove_notebook("x")
    assert (root / "n/c/model.bin").exists()


def test_removing_never_follows_a_link(files, root, tmp_path):
    treasure = tmp_path / "treasure"
    (treasure / "c").mkdir(parents=True)
    (treasure / "c" / "model.bin").write_bytes(b"x")
    before = everything(treasure)
    put(files)
    (root / "n/c/optimizer.bin").symlink_to(treasure / "c/model.bin")
    (root / "n/c/deep").mkdir()
    (root / "n/c/deep/link").symlink_to(treasure)
    (root / "n/d").symlink_to(treasure / "c")
    (root / "m").symlink_to(treasure)
    files.remove_checkpoint("n", "c")
    files.remove_checkpoint("n", "d")
    files.remove_checkpoint("m", "c")
    files.remove_notebook("m")
    assert everything(root) == []
    assert everything(treasure) == before


# Sweeping


def test_a_sweep_takes_only_old_folders_that_no_record_knows(files, root):
    for checkpoint in ("known", "lost", "young"):
        put(files, b"12345", checkpoint=checkpoint)
    put(files, b"123", notebook="gone")
    age(root)
    now = time.time()
    os.utime(root / "n/young/model.bin", (now, now))
    asked = []

    def named(notebook: str, checkpoint: str) -> set[str] | None:
        asked.append((notebook, checkpoint))
        return {"model.bin"} if checkpoint == "known" else None

    seen: list[int] = []
    report = sweep(files, named, lambda: seen.append(len(seen) + 1), older_than=3600)
    assert sorted(asked) == [("gone", "c"), ("n", "known"), ("n", "lost")]
    assert sorted(report.folders) == [str(root / "gone/c"), str(root / "n/lost")]
    assert report.freed == 8
    assert report.temporaries == report.problems == []
    assert seen == [1, 2, 3, 4]
    assert sorted(path.name for path in root.glob("*/*")) == ["known", "young"]
    assert not (root / "gone").exists()


@pytest.mark.parametrize("fresh", ["n/c", "n/c/model.bin", "n/c/.store"])
def test_whatever_changed_within_the_grace_period_keeps_the_folder(files, root, fresh):
    put(files)
    age(root, 100.0)
    os.utime(root / fresh)
    assert sweep(files, lambda n, c: None, older_than=90).folders == []
    age(root, 100.0)
    assert sweep(files, lambda n, c: None, older_than=110).folders == []
    assert sweep(files, lambda n, c: None, older_than=90).folders == [str(root / "n/c")]


def test_a_dead_writers_file_goes_from_a_known_checkpoint_too_but_not_a_young_one(files, root):
    put(files, b"kept")
    for number in range(2):
        (root / f"n/c/.optimizer.{number:032x}.tmp").write_bytes(b"12345")
    os.utime(root / f"n/c/.optimizer.{0:032x}.tmp", (0, 0))
    report = sweep(files, lambda n, c: {"model.bin"})
    assert report.temporaries == [str(root / f"n/c/.optimizer.{0:032x}.tmp")]
    assert report.freed == 5
    assert everything(root / "n/c") == [f".optimizer.{1:032x}.tmp", ".store", "model.bin"]


def test_a_sweep_never_takes_what_another_store_wrote_or_nobody_of_us(root):
    put(StateStorage(root, store_id="first"))
    (root / "experiments/run1").mkdir(parents=True)
    (root / "experiments/run1/model.pt").write_bytes(b"years of work")
    (root / "experiments/empty").mkdir()
    (root / "notes.txt").write_bytes(b"x")
    age(root)
    before = everything(root)
    for store in ("second", "firs", ""):
        report = sweep(StateStorage(root, store_id=store), lambda n, c: None)
        assert report.folders == report.problems == []
    assert everything(root) == before
    assert sweep(StateStorage(root, store_id="first"), lambda n, c: None).folders == [
        str(root / "n/c")
    ]


def test_a_folder_with_more_than_state_files_waits_to_be_recovered(files, root):
    put(files)
    (root / "n/c/checkpoint.json").write_bytes(b"{}")
    put(files, checkpoint="d")
    (root / "n/d/optimizer.bin").mkdir()
    age(root)
    assert sweep(files, lambda n, c: None).folders == []
    assert (root / "n/c/model.bin").exists()


def test_a_sweep_never_follows_a_link(files, root, tmp_path):
    put(StateStorage(tmp_path / "elsewhere"))
    put(files, notebook="m")
    (root / "n").symlink_to(tmp_path / "elsewhere" / "n")
    (root / "m/d").symlink_to(tmp_path / "elsewhere" / "n" / "c")
    (root / "m/c/optimizer.bin").symlink_to(tmp_path / "elsewhere/n/c/model.bin")
    (root / f"m/c/.model.{0:032x}.tmp").symlink_to(tmp_path / "elsewhere/n/c/model.bin")
    age(root)
    age(tmp_path / "elsewhere")
    before = everything(tmp_path)
    report = sweep(files, lambda n, c: None)
    assert report.folders == report.temporaries == []
    assert everything(tmp_path) == before


def test_a_sweep_of_no_root_or_a_bad_one_reports_and_does_not_raise(tmp_path):
    assert sweep(StateStorage(tmp_path / "none"), lambda n, c: None).problems == []
    (tmp_path / "file").write_bytes(b"")
    assert len(sweep(StateStorage(tmp_path / "file"), lambda n, c: None).problems) == 1


def test_a_store_that_cannot_answer_ends_the_sweep_before_anything_goes(files, root):
    put(files)
    age(root)
    with pytest.raises(ZeroDivisionError):
        sweep(files, lambda n, c: {f"{1 // 0}"})
    assert (root / "n/c/model.bin").exists()


# Measuring


def test_used_counts_the_bytes_of_files_and_of_no_link(files, root, tmp_path):
    assert files.measure() == 0
    put(files, bytes(1000))
    put(files, bytes(234), part="optimizer")
    (tmp_path / "big").write_bytes(bytes(5000))
    (root / "n/c/link").symlink_to(tmp_path / "big")
    (root / "n/link").symlink_to(tmp_path)
    assert files.measure() == 1234 + (root / "n/c/.store").stat().st_size


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
def test_sizes_are_written_for_people(size, text):
    assert format_size(size) == text


def test_free_space_is_unknown_where_there_is_nothing_to_ask(tmp_path):
    assert free_bytes(str(tmp_path / "none")) is None


def test_a_folder_can_be_closed_twice(tmp_path):
    with Folder(str(tmp_path)) as folder:
        folder.close()


def test_a_sweep_never_takes_what_was_once_recorded_whatever_the_store_says_later(files, root):
    stored = put(files, b"weights")
    files.mark_recorded("n", "c")
    for path in (Path(stored.path), Path(stored.path).parent):
        os.utime(path, (0, 0))
    report = sweep(files, lambda n, c: None)
    assert report.folders == []
    assert read(files, stored.path) == b"weights"


@pytest.mark.parametrize("checkpoint", [None, "c"])
def test_what_is_abandoned_is_swept_unless_its_record_is_there_after_all(files, root, checkpoint):
    put(files, b"weights")
    put(files, b"others", checkpoint="d")
    for recorded in ("c", "d"):
        files.mark_recorded("n", recorded)
    files.mark_unrecorded("n", checkpoint)
    age(root)
    assert sweep(StateStorage(root, store_id="another"), lambda n, c: None).folders == []
    assert sweep(files, lambda n, c: {"model.bin"}).folders == []  # and the note is taken back
    assert sweep(files, lambda n, c: None).folders == []
    files.mark_unrecorded("n", checkpoint)
    age(root)
    gone = {str(root / "n" / name) for name in ("cd" if checkpoint is None else "c")}
    assert set(sweep(files, lambda n, c: None).folders) == gone
    age(root)
    sweep(files, lambda n, c: None)
    assert (root / "n").exists() == (checkpoint is not None)


def test_to_abandon_what_is_not_there_is_nothing(files, root):
    files.mark_unrecorded("n")
    files.mark_unrecorded("n", "c")
    put(files)
    files.mark_unrecorded("n", "d")
    assert everything(root) == ["n", "n/c", "n/c/.store", "n/c/model.bin"]


def test_a_state_that_did_not_come_to_be_recorded_is_swept_and_the_recorded_one_stays(files, root):
    put(files, b"weights")
    files.mark_recorded("n", "c")
    lost = put(files, b"12345", part="optimizer")
    assert sweep(files, lambda n, c: {"model.bin"}).temporaries == []  # it may yet be recorded
    age(root)
    report = sweep(files, lambda n, c: {"model.bin"})
    assert (report.temporaries, report.freed) == ([lost.path], 5)
    assert everything(root / "n/c") == ["model.bin"]


def test_a_state_that_is_lost_is_not_held(files):
    stored = put(files, b"weights")
    assert files.can_read(stored.path, "n")
    assert not files.can_read(stored.path, "other")
    Path(stored.path).unlink()
    assert not files.can_read(stored.path, "n")


# Roots that were moved


@pytest.fixture
def moved(root: Path, tmp_path: Path) -> StateStorage:
    """The state files of ``n/c`` and ``theirs/c`` in a root that was somewhere else when they were written."""
    for notebook in ("n", "theirs"):
        put(StateStorage(root), f"of {notebook}".encode(), notebook)
    root.rename(tmp_path / "now")
    return StateStorage(tmp_path / "now")


def test_files_in_the_notebooks_own_folder_are_recorded_relative_to_the_root(root, tmp_path):
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    files = StateStorage(tmp_path / "link")
    stored = put(files)
    assert files.recorded_path(stored.path, "n") == "n/c/model.bin"
    assert (
        files.recorded_path(files.validate_path(stored.path, "n"), "n") == "n/c/model.bin"
    )  # which is the real path
    assert files.recorded_path(f"{root}/n/imported/deep/w.pt", "n") == "n/imported/deep/w.pt"
    assert files.full_path("n/c/model.bin") == stored.path
    for elsewhere in (
        f"{root}/theirs/c/model.bin",
        f"{root}/n/../theirs/w",
        "/models/w.pt",
        f"{root}2/n/w",
    ):
        assert files.recorded_path(elsewhere, "n") == files.full_path(elsewhere) == elsewhere
    assert files.full_path("") == ""


@pytest.mark.parametrize(
    "path",
    [
        "n/c/model.bin",
        "{root}/n/c/model.bin",
        "/home/ada/states/n/c/model.bin",
        r"C:\Users\ada\states\n\c\model.bin",
        "//server/states//n/c/model.bin",
    ],
)
def test_a_path_is_found_below_the_present_root(moved, root, path):
    path = path.format(root=root)
    assert read(moved, path) == b"of n"
    assert moved.can_read(path, "n")
    assert moved.find_path(path, "n") == os.path.join(moved.root, "n", "c", "model.bin")
    assert moved.owns(path, "n", "c")
    assert not moved.owns(path, "n", "another")


@pytest.mark.parametrize(
    "path",
    [
        "theirs/c/model.bin",
        "n/../theirs/c/model.bin",
        "/home/ada/states/theirs/c/model.bin",
        "/home/ada/n/../theirs/c/model.bin",
        "/home/n/../c/model.bin",
        "../now/theirs/c/model.bin",
    ],
)
def test_no_path_leads_to_another_notebooks_file_below_the_present_root(moved, path):
    with pytest.raises(InvalidData):
        moved.open(path, "n")
    assert not moved.owns(path, "n", "c")


def test_a_path_that_can_be_read_as_it_is_comes_first(moved, root):
    before = put(StateStorage(root), b"of before").path
    with_both = StateStorage(moved.root, other_roots=[root])
    assert read(with_both, before) == b"of before"
    assert not with_both.owns(before, "n", "c")
    assert read(with_both, "n/c/model.bin") == b"of n"
    assert read(moved, before) == b"of n"  # the other folder is not one to read from


def test_what_was_not_moved_is_read_where_further_folders_are_configured(root, tmp_path):
    put(StateStorage(root))
    files = StateStorage(tmp_path / "empty", other_roots=[root])
    assert read(files, "n/c/model.bin") == read(files, f"{root}/n/c/model.bin") == b"weights"
    assert not files.owns("n/c/optimizer.bin", "theirs", "c")
    put(StateStorage(root), notebook="theirs")
    assert not files.can_read("theirs/c/model.bin", "n")


def test_what_is_nowhere_is_told_with_where_it_should_be(moved):
    with pytest.raises(
        NotFound, match=r"now/n/gone/model\.bin \(recorded as /home/n/gone/model\.bin\) not found"
    ):
        moved.open("/home/n/gone/model.bin", "n")
    with pytest.raises(NotFound, match=r"now/n/gone/model\.bin not found"):
        moved.open("n/gone/model.bin", "n")


def test_no_relative_path_is_admitted(moved):
    assert "expected an absolute path" in refused(moved, "n/c/model.bin")
    assert "must lie inside" in refused(moved, "/home/ada/states/n/c/model.bin")
