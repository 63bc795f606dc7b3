"""Edits that must reach a notebook's file.

The file is the truth of a bound record: what it says is in the record after every save. So an edit of such a record's
cells takes in what is on disk, works out what the edit makes of it, saves that through the contents manager as a user's
save would, and lets the record follow the file. What a file does not say (name, links, status) is stored last. If a step
fails, the steps before it are undone, so that an edit is applied as a whole or not at all.

One edit of a file at a time. When somebody else saved in between, their save stays and the edit is refused. Outputs that
JupyterLab trusted before the edit are trusted after it, and no others.
"""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound
from ..mapping import carry_trust, export_notebook, read_notebook
from ..mapping.content import copied, same
from ..records import (
    NewNotebook,
    NotebookCell,
    NotebookHeader,
    NotebookSummary,
    TrainingNotebook,
    UpdateNotebook,
    without_trust,
)
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
    handler: AxonHandler,
    notebook_id: str,
    change: Callable[[], TrainingNotebook],
    finish: Callable[[], TrainingNotebook | None] = lambda: None,
) -> TrainingNotebook:
    """Change a record's cells, in its file as well where it has one, and return the record.

    Parameters
    ----------
    change : callable
        Changes the record. Of a bound record it is only tried, unless it changes nothing that the file says.
    finish : callable
        Stores what the file does not say, once the record has the cells of the file; returns the record if it did.

    Raises
    ------
    Conflict
        When the file is gone, is no valid notebook, is out of this server's reach, was saved meanwhile, is open in a
        collaboration room, or was not changed by the save.
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

        def is_in_file(notebook: NotebookHeader) -> bool:
            return notebook.version_id == before.version_id

        changed = await handler.run(partial(call.repository.apply_if, change, is_in_file))
        if is_in_file(changed):
            return changed  # nothing that the file says
        content = await handler.run(lambda: export_notebook(changed.cells, changed.metadata))
        original = await _get(handler, path, content)
        is_shown = not await handler.run(partial(_says_the_same, content, original))
        await handler.run(partial(carry_trust, content, original))
        await handler.run(partial(_check_untouched, before, file), settle=True)
        check_no_room(handler, record.path)  # somebody may have opened it meanwhile
        try:
            await _save(handler, path, content)
            saved = await _get(handler, path, content)
            if is_shown and await handler.run(partial(_says_the_same, saved, original)):
                raise Conflict(
                    f"the contents manager reported that it saved {path}, but the notebook is as it was: a pre-save hook "
                    "or the contents manager itself dropped the change"
                )
            await handler.run(partial(_take_in, call, record, changed.cells))
            return await handler.run(lambda: finish() or call.repository.find_by_id(notebook_id) or changed)
        except Exception:
            await _undo(handler, path, content, original)
            raise


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
        try:
            return await handler.run(partial(_described, call, path, new), settle=True)
        except Exception:
            await _undo(handler, path, content, None)
            raise


async def _get(handler: AxonHandler, path: str, edited: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook as its contents manager gives it, with the cells that are trusted marked."""
    async with _explained(handler, path, edited):
        model = await ensure_async(handler.contents.get(path, content=True, type="notebook"))
    return cast(dict[str, Any], model["content"])


async def _save(handler: AxonHandler, path: str, content: dict[str, Any]) -> None:
    model = {"type": "notebook", "format": "json", "content": content}
    async with _explained(handler, path, content):
        await ensure_async(handler.contents.save(model, path))


@asynccontextmanager
async def _explained(handler: AxonHandler, path: str, content: dict[str, Any]) -> AsyncIterator[None]:
    """Raise what the contents manager raises under the name of what is wrong."""
    try:
        yield
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        code = cause.errno if isinstance(cause, OSError) else None
        if code == errno.ENOSPC:
            raise NoSpace(f"no room left on the disk to save {path}") from error
        if code in _BAD_PATHS:
            raise InvalidData("$.path", f"no file can be saved at {path}") from error
        status = error.status_code if isinstance(error, HTTPError) else HTTPStatus.INTERNAL_SERVER_ERROR
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR):
            fault = await handler.run(partial(_fault, content))
            if fault is not None:
                raise Conflict(f"{path} is no valid notebook, so it cannot be saved: {fault}") from error
        if isinstance(error, OSError):
            raise HTTPError(status, f"{path} cannot be saved: {error.strerror or error!r}") from error
        raise


async def _undo(
    handler: AxonHandler, path: str, content: dict[str, Any], original: dict[str, Any] | None
) -> None:
    """Put back what was at ``path`` before ``content`` was saved there, unless something else is there by now.

    Parameters
    ----------
    original : dict or None
        What was there; None when there was no file.
    """
    manager = handler.contents
    try:
        if not await ensure_async(manager.file_exists(path)):
            return
        found = await ensure_async(manager.get(path, content=True, type="notebook"))
        if not await handler.run(partial(_says_the_same, found["content"], content)):
            return
        if original is None:
            await ensure_async(manager.delete(path))
        else:
            model = {"type": "notebook", "format": "json", "content": original}
            await ensure_async(manager.save(model, path))
    except Exception as error:  # noqa: BLE001 - why the edit failed matters more
        handler.log.warning(
            "axon: an edit of %s failed and could not be undone; its file may have it: %r", path, error
        )


def _says_the_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two notebooks are the same in all that an edit may change, marks of trust apart."""

    def said(content: dict[str, Any]) -> Any:
        return copied([without_trust(content["cells"]), content["metadata"].get("tags")])

    return same(said(one), said(other))


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


def _take_in(
    call: Call, record: NotebookSummary, previous: Sequence[NotebookCell] | None = None
) -> tuple[str, NotebookSummary]:
    """Bring a bound record up to date with its file; the file's path in the contents API, and the record then.

    ``previous`` are the cells that the file was made of.
    """
    assert record.path is not None  # bound
    path = call.paths.shown(record.path)
    if record.origin != call.services.sync.origin or path is None:
        raise Conflict(
            f"the file of notebook {record.id} is out of this server's reach; its cells stay as they are"
        )
    if not path.endswith(NOTEBOOK_SUFFIX):
        raise Conflict(f"the file {path} of notebook {record.id} is a script; its source is changed there")
    try:
        synced = call.services.sync.sync_file(call.paths.os_path(path), record.user_id, previous=previous)
    except NotFound:
        raise Conflict(f"the file {path} of notebook {record.id} is gone") from None
    except InvalidData as error:
        raise Conflict(f"the file {path} of notebook {record.id} is no notebook now: {error}") from None
    if synced.id != record.id:
        raise Conflict(f"the file {path} belongs to notebook {synced.id} now")
    return path, synced


def _described(call: Call, path: str, new: NewNotebook) -> TrainingNotebook:
    """Make the record of a file that was just made, with what a file cannot say."""
    try:
        synced = call.services.sync.sync_file(call.paths.os_path(path), new.user_id)
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
        return call.repository.update(synced.id, updates)
    except BaseException:
        with suppress(AxonError):  # why it is not complete matters more
            call.repository.delete(synced.id)
        raise
