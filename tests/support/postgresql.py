"""Access to the databases of tests on PostgreSQL, besides the store."""

from __future__ import annotations

import contextlib
from typing import Any

from jupyter_axon_notebooks.store import Document
from support.engines import postgresql


def database_name(url: str) -> str:
    return url.split("/")[3].split("?")[0]


def socket_folder(url: str) -> str:
    return url.split("host=")[1]


def execute_sql(url: str, *commands: str) -> None:
    """Execute each command in a transaction of its own."""
    with contextlib.closing(postgresql().connect(database_name(url))) as connection:
        for command in commands:
            connection.execute(command)


def run_document(id: str, **fields: Any) -> Document:
    return Document({"id": id, "notebook_id": "n", **fields}, id)


def backend_pid(connection: Any) -> int:
    """Return the process of the server for a connection."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def terminate(*pids: int) -> None:
    """End processes of the server, and wait until they have ended."""
    with contextlib.closing(postgresql().connect()) as other:
        for pid in pids:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
