"""Kernels of a server, and what they find out about themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient

from support.server_processes import Server

#: Functions that a test calls in a kernel or a script.
QUERIES = """
import dataclasses, json
from jupyter_axon_notebooks.defaults import data_folder
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import read_origin
from jupyter_axon_notebooks.training.discovery.record import find_or_create_record
from jupyter_axon_notebooks.training.discovery.location import find_location, use
from jupyter_axon_notebooks.stores import find_settings

def location():
    return dataclasses.asdict(find_location())

def record():
    settings = find_settings()
    store = open_store(settings.store_url)
    try:
        origin = read_origin(data_folder(settings.data_dir))
        repository, found = NotebookRepository(store), find_location()
        return find_or_create_record(repository, found, origin, settings.user_id).to_json()
    finally:
        store.close()

def settings():
    names = ("store_url", "states_root", "user_id", "data_dir")
    return {name: getattr(find_settings(), name) for name in names}

def summary():
    return {"location": location(), "record": record(), "settings": settings()}
"""


class Kernel:
    """A kernel of a server, over its own channels."""

    def __init__(self, server: Server, id: str, session: Any = None) -> None:
        self.id = id
        self.session = session
        self._client = BlockingKernelClient(
            connection_file=str(server.home / "runtime" / f"kernel-{id}.json")
        )
        self._client.load_connection_file()
        self._client.start_channels(iopub=False, stdin=False, hb=False)
        self.run(f"import os\n{QUERIES}")
        self.pid = int(self.evaluate("", "os.getpid()"))

    def run(self, code: str) -> None:
        """Execute a cell."""
        self.evaluate(code, "None")

    def query(self, expression: str) -> Any:
        """Return the value of an expression, as JSON."""
        return json.loads(self.evaluate("", f"__import__('json').dumps({expression})"))

    def begin(self, code: str) -> str:
        """Begin to execute a cell, and return the id of the message."""
        return str(self._client.execute(code))

    def finish(self, message_id: str) -> None:
        """Wait until a cell has ended without an error."""
        while (message := self._client.get_shell_msg(timeout=60))["parent_header"].get(
            "msg_id"
        ) != message_id:
            pass
        assert message["content"]["status"] == "ok", message["content"]

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)

    def evaluate(self, code: str, expression: str) -> str:
        reply = self._client.execute(
            code, user_expressions={"asked": expression}, reply=True, timeout=60
        )["content"]
        assert reply["status"] == "ok", reply
        found = reply["user_expressions"]["asked"]
        assert found["status"] == "ok", found
        text: str = found["data"]["text/plain"]
        return str(eval(text)) if text.startswith(("'", '"')) else text

    def close(self) -> None:
        self._client.stop_channels()


@contextmanager
def kernel_of(
    server: Server, path: str, base_url: str = "/", headers: dict[str, str] | None = None
) -> Iterator[Kernel]:
    """Start a kernel by a session of ``path``, as front ends do, and end both after the block."""
    asked = {
        "path": path,
        "name": path.rpartition("/")[2],
        "type": "notebook",
        "kernel": {"name": "python3"},
    }
    answer = server.ask("POST", f"{base_url}api/sessions", asked, headers=headers)
    assert answer.status == 201, answer
    session = answer.json
    kernel = Kernel(server, session["kernel"]["id"], session)
    try:
        yield kernel
    finally:
        kernel.close()
        server.ask("DELETE", f"{base_url}api/sessions/{session['id']}")


def python_path() -> str:
    """Return a search path with this folder of modules."""
    tests = Path(__file__).parents[1]
    given = filter(None, [os.environ.get("PYTHONPATH")])
    return os.pathsep.join([str(tests), *given])


def isolated_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that no server started, with its data in ``folder``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "AXON", "JPY_"))
    }
    return {
        **kept,
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": python_path(),
    }


def python(
    *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python, which must succeed."""
    return run([sys.executable, *map(str, arguments)], cwd, environment)


def run(
    command: list[str], cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done
