"""Edits of cells, which are written to the notebook's file if there is one.

A record that is bound to a file follows the file after every save. An edit of its cells therefore
reads the file, saves the edited notebook through the contents manager, and updates the record from
the file. What a file does not contain (name, links, status) is stored last.

An edit is refused if the file was saved meanwhile. Outputs that were trusted before the edit are
trusted after it, and no others.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from jupyter_server.utils import ensure_async
from msgspec.structs import replace
from tornado.web import HTTPError

from ..errors import Conflict, InvalidData, NoSpace, NotFound, Stale
from ..mapping import export_notebook, find_fault
from ..records import (
    NewNotebook,
    NotebookCell,
    NotebookMetadata,
    TrainingNotebook,
    UpdateNotebook,
)
from ..repository import Binding
from ..repository.parts import split
from ..repository.starter import starter_cells, starter_metadata
from ..sync.files import NOTEBOOK_SUFFIX, fingerprint
from ..trust import carry_trust
from .base import AxonHandler
from .context import RequestContext

#: Returns the edited cells; changes none of those that it is given.
Edit = Callable[[list[NotebookCell]], list[NotebookCell]]

#: The server extension of jupyter-collaboration.
_COLLABORATION: Final = "jupyter_server_ydoc"


async def edit_cells(
    handler: AxonHandler,
    notebook_id: str,
    edit: Edit,
    updates: UpdateNotebook | None = None,
) -> TrainingNotebook:
    """Edit the cells of a record, and of its file if it has one; return the record.

    Parameters
    ----------
    updates : UpdateNotebook, optional
        Changes of other fields.

    Raises
    ------
    Stale
        If the request is meant for another version.
    Conflict
        If the file is missing, invalid, not served by this server, was saved meanwhile, or is open
        for collaboration.
    Forbidden
        If the user may not write contents.
    """
    context = handler.context
    async with handler.server.edit_lock:
        binding = await handler.run(partial(_find, context, notebook_id))
        if binding.path is not None:
            await handler.check_contents("write")
            _check_not_open(handler, binding.path)
        edited = await handler.run(partial(_edit, context, binding, edit, updates))
        if edited.path is None:
            return await handler.run(partial(_store, context, edited))
        model = await ensure_async(handler.contents.get(edited.path, content=True, type="notebook"))
        await handler.run(partial(_prepare, edited, model["content"]))
        await _save(handler, edited.path, edited.content)
        return await handler.run(partial(_record, context, edited))


class _Edited(NamedTuple):
    """An edit of a record; ``path`` is the contents path of the file to save, if there is one."""

    binding: Binding
    version_id: str | None
    cells: list[NotebookCell]
    updates: UpdateNotebook
    path: str | None
    file: dict[str, int]
    content: dict[str, Any]


def _find(context: RequestContext, notebook_id: str) -> Binding:
    context.drain()
    return context.check_current(notebook_id)


def _edit(
    context: RequestContext, binding: Binding, edit: Edit, updates: UpdateNotebook | None
) -> _Edited:
    """Update the record from its file, and apply the edit in memory."""
    path: str | None = None
    file: dict[str, int] = {}
    if binding.path is not None:
        file = fingerprint(binding.path)
        path = _sync(context, binding)
    before = context.get_notebook(binding.id)
    expected = context.expected_version()
    if expected not in (None, before.version_id):
        raise Stale(
            f"notebook {before.id} is at version {before.version_id}, no longer at {expected}"
        )
    updates = updates or UpdateNotebook()
    metadata = before.metadata
    if updates.tags is not None:
        metadata = replace(metadata, tags=updates.tags)
    cells = edit(before.cells)
    if path is not None and _entries(cells) == _entries(before.cells):
        path = None  # the file stays as it is
    content = {} if path is None else export_notebook(cells, metadata)
    return _Edited(binding, before.version_id, cells, updates, path, file, content)


def _entries(cells: list[NotebookCell]) -> Any:
    return split(cells, NotebookMetadata()).entries


def _store(context: RequestContext, edited: _Edited) -> TrainingNotebook:
    """Store an edit that changes nothing in a file."""
    updates = replace(edited.updates, cells=edited.cells)
    return context.repository.update(edited.binding.id, updates, expected_version=edited.version_id)


def _prepare(edited: _Edited, original: dict[str, Any]) -> None:
    """Keep marks of trust; refuse a file that was saved meanwhile."""
    carry_trust(edited.content, original)
    if fingerprint(str(edited.binding.path)) != edited.file:
        raise Conflict(
            f"the file of notebook {edited.binding.id} was saved by another program meanwhile; "
            "try again"
        )


def _record(context: RequestContext, edited: _Edited) -> TrainingNotebook:
    """Update the record from the saved file, then store what a file does not contain."""
    _sync(context, edited.binding, edited.cells)
    if edited.updates.to_json():
        return context.repository.update(edited.binding.id, edited.updates)
    return context.get_notebook(edited.binding.id)


def _sync(
    context: RequestContext, binding: Binding, previous: Sequence[NotebookCell] | None = None
) -> str:
    """Update a bound record from its file; return the file's contents path."""
    path = context.paths.to_contents_path(str(binding.path))
    if binding.origin != context.server.sync.origin or path is None:
        raise Conflict(
            f"the file of notebook {binding.id} is not served by this server; edit it on its own "
            "server"
        )
    if not path.endswith(NOTEBOOK_SUFFIX):
        raise Conflict(f"the file {path} of notebook {binding.id} is a script; edit the script")
    os_path = context.paths.to_os_path(path)
    try:
        synced = context.server.sync.sync_file(os_path, binding.user_id, previous=previous)
    except NotFound:
        raise Conflict(f"the file {path} of notebook {binding.id} is missing") from None
    except InvalidData as error:
        raise Conflict(
            f"the file {path} of notebook {binding.id} is not a valid notebook now: {error}"
        ) from None
    if synced.id != binding.id:
        raise Conflict(f"the file {path} belongs to notebook {synced.id} now")
    return path


async def create_with_file(handler: AxonHandler, path: str, new: NewNotebook) -> TrainingNotebook:
    """Create a notebook file at a contents path, and its record.

    Raises
    ------
    Conflict
        If the file exists.
    InvalidData
        If its folder is missing, or the cells make no valid notebook.
    """
    await handler.check_contents("write")
    manager = handler.contents
    folder = path.rpartition("/")[0]
    if not await ensure_async(manager.dir_exists(folder)):
        raise InvalidData("$.path", f"there is no folder {folder}")
    async with handler.server.edit_lock:
        for exists in (manager.file_exists, manager.dir_exists):
            if await ensure_async(exists(path)):
                raise Conflict(f"the file {path} exists already")
        content = await handler.run(partial(_new_content, new))
        await _save(handler, path, content)
        return await handler.run(partial(_record_new, handler.context, path, new))


def _new_content(new: NewNotebook) -> dict[str, Any]:
    content = export_notebook(
        new.cells or starter_cells(),
        new.metadata or starter_metadata(),
    )
    if (fault := find_fault(content)) is not None:
        raise InvalidData("$.metadata.extra.nbformat", f"not a valid notebook: {fault}")
    return content


def _record_new(context: RequestContext, path: str, new: NewNotebook) -> TrainingNotebook:
    """Create the record of a new file, with what a file does not contain."""
    synced = context.server.sync.sync_file(context.paths.to_os_path(path), new.user_id)
    updates = UpdateNotebook(
        name=new.name,
        description=new.description,
        model_id=new.model_id,
        dataset_id=new.dataset_id,
        status=new.status,
    )
    return context.repository.update(synced.id, updates)


async def _save(handler: AxonHandler, path: str, content: dict[str, Any]) -> None:
    model = {"type": "notebook", "format": "json", "content": content}
    try:
        await ensure_async(handler.contents.save(model, path))
    except (OSError, HTTPError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            raise NoSpace(f"no space left on the disk to save {path}") from error
        raise


def _check_not_open(handler: AxonHandler, file: str) -> None:
    """Raise Conflict if a file is open in a room of jupyter-collaboration.

    A room holds the document in memory, and replaces it by the file when another program writes the
    file. An edit would then cost the room's users what they typed in the last second. A room exists
    until ``YDocExtension.document_cleanup_delay`` seconds after its last client has left.
    """
    assert handler.serverapp is not None
    for app in handler.serverapp.extension_manager.extension_apps.get(_COLLABORATION, ()):
        for room in app.ywebsocket_server.rooms:
            # The room of a document is named <format>:<type>:<file id>.
            *_, file_id = room.split(":", 2)
            path = handler.settings["file_id_manager"].get_path(file_id)
            if path is not None and handler.context.paths.to_stored_path(path) == file:
                raise Conflict(
                    f"the notebook {path} is open for collaboration: change its cells there, or "
                    "close it everywhere and try again when the server has closed its room (after "
                    "YDocExtension.document_cleanup_delay seconds)"
                )
