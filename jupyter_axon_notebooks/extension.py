"""The server extension: configuration and wiring."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.base.call_context import CallContext
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.services.contents.fileio import FileManagerMixin
from jupyter_server.utils import ensure_async

from .config import AxonNotebooks
from .handlers import SETTING, Services, routes
from .handlers.paths import NotebookPaths
from .repository import NotebookRepository
from .states import StateFiles
from .states.tidy import tidy
from .store import open_store
from .sync import CONTENTS_SCHEMA, ContentsEvents, EmbeddedIds, NotebookSync, SaveHooks, read_origin

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
        self._ids = EmbeddedIds()
        self._paths = NotebookPaths(self._contents)
        self._sync = NotebookSync(repository, read_origin(data), self.log, self._note_embedded)
        self._sync.start()
        self._follow_contents()
        self._executor.submit(tidy, self._states, repository, self.log)
        self.settings[SETTING] = Services(
            config=self,
            repository=repository,
            states=self._states,
            sync=self._sync,
            executor=self._executor,
        )
        self.log.info("Training notebooks are recorded in %s", self._store.url)

    @property
    def _contents(self) -> Any:
        assert self.serverapp is not None  # it is the server that initialises its extensions
        return self.serverapp.contents_manager

    def _follow_contents(self) -> None:
        """Follow the contents manager, beside whatever hooks and listeners the user has."""
        contents = self._contents
        hooks = SaveHooks(self._saved, self._ids if self.embed_notebook_id else None, self.log)
        contents.register_pre_save_hook(hooks.pre_save)
        contents.register_post_save_hook(hooks.post_save)
        # Only contents that are files have a post-save hook run for them.
        fetch = None if isinstance(contents, FileManagerMixin) else self._fetch
        events = ContentsEvents(self._sync, self._ids, self._paths.os_path, fetch, self._owner, self.log)
        contents.event_logger.add_listener(schema_id=CONTENTS_SCHEMA, listener=events)

    def _saved(self, path: str, content: dict[str, Any] | None) -> None:
        self._sync.saved(path, self._owner(), content)

    def _owner(self) -> str:
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        return self.acting_user(getattr(getattr(handler, "current_user", None), "username", None))

    async def _fetch(self, path: str) -> dict[str, Any]:
        model = await ensure_async(self._contents.get(path, content=True, type="notebook"))
        return dict(model["content"])

    def _note_embedded(self, path: str, id: str) -> None:
        shown = self._paths.shown(path)
        if shown is not None:
            self._ids.note(shown, id)

    def initialize_handlers(self) -> None:
        """Add the REST routes."""
        self.handlers.extend(routes())

    async def stop_extension(self) -> None:
        """Finish the saves on their way, then close the store."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._sync.stop)
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._store.close()
