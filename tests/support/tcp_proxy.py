"""A proxy to a PostgreSQL server that can cut the connection at a COMMIT."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable


class TcpProxy:
    """A proxy that cuts the connection at the next COMMIT once it is ``armed``.

    Parameters
    ----------
    target : str
        The path of the server's socket.
    delivered : bool
        Whether the server still receives the COMMIT.
    stopped : bool
        Whether the process ``backend`` of the server is stopped first, so that it reads the COMMIT
        only when it is continued.
    at_cut : callable
        Called before the connection is cut.
    """

    def __init__(
        self,
        target: str,
        *,
        delivered: bool,
        stopped: bool = False,
        at_cut: Callable[[], object] = lambda: None,
    ) -> None:
        self._target = target
        self._at_cut = at_cut
        self.delivered = delivered
        self._stopped = stopped
        self.backend = 0
        self.armed = False
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                cut = threading.Event()
                for target, sockets in (
                    (self._to_server, (client, server)),
                    (self._to_client, (server, client)),
                ):
                    threading.Thread(target=target, args=(*sockets, cut), daemon=True).start()

    def _to_server(
        self, client: socket.socket, server: socket.socket, cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.armed and b"; COMMIT" in data:
                    self.armed = False
                    self.cuts += 1
                    cut.set()
                    self._at_cut()
                    if not self.delivered:
                        break
                    if self._stopped:
                        os.kill(self.backend, signal.SIGSTOP)
                        server.sendall(data)
                        _shut_down(client)
                        break
                server.sendall(data)
        if not self.delivered or not cut.is_set():
            _shut_down(server, client)

    def _to_client(
        self, server: socket.socket, client: socket.socket, cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():  # the answer to the COMMIT
                    break
                client.sendall(data)
        _shut_down(server, client)

    def refuse_connections(self) -> None:
        _shut_down(self._listener)

    def close(self) -> None:
        _shut_down(self._listener, *self._sockets)
        for one in (self._listener, *self._sockets):
            one.close()


def _shut_down(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
