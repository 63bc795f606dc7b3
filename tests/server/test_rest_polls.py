"""Property test of conditional requests while other processes change the store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nbformat.sign import MemorySignatureStore
from support.engines import ON_DISK, new_url
from support.factories import new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.errors import AxonError
from jupyter_axon_notebooks.records import NewCheckpoint, RunStatus, UpdateCheckpoint, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

POLLED = (
    "runs",
    "runs?status=running",
    "metrics",
    "checkpoints",
    "checkpoints?limit=2",
    "checkpoints?run_id=a",
)
LONG = timedelta(hours=1)


@pytest.fixture(params=ON_DISK)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path, empty=False)


@pytest.fixture
def jp_server_config(url: str) -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_axon_notebooks": True}},
        "AxonNotebooks": {"user_id": "ada", "store_url": url},
        "NotebookNotary": {"store_factory": MemorySignatureStore},
    }


@pytest.fixture
def kernel(jp_serverapp: Any, url: str) -> Iterator[NotebookRepository]:
    """The same store, as another process has it open."""
    with closing(Store(url)) as store:
        yield NotebookRepository(store)


def changes(kernel: NotebookRepository, id: str, pick: random.Random) -> list[Callable[[], object]]:
    """Return the changes that may happen to a notebook next."""

    def checkpoint() -> object:
        run_id, step = pick.choice([None, "a", "b"]), pick.randrange(1000)
        return kernel.create_checkpoint(
            NewCheckpoint(
                notebook_id=id, epoch=1, step=step, metrics={"loss": pick.random()}, run_id=run_id
            )
        )

    happens: list[Callable[[], object]] = [checkpoint, lambda: None, kernel.runs.finish_expired]
    for made in kernel.list_checkpoints(id, limit=3):
        labels = UpdateCheckpoint(pinned=not made.pinned, tags=[str(pick.random())])
        happens += [
            lambda made=made: kernel.delete_checkpoint(made.id),  # type: ignore[misc]
            lambda made=made, labels=labels: kernel.checkpoints.update(made.id, labels),  # type: ignore[misc]
        ]
    for run in kernel.runs.list(id):
        status, lease = (
            pick.choice(list(RunStatus)),
            pick.choice([timedelta(milliseconds=20), LONG]),
        )
        happens.append(
            lambda run=run, status=status, lease=lease: kernel.runs.update_status(  # type: ignore[misc]
                id, run.id, status, lease_until=now() + lease
            )
        )
    return happens


@pytest.mark.parametrize("seed", range(2))
async def test_conditional_requests_show_the_present_state(
    seed: int, axon: Client, kernel: NotebookRepository
) -> None:
    pick = random.Random(seed)
    id = kernel.create(new_notebook(user_id="ada")).id
    shown: dict[str, dict[str, bytes]] = {polled: {} for polled in POLLED}
    spared = 0
    for _ in range(60):
        with suppress(AxonError):  # the same step twice
            pick.choice(changes(kernel, id, pick))()
        for polled in pick.sample(POLLED, 2):
            url, known = f"/notebooks/{id}/{polled}", shown[polled]
            tag = pick.choice([*known, list(known)[-1]]) if known else "none"
            before = await axon.get(url)
            answer = await axon.get(url, headers={"If-None-Match": tag})
            after = await axon.get(url)
            spared += answer.status == 304
            # A lease may run out in between.
            assert (known[tag] if answer.status == 304 else answer.body) in (
                before.body,
                after.body,
            )
            known[after.headers["ETag"]] = after.body
    assert spared
