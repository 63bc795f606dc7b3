"""The Jupyter servers of this user that run on this machine, and what they say of a kernel.

A server leaves a file in the runtime folder that says where it is, with its token. The file is believed if it is this
user's, and the process it names runs, is this user's too and was there when the file was written: a token is sent to
nobody else, and never told.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil

from ...userfiles import open_regular, read_at_most

#: Seconds that one server is given to answer, and all of them together.
TIMEOUT: Final = 2.0
_PATIENCE: Final = 4.0
#: Bytes beyond which it is no server's file.
_LONGEST_FILE: Final = 1 << 16
#: Bytes of an answer that are read.
_LONGEST: Final = 64 << 20
#: Addresses that stand for all of a machine's, and where it is reached by them.
_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - read
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})

#: Seconds by which a process may seem to be younger than its file: the clock that it is told from is adjusted.
_SAME_TIME: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningServer:
    """A server, as its file says."""

    pid: int
    host: str
    port: int
    is_secure: bool
    base_url: str
    root_dir: str
    token: str = field(repr=False)

    def sessions(self, kernel_id: str) -> list[dict[str, Any]]:
        """The sessions of a kernel that this server says to have; none where it does not answer."""
        found = self._ask("GET", "api/sessions")
        return (
            [session for session in found if _is_of(session, kernel_id)]
            if isinstance(found, list)
            else []
        )

    def record_id(self, path: str) -> str | None:
        """The id of the record of a notebook in the contents API; None where the server knows of no records."""
        found = self._ask("POST", "axon/notebooks/sync", {"path": path})
        id = found.get("id") if isinstance(found, dict) else None
        return id if isinstance(id, str) else None

    def file(self, path: str) -> str | None:
        """The real path of what the contents API calls ``path``; None where no such file is to be seen."""
        # A shared document's path begins with the name of the drive it was opened from.
        for shown in dict.fromkeys([path, path.partition(":")[2]]):
            real = os.path.realpath(os.path.join(self.root_dir, shown.lstrip("/")))
            if shown and os.path.isfile(real):
                return real
        return None

    def path(self, path: str) -> str:
        """Return the real path that a file has which the contents API calls ``path``, whether or not it is there."""
        return os.path.realpath(os.path.join(self.root_dir, path.removeprefix("RTC:").lstrip("/")))

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the server answers, parsed; None for whatever is no answer."""
        connection = self._connection()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"token {self.token}"
        try:
            connection.request(
                method,
                quote(self.base_url + path, safe="/%"),
                None if body is None else json.dumps(body),
                headers,
            )
            answer = connection.getresponse()
            if answer.status // 100 == 2:
                return json.loads(answer.read(_LONGEST))
            _log.debug("the server at port %d answered %s with %d", self.port, path, answer.status)
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log.debug(
                "the server at port %d did not answer %s: %s", self.port, path, type(error).__name__
            )
        finally:
            connection.close()
        return None

    def _connection(self) -> http.client.HTTPConnection:
        # Neither a proxy nor a redirection is followed: the token is for this server.
        if not self.is_secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        context = ssl.create_default_context()
        if (
            self.host in _HERE
        ):  # a certificate for a name, or signed by its owner; nobody is in between
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=context)


def _is_of(session: Any, kernel_id: str) -> bool:
    return (
        isinstance(session, dict)
        and isinstance(session.get("path"), str)
        and isinstance(session.get("kernel"), dict)
        and session["kernel"].get("id") == kernel_id
    )


def sessions_of(
    kernel_id: str, folders: Iterable[str], parent: int | None
) -> tuple[RunningServer, list[dict[str, Any]]] | None:
    """The server that runs a kernel, with the kernel's sessions there.

    Parameters
    ----------
    folders : iterable of str
        Where servers leave their files.
    parent : int or None
        The process that launched the kernel: it is asked first.
    """
    deadline = time.monotonic() + _PATIENCE
    for server in sorted(running_servers(folders, parent), key=lambda server: server.pid != parent):
        if time.monotonic() > deadline:
            _log.debug("not every server was asked for the kernel: those that were took too long")
            break
        if sessions := server.sessions(kernel_id):
            return server, sessions
    return None


def running_servers(folders: Iterable[str], parent: int | None = None) -> Iterator[RunningServer]:
    """The servers that left their files in ``folders`` and run, the last started first; ``parent`` launched this kernel."""
    found: list[tuple[float, str]] = []
    for file in {
        os.path.realpath(file)
        for folder in folders
        for file in Path(folder).glob("jpserver-*.json")
    }:
        with suppress(OSError):
            found.append((os.stat(file).st_mtime, file))
    for _, file in sorted(found, reverse=True):
        with suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, psutil.Error
        ):
            if (server := _read(file, parent)) is not None:
                yield server


def _read(file: str, parent: int | None) -> RunningServer | None:
    with open_regular(file) as stream:
        found = os.fstat(stream.fileno())
        if not _is_ours(found.st_uid):
            return None
        said = json.loads(read_at_most(stream, _LONGEST_FILE, file))
    if said.get("sock"):
        _log.debug(
            "the server of process %s is not asked: it listens on a unix socket", said.get("pid")
        )
        return None
    pid = int(said["pid"])
    process = psutil.Process(pid)
    if hasattr(process, "uids") and not _is_ours(process.uids().real):
        return None
    if process.create_time() > found.st_mtime + _SAME_TIME:
        return None  # the server is gone, and another process has its number
    token = str(said.get("token") or "")
    if not token and pid == parent:
        # A hub's servers have no token of their own, and take the one that they gave to what they start.
        token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
    host, base_url = str(said["hostname"]), str(said["base_url"]).strip("/")
    return RunningServer(
        pid=pid,
        host=_EVERYWHERE.get(host, host),
        port=int(said["port"]),
        is_secure=bool(said["secure"]),
        base_url=f"/{base_url}/" if base_url else "/",
        root_dir=str(said["root_dir"]),
        token=token,
    )


def _is_ours(user: int) -> bool:
    return not hasattr(os, "geteuid") or user == os.geteuid()
