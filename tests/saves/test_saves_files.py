"""Tests of replaced notebook files, ids and origins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server_processes import Server, notebook, write

from jupyter_axon_notebooks.records import is_record_id

Servers = Callable[..., Server]

BAD_IDS: list[Any] = [
    "\ud800",
    "../../x",
    "x" * 1_000_000,
    5,
]


def data(server: Server) -> Path:
    return server.data / "axon_notebooks"


@pytest.mark.parametrize("bad", BAD_IDS, ids=range(len(BAD_IDS)))
def test_files_with_invalid_ids_are_saved_and_recorded(
    server: Server, folder: str, bad: Any
) -> None:
    path = f"{folder}/a.ipynb"
    write(server.root / path, notebook("1", axon={"notebook_id": bad}))
    record = server.sync(path)
    server.save(
        path, notebook("1", axon={"notebook_id": bad})
    )  # may be refused, for half a surrogate pair
    for source in ("2", "3"):
        answer = server.save(path, notebook(source))
        assert answer.status == 200, answer
        assert server.embedded(path) == record["id"]
    assert server.record(path)["id"] == record["id"]
    assert is_record_id(server.embedded(path))


@pytest.mark.parametrize("what", ["device", "pipe"])
def test_an_unreadable_notebook_does_not_affect_others(
    servers: Servers, tmp_path: Path, what: str
) -> None:
    server = servers()
    for name in ("bad.ipynb", "good.ipynb"):
        server.save(name, notebook("1"))
    bad, record = server.root / "bad.ipynb", server.record("bad.ipynb")
    bad.unlink()
    {
        "device": lambda: bad.symlink_to("/dev/zero"),
        "pipe": lambda: os.mkfifo(bad),
    }[what]()
    for is_started_anew in (False, True):
        if is_started_anew:
            server.stop()
            assert server.log.count("bad.ipynb is not up to date") <= 1
            server.start()
        for _ in range(3):
            kept = server.got(f"/notebooks/{record['id']}")
            assert [cell["source"] for cell in kept["cells"]] == ["1"]
        refused = server.axon("POST", "/notebooks/sync", {"path": "bad.ipynb"})
        assert refused.status in (400, 404), refused
        assert "bad.ipynb" in refused.json["message"]
        assert server.axon("PUT", f"/notebooks/{record['id']}", {"cells": []}).status == 409
        assert server.save("good.ipynb", notebook("1", "2")).status == 200
        assert server.record("good.ipynb")["cell_count"] == 2


def test_a_vanished_origin_is_restored(
    servers: Servers,
) -> None:
    server = servers()
    server.save("a.ipynb", notebook("1"))
    record = server.record("a.ipynb")
    origin = (data(server) / "origin").read_text()
    assert json.loads((data(server) / "kernels.json").read_text())["origin"] == origin.strip()
    for content in (None, "", "garbage"):
        for name in ("origin", "kernels.json"):
            (data(server) / name).unlink()
            if content is not None:
                (data(server) / name).write_text(content)
        server.save("a.ipynb", notebook("1", str(content)))
        assert server.record("a.ipynb")["id"] == record["id"]
        assert (data(server) / "origin").read_text() == origin
        assert json.loads((data(server) / "kernels.json").read_text())["origin"] == origin.strip()
    server.stop()
    (data(server) / "origin").unlink()
    server.start()
    assert server.record("a.ipynb")["id"] == record["id"]
    assert (data(server) / "origin").read_text() == origin
