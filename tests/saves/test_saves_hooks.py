"""Tests of saves with custom hooks and contents managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from support.server_processes import Server, notebook, write

Servers = Callable[..., Server]

STRIPS = """
def strip(model, **kwargs):
    if model["type"] == "notebook":
        model["content"] = {**model["content"], "cells": [
            {**cell, "outputs": [], "execution_count": None}
            if cell["cell_type"] == "code"
            else cell
            for cell in model["content"]["cells"]
        ]}
"""
RAISES = """
from tornado.web import HTTPError

def marked(content, mark):
    return mark in str(content)

def refuse_some(model, **kwargs):
    if marked(model.get("content"), "refuse me"):
        raise HTTPError(418, "the hook says no")
    if marked(model.get("content"), "stumble over me"):
        raise ValueError("the hook is broken")

def fail_some(os_path, **kwargs):
    with open(os_path) as file:
        if marked(file.read(), "fail after me"):
            raise ValueError("the hook is broken")
"""
#: An extension that registers hooks later; extensions are loaded in alphabetical order.
LATER = """
def _jupyter_server_extension_points():
    return [{{"module": "zz_later"}}]

{functions}

def _load_jupyter_server_extension(server):
    {register}
"""


def registered(
    server_name: str, servers: Servers, tmp_path: Any, functions: str, **hooks: str
) -> Server:
    """A server with hooks registered before (by configuration) or after (by an extension)."""
    before, extensions = server_name.startswith("before"), []
    if "axon" in server_name:
        extensions.append("jupyter_axon_notebooks")
    if before:
        python = functions + "".join(
            f"\nc.FileContentsManager.{kind}_save_hook = {f}" for kind, f in hooks.items()
        )
        return servers(server_name, python=python, extensions=extensions)
    home = tmp_path / server_name
    home.mkdir()
    calls = [
        f"server.contents_manager.register_{kind}_save_hook({name})" for kind, name in hooks.items()
    ]
    (home / "zz_later.py").write_text(LATER.format(functions=functions, register="; ".join(calls)))
    return servers(server_name, extensions=[*extensions, "zz_later"])


def ran(source: str) -> dict[str, Any]:
    content = notebook(source)
    content["cells"][0] |= {
        "execution_count": 1,
        "outputs": [nbformat.v4.new_output("stream", text="out")],
    }
    return content


@pytest.mark.parametrize("when", ["before", "after"])
def test_content_removed_by_a_hook_is_not_recorded(
    servers: Servers, tmp_path: Any, when: str
) -> None:
    server = registered(f"{when}-axon", servers, tmp_path, STRIPS, pre="strip")
    assert server.save("a.ipynb", ran("print()")).status == 201
    record = server.assert_recorded("a.ipynb")
    [cell] = server.got(f"/notebooks/{record['id']}")["cells"]
    assert (cell["outputs"], record["status"]) == ([], "draft")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failing_hook_does_not_affect_the_record(
    servers: Servers, tmp_path: Any, when: str
) -> None:
    hooks = {"pre": "refuse_some", "post": "fail_some"}
    ours = registered(f"{when}-axon", servers, tmp_path, RAISES, **hooks)
    bare = registered(f"{when}-bare", servers, tmp_path, RAISES, **hooks)

    def answers(server: Server, source: str) -> tuple[int, Any]:
        answer = server.save("a.ipynb", notebook(source))
        return answer.status, answer.json.get("message")

    for source in ("fine", "refuse me", "stumble over me", "fail after me", "fine again"):
        assert answers(ours, source) == answers(bare, source)
        ours.assert_recorded("a.ipynb")
        assert ours.file("a.ipynb").cells == bare.file("a.ipynb").cells


def test_a_notebook_paired_with_a_script_is_recorded(servers: Servers) -> None:
    server = servers(extensions=["jupyter_axon_notebooks", "jupyterlab_jupytext"])
    pairing = {"jupytext": {"formats": "ipynb,py:percent"}}
    assert server.save("a.ipynb", notebook("x = 1", **pairing)).status == 201
    record = server.assert_recorded("a.ipynb")
    assert record["id"] == server.embedded("a.ipynb")
    script = server.root / "a.py"
    assert "x = 1" in script.read_text()
    script.write_text(script.read_text().replace("x = 1", "x = 2"))
    opened = server.contents("GET", "a.ipynb").json["content"]
    assert opened["cells"][0]["source"] == "x = 2"
    assert server.save("a.ipynb", opened).status == 200
    assert server.assert_recorded("a.ipynb")["id"] == record["id"]
    assert server.rename("a.ipynb", "b.ipynb").status == 200
    assert server.assert_recorded("b.ipynb")["id"] == record["id"]
    assert [found["path"] for found in server.records()] == ["b.ipynb"]


MEMORY = """
import datetime
from jupyter_server.services.contents.checkpoints import Checkpoints
from jupyter_server.services.contents.manager import ContentsManager
from tornado.web import HTTPError

class InMemory(ContentsManager):
    checkpoints_class = Checkpoints

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.models = {}

    def file_exists(self, path=""):
        return path.strip("/") in self.models

    def dir_exists(self, path=""):
        return not path.strip("/")

    def is_hidden(self, path):
        return False

    def get(self, path, content=True, type=None, format=None, require_hash=False):
        path = path.strip("/")
        moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        common = {"created": moment, "last_modified": moment, "writable": True, "mimetype": None}
        if not path:
            folder = {"name": "", "path": "", "type": "directory"}
            return {**folder, "format": None, "content": None, **common}
        if path not in self.models:
            raise HTTPError(404, f"no {path}")
        model = {"name": path, "path": path, "type": "notebook", **common}
        model |= {"format": None, "content": None}
        if content:
            model |= {"format": "json", "content": self.models[path]}
        return model

    def save(self, model, path=""):
        path = path.strip("/")
        self.run_pre_save_hooks(model=model, path=path)
        self.models[path] = model["content"]
        self.emit(data={"action": "save", "path": path})
        return self.get(path, content=False)

    def delete_file(self, path):
        del self.models[path.strip("/")]

    def rename_file(self, old_path, new_path):
        self.models[new_path.strip("/")] = self.models.pop(old_path.strip("/"))

    def delete(self, path):
        self.delete_file(path)
        self.emit(data={"action": "delete", "path": path})

    def rename(self, old_path, new_path):
        self.rename_file(old_path, new_path)
        self.emit(data={"action": "rename", "path": new_path, "source_path": old_path})

c.ServerApp.contents_manager_class = InMemory
"""


def test_notebooks_that_are_not_files_are_recorded(servers: Servers) -> None:
    server = servers(python=MEMORY)
    write(
        server.home / "a.ipynb", notebook("a file of this name in the folder where the server runs")
    )

    def sources(path: str) -> list[str]:
        cells = server.got(f"/notebooks/{server.record(path)['id']}")["cells"]
        return [cell["source"] for cell in cells]

    assert server.save("a.ipynb", notebook("1")).status == 201
    first = server.record("a.ipynb")
    assert (first["name"], sources("a.ipynb")) == ("a", ["1"])
    assert server.save("a.ipynb", notebook("2")).status == 200
    assert (server.record("a.ipynb")["id"], sources("a.ipynb")) == (first["id"], ["2"])
    assert server.sync("a.ipynb")["id"] == first["id"]
    copy = server.contents("GET", "a.ipynb").json["content"]
    assert server.save("copy.ipynb", copy).status == 201
    assert server.record("copy.ipynb")["metadata"]["extra"]["axon"]["copied_from"] == first["id"]
    assert server.rename("a.ipynb", "b.ipynb").status == 200
    assert (server.record("b.ipynb")["id"], server.record("b.ipynb")["name"]) == (first["id"], "b")
    assert server.contents("DELETE", "b.ipynb").status == 204
    assert server.save("b.ipynb", notebook("3")).status == 201
    assert server.record("b.ipynb")["id"] != first["id"]
