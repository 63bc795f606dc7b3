"""The store, the user and the state files that a command works on.

See :mod:`jupyter_axon_notebooks.stores` for where the settings come from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from jupyter_core.application import JupyterApp
from traitlets import TraitError
from traitlets.config import Config

from ..config import AxonNotebooks
from ..errors import NotFound, StoreError
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import READ_TIMEOUT
from ..stores import OpenStore, find_settings, open_store_at
from ..sync import read_origin
from .output import note


class Session:
    """The settings of a command, and the store that they name.

    Attributes
    ----------
    config : AxonNotebooks
        The configuration of a server with the user's configuration files.
    settings : StoreSettings
        The store, the state files and the user.
    user : str or None
        Whose records the command shows; None for those of all users.
    """

    def __init__(self, store_url: str | None = None) -> None:
        try:
            self.config = AxonNotebooks(config=read_configuration_files())
            configured = {
                name: getattr(self.config, name)
                for name in ("store_url", "states_root", "user_id")
                if self.config.trait_has_value(name)
            }
        except TraitError as error:
            raise click.UsageError(f"the configuration is wrong: {error}") from error
        self.settings = find_settings({"store_url": store_url}, configured, _warn)
        self.user: str | None = self.settings.user_id

    @property
    def url(self) -> str:
        """The URL of the store. It may hold a password: print only its ``shown_url``."""
        return self.settings.store_url

    def origin(self) -> str:
        """Return the id of the data folder; raises StoreError if it cannot be used."""
        return read_origin(self.settings.data_folder, _warn)

    def states(self, store_id: str = "") -> StateStorage:
        """Return the state files of the store with this id; without an id they can only be read."""
        return self.settings.state_files(store_id, self._other_roots)

    @property
    def _other_roots(self) -> list[Path]:
        return [Path(root) for root in self.config.extra_states_roots]

    @contextmanager
    def open(
        self, *, create: bool = False, for_writing: bool = False, **options: Any
    ) -> Iterator[OpenStore]:
        """Open the store.

        Parameters
        ----------
        create : bool
            Create it if there is none.
        for_writing : bool
            Fail if its file is read-only.
        **options
            As for :func:`.stores.open_store_at`.

        Raises
        ------
        NotFound
            If there is none.
        StoreError
            If it cannot be used.
        """
        settings = self.settings if self.user is None else replace(self.settings, user_id=self.user)
        try:
            opened = open_store_at(
                settings,
                create=create,
                read_only=not (create or for_writing),
                check_user=self.user is not None,
                other_roots=self._other_roots,
                warn=_warn,
                **options,
            )
        except (StoreError, NotFound):
            if self.settings.sources["store_url"] == str(self.settings.config_file):
                note(
                    f"The store URL comes from {self.settings.config_file}, which a Jupyter server "
                    "wrote. If no server uses this store any more, remove that file, or name "
                    "another store with --store-url."
                )
            raise
        with opened:
            yield opened

    @contextmanager
    def read(self) -> Iterator[NotebookRepository]:
        """Open the records for reading; raises as :meth:`open` does."""
        with self.open(read_timeout=READ_TIMEOUT) as opened:
            yield opened.repository

    @contextmanager
    def with_states(
        self, *, create: bool = False
    ) -> Iterator[tuple[NotebookRepository, StateStorage]]:
        """Open the records and the state files; raises as :meth:`open` does."""
        with self.open(create=create) as opened:
            yield opened.repository, opened.states


def _warn(message: str) -> None:
    note(f"Warning: {message}.")


class _ConfigurationFiles(JupyterApp):
    """Reads the configuration files of a Jupyter server."""

    name = "jupyter-axon"
    config_file_name = "jupyter_server_config"
    raise_config_file_errors = True


def read_configuration_files() -> Config:
    """Return the content of Jupyter's configuration files."""
    reader = _ConfigurationFiles()
    try:
        reader.load_config_file(suppress_errors=False)
    except Exception as error:  # a configuration file is a program, and may raise anything
        kind = type(error).__name__
        message = f"a Jupyter configuration file cannot be read: {kind}: {error}"
        raise click.UsageError(message) from error
    return reader.config


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --store-url to a command, and pass it a :class:`Session`."""

    @functools.wraps(command)
    def run(*, store_url: str | None, **arguments: Any) -> None:
        command(Session(store_url), **arguments)

    option = click.option(
        "--store-url",
        metavar="URL",
        help="The URL of the store. By default, the first of these that is set: $AXON_STORE_URL, "
        "the URL in Jupyter's configuration files, the URL of the user's Jupyter server.",
    )
    return option(run)
