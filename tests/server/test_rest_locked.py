"""Tests of changes that wait for a locked store."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.rest_client import Client

from jupyter_axon_notebooks.handlers import base


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
