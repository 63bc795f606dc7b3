"""Tests that a kernel finds its notebook by its server, its session name, or the user."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.server_processes import notebook, write

from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.records import new_id
from jupyter_axon_notebooks.training.discovery import location, servers
from jupyter_axon_notebooks.training.discovery.location import NotebookLocation, find_location, use

SECRET = "a-secret-token"

WriteServerFile = Callable[..., Path]


@pytest.fixture
def kernel(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make this process look like a kernel of a server; return the id of the kernel."""
    id = new_id()
    file = tmp_path / "runtime" / f"kernel-{id}.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"shell_port": 1, "key": "k"}))
    monkeypatch.setattr(sys, "argv", ["kernel", "-f", str(file)])
    return id


@pytest.fixture
def write_server_file(tmp_path: Path) -> WriteServerFile:
    """Write the file of a server, by default of this process."""

    def write_server_file(port: int, name: str = "1", **fields: Any) -> Path:
        file = tmp_path / "runtime" / f"jpserver-{name}.json"
        defaults = {
            "pid": os.getpid(),
            "hostname": "127.0.0.1",
            "port": port,
            "secure": False,
            "sock": "",
            "base_url": "/",
            "root_dir": str(tmp_path),
            "token": SECRET,
            "url": f"http://127.0.0.1:{port}/",
        }
        file.write_text(json.dumps({**defaults, **fields}))
        return file

    return write_server_file


class AnsweringHandler(BaseHTTPRequestHandler):
    """A handler that sends the answer of the test and records the requests."""

    server: Any

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answer
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def http_server() -> Iterator[Any]:
    """An HTTP server that records the requests."""
    with HTTPServer(("127.0.0.1", 0), AnsweringHandler) as running:
        running.requests, running.answer = [], (200, {}, b"[]")  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def sessions(kernel: str, *paths: str) -> bytes:
    models = [{"path": path, "type": "notebook", "kernel": {"id": kernel}} for path in paths]
    return json.dumps(
        [{"path": "other.ipynb", "type": "notebook", "kernel": {"id": new_id()}}, *models]
    ).encode()


def test_a_request_to_a_server_has_its_token(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = write(tmp_path / "sub" / "ü train.ipynb", notebook("x"))
    http_server.answer = (200, {}, sessions(kernel, "sub/ü train.ipynb"))
    write_server_file(http_server.server_port, base_url="/base/")
    caplog.set_level(logging.DEBUG)
    assert find_location() == NotebookLocation("notebook", "session", str(file))
    assert http_server.requests == [("/base/api/sessions", f"token {SECRET}")]


def test_a_request_to_the_server_of_a_hub_has_the_token_of_the_hub(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the hub's")
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    write_server_file(http_server.server_port, token="")
    find_location()
    assert http_server.requests == [("/api/sessions", "token the hub's")]


def test_a_request_to_another_server_does_not_have_the_token_of_the_hub(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", SECRET)
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getppid()))
    write_server_file(http_server.server_port, token="")
    find_location()
    assert http_server.requests == [("/api/sessions", None)]


@pytest.mark.parametrize(
    "answer",
    [
        (403, {}, b"{}"),
        (200, {}, b"not JSON"),
        (200, {}, b'[1, {"path": 2}, {"kernel": []}, {"path": "p", "kernel": {"id": []}}]'),
        (200, {"Content-Length": "5"}, b"cut"),
        (302, {"Location": "http://127.0.0.2:9/elsewhere"}, b""),
    ],
    ids=["forbidden", "not JSON", "unexpected JSON", "truncated", "redirect"],
)
def test_an_invalid_answer_is_ignored_and_the_token_is_not_logged(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
) -> None:
    http_server.answer = answer
    write_server_file(http_server.server_port)
    caplog.set_level(logging.DEBUG)
    assert find_location() == NotebookLocation("unknown", "nothing")
    assert len(http_server.requests) == 1
    assert SECRET not in caplog.text
    assert SECRET not in repr(list(servers.running_servers([str(Path(sys.argv[2]).parent)])))


def test_an_unresponsive_server_is_skipped(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "_TIMEOUT", 0.2)
    file = write(tmp_path / "train.ipynb", notebook("x"))
    http_server.answer = (200, {}, sessions(kernel, "train.ipynb"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = psutil.Process().create_time()
        os.utime(write_server_file(http_server.server_port, "2"), (began, began))
        write_server_file(silent.getsockname()[1], "1")
        assert find_location() == NotebookLocation("notebook", "session", str(file))


@pytest.mark.parametrize(
    "problem",
    [
        "process has ended",
        "pid was reused",
        "damaged",
        "on a socket",
        "incomplete",
        "another user's",
    ],
)
def test_an_invalid_server_file_is_ignored(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file = write_server_file(
        http_server.server_port, pid=ended.pid if problem == "process has ended" else os.getpid()
    )
    match problem:
        case "pid was reused":  # the file is older than the process
            os.utime(file, (1, 1))
        case "damaged":
            file.write_text('{"pid": "')
        case "incomplete":
            file.write_text(json.dumps({"pid": os.getpid()}))
        case "on a socket":
            write_server_file(0, sock="/run/jupyter.sock")
        case "another user's":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_location() == NotebookLocation("unknown", "nothing")
    assert http_server.requests == []


def test_without_a_server_the_session_name_is_used(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "relative.ipynb")
    assert find_location() == NotebookLocation("unknown", "nothing")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "gone.ipynb"))
    assert find_location() == NotebookLocation(
        "notebook", "JPY_SESSION_NAME", str(tmp_path / "gone.ipynb")
    )


def test_a_console_is_not_a_notebook(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    http_server.answer = (200, {}, sessions(kernel, f"console-1-{new_id()}"))
    write_server_file(http_server.server_port)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "Console 1"))
    assert find_location() == NotebookLocation("unknown", "nothing")


def test_a_shared_kernel_belongs_to_the_notebook_it_was_started_for(
    kernel: str,
    write_server_file: WriteServerFile,
    http_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, notebook("x"))
    http_server.answer = (200, {}, sessions(kernel, "a.ipynb", "b.ipynb"))
    write_server_file(http_server.server_port)
    assert find_location() == NotebookLocation("unknown", "nothing")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "b.ipynb"))
    assert find_location() == NotebookLocation("notebook", "session", str(tmp_path / "b.ipynb"))


def test_the_choice_of_the_user_comes_first(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "WORKING_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_SESSION_NAME", str(write(tmp_path / "started.ipynb", notebook("x"))))
    monkeypatch.setenv("AXON_NOTEBOOK", "named.ipynb")
    assert find_location() == NotebookLocation(
        "notebook", "AXON_NOTEBOOK", str(tmp_path / "named.ipynb")
    )
    id = new_id()
    monkeypatch.setenv("AXON_NOTEBOOK", id)
    assert find_location() == NotebookLocation("notebook", "AXON_NOTEBOOK", record_id=id)
    (tmp_path / "train.py").write_text("")
    assert (
        use("train.py")
        == find_location()
        == NotebookLocation("script", "use", str(tmp_path / "train.py"))
    )
    use(Path("started.ipynb"))
    assert find_location() == NotebookLocation("notebook", "use", str(tmp_path / "started.ipynb"))
    with pytest.raises(NotFound, match=r"typo\.ipynb"):
        use("typo.ipynb")
    assert find_location().path == str(tmp_path / "started.ipynb")
    use(None)
    assert find_location().record_id == id
