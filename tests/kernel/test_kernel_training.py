"""Trainings in kernels of a server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from support.engines import eventually
from support.server_kernels import Kernel, kernel_of
from support.server_processes import Server, notebook, write

Servers = Callable[..., Server]
Opened = Callable[..., Kernel]

SET_UP = """
import pathlib, threading
import numpy as np
import jupyter_axon_notebooks as axon
np.random.seed(0)
model = {"w": np.zeros(4)}
"""
TRAIN = """
resumed = axon.resume(model)
for epoch in range(resumed.epoch + 1 if resumed else 0, 6):
    if epoch == STOPS_AT:
        pathlib.Path("stopped").touch()
        while not pathlib.Path("go-on").exists():
            threading.Event().wait(0.01)
    model["w"] += np.random.normal(size=4)
    axon.checkpoint(model, epoch=epoch, metrics={"norm": float(np.linalg.norm(model["w"]))})
"""


def train(stops_at: int | None = None) -> str:
    return TRAIN.replace("STOPS_AT", str(stops_at))


def checkpoints(server: Server, id: str) -> list[Any]:
    """List the checkpoints of a record, oldest first."""
    return list(server.got(f"/notebooks/{id}/checkpoints?limit=100"))[::-1]


def test_a_training_follows_the_renaming_of_its_notebook(server, opened):
    folder = server.root / "renamed-in-mid-training"
    kernel = opened(server, f"{folder.name}/before.ipynb")
    kernel.run(SET_UP)
    begun = kernel.begin(train(stops_at=3))
    eventually((folder / "stopped").exists)
    record = server.record(f"{folder.name}/before.ipynb")
    assert record["status"] == "running"
    assert server.rename(f"{folder.name}/before.ipynb", f"{folder.name}/after.ipynb").status == 200
    renamed = {"path": f"{folder.name}/after.ipynb", "name": "after.ipynb"}
    assert server.ask("PATCH", f"/api/sessions/{kernel.session['id']}", renamed).status == 200
    (folder / "go-on").touch()
    kernel.finish(begun)
    kernel.run("axon.checkpoint(model, epoch=6)")
    after = server.record(f"{folder.name}/after.ipynb")
    assert after["id"] == record["id"]
    assert after["status"] == "completed"
    made = checkpoints(server, after["id"])
    assert [one["epoch"] for one in made] == [0, 1, 2, 3, 4, 5, 6]
    assert len({one["run_id"] for one in made}) == 1


def test_a_run_stays_in_its_record_after_save_as(server, opened):
    folder = "saved-as"
    kernel = opened(server, f"{folder}/first.ipynb")
    kernel.run(SET_UP)
    kernel.run("axon.checkpoint(model, epoch=0)")
    assert server.save(f"{folder}/second.ipynb", server.file(f"{folder}/first.ipynb")).status == 201
    moved = {"path": f"{folder}/second.ipynb", "name": "second.ipynb"}
    assert server.ask("PATCH", f"/api/sessions/{kernel.session['id']}", moved).status == 200
    kernel.run("axon.checkpoint(model, epoch=1)")
    kernel.run("axon.checkpoint(model, epoch=0)")  # begins the next run
    first, second = (server.sync(f"{folder}/{name}.ipynb") for name in ("first", "second"))
    assert first["id"] != second["id"]
    assert [one["epoch"] for one in checkpoints(server, first["id"])] == [0, 1]
    assert [one["epoch"] for one in checkpoints(server, second["id"])] == [0]


def test_a_training_resumes_after_restarts_of_its_server(servers, tmp_path):
    served = servers()
    write(served.root / "train.ipynb", notebook(SET_UP, train()))
    for how in (signal.SIGTERM, signal.SIGKILL):
        with kernel_of(served, "train.ipynb") as kernel:
            kernel.run(SET_UP)
            kernel.begin(train(stops_at=2 if how is signal.SIGTERM else 4))
            eventually((served.root / "stopped").exists)
            if how is signal.SIGKILL:  # which leaves the kernel running
                kernel.kill()
            served.stop(how)
            (served.root / "stopped").unlink()
            served.start()
    with kernel_of(served, "train.ipynb") as kernel:
        kernel.run(SET_UP)
        kernel.run(train())
        resumed = kernel.asked("model['w'].tolist()")
        other = write(tmp_path / "x.ipynb", notebook("1"))
        kernel.run(SET_UP)
        kernel.run(f"import os; os.environ['AXON_NOTEBOOK'] = {str(other)!r}")
        kernel.run(train())
        assert resumed == kernel.asked("model['w'].tolist()")
    record = served.record("train.ipynb")
    assert [one["epoch"] for one in checkpoints(served, record["id"])] == [0, 1, 2, 3, 4, 5]
    assert record["status"] == "completed"


def test_an_inherited_rank_in_a_kernel_is_ignored(server, opened):
    kernel = opened(server, "left-over/rank.ipynb")
    kernel.run(SET_UP)
    kernel.run("os.environ |= {'RANK': '1', 'WORLD_SIZE': '2'}")
    assert kernel.evaluate("made = axon.checkpoint(model, epoch=0)", "made is not None") == "True"
    kernel.run("os.environ |= {'RANK': '', 'SLURM_PROCID': '0', 'SLURM_NTASKS': '4'}")
    assert kernel.evaluate("made = axon.checkpoint(model, epoch=1)", "made is not None") == "True"
    kernel.run("os.environ |= {'RANK': '1', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'node1'}")
    assert kernel.evaluate("made = axon.checkpoint(model, epoch=2)", "made is None") == "True"
    record = server.record("left-over/rank.ipynb")
    assert [one["epoch"] for one in checkpoints(server, record["id"])] == [0, 1]
