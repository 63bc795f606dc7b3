"""The record of the notebook, or the script, that trains."""

from __future__ import annotations

import os
from typing import Final

from ..errors import Conflict, Forbidden, InvalidData, NotFound
from ..mapping import map_notebook, notebook_name
from ..records import NewNotebook, NotebookSummary, new_id
from ..repository import NotebookRepository
from ..sync.embedded import EmbeddedIds
from ..sync.files import RealFolders, embedded_id, fingerprint, read_settled
from ..sync.identity import Known, Sighting, identify
from ..sync.queue import Save
from ..sync.recording import Recorder
from .home import warn
from .place import NOTEBOOK, Place

#: The id of the record that this process makes where it cannot tell which notebook it is.
_UNBOUND_ID: Final = new_id()


def record_of(repository: NotebookRepository, place: Place, origin: str, owner: str) -> NotebookSummary:
    """The record of a place, brought up to date with the file, or made, as a save would.

    Two look-ups where the file is as it was when it was last read. A file that cannot be read leaves its record as it is.
    One that is gone may have been renamed: then it is the record of its new name, if one alone was ever bound to the old.

    A place that is not known has a record of its own for this process, bound to no file: nobody can say whether two
    executions are of the same notebook.

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
    if place.path is None:
        return _unbound(repository, f"a notebook in {_working_folder()}", origin, owner)
    binding = repository.binding_at(origin, place.path)
    found = None if binding is None else repository.find_summary(binding.id)
    if found is not None and binding is not None and binding.file == fingerprint(place.path) != {}:
        return found
    recorder = Recorder(repository, origin, {}, RealFolders(), EmbeddedIds(), read_settled, warn)
    try:
        return recorder.save(Save(place.path, owner))
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


def known_record(
    repository: NotebookRepository, place: Place, origin: str, owner: str
) -> NotebookSummary | None:
    """Return the record of a place as it is; None where there is none. Nothing is written. Raises as :func:`record_of`."""
    if place.record_id is not None:
        return _named(repository, place.record_id, owner)
    if place.path is None:
        return repository.find_summary(_UNBOUND_ID)
    binding = repository.binding_at(origin, place.path)
    return None if binding is None else repository.find_summary(binding.id)


def is_recorded(repository: NotebookRepository, place: Place, origin: str, owner: str) -> bool:
    """Return whether :func:`record_of` has no record to make; nothing is written. Also where it would raise NotFound."""
    if place.record_id is not None:
        return True
    if place.path is None:
        return repository.find_summary(_UNBOUND_ID) is not None
    if repository.binding_at(origin, place.path) is not None:
        return True
    try:
        file = fingerprint(place.path)
        content = read_settled(place.path)
    except InvalidData:
        return False
    except NotFound:  # it may have been renamed; one that the user named is missed
        were_here = repository.bindings_formerly_at(origin, place.path)
        return place.is_named or bool(were_here) or repository.find_summary(_UNBOUND_ID) is not None
    seen = Sighting(origin, place.path, owner, embedded_id(content), file)
    return isinstance(identify(seen, repository), Known)


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


def _gone(repository: NotebookRepository, place: Place, origin: str, owner: str) -> NotebookSummary:
    """The record of a file that is no longer where it was, and whose record is not there either."""
    path = str(place.path)
    were_here = repository.bindings_formerly_at(origin, path)
    moved_to = were_here[0].path if len(were_here) == 1 and were_here[0].user_id == owner else None
    if moved_to is not None and os.path.isfile(moved_to):
        return record_of(repository, Place(place.kind, place.found_by, moved_to), origin, owner)
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
        new = NewNotebook(
            id=_UNBOUND_ID,
            user_id=owner,
            name=name,
            description=f"Made in a process that could not tell its notebook; {NOTEBOOK}=<path> or use(<path>) tells it.",
            metadata=map_notebook(empty).metadata,
            origin=origin,
        )
        try:
            return repository.create(new).summary()
        except Conflict:  # a process that was forked from the same one was quicker
            found = repository.find_summary(_UNBOUND_ID)
    if found is None:
        raise NotFound("notebook", _UNBOUND_ID)
    return found
