"""The environment and the configuration file by which a server tells kernels where to record."""

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
from .stores import DATA_DIR, STATES_ROOT, STORE_URL, SYSTEM_METRICS, USER


class KernelEnvironment:
    """The settings that a server passes on to kernels, and its way of passing them.

    Kernels and terminals that the server starts inherit environment variables. A gateway, which
    starts kernels on other machines, passes on those that its ``allowed_envs`` name. All other
    processes read the kernel configuration file.

    If requests have an identity, a kernel gets the user of the request that starts it, and the file
    has no user.
    """

    def __init__(self, config: AxonNotebooks, log: logging.Logger) -> None:
        self._config = config
        self._log = log
        self._variables: dict[str, str] = {}
        self._previous: dict[str, str | None] = {}
        self._kernel_manager: Any = None

    def install(self, kernel_manager: Any, acting_user: Callable[[], str]) -> None:
        """Set the variables of this process, and write the configuration file.

        The server's own environment is changed since terminals and all kernel provisioners inherit
        it; neither has another way to add variables.
        """
        config = self._config
        self._variables = {
            STORE_URL: shown_url(config.store_url),
            STATES_ROOT: config.states_root,
            DATA_DIR: jupyter_data_dir(),
        }
        if config.identity_from_request:
            self._pass_user(kernel_manager, acting_user)
        else:
            self._variables[USER] = config.user_id
        if not config.system_metrics:
            self._variables[SYSTEM_METRICS] = "0"
        self._previous = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)
        if settings := self._settings():
            # If the origin's own file was lost, this copy of it is the last one.
            kept = {name: value for name, value in self._read().items() if name == "origin"}
            self._write({**settings, **kept})

    def write_origin(self, origin: str) -> None:
        """Write the origin to the configuration file, and leave the settings of other servers."""
        if settings := self._read() or self._settings():
            self._write({**settings, "origin": origin})

    def restore(self) -> None:
        """Undo :meth:`install`, except for the configuration file: kernels outlive servers."""
        if self._kernel_manager is not None:
            del self._kernel_manager.start_kernel
            self._kernel_manager = None
        for name, value in self._variables.items():
            previous = self._previous[name]
            if os.environ.get(name) != value:
                continue  # another extension has changed it since
            if previous is None:
                del os.environ[name]
            else:
                os.environ[name] = previous

    def _pass_user(self, kernel_manager: Any, acting_user: Callable[[], str]) -> None:
        """Add the acting user to the environment of each kernel that is started.

        There is no hook for the environment of a single kernel, so its method is wrapped.
        """
        start = kernel_manager.start_kernel

        async def start_kernel(*args: Any, env: dict[str, str] | None = None, **kwargs: Any) -> Any:
            env = {**(os.environ if env is None else env), USER: acting_user()}
            return await ensure_async(start(*args, env=env, **kwargs))

        kernel_manager.start_kernel = start_kernel
        self._kernel_manager = kernel_manager

    def _settings(self) -> dict[str, str]:
        """Return what the file says of this server; empty if kernels cannot reach its store."""
        url = shown_url(self._config.store_url)
        if url == "memory://":
            return {}
        user = {} if self._config.identity_from_request else {"user_id": self._config.user_id}
        return {"store_url": url, "states_root": self._config.states_root, **user}

    def _read(self) -> dict[str, str]:
        try:
            return read_kernel_config(data_folder() / KERNEL_CONFIG)
        except InvalidData:
            return {}

    def _write(self, settings: dict[str, str]) -> None:
        file = data_folder() / KERNEL_CONFIG
        try:
            write_kernel_config(file, settings)
        except OSError as error:
            self._log.warning(
                "axon: %s could not be written (%s): kernels that this server does not start may "
                "record in another store",
                file,
                error.strerror,
            )
