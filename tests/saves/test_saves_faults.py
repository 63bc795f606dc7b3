"""Claims about saves while the store or the disk is out of order: they go on, and the record catches up."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from processes import Server, notebook

Servers = Callable[..., Server]

#: A disk of its own for a server and its children, which nobody else sees.
_DISK = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


def with_disk(folder: Path, size: str) -> list[str]:
    """Runs a command with a small disk at ``folder``."""
    folder.mkdir(parents=True)
    own = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    return [*own, "sh", "-c", _DISK, "sh", size, str(folder)]


def remount(server: Server, folder: Path, options: str) -> None:
    """Change the disk that a server has at ``folder``."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", f"--target={server.pid}", "--mount", *user]
    subprocess.run([*enter, "mount", "-o", f"remount,{options}", str(folder)], check=True)


def seen_by(server: Server, path: Path) -> Path:
    """Where a file that a server sees can be found from here."""
    return Path(f"/proc/{server.pid}/root{path}")


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """A disk without a byte left."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free))
    yield
    ballast.unlink()


@contextmanager
def locked(server: Server, how: str) -> Iterator[None]:
    """A server's store while another program keeps it to itself."""
    with closing(sqlite3.connect(store(server), isolation_level=None)) as connection:
        connection.execute(how)
        connection.execute("BEGIN EXCLUSIVE")
        yield


def store(server: Server) -> Path:
    return server.data / "axon_notebooks" / "axon.db"


def hold_to_sources(server: Server, path: str, *sources: str) -> None:
    """Hold a record to what was saved, without a look at its file."""
    record = server.got(f"/notebooks/{server.record(path)['id']}")
    assert [cell["source"] for cell in record["cells"]] == list(sources), server.log


def test_a_read_only_folder_is_answered_as_ever_and_its_records_stay(
    servers: Servers, tmp_path: Path
) -> None:
    answers = []
    for name, extensions in (("ours", ["jupyter_axon_notebooks"]), ("bare", [])):
        disk = tmp_path / f"disk-{name}"
        server = servers(name, root=disk, inside=with_disk(disk, "8m"), extensions=extensions)
        assert server.save("a.ipynb", notebook("1")).status == 201
        remount(server, disk, "ro")
        refused = [server.save("a.ipynb", notebook("2")), server.save("b.ipynb", notebook("2"))]
        refused += [server.rename("a.ipynb", "c.ipynb"), server.contents("DELETE", "a.ipynb")]
        answers.append([(answer.status, answer.json["message"].replace(str(disk), "")) for answer in refused])
        if extensions:
            assert [record["path"] for record in server.records()] == ["a.ipynb"]
            hold_to_sources(server, "a.ipynb", "1")
        remount(server, disk, "rw")
        assert server.save("a.ipynb", notebook("3")).status == 200
        if extensions:
            hold_to_sources(server, "a.ipynb", "3")
    assert answers[0] == answers[1]


def test_a_full_disk_for_notebooks_is_answered_as_ever_and_got_over(servers: Servers, tmp_path: Path) -> None:
    statuses = []
    for name, extensions in (("ours", ["jupyter_axon_notebooks"]), ("bare", [])):
        disk = tmp_path / f"disk-{name}"
        server = servers(name, root=disk, inside=with_disk(disk, "1m"), extensions=extensions)
        assert server.save("a.ipynb", notebook("1")).status == 201
        with filled(seen_by(server, disk)):
            statuses.append([server.save(f"{file}.ipynb", notebook("2" * 9000)).status for file in "ab"])
        assert server.save("a.ipynb", notebook("3")).status == 200
        if extensions:
            hold_to_sources(server, "a.ipynb", "3")
    assert statuses[0] == statuses[1]


def test_a_full_disk_for_the_store_delays_records_and_no_save(servers: Servers, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    config = {"AxonNotebooks": {"store_url": f"sqlite:///{disk}/axon.db"}}
    server = servers(config=config, inside=with_disk(disk, "8m"))
    assert server.save("a.ipynb", notebook("1")).status == 201
    hold_to_sources(server, "a.ipynb", "1")
    with filled(seen_by(server, disk)):
        for name in "ab":
            assert server.save(f"{name}.ipynb", notebook("x" * 50_000)).status in (200, 201)
        hold_to_sources(server, "a.ipynb", "1")
    for name in "ab":
        hold_to_sources(server, f"{name}.ipynb", "x" * 50_000)
    server.stop()
    assert "records have to wait" in server.log
    assert "the disk is full" in server.log
    assert "takes records again" in server.log


def test_a_locked_store_delays_records_and_no_save(servers: Servers) -> None:
    server = servers()
    assert server.save("a.ipynb", notebook("1")).status == 201
    hold_to_sources(server, "a.ipynb", "1")
    with locked(server, "PRAGMA journal_mode=WAL"):
        assert server.save("a.ipynb", notebook("2")).status == 200
        assert server.save("b.ipynb", notebook("3")).status == 201
    hold_to_sources(server, "a.ipynb", "2")
    hold_to_sources(server, "b.ipynb", "3")


def test_a_server_starts_on_a_store_that_is_locked_and_opens_it_later(servers: Servers) -> None:
    server = servers()
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    server.stop()
    with locked(server, "PRAGMA locking_mode=EXCLUSIVE"):
        server.start()
        assert server.save("a.ipynb", notebook("2")).status == 200
        assert server.save("b.ipynb", notebook("3")).status == 201
        answer = server.axon("GET", "/notebooks")
        assert (answer.status, str(store(server)) in answer.json["message"]) == (503, True)
    hold_to_sources(server, "a.ipynb", "2")
    hold_to_sources(server, "b.ipynb", "3")
    assert server.record("a.ipynb")["id"] == id


def test_a_server_starts_on_a_corrupt_store_and_needs_no_restart_once_it_is_moved_aside(
    servers: Servers,
) -> None:
    server = servers()
    server.stop()
    good = store(server).read_bytes()
    store(server).write_bytes(b"no database at all" * 1000)
    server.start()
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
            f"the store sqlite:///{store(server)}: the file is not a database"
        )
    assert server.ask("GET", "/axon/notebooks", headers={}).status == 403
    store(server).write_bytes(good)
    hold_to_sources(server, "a.ipynb", "1")
    server.save("b.ipynb", notebook("2"))
    assert server.assert_recorded("b.ipynb")["id"] == server.embedded("b.ipynb")
    server.stop()
    assert server.log.count("records have to wait") == 1
    assert "Traceback" not in server.log


def test_a_store_that_cannot_be_made_is_said_so_and_saves_go_on(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file where a folder should be")
    config = {"AxonNotebooks": {"store_url": f"sqlite:///{tmp_path}/in the way/axon.db"}}
    server = servers(config=config)
    assert server.save("a.ipynb", notebook("1")).status == 201
    assert server.axon("GET", "/notebooks").status == 503
    (tmp_path / "in the way").unlink()
    hold_to_sources(server, "a.ipynb", "1")


def test_a_store_whose_folder_is_removed_is_made_anew_and_saves_go_on(servers: Servers) -> None:
    server = servers()
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    shutil.rmtree(server.data / "axon_notebooks")
    assert server.save("a.ipynb", notebook("2")).status == 200
    hold_to_sources(server, "a.ipynb", "2")
    assert server.record("a.ipynb")["id"] == id
    shutil.rmtree(server.data / "axon_notebooks")
    assert server.records() == []
    server.stop()
    server.start()
    assert server.save("a.ipynb", server.contents("GET", "a.ipynb").json["content"]).status == 200
    hold_to_sources(server, "a.ipynb", "2")
    assert server.record("a.ipynb")["id"] == id


def test_a_store_that_is_put_back_is_used_again(servers: Servers) -> None:
    server = servers()
    server.save("a.ipynb", notebook("1"))
    id = server.record("a.ipynb")["id"]
    server.stop()
    shutil.copytree(server.data / "axon_notebooks", server.home / "backup")
    server.start()
    server.save("b.ipynb", notebook("2"))
    shutil.rmtree(server.data / "axon_notebooks")
    shutil.copytree(server.home / "backup", server.data / "axon_notebooks")
    server.save("a.ipynb", notebook("3"))
    hold_to_sources(server, "a.ipynb", "3")
    assert server.record("a.ipynb")["id"] == id
