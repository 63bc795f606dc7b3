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

import msgspec
from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound, Stale
from ..mapping import carry_trust, export_notebook, has_own_ids, read_notebook
from ..mapping.content import copied, same
from ..records import (
    NewNotebook,
    NotebookCell,
    NotebookMetadata,
    NotebookSummary,
    TrainingNotebook,
    UpdateNotebook,
    without_trust,
)
from ..repository.notebooks import starter_cells, starter_metadata
from ..repository.parts import Entry, take_apart
from ..sync.files import NOTEBOOK_SUFFIX, fingerprint
from .call import Call
from .handler import AxonHandler
from .paths import is_hidden
from .rooms import check_no_room

#: Returns what becomes of a list of cells.
Edit = Callable[[list[NotebookCell]], list[NotebookCell]]

#: What the operating system says of a path that no file can have.
_BAD_PATHS: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
)


async def write_through(
    handler: AxonHandler,
    notebook_id: str,
    change: Callable[[], TrainingNotebook],
    edit: Edit,
    beside: UpdateNotebook | None = None,
) -> TrainingNotebook:
    """Change a record's cells, in its file as well where it has one, and return the record.

    Parameters
    ----------
    change : callable
        Changes a record without a file.
    edit : callable
        Returns what becomes of the cells of a record with a file. It changes none of those that it is given.
    beside : UpdateNotebook, optional
        What else changes in a record with a file.

    Raises
    ------
    Stale
        When the request is meant for another version.
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
        path, found = await handler.run(partial(_take_in, call, record))
        file = await handler.run(partial(_file_as_read, call, found))
        before = await handler.run(partial(_whole, call, found))
        entries = await handler.run(partial(_entries, before))
        tags = None if beside is None else beside.tags
        changed = await handler.run(partial(_edited, before, entries, edit, tags))
        if changed is None:  # nothing that the file says
            return await handler.run(partial(_store_beside, call, before, edit, beside))
        content = await handler.run(lambda: export_notebook(changed.cells, changed.metadata))
        original = await _get(handler, path, content)
        is_shown = not await handler.run(partial(_shows_the_same, content, original))
        has_ids = await handler.run(partial(has_own_ids, original))
        await handler.run(partial(carry_trust, content, original))
        await handler.run(partial(_check_untouched, found, file), settle=True)
        check_no_room(handler, record.path)  # somebody may have opened it meanwhile
        dropped = Conflict(
            f"the contents manager reported that it saved {path}, but the notebook is as it was: a pre-save hook "
            "or the contents manager itself dropped the change"
        )
        try:
            await _save(handler, path, content)
            if is_shown and file and await handler.run(partial(fingerprint, record.path)) == file:
                raise dropped
            await handler.run(partial(_take_in, call, record, changed.cells))
            saved = await handler.run(lambda: call.repository.find_by_id(notebook_id) or changed)
            if is_shown and await handler.run(
                lambda: _are_same(_entries(saved), entries, ids=has_ids)
            ):
                await handler.run(partial(_take_in, call, record, before.cells))
                raise dropped
            if beside is None or not beside.to_json():
                return saved
            return await handler.run(partial(call.repository.update, notebook_id, beside))
        except Exception:  # whatever it was, nothing of the edit is to stay
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
        if await ensure_async(manager.file_exists(path)) or await ensure_async(
            manager.dir_exists(path)
        ):
            raise Conflict(f"the file {path} exists already")
        content = await handler.run(partial(_new_content, call, new))
        await _save(handler, path, content)
        try:
            return await handler.run(partial(_described, call, path, new), settle=True)
        except Exception:  # as above
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
async def _explained(
    handler: AxonHandler, path: str, content: dict[str, Any]
) -> AsyncIterator[None]:
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
        status = (
            error.status_code if isinstance(error, HTTPError) else HTTPStatus.INTERNAL_SERVER_ERROR
        )
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR):
            fault = await handler.run(partial(_fault, content))
            if fault is not None:
                raise Conflict(
                    f"{path} is no valid notebook, so it cannot be saved: {fault}"
                ) from error
        if isinstance(error, OSError):
            raise HTTPError(
                status, f"{path} cannot be saved: {error.strerror or error!r}"
            ) from error
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
            "axon: an edit of %s failed and could not be undone; its file may have it: %r",
            path,
            error,
        )


def _says_the_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two notebooks are the same in all that an edit may change, marks of trust apart."""

    def said(content: dict[str, Any]) -> Any:
        return copied([without_trust(content["cells"]), content["metadata"].get("tags")])

    return same(said(one), said(other))


def _shows_the_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether the cells of two notebooks are the same, marks of trust apart."""
    return same(copied(without_trust(one["cells"])), copied(without_trust(other["cells"])))


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
    content = export_notebook(
        new.cells or starter_cells(templates), new.metadata or starter_metadata()
    )
    fault = _fault(content)
    if fault is not None:
        raise InvalidData("$.metadata.extra.nbformat", f"makes no valid notebook: {fault}")
    return content


def _whole(call: Call, found: NotebookSummary) -> TrainingNotebook:
    """Return a record with its cells, as it was just found.

    Raises
    ------
    Stale
        When the request is meant for another version.
    Conflict
        When the record has another one by now.
    """
    expected = call.expected_version()
    if expected not in (None, found.version_id):
        raise Stale(
            f"notebook {found.id} is at version {found.version_id}, no longer at {expected}"
        )
    whole = call.repository.find_by_id(found.id)
    if whole is None:
        raise NotFound("notebook", found.id)
    if whole.version_id != found.version_id:
        raise _saved_meanwhile(found.id)
    return whole


def _entries(notebook: TrainingNotebook) -> list[Entry]:
    """Return what a version of a record lists; raises InvalidData when two cells share an id."""
    return take_apart(notebook.cells, NotebookMetadata()).entries


def _are_same(some: list[Entry], others: list[Entry], *, ids: bool) -> bool:
    """Return whether two versions list the same cells, compared without their ids unless ``ids``."""
    return (
        some == others if ids else [entry[1:] for entry in some] == [entry[1:] for entry in others]
    )


def _edited(
    before: TrainingNotebook, entries: list[Entry], edit: Edit, tags: list[str] | None
) -> TrainingNotebook | None:
    """Return what ``edit`` makes of a record, in memory only; None where it changes no cell that its file holds.

    Raises
    ------
    InvalidData
        When two cells would share an id.
    """
    metadata = (
        before.metadata if tags is None else msgspec.structs.replace(before.metadata, tags=tags)
    )
    changed = msgspec.structs.replace(before, cells=edit(before.cells), metadata=metadata)
    return None if _entries(changed) == entries else changed


def _store_beside(
    call: Call, before: TrainingNotebook, edit: Edit, beside: UpdateNotebook | None
) -> TrainingNotebook:
    """Store an edit that changes nothing that the file says."""
    updates = msgspec.structs.replace(beside or UpdateNotebook(), cells=edit(before.cells))
    try:
        return call.repository.update(before.id, updates, expected_version=before.version_id)
    except Stale:
        raise _saved_meanwhile(before.id) from None


def _saved_meanwhile(notebook_id: str) -> Conflict:
    return Conflict(
        f"the file of notebook {notebook_id} was saved by somebody else meanwhile; try again"
    )


def _file_as_read(call: Call, record: NotebookSummary) -> dict[str, int]:
    """What told the file when it was last read."""
    return next((binding.file for binding in call.repository.bindings.get_many([record.id])), {})


def _check_untouched(before: NotebookSummary, file: dict[str, int]) -> None:
    """See that nobody saved the file since it was taken in: what they saved would be overwritten."""
    assert before.path is not None  # bound
    if fingerprint(before.path) != file:
        raise _saved_meanwhile(before.id)


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
        raise Conflict(
            f"the file {path} of notebook {record.id} is a script; its source is changed there"
        )
    try:
        synced = call.services.sync.sync_file(
            call.paths.os_path(path), record.user_id, previous=previous
        )
    except NotFound:
        raise Conflict(f"the file {path} of notebook {record.id} is gone") from None
    except InvalidData as error:
        raise Conflict(
            f"the file {path} of notebook {record.id} is no notebook now: {error}"
        ) from None
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
