"""The server extension: configuration and wiring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jupyter_server.base.call_context import CallContext
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.services.contents.fileio import FileManagerMixin
from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from .background import BackgroundWork
from .config import AxonNotebooks
from .defaults import data_folder
from .errors import InvalidData, NotFound
from .garbage import GarbageCollector
from .handlers import SETTING, ServerContext, StoreServices, routes
from .handlers.paths import NotebookPaths
from .kernel_environment import KernelEnvironment
from .printable import PRINTABLE_LOG
from .repository import NotebookRepository
from .states import StateStorage
from .store import READ_TIMEOUT, Store, open_store
from .store.urls import file_of, shown_url
from .sync import (
    CONTENTS_SCHEMA,
    ContentsListener,
    EmbeddedIds,
    NotebookSync,
    SaveHooks,
    ServerOrigin,
)
from .sync.files import read_file
from .training.recovery import BackgroundRecovery
from .training.spooled import spool_folders

#: Seconds that the contents manager may take to return a notebook.
_CONTENTS_TIMEOUT: Final = 30.0


class AxonExtension(AxonNotebooks, ExtensionApp):
    """Training-notebook records for a Jupyter server."""

    name = "jupyter_axon_notebooks"
    extension_url = "/axon"
    load_other_extensions = True

    # Starting and stopping.

    def initialize_settings(self) -> None:
        """Start the worker thread, which opens the store, and connect everything to it."""
        for log in self._logs:
            log.addFilter(PRINTABLE_LOG)
        self._ids = EmbeddedIds(lambda stored: self._paths.to_contents_path(stored))
        self._kernel_environment = KernelEnvironment(self, self.log)
        self._origin = ServerOrigin(data_folder(), self.log, self._kernel_environment.write_origin)
        self._sync = NotebookSync(
            self.store_url, self._open, self.log, self._ids, self._read, self._origin.check
        )
        self._context = self.settings[SETTING] = ServerContext(self, self._sync)
        self._connected_contents: Any = None
        self._connect_contents()
        self._kernel_environment.install(self._server.kernel_manager, self._acting_user)
        self._sync.start()
        self._sync.drain()  # so that the first save finds the store open
        # Another extension may still replace the contents manager.
        self._server.io_loop.add_callback(self._connect_contents)

    def initialize_handlers(self) -> None:
        """Add the REST routes."""
        self.handlers.extend(routes())

    async def stop_extension(self) -> None:
        """Record pending saves, then close the store."""
        self._kernel_environment.restore()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._sync.stop)
        self._context.executor.shutdown()
        await loop.run_in_executor(None, self._sync.close)
        for log in self._logs:
            log.removeFilter(PRINTABLE_LOG)

    @property
    def _server(self) -> Any:
        assert self.serverapp is not None  # the server initializes its extensions
        return self.serverapp

    @property
    def _logs(self) -> tuple[Any, ...]:
        return self.log, self._server.log  # the handlers use the server's

    # The store. The worker thread calls these.

    def _open(self) -> StoreServices:
        """Open the store, and start the background work."""
        origin = self._origin.read()
        store = open_store(self.store_url, read_timeout=READ_TIMEOUT)
        try:
            self._check_user(store)
            states = StateStorage(
                Path(self.states_root),
                other_roots=[Path(root) for root in self.extra_states_roots],
                store_id=store.mark_id,
                data_folder=data_folder(),
            )
            repository = NotebookRepository(
                store, states=states, starter_cells=self.starter_templates()
            )
            user_id = None if self.identity_from_request else self.user_id
            url = shown_url(self.store_url)
            recovery = None
            if url != "memory://":  # checkpoints would be lost when the server stops
                recovery = BackgroundRecovery(
                    repository, states, origin, url, user_id, spool_folders(data_folder())
                )
            background = BackgroundWork(
                repository,
                GarbageCollector(
                    repository, states, self.log, history_limit=self.history_limit, user_id=user_id
                ),
                self.log,
                user_id=user_id,
                origin=origin,
                recovery=recovery,
                reopen=self._reopen,
            )
            background.start()
            return StoreServices(store, repository, states, origin, background)
        except BaseException:
            store.close()
            raise

    def _check_user(self, store: Store) -> None:
        """Check that the database shows this role the records that the server is for."""
        store.check_user(None if self.identity_from_request else self.user_id)
        if self.identity_from_request and (shown := store.shown_user) is not None:
            self.log.warning(
                "axon: identity_from_request is on, but the database role in store_url may see "
                "only the records of %s; those of other users are neither recorded nor shown. "
                "Use the role of an administrator (`jupyter axon init-db --admin`)",
                shown,
            )

    def _reopen(self) -> None:
        """Open a store again whose file was replaced; a missing file may be about to come back."""
        path = file_of(self.store_url)
        if path is not None and path.exists():
            self._sync.reopen()

    def _read(self, path: str) -> Mapping[str, Any]:
        """Return a notebook or a script by its stored path."""
        if os.path.isabs(path):
            return read_file(path)
        future = asyncio.run_coroutine_threadsafe(
            self._read_contents(path), self._server.io_loop.asyncio_loop
        )
        try:
            return future.result(_CONTENTS_TIMEOUT)
        except FutureTimeout:
            future.cancel()
            raise InvalidData(
                "$", f"reading {path} timed out after {_CONTENTS_TIMEOUT:g} s"
            ) from None

    async def _read_contents(self, path: str) -> Mapping[str, Any]:
        try:
            model = await ensure_async(
                self._connected_contents.get(path, content=True, type="notebook")
            )
        except HTTPError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise NotFound("file", path) from None
            raise InvalidData("$", f"{path} cannot be read: {error}") from error
        return dict(model["content"])

    # Contents. The event loop calls these.

    def _connect_contents(self) -> None:
        """Add hooks and a listener to the server's contents manager."""
        contents, previous = self._server.contents_manager, self._connected_contents
        if contents is previous:
            return
        self._connected_contents = contents
        self._paths = NotebookPaths(contents)
        ids = self._ids if self.embed_notebook_id else None
        hooks = SaveHooks(self._on_save, ids, self.log, self.is_excluded)
        contents.register_pre_save_hook(hooks.pre_save)
        contents.register_post_save_hook(hooks.post_save)
        if previous is None or contents.event_logger is not previous.event_logger:
            listener = ContentsListener(
                self._ids,
                self.log,
                on_save=self._on_save_event,
                on_rename=lambda old, new: self._sync.file_renamed(
                    self._paths.to_os_path(old), self._paths.to_os_path(new)
                ),
                on_delete=lambda path: self._sync.file_deleted(self._paths.to_os_path(path)),
            )
            contents.event_logger.add_listener(schema_id=CONTENTS_SCHEMA, listener=listener)

    def _on_save(self, path: str, content: Mapping[str, Any] | None) -> None:
        self._sync.notebook_saved(path, self._acting_user(), content)

    def _on_save_event(self, path: str) -> None:
        has_hooks = isinstance(self._connected_contents, FileManagerMixin)
        if not has_hooks and not self.is_excluded(path):
            self._on_save(path, None)

    def _acting_user(self) -> str:
        if not self.identity_from_request:
            return self.user_id
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        return self.acting_user(getattr(getattr(handler, "current_user", None), "username", None))
