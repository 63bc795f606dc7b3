"""Recovery of checkpoints that were written while the store was unavailable.

A kernel, a server and the command line use the same two steps: :func:`find_unrecorded` reads and
checks the notes beside the state files, and :func:`recover` records what it is given.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, Literal

import msgspec

from ..errors import Conflict, Forbidden, InvalidData, RecordDamaged, StateError, StoreError
from ..provenance import Environment, ExecutedCell
from ..records import (
    Moment,
    NewCheckpoint,
    NewNotebook,
    NotebookCheckpoint,
    Record,
    RunStatus,
    TrainingRun,
    now,
)
from ..repository import NotebookRepository
from ..states import StateStorage
from ..states.layout import PARTS, check_id, is_path_text
from ..states.notes import (
    has_note,
    list_notes,
    move_checkpoint,
    read_note,
    remove_note,
    root_time,
    write_note,
)
from ..store.error_mapping import ForeignRecord
from .discovery.location import NotebookLocation
from .discovery.record import find_or_create_record
from .processes import LEASE, is_alive, is_running, this_host

#: Attempts to record a checkpoint that another process may be recording at the same time.
_ATTEMPTS: Final = 3
#: How long a run on another host counts as running after its last note.
_UNSEEN_RUN_TIMEOUT: Final = timedelta(hours=1)
#: A server that reads notes for more than this many seconds rests for a multiple of that time.
_LONG_PASS: Final = 0.5
_REST_FACTOR: Final = 10


class UnrecordedCheckpoint(Record, kw_only=True):
    """A note: everything that is to be recorded of a checkpoint.

    Attributes
    ----------
    made_at : datetime
        When the checkpoint was made.
    store_url : str
        The store that was unavailable.
    path : str, optional
        The file of the notebook or script, as the data folder ``origin`` has it.
    record_id : str, optional
        The id of the notebook's record, if the user named it or the notebook is no file.
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

    def write(self, states: StateStorage) -> None:
        """Write the note beside the state files; raises NoSpace or StateError."""
        new = self.checkpoint
        write_note(states.root, new.notebook_id, str(new.id), self.to_json())

    def as_record(self) -> NotebookCheckpoint:
        """Return the checkpoint as it will be recorded, except for the version of the notebook."""
        new = self.checkpoint
        fields = {name: getattr(new, name) for name in new.__struct_fields__}
        return NotebookCheckpoint(**fields, created_at=self.made_at)


@dataclass(frozen=True)
class RecoveryResult:
    """The outcome for one note.

    Attributes
    ----------
    folder : str
        The folder of the checkpoint.
    checkpoint : NotebookCheckpoint or None
        The checkpoint, if it is recorded.
    error : str or None
        Why it is not recorded.
    is_new : bool
        Whether the checkpoint was recorded now. If it was recorded before, only the note was
        removed.
    """

    folder: str
    checkpoint: NotebookCheckpoint | None = None
    error: str | None = None
    is_new: bool = False


def find_unrecorded(states: StateStorage) -> Iterator[UnrecordedCheckpoint | RecoveryResult]:
    """Yield checkpoints that have notes, oldest first, then results for unreadable notes."""
    found: list[UnrecordedCheckpoint] = []
    failed: list[RecoveryResult] = []
    for ids in list_notes(states.root):
        try:
            if (document := read_note(states.root, *ids)) is not None:
                found.append(_parse(document, *ids))
        except InvalidData as error:
            reason = f"the note is invalid: {error}"
            failed.append(RecoveryResult(os.path.join(states.root, *ids), error=reason))
        except StateError as error:
            failed.append(RecoveryResult(os.path.join(states.root, *ids), error=str(error)))
    found.sort(key=lambda one: one.made_at)
    for one in found:
        # With a time in the future, the checkpoint would stay the newest until then.
        one.made_at = min(one.made_at, now())
        if one.run is not None:
            one.run.started_at = min(one.run.started_at, one.made_at)
    yield from found
    yield from failed


def _parse(document: object, notebook_id: str, checkpoint_id: str) -> UnrecordedCheckpoint:
    """Return the content of a note, checked: anyone who can write state files may have written it.

    Ids are those of its folder. Raises InvalidData if it has what no training writes.
    """
    check_id(notebook_id, "the folder of the notebook")
    check_id(checkpoint_id, "the folder of the checkpoint")
    found = UnrecordedCheckpoint.from_json(document)
    new, run = found.checkpoint, found.run
    new.notebook_id, new.id = notebook_id, checkpoint_id
    process = None if run is None else run.process
    named = (found.store_url, found.owner, found.origin, found.path, found.record_id)
    texts = (*named, new.format, new.run_id, None if process is None else process.host)
    if not all(text is None or is_path_text(text) for text in texts):
        raise InvalidData("$", "expected texts that are valid in paths")
    if found.path is not None and not os.path.isabs(found.path):
        raise InvalidData("$.path", "expected an absolute path")
    if run is not None and run.id != new.run_id:
        raise InvalidData("$.run.id", "expected the run of the checkpoint")
    return found


def recover(
    repository: NotebookRepository,
    states: StateStorage,
    origin: str,
    unrecorded: Iterable[UnrecordedCheckpoint],
) -> Iterator[RecoveryResult]:
    """Record checkpoints with the times at which they were made, and remove their notes.

    It may be interrupted and repeated, and several processes may do it at once: a checkpoint that
    is recorded already is recognised by its id, and a note that another process has removed gives
    no result. One checkpoint that cannot be recorded does not keep the others from being recorded.

    Parameters
    ----------
    repository, states, origin : NotebookRepository, StateStorage, str
        Where checkpoints are recorded, and the id of the data folder.
    unrecorded : iterable of UnrecordedCheckpoint
        As :func:`find_unrecorded` gives them.

    Raises
    ------
    StoreError
        If the store is unavailable. What was recorded until then stays recorded.
    """
    recorder = _Recorder(repository, states, origin)
    unrecorded = list(unrecorded)
    # Only the last note of a run tells how the run ended. With an earlier one it would be stopped.
    runs = {(one.checkpoint.notebook_id, one.run.id): one.run for one in unrecorded if one.run}
    for one in unrecorded:
        if one.run is not None:
            one.run.status = runs[one.checkpoint.notebook_id, one.run.id].status
        if (result := recorder.try_record(one)) is not None:
            yield result


@dataclass(frozen=True)
class _Recorder:
    repository: NotebookRepository
    states: StateStorage
    origin: str

    def try_record(self, one: UnrecordedCheckpoint) -> RecoveryResult | None:
        """Record a checkpoint; return None if another process has removed its note."""
        new, reason = one.checkpoint, ""
        folder = os.path.join(self.states.root, new.notebook_id, str(new.id))
        for _ in range(_ATTEMPTS):
            if not has_note(self.states.root, new.notebook_id, str(new.id)):
                return None
            try:
                return self._record(one, folder)
            except Conflict as error:  # another process may be recording the same
                reason = str(error)
            except Exception as error:
                is_about_store = not isinstance(error, (ForeignRecord, RecordDamaged))
                if isinstance(error, StoreError) and is_about_store:
                    raise
                reason = str(error) or type(error).__name__
                break
        if not has_note(self.states.root, new.notebook_id, str(new.id)):
            return None
        return RecoveryResult(folder, error=reason)

    def _record(self, one: UnrecordedCheckpoint, folder: str) -> RecoveryResult:
        """Record a checkpoint unless it is recorded."""
        repository, states, new = self.repository, self.states, one.checkpoint
        noted_under, id = new.notebook_id, str(new.id)
        recorded = repository.get_checkpoint(id)
        is_new = recorded is None
        if recorded is None:
            notebook_id = self._find_notebook(one)
            if notebook_id != noted_under:
                # The note moves as well, so that an interrupted recovery is continued from there.
                move_checkpoint(states.root, id, noted_under, notebook_id)
                new.notebook_id = notebook_id
            self._check_states(new)
            new.version_id = None  # it was one of the unavailable store
            if one.run is not None and repository.runs.get(notebook_id, one.run.id) is None:
                # A process that trains on renews the lease.
                until, begun = one.made_at + LEASE, one.run.started_at
                start_run(repository, one.run, notebook_id, until, started_at=begun)
            if one.environment is not None:
                new.provenance_id = repository.provenance.add(
                    notebook_id, one.executed, one.environment
                )
            recorded = repository.create_checkpoint(
                new, overwrite=one.overwrite, made_at=one.made_at
            )
        elif not self._owns(one.owner, recorded.notebook_id):
            raise Forbidden(
                f"checkpoint {id} exists already, in a notebook that does not belong to {one.owner}"
            )
        self._finish_run(one, recorded.notebook_id)
        states.mark_recorded(recorded.notebook_id, id)
        for notebook_id in {noted_under, recorded.notebook_id}:  # it may have been written again
            remove_note(states.root, notebook_id, id)
        return RecoveryResult(folder, recorded, is_new=is_new)

    def _find_notebook(self, one: UnrecordedCheckpoint) -> str:
        """Return the id of the record that a checkpoint belongs to; never one of another user.

        It is the record of its file, or else a new one.
        """
        repository, id, path, owner = (
            self.repository,
            one.checkpoint.notebook_id,
            one.path,
            one.owner,
        )
        existing = repository.find_summary(id)
        if existing is not None:
            if existing.user_id != owner:
                raise Forbidden(f"notebook {id} does not belong to {owner}")
            return id
        if one.record_id is not None and self._owns(owner, one.record_id):
            return one.record_id
        if path is not None and one.origin == self.origin:
            bound = repository.find_by_path(self.origin, path)
            if bound is None and os.path.isfile(path):
                with contextlib.suppress(InvalidData):  # no notebook any more
                    found = NotebookLocation(one.kind, "a note", path)
                    bound = find_or_create_record(repository, found, self.origin, owner)
            if bound is not None and bound.user_id == owner:
                return bound.id
            moved = repository.bindings.find_former(self.origin, path) if bound is None else []
            if len(moved) == 1 and moved[0].user_id == owner:
                return moved[0].id
        name = os.path.splitext(os.path.basename(path))[0] if path else "recovered"
        return repository.create(NewNotebook(id=id, user_id=owner, name=name)).id

    def _owns(self, owner: str, notebook_id: str) -> bool:
        found = self.repository.find_summary(notebook_id)
        return found is not None and found.user_id == owner

    def _check_states(self, new: NewCheckpoint) -> None:
        """Check the state files in the checkpoint's own folder, and refer to these only."""
        folder = os.path.join(self.states.root, new.notebook_id, str(new.id))
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for part in PARTS:
            field = f"{part}_state_path"
            if not (noted := getattr(new, field)):
                continue
            path = os.path.join(folder, os.path.basename(noted))
            with self.states.open(path, new.notebook_id, field=f"$.{field}") as file:
                size = os.fstat(file.fileno()).st_size
            expected = (new.sizes or {}).get(part)
            if expected is not None and size != expected:
                raise StateError(f"{path} has {size} bytes; {expected} were written")
            if part not in (new.digests or {}):
                raise InvalidData(f"$.checkpoint.digests.{part}", "required, but missing")
            setattr(new, field, path)
            digests[part], sizes[part] = (new.digests or {})[part], size
        new.digests, new.sizes = digests or None, sizes or None

    def _finish_run(self, one: UnrecordedCheckpoint, notebook_id: str) -> None:
        """Record how the run ended: as noted, or stopped if its process is gone."""
        run = one.run
        if run is None or (known := self.repository.runs.get(notebook_id, run.id)) is None:
            return
        status = run.status
        if status is RunStatus.RUNNING:
            if known.status is not RunStatus.RUNNING or is_alive(known):
                return
            status = RunStatus.STOPPED
        if known.status is not status:
            self.repository.runs.update_status(notebook_id, run.id, status)


def start_run(
    repository: NotebookRepository,
    run: TrainingRun,
    notebook_id: str,
    lease_until: datetime,
    *,
    started_at: datetime | None = None,
) -> None:
    """Record that a run begins, without its parent if that was deleted."""
    parent = run.parent_checkpoint_id
    if parent is not None and repository.get_checkpoint(parent) is None:
        parent = None
    repository.runs.start(
        notebook_id,
        id=run.id,
        parent_checkpoint_id=parent,
        process=run.process,
        lease_until=lease_until,
        started_at=started_at,
        key=run.key,
        cell=run.cell,
        ordinal=run.ordinal,
    )


@dataclass
class BackgroundRecovery:
    """Records, in a server, what trainings could not record.

    Only notes of this server's user, store and data folder, and of runs that are over: a process
    that still trains records its own. While there are no new notes, a pass is one ``stat`` of the
    folder of state files.

    Parameters
    ----------
    repository, states, origin : NotebookRepository, StateStorage, str
        Where checkpoints are recorded, and the id of the data folder.
    store_url : str
        The URL of the store, as kernels have it.
    owner : str, optional
        The user whose notes are recorded; all users' by default.
    """

    repository: NotebookRepository
    states: StateStorage
    origin: str
    store_url: str
    owner: str | None
    _root_time: int | None = None
    _is_training: bool = False
    _rest_until: float = 0.0
    _reported: set[tuple[str, str]] = field(default_factory=set)

    def run_once(self) -> Iterator[RecoveryResult]:
        """Record what there is to record. What cannot be recorded is reported once.

        Raises
        ------
        StoreError
            If the store is unavailable; the next pass continues there.
        """
        changed_at = root_time(self.states.root)
        began = time.monotonic()
        is_unchanged = changed_at == self._root_time and not self._is_training
        if is_unchanged or began < self._rest_until:
            return
        failed: list[RecoveryResult] = []
        notes: list[UnrecordedCheckpoint] = []
        for found in find_unrecorded(self.states):
            if isinstance(found, RecoveryResult):
                failed.append(found)
            elif self._is_ours(found):
                notes.append(found)
        if (took := time.monotonic() - began) > _LONG_PASS:
            self._rest_until = began + _REST_FACTOR * took
        last = {note.checkpoint.run_id: note for note in notes}
        training = {run_id for run_id, note in last.items() if _is_training(note)}
        ended = [note for note in notes if note.checkpoint.run_id not in training]
        recorded = recover(self.repository, self.states, self.origin, ended)
        for result in chain(failed, recorded):
            if result.error is not None:
                if (result.folder, result.error) in self._reported:
                    continue
                self._reported.add((result.folder, result.error))
            yield result
        self._root_time, self._is_training = changed_at, bool(training)

    def _is_ours(self, note: UnrecordedCheckpoint) -> bool:
        return (
            note.store_url == self.store_url
            and note.origin in (None, self.origin)
            and self.owner in (None, note.owner)
        )


def _is_training(note: UnrecordedCheckpoint) -> bool:
    """Return whether the process of a note's run may still train."""
    run = note.run
    if run is None or run.status is not RunStatus.RUNNING or run.process is None:
        return False
    if run.process.host != this_host():
        return now() < note.made_at + _UNSEEN_RUN_TIMEOUT
    return is_running(run.process)
