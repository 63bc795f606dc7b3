"""What the tests of PostgreSQL ask of it behind the store's back."""

from __future__ import annotations

import contextlib
from typing import Any

from jupyter_axon_notebooks.store import Document
from support.engines import postgresql


def database_of(url: str) -> str:
    """The name of the database that a store is in."""
    return url.split("/")[3].split("?")[0]


def folder_of(url: str) -> str:
    """Where the socket of a store's server is."""
    return url.split("host=")[1]


def sql(url: str, *commands: str) -> None:
    """Have the database do something, each command on its own."""
    with contextlib.closing(postgresql().connect(database_of(url))) as connection:
        for command in commands:
            connection.execute(command)


def run(id: str, **fields: Any) -> Document:
    """A document for the table of runs."""
    return Document({"id": id, "notebook_id": "n", **fields}, id)


def backend(connection: Any) -> int:
    """The server's process for a connection."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def terminate(*pids: int) -> None:
    """Have processes of the server ended; returns when they are."""
    with contextlib.closing(postgresql().connect()) as other:
        for pid in pids:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
