"""A store opens, or an error explains why not and nothing is changed."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from support.engines import new_url

from jupyter_axon_notebooks.errors import StoreBusy, StoreDamaged, StoreError, StoreTooNew
from jupyter_axon_notebooks.store import Document, Store, default_url, has_tables, open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.store.sqlite import engine
from jupyter_axon_notebooks.store.sqlite.files import file_system, rename_files

from .conftest import Script, finish, path_of, pragma


def test_the_default_store_is_in_jupyters_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    assert default_url() == f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db"
    store = open_store()
    assert store.url == default_url()
    assert (tmp_path / "data/axon_notebooks/axon.db").exists()
    store.close()


def test_other_users_cannot_read_the_files(tmp_path: Path) -> None:
    previous = os.umask(0o000)
    try:
        store = Store(f"sqlite:///{tmp_path}/new/deep/axon.db")
        folder = tmp_path / "new/deep"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert modes == {"axon.db": 0o600, "axon.db-wal": 0o600, "axon.db-shm": 0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        store.close()
    finally:
        os.umask(previous)


def test_every_connection_commits_durably(file_store: Store) -> None:
    for _ in range(2):
        assert pragma(file_store, "journal_mode") == "wal"
        assert pragma(file_store, "synchronous") == 2  # FULL
        assert pragma(file_store, "fullfsync") == 1
        assert pragma(file_store, "busy_timeout") == 30_000
        file_store.close()


@pytest.mark.parametrize("name", ["a b", "100%", "what?", "é", "#1", "file:x", "'"])
def test_folders_can_have_any_name(tmp_path: Path, name: str) -> None:
    Store(f"sqlite:///{tmp_path}/{name}/axon.db").close()
    assert (tmp_path / name / "axon.db").exists()


def test_a_newer_store_is_refused_and_unchanged(file_url: str) -> None:
    Store(file_url).close()
    version = SCHEMA_VERSION + 1
    with contextlib.closing(sqlite3.connect(path_of(file_url))) as connection:
        connection.execute(
            "UPDATE axon_properties SET value = ? WHERE name = 'schema_version'", [version]
        )
        connection.commit()
    before = path_of(file_url).read_bytes()
    with pytest.raises(StoreTooNew, match=rf"schema version {version}.*upgrade jupyter-axon"):
        Store(file_url)
    assert path_of(file_url).read_bytes() == before
    assert [path.name for path in path_of(file_url).parent.iterdir()] == ["axon.db"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_of_another_application_is_refused_and_unchanged(
    file_url: str, journal: str
) -> None:
    path = path_of(file_url)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.executescript("CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    before = path.read_bytes()
    for opening in (Store, partial(open_store, read_only=True), has_tables):
        with pytest.raises(StoreError, match="but not a store of jupyter-axon-notebooks"):
            opening(file_url)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["axon.db"]


# Damaged stores.


@pytest.mark.parametrize(
    "content",
    [b"not a database, for all its length" * 200, b"x", b"SQLite format 3\0" + b"x" * 9000],
)
def test_a_file_that_is_not_a_database_is_refused_and_unchanged(
    file_url: str, content: bytes
) -> None:
    path_of(file_url).write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"axon\.db.*run `jupyter axon doctor`"):
        Store(file_url)
    assert path_of(file_url).read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE axon_properties SET value = 'x'", "its schema version is x"),
        ("DELETE FROM axon_properties WHERE name = 'store_id'", "its id is missing"),
        ("DROP TABLE axon_properties", "its properties are missing"),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_store_without_its_properties_is_damaged(
    tmp_path: Path, engine: str, statement: str, message: str
) -> None:
    url = new_url(engine, tmp_path, empty=False)
    store = Store(url)
    with store.transaction() as connection:
        connection.exec_driver_sql(statement)
    store.close()
    assert has_tables(url)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=rf"{message}; run `jupyter axon doctor`"):
            Store(url)


def test_damage_in_an_open_store_is_reported_where_it_is_read(file_url: str) -> None:
    store = Store(file_url)
    store.runs.insert(*(Document({"notes": "x" * 10_000}, f"r{n}") for n in range(100)))
    store.close()
    content = path_of(file_url).read_bytes()
    half = len(content) // 2
    path_of(file_url).write_bytes(content[:half] + b"\xa5" * (len(content) - half))
    with pytest.raises(StoreDamaged, match=r"axon\.db: it is damaged; run `jupyter axon doctor`"):
        store.runs.all()
    store.close()


def test_a_store_that_was_moved_aside_keeps_its_content(file_url: str) -> None:
    store = Store(file_url)
    store.runs.insert({"n": 1})
    moved = rename_files(path_of(file_url))
    assert store.is_lost
    assert sorted(path.name for path in moved.parent.iterdir()) == sorted(
        f"{moved.name}{suffix}" for suffix in ("", "-wal", "-shm")
    )
    new = Store(file_url)
    assert new.id != store.id
    assert len(new.runs) == 0
    for opened in (store, new):
        opened.close()
    kept = Store(f"sqlite:///{moved}")
    assert [dict(run) for run in kept.runs.all()] == [{"n": 1}]
    kept.close()


def test_the_log_of_a_deleted_store_is_kept(file_store: Store, file_url: str) -> None:
    file_store.runs.insert({"n": 1})
    log = path_of(f"{file_url}-wal").read_bytes()
    path_of(file_url).unlink()
    assert file_store.is_lost
    Store(file_url).close()
    [kept] = path_of(file_url).parent.glob("*.damaged-*-wal")
    assert kept.read_bytes() == log


def test_a_store_that_many_create_at_once_is_one_store(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def create(folder: Path) -> str:
        start.wait(30)
        with contextlib.closing(Store(f"sqlite:///{folder}/axon.db")) as store:
            store.runs.insert({})
            return store.id

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            folder = tmp_path / str(number)
            assert len(set(pool.map(create, [folder] * 8))) == 1
            assert not list(folder.glob("*.damaged-*"))
            with contextlib.closing(Store(f"sqlite:///{folder}/axon.db")) as store:
                assert len(store.runs) == 8


# Folders and permissions.


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be created: .*/file"):
        Store(f"sqlite:///{tmp_path}/file/sub/axon.db")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "axon.db").mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path}/axon.db")


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_pipe_in_place_of_a_file_is_refused(file_url: str, suffix: str) -> None:
    Store(file_url).close()
    pipe = path_of(f"{file_url}{suffix}")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    for opening in (Store, partial(open_store, read_only=True), has_tables):
        with pytest.raises(StoreError, match=f"{pipe.name} cannot be opened: it is a pipe"):
            opening(file_url)


HOLDING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
connection.close()
"""


def test_waiting_for_another_process_is_limited(file_url: str, process: Script) -> None:
    store = Store(file_url, busy_timeout=0.05)
    with process(HOLDING, str(path_of(file_url)), "BEGIN IMMEDIATE") as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.runs.insert({})
        assert store.runs.all() == []
        finish(holder)
    store.runs.insert({})
    assert len(store.runs) == 1
    store.close()


def test_waiting_for_another_process_to_open_is_limited(file_url: str, process: Script) -> None:
    path_of(file_url).touch()
    with process(HOLDING, str(path_of(file_url)), "BEGIN EXCLUSIVE") as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreBusy):
            Store(file_url, busy_timeout=0.05)
        finish(holder)
    Store(file_url).close()


# Network file systems.

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/ann/local rw - xfs /dev/sdb1 rw
32 22 0:26 / /mnt/a\040b rw master:3 - fuse.sshfs x rw
33 22 0:27 / /mnt/données rw - cifs x rw
34 22 0:28 / /auto rw - autofs x rw
35 34 0:29 / /auto rw - lustre x rw
36 22 0:30 / /mnt/back\134slash rw - ceph x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/homes/axon.db", "ext4"),
        ("/home/ann/axon.db", "nfs4"),
        ("/home/ann/local/x/axon.db", "xfs"),
        ("/mnt/a b/axon.db", "fuse.sshfs"),
        ("/mnt/données/axon.db", "cifs"),
        ("/auto/axon.db", "lustre"),
        ("/mnt/back\\slash/axon.db", "ceph"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_a_network_file_system_without_locks_is_refused(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(engine, "NETWORK_FILE_SYSTEMS", {file_system(path_of(file_url))})
    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(StoreError, match=r"without locks; set AxonNotebooks\.store_url to a local"):
        Store(file_url)


def test_on_a_network_file_system_there_is_a_warning_and_no_log(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NETWORK_FILE_SYSTEMS", {file_system(path_of(file_url))})
    with pytest.warns(RuntimeWarning, match="is on a network file system"):
        store = Store(file_url)
    store.runs.insert({})
    assert pragma(store, "journal_mode") == "delete"
    assert pragma(store, "synchronous") == 3  # EXTRA
    assert [path.name for path in path_of(file_url).parent.iterdir()] == ["axon.db"]
    store.close()
