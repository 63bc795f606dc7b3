"""Tests of changes that wait for a locked store."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client

from jupyter_axon_notebooks import extension
from jupyter_axon_notebooks.handlers import base, context
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import worker


async def test_changes_beyond_the_writer_threads_are_refused(
    axon: Client, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "WRITE_TIMEOUT", 0.5)
    ids = [(await axon.created("/notebooks", {"name": "n"}))["id"] for _ in range(12)]
    with closing(
        sqlite3.connect(data / "axon_notebooks" / "axon.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        changing = [
            asyncio.ensure_future(axon.put(f"/notebooks/{id}", {"description": "d"})) for id in ids
        ]
        for refused, done in enumerate(asyncio.as_completed(changing), 1):
            reply = await done
            assert (reply.status, "Retry-After" in reply.headers) == (503, True)
            assert "nothing was changed, try again" in reply.message
            if refused == 8:  # four wait for the store itself
                break
        shown = await axon.get("/notebooks")
        assert {record.get("description") for record in shown.json} == {None}
    replies = await asyncio.gather(*changing)
    assert sorted(reply.status for reply in replies) == [200] * 4 + [503] * 8
    made = {id for id, reply in zip(ids, replies, strict=True) if reply.status == 200}
    shown = await axon.get("/notebooks")
    assert {record["id"] for record in shown.json if record.get("description") == "d"} == made


async def test_a_change_that_has_begun_is_not_refused(
    axon: Client, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float | None] = []
    writers = jp_serverapp.web_app.settings["axon_services"].executor
    run = writers.write

    async def noted(work: Any, timeout: float | None) -> Any:
        timeouts.append(timeout)
        return await run(work, timeout)

    monkeypatch.setattr(writers, "write", noted)
    made = await axon.created("/notebooks", {"name": "n", "path": "n.ipynb"})
    timeouts.clear()
    cell = {"id": "new", "cell_type": "code", "source": "1"}
    await axon.created(f"/notebooks/{made['id']}/cells", cell)
    assert timeouts[0] is not None
    assert len(timeouts) > 1
    assert set(timeouts[1:]) == {None}


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Opening the store takes until this is set, and the start of the server does not wait."""
    event = threading.Event()

    def open_late(*given: Any, **options: Any) -> Any:
        assert event.wait(30)
        return open_store(*given, **options)

    monkeypatch.setattr(extension, "open_store", open_late)
    monkeypatch.setattr(worker, "READ_TIMEOUT", 0.0)
    return event


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_a_request_waits_for_a_store_that_is_being_opened(
    verb: str, go_on: threading.Event, axon: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "READ_TIMEOUT", 0.1)
    early = await axon.get("/notebooks")
    assert (early.status, early.headers["Retry-After"]) == (503, "1")
    assert "still being opened" in early.message
    monkeypatch.setattr(context, "READ_TIMEOUT", 30.0)
    body = None if verb == "GET" else '{"name": "n"}'
    answer = asyncio.ensure_future(axon(verb, "/notebooks", body=body))
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    assert (await answer).status in (200, 201)
