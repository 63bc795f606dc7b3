"""JupyterLab or Notebook 7 as a process of its own, with authentication, and direct access to its records."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import open_store

#: Seconds after which something counts as never happening.
TIMEOUT = 60.0
#: Seconds for a server to end by itself.
STOP_TIMEOUT = 15.0
_APPUTILS_SETTINGS = "lab/user-settings/@jupyterlab/apputils-extension"
_FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
_KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass
class LabServer:
    """A running server; ``root`` is its root folder, ``data`` Jupyter's data folder."""

    url: str
    token: str
    root: Path
    data: Path
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a REST request for a path under ``/axon``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}"}
        url = f"{self.url}/axon{path}"
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request) as response:
            text = response.read()
            return json.loads(text) if text else None

    def write_notebook(self, path: str, *sources: str) -> Path:
        """Write a notebook file with code cells ``cell-0``, ``cell-1`` ...; not through the server."""
        cells = [
            nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)
        ]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": _KERNELSPEC})
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nbformat.writes(notebook))
        return file

    def sync(self, path: str) -> str:
        """Bring the record of a notebook file up to date; returns its id."""
        return str(self.request("POST", "/notebooks/sync", {"path": path})["id"])

    def create_record(self, path: str, *sources: str) -> str:
        """Write a notebook file and create its record; returns its id."""
        self.write_notebook(path, *sources)
        return self.sync(path)

    def create_record_of(self, user_id: str, name: str) -> str:
        """Create a record of another user, not through the server; returns its id."""
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            return NotebookRepository(store).create(NewNotebook(user_id=user_id, name=name)).id

    def get_record(self, notebook_id: str) -> Any:
        return self.request("GET", f"/notebooks/{notebook_id}")

    def update_record(self, notebook_id: str, **fields: Any) -> Any:
        return self.request("PUT", f"/notebooks/{notebook_id}", fields)

    def add_checkpoint(self, notebook_id: str, epoch: int, step: int, **fields: Any) -> Any:
        """Create a checkpoint; without metrics unless they are given."""
        body = {"epoch": epoch, "step": step, "metrics": {}, **fields}
        return self.request("POST", f"/notebooks/{notebook_id}/checkpoints", body)

    def add_checkpoints(self, notebook_id: str, checkpoints: Iterable[dict[str, Any]]) -> None:
        """Create many checkpoints in one transaction, not through the server."""
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            repository = NotebookRepository(store)
            with store.transaction():
                for fields in checkpoints:
                    repository.create_checkpoint(NewCheckpoint(notebook_id=notebook_id, **fields))

    def start_runs(self, notebook_id: str, *runs: dict[str, Any]) -> list[str]:
        """Begin runs with these fields, not through the server; returns their ids."""
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            repository = NotebookRepository(store)
            return [repository.runs.start(notebook_id, **fields).id for fields in runs]

    def log(
        self,
        notebook_id: str,
        run_id: str,
        metrics: Sequence[Mapping[str, float]],
        first_step: int = 0,
    ) -> None:
        """Store logged values of a run, a step each, not through the server."""
        now = time.time()
        rows = [Row(first_step + i, now + i, values) for i, values in enumerate(metrics)]
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            begin, end = first_step, first_step + len(rows)
            series = NotebookRepository(store).series
            series.append(notebook_id, run_id, rows, spool=run_id, begin=begin, end=end)

    def finish_runs(self, notebook_id: str, *run_ids: str) -> None:
        """Set the status of runs to ``completed``, not through the server."""
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            repository = NotebookRepository(store)
            for run_id in run_ids:
                repository.runs.update_status(notebook_id, run_id, RunStatus.COMPLETED)

    def list_checkpoints(self, notebook_id: str, query: str = "") -> list[Any]:
        """List checkpoints, newest first."""
        found: list[Any] = self.request("GET", f"/notebooks/{notebook_id}/checkpoints{query}")
        return found

    def delete_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        self.request("DELETE", f"/notebooks/{notebook_id}/checkpoints/{checkpoint_id}")


@contextmanager
def run_lab(home: Path, app: str = "lab") -> Iterator[LabServer]:
    """Run a server whose folders are all below ``home``; ``app`` is `lab` or `notebook`."""
    root = home / "work"
    folders = {name: home / name.lower() for name in _FOLDERS}
    for folder in (root, *folders.values()):
        folder.mkdir(parents=True, exist_ok=True)
    settings = folders["JUPYTER_CONFIG_DIR"] / _APPUTILS_SETTINGS
    settings.mkdir(parents=True)
    # The question whether to fetch news would cover the page.
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    port, token = _find_free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab" if app == "lab" else app),
        *("--no-browser", "--allow-root", "--ServerApp.port_retries=0"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
        *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
        "--AxonNotebooks.user_id=ada",
    ]
    environment = {**os.environ, "HOME": str(home), **{k: str(v) for k, v in folders.items()}}
    log_file = home / f"{app}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        server = LabServer(url, token, root, folders["JUPYTER_DATA_DIR"], process)
        try:
            _wait_until_ready(server, log_file)
            yield server
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a server, or kill it.

    Soon after a page was loaded, the server lists nbconvert's exporters in a thread, which keeps a
    terminated server from ending (jupyterlab/jupyterlab#10442).
    """
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_chromium() -> str:
    """Return the path of Chromium: the value of AXON_CHROMIUM, or the first found on the PATH."""
    if path := os.environ.get("AXON_CHROMIUM"):
        return path
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        "The browser tests need Chromium or Chrome. `tests/system.sh chromium` says how to get it."
    )


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: LabServer, log_file: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            server.request("GET", "/notebooks?limit=1")
            return
        except (urllib.error.URLError, ConnectionError):
            if server.process.poll() is not None or time.monotonic() > deadline:
                log = log_file.read_text()[-3000:]
                raise RuntimeError(f"The server did not start:\n{log}") from None
            time.sleep(0.1)
