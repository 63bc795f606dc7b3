"""A store opens, or says what is in the way, and then has changed nothing."""

# ruff: noqa: PT012 - what fails here is the end of a block, not one statement of it

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.engines import new_url

from jupyter_axon_notebooks.errors import NoSpace, StoreBusy, StoreDamaged, StoreError, StoreTooNew
from jupyter_axon_notebooks.store import Document, Store, default_url, has_tables, open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.store.sqlite import engine

from .conftest import Script, finished


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def pragma(store: Store, name: str) -> object:
    with store.snapshot() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_the_default_store_is_in_jupyters_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    assert default_url() == f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db"
    store = open_store()
    assert store.url == default_url()
    store.runs.insert({})
    assert (tmp_path / "data/axon_notebooks/axon.db").exists()
    store.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    previous = os.umask(0o000)
    try:
        store = Store(f"sqlite:///{tmp_path}/new/deep/axon.db")
        store.runs.insert({})
        folder = tmp_path / "new/deep"
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())
        }
        assert modes == {
            "deep": 0o700,
            "axon.db": 0o600,
            "axon.db-wal": 0o600,
            "axon.db-shm": 0o600,
        }
        store.close()
    finally:
        os.umask(previous)


def test_every_connection_commits_to_the_disk(file_store: Store) -> None:
    for _ in range(2):
        assert pragma(file_store, "journal_mode") == "wal"
        assert pragma(file_store, "synchronous") == 2  # FULL
        assert pragma(file_store, "fullfsync") == 1
        assert pragma(file_store, "busy_timeout") == 30_000
        file_store.close()


def test_where_there_can_be_no_log_a_commit_is_as_durable(file_url: str) -> None:
    # Locks that are files: then SQLite has no memory that it could share, and so no log.
    other = f"{path_of(file_url).as_uri()}?vfs=unix-dotfile"
    with contextlib.closing(sqlite3.connect(other, uri=True, isolation_level=None)) as connection:
        engine.make_durable(connection, "wal", 0.1)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA


@pytest.mark.parametrize("name", ["a b", "100%", "what?", "é", "#1", "file:x", "'"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    store = Store(f"sqlite:///{tmp_path}/{name}/axon.db")
    store.runs.insert({"a": 1})
    assert (tmp_path / name / "axon.db").exists()
    store.close()


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///axon.db")
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.runs.insert({})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    store.close()


def test_what_was_stored_is_there_when_opened_again(file_url: str) -> None:
    for expected in range(3):
        store = Store(file_url)
        assert len(store.runs) == expected
        store.runs.insert({})
        store.close()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "sqlite://", "sqlite:///", "/path/axon.db", "memory:"]
)
def test_a_url_of_another_kind_is_named(url: str) -> None:
    with pytest.raises(StoreError, match=r"store_url starts with .*; expected sqlite:///<path"):
        Store(url)


def set_version(url: str, version: object) -> None:
    with contextlib.closing(sqlite3.connect(path_of(url))) as connection:
        connection.execute(
            "UPDATE axon_properties SET value = ? WHERE name = 'schema_version'", [version]
        )
        connection.commit()


def test_a_newer_store_is_refused_and_left_alone(file_url: str) -> None:
    Store(file_url).close()
    set_version(file_url, SCHEMA_VERSION + 1)
    before = path_of(file_url).read_bytes()
    with pytest.raises(
        StoreTooNew, match=rf"has schema version {SCHEMA_VERSION + 1}.*upgrade jupyter-axon"
    ):
        Store(file_url)
    assert path_of(file_url).read_bytes() == before
    assert [path.name for path in path_of(file_url).parent.iterdir()] == ["axon.db"]


@pytest.mark.parametrize(
    "content",
    [b"not a database, for all its length" * 200, b"x", b"SQLite format 3\0" + b"x" * 9000],
)
def test_a_file_that_is_not_a_database_is_left_alone(file_url: str, content: bytes) -> None:
    path_of(file_url).write_bytes(content)
    with pytest.raises(StoreError, match=r"not a database|damaged"):
        Store(file_url)
    assert path_of(file_url).read_bytes() == content


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_of_somebody_else_is_left_alone(file_url: str, journal: str) -> None:
    path = path_of(file_url)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.executescript("CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    before = path.read_bytes()
    for opening in (Store, partial(open_store, read_only=True), has_tables):
        with pytest.raises(
            StoreError, match="is a database, but not a store of jupyter-axon-notebooks"
        ):
            opening(file_url)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["axon.db"]


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        (
            "DELETE FROM axon_properties WHERE name = 'schema_version'",
            "its schema version is missing",
        ),
        (
            "UPDATE axon_properties SET value = 'x' WHERE name = 'schema_version'",
            "its schema version is x",
        ),
        (
            "UPDATE axon_properties SET value = '0' WHERE name = 'schema_version'",
            "its schema version is 0",
        ),
        ("DELETE FROM axon_properties WHERE name = 'store_id'", "its id is missing"),
        ("DROP TABLE axon_properties", "its properties are missing"),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_store_that_has_lost_what_it_is_is_damaged(
    tmp_path: Path, engine: str, lost: str, what: str
) -> None:
    url = new_url(engine, tmp_path, empty=False)
    store = Store(url)
    with store.transaction() as connection:
        connection.exec_driver_sql(lost)
    store.close()
    assert has_tables(url)  # so nobody is told that nothing has been recorded
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=what):
            Store(url)


def test_an_empty_file_becomes_a_store(file_url: str) -> None:
    path_of(file_url).touch()
    store = Store(file_url)
    store.runs.insert({})
    assert len(store.runs) == 1
    store.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be created: .*/file"):
        Store(f"sqlite:///{tmp_path}/file/sub/axon.db")


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "axon.db").mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path}/axon.db")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` as one that cannot be written to, by whatever means the user of this test has."""
    if os.geteuid() == 0:  # modes mean nothing to root
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    modes = {path: path.stat().st_mode for path in (*folder.iterdir(), folder)}
    for path in modes:
        path.chmod(0o500)
    try:
        yield
    finally:
        for path, mode in reversed(modes.items()):
            path.chmod(mode)


def test_a_read_only_folder_is_named_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    url = f"sqlite:///{folder}/axon.db"
    store = Store(url)
    store.runs.insert({})
    store.close()
    before = path_of(url).read_bytes()
    with read_only(folder):
        with pytest.raises(StoreError, match=r"cannot be opened|read-only"):
            Store(url).runs.insert({})
        with pytest.raises(StoreError, match="cannot be created"):
            Store(f"sqlite:///{folder}/new/axon.db")
    assert path_of(url).read_bytes() == before
    store.runs.insert({})
    assert len(store.runs) == 2
    store.close()


HOLDING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
connection.close()
"""


def test_another_process_is_waited_for_only_so_long(file_url: str, process: Script) -> None:
    store = Store(file_url, busy_timeout=0.05)
    with process(HOLDING, str(path_of(file_url)), "BEGIN IMMEDIATE") as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.runs.insert({})
        assert store.runs.all() == []  # reading goes on
        finished(holder)
    store.runs.insert({})
    assert len(store.runs) == 1
    store.close()


def test_another_process_is_waited_for_in_opening_only_so_long(
    file_url: str, process: Script
) -> None:
    path_of(file_url).touch()
    with process(HOLDING, str(path_of(file_url)), "BEGIN EXCLUSIVE") as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreBusy):
            Store(file_url, busy_timeout=0.05)
        finished(holder)
    Store(file_url).close()


# A full disk.


@pytest.fixture
def limited(file_store: Store) -> tuple[Store, Callable[[], None]]:
    """A store with little room, and what makes more."""

    def limit(pages: int) -> None:
        with file_store.snapshot() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    limit(200)
    return file_store, lambda: limit(100_000)


def test_a_full_disk_loses_nothing_and_is_got_over(
    limited: tuple[Store, Callable[[], None]],
) -> None:
    store, make_room = limited
    stored = []
    with pytest.raises(NoSpace, match="the disk is full"):
        while True:
            name = f"i{len(stored)}"
            store.runs.insert(Document({"id": name, "notes": "x" * 20_000}, name))
            stored.append(name)
    assert len(stored) > 5
    assert [d.doc_id for d in store.runs] == stored
    with pytest.raises(NoSpace), store.transaction():
        store.runs.insert(Document({"notes": "y" * 5_000_000}, "too much"))
    assert [d.doc_id for d in store.runs] == stored
    make_room()
    store.runs.insert(Document({"notes": "x" * 20_000}, "last"))
    assert [d.doc_id for d in store.runs] == [*stored, "last"]


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
        ("/axon.db", "ext4"),
        ("/homes/axon.db", "ext4"),
        ("/home/ann/axon.db", "nfs4"),
        ("/home", "nfs4"),
        ("/home/ann/local/x/axon.db", "xfs"),
        ("/mnt/a b/axon.db", "fuse.sshfs"),
        ("/mnt/données/axon.db", "cifs"),
        ("/auto/axon.db", "lustre"),
        ("/mnt/back\\slash/axon.db", "ceph"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_mount(path: str, kind: str) -> None:
    assert engine.file_system(Path(path), MOUNTS) == kind


def test_the_file_system_here_can_be_told(tmp_path: Path) -> None:
    assert engine.file_system(tmp_path) == engine.file_system(tmp_path / "not" / "there")


def test_a_network_file_system_without_locks_is_named_at_once(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(engine, "NETWORK_FILE_SYSTEMS", {engine.file_system(path_of(file_url))})
    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(
        StoreError, match=r"without locks; set AxonNotebooks\.store_url to a local file"
    ):
        Store(file_url)


def test_on_a_network_file_system_there_is_a_warning_and_no_log(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NETWORK_FILE_SYSTEMS", {engine.file_system(path_of(file_url))})
    with pytest.warns(RuntimeWarning, match="is on a network file system"):
        store = Store(file_url)
    store.runs.insert({})
    assert pragma(store, "journal_mode") == "delete"
    assert pragma(store, "synchronous") == 3  # EXTRA: the removal of the journal is the commit
    assert [path.name for path in path_of(file_url).parent.iterdir()] == ["axon.db"]
    store.close()
