"""Which store a command works on, and as whom.

The store, the user and the root of the state files are each taken from the first of these that names it:

1. the option ``--store-url``, for the store;
2. the environment, which a server hands to its terminals and kernels (``AXON_STORE_URL``, ``AXON_USER``,
   ``AXON_STATES_ROOT``; ``AXON_DATA_DIR`` names the data folder, and with it the origin);
3. Jupyter's configuration files;
4. the pointer file that a server left in the data folder, which kernels follow as well;
5. the defaults.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from jupyter_core.application import JupyterApp
from jupyter_core.paths import jupyter_data_dir
from traitlets import TraitError
from traitlets.config import Config

from ..config import AxonNotebooks
from ..defaults import KERNEL_CONFIG, data_folder, default_states_root, default_url
from ..errors import InvalidData, NotFound, StoreError
from ..kernel_config import read_kernel_config
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import READ_TIMEOUT, Store, has_tables, open_store
from ..store.files import size
from ..store.urls import file_of, shown_url
from ..stores import DATA_DIR, STATES_ROOT, STORE_URL, USER
from ..sync import read_origin
from .output import note

_VARIABLES = {"store_url": STORE_URL, "user_id": USER, "states_root": STATES_ROOT}


class Session:
    """What a command is given to work with.

    Attributes
    ----------
    config : AxonNotebooks
        The configuration the server has, with what this command was told and what a server left.
    files : Config
        All that Jupyter's configuration files say.
    data_folder : Path
        This project's folder in Jupyter's data folder.
    sources : dict
        What named ``store_url``, ``user_id`` and ``states_root``.
    pointer_fault : str or None
        Why the pointer file is ignored, if it is.
    user : str or None
        Whose records the command is about; None for everybody's.
    """

    def __init__(self, store_url: str | None = None) -> None:
        self.files = _configuration_files()
        data_dir = _data_dir()
        self.data_folder = data_folder(data_dir)
        left = self._read_pointer()
        defaults = {
            "store_url": default_url(data_dir),
            "states_root": default_states_root(data_dir),
        }
        self.sources: dict[str, str] = {}
        try:
            self.config = AxonNotebooks(config=self.files)
            for trait in _VARIABLES:
                option = store_url if trait == "store_url" else None
                self.sources[trait] = self._settle(trait, option, left, defaults)
        except TraitError as error:
            raise click.UsageError(f"the configuration is wrong: {error}") from error
        self.user: str | None = self.config.user_id

    @property
    def pointer(self) -> Path:
        """The file in which a server leaves where it records."""
        return self.data_folder / KERNEL_CONFIG

    def _read_pointer(self) -> dict[str, str]:
        self.pointer_fault: str | None = None
        try:
            return read_kernel_config(self.pointer)
        except InvalidData as error:
            self.pointer_fault = error.reason
            note(
                f"Warning: {self.pointer} is ignored: {error.reason}. It says where this user's Jupyter server records; "
                "remove it and start a server, which writes it anew."
            )
            return {}

    def _settle(
        self, trait: str, option: str | None, left: dict[str, str], defaults: dict[str, str]
    ) -> str:
        """Give ``trait`` its value, and return what named it."""
        variable = _VARIABLES[trait]
        if option:
            setattr(self.config, trait, option)
            return "--store-url"
        if given := os.environ.get(variable):
            setattr(self.config, trait, given)
            return variable
        if self.config.trait_has_value(trait):
            return "the configuration"
        if trait in left:
            setattr(self.config, trait, left[trait])
            return str(self.pointer)
        if trait in defaults:
            setattr(self.config, trait, defaults[trait])
        return "the default"

    @property
    def url(self) -> str:
        """The store's URL, as it was given: not for showing."""
        return self.config.store_url

    def origin(self) -> str:
        """Return the id of the data folder; raises StoreError when it can neither be read nor written."""
        return read_origin(self.data_folder, lambda text: note(f"Warning: {text}."))

    @contextmanager
    def reading(self) -> Iterator[NotebookRepository]:
        """The records, of a store that is there; raises as :meth:`existing_store`."""
        with self.existing_store(read_timeout=READ_TIMEOUT) as store:
            yield repository_of(store, self.states())

    @contextmanager
    def writing(self, *, make: bool = True) -> Iterator[NotebookRepository]:
        """The records, of a store that is opened for writing; as :meth:`store`, or as :meth:`existing_store` without ``make``."""
        with self.store() if make else self.existing_store(for_writing=True) as store:
            yield repository_of(store)

    @contextmanager
    def with_states(
        self, *, make: bool = False
    ) -> Iterator[tuple[NotebookRepository, StateStorage]]:
        """The records and the state files of their checkpoints; as :meth:`existing_store`, or as :meth:`store` with ``make``."""
        with self.store() if make else self.existing_store() as store:
            states = self.states(store.mark_id)
            yield repository_of(store, states), states

    def states(self, store_id: str = "") -> StateStorage:
        """The state files, of the store with this id; without one they can be read."""
        roots = [Path(root) for root in self.config.extra_states_roots]
        return StateStorage(
            Path(self.config.states_root),
            other_roots=roots,
            store_id=store_id,
            data_folder=self.data_folder,
        )

    @contextmanager
    def existing_store(
        self, *, read_timeout: float | None = None, for_writing: bool = False
    ) -> Iterator[Store]:
        """A store that is there; ``read_timeout`` as :func:`.open_store` takes it.

        One whose file cannot be written is opened to be read only, unless it is needed ``for_writing``.

        Raises
        ------
        NotFound
            When there is no store yet; none is made.
        StoreError
            When it cannot be used.
        """
        path = file_of(self.url)
        read_only = not for_writing and path is not None and not _can_be_written(path)
        with self._telling_source():
            if path is not None and size(path) == 0:
                raise _NoStore(shown_url(self.url))
            if self.url != "memory://" and not has_tables(
                self.url, read_only=read_only, read_timeout=read_timeout
            ):
                raise _NoStore(shown_url(self.url))
        with self.store(read_only=read_only, read_timeout=read_timeout) as store:
            yield store

    @contextmanager
    def store(
        self, *, read_only: bool = False, read_timeout: float | None = None
    ) -> Iterator[Store]:
        """The store, made if missing unless it is only to be read; raises StoreError."""
        if self.url == "memory://":
            raise StoreError(
                "the store memory:// is in the server's memory, out of reach of other processes"
            )
        with self._telling_source():
            store = open_store(self.url, read_only=read_only, read_timeout=read_timeout)
        try:
            if self.user is not None:
                store.check_user(self.user)
            yield store
        finally:
            store.close()

    @contextmanager
    def _telling_source(self) -> Iterator[None]:
        """Where a store that a server left the name of cannot be used, say that it did."""
        try:
            yield
        except (StoreError, NotFound):
            if self.sources["store_url"] == str(self.pointer):
                note(
                    f"The store is the one that {self.pointer} names, which a Jupyter server left. If no server of yours "
                    "uses that store any more, remove the file, or name another store with --store-url."
                )
            raise


def _can_be_written(path: Path) -> bool:
    # The folder as well: SQLite keeps its log there.
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def repository_of(store: Store, states: StateStorage | None = None) -> NotebookRepository:
    """The records in ``store``; ``states`` is for who removes any, or shows where state files are."""
    # An import of a notebook without cells is to stay without them.
    return NotebookRepository(store, states=states, starter_cells=())


class _NoStore(NotFound):
    def __init__(self, url: str) -> None:
        super().__init__("store", url)
        self.args = (f"there is no store at {url} yet: nothing has been recorded there",)


def _data_dir() -> str:
    data_dir = os.path.expanduser(os.environ.get(DATA_DIR, "")) or jupyter_data_dir()
    if not os.path.isabs(data_dir):
        raise click.UsageError(f"{DATA_DIR} is {data_dir}; expected an absolute path")
    return data_dir


class _ConfigurationFiles(JupyterApp):
    """Reads the files that a Jupyter server reads, and nothing more."""

    name = "jupyter-axon"
    config_file_name = "jupyter_server_config"
    raise_config_file_errors = True


def _configuration_files() -> Config:
    reader = _ConfigurationFiles()
    try:
        reader.load_config_file(suppress_errors=False)
    except Exception as error:  # a configuration file is a program, and may raise anything
        raise click.UsageError(
            f"a Jupyter configuration file cannot be read: {type(error).__name__}: {error}"
        ) from error
    return reader.config


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the option that names the store, and a :class:`Session` as its first argument."""

    @functools.wraps(command)
    def receive(*, store_url: str | None, **given: Any) -> None:
        command(Session(store_url), **given)

    option = click.option(
        "--store-url",
        metavar="URL",
        help="The store; by default $AXON_STORE_URL, else what Jupyter's configuration files say, else the store of "
        "the user's Jupyter server.",
    )
    return option(receive)
