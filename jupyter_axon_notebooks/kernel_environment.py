"""What a server hands to the kernels that it starts, and leaves for those that it does not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.utils import ensure_async

from .config import AxonNotebooks
from .defaults import KERNEL_CONFIG, data_folder
from .errors import InvalidData
from .kernel_config import read_kernel_config, write_kernel_config
from .store.urls import shown_url
from .stores import DATA_DIR, STATES_ROOT, STORE_URL, USER


class KernelEnvironment:
    """Hands a server's store to its kernels in the environment, as the server's own is what all of them inherit.

    So do its terminals, and restarted kernels again. A gateway, which starts kernels elsewhere, passes on what its
    ``allowed_envs`` name: there the paths mean nothing.

    Where requests tell who acts, a kernel gets the user whose request it is started for, and the pointer file names nobody.
    """

    def __init__(self, config: AxonNotebooks, log: logging.Logger) -> None:
        self._config = config
        self._log = log
        self._given: dict[str, str] = {}
        self._before: dict[str, str | None] = {}

    def install(self, kernel_manager: Any, acting_user: Callable[[], str]) -> None:
        """Hand over, from now on."""
        config = self._config
        url = shown_url(config.store_url)  # one with a password is refused, here and there
        self._given = {
            STORE_URL: url,
            STATES_ROOT: config.states_root,
            DATA_DIR: jupyter_data_dir(),
        }
        if config.identity_from_request:
            _start_as(kernel_manager, acting_user)
        else:
            self._given[USER] = config.user_id
        self._before = {name: os.environ.get(name) for name in self._given}
        os.environ.update(self._given)
        if settings := self._settings():
            # Of two copies of the origin one may be all that is left of it.
            kept = {name: value for name, value in self._left().items() if name == "origin"}
            self._leave({**settings, **kept})

    def write_origin(self, origin: str) -> None:
        """Put the origin of the data folder into the pointer file; where another server records is left as it says there."""
        if left := self._left() or self._settings():
            self._leave({**left, "origin": origin})

    def _settings(self) -> dict[str, str]:
        """What the pointer file says of this server; nothing where kernels cannot reach the store."""
        url = shown_url(self._config.store_url)
        if url == "memory://":
            return {}
        named = {} if self._config.identity_from_request else {"user_id": self._config.user_id}
        return {"store_url": url, "states_root": self._config.states_root, **named}

    def _left(self) -> dict[str, str]:
        """What the pointer file says; nothing where it is not to be believed."""
        try:
            return read_kernel_config(data_folder() / KERNEL_CONFIG)
        except InvalidData:
            return {}

    def _leave(self, settings: dict[str, str]) -> None:
        file = data_folder() / KERNEL_CONFIG
        try:
            write_kernel_config(file, settings)
        except OSError as error:
            self._log.warning(
                "axon: kernels that this server does not start may record elsewhere: %s cannot be written: %s",
                file,
                error.strerror,
            )

    def restore(self) -> None:
        """Leave the environment as it was. The pointer file stays: kernels outlive servers."""
        for name, value in self._given.items():
            before = self._before[name]
            if os.environ.get(name) != value:
                continue  # somebody else's by now
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def _start_as(kernel_manager: Any, acting_user: Callable[[], str]) -> None:
    """Have each kernel told whose request it is started for; a restart keeps that."""
    start = kernel_manager.start_kernel

    async def start_kernel(*args: Any, env: dict[str, str] | None = None, **kwargs: Any) -> Any:
        env = {**(os.environ if env is None else env), USER: acting_user()}
        return await ensure_async(start(*args, env=env, **kwargs))

    kernel_manager.start_kernel = start_kernel
