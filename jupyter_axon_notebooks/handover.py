"""What a server hands to the kernels that it starts, and leaves for those that it does not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.utils import ensure_async

from .config import AxonNotebooks
from .defaults import POINTER, data_folder
from .store.urls import shown_url
from .training.pointer import write_pointer
from .training.settings import DATA_DIR, STATES_ROOT, STORE_URL, USER


class Handover:
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

    def give(self, kernel_manager: Any, acting_user: Callable[[], str], origin: str | None = None) -> None:
        """Hand over, from now on; ``origin`` is the data folder's, where it is known."""
        config = self._config
        url = shown_url(config.store_url)  # one with a password is refused, here and there
        self._given = {STORE_URL: url, STATES_ROOT: config.states_root, DATA_DIR: jupyter_data_dir()}
        if config.identity_from_request:
            _start_as(kernel_manager, acting_user)
        else:
            self._given[USER] = config.user_id
        self._before = {name: os.environ.get(name) for name in self._given}
        os.environ.update(self._given)
        self.leave_pointer(origin)

    def leave_pointer(self, origin: str | None) -> None:
        """Leave the pointer file, unless kernels cannot reach the store."""
        url = shown_url(self._config.store_url)
        if url == "memory://":
            return
        left = {"store_url": url, "states_root": self._config.states_root}
        if origin is not None:
            left["origin"] = origin
        if not self._config.identity_from_request:
            left["user_id"] = self._config.user_id
        file = data_folder() / POINTER
        try:
            write_pointer(file, left)
        except OSError as error:
            self._log.warning(
                "axon: kernels that this server does not start may record elsewhere: %s cannot be written: %s",
                file,
                error.strerror,
            )

    def take_back(self) -> None:
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
