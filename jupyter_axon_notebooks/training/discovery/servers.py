"""The Jupyter servers of this user on this machine, and the sessions of a kernel there.

A server leaves a file with its address and token in the runtime folder. The file is used if it
belongs to this user, and so does the process that it names, which must be older than the file. The
token is sent to that process only, and is never shown.
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

#: Seconds to wait for one server, and for all of them together.
_TIMEOUT: Final = 2.0
_TOTAL_TIMEOUT: Final = 4.0
#: The largest file of a server, and the largest response, that are read, in bytes.
_MAX_FILE_SIZE: Final = 1 << 16
_MAX_RESPONSE_SIZE: Final = 64 << 20
#: Addresses that stand for all of a machine's, and the address to reach them by.
_WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - read
_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})
#: Seconds by which a process may seem younger than its file, as clocks are adjusted.
_CLOCK_TOLERANCE: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningServer:
    """A Jupyter server, as its file in the runtime folder describes it."""

    pid: int
    host: str
    port: int
    is_secure: bool
    base_url: str
    root_dir: str
    token: str = field(repr=False)

    def sessions(self, kernel_id: str) -> list[dict[str, Any]]:
        """Return the server's sessions with a kernel; empty if it does not answer."""
        found = self._request("GET", "api/sessions")
        if not isinstance(found, list):
            return []
        return [session for session in found if _has_kernel(session, kernel_id)]

    def record_id(self, path: str) -> str | None:
        """Return the id of the record of a notebook in the contents API, if the server has one."""
        found = self._request("POST", "axon/notebooks/sync", {"path": path})
        id = found.get("id") if isinstance(found, dict) else None
        return id if isinstance(id, str) else None

    def find_file(self, path: str) -> str | None:
        """Return the real path of a file in the contents API; None if it is not on this disk."""
        # The path of a shared document begins with the name of its drive.
        for name in dict.fromkeys([path, path.partition(":")[2]]):
            file = os.path.realpath(os.path.join(self.root_dir, name.lstrip("/")))
            if name and os.path.isfile(file):
                return file
        return None

    def real_path(self, path: str) -> str:
        """Return the real path of a file in the contents API, whether or not it exists."""
        return os.path.realpath(os.path.join(self.root_dir, path.removeprefix("RTC:").lstrip("/")))

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded response; None if there is no usable one."""
        connection = self._connect()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"token {self.token}"
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, quote(self.base_url + path, safe="/%"), content, headers)
            response = connection.getresponse()
            if response.status // 100 == 2:
                return json.loads(response.read(_MAX_RESPONSE_SIZE))
            _log.debug("server at port %d: %s returned %d", self.port, path, response.status)
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log.debug("server at port %d: %s failed: %s", self.port, path, type(error).__name__)
        finally:
            connection.close()
        return None

    def _connect(self) -> http.client.HTTPConnection:
        # http.client follows no proxies or redirections, so only this server gets the token.
        if not self.is_secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT)
        context = ssl.create_default_context()
        if self.host in _LOCAL:  # local certificates are often self-signed, or for another name
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.host, self.port, timeout=_TIMEOUT, context=context)


def _has_kernel(session: Any, kernel_id: str) -> bool:
    return (
        isinstance(session, dict)
        and isinstance(session.get("path"), str)
        and isinstance(session.get("kernel"), dict)
        and session["kernel"].get("id") == kernel_id
    )


def find_sessions(
    kernel_id: str, folders: Iterable[str], parent: int | None
) -> tuple[RunningServer, list[dict[str, Any]]] | None:
    """Return the server that runs a kernel, and the kernel's sessions there.

    Parameters
    ----------
    folders : iterable of str
        The folders in which servers leave their files.
    parent : int or None
        The process that launched the kernel, which is asked first.
    """
    deadline = time.monotonic() + _TOTAL_TIMEOUT
    for server in sorted(running_servers(folders, parent), key=lambda server: server.pid != parent):
        if time.monotonic() > deadline:
            _log.debug("servers are too slow: not all of them were asked for the kernel")
            break
        if sessions := server.sessions(kernel_id):
            return server, sessions
    return None


def running_servers(folders: Iterable[str], parent: int | None = None) -> Iterator[RunningServer]:
    """Yield the running servers with a file in ``folders``, the last started first.

    Parameters
    ----------
    parent : int, optional
        The process that launched this kernel.
    """
    files = {
        os.path.realpath(file) for root in folders for file in Path(root).glob("jpserver-*.json")
    }
    found: list[tuple[float, str]] = []
    for file in files:
        with suppress(OSError):
            found.append((os.stat(file).st_mtime, file))
    for _, file in sorted(found, reverse=True):
        # A file may hold anything, and its process may end at any time.
        with suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, psutil.Error
        ):
            if (server := _read_server(file, parent)) is not None:
                yield server


def _read_server(file: str, parent: int | None) -> RunningServer | None:
    with open_regular(file) as stream:
        status = os.fstat(stream.fileno())
        if not _is_this_user(status.st_uid):
            return None
        content = json.loads(read_at_most(stream, _MAX_FILE_SIZE, file))
    if content.get("sock"):
        _log.debug("server of process %s uses a unix socket: not asked", content.get("pid"))
        return None
    pid = int(content["pid"])
    process = psutil.Process(pid)
    if hasattr(process, "uids") and not _is_this_user(process.uids().real):
        return None
    if process.create_time() > status.st_mtime + _CLOCK_TOLERANCE:
        return None  # the server has ended, and another process has its id
    token = str(content.get("token") or "")
    if not token and pid == parent:
        # The servers of a hub have no token of their own; their kernels inherit the hub's.
        token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
    host, base_url = str(content["hostname"]), str(content["base_url"]).strip("/")
    return RunningServer(
        pid=pid,
        host=_WILDCARDS.get(host, host),
        port=int(content["port"]),
        is_secure=bool(content["secure"]),
        base_url=f"/{base_url}/" if base_url else "/",
        root_dir=str(content["root_dir"]),
        token=token,
    )


def _is_this_user(user: int) -> bool:
    return not hasattr(os, "geteuid") or user == os.geteuid()
