"""A PostgreSQL server that is killed."""

from __future__ import annotations

import psutil
from support.engines import PostgresqlServer


class CrashingServer(PostgresqlServer):
    """A durable server that is killed in two ways, by turns."""

    _crashes = 0

    def crash(self) -> None:
        """Stop it without a shutdown, or kill all of its processes at once."""
        self._crashes += 1
        if self._crashes % 2:
            self.stop("immediate")
            return
        pid = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in processes:
            process.suspend()  # or the others would shut down in order when the first one dies
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)
