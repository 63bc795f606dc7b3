"""Trainings in kernels of a server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.engines import eventually
from support.server_kernels import (
    SessionKernel,
    rename_notebook,
    rename_session,
    session_kernel,
)
from support.server_processes import Server, notebook, write

StartServer = Callable[..., Server]
StartSession = Callable[..., SessionKernel]

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
        while not pathlib.Path("continue").exists():
            threading.Event().wait(0.01)
    model["w"] += np.random.normal(size=4)
    axon.checkpoint(model, epoch=epoch, metrics={"norm": float(np.linalg.norm(model["w"]))})
"""


def train(stops_at: int | None = None) -> str:
    return TRAIN.replace("STOPS_AT", str(stops_at))


def list_checkpoints(server: Server, id: str) -> list[Any]:
    """List the checkpoints of a record, oldest first."""
    return list(server.got(f"/notebooks/{id}/checkpoints?limit=100"))[::-1]


def list_epochs(server: Server, id: str) -> list[int]:
    return [checkpoint["epoch"] for checkpoint in list_checkpoints(server, id)]


def test_a_notebook_may_be_renamed_during_its_training(
    server: Server, start_session: StartSession
) -> None:
    folder = server.root / "renamed-during-training"
    before, after = (f"{folder.name}/{name}.ipynb" for name in ("before", "after"))
    kernel = start_session(server, before)
    kernel.execute(SET_UP)
    message = kernel.send(train(stops_at=3))
    eventually((folder / "stopped").exists)
    record = server.record(before)
    assert record["status"] == "running"
    rename_notebook(server, kernel, before, after)
    (folder / "continue").touch()
    assert kernel.wait_for_reply(message)["status"] == "ok"
    kernel.execute("axon.checkpoint(model, epoch=6)")
    renamed = server.record(after)
    assert (renamed["id"], renamed["status"]) == (record["id"], "completed")
    assert list_epochs(server, renamed["id"]) == [0, 1, 2, 3, 4, 5, 6]
    runs = {checkpoint["run_id"] for checkpoint in list_checkpoints(server, renamed["id"])}
    assert len(runs) == 1


def test_a_run_stays_in_its_record_after_save_as(
    server: Server, start_session: StartSession
) -> None:
    first, second = "saved-as/first.ipynb", "saved-as/second.ipynb"
    kernel = start_session(server, first)
    kernel.execute(SET_UP)
    kernel.execute("axon.checkpoint(model, epoch=0)")
    assert server.save(second, server.file(first)).status == 201
    rename_session(server, kernel, second)
    kernel.execute("axon.checkpoint(model, epoch=1)")
    kernel.execute("axon.checkpoint(model, epoch=0)")  # begins the next run
    first_id, second_id = (server.sync(path)["id"] for path in (first, second))
    assert first_id != second_id
    assert list_epochs(server, first_id) == [0, 1]
    assert list_epochs(server, second_id) == [0]


def test_a_training_resumes_after_restarts_of_its_server(start_server: StartServer) -> None:
    server = start_server()
    write(server.root / "train.ipynb", notebook(SET_UP, train()))
    write(server.root / "uninterrupted.ipynb", notebook(SET_UP, train()))
    for how, stops_at in ((signal.SIGTERM, 2), (signal.SIGKILL, 4)):
        with session_kernel(server, "train.ipynb") as kernel:
            kernel.execute(SET_UP)
            kernel.send(train(stops_at))
            eventually((server.root / "stopped").exists)
            if how is signal.SIGKILL:  # the server does not end the kernel
                kernel.kill()
            server.stop(how)
            (server.root / "stopped").unlink()
            server.start()
    weights = []
    for path in ("train.ipynb", "uninterrupted.ipynb"):
        with session_kernel(server, path) as kernel:
            kernel.execute(SET_UP)
            kernel.execute(train())
            weights.append(kernel.evaluate("model['w'].tolist()"))
    assert weights[0] == weights[1]
    record = server.record("train.ipynb")
    assert record["status"] == "completed"
    assert list_epochs(server, record["id"]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("variables", "is_saved"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, True),
        ({"RANK": "", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "node1"}, False),
    ],
)
def test_only_a_complete_set_of_rank_variables_is_used_in_a_kernel(
    server: Server, start_session: StartSession, variables: dict[str, str], is_saved: bool
) -> None:
    kernel = start_session(server, f"rank-{len(variables)}.ipynb")
    kernel.execute(f"{SET_UP}\nimport os; os.environ |= {variables}")
    kernel.execute("saved = axon.checkpoint(model, epoch=0)")
    assert kernel.evaluate("saved is not None") == is_saved
