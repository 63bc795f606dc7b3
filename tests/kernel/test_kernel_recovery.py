"""What a training could not record, and what no kernel is left to record, a server records by itself."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from support.engines import FORGETFUL, PostgresqlServer, eventually
from support.kernel import started
from support.server_kernels import python_path
from support.server_processes import Server, notebook, write

from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role

Servers = Callable[..., Server]

TRAIN = """
import sys, warnings
import jupyter_axon_notebooks as axon

warnings.simplefilter("ignore")
first, last = map(int, sys.argv[1:])
made = [axon.checkpoint({"w": [epoch]}, epoch=epoch, metrics={"loss": 1 / (epoch + 1)}) for epoch in range(first, last)]
print([one.is_recorded for one in made])
"""
RECORDED = "checkpoints made while the store was unavailable"


def train(server: Server, path: str, first: int, last: int) -> None:
    """Train a notebook of a server in a process that it did not start, and that is gone when this returns."""
    script = server.home / "train.py"
    script.write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, str(script), str(first), str(last)],
        env={
            "PATH": "/usr/bin:/bin",
            "JUPYTER_DATA_DIR": str(server.data),
            "JUPYTER_RUNTIME_DIR": str(server.home / "runtime"),
            "AXON_NOTEBOOK": str(server.root / path),
            "PYTHONPATH": python_path(),
        },
        cwd=server.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == f"{[False] * (last - first)}\n", (done.stdout, done.stderr)


def folder(server: Server) -> Path:
    """Where a server's store is."""
    return server.data / "axon_notebooks"


def take_away(server: Server) -> None:
    """Put the store out of reach, as a disk that is not mounted is."""
    for file in folder(server).glob("axon.db*"):
        file.rename(file.with_name(f"away-{file.name}"))
    (folder(server) / "axon.db").mkdir()


def bring_back(server: Server) -> None:
    (folder(server) / "axon.db").rmdir()
    for file in sorted(folder(server).glob("away-*"), reverse=True):  # the database last
        file.rename(file.with_name(file.name.removeprefix("away-")))


def notes(server: Server) -> list[Path]:
    return list(folder(server).glob("states/*/*/unrecorded.json"))


def checkpoints(server: Server, path: str) -> list[Any]:
    """The checkpoints of a notebook file, newest first; each has its state."""
    found = server.got(f"/notebooks/{server.record(path)['id']}/checkpoints")
    for one in found:
        assert Path(one["model_state_path"]).is_file()
    return list(found)


def assert_recorded(server: Server, path: str, count: int) -> None:
    assert [one["epoch"] for one in checkpoints(server, path)] == list(range(count))[::-1]
    (run,) = server.got(f"/notebooks/{server.record(path)['id']}/runs")
    assert run["status"] == "completed"
    assert notes(server) == []


def test_a_server_records_what_was_made_while_its_store_was_away(servers: Servers) -> None:
    server = servers()
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    take_away(server)
    train(server, "train.ipynb", 0, 3)
    assert len(notes(server)) == 3
    bring_back(server)
    server.wait_for(f"recorded 3 {RECORDED}")
    assert_recorded(server, "train.ipynb", 3)


def test_a_server_opens_a_store_that_was_replaced_and_records_there(
    servers: Servers, tmp_path: Path
) -> None:
    server = servers()
    server.save("train.ipynb", notebook("train()"))
    id = server.assert_recorded("train.ipynb")["id"]
    with (
        closing(sqlite3.connect(folder(server) / "axon.db")) as store,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        store.backup(backup)
    take_away(server)
    train(server, "train.ipynb", 0, 2)
    for file in folder(server).glob("away-*"):
        file.unlink()
    (folder(server) / "axon.db").rmdir()
    shutil.move(tmp_path / "backup.db", folder(server) / "axon.db")
    server.wait_for(f"recorded 2 {RECORDED}")
    assert_recorded(server, "train.ipynb", 2)
    assert server.record("train.ipynb")["id"] == id


def test_a_server_that_starts_later_records_what_waits(servers: Servers) -> None:
    server = servers()
    server.wait_for_its_store()
    write(
        server.root / "train.ipynb", notebook("train()")
    )  # nobody has saved it: it has no record yet
    take_away(server)
    train(server, "train.ipynb", 0, 2)
    server.stop()
    bring_back(server)
    hostile, *_ = notes(server)
    document = json.loads(hostile.read_text())
    for name, text in {
        "a-future": json.dumps({**document, "made_at": "9999-12-31T23:59:59Z", "path": "\0"}),
        "b-half": hostile.read_text()[:100],
        "z-other": json.dumps({**document, "store_url": "sqlite:////elsewhere.db"}),
        "z-others": json.dumps({**document, "owner": "bob"}),
    }.items():
        note = hostile.parent.parent / name / hostile.name
        note.parent.mkdir()
        note.write_text(text)
    server.start()
    server.wait_for(f"recorded 2 {RECORDED}")
    assert [one["epoch"] for one in checkpoints(server, "train.ipynb")] == [1, 0]
    assert {note.parent.name for note in notes(server)} == {
        "a-future",
        "b-half",
        "z-other",
        "z-others",
    }
    assert server.log.count("cannot record a checkpoint") == 2


def test_a_notebook_that_was_renamed_meanwhile_gets_its_checkpoints(servers: Servers) -> None:
    server = servers()
    server.save("train.ipynb", notebook("train()"))
    id = server.assert_recorded("train.ipynb")["id"]
    take_away(server)
    train(server, "train.ipynb", 0, 2)
    assert server.rename("train.ipynb", "trained.ipynb").status == 200
    bring_back(server)
    server.wait_for(f"recorded 2 {RECORDED}")
    assert server.record("trained.ipynb")["id"] == id
    assert_recorded(server, "trained.ipynb", 2)


def test_two_servers_on_one_store_record_it_once(servers: Servers) -> None:
    first = servers("first")
    first.save("train.ipynb", notebook("train()"))
    first.assert_recorded("train.ipynb")
    second = servers("second", root=first.root, data=first.data)
    second.wait_for_its_store()
    take_away(first)
    train(first, "train.ipynb", 0, 6)
    bring_back(first)
    eventually(lambda: not notes(first))
    assert_recorded(first, "train.ipynb", 6)
    for server in (first, second):
        assert "cannot record" not in server.log


@pytest.fixture
def database() -> Iterator[PostgresqlServer]:
    """A server of its own, to be stopped and started."""
    server = PostgresqlServer(**FORGETFUL)
    yield server
    server.close()


def test_a_server_with_a_role_records_once_its_database_is_back(
    servers: Servers, database: PostgresqlServer
) -> None:
    url = database.url(database.new_database())
    with closing(Store(url)) as store:
        store.separate_users([Role("hub ada", "ada"), Role("hub bob", "bob")])
    own = make_url(url).set(username="hub ada").render_as_string()
    server = servers(config={"AxonNotebooks": {"store_url": own, "user_id": "ada"}})
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    database.stop()
    train(server, "train.ipynb", 0, 2)
    database.start()
    server.wait_for(f"recorded 2 {RECORDED}")
    assert_recorded(server, "train.ipynb", 2)


def test_an_idle_kernel_goes_on_with_what_a_server_recorded(servers: Servers) -> None:
    server = servers()
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    take_away(server)
    told = {
        "JUPYTER_DATA_DIR": str(server.data),
        "JUPYTER_RUNTIME_DIR": str(server.home / "runtime"),
        "AXON_NOTEBOOK": str(server.root / "train.ipynb"),
        "PYTHONPATH": python_path(),
    }
    with started(server.home, {**told, "PATH": os.environ["PATH"]}) as kernel:
        kernel.do(
            "import warnings; warnings.simplefilter('ignore'); import jupyter_axon_notebooks as axon"
        )
        kernel.do("made = [axon.checkpoint({'w': [epoch]}, epoch=epoch) for epoch in range(2)]")
        bring_back(server)
        server.wait_for(f"recorded 2 {RECORDED}")
        assert_recorded(server, "train.ipynb", 2)
        assert kernel.ask("[one.has_state for one in made]") == [True, True]
        assert kernel.ask("made[1].restore()[0]['w']") == [1]
        assert kernel.ask("[one.is_recorded for one in made]") == [True, True]
        kernel.do("axon.checkpoint({'w': [2]}, epoch=2)")
        assert kernel.ask("[one.epoch for one in axon.checkpoints()]") == [2, 1, 0]
    assert "cannot record" not in server.log
