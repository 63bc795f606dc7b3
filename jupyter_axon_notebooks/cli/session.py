"""Which store a command works on, and as whom."""

from __future__ import annotations

import functools
import os
import sqlite3
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
from ..store import has_tables, open_store
from ..store.health import schema_version
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
        """The records, of a store that is there.

        Raises
        ------
        NotFound
            When there is no store yet; none is made.
        StoreError
            When it cannot be used.
        """
        path = file_of(self.url)
        if path is not None:
            if not path.exists() or path.stat().st_size == 0:
                raise _NoStore(shown_url(self.url))
            self._check_is_store(path)
        elif self.url != "memory://" and not has_tables(self.url):
            raise _NoStore(shown_url(self.url))
        with self.writing() as repository:
            yield repository

    def _check_is_store(self, path: Path) -> None:
        # Opening makes the tables, which somebody else's database must not be given.
        try:
            found = schema_version(path)
        except sqlite3.Error:  # opening it will say why
            return
        if found is None:
            raise StoreError(f"{path} is a database, but not a store of jupyter-axon-notebooks")

    @contextmanager
    def writing(self) -> Iterator[NotebookRepository]:
        """The records, of a store that is made if missing; raises StoreError."""
        if self.url == "memory://":
            raise StoreError("the store memory:// is in the server's memory, out of reach of other processes")
        store = open_store(self.url)
        try:
            # An import of a notebook without cells is to stay without them.
            yield NotebookRepository(store, starter_cells=())
        finally:
            store.close()


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
