"""Where a kernel records, and as whom.

Each setting is taken from the first of these that tells it: the environment, which a server hands to its kernels; the
pointer file, which a server leaves in Jupyter's data folder for kernels that it did not start; the defaults.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Final

from jupyter_core.paths import jupyter_data_dir

from ..defaults import POINTER, data_folder, default_states_root, default_url, default_user
from ..errors import InvalidData
from ..pointer import is_anywhere_the_same, read_pointer
from ..printable import printable
from ..store.urls import shown_url

#: The environment variables; the last is the server's data folder, which names the origin and may not be the kernel's.
STORE_URL: Final = "AXON_STORE_URL"
STATES_ROOT: Final = "AXON_STATES_ROOT"
USER: Final = "AXON_USER"
DATA_DIR: Final = "AXON_DATA_DIR"

_MEMORY: Final = "memory://"
#: What was warned of already: settings are asked for with every checkpoint.
_warned: set[str] = set()


@dataclass(frozen=True)
class KernelSettings:
    """Where a kernel records, and as whom.

    Attributes
    ----------
    data_dir : str
        Jupyter's data folder: of the server, where one handed it over.
    """

    store_url: str
    states_root: str
    user_id: str
    data_dir: str

    @property
    def unreachable(self) -> str | None:
        """Why no kernel can record in that store; None if it can be tried."""
        if self.store_url != _MEMORY:
            return None
        return (
            "the server that started this kernel keeps its records in memory (memory://), where no kernel reaches them: "
            f"set c.AxonNotebooks.store_url there, or {STORE_URL} here, to sqlite:///<absolute path>"
        )


def settings() -> KernelSettings:
    """The settings of this process. What cannot be used is passed over, with one warning that names why."""
    data_dir = _absolute(DATA_DIR) or jupyter_data_dir()
    file = data_folder(data_dir) / POINTER
    left: dict[str, str] = {}
    try:
        left = read_pointer(file)
    except InvalidData as error:
        _warn(f"{file} is ignored: {error.reason}")
    return KernelSettings(
        store_url=_url() or left.get("store_url") or default_url(data_dir),
        states_root=_absolute(STATES_ROOT)
        or left.get("states_root")
        or default_states_root(data_dir),
        user_id=os.environ.get(USER) or left.get("user_id") or default_user(),
        data_dir=data_dir,
    )


def _url() -> str | None:
    url = os.environ.get(STORE_URL)
    if not url or is_anywhere_the_same(url):
        return url
    _warn(
        f"{STORE_URL} is ignored: {shown_url(url)} is a relative path, which leads elsewhere in each folder"
    )
    return None


def _absolute(name: str) -> str | None:
    path = os.path.expanduser(os.environ.get(name, ""))
    if not path or os.path.isabs(path):
        return path or None
    _warn(f"{name} is ignored: {path} is a relative path, which leads elsewhere in each folder")
    return None


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(f"axon: {printable(message)}", RuntimeWarning, stacklevel=3)
