"""The way to a PostgreSQL server, as it can fail: an answer to a COMMIT that never comes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable


class Wire:
    """A relay to the server, which can be cut at the next COMMIT.

    Parameters
    ----------
    delivered : bool
        Whether the server still gets the COMMIT that the cut is made at.
    stopped : bool
        Whether the server's end, the process :attr:`backend`, is stopped first, so that it gets it when it goes on.
    at_cut : callable, optional
        What happens at the cut, before anything is passed on.
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
        self._delivered = delivered
        self._stopped = stopped
        self._at_cut = at_cut
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
                threading.Thread(
                    target=self._to_server, args=(client, server, cut), daemon=True
                ).start()
                threading.Thread(
                    target=self._to_client, args=(server, client, cut), daemon=True
                ).start()

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
                    if not self._delivered:
                        break
                    if self._stopped:
                        os.kill(self.backend, signal.SIGSTOP)
                        server.sendall(data)
                        _shut(client)
                        break
                server.sendall(data)
        if not self._delivered or not cut.is_set():
            _shut(server, client)

    def _to_client(
        self, server: socket.socket, client: socket.socket, cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():  # the server has answered, so it is done
                    break
                client.sendall(data)
        _shut(server, client)

    def refuse(self) -> None:
        """Take no connection any more."""
        _shut(self._listener)

    def close(self) -> None:
        _shut(self._listener, *self._sockets)
        for one in (self._listener, *self._sockets):
            one.close()


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
