"""What holds where nothing is configured: the same for a server, the command line and what trains without either."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Final

#: The kernel configuration file in :func:`data_folder`, see :mod:`.kernel_config`.
KERNEL_CONFIG: Final = "kernels.json"
#: Seconds that whoever only reads waits: for saves on their way to the store, and for a store that others keep locked.
READ_TIMEOUT: Final = 2.0


def data_folder(data_dir: str | None = None) -> Path:
    """This project's folder in Jupyter's data folder, ``data_dir`` where that is given."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(data_dir or jupyter_data_dir(), "axon_notebooks")


def default_url(data_dir: str | None = None) -> str:
    """SQLite in Jupyter's data folder: ``axon_notebooks/axon.db``."""
    return f"sqlite:///{data_folder(data_dir)}/axon.db"


def default_states_root(data_dir: str | None = None) -> str:
    """Where state files go: ``axon_notebooks/states`` in Jupyter's data folder."""
    return str(data_folder(data_dir) / "states")


def default_user() -> str:
    """Who acts: the JupyterHub user, else the name of the operating system's login."""
    return os.environ.get("JUPYTERHUB_USER") or _login()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "user"
