"""PostgreSQL servers that are killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from support.engines import PostgresqlServer


class MortalServer(PostgresqlServer):
    """A server that writes as durably as it does by default, and can be killed in two ways, which take turns."""

    _crashes = 0

    def crash(self) -> None:
        """Kill it: all of its processes at once, or by having it abandon them."""
        self._crashes += 1
        if self._crashes % 2:
            self.stop("immediate")
            return
        postmaster = psutil.Process(
            int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        )
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()  # or the others would see one die, and end in good order
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)


@contextmanager
def mortal_server() -> Iterator[MortalServer]:
    """A server of one's own, gone at the end."""
    server = MortalServer()
    try:
        yield server
    finally:
        server.close()
