"""Checkpoints that were written while the store could not be had: what is noted of them, and how they are recorded."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal

import msgspec

from ..errors import (
    AxonError,
    Conflict,
    Forbidden,
    InvalidData,
    RecordDamaged,
    StateError,
    StoreError,
)
from ..metrics import is_no_deeper
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
    Note,
    has_note,
    list_notes,
    move_checkpoint,
    note_folders,
    read_note,
    remove_note,
    root_time,
    write_note,
)
from ..store import ForeignRecord
from .discovery.location import NotebookLocation
from .discovery.record import find_or_create_record
from .processes import LEASE, is_alive, is_running, this_host

#: Characters of a name, a path or a URL in a note.
_LONGEST_TEXT: Final = 4096
#: Levels of nested metrics; a training gives fewer.
_DEEPEST: Final = 100
#: The largest number that a process can have on any system.
_LARGEST_PID: Final = 2**32 - 1
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
#: Attempts at a checkpoint that somebody else may be recording at the same time.
_ATTEMPTS: Final = 3
#: How long after its last checkpoint a run counts as going on where its process cannot be seen.
_UNSEEN: Final = timedelta(hours=1)
#: Seconds after which every folder is looked into again: some file systems keep times to two seconds only, and not
#: everybody who writes notes changes the root's.
_MEMORY: Final = 3600.0


class UnrecordedCheckpoint(Record, kw_only=True):
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

    def write(self, states: StateStorage) -> None:
        """Note it beside its state files; raises NoSpace and StateError."""
        note = Note(self.checkpoint.notebook_id, str(self.checkpoint.id), self.to_json())
        write_note(states.root, note)

    def as_record(self) -> NotebookCheckpoint:
        """The checkpoint as it will be recorded, but for the version of the notebook."""
        fields = {
            name: getattr(self.checkpoint, name) for name in self.checkpoint.__struct_fields__
        }
        return NotebookCheckpoint(**fields, created_at=self.made_at)


@dataclass(frozen=True)
class RecoveryResult:
    """What became of one note: the checkpoint that is recorded now, or why it is not.

    Attributes
    ----------
    is_new : bool
        Whether the checkpoint was recorded now. Of one that was recorded already, the note alone was removed.
    """

    folder: str
    checkpoint: NotebookCheckpoint | None = None
    error: str | None = None
    is_new: bool = False


def find_unrecorded(
    states: StateStorage, notebook_ids: Iterable[str] | None = None
) -> Iterator[UnrecordedCheckpoint | RecoveryResult]:
    """All that is noted below the home of state files, oldest first; what cannot be read comes at the end.

    Parameters
    ----------
    notebook_ids : iterable of str, optional
        Only look into the folders of these notebooks.
    """
    found: list[UnrecordedCheckpoint] = []
    troubles: list[RecoveryResult] = []
    if notebook_ids is None:
        notebook_ids = [notebook_id for notebook_id, _ in note_folders(states.root)]
    for notebook_id in notebook_ids:
        for checkpoint_id in list_notes(states.root, notebook_id):
            where = os.path.join(states.root, notebook_id, checkpoint_id)
            try:
                note = read_note(states.root, notebook_id, checkpoint_id)
                if note is not None:
                    found.append(_unrecorded(note))
            except InvalidData as error:
                troubles.append(
                    RecoveryResult(where, error=f"the note is not one of ours: {error}")
                )
            except StateError as error:
                troubles.append(RecoveryResult(where, error=str(error)))
    yield from sorted(found, key=lambda unrecorded: unrecorded.made_at)
    yield from troubles


def _unrecorded(note: Note) -> UnrecordedCheckpoint:
    """What a note says, checked: anybody may have written it who can write into the home of state files.

    A time that is yet to come gives way to that of the file, or the checkpoint would stay the newest until then.

    Raises
    ------
    InvalidData
        Naming what no training writes.
    """
    check_id(note.notebook_id, "the folder of the notebook")
    check_id(note.checkpoint_id, "the folder of the checkpoint")
    unrecorded = UnrecordedCheckpoint.from_json(note.document)
    new, run = unrecorded.checkpoint, unrecorded.run
    # By its place: a note says nothing about where files are that its own place does not.
    new.notebook_id, new.id = note.notebook_id, note.checkpoint_id
    process = None if run is None else run.process
    texts = {
        "store_url": unrecorded.store_url,
        "owner": unrecorded.owner,
        "origin": unrecorded.origin,
        "path": unrecorded.path,
        "record_id": unrecorded.record_id,
        "checkpoint.format": new.format,
        "checkpoint.run_id": new.run_id,
        "run.process.host": None if process is None else process.host,
        "run.key": None if run is None else run.key,
        "run.cell": None if run is None else run.cell,
        "run.skipped_run_id": None if run is None else run.skipped_run_id,
    }
    for name, text in texts.items():
        if text is not None and (len(text) > _LONGEST_TEXT or not is_path_text(text)):
            raise InvalidData(f"$.{name}", f"expected a text of at most {_LONGEST_TEXT} characters")
    if unrecorded.path is not None and not os.path.isabs(unrecorded.path):
        raise InvalidData("$.path", "expected an absolute path")
    if not is_no_deeper(new.metrics, _DEEPEST):
        raise InvalidData("$.checkpoint.metrics", f"nested deeper than {_DEEPEST} levels")
    if run is not None and run.id != new.run_id:
        raise InvalidData("$.run.id", "expected the run of the checkpoint")
    if process is not None and not 0 < process.pid <= _LARGEST_PID:
        raise InvalidData("$.run.process.pid", "expected the number of a process")
    for part, digest in (new.digests or {}).items():
        if _DIGEST.fullmatch(digest) is None:
            raise InvalidData(f"$.checkpoint.digests.{part}", "expected a SHA-256 in hex")
    if unrecorded.made_at > (moment := now()):
        seconds = min(max(note.written_at, 0.0), moment.timestamp())
        unrecorded.made_at = datetime.fromtimestamp(seconds, timezone.utc)
    if run is not None:
        run.started_at = min(run.started_at, unrecorded.made_at)
    return unrecorded


def recover(
    repository: NotebookRepository,
    states: StateStorage,
    origin: str,
    noted: Iterable[UnrecordedCheckpoint],
    notebook_id: str | None = None,
) -> Iterator[RecoveryResult]:
    """Record what is noted, one after the other; a note goes once its checkpoint is recorded.

    Done again after it was broken off, it goes on: what is recorded already is recognised by its id. They keep the times
    at which they were made. What cannot be recorded is told, and keeps no other from being. Several processes may do this
    at once: a note that is gone has been taken care of, and nothing is told of it.

    Parameters
    ----------
    notebook_id : str, optional
        The record that they belong to, where it is known better than the notes do.

    Raises
    ------
    StoreError
        When the store is unavailable; what was recorded until then stays recorded.
    """
    notebooks: dict[str, str] = {}
    noted = list(noted)
    # Only the last note of a run says how the run ended. An earlier one would have it stopped, and the notebook with it.
    ended = {
        (one.checkpoint.notebook_id, one.run.id): one.run for one in noted if one.run is not None
    }
    for unrecorded in noted:
        checkpoint = unrecorded.checkpoint
        if unrecorded.run is not None:
            unrecorded.run.status = ended[checkpoint.notebook_id, unrecorded.run.id].status
        where = os.path.join(states.root, checkpoint.notebook_id, str(checkpoint.id))
        for attempt in range(1, _ATTEMPTS + 1):
            noted_under = checkpoint.notebook_id
            if not has_note(states.root, noted_under, str(checkpoint.id)):
                break
            try:
                recorded, is_new = _record(
                    repository, states, origin, unrecorded, notebooks, notebook_id
                )
                yield RecoveryResult(where, recorded, is_new=is_new)
            except (
                ForeignRecord,
                RecordDamaged,
            ) as error:  # kinds of StoreError that say nothing about the store
                yield RecoveryResult(where, error=str(error))
            except StoreError:
                raise
            except Conflict as error:
                if attempt < _ATTEMPTS:  # somebody else may be recording the same
                    notebooks.pop(noted_under, None)
                    continue
                yield RecoveryResult(where, error=str(error))
            except AxonError as error:
                if has_note(states.root, checkpoint.notebook_id, str(checkpoint.id)):
                    yield RecoveryResult(where, error=str(error))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the others are to be recorded
                yield RecoveryResult(where, error=f"{type(error).__name__}: {error}")
            break


def _record(
    repository: NotebookRepository,
    states: StateStorage,
    origin: str,
    unrecorded: UnrecordedCheckpoint,
    notebooks: dict[str, str],
    known_id: str | None,
) -> tuple[NotebookCheckpoint, bool]:
    """Record a checkpoint, unless that was done already, and return whether it was recorded now; its note goes."""
    noted_under, id = unrecorded.checkpoint.notebook_id, str(unrecorded.checkpoint.id)
    recorded = repository.get_checkpoint(id)
    is_new = recorded is None
    if recorded is None:
        notebook_id = notebooks.get(noted_under) or _notebook(
            repository, origin, unrecorded, known_id
        )
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
            new.provenance_id = repository.provenance.add(
                notebook_id, unrecorded.executed, unrecorded.environment
            )
        recorded = repository.create_checkpoint(
            new, overwrite=unrecorded.overwrite, made_at=unrecorded.made_at
        )
    elif recorded.notebook_id != known_id and not _owns(
        repository, unrecorded.owner, recorded.notebook_id
    ):
        raise Forbidden(
            f"there is a checkpoint {id} already, in a notebook that is not {unrecorded.owner}'s"
        )
    _end_run(repository, unrecorded, recorded.notebook_id)
    states.mark_recorded(recorded.notebook_id, id)
    for folder in {
        noted_under,
        recorded.notebook_id,
    }:  # written once more, it may lie where the files were before
        remove_note(states.root, folder, id)
    return recorded, is_new


def _notebook(
    repository: NotebookRepository,
    origin: str,
    unrecorded: UnrecordedCheckpoint,
    known_id: str | None,
) -> str:
    """The id of the record that a checkpoint belongs to: that of its file, else one that is made for it.

    A note puts no checkpoint into a record of another user than its own.
    """
    id, path, owner = unrecorded.checkpoint.notebook_id, unrecorded.path, unrecorded.owner
    there = repository.find_summary(id)
    if there is not None:
        if there.user_id != owner and id != known_id:
            raise Forbidden(f"notebook {id} belongs to another user than {owner}")
        return id
    if known_id is not None and repository.find_summary(known_id) is not None:
        return known_id
    if unrecorded.record_id is not None and _owns(repository, owner, unrecorded.record_id):
        return unrecorded.record_id
    if path is not None and unrecorded.origin == origin:
        bound = repository.find_by_path(origin, path)
        if bound is None and os.path.isfile(path):
            with contextlib.suppress(
                InvalidData
            ):  # it can be read no more; its checkpoints still can
                bound = find_or_create_record(
                    repository, NotebookLocation(unrecorded.kind, "a note", path), origin, owner
                )
        if bound is not None and bound.user_id == owner:
            return bound.id
        moved = repository.bindings.find_former(origin, path) if bound is None else []
        if len(moved) == 1 and moved[0].user_id == owner:
            return moved[0].id
    name = os.path.splitext(os.path.basename(path))[0] if path else "recovered"
    return repository.create(NewNotebook(id=id, user_id=owner, name=name)).id


def _owns(repository: NotebookRepository, owner: str, notebook_id: str) -> bool:
    found = repository.find_summary(notebook_id)
    return found is not None and found.user_id == owner


def _place_states(states: StateStorage, new: NewCheckpoint) -> None:
    """Point a checkpoint at the state files in its own folder, and at no others; all have to be there."""
    folder = os.path.join(states.root, new.notebook_id, str(new.id))
    digests: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for part in PARTS:
        noted = getattr(new, f"{part}_state_path")
        if not noted:
            continue
        path = os.path.join(folder, os.path.basename(noted))
        with states.open(path, new.notebook_id, field=f"$.{part}_state_path") as file:
            size = os.fstat(file.fileno()).st_size
        expected = (new.sizes or {}).get(part)
        if expected is not None and size != expected:
            raise StateError(f"{path} has {size} bytes, {expected} were written")
        digest = (new.digests or {}).get(part)
        if digest is None:
            raise InvalidData(f"$.checkpoint.digests.{part}", "required, but missing")
        setattr(new, f"{part}_state_path", path)
        digests[part], sizes[part] = digest, size
    new.digests, new.sizes = digests or None, sizes or None


def _begin_run(
    repository: NotebookRepository, unrecorded: UnrecordedCheckpoint, notebook_id: str
) -> None:
    """Have the run recorded that a checkpoint belongs to."""
    run = unrecorded.run
    if run is None or repository.runs.get(notebook_id, run.id) is not None:
        return
    parent = run.parent_checkpoint_id
    known = parent is not None and repository.get_checkpoint(parent) is not None
    repository.runs.start(
        notebook_id,
        id=run.id,
        parent_checkpoint_id=parent if known else None,
        process=run.process,
        lease_until=unrecorded.made_at + LEASE,  # whoever trains on says so
        started_at=run.started_at,
        key=run.key,
        cell=run.cell,
        ordinal=run.ordinal,
        skipped_run_id=run.skipped_run_id,
    )


def _end_run(
    repository: NotebookRepository, unrecorded: UnrecordedCheckpoint, notebook_id: str
) -> None:
    """Have it recorded how the run ended: as it was noted, or by its process having vanished."""
    run = unrecorded.run
    if run is None or (known := repository.runs.get(notebook_id, run.id)) is None:
        return
    if run.status is not RunStatus.RUNNING:
        if known.status is not run.status:
            repository.runs.update_status(notebook_id, run.id, run.status)
    elif known.status is RunStatus.RUNNING and not is_alive(known):
        repository.runs.update_status(notebook_id, run.id, RunStatus.STOPPED)


class BackgroundRecovery:
    """Records, in a server, what trainings noted while the store was unavailable.

    Only notes of this server's user, store and origin, and of runs that are over: a training that goes on does it itself.
    As long as nothing is noted, a look is one ``stat`` of the home of state files. What others than this version of the
    package put there (an older one, a copy of files) is found at the first look and within the hour.

    Parameters
    ----------
    store_url : str
        The store's, as kernels are told it.
    owner : str, optional
        Whose notes are recorded; None: everybody's.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        states: StateStorage,
        origin: str,
        store_url: str,
        owner: str | None,
    ) -> None:
        self._repository = repository
        self._states = states
        self._origin = origin
        self._store_url = store_url
        self._owner = owner
        # By notebook, what need not be looked at again: the time of its folder, and the run that is waited for.
        self._seen: dict[str, tuple[int, UnrecordedCheckpoint | None]] = {}
        self._root_time: int | None = None
        self._forget_at = time.monotonic() + _MEMORY

    def run_once(self) -> Iterator[RecoveryResult | None]:
        """Record what there is to record; None after each folder that was looked into.

        What cannot be recorded is told once, and again when its notebook's folder has changed, or after an hour.

        Raises
        ------
        StoreError
            When the store is unavailable; the next look goes on from there.
        """
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + _MEMORY
            self._root_time = None
            self._seen.clear()
        changed = root_time(self._states.root)
        if changed is None or changed != self._root_time:
            folders = dict(note_folders(self._states.root))
            self._seen = {id: seen for id, seen in self._seen.items() if id in folders}
        else:
            folders = {
                id: at for id, (at, waits_for) in self._seen.items() if waits_for is not None
            }
        for notebook_id, changed_at in folders.items():
            seen_at, waits_for = self._seen.get(notebook_id, (None, None))
            if seen_at == changed_at and (waits_for is None or _goes_on(waits_for)):
                continue
            waits_for = self._going_on(notebook_id)
            if waits_for is None:
                noted = [*find_unrecorded(self._states, [notebook_id])]
                yield from (found for found in noted if isinstance(found, RecoveryResult))
                ours = [
                    found
                    for found in noted
                    if isinstance(found, UnrecordedCheckpoint) and self._is_ours(found)
                ]
                last = {found.checkpoint.run_id: found for found in ours}
                over = [found for found in ours if not _goes_on(last[found.checkpoint.run_id])]
                waits_for = next((found for found in last.values() if _goes_on(found)), None)
                yield from recover(self._repository, self._states, self._origin, over)
            self._seen[notebook_id] = changed_at, waits_for
            yield None
        self._root_time = changed

    def _going_on(self, notebook_id: str) -> UnrecordedCheckpoint | None:
        """The newest note of a notebook, if its run goes on: not all of them are read again with each checkpoint."""
        root = self._states.root
        for checkpoint_id in list_notes(root, notebook_id)[-1:]:
            with contextlib.suppress(InvalidData, StateError):
                note = read_note(root, notebook_id, checkpoint_id)
                newest = None if note is None else _unrecorded(note)
                if newest is not None and self._is_ours(newest) and _goes_on(newest):
                    return newest
        return None

    def _is_ours(self, noted: UnrecordedCheckpoint) -> bool:
        return (
            noted.store_url == self._store_url
            and noted.origin in (None, self._origin)
            and self._owner in (None, noted.owner)
        )


def _goes_on(noted: UnrecordedCheckpoint) -> bool:
    """Whether the run of a note was going on when it was written, and its process may still live."""
    run = noted.run
    if run is None or run.status is not RunStatus.RUNNING or run.process is None:
        return False
    if run.process.host != this_host():
        return now() < noted.made_at + _UNSEEN
    return is_running(run.process)
