"""Which store a process uses, and the store opened with its records and state files.

Each setting is taken from the first of these sources that has it:

1. an option of the command line;
2. the environment, which a server sets for its kernels and terminals (``AXON_STORE_URL``,
   ``AXON_STATES_ROOT``, ``AXON_USER``; ``AXON_DATA_DIR`` is the server's Jupyter data folder);
3. Jupyter's configuration files, which only the command line reads;
4. the kernel configuration file that a server leaves in the data folder;
5. the defaults.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from jupyter_core.paths import jupyter_data_dir

from .defaults import KERNEL_CONFIG, data_folder, default_states_root, default_url, default_user
from .errors import InvalidData, NotFound, StoreError
from .kernel_config import is_absolute_url, read_kernel_config
from .printable import printable
from .repository import NotebookRepository
from .states import StateStorage
from .store import Store, has_tables
from .store.database import BUSY_TIMEOUT
from .store.sqlite.files import size
from .store.urls import file_of, shown_url
from .sync import read_origin

STORE_URL: Final = "AXON_STORE_URL"
STATES_ROOT: Final = "AXON_STATES_ROOT"
USER: Final = "AXON_USER"
DATA_DIR: Final = "AXON_DATA_DIR"
#: The environment variable that switches system metrics off.
SYSTEM_METRICS: Final = "AXON_SYSTEM_METRICS"

_MEMORY: Final = "memory://"
_VARIABLES: Final = {"store_url": STORE_URL, "states_root": STATES_ROOT, "user_id": USER}
#: Warnings that were shown already: settings are looked up with every checkpoint.
_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(f"axon: {printable(message)}", RuntimeWarning, stacklevel=4)


@dataclass(frozen=True)
class StoreSettings:
    """The store, the folder of state files and the user of a process.

    Attributes
    ----------
    store_url : str
        The URL of the store. Show it to users only through :func:`.store.urls.shown_url`.
    states_root : str
        The folder of the state files.
    user_id : str
        The owner of new records.
    data_dir : str
        Jupyter's data folder: the server's, if a server started this process.
    sources : dict
        Where ``store_url``, ``states_root`` and ``user_id`` come from.
    config_error : str or None
        Why the kernel configuration file is ignored, if it is.
    """

    store_url: str
    states_root: str
    user_id: str
    data_dir: str
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    config_error: str | None = field(default=None, compare=False)

    @property
    def data_folder(self) -> Path:
        """The folder of this project in Jupyter's data folder."""
        return data_folder(self.data_dir)

    @property
    def config_file(self) -> Path:
        """The kernel configuration file."""
        return self.data_folder / KERNEL_CONFIG

    @property
    def unreachable_reason(self) -> str | None:
        """The reason why this process cannot use the store; None if it can try."""
        if self.store_url != _MEMORY:
            return None
        return (
            "the server that started this process keeps its records in memory (memory://), which "
            "other processes cannot reach. Set c.AxonNotebooks.store_url for the server, or "
            f"{STORE_URL} for this process, to sqlite:///<absolute path>"
        )

    def state_files(self, store_id: str = "", other_roots: Sequence[Path] = ()) -> StateStorage:
        """Return the state files of the store with this id; without an id they can only be read."""
        return StateStorage(
            Path(self.states_root),
            other_roots=other_roots,
            store_id=store_id,
            data_folder=self.data_folder,
        )


def find_settings(
    options: Mapping[str, str | None] | None = None,
    configuration: Mapping[str, str] | None = None,
    warn: Callable[[str], object] = _warn_once,
) -> StoreSettings:
    """Return the settings of this process.

    Parameters
    ----------
    options : mapping, optional
        Settings given on the command line, which come first.
    configuration : mapping, optional
        Settings of Jupyter's configuration files, which come after the environment.
    warn : callable
        Called with a sentence about each source that is ignored because it is unusable.
    """
    data_dir = _absolute_variable(DATA_DIR, warn) or jupyter_data_dir()
    file = data_folder(data_dir) / KERNEL_CONFIG
    config_error = None
    left: dict[str, str] = {}
    try:
        left = read_kernel_config(file)
    except InvalidData as error:
        config_error = error.reason
        warn(
            f"{file} is ignored: {error.reason}. It says where this user's Jupyter server records; "
            "remove it and start a server, which writes a new one"
        )
    environment = {
        "store_url": _absolute_variable(STORE_URL, warn),
        "states_root": _absolute_variable(STATES_ROOT, warn),
        "user_id": os.environ.get(USER),
    }
    defaults = {
        "store_url": default_url(data_dir),
        "states_root": default_states_root(data_dir),
        "user_id": default_user(),
    }
    sources: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, default in defaults.items():
        found[name], sources[name] = next(
            (value, source)
            for value, source in (
                ((options or {}).get(name), f"--{name.replace('_', '-')}"),
                (environment[name], _VARIABLES[name]),
                ((configuration or {}).get(name), "the configuration"),
                (left.get(name), str(file)),
                (default, "the default"),
            )
            if value
        )
    return StoreSettings(**found, data_dir=data_dir, sources=sources, config_error=config_error)


def _absolute_variable(name: str, warn: Callable[[str], object]) -> str | None:
    """Return the path or URL in a variable; None, with a warning, if it is relative."""
    value = os.environ.get(name, "")
    if name == STORE_URL:
        is_absolute = is_absolute_url(value)
    else:
        value = os.path.expanduser(value)
        is_absolute = os.path.isabs(value)
    if value and not is_absolute:
        shown = shown_url(value) if name == STORE_URL else value
        warn(f"{name} is ignored: {shown} is a relative path; set an absolute path")
        return None
    return value or None


@dataclass(frozen=True)
class OpenStore:
    """An open store with the records and state files in it; a context manager that closes it."""

    settings: StoreSettings
    store: Store
    repository: NotebookRepository
    states: StateStorage
    warn: Callable[[str], object] = _warn_once

    @cached_property
    def origin(self) -> str:
        """The id of the Jupyter data folder; raises StoreError if it is unusable."""
        return read_origin(self.settings.data_folder, self.warn)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store_at(
    settings: StoreSettings,
    *,
    create: bool = True,
    read_only: bool = False,
    busy_timeout: float = BUSY_TIMEOUT,
    read_timeout: float | None = None,
    check_user: bool = True,
    other_roots: Sequence[Path] = (),
    warn: Callable[[str], object] = _warn_once,
) -> OpenStore:
    """Open the store that ``settings`` name.

    Parameters
    ----------
    create : bool
        Create the store if there is none yet.
    read_only : bool
        Open the store for reading only if its file or folder is read-only, as SQLite writes its
        log beside the file.
    busy_timeout, read_timeout : float
        As for :class:`.store.Store`.
    check_user : bool
        Check that the database shows this user's records.
    other_roots : sequence of Path
        Further folders with state files.
    warn : callable
        Called with a sentence about an origin that was replaced.

    Raises
    ------
    NotFound
        If there is no store and ``create`` is False.
    StoreError
        If the store cannot be opened.
    """
    if settings.unreachable_reason is not None:
        raise StoreError(settings.unreachable_reason)
    read_only = read_only and not _is_writable(settings.store_url)
    if not create and not _exists(settings.store_url, read_only, read_timeout):
        url = shown_url(settings.store_url)
        message = f"there is no store at {url} yet: nothing has been recorded there"
        raise NotFound("store", url, message)
    store = Store(
        settings.store_url,
        busy_timeout=busy_timeout,
        read_timeout=read_timeout,
        read_only=read_only,
    )
    try:
        if check_user:
            store.check_user(settings.user_id)
        states = settings.state_files(store.mark_id, other_roots)
        # A record that is created without cells stays without them.
        repository = NotebookRepository(store, states=states, starter_cells=())
        return OpenStore(settings, store, repository, states, warn)
    except BaseException:
        store.close()
        raise


def _exists(url: str, read_only: bool, read_timeout: float | None) -> bool:
    path = file_of(url)
    if path is not None and size(path) == 0:
        return False
    return has_tables(url, read_only=read_only, read_timeout=read_timeout)


def _is_writable(url: str) -> bool:
    path = file_of(url)
    return path is None or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
