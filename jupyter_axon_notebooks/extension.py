"""The server extension: configuration and wiring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import TimeoutError as Overdue
from http import HTTPStatus
from pathlib import Path
from typing import Any

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
from .handlers import SETTING, Home, RequestThreads, Services, Writers, routes
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

#: Worker threads: what a request reads in the store, or does to the disk, happens in one of them.
_WORKERS = 8
#: Seconds that the contents manager is given to get a notebook.
_FETCH_TIMEOUT = 30.0


class AxonExtension(AxonNotebooks, ExtensionApp):
    """Training-notebook records for a Jupyter server."""

    name = "jupyter_axon_notebooks"
    extension_url = "/axon"
    load_other_extensions = True

    def initialize_settings(self) -> None:
        """Start the worker, which opens the store, and hand it to the handlers."""
        for log in self._logs:
            log.addFilter(PRINTABLE_LOG)
        self._executor = RequestThreads(_WORKERS, thread_name_prefix="axon")
        self._ids = EmbeddedIds(lambda stored: self._paths.shown(stored))
        self._kernel_environment = KernelEnvironment(self, self.log)
        self._origin = ServerOrigin(data_folder(), self.log, self._kernel_environment.write_origin)
        self._sync = NotebookSync(
            self.store_url, self._open, self.log, self._ids, self._read, self._origin.check
        )
        self._followed: Any = None
        self._follow_contents()
        self._writers = Writers()
        self.settings[SETTING] = Services(self, self._sync, self._executor, self._writers)
        self._kernel_environment.install(self._server.kernel_manager, self._owner)
        self._sync.start()
        self._sync.drain()  # so that the first save finds the store open, if it can be had soon
        # Another extension may yet put a contents manager of its own in this one's place.
        self._server.io_loop.add_callback(self._follow_contents)

    def _open(self) -> Home:
        """Open the store and what stands on it; called by the worker."""
        origin = self._origin.read()
        store = open_store(self.store_url, read_timeout=READ_TIMEOUT)
        try:
            return self._home(store, origin)
        except BaseException:
            store.close()
            raise

    def _home(self, store: Store, origin: str) -> Home:
        store.check_user(None if self.identity_from_request else self.user_id)
        if self.identity_from_request and (shown := store.shown_user) is not None:
            self.log.warning(
                "axon: identity_from_request is on, but the database shows the role in store_url the records of %s only: "
                "those of other users are neither recorded nor shown. Use the role of an administrator "
                "(`jupyter axon init-db --admin`)",
                shown,
            )
        roots = [Path(root) for root in self.extra_states_roots]
        states = StateStorage(
            Path(self.states_root),
            other_roots=roots,
            store_id=store.mark_id,
            former_store_id=store.former_mark_id,
            data_folder=data_folder(),
        )
        repository = NotebookRepository(
            store, states=states, starter_cells=self.starter_templates()
        )
        served = None if self.identity_from_request else self.user_id
        url = shown_url(self.store_url)
        recovery = None
        if url != "memory://":  # a checkpoint would be gone with the server, and its note already
            recovery = BackgroundRecovery(repository, states, origin, url, served)
        collector = GarbageCollector(
            repository, states, self.log, history_limit=self.history_limit, user_id=served
        )
        background = BackgroundWork(
            repository,
            collector,
            self.log,
            user_id=served,
            origin=origin,
            recovery=recovery,
            reopen=self._reopen,
        )
        background.start()
        return Home(store, repository, states, origin, background)

    def _reopen(self) -> None:
        """Have a store opened again whose file was replaced; while there is none, it may be about to come back."""
        path = file_of(self.store_url)
        if path is not None and path.exists():
            self._sync.reopen()

    @property
    def _logs(self) -> tuple[Any, ...]:
        return self.log, self._server.log  # the handlers' is the server's

    @property
    def _server(self) -> Any:
        assert self.serverapp is not None  # it is the server that initialises its extensions
        return self.serverapp

    def _follow_contents(self) -> None:
        """Follow the server's contents manager, beside whatever hooks and listeners the user has."""
        contents = self._server.contents_manager
        if contents is self._followed:
            return
        hears = self._followed is not None and contents.event_logger is self._followed.event_logger
        self._followed = contents
        self._paths = NotebookPaths(contents)
        hooks = SaveHooks(self._saved, self._ids if self.embed_notebook_id else None, self.log)
        contents.register_pre_save_hook(hooks.pre_save)
        contents.register_post_save_hook(hooks.post_save)
        if not hears:
            events = ContentsListener(
                self._ids,
                self.log,
                on_save=self._saved_elsewhere,
                on_rename=lambda old, new: self._sync.file_renamed(
                    self._paths.os_path(old), self._paths.os_path(new)
                ),
                on_delete=lambda path: self._sync.file_deleted(self._paths.os_path(path)),
            )
            contents.event_logger.add_listener(schema_id=CONTENTS_SCHEMA, listener=events)

    @property
    def _has_files(self) -> bool:
        """Whether contents are files, for which post-save hooks run."""
        return isinstance(self._followed, FileManagerMixin)

    def _saved(self, path: str, content: Mapping[str, Any] | None) -> None:
        self._sync.notebook_saved(path, self._owner(), content)

    def _saved_elsewhere(self, path: str) -> None:
        if not self._has_files:
            self._saved(path, None)

    def _owner(self) -> str:
        if not self.identity_from_request:  # asked on each save, in the event loop
            return self.user_id
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        return self.acting_user(getattr(getattr(handler, "current_user", None), "username", None))

    def _read(self, path: str) -> Mapping[str, Any]:
        """A notebook, or a script, by its stored path; called by the worker."""
        if os.path.isabs(path):  # not the contents API's
            return read_file(path)
        fetching = asyncio.run_coroutine_threadsafe(
            self._fetch(path), self._server.io_loop.asyncio_loop
        )
        try:
            return fetching.result(_FETCH_TIMEOUT)
        except Overdue:
            fetching.cancel()
            raise InvalidData("$", f"{path} could not be had within {_FETCH_TIMEOUT:g} s") from None

    async def _fetch(self, path: str) -> Mapping[str, Any]:
        try:
            model = await ensure_async(self._followed.get(path, content=True, type="notebook"))
        except HTTPError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise NotFound("file", path) from None
            raise InvalidData("$", f"{path} cannot be read: {error}") from error
        return dict(model["content"])

    def initialize_handlers(self) -> None:
        """Add the REST routes."""
        self.handlers.extend(routes())

    async def stop_extension(self) -> None:
        """Finish the saves on their way, then close the store."""
        self._kernel_environment.restore()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._sync.stop)
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown()
        await loop.run_in_executor(None, self._sync.close)
        for log in self._logs:
            log.removeFilter(PRINTABLE_LOG)
