"""Edits of cells, which are written to the notebook's file if there is one.

A record that is bound to a file follows the file after every save. An edit of its cells therefore
reads the file, applies the change, saves the result through the contents manager, and updates the
record from the file. What a file does not contain (name, links, status) is stored last. If a step
fails, the steps before it are undone.

A file is edited by one request at a time. An edit is refused if the file was saved meanwhile.
Outputs that were trusted before the edit are trusted after it, and no others.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound, Stale
from ..mapping import export_notebook, find_fault, has_own_ids
from ..mapping.json_values import copy_json, is_same_json
from ..records import (
    NewNotebook,
    NotebookCell,
    NotebookHeader,
    NotebookMetadata,
    NotebookSummary,
    TrainingNotebook,
    UpdateNotebook,
)
from ..repository import Binding
from ..repository.parts import Entry, split
from ..repository.starter import starter_cells, starter_metadata
from ..sync.files import NOTEBOOK_SUFFIX, fingerprint
from ..trust import carry_trust, without_trust
from .base import AxonHandler
from .context import RequestContext
from .paths import is_hidden

#: Returns the edited cells; changes none of those that it is given.
Edit = Callable[[list[NotebookCell]], list[NotebookCell]]

#: The errors of the operating system for paths that no file can have.
_INVALID_PATH_ERRORS: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
)
#: The names of jupyter-collaboration's server extension, since version 3 and before.
_COLLABORATION: Final = ("jupyter_server_ydoc", "jupyter_collaboration")


async def edit_cells(
    handler: AxonHandler,
    notebook_id: str,
    edit: Edit,
    updates: UpdateNotebook | None = None,
    *,
    edit_record: Callable[[str | None], TrainingNotebook],
) -> TrainingNotebook:
    """Edit the cells of a record, and of its file if it has one; return the record.

    Parameters
    ----------
    edit : callable
        Returns the edited cells.
    edit_record : callable
        Makes the same edit of a record without a file in one transaction; takes the version that
        the request is meant for.
    updates : UpdateNotebook, optional
        Changes of other fields.

    Raises
    ------
    Stale
        If the request is meant for another version.
    Conflict
        If the file is missing, invalid, not served by this server, was saved meanwhile, is open for
        collaboration, or was not changed by the save.
    Forbidden
        If the user may not write contents.
    """
    context = handler.context
    updates = updates or UpdateNotebook()
    record = await handler.run(partial(context.check_current, notebook_id), drain=True)
    if record.path is None:

        def apply() -> TrainingNotebook:
            context.check_access(notebook_id)
            return edit_record(context.expected_version())

        return await handler.run(apply)
    await handler.check_contents("write")
    async with handler.server.executor.edit_lock(record.path):
        _check_not_open(handler, record.path)
        file_edit = _FileEdit(context, record, edit, updates)
        if not await handler.run(file_edit.prepare):
            return await handler.run(file_edit.store_without_file)
        path, content = file_edit.path, file_edit.content
        async with _translate_errors(handler, path, content):
            model = await ensure_async(handler.contents.get(path, content=True, type="notebook"))
        original = cast(dict[str, Any], model["content"])
        await handler.run(partial(file_edit.compare, original), drain=True)
        _check_not_open(handler, record.path)
        try:
            await _save(handler, path, content)
            return await handler.run(file_edit.record_saved)
        except Exception:  # raised again, once the file is as it was
            await _undo(handler, path, content, original)
            raise


async def create_with_file(handler: AxonHandler, path: str, new: NewNotebook) -> TrainingNotebook:
    """Create a notebook file at a contents path, and its record.

    Raises
    ------
    Conflict
        If the file exists.
    InvalidData
        If its folder is missing, the file would be hidden, or the cells make no valid notebook.
    """
    await handler.check_contents("write")
    context, manager = handler.context, handler.contents
    has_hidden_name = any(name.startswith(".") for name in path.split("/"))
    if not manager.allow_hidden and (has_hidden_name or await is_hidden(manager, path)):
        raise InvalidData("$.path", "a hidden file cannot be created")
    folder = path.rpartition("/")[0]
    if not await ensure_async(manager.dir_exists(folder)):
        raise InvalidData("$.path", f"there is no folder {folder}")
    async with handler.server.executor.edit_lock(path):
        for exists in (manager.file_exists, manager.dir_exists):
            if await ensure_async(exists(path)):
                raise Conflict(f"the file {path} exists already")
        content = await handler.run(partial(_new_content, context, new))
        await _save(handler, path, content)
        try:
            return await handler.run(partial(_record_new, context, path, new), drain=True)
        except Exception:  # raised again, once the file is as it was
            await _undo(handler, path, content, None)
            raise


class _FileEdit:
    """An edit of a bound record; its methods run in worker threads, in order.

    Attributes
    ----------
    path : str
        The contents path of the file.
    content : dict
        The notebook to save.
    """

    def __init__(
        self,
        context: RequestContext,
        record: Binding,
        edit: Edit,
        updates: UpdateNotebook,
    ) -> None:
        self.path = ""
        self.content: dict[str, Any] = {}
        self._context = context
        self._repository = context.repository
        self._record = record
        self._edit = edit
        self._updates = updates

    def prepare(self) -> bool:
        """Read the file and apply the edit; return whether the file has to be saved."""
        self.path, found = _sync(self._context, self._record)
        self._file = self._context.check_access(found.id).file
        _check_version(found, self._context.expected_version())
        before = self._repository.find_by_id(found.id)
        if before is None:
            raise NotFound("notebook", found.id)
        if before.version_id != found.version_id:
            raise self._saved_meanwhile()
        metadata = before.metadata
        if self._updates.tags is not None:
            metadata = msgspec.structs.replace(metadata, tags=self._updates.tags)
        self._before = before
        self._after = msgspec.structs.replace(
            before, cells=self._edit(before.cells), metadata=metadata
        )
        self._entries_before = _entries(before)
        if _entries(self._after) == self._entries_before:
            return False
        self.content = export_notebook(self._after.cells, metadata)
        return True

    def store_without_file(self) -> TrainingNotebook:
        """Store an edit that changes nothing in the file."""
        updates = msgspec.structs.replace(self._updates, cells=self._after.cells)
        try:
            return self._repository.update(
                self._before.id, updates, expected_version=self._before.version_id
            )
        except Stale:
            raise self._saved_meanwhile() from None

    def compare(self, original: dict[str, Any]) -> None:
        """Compare the new content with the file's; refuse a file that was saved meanwhile."""
        self._is_visible = not _is_same(self.content, original)
        self._has_ids = has_own_ids(original)
        carry_trust(self.content, original)
        if fingerprint(str(self._record.path)) != self._file:
            raise self._saved_meanwhile()

    def record_saved(self) -> TrainingNotebook:
        """Update the record from the saved file, then store what a file does not contain."""
        if self._is_visible and self._file and fingerprint(str(self._record.path)) == self._file:
            raise self._save_dropped()
        _sync(self._context, self._record, self._after.cells)
        saved = self._repository.find_by_id(self._record.id) or self._after
        # A file without cell ids cannot show a change of ids.
        start = 0 if self._has_ids else 1
        entries = [entry[start:] for entry in _entries(saved)]
        if self._is_visible and entries == [entry[start:] for entry in self._entries_before]:
            _sync(self._context, self._record, self._before.cells)
            raise self._save_dropped()
        if not self._updates.to_json():
            return saved
        return self._repository.update(self._record.id, self._updates)

    def _saved_meanwhile(self) -> Conflict:
        return Conflict(
            f"the file of notebook {self._record.id} was saved by another program meanwhile; "
            "try again"
        )

    def _save_dropped(self) -> Conflict:
        return Conflict(
            f"the contents manager reported that it saved {self.path}, but the notebook is "
            "unchanged: a pre-save hook or the contents manager itself dropped the change"
        )


def _sync(
    context: RequestContext,
    record: Binding,
    previous: Sequence[NotebookCell] | None = None,
) -> tuple[str, NotebookSummary]:
    """Update a bound record from its file; return the file's contents path and the record."""
    path = context.paths.to_contents_path(str(record.path))
    if record.origin != context.server.sync.origin or path is None:
        raise Conflict(
            f"the file of notebook {record.id} is not served by this server; edit it on its own "
            "server"
        )
    if not path.endswith(NOTEBOOK_SUFFIX):
        raise Conflict(f"the file {path} of notebook {record.id} is a script; edit the script")
    try:
        synced = context.server.sync.sync_file(
            context.paths.to_os_path(path), record.user_id, previous=previous
        )
    except NotFound:
        raise Conflict(f"the file {path} of notebook {record.id} is missing") from None
    except InvalidData as error:
        raise Conflict(
            f"the file {path} of notebook {record.id} is not a valid notebook now: {error}"
        ) from None
    if synced.id != record.id:
        raise Conflict(f"the file {path} belongs to notebook {synced.id} now")
    return path, synced


def _record_new(context: RequestContext, path: str, new: NewNotebook) -> TrainingNotebook:
    """Create the record of a new file, with what a file does not contain."""
    try:
        synced = context.server.sync.sync_file(context.paths.to_os_path(path), new.user_id)
    except NotFound:
        raise Conflict(
            f"the contents manager reported that it saved {path}, but there is no such file"
        ) from None
    updates = UpdateNotebook(
        name=new.name,
        description=new.description,
        model_id=new.model_id,
        dataset_id=new.dataset_id,
        status=new.status,
    )
    try:
        return context.repository.update(synced.id, updates)
    except BaseException:
        with suppress(AxonError):
            context.repository.delete(synced.id)
        raise


def _new_content(context: RequestContext, new: NewNotebook) -> dict[str, Any]:
    content = export_notebook(
        new.cells or starter_cells(context.server.config.starter_templates()),
        new.metadata or starter_metadata(),
    )
    if (fault := find_fault(content)) is not None:
        raise InvalidData("$.metadata.extra.nbformat", f"not a valid notebook: {fault}")
    return content


def _check_version(record: NotebookHeader, expected: str | None) -> None:
    if expected not in (None, record.version_id):
        raise Stale(
            f"notebook {record.id} is at version {record.version_id}, no longer at {expected}"
        )


def _entries(notebook: TrainingNotebook) -> list[Entry]:
    """Return the entries of a version; raise InvalidData if two cells share an id."""
    return split(notebook.cells, NotebookMetadata()).entries


def _is_same(one: dict[str, Any], other: dict[str, Any], *, tags: bool = False) -> bool:
    """Return whether two notebooks have the same cells (and tags), apart from marks of trust."""

    def comparable(content: dict[str, Any]) -> Any:
        cells = without_trust(content["cells"])
        return copy_json([cells, content["metadata"].get("tags") if tags else None])

    return is_same_json(comparable(one), comparable(other))


async def _save(handler: AxonHandler, path: str, content: dict[str, Any]) -> None:
    model = {"type": "notebook", "format": "json", "content": content}
    async with _translate_errors(handler, path, content):
        await ensure_async(handler.contents.save(model, path))


async def _undo(
    handler: AxonHandler, path: str, content: dict[str, Any], original: dict[str, Any] | None
) -> None:
    """Restore the original content of a file (None: delete it) if it still has the new content."""
    manager = handler.contents
    try:
        if not await ensure_async(manager.file_exists(path)):
            return
        found = await ensure_async(manager.get(path, content=True, type="notebook"))
        if not await handler.run(partial(_is_same, found["content"], content, tags=True)):
            return
        if original is None:
            await ensure_async(manager.delete(path))
        else:
            model = {"type": "notebook", "format": "json", "content": original}
            await ensure_async(manager.save(model, path))
    except Exception as error:  # noqa: BLE001 - the error of the edit matters more
        handler.log.warning(
            "axon: an edit of %s failed and could not be undone; check the file: %r", path, error
        )


@asynccontextmanager
async def _translate_errors(
    handler: AxonHandler, path: str, content: dict[str, Any]
) -> AsyncIterator[None]:
    """Translate errors of the contents manager into named ones."""
    try:
        yield
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        code = cause.errno if isinstance(cause, OSError) else None
        if code == errno.ENOSPC:
            raise NoSpace(f"no space left on the disk to save {path}") from error
        if code in _INVALID_PATH_ERRORS:
            raise InvalidData("$.path", f"no file can be saved at {path}") from error
        status = (
            error.status_code if isinstance(error, HTTPError) else HTTPStatus.INTERNAL_SERVER_ERROR
        )
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR):
            fault = await handler.run(partial(find_fault, content))
            if fault is not None:
                raise Conflict(
                    f"{path} cannot be saved because it is not a valid notebook: {fault}"
                ) from error
        if isinstance(error, OSError):
            message = f"{path} cannot be saved: {error.strerror or error!r}"
            raise HTTPError(status, message) from error
        raise


def _check_not_open(handler: AxonHandler, file: str) -> None:
    """Raise Conflict if a file is open in a room of jupyter-collaboration.

    A room holds the document in memory, and replaces it by the file when another program writes the
    file. An edit would then cost the room's users what they typed in the last second. A room exists
    until ``YDocExtension.document_cleanup_delay`` seconds after its last client has left.
    """
    for path in _open_paths(handler):
        if handler.context.paths.to_stored_path(path) == file:
            raise Conflict(
                f"the notebook {path} is open for collaboration: change its cells there, or close "
                "it everywhere and try again when the server has closed its room (after "
                "YDocExtension.document_cleanup_delay seconds)"
            )


def _open_paths(handler: AxonHandler) -> list[str]:
    """Return the contents paths of the documents in collaboration rooms."""
    try:
        assert handler.serverapp is not None
        apps: dict[str, Any] = handler.serverapp.extension_manager.extension_apps
        rooms = [
            name
            for extension in _COLLABORATION
            for app in apps.get(extension, ())
            for name in app.ywebsocket_server.rooms
        ]
        # The room of a document is named <format>:<type>:<file id>.
        ids = {name.split(":", 2)[2] for name in rooms if name.count(":") >= 2}
        paths = [handler.settings["file_id_manager"].get_path(id) for id in ids]
    except Exception as error:  # noqa: BLE001 - an unknown version of jupyter-collaboration
        _log_once(handler.log, repr(error))
        return []
    return [path for path in paths if path is not None]


@lru_cache(maxsize=8)
def _log_once(log: logging.Logger, error: str) -> None:
    log.debug("axon: cannot list the documents open for collaboration: %s", error)
