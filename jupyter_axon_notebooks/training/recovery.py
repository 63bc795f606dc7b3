"""Recovery of checkpoints that were written while the store was unavailable.

A kernel, a server and the command line use the same two steps: :func:`find_unrecorded` reads and
checks the notes beside the state files, and :func:`recover` records what it is given.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
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
from ..metrics import is_depth_at_most
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
from ..store.error_mapping import ForeignRecord
from .discovery.location import NotebookLocation
from .discovery.record import find_or_create_record
from .processes import LEASE, is_alive, is_running, this_host
from .spooled import recover_spools, run_fields

#: Characters of a name, a path or a URL in a note.
_MAX_TEXT: Final = 4096
#: Levels of nested metrics in a note.
_MAX_DEPTH: Final = 100
_MAX_PID: Final = 2**32 - 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
#: Attempts to record a checkpoint that another process may be recording at the same time.
_ATTEMPTS: Final = 3
#: How long a run on another host counts as running after its last note.
_UNSEEN_RUN_TIMEOUT: Final = timedelta(hours=1)
#: Seconds after which all folders are read again: modification times are coarse on some file
#: systems.
_RESCAN_INTERVAL: Final = 3600.0


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
        """Write the note beside the state files.

        Raises
        ------
        NoSpace, StateError
            If it cannot be written.
        """
        note = Note(self.checkpoint.notebook_id, str(self.checkpoint.id), self.to_json())
        write_note(states.root, note)

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


def find_unrecorded(
    states: StateStorage, notebook_ids: Iterable[str] | None = None
) -> Iterator[UnrecordedCheckpoint | RecoveryResult]:
    """Yield checkpoints that have notes, oldest first, then results for unreadable notes.

    Parameters
    ----------
    states : StateStorage
        The folder of state files.
    notebook_ids : iterable of str, optional
        The notebooks to look for; all by default.
    """
    found: list[UnrecordedCheckpoint] = []
    failed: list[RecoveryResult] = []
    if notebook_ids is None:
        notebook_ids = [notebook_id for notebook_id, _ in note_folders(states.root)]
    for notebook_id in notebook_ids:
        for checkpoint_id in list_notes(states.root, notebook_id):
            folder = os.path.join(states.root, notebook_id, checkpoint_id)
            try:
                note = read_note(states.root, notebook_id, checkpoint_id)
                if note is not None:
                    found.append(_parse(note))
            except InvalidData as error:
                failed.append(RecoveryResult(folder, error=f"the note is invalid: {error}"))
            except StateError as error:
                failed.append(RecoveryResult(folder, error=str(error)))
    yield from sorted(found, key=lambda one: one.made_at)
    yield from failed


def _parse(note: Note) -> UnrecordedCheckpoint:
    """Return the content of a note, checked: anyone who can write state files may have written it.

    Ids are those of its folder. A time in the future is replaced by that of the file, since the
    checkpoint would stay the newest until then.

    Raises
    ------
    InvalidData
        If it has what no training writes.
    """
    check_id(note.notebook_id, "the folder of the notebook")
    check_id(note.checkpoint_id, "the folder of the checkpoint")
    found = UnrecordedCheckpoint.from_json(note.document)
    new, run = found.checkpoint, found.run
    new.notebook_id, new.id = note.notebook_id, note.checkpoint_id
    process = None if run is None else run.process
    texts = {
        **{f: getattr(found, f) for f in ("store_url", "owner", "origin", "path", "record_id")},
        **{f"checkpoint.{f}": getattr(new, f) for f in ("format", "run_id")},
        **{f"run.{f}": getattr(run, f, None) for f in ("key", "cell", "skipped_run_id")},
        "run.process.host": getattr(process, "host", None),
    }
    for name, text in texts.items():
        if text is not None and (len(text) > _MAX_TEXT or not is_path_text(text)):
            raise InvalidData(f"$.{name}", f"expected a text of at most {_MAX_TEXT} characters")
    if found.path is not None and not os.path.isabs(found.path):
        raise InvalidData("$.path", "expected an absolute path")
    if not is_depth_at_most(new.metrics, _MAX_DEPTH):
        raise InvalidData("$.checkpoint.metrics", f"nested deeper than {_MAX_DEPTH} levels")
    if run is not None and run.id != new.run_id:
        raise InvalidData("$.run.id", "expected the run of the checkpoint")
    if process is not None and not 0 < process.pid <= _MAX_PID:
        raise InvalidData("$.run.process.pid", "expected a process id")
    for part, digest in (new.digests or {}).items():
        if _SHA256.fullmatch(digest) is None:
            raise InvalidData(f"$.checkpoint.digests.{part}", "expected a SHA-256 in hex")
    if found.made_at > (moment := now()):
        seconds = min(max(note.written_at, 0.0), moment.timestamp())
        found.made_at = datetime.fromtimestamp(seconds, timezone.utc)
    if run is not None:
        run.started_at = min(run.started_at, found.made_at)
    return found


def recover(
    repository: NotebookRepository,
    states: StateStorage,
    origin: str,
    unrecorded: Iterable[UnrecordedCheckpoint],
    notebook_id: str | None = None,
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
    notebook_id : str, optional
        The record that they belong to, if the caller knows it.

    Raises
    ------
    StoreError
        If the store is unavailable. What was recorded until then stays recorded.
    """
    recorder = _Recorder(repository, states, origin, notebook_id)
    unrecorded = list(unrecorded)
    # Only the last note of a run tells how the run ended. With an earlier one it would be stopped.
    statuses = {
        (one.checkpoint.notebook_id, one.run.id): one.run.status
        for one in unrecorded
        if one.run is not None
    }
    for one in unrecorded:
        new = one.checkpoint
        if one.run is not None:
            one.run.status = statuses[new.notebook_id, one.run.id]
        result = recorder.record(one, os.path.join(states.root, new.notebook_id, str(new.id)))
        if result is not None:
            yield result


class _Recorder:
    """Records checkpoints, and remembers which notebook each folder of notes belongs to."""

    def __init__(
        self,
        repository: NotebookRepository,
        states: StateStorage,
        origin: str,
        notebook_id: str | None,
    ) -> None:
        self._repository = repository
        self._states = states
        self._origin = origin
        self._known_id = notebook_id
        self._notebook_ids: dict[str, str] = {}  # by the notebook's id in notes

    def record(self, one: UnrecordedCheckpoint, folder: str) -> RecoveryResult | None:
        """Record a checkpoint; return None if another process removed its note."""
        new = one.checkpoint
        for attempt in range(1, _ATTEMPTS + 1):
            if not has_note(self._states.root, new.notebook_id, str(new.id)):
                return None
            noted_under = new.notebook_id
            try:
                recorded, is_new = self._record(one)
                return RecoveryResult(folder, recorded, is_new=is_new)
            except (ForeignRecord, RecordDamaged) as error:  # about this record, not the store
                return RecoveryResult(folder, error=str(error))
            except StoreError:
                raise
            except Conflict as error:  # another process may be recording the same
                if attempt == _ATTEMPTS:
                    return RecoveryResult(folder, error=str(error))
                self._notebook_ids.pop(noted_under, None)
            except AxonError as error:
                if not has_note(self._states.root, new.notebook_id, str(new.id)):
                    return None
                return RecoveryResult(folder, error=str(error))
            except Exception as error:  # noqa: BLE001 - the others are to be recorded all the same
                return RecoveryResult(folder, error=f"{type(error).__name__}: {error}")
        return None

    def _record(self, one: UnrecordedCheckpoint) -> tuple[NotebookCheckpoint, bool]:
        """Record a checkpoint unless it is recorded; return it and whether it is new."""
        repository, states, new = self._repository, self._states, one.checkpoint
        noted_under, id = new.notebook_id, str(new.id)
        recorded = repository.get_checkpoint(id)
        is_new = recorded is None
        if recorded is None:
            notebook_id = self._notebook_ids.get(noted_under) or self._find_notebook(one)
            self._notebook_ids[noted_under] = notebook_id
            if notebook_id != noted_under:
                # The note moves as well, so that an interrupted recovery is continued from there.
                move_checkpoint(states.root, id, noted_under, notebook_id)
                new.notebook_id = notebook_id
            self._check_states(new)
            new.version_id = None  # it was one of the unavailable store
            self._start_run(one, notebook_id)
            if one.environment is not None:
                new.provenance_id = repository.provenance.add(
                    notebook_id, one.executed, one.environment
                )
            recorded = repository.create_checkpoint(
                new, overwrite=one.overwrite, made_at=one.made_at
            )
        elif recorded.notebook_id != self._known_id and not self._owns(
            one.owner, recorded.notebook_id
        ):
            raise Forbidden(
                f"checkpoint {id} exists already, in a notebook that does not belong to {one.owner}"
            )
        self._finish_run(one, recorded.notebook_id)
        states.mark_recorded(recorded.notebook_id, id)
        for notebook_id in {noted_under, recorded.notebook_id}:  # it may have been written again
            remove_note(states.root, notebook_id, id)
        return recorded, is_new

    def _find_notebook(self, one: UnrecordedCheckpoint) -> str:
        """Return the id of the record that a checkpoint belongs to; never one of another user.

        It is the record of its file, or else a new one.
        """
        repository, id, path, owner = (
            self._repository,
            one.checkpoint.notebook_id,
            one.path,
            one.owner,
        )
        existing = repository.find_summary(id)
        if existing is not None:
            if existing.user_id != owner and id != self._known_id:
                raise Forbidden(f"notebook {id} does not belong to {owner}")
            return id
        if self._known_id is not None and repository.find_summary(self._known_id) is not None:
            return self._known_id
        if one.record_id is not None and self._owns(owner, one.record_id):
            return one.record_id
        if path is not None and one.origin == self._origin:
            bound = repository.find_by_path(self._origin, path)
            if bound is None and os.path.isfile(path):
                with contextlib.suppress(InvalidData):  # no notebook any more
                    found = NotebookLocation(one.kind, "a note", path)
                    bound = find_or_create_record(repository, found, self._origin, owner)
            if bound is not None and bound.user_id == owner:
                return bound.id
            moved = repository.bindings.find_former(self._origin, path) if bound is None else []
            if len(moved) == 1 and moved[0].user_id == owner:
                return moved[0].id
        name = os.path.splitext(os.path.basename(path))[0] if path else "recovered"
        return repository.create(NewNotebook(id=id, user_id=owner, name=name)).id

    def _owns(self, owner: str, notebook_id: str) -> bool:
        found = self._repository.find_summary(notebook_id)
        return found is not None and found.user_id == owner

    def _check_states(self, new: NewCheckpoint) -> None:
        """Check the state files in the checkpoint's own folder, and refer to these only."""
        folder = os.path.join(self._states.root, new.notebook_id, str(new.id))
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for part in PARTS:
            field = f"{part}_state_path"
            if not (noted := getattr(new, field)):
                continue
            path = os.path.join(folder, os.path.basename(noted))
            with self._states.open(path, new.notebook_id, field=f"$.{field}") as file:
                size = os.fstat(file.fileno()).st_size
            expected = (new.sizes or {}).get(part)
            if expected is not None and size != expected:
                raise StateError(f"{path} has {size} bytes; {expected} were written")
            digest = (new.digests or {}).get(part)
            if digest is None:
                raise InvalidData(f"$.checkpoint.digests.{part}", "required, but missing")
            setattr(new, field, path)
            digests[part], sizes[part] = digest, size
        new.digests, new.sizes = digests or None, sizes or None

    def _start_run(self, one: UnrecordedCheckpoint, notebook_id: str) -> None:
        run, repository = one.run, self._repository
        if run is None or repository.runs.get(notebook_id, run.id) is not None:
            return
        parent = run.parent_checkpoint_id
        exists = parent is not None and repository.get_checkpoint(parent) is not None
        repository.runs.start(
            notebook_id,
            id=run.id,
            parent_checkpoint_id=parent if exists else None,
            process=run.process,
            lease_until=one.made_at + LEASE,  # a process that trains on renews it
            started_at=run.started_at,
            **run_fields(run),
        )

    def _finish_run(self, one: UnrecordedCheckpoint, notebook_id: str) -> None:
        """Record how the run ended: as noted, or stopped if its process is gone."""
        run = one.run
        if run is None or (known := self._repository.runs.get(notebook_id, run.id)) is None:
            return
        status = run.status
        if status is RunStatus.RUNNING:
            if known.status is not RunStatus.RUNNING or is_alive(known):
                return
            status = RunStatus.STOPPED
        if known.status is not status:
            self._repository.runs.update_status(notebook_id, run.id, status)


class BackgroundRecovery:
    """Records, in a server, what trainings could not record.

    Only notes of this server's user, store and data folder, and of runs that are over: a process
    that still trains records its own. While there are no new notes, a pass is one ``stat`` of the
    folder of state files. Notes that other programs put there are found by the first pass, and
    within an hour.

    Parameters
    ----------
    repository, states, origin : NotebookRepository, StateStorage, str
        Where checkpoints are recorded, and the id of the data folder.
    store_url : str
        The URL of the store, as kernels have it.
    owner : str, optional
        The user whose notes are recorded; all users' by default.
    spools : sequence of Path
        The folders of spool files, whose rows are stored, too.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        states: StateStorage,
        origin: str,
        store_url: str,
        owner: str | None,
        spools: Sequence[Path] = (),
    ) -> None:
        self._spools = spools
        self._reported: set[Path] = set()
        self._repository = repository
        self._states = states
        self._origin = origin
        self._store_url = store_url
        self._owner = owner
        # By notebook: the modification time of its folder, and a note of a run that still trains.
        self._seen: dict[str, tuple[int, UnrecordedCheckpoint | None]] = {}
        self._root_time: int | None = None
        self._rescan_at = time.monotonic() + _RESCAN_INTERVAL

    def run_once(self) -> Iterator[RecoveryResult | None]:
        """Record what there is to record, and yield None after each notebook, as a point to pause.

        What cannot be recorded is reported once, and again when its notebook's folder has changed.

        Raises
        ------
        StoreError
            If the store is unavailable; the next pass continues there.
        """
        yield from self._recover_spools()
        root = self._states.root
        if time.monotonic() >= self._rescan_at:
            self._rescan_at = time.monotonic() + _RESCAN_INTERVAL
            self._root_time = None
            self._seen.clear()
        changed_at = root_time(root)
        if changed_at is None or changed_at != self._root_time:
            folders = dict(note_folders(root))
            self._seen = {id: seen for id, seen in self._seen.items() if id in folders}
        else:
            folders = {id: at for id, (at, active) in self._seen.items() if active is not None}
        for notebook_id, folder_time in folders.items():
            seen_at, active = self._seen.get(notebook_id, (None, None))
            if seen_at == folder_time and (active is None or _is_training(active)):
                continue
            active = self._newest_active(notebook_id)
            if active is None:
                active = yield from self._recover_notebook(notebook_id)
            self._seen[notebook_id] = folder_time, active
            yield None
        self._root_time = changed_at

    def _recover_spools(self) -> Iterator[RecoveryResult | None]:
        for path, error in recover_spools(
            self._repository, self._origin, self._spools, self._store_url, self._owner
        ):
            if error is not None and path not in self._reported:
                self._reported.add(path)
                yield RecoveryResult(str(path), error=error)
            yield None

    def _recover_notebook(
        self, notebook_id: str
    ) -> Generator[RecoveryResult, None, UnrecordedCheckpoint | None]:
        """Record what a notebook's ended runs noted; return a note of a run that still trains."""
        found = list(find_unrecorded(self._states, [notebook_id]))
        yield from (one for one in found if isinstance(one, RecoveryResult))
        notes = [
            one for one in found if isinstance(one, UnrecordedCheckpoint) and self._is_ours(one)
        ]
        last = {note.checkpoint.run_id: note for note in notes}
        ended = [note for note in notes if not _is_training(last[note.checkpoint.run_id])]
        active = next((note for note in last.values() if _is_training(note)), None)
        yield from recover(self._repository, self._states, self._origin, ended)
        return active

    def _newest_active(self, notebook_id: str) -> UnrecordedCheckpoint | None:
        """Return a notebook's newest note if its run still trains."""
        root = self._states.root
        for checkpoint_id in list_notes(root, notebook_id)[-1:]:
            with contextlib.suppress(InvalidData, StateError):
                note = read_note(root, notebook_id, checkpoint_id)
                newest = None if note is None else _parse(note)
                if newest is not None and self._is_ours(newest) and _is_training(newest):
                    return newest
        return None

    def _is_ours(self, note: UnrecordedCheckpoint) -> bool:
        return (
            note.store_url == self._store_url
            and note.origin in (None, self._origin)
            and self._owner in (None, note.owner)
        )


def _is_training(note: UnrecordedCheckpoint) -> bool:
    """Return whether the process of a note's run may still train."""
    run = note.run
    if run is None or run.status is not RunStatus.RUNNING or run.process is None:
        return False
    if run.process.host != this_host():
        return now() < note.made_at + _UNSEEN_RUN_TIMEOUT
    return is_running(run.process)
