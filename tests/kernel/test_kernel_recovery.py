"""Servers record checkpoints that were saved while the store was unavailable."""

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
from support.engines import NOT_DURABLE, PostgresqlServer, eventually
from support.kernel import running_kernel
from support.server_kernels import python_path
from support.server_processes import Server, notebook, write

from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role

StartServer = Callable[..., Server]

TRAIN = """
import sys, warnings
import jupyter_axon_notebooks as axon

warnings.simplefilter("ignore")
first, last = map(int, sys.argv[1:])
saved = [
    axon.checkpoint({"w": [epoch]}, epoch=epoch, metrics={"loss": 1 / (epoch + 1)})
    for epoch in range(first, last)
]
print([one.is_recorded for one in saved])
"""
RECORDED = "checkpoints made while the store was unavailable"


def train(server: Server, path: str, first: int, last: int) -> None:
    """Train a notebook of a server in a process that the server did not start, until it ends."""
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
    """Return the folder of a server's store."""
    return server.data / "axon_notebooks"


def hide_store(server: Server) -> None:
    """Make the store unavailable, as on a disk that is not mounted."""
    for file in folder(server).glob("axon.db*"):
        file.rename(file.with_name(f"hidden-{file.name}"))
    (folder(server) / "axon.db").mkdir()


def restore_store(server: Server) -> None:
    (folder(server) / "axon.db").rmdir()
    for file in sorted(folder(server).glob("hidden-*"), reverse=True):  # the database last
        file.rename(file.with_name(file.name.removeprefix("hidden-")))


def notes(server: Server) -> list[Path]:
    return list(folder(server).glob("states/*/*/unrecorded.json"))


def checkpoints(server: Server, path: str) -> list[Any]:
    """List the checkpoints of a notebook file, newest first; check that each has its state."""
    found = server.got(f"/notebooks/{server.record(path)['id']}/checkpoints")
    for one in found:
        assert Path(one["model_state_path"]).is_file()
    return list(found)


def assert_recorded(server: Server, path: str, count: int) -> None:
    assert [one["epoch"] for one in checkpoints(server, path)] == list(range(count))[::-1]
    (run,) = server.got(f"/notebooks/{server.record(path)['id']}/runs")
    assert run["status"] == "completed"
    assert notes(server) == []


def test_a_server_records_checkpoints_when_its_store_is_available(start_server):
    server = start_server()
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    hide_store(server)
    train(server, "train.ipynb", 0, 3)
    assert len(notes(server)) == 3
    restore_store(server)
    server.wait_for(f"recorded 3 {RECORDED}")
    assert_recorded(server, "train.ipynb", 3)


def test_a_server_records_checkpoints_in_a_replaced_store(start_server, tmp_path):
    server = start_server()
    server.save("train.ipynb", notebook("train()"))
    id = server.assert_recorded("train.ipynb")["id"]
    with (
        closing(sqlite3.connect(folder(server) / "axon.db")) as store,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        store.backup(backup)
    hide_store(server)
    train(server, "train.ipynb", 0, 2)
    for file in folder(server).glob("hidden-*"):
        file.unlink()
    (folder(server) / "axon.db").rmdir()
    shutil.move(tmp_path / "backup.db", folder(server) / "axon.db")
    server.wait_for(f"recorded 2 {RECORDED}")
    assert_recorded(server, "train.ipynb", 2)
    assert server.record("train.ipynb")["id"] == id


def test_a_server_that_starts_later_records_valid_notes_of_its_own_user(start_server):
    server = start_server()
    server.wait_for_its_store()
    write(server.root / "train.ipynb", notebook("train()"))  # not saved, hence without a record
    hide_store(server)
    train(server, "train.ipynb", 0, 2)
    server.stop()
    restore_store(server)
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


def test_checkpoints_are_recorded_for_a_renamed_notebook(start_server):
    server = start_server()
    server.save("train.ipynb", notebook("train()"))
    id = server.assert_recorded("train.ipynb")["id"]
    hide_store(server)
    train(server, "train.ipynb", 0, 2)
    assert server.rename("train.ipynb", "trained.ipynb").status == 200
    restore_store(server)
    server.wait_for(f"recorded 2 {RECORDED}")
    assert server.record("trained.ipynb")["id"] == id
    assert_recorded(server, "trained.ipynb", 2)


def test_two_servers_record_each_checkpoint_once(start_server):
    first = start_server("first")
    first.save("train.ipynb", notebook("train()"))
    first.assert_recorded("train.ipynb")
    second = start_server("second", root=first.root, data=first.data)
    second.wait_for_its_store()
    hide_store(first)
    train(first, "train.ipynb", 0, 6)
    restore_store(first)
    eventually(lambda: not notes(first))
    assert_recorded(first, "train.ipynb", 6)
    for server in (first, second):
        assert "cannot record" not in server.log


@pytest.fixture
def database() -> Iterator[PostgresqlServer]:
    """A server of its own, to be stopped and started."""
    server = PostgresqlServer(**NOT_DURABLE)
    yield server
    server.close()


def test_a_server_with_a_role_records_when_its_database_is_available(start_server, database):
    url = database.url(database.new_database())
    with closing(Store(url)) as store:
        store.separate_users([Role("hub ada", "ada"), Role("hub bob", "bob")])
    own = make_url(url).set(username="hub ada").render_as_string()
    server = start_server(config={"AxonNotebooks": {"store_url": own, "user_id": "ada"}})
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    database.stop()
    train(server, "train.ipynb", 0, 2)
    database.start()
    server.wait_for(f"recorded 2 {RECORDED}")
    assert_recorded(server, "train.ipynb", 2)


def test_a_kernel_continues_with_checkpoints_that_a_server_recorded(start_server):
    server = start_server()
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    hide_store(server)
    variables = {
        "JUPYTER_DATA_DIR": str(server.data),
        "JUPYTER_RUNTIME_DIR": str(server.home / "runtime"),
        "AXON_NOTEBOOK": str(server.root / "train.ipynb"),
        "PYTHONPATH": python_path(),
    }
    with running_kernel(server.home, {**variables, "PATH": os.environ["PATH"]}) as kernel:
        kernel.execute(
            "import warnings; warnings.simplefilter('ignore')\n"
            "import jupyter_axon_notebooks as axon"
        )
        kernel.execute(
            "saved = [axon.checkpoint({'w': [epoch]}, epoch=epoch) for epoch in range(2)]"
        )
        restore_store(server)
        server.wait_for(f"recorded 2 {RECORDED}")
        assert_recorded(server, "train.ipynb", 2)
        assert kernel.evaluate("[one.has_state for one in saved]") == [True, True]
        assert kernel.evaluate("saved[1].restore()[0]['w']") == [1]
        assert kernel.evaluate("[one.is_recorded for one in saved]") == [True, True]
        kernel.execute("axon.checkpoint({'w': [2]}, epoch=2)")
        assert kernel.evaluate("[one.epoch for one in axon.checkpoints()]") == [2, 1, 0]
    assert "cannot record" not in server.log
