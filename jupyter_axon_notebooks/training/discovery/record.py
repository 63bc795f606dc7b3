"""The record of the notebook, or the script, that trains."""

from __future__ import annotations

import filecmp
import os
from typing import Final

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

#: The id of the record that this process makes where it cannot tell which notebook it is.
_UNBOUND_ID: Final = new_id()
_is_said = False
#: Programs that execute a copy of a notebook.
_COPYING: Final = (PAPERMILL, SCHEDULER)


def find_or_create_record(
    repository: NotebookRepository,
    place: NotebookLocation,
    origin: str,
    owner: str,
    kept: tuple[NotebookLocation, str] | None = None,
) -> NotebookSummary:
    """The record of a place, brought up to date with the file, or made, as a save would.

    Two look-ups where the file is as it was when it was last read. A file that cannot be read leaves its record as it is.
    One that is gone was renamed or deleted: it is the record that was bound to its name, if there was one alone.

    A place that is not known has a record of its own for this process, bound to no file: nobody can say whether two
    executions are of the same notebook.

    Parameters
    ----------
    kept : tuple of NotebookLocation and str, optional
        Where this process was before, and the id of the record it had there. A notebook that is moved or deleted in
        mid-training keeps its record.

    Raises
    ------
    NotFound
        When the user named a record, or a file, that is not there.
    Forbidden
        When the user named somebody else's record.
    InvalidData
        When the file has no record yet and is no notebook; it may be half-written.
    StoreError
        When the store does not take it.
    """
    if place.record_id is not None:
        return _named(repository, place.record_id, owner)
    if kept is not None and (found := _still(repository, place, origin, owner, kept)) is not None:
        return found
    if place.path is None:
        return _unbound(repository, f"a notebook in {_working_folder()}", origin, owner)
    binding = repository.bindings.find_by_path(origin, place.path)
    found = None if binding is None else repository.find_summary(binding.id)
    if found is not None and binding is not None and binding.file == fingerprint(place.path) != {}:
        return found
    source = (
        find_source(place.path, launcher())
        if place.is_named or place.found_by in _COPYING
        else None
    )
    recorder = NotebookRecorder(repository, origin, warn)
    try:
        saved = recorder.record(place.path, owner, is_copy=source is not None)
        return saved if source is None else _linked(repository, saved, source)
    except InvalidData:
        if found is None:
            raise
        return found
    except NotFound as error:
        if error.kind != "file":
            raise
        if found is not None:
            return found
    return _gone(repository, place, origin, owner)


def find_record(
    repository: NotebookRepository,
    place: NotebookLocation,
    origin: str,
    owner: str,
    kept: tuple[NotebookLocation, str] | None = None,
) -> NotebookSummary | None:
    """Return the record of a place as it is; None where there is none. Nothing is written. Raises as :func:`find_or_create_record`."""
    if place.record_id is not None:
        return _named(repository, place.record_id, owner)
    if kept is not None and (place.path is None or kept[0].path == place.path):
        return repository.find_summary(kept[1])
    if place.path is None:
        return repository.find_summary(_UNBOUND_ID)
    binding = repository.bindings.find_by_path(origin, place.path)
    return None if binding is None else repository.find_summary(binding.id)


def has_record(
    repository: NotebookRepository, place: NotebookLocation, origin: str, owner: str
) -> bool:
    """Return whether :func:`find_or_create_record` has no record to make; nothing is written. Also where it would raise NotFound."""
    if place.record_id is not None:
        return True
    if place.path is None:
        return repository.find_summary(_UNBOUND_ID) is not None
    if repository.bindings.find_by_path(origin, place.path) is not None:
        return True
    try:
        file = fingerprint(place.path)
        content = read_stable(place.path)
    except InvalidData:
        return False
    except NotFound:  # it may have been renamed; one that the user named is missed
        were_here = repository.bindings.find_former(origin, place.path)
        return place.is_named or bool(were_here) or repository.find_summary(_UNBOUND_ID) is not None
    seen = ObservedFile(origin, place.path, owner, embedded_id(content), file)
    return isinstance(identify(seen, repository.bindings), ExistingRecord)


def report_unbound(record: NotebookSummary) -> None:
    """Tell the user, once in this process, that a record is tied to no notebook, where it is so."""
    global _is_said
    if record.id != _UNBOUND_ID or _is_said:
        return
    _is_said = True
    print_message(
        "axon: this training's notebook could not be identified, so its record is not tied to one, and another kernel cannot "
        f'resume it. Call axon.use("<path>") before training, or set {NOTEBOOK}=<path>.'
    )


def _working_folder() -> str:
    try:
        return os.path.basename(os.getcwd()) or os.getcwd()
    except OSError:
        return "a deleted folder"


def _named(repository: NotebookRepository, id: str, owner: str) -> NotebookSummary:
    found = repository.find_summary(id)
    if found is None:
        raise NotFound("notebook", id)
    if found.user_id != owner:
        raise Forbidden(f"notebook {id} belongs to another user than {owner}")
    return found


def _still(
    repository: NotebookRepository,
    place: NotebookLocation,
    origin: str,
    owner: str,
    kept: tuple[NotebookLocation, str],
) -> NotebookSummary | None:
    """Return the record that this process had before, if its notebook is still that one; None where the place tells it."""
    before, id = kept
    is_there = place.path is not None and os.path.isfile(place.path)
    if is_there and place.path != before.path:
        return None
    bound = repository.bindings.get_many([id])
    if not bound or (bound[0].origin, bound[0].path) == (origin, place.path):
        return None
    path = bound[0].path
    if (
        path is not None and bound[0].origin == origin and os.path.isfile(path)
    ):  # moved, as its record knows
        return find_or_create_record(
            repository, NotebookLocation(place.kind, place.found_by, path), origin, owner
        )
    return None if is_there else repository.find_summary(id)


def _linked(
    repository: NotebookRepository, record: NotebookSummary, source: Source
) -> NotebookSummary:
    """Note in a record of which notebook it is a copy that was made to be executed, and with which parameters."""
    noted = record.metadata.extra.get("axon", {})
    original = _original(repository, record, source, noted.get("copied_from"))
    link = {
        "program": source.program,
        "path": source.path or (original and original.path) or source.name,
        "notebook_id": original and original.id,
        "parameters": source.parameters,
    }
    link = {name: value for name, value in link.items() if value}
    return (
        record
        if noted.get("executed_from") == link
        else repository.annotate(record.id, executed_from=link)
    )


def _original(
    repository: NotebookRepository, record: NotebookSummary, source: Source, copied_from: str | None
) -> Binding | None:
    """Return the record of the notebook that was copied: by its path, its embedded id, or its name and content."""
    origin = str(record.origin)
    if source.path is not None:
        return repository.bindings.find_by_path(origin, source.path)
    if copied_from is not None:
        return next(iter(repository.bindings.get_many([copied_from])), None)
    staged = (
        os.path.dirname(os.path.dirname(str(record.path))) + os.sep
    )  # other jobs have equal copies there
    equal = [
        binding
        for binding in repository.bindings.list(origin)
        if (os.path.basename(path := str(binding.path)), binding.user_id)
        == (source.name, record.user_id)
        and not path.startswith(staged)
        and _is_equal(path, str(record.path))
    ]
    return equal[0] if len(equal) == 1 else None


def _is_equal(path: str, other: str) -> bool:
    try:
        return os.path.getsize(path) == os.path.getsize(other) and filecmp.cmp(
            path, other, shallow=False
        )
    except OSError:
        return False


def _gone(
    repository: NotebookRepository, place: NotebookLocation, origin: str, owner: str
) -> NotebookSummary:
    """Return the record of a file that is no longer where it was, and to which no record is bound."""
    path = str(place.path)
    were_here = repository.bindings.find_former(origin, path)
    if len(were_here) == 1 and were_here[0].user_id == owner:
        moved_to = were_here[0].path
        if moved_to is not None and os.path.isfile(moved_to):
            return find_or_create_record(
                repository, NotebookLocation(place.kind, place.found_by, moved_to), origin, owner
            )
        if (found := repository.find_summary(were_here[0].id)) is not None:
            return found
    if place.is_named:
        raise NotFound("file", path)
    return _unbound(repository, notebook_name(path), origin, owner)


def _unbound(repository: NotebookRepository, name: str, origin: str, owner: str) -> NotebookSummary:
    empty = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [],
    }
    if (found := repository.find_summary(_UNBOUND_ID)) is None:
        metadata = map_notebook(empty).metadata
        if parameters := injected_parameters(executed_sources()):
            metadata.extra = {
                **metadata.extra,
                "axon": {"executed_from": {"parameters": parameters}},
            }
        new = NewNotebook(
            id=_UNBOUND_ID,
            user_id=owner,
            name=name,
            description=f"Made in a process that could not tell its notebook; {NOTEBOOK}=<path> or use(<path>) tells it.",
            metadata=metadata,
            origin=origin,
        )
        try:
            return repository.create(new).summary()
        except Conflict:  # a process that was forked from the same one was quicker
            found = repository.find_summary(_UNBOUND_ID)
    if found is None:
        raise NotFound("notebook", _UNBOUND_ID)
    return found
