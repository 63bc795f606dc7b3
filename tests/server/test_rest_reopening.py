"""Claims about requests while the store, found damaged, is opened again: they wait for it, whenever they come."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.rest_client import Client

from jupyter_axon_notebooks.handlers import Home
from jupyter_axon_notebooks.sync import NotebookSync
from jupyter_axon_notebooks.sync.opened import OpenedStore


@pytest.fixture
def sync(jp_serverapp: Any) -> NotebookSync[Home]:
    found: NotebookSync[Home] = jp_serverapp.web_app.settings["axon_services"].sync
    return found


async def test_a_request_that_comes_once_damage_was_met_waits_until_the_store_is_opened_again(
    axon: Client, sync: NotebookSync[Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    close, go_on = Home.close, threading.Event()

    def close_later(home: Home) -> None:
        assert go_on.wait(30)
        close(home)

    monkeypatch.setattr(Home, "close", close_later)
    before = sync.opened
    sync.doubt()
    creating = asyncio.create_task(axon.post("/notebooks", {"name": "a"}))
    while not (sync._queue._changed._waiters or creating.done()):  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert not creating.done()
    go_on.set()
    assert (await creating).status == 201
    assert sync.opened is not before


async def test_a_request_that_finds_the_store_open_a_moment_before_it_is_left_waits_for_it(
    axon: Client, sync: NotebookSync[Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, is_due, left = OpenedStore.leave, NotebookSync.is_due, threading.Event()

    def leave_noticed(store: OpenedStore[Home], trouble: Exception) -> None:
        leave(store, trouble)
        left.set()

    def is_due_then(sync: NotebookSync[Home]) -> bool:
        found = is_due.__get__(sync)
        if not left.is_set():
            sync.doubt()
            assert left.wait(30)
        return bool(found)

    monkeypatch.setattr(OpenedStore, "leave", leave_noticed)
    monkeypatch.setattr(NotebookSync, "is_due", property(is_due_then))
    before = sync.opened
    assert (await axon.get("/notebooks")).status == 200
    assert sync.opened is not before
