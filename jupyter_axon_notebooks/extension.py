"""The server extension: configuration and wiring."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.base.call_context import CallContext
from jupyter_server.extension.application import ExtensionApp

from .config import AxonNotebooks
from .handlers import SETTING, Services, routes
from .repository import NotebookRepository
from .states import StateFiles
from .states.tidy import tidy
from .store import open_store
from .sync import NotebookSync, SaveHooks, read_origin
from .sync.hooks import EmbeddedIds

#: Worker threads: what a request does to the store or the disk happens in one of them.
_WORKERS = 8


class AxonExtension(AxonNotebooks, ExtensionApp):
    """Training-notebook records for a Jupyter server."""

    name = "jupyter_axon_notebooks"
    extension_url = "/axon"
    load_other_extensions = True

    def initialize_settings(self) -> None:
        """Open the store, start the worker and hand both to the handlers."""
        data = Path(jupyter_data_dir(), "axon_notebooks")
        self._store = open_store(self.store_url)
        self._states = StateFiles(
            Path(self.states_root),
            other_roots=[Path(root) for root in self.extra_states_roots],
            store_id=self._store.id,
        )
        repository = NotebookRepository(
            self._store, states=self._states, starter_cells=self.starter_templates()
        )
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="axon")
        self._sync = NotebookSync(repository, read_origin(data), self.log)
        self._sync.start()
        self._register_hooks()
        self._executor.submit(tidy, self._states, repository, self.log)
        self.settings[SETTING] = Services(
            config=self,
            repository=repository,
            states=self._states,
            sync=self._sync,
            executor=self._executor,
        )
        self.log.info("Training notebooks are recorded in %s", self._store.url)

    def _register_hooks(self) -> None:
        """Follow the saves of the contents manager, beside whatever hooks the user has."""
        assert self.serverapp is not None  # it is the server that initialises its extensions
        contents_manager: Any = self.serverapp.contents_manager
        if not hasattr(contents_manager, "register_post_save_hook"):
            self.log.warning("%s has no save hooks: saves are not recorded", type(contents_manager).__name__)
            return
        ids = EmbeddedIds() if self.embed_notebook_id else None
        hooks = SaveHooks(self._saved, ids, self.log)
        contents_manager.register_pre_save_hook(hooks.pre_save)
        contents_manager.register_post_save_hook(hooks.post_save)

    def _saved(self, path: str, content: dict[str, Any] | None) -> None:
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        username = getattr(getattr(handler, "current_user", None), "username", None)
        self._sync.saved(path, self.acting_user(username), content)

    def initialize_handlers(self) -> None:
        """Add the REST routes."""
        self.handlers.extend(routes())

    async def stop_extension(self) -> None:
        """Finish the saves on their way, then close the store."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._sync.stop)
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._store.close()
