"""Checkpoints that were written while the store could not be had: what is noted of them, and how they are recorded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..errors import (
    Conflict,
    Forbidden,
    InvalidData,
    NoSpace,
    NotFound,
    RecordDamaged,
    StateError,
)
from ..provenance import Environment, ExecutedCell
from ..records import (
    Moment,
    NewCheckpoint,
    NewNotebook,
    NotebookCheckpoint,
    Record,
    RunStatus,
    TrainingRun,
)
from ..repository import NotebookRepository
from ..states import StateFiles
from ..states.notes import Note, move_checkpoint, read_notes, remove_note, write_note
from ..store.failures import ForeignRecord
from .notebook import record_of
from .place import Place
from .runs import LEASE, is_alive

#: What may be wrong with one of them, and is no reason to leave the others.
_OF_ONE = (Conflict, Forbidden, ForeignRecord, InvalidData, NoSpace, NotFound, RecordDamaged, StateError)


class Unrecorded(Record, kw_only=True):
    """All that the store would have been told of a checkpoint.

    Attributes
    ----------
    made_at : datetime
        When it was made.
    path : str, optional
        The notebook's file, or the script's, by the origin that saw it.
    record_id : str, optional
        The record's, where it was named or the notebook is no file.
    store_url : str
        Which store could not be had.
    """

    checkpoint: NewCheckpoint
    made_at: Moment
    overwrite: bool = False
    run: TrainingRun | None = None
    store_url: str
    owner: str
    origin: str | None = None
    path: str | None = None
    record_id: str | None = None
    kind: Literal["notebook", "script", "unknown"] = "unknown"
    executed: list[ExecutedCell] = msgspec.field(default_factory=list)
    environment: Environment | None = None

    def write(self, states: StateFiles) -> None:
        """Note it beside its state files; raises NoSpace and StateError."""
        note = Note(self.checkpoint.notebook_id, str(self.checkpoint.id), self.to_json())
        write_note(states.root, note)

    def as_record(self) -> NotebookCheckpoint:
        """The checkpoint as it will be recorded, but for the version of the notebook."""
        fields = {name: getattr(self.checkpoint, name) for name in self.checkpoint.__struct_fields__}
        return NotebookCheckpoint(**fields, created_at=self.made_at)


@dataclass(frozen=True)
class Recovery:
    """What became of one note: the checkpoint that is recorded now, or why it is not."""

    where: str
    checkpoint: NotebookCheckpoint | None = None
    trouble: str | None = None


def find_unrecorded(states: StateFiles) -> Iterator[Unrecorded | Recovery]:
    """All that is noted below the home of state files, oldest first; what cannot be read comes at the end."""
    found: list[Unrecorded] = []
    troubles: list[Recovery] = []
    for note in read_notes(states.root):
        if isinstance(note, StateError):
            troubles.append(Recovery(states.root, trouble=str(note)))
            continue
        where = os.path.join(states.root, note.notebook_id, note.checkpoint_id)
        try:
            unrecorded = Unrecorded.from_json(note.document)
        except InvalidData as error:
            troubles.append(Recovery(where, trouble=f"the note is not one of ours: {error}"))
            continue
        # By its place: a note says nothing about where files are that its own place does not.
        unrecorded.checkpoint.notebook_id = note.notebook_id
        unrecorded.checkpoint.id = note.checkpoint_id
        found.append(unrecorded)
    yield from sorted(found, key=lambda unrecorded: unrecorded.made_at)
    yield from troubles


def recover(
    repository: NotebookRepository,
    states: StateFiles,
    origin: str,
    noted: Iterable[Unrecorded],
    notebook_id: str | None = None,
) -> Iterator[Recovery]:
    """Record what is noted, one after the other; a note goes once its checkpoint is recorded.

    Done again after it was broken off, it goes on: what is recorded already is recognised by its id. They keep the times
    at which they were made. What cannot be recorded is told, and keeps no other from being.

    Parameters
    ----------
    notebook_id : str, optional
        The record that they belong to, where it is known better than the notes do.

    Raises
    ------
    StoreError
        When the store cannot be had; what was recorded until then stays recorded.
    """
    notebooks: dict[str, str] = {}
    for unrecorded in noted:
        checkpoint = unrecorded.checkpoint
        where = os.path.join(states.root, checkpoint.notebook_id, str(checkpoint.id))
        try:
            yield Recovery(where, _record(repository, states, origin, unrecorded, notebooks, notebook_id))
        except _OF_ONE as error:
            yield Recovery(where, trouble=str(error))


def _record(
    repository: NotebookRepository,
    states: StateFiles,
    origin: str,
    unrecorded: Unrecorded,
    notebooks: dict[str, str],
    known_id: str | None,
) -> NotebookCheckpoint:
    noted_under, id = unrecorded.checkpoint.notebook_id, str(unrecorded.checkpoint.id)
    recorded = repository.get_checkpoint(id)
    if recorded is None:
        notebook_id = notebooks.get(noted_under) or _notebook(repository, origin, unrecorded, known_id)
        notebooks[noted_under] = notebook_id
        new = unrecorded.checkpoint
        if notebook_id != noted_under:
            # The note comes along, and says so: it is found there again should this be broken off now.
            move_checkpoint(states.root, id, noted_under, notebook_id)
            new.notebook_id = notebook_id
        _place_states(states, new)
        new.version_id = None  # the version of the store that could be had
        _begin_run(repository, unrecorded, notebook_id)
        if unrecorded.environment is not None:
            new.provenance_id = repository.put_provenance(
                notebook_id, unrecorded.executed, unrecorded.environment
            )
        recorded = repository.create_checkpoint(
            new, overwrite=unrecorded.overwrite, made_at=unrecorded.made_at
        )
    _end_run(repository, unrecorded, recorded.notebook_id)
    states.recorded(recorded.notebook_id, id)
    for folder in {
        noted_under,
        recorded.notebook_id,
    }:  # written once more, it may lie where the files were before
        remove_note(states.root, folder, id)
    return recorded


def _notebook(
    repository: NotebookRepository, origin: str, unrecorded: Unrecorded, known_id: str | None
) -> str:
    """The id of the record that a checkpoint belongs to: that of its file, else one that is made for it."""
    id, path = unrecorded.checkpoint.notebook_id, unrecorded.path
    for named in (id, known_id, unrecorded.record_id):
        if named is not None and repository.find_summary(named) is not None:
            return named
    if path is not None and unrecorded.origin == origin:
        bound = repository.find_by_path(origin, path)
        if bound is not None:
            return bound.id
        if os.path.isfile(path):
            with contextlib.suppress(InvalidData):  # it can be read no more; its checkpoints still can
                place = Place(unrecorded.kind, "a note", path)
                return record_of(repository, place, origin, unrecorded.owner).id
    name = os.path.splitext(os.path.basename(path))[0] if path else "recovered"
    return repository.create(NewNotebook(id=id, user_id=unrecorded.owner, name=name)).id


def _place_states(states: StateFiles, new: NewCheckpoint) -> None:
    """Point a checkpoint at the state files in its own folder, and at no others; all have to be there."""
    folder = os.path.join(states.root, new.notebook_id, str(new.id))
    for part in ("model", "optimizer"):
        noted = getattr(new, f"{part}_state_path")
        if not noted:
            continue
        path = os.path.join(folder, os.path.basename(noted))
        with states.open(path, new.notebook_id, field=f"$.{part}_state_path") as file:
            size = os.fstat(file.fileno()).st_size
        expected = (new.sizes or {}).get(part)
        if expected is not None and size != expected:
            raise StateError(f"{path} has {size} bytes, {expected} were written")
        setattr(new, f"{part}_state_path", path)


def _begin_run(repository: NotebookRepository, unrecorded: Unrecorded, notebook_id: str) -> None:
    """Have the run recorded that a checkpoint belongs to."""
    run = unrecorded.run
    if run is None or repository.get_run(notebook_id, run.id) is not None:
        return
    parent = run.parent_checkpoint_id
    known = parent is not None and repository.get_checkpoint(parent) is not None
    repository.create_run(
        notebook_id,
        id=run.id,
        parent_checkpoint_id=parent if known else None,
        process=run.process,
        lease_until=unrecorded.made_at + LEASE,  # whoever trains on says so
        started_at=run.started_at,
    )


def _end_run(repository: NotebookRepository, unrecorded: Unrecorded, notebook_id: str) -> None:
    """Have it recorded how the run ended: as it was noted, or by its process having vanished."""
    run = unrecorded.run
    if run is None or (known := repository.get_run(notebook_id, run.id)) is None:
        return
    if run.status is not RunStatus.RUNNING:
        if known.status is not run.status:
            repository.update_run_status(notebook_id, run.id, run.status)
    elif known.status is RunStatus.RUNNING and not is_alive(known):
        repository.update_run_status(notebook_id, run.id, RunStatus.STOPPED)
