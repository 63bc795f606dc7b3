"""Tests of saves while the store or a disk is unavailable."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support import disks
from support.factories import new_notebook, new_save_from
from support.server_processes import Server, notebook, write

from jupyter_axon_notebooks.records import new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.sqlite.files import rename_files

Servers = Callable[..., Server]

_ORIGIN = "0b7e6c52-7d6c-4c5e-9a55-2f3f0d0f9a11"


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """A full disk."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free))
    yield
    ballast.unlink()


@contextmanager
def locked(store: Path, how: str) -> Iterator[None]:
    """A store that is locked by another program."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute(how)
        connection.execute("BEGIN EXCLUSIVE")
        yield


def left_behind(home: Path, *names: str) -> dict[str, str]:
    """Create notebooks with records for a later server; return their ids by name."""
    ids = {name: new_id() for name in names}
    kept = home / "data" / "axon_notebooks"
    with closing(open_store(f"sqlite:///{kept}/axon.db")) as made:
        repository = NotebookRepository(made)
        for name, id in ids.items():
            content = notebook(name, axon={"notebook_id": id})
            file = write(home / "root" / f"{name}.ipynb", content)
            new = new_notebook(id=id, name=name, origin=_ORIGIN, path=str(file))
            repository.create(new, new_save_from(content))
    (kept / "origin").write_text(_ORIGIN)
    return ids


def store(server: Server) -> Path:
    return server.data / "axon_notebooks" / "axon.db"


def hold_to_sources(server: Server, path: str, *sources: str) -> None:
    """Compare a record with what was saved, without reading its file."""
    record = server.got(f"/notebooks/{server.record(path)['id']}")
    assert [cell["source"] for cell in record["cells"]] == list(sources), server.log


def test_a_read_only_folder_keeps_its_records(servers: Servers, tmp_path: Path) -> None:
    answers = []
    for name, extensions in (("ours", ["jupyter_axon_notebooks"]), ("bare", [])):
        disk = tmp_path / f"disk-{name}"
        server = servers(
            name, root=disk, inside=disks.small_disk(disk, "8m"), extensions=extensions
        )
        assert server.save("a.ipynb", notebook("1")).status == 201
        disks.remount(server.pid, disk, "ro")
        refused = [server.save("a.ipynb", notebook("2")), server.save("b.ipynb", notebook("2"))]
        refused += [server.rename("a.ipynb", "c.ipynb"), server.contents("DELETE", "a.ipynb")]
        answers.append(
            [(answer.status, answer.json["message"].replace(str(disk), "")) for answer in refused]
        )
        if extensions:
            assert [record["path"] for record in server.records()] == ["a.ipynb"]
            hold_to_sources(server, "a.ipynb", "1")
        disks.remount(server.pid, disk, "rw")
        assert server.save("a.ipynb", notebook("3")).status == 200
        if extensions:
            hold_to_sources(server, "a.ipynb", "3")
    assert answers[0] == answers[1]


def test_a_full_notebook_disk_is_recovered_from(servers: Servers, tmp_path: Path) -> None:
    statuses = []
    for name, extensions in (("ours", ["jupyter_axon_notebooks"]), ("bare", [])):
        disk = tmp_path / f"disk-{name}"
        server = servers(
            name, root=disk, inside=disks.small_disk(disk, "1m"), extensions=extensions
        )
        assert server.save("a.ipynb", notebook("1")).status == 201
        with filled(disks.path_seen_by(server.pid, disk)):
            statuses.append(
                [server.save(f"{file}.ipynb", notebook("2" * 9000)).status for file in "ab"]
            )
        assert server.save("a.ipynb", notebook("3")).status == 200
        if extensions:
            hold_to_sources(server, "a.ipynb", "3")
    assert statuses[0] == statuses[1]


def test_a_full_store_disk_delays_no_save(servers: Servers, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    config = {"AxonNotebooks": {"store_url": f"sqlite:///{disk}/axon.db"}}
    server = servers(config=config, inside=disks.small_disk(disk, "8m"))
    assert server.save("a.ipynb", notebook("1")).status == 201
    id = server.record("a.ipynb")["id"]
    hold_to_sources(server, "a.ipynb", "1")
    with filled(disks.path_seen_by(server.pid, disk)):
        for name in "ab":
            assert server.save(f"{name}.ipynb", notebook("x" * 50_000)).status in (200, 201)
        shown = server.axon("GET", f"/notebooks/{id}")
        assert (
            [cell["source"] for cell in shown.json["cells"]],
            shown.headers["X-Axon-Stale"],
        ) == (["1"], "true")
    for name in "ab":
        hold_to_sources(server, f"{name}.ipynb", "x" * 50_000)
    server.stop()
    assert "not recorded for now" in server.log
    assert "the disk is full" in server.log
    assert "notebooks are recorded again" in server.log


def test_a_locked_store_delays_no_save(servers: Servers) -> None:
    server = servers()
    assert server.save("a.ipynb", notebook("1")).status == 201
    hold_to_sources(server, "a.ipynb", "1")
    with locked(store(server), "PRAGMA journal_mode=WAL"):
        assert server.save("a.ipynb", notebook("2")).status == 200
        assert server.save("b.ipynb", notebook("3")).status == 201
    hold_to_sources(server, "a.ipynb", "2")
    hold_to_sources(server, "b.ipynb", "3")


def test_a_server_starts_with_a_locked_store(servers: Servers, tmp_path: Path) -> None:
    ids = left_behind(tmp_path / "server", "a")
    with locked(tmp_path / "server/data/axon_notebooks/axon.db", "PRAGMA locking_mode=EXCLUSIVE"):
        server = servers()
        assert server.save("a.ipynb", notebook("2")).status == 200
        assert server.save("b.ipynb", notebook("3")).status == 201
        answer = server.axon("GET", "/notebooks")
        assert (answer.status, str(store(server)) in answer.json["message"]) == (503, True)
    server.wait_for_its_store()
    hold_to_sources(server, "a.ipynb", "2")
    hold_to_sources(server, "b.ipynb", "3")
    assert server.record("a.ipynb")["id"] == ids["a"]


def test_a_file_that_is_no_store_is_refused_until_it_is_removed(
    servers: Servers, tmp_path: Path
) -> None:
    mistaken = tmp_path / "model.bin"
    mistaken.write_bytes(b"no database at all" * 1000)
    server = servers(config={"AxonNotebooks": {"store_url": f"sqlite:///{mistaken}"}})
    assert server.save("a.ipynb", notebook("1")).status == 201
    for method, path in (
        ("GET", "/notebooks"),
        ("POST", "/notebooks"),
        ("GET", "/notebooks/x"),
        ("GET", "/x"),
    ):
        answer = server.axon(method, path)
        assert answer.status == 503
        assert answer.json["message"].startswith(
            f"the store sqlite:///{mistaken}: the file is not a database"
        )
    assert server.ask("GET", "/axon/notebooks", headers={}).status == 403
    assert mistaken.read_bytes() == b"no database at all" * 1000
    mistaken.unlink()
    server.wait_for_its_store()
    hold_to_sources(server, "a.ipynb", "1")
    server.save("b.ipynb", notebook("2"))
    assert server.assert_recorded("b.ipynb")["id"] == server.embedded("b.ipynb")
    server.stop()
    assert server.log.count("not recorded for now") == 1
    assert "Traceback" not in server.log


def test_a_damaged_store_is_refused_while_saves_continue(servers: Servers) -> None:
    server = servers()
    server.wait_for_its_store()
    for name in "ab":
        server.save(f"{name}.ipynb", notebook(name))
        server.record(f"{name}.ipynb")
    with closing(sqlite3.connect(store(server))) as connection:
        moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert moved == (0, 0, 0)  # the log was checkpointed
    with store(server).open("r+b") as file:
        file.write(b"\xa5" * store(server).stat().st_size)
    answer = server.axon("GET", "/notebooks")
    assert (answer.status, str(store(server)) in answer.json["message"]) == (503, True)
    assert "run `jupyter axon doctor`" in answer.json["message"]
    assert server.save("a.ipynb", notebook("c")).status == 200
    assert server.save("c.ipynb", notebook("d")).status == 201
    rename_files(store(server))
    hold_to_sources(server, "a.ipynb", "c")
    hold_to_sources(server, "b.ipynb", "b")
    hold_to_sources(server, "c.ipynb", "d")
    server.stop()
    assert "Traceback" not in server.log


def test_a_removed_store_is_created_again(servers: Servers) -> None:
    server = servers()
    server.wait_for_its_store()  # so that saves embed ids
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    shutil.rmtree(server.data / "axon_notebooks")
    assert server.save("a.ipynb", notebook("2")).status == 200
    hold_to_sources(server, "a.ipynb", "2")
    assert server.record("a.ipynb")["id"] == id
    shutil.rmtree(server.data / "axon_notebooks")
    assert [record["id"] for record in server.records()] == [id]  # without a save
    shutil.rmtree(server.data / "axon_notebooks")
    server.stop()
    server.start()
    assert server.records() == []
    assert server.save("a.ipynb", server.contents("GET", "a.ipynb").json["content"]).status == 200
    hold_to_sources(server, "a.ipynb", "2")
    assert server.record("a.ipynb")["id"] == id


def remove_file(path: Path) -> None:
    path.unlink()


def remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def remove_index(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def put_another_in_its_place(path: Path) -> None:
    for old in path.parent.glob("axon.db*"):
        old.unlink()
    open_store(f"sqlite:///{path}").close()


def put_a_link_in_the_folders_place(path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    elsewhere.mkdir()
    shutil.copy(path.parent / "origin", elsewhere)
    shutil.rmtree(path.parent)
    path.parent.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "act",
    [
        remove_file,
        remove_log,
        remove_index,
        put_another_in_its_place,
        put_a_link_in_the_folders_place,
    ],
)
def test_changes_of_the_store_file_under_a_server_are_detected(
    servers: Servers, act: Callable[[Path], None]
) -> None:
    server = servers()
    server.wait_for_its_store()  # so that saves embed ids
    ids = {}
    for name in "ab":
        server.save(f"{name}.ipynb", notebook(name))
        ids[name] = server.record(f"{name}.ipynb")["id"]
    act(store(server))
    for name in "ab":  # without a save
        hold_to_sources(server, f"{name}.ipynb", name)
    server.save("c.ipynb", notebook("c"))
    server.record("c.ipynb")
    server.stop(signal.SIGKILL)  # deletes files without a name
    with closing(open_store(f"sqlite:///{store(server)}")) as opened:
        kept = {
            notebook["path"].rpartition("/")[2]: notebook["id"]
            for notebook in opened.notebooks.all()
        }
    assert kept.keys() == {"a.ipynb", "b.ipynb", "c.ipynb"}
    assert {name: kept[f"{name}.ipynb"] for name in "ab"} == ids


def test_a_server_starts_with_a_read_only_store(servers: Servers, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    config = {"AxonNotebooks": {"store_url": f"sqlite:///{folder}/axon.db"}}
    open_store(f"sqlite:///{folder}/axon.db").close()
    server = servers(config=config, inside=disks.read_only_folder(folder))
    assert server.save("a.ipynb", notebook("1")).status == 201
    answer = server.axon("GET", "/notebooks")
    assert (answer.status, str(folder) in answer.json["message"]) == (503, True)
    assert "writable" in answer.json["message"] or "read-only" in answer.json["message"]
    disks.remount(server.pid, folder, "rw,bind")
    server.wait_for_its_store()
    hold_to_sources(server, "a.ipynb", "1")
