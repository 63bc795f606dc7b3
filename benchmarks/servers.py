"""The measured servers, each a process with all its files in one folder, and a client."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

#: Seconds to wait for the start of a server.
_PATIENCE = 120


class Client:
    """A client of one server, with one connection kept open.

    Attributes
    ----------
    pid : int
        The id of the server's process.
    """

    def __init__(self, port: int, pid: int, headers: Mapping[str, str]) -> None:
        self.pid = pid
        self._port = port
        self._headers = {**headers, "Content-Type": "application/json"}
        self._connection = self.connected()

    def connected(self) -> HTTPConnection:
        """Open another connection."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        connection: HTTPConnection | None = None,
    ) -> bytes:
        """Send a request and return the answer; exit the script on failure.

        A connection that the server closed after a pause is opened again.
        """
        connection = connection or self._connection
        try:
            connection.request(method, url, body, self._headers)
            response = connection.getresponse()
        except ConnectionError:
            connection.close()
            connection.request(method, url, body, self._headers)
            response = connection.getresponse()
        answer = response.read()
        if response.status not in (200, 201):
            sys.exit(f"{method} {url}: {response.status} {answer[:500]!r}")
        return answer

    def say(self, method: str, url: str, said: Any = None) -> Any:
        """Send JSON and return the JSON answer."""
        return json.loads(
            self.ask(method, url, None if said is None else json.dumps(said).encode())
        )


@contextmanager
def jupyter_server(
    folder: Path, extensions: Sequence[str], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Client]:
    """Start a Jupyter server with only these extensions, and with all its files in `folder`."""
    (folder / "root").mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex()
    configured = {
        "ServerApp": {
            "jpserver_extensions": dict.fromkeys(extensions, True),
            "open_browser": False,
            "port_retries": 0,  # or the client could reach another server on this port
            "allow_root": True,
            "root_dir": str(folder / "root"),
        },
        "IdentityProvider": {"token": token},
        **(settings or {}),
    }
    configuration = folder / "configuration.json"
    configuration.write_text(json.dumps(configured))
    environment = {
        "HOME": str(folder),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_NO_CONFIG": "1",  # no other installed extensions
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    command = ["-m", "jupyter_server", f"--config={configuration}"]
    with _served(folder, command, environment) as (port, pid):
        yield Client(port, pid, {"Authorization": f"token {token}"})


@contextmanager
def mlflow_server(folder: Path, store: str) -> Iterator[Client]:
    """Start MLflow's tracking server on a store, with one worker for the one client."""
    folder.mkdir()
    command = ["-m", "mlflow", "server", "--workers", "1", "--backend-store-uri", store]
    command += ["--default-artifact-root", str(folder / "artifacts"), "--host", "127.0.0.1"]
    with _served(folder, command, {"HOME": str(folder)}) as (port, pid):
        yield Client(port, pid, {})


@contextmanager
def _served(
    folder: Path, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command, f"--port={port}"],
            env={**os.environ, **environment},
            cwd=folder,
            stdout=file,
            stderr=file,
        )
    try:
        _await_answers(port, process, log)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the server did not start:\n{log.read_text()[-4000:]}")
