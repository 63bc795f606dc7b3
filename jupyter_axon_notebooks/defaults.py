"""The default settings of servers, commands and training processes."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Final

#: The kernel configuration file in :func:`data_folder`, see :mod:`.kernel_config`.
KERNEL_CONFIG: Final = "kernels.json"
#: Seconds that reads wait, for pending saves and for a store that is locked by another process.
READ_TIMEOUT: Final = 2.0


def data_folder(data_dir: str | None = None) -> Path:
    """Return the folder of this project in Jupyter's data directory."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(data_dir or jupyter_data_dir(), "axon_notebooks")


def default_url(data_dir: str | None = None) -> str:
    """Return the URL of the default store: SQLite, ``axon_notebooks/axon.db``."""
    return f"sqlite:///{data_folder(data_dir)}/axon.db"


def default_states_root(data_dir: str | None = None) -> str:
    """Return the default folder for state files: ``axon_notebooks/states``."""
    return str(data_folder(data_dir) / "states")


def default_user() -> str:
    """Return the JupyterHub user, or else the login name of the operating system."""
    return os.environ.get("JUPYTERHUB_USER") or _login()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "user"
