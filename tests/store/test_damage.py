"""A damaged store is moved aside whole, or refused by name; a sound one, or one that cannot be read, is never moved."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from jupyter_axon_notebooks.errors import (
    AxonError,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreTooNew,
)
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateFiles
from jupyter_axon_notebooks.store import Store, brokenlog, damage, default_url, faults, open_store
from jupyter_axon_notebooks.store.brokenlog import LogKept, passed_over
from jupyter_axon_notebooks.store.damage import SetAside, open_for_work
from jupyter_axon_notebooks.store.faults import find_fault, is_damage, was_ours
from jupyter_axon_notebooks.store.health import examine
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION
from jupyter_axon_notebooks.store.sqlite import file_system

from .conftest import Script, finished

PAGE = 4096


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the default store."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    made = tmp_path / "data" / "axon_notebooks"
    made.mkdir(parents=True)
    return made


@pytest.fixture(autouse=True)
def nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests need not wait for a copy to go on; one takes this back."""
    monkeypatch.setattr(damage, "_STILL", 0.0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of a store with some records in it: ``closed``, and ``killed``, with all that is in the log."""
    folder = tmp_path_factory.mktemp("sound")
    store = open_store(f"sqlite:///{folder}/axon.db")
    repository = NotebookRepository(store)
    for number in range(12):
        cells = [NotebookCell(id=f"c{at}", source=f"print({at})" * 40) for at in range(6)]
        new = NewNotebook(
            id=f"n{number}",
            user_id="ada",
            name="n",
            origin="here",
            path=f"/n{number}.ipynb",
            cells=cells,
        )
        repository.create(new)
        run = repository.runs.start(new.id or "")
        for epoch in range(8):
            metrics = {"loss": epoch / 3}
            repository.create_checkpoint(
                NewCheckpoint(
                    notebook_id=f"n{number}", run_id=run.id, epoch=epoch, step=0, metrics=metrics
                )
            )
    killed = files(folder)
    store.close()
    return {"killed": killed, "closed": files(folder)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder / "axon.db"


def with_marks(sound: dict[str, dict[str, bytes]]) -> bytes:
    """A store whose first page is gone."""
    return bytes(PAGE) + sound["closed"]["axon.db"][PAGE:]


# What is moved.


def test_a_damaged_store_is_moved_aside_whole_and_another_begun(
    folder: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    damaged = {**sound["killed"], "axon.db": bytes(PAGE // 2), "axon.db-wal": b"\0" * 32}
    put(folder, damaged)
    store, aside = open_for_work(default_url())
    assert aside is not None
    assert aside.path == folder / "axon.db"
    assert aside.file.name.startswith("axon.db.damaged-20")
    assert aside.file.name.endswith("Z")
    moved = {name.replace(aside.file.name, "axon.db"): data for name, data in files(folder).items()}
    assert {aside.file.read_bytes(), Path(f"{aside.file}-wal").read_bytes()} == {
        damaged["axon.db"],
        damaged["axon.db-wal"],
    }
    assert moved.keys() == {"axon.db", "axon.db-wal", "axon.db-shm"}
    assert store.notebooks.all() == []
    store.notebooks.insert({"id": "a"})
    for part in (str(aside.path), str(aside.file), "not a database", ".recover", "--store-url"):
        assert part in str(aside)
    store.close()
    again, untouched = open_for_work(default_url())
    assert (len(again.notebooks), untouched) == (1, None)
    again.close()


def test_what_was_moved_aside_is_never_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sound: dict[str, dict[str, bytes]]
) -> None:
    moment = damage.now()
    monkeypatch.setattr(damage, "now", lambda: moment)
    asides = []
    for number in range(3):
        content = bytes([number]) * 5000
        put(folder, {"axon.db": content})
        store, aside = open_for_work(default_url())
        store.close()
        assert aside is not None
        asides.append((aside.file, content))
    assert [file.name.partition("Z")[2] for file, _ in asides] == ["", "-2", "-3"]
    assert all(file.read_bytes() == content for file, content in asides)


def test_where_no_links_can_be_made_files_are_renamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object, **_named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(damage.os, "link", refuse)  # as on FAT
    put(folder, {"axon.db": b"\1" * 5000, "axon.db-wal": b"\2" * 100})
    store, aside = open_for_work(default_url())
    assert aside is not None
    assert aside.file.read_bytes() == b"\1" * 5000
    assert Path(f"{aside.file}-wal").read_bytes() == b"\2" * 100
    store.close()


def test_the_notebooks_of_a_damaged_store_are_known_as_far_as_they_can_be_read(
    folder: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    path = put(folder, sound["closed"])
    with closing(sqlite3.connect(path)) as connection:
        named = "SELECT rootpage FROM sqlite_master WHERE name = 'axonml_metrics'"
        (page,) = connection.execute(named).fetchone()
    content = bytearray(sound["closed"]["axon.db"])
    content[(page - 1) * PAGE : page * PAGE] = b"\xa5" * PAGE
    put(folder, {"axon.db": bytes(content)})
    store, aside = open_for_work(default_url())
    store.close()
    assert aside is not None
    assert aside.files("here") == {f"/n{number}.ipynb": "ada" for number in range(12)}
    assert aside.files("elsewhere") == {}


def test_a_fresh_store_leaves_the_state_files_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    store = open_store(default_url())
    old = StateFiles(tmp_path / "states", store_id=store.id)
    with old.writer("n", "c", "model", format="torch") as writer:
        writer.write(b"weights")
        writer.prepare()
        state = writer.commit()
    store.close()
    put(folder, {"axon.db": b"\1" * 5000})
    fresh, aside = open_for_work(default_url())
    assert aside is not None
    report = StateFiles(tmp_path / "states", store_id=fresh.id).sweep(
        lambda *_: False, older_than=-60
    )
    assert (report.folders, report.temporaries) == ([], [])
    assert Path(state.path).read_bytes() == b"weights"
    fresh.close()


def test_a_log_without_its_file_is_kept(folder: Path, sound: dict[str, dict[str, bytes]]) -> None:
    log = sound["killed"]["axon.db-wal"]
    put(folder, {"axon.db-wal": log})
    with pytest.raises(StoreDamaged, match=r"axon\.db-wal beside it is not"):
        open_store(default_url())
    store, aside = open_for_work(default_url())
    assert aside is not None
    assert Path(f"{aside.file}-wal").read_bytes() == log
    assert store.notebooks.all() == []
    store.close()


@pytest.mark.parametrize("place", [3, 17, 25, 32 + 9, 32 + 20, -1])
def test_a_log_that_is_broken_is_kept_before_the_rest_of_it_is_passed_over(
    folder: Path, sound: dict[str, dict[str, bytes]], place: int
) -> None:
    log = bytearray(sound["killed"]["axon.db-wal"])
    log[place if place >= 0 else len(log) // 2] ^= 1
    put(folder, {**sound["killed"], "axon.db-wal": bytes(log), "axon.db-shm": b""})
    store, kept = open_for_work(default_url())
    store.close()
    assert isinstance(kept, LogKept)
    assert kept.count > 1
    assert kept.file.read_bytes() == bytes(log)
    assert kept.file.name.startswith("axon.db-wal.damaged-20")
    assert str(kept.file) in str(kept)
    again, nothing = open_for_work(default_url())
    again.close()
    assert nothing is None


def test_a_log_as_a_crash_leaves_it_is_sound(
    tmp_path: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    log = sound["killed"]["axon.db-wal"]
    frame = 24 + PAGE
    for cut in (
        log,
        log[:-1],
        log[: len(log) // 2],
        log[: 32 + 3 * frame],
        log + bytes(3 * frame),
        b"",
        b"x" * 40,
    ):
        path = put(tmp_path, {"axon.db-wal": cut}).with_name("axon.db-wal")
        assert passed_over(path) == 0
    torn = bytearray(log)
    torn[-frame + 100] ^= 1  # in the last frame
    assert passed_over(put(tmp_path, {"axon.db-wal": bytes(torn)}).with_name("axon.db-wal")) == 0


def test_a_log_that_changes_while_it_is_read_is_sound(
    tmp_path: Path, sound: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = sound["killed"]["axon.db-wal"]
    torn = bytearray(
        log
    )  # the header was read before the log was begun anew, the first frame after
    torn[32 + 8] ^= 1
    contents: Iterator[bytes] = iter(())  # what is found at each look
    monkeypatch.setattr(brokenlog, "read_regular", lambda *_: next(contents))
    broken = bytearray(log)
    broken[32 + 20] ^= 1
    elsewhere = bytearray(log)
    elsewhere[len(log) // 2] ^= 1
    for one, other in (
        (torn, log),
        (torn, b""),
        (torn, log[:20]),
        (log[:20], log),
        (broken, elsewhere),
    ):
        contents = iter([bytes(one), bytes(other)])
        assert passed_over(tmp_path) == 0
    for content in (torn, broken, elsewhere):
        contents = iter([bytes(content)] * 2)
        assert passed_over(tmp_path) > 1


# What is not.


@pytest.mark.parametrize(
    "content", [b'{"cells": ["CREATE TABLE axon_properties"]}' * 200, b"\x89PNG\0" * 2000]
)
def test_a_file_that_was_never_a_store_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.ipynb"
    path.write_bytes(content)
    with pytest.raises(
        StoreDamaged, match=r"not a database; it does not look like a store.*store_url"
    ):
        open_for_work(f"sqlite:///{path}")
    assert files(tmp_path) == {"train.ipynb": content}


def test_a_store_of_ours_is_moved_aside_wherever_it_is(
    tmp_path: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    path = tmp_path / "mine.db"
    path.write_bytes(with_marks(sound))
    store, aside = open_for_work(f"sqlite:///{path}")
    assert aside is not None
    assert aside.file.read_bytes() == with_marks(sound)
    store.close()


def test_opening_without_a_server_moves_nothing(folder: Path) -> None:
    put(folder, {"axon.db": b"\1" * 5000})
    with pytest.raises(StoreDamaged, match="not a database"):
        open_store(default_url())
    assert files(folder) == {"axon.db": b"\1" * 5000}


def test_a_newer_store_is_not_a_damaged_one(
    folder: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    path = put(folder, sound["closed"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE axon_properties SET value = '{SCHEMA_VERSION + 1}'")
        # As a table of a newer SQLite looks to an older one.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = sql || ' NEWER' WHERE name = 'axonml_runs'"
        )
    with pytest.raises(StoreError) as caught:
        open_for_work(default_url())
    assert isinstance(caught.value, StoreTooNew | StoreDamaged)
    assert [path.name for path in folder.iterdir() if "damaged" in path.name] == []


def test_a_locked_store_is_not_a_damaged_one(
    folder: Path, sound: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder, sound["closed"])
    monkeypatch.setattr(faults, "_PATIENCE", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert find_fault(path) is None
        with pytest.raises(StoreBusy):
            Store(default_url(), busy_timeout=0.01)


def test_a_store_that_is_being_put_back_is_not_a_damaged_one(
    folder: Path, sound: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "_STILL", 0.5)
    content = sound["closed"]["axon.db"]
    path = put(folder, {"axon.db": content[: len(content) // 2]})
    stop = threading.Event()

    def copy() -> None:
        with path.open("ab") as file:
            for at in range(len(content) // 2, len(content) - PAGE, 8):
                file.write(content[at : at + 8])
                file.flush()
                if stop.wait(0.01):
                    break
            file.write(content[file.tell() :])

    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy)
        try:
            with pytest.raises(StoreBusy, match="is being written to just now; try again"):
                open_for_work(default_url())
        finally:
            stop.set()
        copying.result()
    store, aside = open_for_work(default_url())
    assert (aside, len(store.notebooks)) == (None, 12)
    store.close()


def test_on_a_network_file_system_a_store_that_looks_damaged_stays(
    folder: Path, sound: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "NETWORK_FILE_SYSTEMS", {file_system(folder)})
    put(folder, {"axon.db": with_marks(sound)})
    with pytest.raises(StoreDamaged, match=r"network file system \(.+\), so it stays where it is"):
        open_for_work(default_url())
    assert files(folder) == {"axon.db": with_marks(sound)}


@pytest.mark.parametrize(
    "report",
    [
        "*** in database main ***\nPage 21: unable to get the page. error code=8458",  # SQLITE_IOERR_…
        "*** in database main ***\nPage 4: unable to get the page. error code=7",  # SQLITE_NOMEM
        "*** in database main ***\nOn tree page 3 cell 2: unable to get the page. error code=266",
        "NULL value in mine.a",
        "row 3 missing from index mine",
    ],
)
def test_a_page_that_cannot_be_read_is_no_damage(report: str) -> None:
    assert not is_damage(
        report
    )  # as SQLite's check reported what a disk and a lack of memory did to it


FOREIGN = {
    "a row that its table does not admit": (
        "CREATE TABLE mine (a); INSERT INTO mine VALUES (NULL)",
        "CREATE TABLE mine (a NOT NULL)",
    ),
    "a view that only a newer SQLite can read": (
        "CREATE VIEW mine AS SELECT id FROM axonml_runs",
        "CREATE VIEW mine AS SELECT id ->>> 1 FROM axonml_runs",
    ),
    "an index that only a newer SQLite can read": (
        "CREATE INDEX mine ON axonml_runs (id)",
        "CREATE INDEX mine ON axonml_runs (id) NEWER",
    ),
}


@pytest.mark.parametrize("what", list(FOREIGN))
def test_what_somebody_else_has_put_there_is_no_damage(
    folder: Path, sound: dict[str, dict[str, bytes]], what: str
) -> None:
    path = put(folder, sound["closed"])
    made, then = FOREIGN[what]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(made)
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'mine'", [then])
        connection.commit()
    assert find_fault(path) is None
    if "NOT NULL" in then:
        open_for_work(default_url())[0].close()
    else:
        with pytest.raises(StoreDamaged, match=r"cannot read a definition in it.*\(mine\)"):
            open_for_work(default_url())
    assert list(files(folder)) == ["axon.db"]


@pytest.mark.parametrize(
    ("done", "fault"),
    [
        (
            "UPDATE sqlite_master SET sql = sql || ' NEWER' WHERE name = 'axonml_runs'",
            "axonml_runs",
        ),
        (
            "ALTER TABLE axonml_runs ADD COLUMN more; "
            "UPDATE sqlite_master SET sql = replace(sql, 'more', 'more NOT NULL') WHERE name = 'axonml_runs'",
            "NULL value in axonml_runs.more",
        ),
    ],
)
def test_what_is_wrong_with_a_table_of_ours_is_damage(
    folder: Path, sound: dict[str, dict[str, bytes]], done: str, fault: str
) -> None:
    path = put(folder, sound["closed"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.executescript(done)
    assert fault in (find_fault(path) or "")


def test_an_empty_file_and_none_at_all_are_no_damage(folder: Path) -> None:
    assert find_fault(folder / "axon.db") is None
    (folder / "axon.db").touch()
    assert find_fault(folder / "axon.db") is None


def test_of_a_large_store_only_what_opening_reads_is_looked_at(
    folder: Path, sound: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(sound["closed"]["axon.db"])
    content[-PAGE:] = b"\xa5" * PAGE
    path = put(folder, {"axon.db": bytes(content)})
    assert find_fault(path) is not None
    monkeypatch.setattr(faults, "CHECKED_WHOLE", PAGE)
    assert find_fault(path) is None
    store, aside = open_for_work(default_url())
    assert aside is None
    store.close()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_damaged_store_of_a_terabyte_of_nothing_is_found_at_once(
    folder: Path, sound: dict[str, dict[str, bytes]], suffix: str
) -> None:
    path = put(folder, {"axon.db": b"\0" * PAGE + sound["closed"]["axon.db"][PAGE:]})
    large = path.with_name(path.name + suffix)
    large.touch()
    os.truncate(large, 1 << 40)
    found: list[object] = []
    looking = threading.Thread(
        target=lambda: found.append((find_fault(path), was_ours(path))), daemon=True
    )
    looking.start()
    looking.join(10)
    assert found == [("file is not a database", True)]


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_pipe_beside_a_store_is_named_and_not_waited_for(
    folder: Path, sound: dict[str, dict[str, bytes]], suffix: str
) -> None:
    path = put(folder, {"axon.db": sound["closed"]["axon.db"]})
    os.mkfifo(path.with_name(path.name + suffix))
    found: list[object] = []

    def look() -> None:
        found.append(find_fault(path))
        found.append(examine(path).faults)
        with pytest.raises(StoreError, match=f"axon.db{suffix} cannot be opened: it is a pipe"):
            open_for_work(default_url())
        found.append("named")

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(10)
    assert found == [None, [f"axon.db{suffix}: it is a pipe, not a regular file"], "named"]


# Several servers.

OPENING = """
import sys
from jupyter_axon_notebooks.store import Document
from jupyter_axon_notebooks.store.damage import open_for_work
print("ready", flush=True)
sys.stdin.readline()
store, aside = open_for_work(sys.argv[1])
store.runs.insert(Document({}, sys.argv[2]))
print("moved" if aside else "opened", flush=True)
sys.stdin.readline()
store.close()
"""


def test_servers_that_find_the_same_damage_move_it_once(tmp_path: Path, process: Script) -> None:
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        content = b"CREATE TABLE axon_properties\0" * 300
        path = put(folder, {"axon.db": content})
        url = f"sqlite:///{path}"
        with (
            process(OPENING, url, "a") as a,
            process(OPENING, url, "b") as b,
            process(OPENING, url, "c") as c,
        ):
            for expected in ("ready\n", None):
                said = [one.stdout.readline() for one in (a, b, c)]
                for one in (a, b, c):
                    one.stdin.write("\n")
                    one.stdin.flush()
                assert expected is None or said == [expected] * 3
            assert sorted(said) == ["moved\n", "opened\n", "opened\n"]
            for one in (a, b, c):
                finished(one)
        assert [file.read_bytes() for file in folder.glob("*Z")] == [content]
        assert not (folder / "axon.db.moving").exists()
        store = open_store(url)
        assert sorted(str(found.doc_id) for found in store.runs) == ["a", "b", "c"]
        store.close()


# Any damage.


def damaged(content: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """``content`` with some damage to one of its files."""
    name = rng.choice([name for name in content if not name.endswith("-shm")])
    data = bytearray(content[name])
    page = PAGE * rng.randrange(len(data) // PAGE)
    pages = PAGE * rng.choice((1, 1, 3))
    match rng.choice(("bits", "zeros", "noise", "cut", "header", "swap")):
        case "bits":
            for _ in range(rng.choice((1, 40))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case "zeros":
            data[page : page + pages] = bytes(len(data[page : page + pages]))
        case "noise":
            data[page : page + pages] = rng.randbytes(len(data[page : page + pages]))
        case "cut":
            del data[rng.randrange(len(data)) :]
        case "header":
            for _ in range(3):
                data[rng.randrange(100)] = rng.randrange(256)
        case "swap":
            data[page : page + PAGE], data[:PAGE] = data[:PAGE], data[page : page + PAGE]
    return {**content, name: bytes(data)}


def use(store: Store) -> None:
    """Do a bit of everything; what fails must fail by name."""
    repository = NotebookRepository(store)
    for of in ("n0", "n5", "n11"):
        reading = (
            repository.find_by_id,
            repository.list_checkpoints,
            repository.versions.list,
            repository.runs.list,
            partial(repository.get_best_checkpoint, metric_key="loss", minimize=True),
        )
        changing = (
            lambda at: repository.create_checkpoint(
                NewCheckpoint(notebook_id=at, epoch=99, step=0, metrics={"loss": 1})
            ),
            partial(repository.add_cell, cell=NotebookCell(id="new", source="1")),
            lambda _id: repository.create(NewNotebook(user_id="ada", name="m")),
            repository.delete,
        )
        for act in (
            *reading,
            lambda _id: repository.list_all(),
            repository.bindings.list,
            *changing,
        ):
            try:
                act(of)
            except AxonError:
                continue


@pytest.fixture
def anew(folder: Path) -> Iterator[Path]:
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("state", ["closed", "killed"])
@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_damaged_fails_by_name_and_no_byte_is_lost(
    anew: Path, sound: dict[str, dict[str, bytes]], state: str, seed: int
) -> None:
    content = damaged(sound[state], random.Random(seed))
    put(anew, content)
    store, aside = open_for_work(default_url())
    if isinstance(aside, SetAside):
        for name in ("axon.db", "axon.db-wal"):
            if name in content:
                assert (
                    anew.joinpath(name.replace("axon.db", aside.file.name)).read_bytes()
                    == content[name]
                )
    elif aside is not None:
        assert aside.file.read_bytes() == content["axon.db-wal"]
    use(store)
    store.close()


# Links.


@pytest.fixture
def linked(folder: Path, tmp_path: Path) -> Path:
    """The folder that the default store lies in, the default path being a link to it."""
    real = tmp_path / "large disk"
    real.mkdir()
    (folder / "axon.db").symlink_to(real / "axon.db")
    return real


def test_through_a_link_a_log_without_its_file_is_kept(
    folder: Path, linked: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    log = sound["killed"]["axon.db-wal"]
    put(linked, {"axon.db-wal": log})
    with pytest.raises(StoreDamaged, match=r"axon\.db-wal beside it is not"):
        open_store(default_url())
    store, aside = open_for_work(default_url())
    assert isinstance(aside, SetAside)
    assert Path(f"{aside.file}-wal").read_bytes() == log
    assert (linked / "axon.db").exists()
    assert (folder / "axon.db").is_symlink()
    store.close()


def test_through_a_link_a_damaged_store_is_moved_with_its_log(
    linked: Path, sound: dict[str, dict[str, bytes]]
) -> None:
    content = {**sound["killed"], "axon.db": with_marks(sound), "axon.db-wal": b"\0" * 32}
    put(linked, content)
    store, aside = open_for_work(default_url())
    assert isinstance(aside, SetAside)
    assert aside.file.parent == linked
    assert aside.file.read_bytes() == content["axon.db"]
    assert Path(f"{aside.file}-wal").read_bytes() == content["axon.db-wal"]
    store.close()


def test_through_a_link_nothing_is_moved_that_was_never_a_store(linked: Path) -> None:
    put(linked, {"axon.db": b"\1" * 5000})
    with pytest.raises(StoreDamaged, match="does not look like a store"):
        open_for_work(default_url())
    assert files(linked) == {"axon.db": b"\1" * 5000}


def test_a_link_that_leads_elsewhere_by_now_is_noticed(folder: Path, linked: Path) -> None:
    store = open_store(default_url())
    assert not store.is_lost
    (folder / "axon.db").unlink()
    open_store(f"sqlite:///{linked}/other.db").close()
    (folder / "axon.db").symlink_to(linked / "other.db")
    assert store.is_lost
    store.close()
