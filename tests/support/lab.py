"""JupyterLab as a process of its own, with authentication on, and what tests say to it past the browser."""

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
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

#: Seconds after which something that should happen counts as never happening.
PATIENCE = 60.0
#: Seconds that a server has to go in peace.
LEAVE = 15.0
_APPUTILS = "lab/user-settings/@jupyterlab/apputils-extension"


@dataclass
class Lab:
    """A running server; ``root`` is its folder, ``data`` Jupyter's data folder."""

    url: str
    token: str
    root: Path
    data: Path
    process: subprocess.Popen[bytes]

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """What the server answers to a request for a path under /axon."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/axon{path}",
            data=data,
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request) as response:
            text = response.read()
            return json.loads(text) if text else None

    def write(self, path: str, *sources: str) -> Path:
        """A notebook with code cells, past the server; the same cells when it is written again."""
        cells = [
            nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nbformat.writes(notebook))
        return file

    def record(self, path: str) -> str:
        """The id of the record of a notebook file."""
        return str(self.rest("POST", "/notebooks/sync", {"path": path})["id"])

    def checkpoint(self, notebook_id: str, epoch: int, step: int, **given: Any) -> Any:
        """A new checkpoint; its metrics among what is given, or none."""
        body = {"epoch": epoch, "step": step, "metrics": {}, **given}
        return self.rest("POST", f"/notebooks/{notebook_id}/checkpoints", body)

    def checkpoints(self, notebook_id: str, made: Iterable[dict[str, Any]]) -> None:
        """Many new checkpoints at once, past the server: what a kernel of this machine could store."""
        with closing(open_store(f"sqlite:///{self.data}/axon_notebooks/axon.db")) as store:
            repository = NotebookRepository(store)
            with store.transaction():
                for one in made:
                    repository.create_checkpoint(NewCheckpoint(notebook_id=notebook_id, **one))


@contextmanager
def running_lab(home: Path, app: str = "lab") -> Iterator[Lab]:
    """A server whose every folder lies below ``home``; ``app`` is `lab` or `notebook`."""
    root = home / "work"
    folders = {
        name: home / name.lower()
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    for folder in (root, *folders.values()):
        folder.mkdir(parents=True, exist_ok=True)
    settings = folders["JUPYTER_CONFIG_DIR"] / _APPUTILS / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    port, token = _free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab" if app == "lab" else app),
        *("--no-browser", "--allow-root", "--ServerApp.port_retries=0", f"--ServerApp.port={port}"),
        *(
            "--ServerApp.ip=127.0.0.1",
            f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={root}",
        ),
        *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
        "--AxonNotebooks.user_id=ada",
    ]
    environment = {
        **os.environ,
        "HOME": str(home),
        **{name: str(folder) for name, folder in folders.items()},
    }
    with (home / f"{app}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
        lab = Lab(f"http://127.0.0.1:{port}", token, root, folders["JUPYTER_DATA_DIR"], process)
        try:
            _wait(lab, home / f"{app}.log")
            yield lab
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server; by force, where one of Jupyter's own requests keeps it from going.

    A page that has just come has the server look for what nbconvert can do, in a thread that a server which is stopped at
    that moment waits for without end (jupyterlab/jupyterlab#10442). That we keep no server from going is what `tests/saves`
    claims.
    """
    process.terminate()
    try:
        process.wait(LEAVE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_chromium() -> str:
    """Where Chromium is: what AXON_CHROMIUM names, or the first on the PATH."""
    if named := os.environ.get("AXON_CHROMIUM"):
        return named
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    raise RuntimeError(
        "the browser tests need Chromium or Chrome: tests/system.sh chromium says how to get it"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(lab: Lab, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            lab.rest("GET", "/notebooks?limit=1")
            return
        except (urllib.error.URLError, ConnectionError):
            if lab.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the server did not start:\n{log.read_text()[-3000:]}"
                ) from None
            time.sleep(0.1)
