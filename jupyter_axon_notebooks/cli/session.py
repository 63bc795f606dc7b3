"""Which store a command works on, and as whom."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from jupyter_core.application import JupyterApp
from traitlets import TraitError
from traitlets.config import Config

from ..config import AxonNotebooks
from ..errors import NotFound, StoreError
from ..repository import NotebookRepository
from ..states import StateFiles
from ..store import READ_TIMEOUT, Store, has_tables, open_store
from ..store.files import size
from ..store.urls import file_of, shown_url


class Session:
    """What a command is given to work with.

    Attributes
    ----------
    config : AxonNotebooks
        The configuration the server has, its ``store_url`` as this command was told.
    files : Config
        All that Jupyter's configuration files say.
    """

    def __init__(self, store_url: str | None = None) -> None:
        self.files = _configuration_files()
        try:
            self.config = AxonNotebooks(config=self.files)
            if given := store_url or os.environ.get("AXON_STORE_URL"):
                self.config.store_url = given
        except TraitError as error:
            raise click.UsageError(f"the configuration is wrong: {error}") from error

    @property
    def url(self) -> str:
        """The store's URL, as it was given: not for showing."""
        return self.config.store_url

    @contextmanager
    def reading(self) -> Iterator[NotebookRepository]:
        """The records, of a store that is there; raises as :meth:`existing_store`."""
        with self.existing_store(read_timeout=READ_TIMEOUT) as store:
            yield repository_of(store)

    @contextmanager
    def writing(self) -> Iterator[NotebookRepository]:
        """The records, of a store that is made if missing; raises StoreError."""
        with self.store() as store:
            yield repository_of(store)

    @contextmanager
    def with_states(self, *, make: bool = False) -> Iterator[tuple[NotebookRepository, StateFiles]]:
        """The records and the state files of their checkpoints; as :meth:`existing_store`, or as :meth:`store` with ``make``."""
        with self.store() if make else self.existing_store() as store:
            states = self.states(store.mark_id)
            yield repository_of(store, states), states

    def states(self, store_id: str = "") -> StateFiles:
        """The state files, of the store with this id; without one they can be read."""
        roots = [Path(root) for root in self.config.extra_states_roots]
        return StateFiles(Path(self.config.states_root), other_roots=roots, store_id=store_id)

    @contextmanager
    def existing_store(self, *, read_timeout: float | None = None) -> Iterator[Store]:
        """A store that is there; ``read_timeout`` as :func:`.open_store` takes it.

        Raises
        ------
        NotFound
            When there is no store yet; none is made.
        StoreError
            When it cannot be used.
        """
        path = file_of(self.url)
        if path is not None and size(path) == 0:
            raise _NoStore(shown_url(self.url))
        read_only = path is not None and not _can_be_written(path)
        if self.url != "memory://" and not has_tables(
            self.url, read_only=read_only, read_timeout=read_timeout
        ):
            raise _NoStore(shown_url(self.url))
        with self.store(read_only=read_only, read_timeout=read_timeout) as store:
            yield store

    @contextmanager
    def store(self, *, read_only: bool = False, read_timeout: float | None = None) -> Iterator[Store]:
        """The store, made if missing unless it is only to be read; raises StoreError."""
        if self.url == "memory://":
            raise StoreError("the store memory:// is in the server's memory, out of reach of other processes")
        store = open_store(self.url, read_only=read_only, read_timeout=read_timeout)
        try:
            yield store
        finally:
            store.close()


def _can_be_written(path: Path) -> bool:
    # The folder as well: SQLite keeps its log there.
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def repository_of(store: Store, states: StateFiles | None = None) -> NotebookRepository:
    """The records in ``store``; ``states`` is for who removes any."""
    # An import of a notebook without cells is to stay without them.
    return NotebookRepository(store, states=states, starter_cells=())


class _NoStore(NotFound):
    def __init__(self, url: str) -> None:
        super().__init__("store", url)
        self.args = (f"there is no store at {url} yet: nothing has been recorded there",)


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
        help="The store; by default $AXON_STORE_URL, else what Jupyter's configuration files say.",
    )
    return option(receive)
