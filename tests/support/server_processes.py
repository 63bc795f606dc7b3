"""Jupyter servers in processes, and a client of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat

TOKEN = "a-token"
_OTHERS = (
    "jupyter_scheduler",
    "jupyter_lsp",
    "jupyter_server_terminals",
    "jupyterlab",
    "jupyterlab_jupytext",
    "notebook_shim",
)
_READY = re.compile(r"http://127\.0\.0\.1:(\d+)/")
_PATIENCE = 60


@dataclass(frozen=True)
class Answer:
    """A response of a server."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A Jupyter server with its own configuration and data directory.

    Parameters
    ----------
    home : Path
        The folder of its configuration, its data and, without ``root``, its notebooks.
    config : mapping
        Traits by class; only the extensions in ``extensions`` are enabled.
    python : str
        Further configuration in Python.
    inside : sequence of str
        A command that runs the server's command.
    """

    def __init__(
        self,
        home: Path,
        *,
        root: Path | None = None,
        data: Path | None = None,
        config: Mapping[str, Any] | None = None,
        python: str = "",
        extensions: Sequence[str] = ("jupyter_axon_notebooks",),
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.root = home / "root" if root is None else root
        self.data = home / "data" if data is None else data
        for folder in (self.root, self.data, home / "config"):
            folder.mkdir(parents=True, exist_ok=True)
        enabled = {**dict.fromkeys(_OTHERS, False), "jupyter_axon_notebooks": False}
        enabled |= dict.fromkeys(extensions, True)
        traits: dict[str, dict[str, Any]] = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "open_browser": False,
                "allow_root": True,
                "root_dir": str(self.root),
                "jpserver_extensions": enabled,
            },
            "IdentityProvider": {"token": TOKEN},
            "AxonNotebooks": {"user_id": "ada"},
            "NotebookNotary": {"db_file": ":memory:"},
            "FileContentsManager": {"delete_to_trash": False, "always_delete_dir": True},
        }
        for name, values in (config or {}).items():
            traits[name] = {**traits.get(name, {}), **values}
        self._config = home / "config" / "given.py"
        lines = [
            f"c.{name}.{trait} = {value!r}"
            for name, v in traits.items()
            for trait, value in v.items()
        ]
        self._config.write_text("\n".join([*lines, python]))
        self._inside = list(inside)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._said = threading.Condition()

    def start(self) -> Server:
        """Start the server and wait until it accepts connections."""
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("JUPYTER", "AXON"))
            },
            "JUPYTER_DATA_DIR": str(self.data),
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.home / "runtime"),
            "PYTHONPATH": os.pathsep.join(
                [str(self.home), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            **self._environment,
        }
        self._process = subprocess.Popen(
            [*self._inside, sys.executable, "-m", "jupyter_server", f"--config={self._config}"],
            env=environment,
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._lines: list[str] = []
        for line in self._process.stderr:
            self._lines.append(line)
            if found := _READY.search(line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError(f"the server did not start:\n{self.log}")
        self._reader = threading.Thread(target=self._listen, args=(self._process.stderr,))
        self._reader.start()
        while not self._listens():  # it logs its address a moment before
            assert self._process.poll() is None, self.log
        return self

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()

    def wait_for_its_store(self) -> None:
        """Wait until the server has opened its store."""
        self.axon("GET", "/notebooks")  # makes the server try again
        self.wait_for("notebooks are recorded in")

    def wait_for(self, said: str, times: int = 1) -> None:
        """Wait until the log has a text, ``times`` times."""
        with self._said:
            assert self._said.wait_for(lambda: self.log.count(said) >= times, _PATIENCE), self.log

    def _listens(self) -> bool:
        try:
            self.contents("GET", "")
        except ConnectionRefusedError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The log so far; complete after :meth:`stop`."""
        return "".join(self._lines)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server with a signal."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.wait(30)
        self._reader.join()
        assert process.stderr is not None
        process.stderr.close()

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server in a context."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    # Requests.

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        link = connection or self.connect()
        try:
            given = {"Authorization": f"token {TOKEN}"} if headers is None else dict(headers)
            link.request(method, path, None if body is None else json.dumps(body), given)
            response = link.getresponse()
            return Answer(response.status, response.read(), dict(response.headers))
        finally:
            if connection is None:
                link.close()

    def contents(self, method: str, path: str, body: Any = None, **given: Any) -> Answer:
        return self.ask(method, f"/api/contents/{quote(path)}", body, **given)

    def save(self, path: str, content: Mapping[str, Any], **given: Any) -> Answer:
        return self.contents(
            "PUT", path, {"type": "notebook", "format": "json", "content": content}, **given
        )

    def rename(self, old: str, new: str) -> Answer:
        return self.contents("PATCH", old, {"path": new})

    def axon(self, method: str, path: str, body: Any = None, **given: Any) -> Answer:
        return self.ask(method, f"/axon{path}", body, **given)

    def got(self, path: str, **given: Any) -> Any:
        """Return the JSON of a successful GET under /axon, once it is not stale."""
        ends = time.monotonic() + _PATIENCE
        while (answer := self.axon("GET", path, **given)).headers.get("X-Axon-Stale") == "true":
            assert time.monotonic() < ends, (answer, self.log)
        assert answer.status == 200, (answer, self.log)
        return answer.json

    def sync(self, path: str) -> Any:
        """Sync a file and return its record."""
        answer = self.axon("POST", "/notebooks/sync", {"path": path})
        assert answer.status == 200, (answer, self.log)
        return answer.json

    def records(self) -> list[Any]:
        return list(self.got("/notebooks?limit=1000"))

    def record(self, path: str) -> Any:
        """Return the one record that is bound to a file."""
        found = self.got(f"/notebooks?path={quote(path)}")
        assert len(found) == 1, (found, self.log)
        return found[0]

    # Files.

    def file(self, path: str) -> Any:
        """Return the notebook in a file, as nbformat reads it."""
        return read(self.root / path)

    def assert_recorded(self, path: str) -> Any:
        """Compare a file's record with the file, and return the record."""
        record = self.record(path)
        exported = self.got(f"/notebooks/{record['id']}/export")["content"]
        given, kept = self.file(path), nbformat.reads(exported, as_version=4)
        if json.loads((self.root / path).read_text())["nbformat"] < 4:
            for made_up in ("orig_nbformat", "orig_nbformat_minor"):
                given.metadata.pop(made_up, None)
            for cell in given.cells + kept.cells:
                cell.pop("id", None)
        assert kept == given, self.log
        return record

    def embedded(self, path: str) -> Any:
        return self.file(path).metadata.get("axon", {}).get("notebook_id")


def notebook(*sources: str, **metadata: Any) -> dict[str, Any]:
    """Return a notebook of code cells."""
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell-{at}") for at, source in enumerate(sources)
    ]
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def read(file: Path) -> Any:
    """Return the notebook in a file."""
    return nbformat.reads(file.read_text(), as_version=4)


def write(file: Path, content: Mapping[str, Any]) -> Path:
    """Write a notebook file without a server."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file
