"""Fixtures of a Jupyter server with the extension and jupyter-collaboration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import MemorySignatureStore
from pytest_jupyter.jupyter_server import *  # noqa: F403 - its fixtures and hooks
from support.collaboration import Rooms
from support.rest_client import Client


@pytest.fixture
def jp_server_config(tmp_path: Path) -> dict[str, Any]:
    extensions = ("jupyter_axon_notebooks", "jupyter_server_fileid", "jupyter_server_ydoc")
    return {
        "ServerApp": {"jpserver_extensions": dict.fromkeys(extensions, True)},
        "AxonNotebooks": {"user_id": "ada"},
        # The default one leaves its database open.
        "NotebookNotary": {"store_factory": MemorySignatureStore},
        "BaseFileIdManager": {"db_path": str(tmp_path / "file_ids.db")},
        "SQLiteYStore": {"db_path": str(tmp_path / "rooms.db")},
        # Short times: a room ends with its last client, and saves and checks its file often.
        "YDocExtension": {
            "document_cleanup_delay": 0,
            "document_save_delay": 0.1,
            "file_poll_interval": 0.1,
        },
    }


@pytest.fixture
def axon(
    jp_serverapp: Any, http_server_client: Any, jp_base_url: str, jp_auth_header: Any
) -> Client:
    return Client(http_server_client, jp_base_url, dict(jp_auth_header))


@pytest.fixture
def rooms(jp_serverapp: Any, axon: Client, jp_http_port: int, jp_base_url: str) -> Rooms:
    rooms = Rooms(axon, jp_http_port, jp_base_url)
    jp_serverapp.event_logger.add_listener(
        schema_id="https://schema.jupyter.org/jupyter_collaboration/session/v1",
        listener=rooms.on_event,
    )
    return rooms


@pytest.fixture
def write_notebook(jp_root_dir: Path) -> Callable[..., Path]:
    """Return a function that writes a notebook file below the server's root."""

    def write(path: str, *sources: str) -> Path:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources]
        )
        file = jp_root_dir / path
        file.write_text(nbformat.writes(notebook))
        return file

    return write
