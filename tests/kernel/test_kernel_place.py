"""Claims about what is asked where nobody answers, or the wrong one would, and about what users say themselves."""

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

SECRET = "nobody-may-read-this"

Leave = Callable[..., Path]


@pytest.fixture
def kernel(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process as a kernel that a server might have started; the kernel's id."""
    id = new_id()
    file = tmp_path / "runtime" / f"kernel-{id}.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"shell_port": 1, "key": "k"}))
    monkeypatch.setattr(sys, "argv", ["kernel", "-f", str(file)])
    return id


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """Leaves the file of a server; of this process unless it says otherwise."""

    def leave(port: int, name: str = "1", **said: Any) -> Path:
        file = tmp_path / "runtime" / f"jpserver-{name}.json"
        known = {
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
        file.write_text(json.dumps({**known, **said}))
        return file

    return leave


class Answering(BaseHTTPRequestHandler):
    """Answers each request with what its server is given."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answer
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def web() -> Iterator[Any]:
    """Something that speaks HTTP."""
    with HTTPServer(("127.0.0.1", 0), Answering) as running:
        running.asked, running.answer = [], (200, {}, b"[]")  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def sessions(kernel: str, *paths: str) -> bytes:
    made = [{"path": path, "type": "notebook", "kernel": {"id": kernel}} for path in paths]
    return json.dumps(
        [{"path": "other.ipynb", "type": "notebook", "kernel": {"id": new_id()}}, *made]
    ).encode()


def test_a_running_server_is_asked_with_its_token(
    kernel: str, leave: Leave, web: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "sub" / "ü train.ipynb", notebook("x"))
    web.answer = (200, {}, sessions(kernel, "sub/ü train.ipynb"))
    leave(web.server_port, base_url="/base/")
    caplog.set_level(logging.DEBUG)
    assert find_location() == NotebookLocation("notebook", "session", str(file))
    assert web.asked == [("/base/api/sessions", f"token {SECRET}")]


def test_a_hubs_server_takes_the_hubs_token(
    kernel: str, leave: Leave, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the hub's")
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    leave(web.server_port, token="")
    find_location()
    assert web.asked == [("/api/sessions", "token the hub's")]


def test_a_server_that_did_not_launch_the_kernel_is_not_told_the_hubs_token(
    kernel: str, leave: Leave, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", SECRET)
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getppid()))
    leave(web.server_port, token="")
    find_location()
    assert web.asked == [("/api/sessions", None)]


@pytest.mark.parametrize(
    "answer",
    [
        (403, {}, b"{}"),
        (200, {}, b"not JSON"),
        (200, {}, b'[1, {"path": 2}, {"kernel": []}, {"path": "p", "kernel": {"id": []}}]'),
        (200, {"Content-Length": "5"}, b"cut"),
        (302, {"Location": "http://127.0.0.2:9/elsewhere"}, b""),
    ],
    ids=["forbidden", "no JSON", "other JSON", "cut short", "elsewhere"],
)
def test_whatever_a_server_answers_nothing_is_raised_and_no_token_told(
    kernel: str, leave: Leave, web: Any, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    web.answer = answer
    leave(web.server_port)
    caplog.set_level(logging.DEBUG)
    assert find_location() == NotebookLocation("unknown", "nothing")
    assert len(web.asked) == 1
    assert SECRET not in caplog.text
    assert SECRET not in repr(list(servers.running_servers([str(Path(sys.argv[2]).parent)])))


def test_a_server_that_does_not_answer_is_given_up(
    kernel: str, leave: Leave, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "TIMEOUT", 0.2)
    file = write(tmp_path / "train.ipynb", notebook("x"))
    web.answer = (200, {}, sessions(kernel, "train.ipynb"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = psutil.Process().create_time()
        os.utime(leave(web.server_port, "2"), (began, began))
        leave(silent.getsockname()[1], "1")
        assert find_location() == NotebookLocation("notebook", "session", str(file))


@pytest.mark.parametrize(
    "trouble", ["gone", "older", "damaged", "on a socket", "half", "another user's"]
)
def test_a_file_that_no_running_server_of_ours_left_is_not_believed(
    kernel: str, leave: Leave, web: Any, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file = leave(web.server_port, pid=gone.pid if trouble == "gone" else os.getpid())
    match trouble:
        case "older":  # its process has a number that was another's
            os.utime(file, (1, 1))
        case "damaged":
            file.write_text('{"pid": "')
        case "half":
            file.write_text(json.dumps({"pid": os.getpid()}))
        case "on a socket":
            leave(0, sock="/run/jupyter.sock")
        case "another user's":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_location() == NotebookLocation("unknown", "nothing")
    assert web.asked == []


def test_the_name_that_a_kernel_was_started_with_is_what_is_left(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "relative.ipynb")
    assert find_location() == NotebookLocation("unknown", "nothing")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "gone.ipynb"))
    assert find_location() == NotebookLocation(
        "notebook", "JPY_SESSION_NAME", str(tmp_path / "gone.ipynb")
    )


def test_a_console_is_no_notebook(
    kernel: str, leave: Leave, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answer = (200, {}, sessions(kernel, f"console-1-{new_id()}"))
    leave(web.server_port)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "Console 1"))
    assert find_location() == NotebookLocation("unknown", "nothing")


def test_a_kernel_that_two_notebooks_share_is_of_the_one_it_was_started_for(
    kernel: str, leave: Leave, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, notebook("x"))
    web.answer = (200, {}, sessions(kernel, "a.ipynb", "b.ipynb"))
    leave(web.server_port)
    assert find_location() == NotebookLocation("unknown", "nothing")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "b.ipynb"))
    assert find_location() == NotebookLocation("notebook", "session", str(tmp_path / "b.ipynb"))


def test_what_the_user_says_comes_first(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "imported_in", str(tmp_path))
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
