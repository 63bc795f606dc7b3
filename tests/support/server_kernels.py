"""Kernels of a server, and functions that report which notebook a process belongs to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient

from support.kernel import KernelConnection
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


def querying_script(query: str = "summary()") -> str:
    """Return the code of a script that prints the result of a query as JSON."""
    return (
        f"from support.server_kernels import QUERIES\nexec(QUERIES)\nprint(json.dumps({query}))\n"
    )


class SessionKernel(KernelConnection):
    """A kernel of a server, over its own channels."""

    def __init__(self, server: Server, id: str, session_id: str = "") -> None:
        file = server.home / "runtime" / f"kernel-{id}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels(iopub=False, stdin=False, hb=False)
        super().__init__(client)
        self.id = id
        self.session_id = session_id
        self.execute(f"import os\n{QUERIES}")
        self.pid = int(self.evaluate("os.getpid()"))

    def execute(self, source: str) -> None:
        """Execute a cell, which must succeed."""
        reply = self.run(source)
        assert reply["status"] == "ok", reply

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self.client.stop_channels()


@contextmanager
def session_kernel(
    server: Server, path: str, base_url: str = "/", headers: dict[str, str] | None = None
) -> Iterator[SessionKernel]:
    """Start a kernel by a session of ``path``, as front ends do, and end both after the block."""
    model = {
        "path": path,
        "name": path.rpartition("/")[2],
        "type": "notebook",
        "kernel": {"name": "python3"},
    }
    answer = server.ask("POST", f"{base_url}api/sessions", model, headers=headers)
    assert answer.status == 201, answer
    session: Any = answer.json
    kernel = SessionKernel(server, session["kernel"]["id"], session["id"])
    try:
        yield kernel
    finally:
        kernel.close()
        server.ask("DELETE", f"{base_url}api/sessions/{session['id']}")


@contextmanager
def restarted_kernel(server: Server, kernel: SessionKernel) -> Iterator[SessionKernel]:
    """Restart a kernel through its server, and connect to it again."""
    assert server.ask("POST", f"/api/kernels/{kernel.id}/restart", {}).status == 200
    again = SessionKernel(server, kernel.id, kernel.session_id)
    try:
        yield again
    finally:
        again.close()


def rename_session(server: Server, kernel: SessionKernel, path: str) -> None:
    """Give the session of a kernel another path, as front ends do after a renaming."""
    model = {"path": path, "name": path.rpartition("/")[2]}
    assert server.ask("PATCH", f"/api/sessions/{kernel.session_id}", model).status == 200


def rename_notebook(server: Server, kernel: SessionKernel, old: str, new: str) -> None:
    """Rename a notebook as front ends do: its file, then its session."""
    assert server.rename(old, new).status == 200
    rename_session(server, kernel, new)


def python_path() -> str:
    """Return a module search path that includes the tests."""
    inherited = filter(None, [os.environ.get("PYTHONPATH")])
    return os.pathsep.join([str(Path(__file__).parents[1]), *inherited])


def isolated_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that no server started, with its data in ``folder``."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "AXON", "JPY_"))
    }
    return {
        **inherited,
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
    """Run a command, which must succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done
