"""The record of the notebook or script that this process executes."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...errors import Conflict, Forbidden, InvalidData, NotFound
from ...mapping import map_notebook, notebook_name
from ...records import NewNotebook, NotebookSummary, new_id
from ...repository import Binding, NotebookRepository
from ...sync import NotebookRecorder
from ...sync.files import embedded_id, fingerprint, read_stable
from ...sync.identity import ExistingRecord, ObservedFile, identify
from ..messages import print_message, warn
from .kernel import executed_sources, launcher
from .launchers import PAPERMILL, SCHEDULER, Source, find_source, injected_parameters
from .location import NOTEBOOK, NotebookLocation

#: The id of the record of this process if its notebook is unknown.
_UNBOUND_ID: Final = new_id()
_is_reported = False
#: Programs that execute a copy of a notebook.
_COPYING: Final = (PAPERMILL, SCHEDULER)
_EMPTY_NOTEBOOK: Final[Mapping[str, Any]] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"language_info": {"name": "python"}},
    "cells": [],
}


class PreviousRecord(NamedTuple):
    """The former location of this process, and the id of its record there."""

    location: NotebookLocation
    id: str


def find_or_create_record(
    repository: NotebookRepository,
    location: NotebookLocation,
    origin: str,
    owner: str,
    previous: PreviousRecord | None = None,
) -> NotebookSummary:
    """Return the record of a location, updated from its file, or created as a save would do.

    If the file is unreadable, its record is returned unchanged. If the file does not exist, it was
    renamed or deleted: the record that was last bound to its path is returned, if there is exactly
    one. If the notebook of the process is unknown, the process has its own record without a file.

    Parameters
    ----------
    previous : PreviousRecord, optional
        A notebook that is moved or deleted while it trains keeps its record.

    Raises
    ------
    NotFound
        If the user named a record or a file that does not exist.
    Forbidden
        If the user named another user's record.
    InvalidData
        If the file has no record yet and is not a notebook; it may be half-written.
    StoreError
        If the store is unavailable.
    """
    if location.record_id is not None:
        return _get_named(repository, location.record_id, owner)
    if previous is not None:
        kept = _find_kept(repository, location, origin, owner, previous)
        if kept is not None:
            return kept
    if location.path is None:
        return _get_unbound(repository, f"a notebook in {_folder_name()}", origin, owner)
    binding = repository.bindings.find_by_path(origin, location.path)
    found, file = None, {}
    if binding is not None:
        found, file = repository.find_summary(binding.id), binding.file
    if found is not None and file == fingerprint(location.path) != {}:
        return found
    source = None
    if location.is_explicit or location.source in _COPYING:
        source = find_source(location.path, launcher())
    recorder = NotebookRecorder(repository, origin, warn)
    try:
        saved = recorder.record(location.path, owner, is_copy=source is not None)
        return saved if source is None else _note_source(repository, saved, source)
    except InvalidData:
        if found is None:
            raise
        return found
    except NotFound as error:
        if error.kind != "file":
            raise
        if found is not None:
            return found
    return _get_missing(repository, location, origin, owner)


def find_record(
    repository: NotebookRepository,
    location: NotebookLocation,
    origin: str,
    owner: str,
    previous: PreviousRecord | None = None,
) -> NotebookSummary | None:
    """Return the record of a location as it is; None if there is none. Nothing is written.

    Parameters and errors are those of :func:`find_or_create_record`.
    """
    if location.record_id is not None:
        return _get_named(repository, location.record_id, owner)
    if previous is not None and location.path in (None, previous.location.path):
        return repository.find_summary(previous.id)
    if location.path is None:
        return repository.find_summary(_UNBOUND_ID)
    binding = repository.bindings.find_by_path(origin, location.path)
    return None if binding is None else repository.find_summary(binding.id)


def has_record(
    repository: NotebookRepository, location: NotebookLocation, origin: str, owner: str
) -> bool:
    """Return whether :func:`find_or_create_record` finds a record, or raises NotFound."""
    if location.record_id is not None:
        return True
    if location.path is None:
        return repository.find_summary(_UNBOUND_ID) is not None
    if repository.bindings.find_by_path(origin, location.path) is not None:
        return True
    try:
        file = fingerprint(location.path)
        content = read_stable(location.path)
    except InvalidData:
        return False
    except NotFound:  # renamed, or deleted
        return (
            location.is_explicit
            or bool(repository.bindings.find_former(origin, location.path))
            or repository.find_summary(_UNBOUND_ID) is not None
        )
    observed = ObservedFile(origin, location.path, owner, embedded_id(content), file)
    return isinstance(identify(observed, repository.bindings), ExistingRecord)


def report_unbound(record: NotebookSummary) -> None:
    """Tell the user, once in this process, if a record belongs to no notebook."""
    global _is_reported
    if record.id != _UNBOUND_ID or _is_reported:
        return
    _is_reported = True
    print_message(
        "axon: the notebook of this training could not be identified, so its record is not tied to "
        "a notebook, and another kernel cannot resume it. "
        f'Call axon.use("<path>") before training, or set {NOTEBOOK}=<path>.'
    )


def _folder_name() -> str:
    try:
        return os.path.basename(os.getcwd()) or os.getcwd()
    except OSError:
        return "a deleted folder"


def _get_named(repository: NotebookRepository, id: str, owner: str) -> NotebookSummary:
    found = repository.find_summary(id)
    if found is None:
        raise NotFound("notebook", id)
    if found.user_id != owner:
        raise Forbidden(f"notebook {id} does not belong to {owner}")
    return found


def _find_kept(
    repository: NotebookRepository,
    location: NotebookLocation,
    origin: str,
    owner: str,
    previous: PreviousRecord,
) -> NotebookSummary | None:
    """Return the previous record if its notebook was moved or deleted; None if location decides."""
    exists = location.path is not None and os.path.isfile(location.path)
    if exists and location.path != previous.location.path:
        return None
    bindings = repository.bindings.get_many([previous.id])
    if not bindings or (bindings[0].origin, bindings[0].path) == (origin, location.path):
        return None
    path = bindings[0].path
    if path is not None and bindings[0].origin == origin and os.path.isfile(path):
        moved = NotebookLocation(location.kind, location.source, path)
        return find_or_create_record(repository, moved, origin, owner)
    return None if exists else repository.find_summary(previous.id)


def _note_source(
    repository: NotebookRepository, record: NotebookSummary, source: Source
) -> NotebookSummary:
    """Note the original and the parameters in the record of a copy that is executed."""
    noted = record.metadata.extra.get("axon", {})
    original = _find_original(repository, record, source, noted.get("copied_from"))
    link = {
        "program": source.program,
        "path": source.path or (original and original.path) or source.name,
        "notebook_id": original and original.id,
        "parameters": source.parameters,
    }
    link = {name: value for name, value in link.items() if value}
    if noted.get("executed_from") == link:
        return record
    return repository.annotate(record.id, executed_from=link)


def _find_original(
    repository: NotebookRepository, record: NotebookSummary, source: Source, copied_from: str | None
) -> Binding | None:
    """Return the original of a copy by its path, its embedded id, or its name and content."""
    origin, copy = str(record.origin), str(record.path)
    if source.path is not None:
        return repository.bindings.find_by_path(origin, source.path)
    if copied_from is not None:
        return next(iter(repository.bindings.get_many([copied_from])), None)
    jobs = os.path.dirname(os.path.dirname(copy)) + os.sep  # other jobs have equal copies
    equal = [
        binding
        for binding in repository.bindings.list(origin)
        if binding.user_id == record.user_id
        and os.path.basename(str(binding.path)) == source.name
        and not str(binding.path).startswith(jobs)
        and _is_equal(str(binding.path), copy)
    ]
    return equal[0] if len(equal) == 1 else None


def _is_equal(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _get_missing(
    repository: NotebookRepository, location: NotebookLocation, origin: str, owner: str
) -> NotebookSummary:
    """Return the record of a file that does not exist, and that no record is bound to."""
    path = str(location.path)
    former = repository.bindings.find_former(origin, path)
    if len(former) == 1 and former[0].user_id == owner:
        new_path = former[0].path
        if new_path is not None and os.path.isfile(new_path):
            moved = NotebookLocation(location.kind, location.source, new_path)
            return find_or_create_record(repository, moved, origin, owner)
        if (found := repository.find_summary(former[0].id)) is not None:
            return found
    if location.is_explicit:
        raise NotFound("file", path)
    return _get_unbound(repository, notebook_name(path), origin, owner)


def _get_unbound(
    repository: NotebookRepository, name: str, origin: str, owner: str
) -> NotebookSummary:
    found = repository.find_summary(_UNBOUND_ID)
    if found is not None:
        return found
    metadata = map_notebook(_EMPTY_NOTEBOOK).metadata
    if parameters := injected_parameters(executed_sources()):
        axon = {"executed_from": {"parameters": parameters}}
        metadata.extra = {**metadata.extra, "axon": axon}
    new = NewNotebook(
        id=_UNBOUND_ID,
        user_id=owner,
        name=name,
        description="Created by a process that could not identify its notebook; "
        f"{NOTEBOOK}=<path> or use(<path>) names it.",
        metadata=metadata,
        origin=origin,
    )
    try:
        return repository.create(new).summary()
    except Conflict:  # a process forked from the same one was faster
        if (found := repository.find_summary(_UNBOUND_ID)) is None:
            raise
        return found
