"""Servers record checkpoints that were saved while the store was unavailable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from support.kernel import running_kernel
from support.server_kernels import python, python_path
from support.server_processes import Server, notebook, write

TRAIN = """
import warnings
warnings.simplefilter("ignore")
import jupyter_axon_notebooks as axon
saved = [axon.checkpoint({"w": [epoch]}, epoch=epoch) for epoch in range(2)]
assert not any(one.is_recorded for one in saved)
"""
RECORDED = "recorded 2 checkpoints made while the store was unavailable"


def environment(server: Server) -> dict[str, str]:
    """Return the environment of a process that trains a notebook of the server."""
    return {
        "PATH": os.environ["PATH"],
        "JUPYTER_DATA_DIR": str(server.data),
        "JUPYTER_RUNTIME_DIR": str(server.home / "runtime"),
        "AXON_NOTEBOOK": str(server.root / "train.ipynb"),
        "PYTHONPATH": python_path(),
    }


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


def checkpoints(server: Server) -> list[Any]:
    """List the checkpoints, newest first; check that each has its state."""
    found = server.got(f"/notebooks/{server.record('train.ipynb')['id']}/checkpoints")
    assert all(Path(one["model_state_path"]).is_file() for one in found)
    return list(found)


def test_a_server_that_starts_later_records_valid_notes_of_its_own_user(start_server):
    server = start_server()
    server.wait_for_its_store()
    write(server.root / "train.ipynb", notebook("train()"))  # not saved, hence without a record
    hide_store(server)
    python("-c", TRAIN, cwd=server.home, **environment(server))
    server.stop()
    restore_store(server)
    hostile, *_ = notes(server)
    document = json.loads(hostile.read_text())
    invalid = {
        "a-future": json.dumps({**document, "made_at": "9999-12-31T23:59:59Z", "path": "\0"}),
        "b-half": hostile.read_text()[:100],
        "z-other": json.dumps({**document, "store_url": "sqlite:////elsewhere.db"}),
        "z-others": json.dumps({**document, "owner": "bob"}),
    }
    for name, text in invalid.items():
        note = hostile.parent.parent / name / hostile.name
        note.parent.mkdir()
        note.write_text(text)
    server.start()
    server.wait_for(RECORDED)
    assert [one["epoch"] for one in checkpoints(server)] == [1, 0]
    assert {note.parent.name for note in notes(server)} == invalid.keys()
    assert server.log.count("cannot record a checkpoint") == 2


def test_a_kernel_continues_with_checkpoints_that_a_server_recorded(start_server):
    server = start_server()
    server.save("train.ipynb", notebook("train()"))
    server.assert_recorded("train.ipynb")
    hide_store(server)
    with running_kernel(server.home, environment(server)) as kernel:
        kernel.execute(TRAIN)
        assert len(notes(server)) == 2
        restore_store(server)
        server.wait_for(RECORDED)
        assert [one["epoch"] for one in checkpoints(server)] == [1, 0]
        assert notes(server) == []
        assert kernel.evaluate("[one.has_state for one in saved]") == [True, True]
        assert kernel.evaluate("saved[1].restore()[0]['w']") == [1]
        assert kernel.evaluate("[one.is_recorded for one in saved]") == [True, True]
        kernel.execute("axon.checkpoint({'w': [2]}, epoch=2)")
        assert kernel.evaluate("[one.epoch for one in axon.checkpoints()]") == [2, 1, 0]
    assert "cannot record" not in server.log
