"""Edits that must reach a notebook's file.

The file is the truth of a bound record: what it says is in the record after every save. So an edit of such a record's
cells first takes in what is on disk, then changes the record, then saves the notebook through the contents manager as a
user's save would. One edit of a file at a time; when somebody else saved in between, theirs stays and the edit is refused.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound
from ..mapping import export_notebook, read_notebook
from ..records import NewNotebook, NotebookSummary, TrainingNotebook, UpdateNotebook
from ..repository.starter import starter_cells, starter_metadata
from ..sync.files import NOTEBOOK_SUFFIX, fingerprint
from .call import Call
from .handler import AxonHandler
from .paths import is_hidden
from .rooms import check_no_room

#: What the operating system says of a path that no file can have.
_BAD_PATHS: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
)


async def write_through(
    handler: AxonHandler, notebook_id: str, change: Callable[[], TrainingNotebook]
) -> TrainingNotebook:
    """Change a record's cells by ``change``, in its file as well where it has one; the record then.

    Raises
    ------
    Conflict
        When the file is gone, is no valid notebook, is out of this server's reach, was saved meanwhile, or is open
        in a collaboration room.
    Forbidden
        When the user may not write contents.
    """
    call = handler.call
    record = await handler.run(partial(call.summary, notebook_id), settle=True)
    if record.path is None:
        return await handler.run(change)
    await handler.check_contents("write")
    async with handler.services.editing(record.path):
        check_no_room(handler, record.path)
        path, before = await handler.run(partial(_take_in, call, record))
        file = await handler.run(partial(_file_as_read, call, before))
        after, content = await handler.run(lambda: _exported(change()))
        if after.version_id == before.version_id:
            return after  # nothing that the file says
        try:
            await handler.run(partial(_check_untouched, before, file), settle=True)
            check_no_room(handler, record.path)  # somebody may have opened it meanwhile
            await _save(handler, path, content)
        except BaseException:
            with suppress(AxonError):  # the file is as it was, and so must be its record
                await handler.run(partial(_take_in, call, record))
            raise
        return await handler.run(partial(call.notebook, notebook_id), settle=True)


async def create_with_file(handler: AxonHandler, path: str, new: NewNotebook) -> TrainingNotebook:
    """Create a notebook file at ``path`` in the contents API, and its record.

    Raises
    ------
    Conflict
        When there is such a file already.
    InvalidData
        When its folder is missing, it would be hidden, or what is given makes no valid notebook.
    """
    await handler.check_contents("write")
    call = handler.call
    manager = handler.contents
    named_hidden = any(name.startswith(".") for name in path.split("/"))
    if not manager.allow_hidden and (named_hidden or await is_hidden(manager, path)):
        raise InvalidData("$.path", "a hidden file cannot be created")
    folder = path.rpartition("/")[0]
    if not await ensure_async(manager.dir_exists(folder)):
        raise InvalidData("$.path", f"there is no folder {folder}")
    async with handler.services.editing(path):
        if await ensure_async(manager.file_exists(path)) or await ensure_async(manager.dir_exists(path)):
            raise Conflict(f"the file {path} exists already")
        content = await handler.run(partial(_new_content, call, new))
        await _save(handler, path, content)
        return await handler.run(partial(_described, call, path, new), settle=True)


async def _save(handler: AxonHandler, path: str, content: dict[str, Any]) -> None:
    model = {"type": "notebook", "format": "json", "content": content}
    try:
        await ensure_async(handler.contents.save(model, path))
    except HTTPError as error:
        code = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        if code == errno.ENOSPC:
            raise NoSpace(f"no room left on the disk to save {path}") from error
        if code in _BAD_PATHS:
            raise InvalidData("$.path", f"no file can be saved at {path}") from error
        if error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            fault = await handler.run(partial(_fault, content))
            if fault is not None:
                raise Conflict(f"{path} is no valid notebook, so it cannot be saved: {fault}") from error
        raise


def _fault(content: dict[str, Any]) -> str | None:
    """What keeps ``content`` from being a valid notebook; None where it is one."""
    try:
        read_notebook(json.dumps(content), strict=True)
    except InvalidData as error:
        return str(error)
    return None


def _new_content(call: Call, new: NewNotebook) -> dict[str, Any]:
    """What the file of a new notebook holds."""
    templates = call.services.config.starter_templates()
    content = export_notebook(new.cells or starter_cells(templates), new.metadata or starter_metadata())
    fault = _fault(content)
    if fault is not None:
        raise InvalidData("$.metadata.extra.nbformat", f"makes no valid notebook: {fault}")
    return content


def _file_as_read(call: Call, record: NotebookSummary) -> dict[str, int]:
    """What told the file when it was last read."""
    return next((binding.file for binding in call.repository.bindings_of([record.id])), {})


def _check_untouched(before: NotebookSummary, file: dict[str, int]) -> None:
    """See that nobody saved the file since it was taken in: what they saved would be overwritten."""
    assert before.path is not None  # bound
    if fingerprint(before.path) != file:
        raise Conflict(f"the file of notebook {before.id} was saved by somebody else meanwhile; try again")


def _take_in(call: Call, record: NotebookSummary) -> tuple[str, NotebookSummary]:
    """Bring a bound record up to date with its file; the file's path in the contents API, and the record then."""
    assert record.path is not None  # bound
    path = call.paths.shown(record.path)
    if record.origin != call.services.sync.origin or path is None:
        raise Conflict(
            f"the file of notebook {record.id} is out of this server's reach; its cells stay as they are"
        )
    if not path.endswith(NOTEBOOK_SUFFIX):
        raise Conflict(f"the file {path} of notebook {record.id} is a script; its source is changed there")
    try:
        synced = call.services.sync.sync_file(call.paths.os_path(path), record.user_id)
    except NotFound:
        raise Conflict(f"the file {path} of notebook {record.id} is gone") from None
    except InvalidData as error:
        raise Conflict(f"the file {path} of notebook {record.id} is no notebook now: {error}") from None
    if synced.id != record.id:
        raise Conflict(f"the file {path} belongs to notebook {synced.id} now")
    return path, synced


def _exported(notebook: TrainingNotebook) -> tuple[TrainingNotebook, dict[str, Any]]:
    return notebook, export_notebook(notebook.cells, notebook.metadata)


def _described(call: Call, path: str, new: NewNotebook) -> TrainingNotebook:
    """The record of a file just made, with what a file cannot say."""
    synced = call.services.sync.sync_file(call.paths.os_path(path), new.user_id)
    updates = UpdateNotebook(
        name=new.name,
        description=new.description,
        model_id=new.model_id,
        dataset_id=new.dataset_id,
        status=new.status,
    )
    return call.repository.update(synced.id, updates)
