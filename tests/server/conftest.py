"""A real Jupyter server with the extension, and a client of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import MemorySignatureStore
from pytest_jupyter.jupyter_server import *  # noqa: F403 - its fixtures, and its way of running coroutines
from support.rest_client import Client, dump


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_axon_notebooks": True}},
        "AxonNotebooks": {"user_id": "ada"},
        "NotebookNotary": {
            "store_factory": MemorySignatureStore
        },  # the other one leaves its database open
    }


@pytest.fixture
def axon(
    jp_serverapp: Any, http_server_client: Any, jp_base_url: str, jp_auth_header: Any
) -> Client:
    return Client(http_server_client, jp_base_url, dict(jp_auth_header))


@pytest.fixture
def data(jp_data_dir: Path) -> Path:
    """The folder of the store and the state files."""
    return jp_data_dir


@pytest.fixture
def stored(data: Path, jp_root_dir: Path) -> Callable[[], list[str]]:
    """Gives everything that is stored."""
    return lambda: dump(data, data / "axon_notebooks" / "states", jp_root_dir)


@pytest.fixture
def write_notebook(jp_root_dir: Path) -> Callable[..., Path]:
    """Writes a notebook file below the server's root, past the server."""

    def write(path: str, *sources: str) -> Path:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources]
        )
        file = jp_root_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nbformat.writes(notebook))
        return file

    return write


@pytest.fixture
def read_sources() -> Callable[[Path], list[str]]:
    """Gives the sources of a notebook file's cells."""
    return lambda file: [
        cell["source"] for cell in nbformat.reads(file.read_text(), as_version=4).cells
    ]
