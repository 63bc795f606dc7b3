"""What a process that trains knows: its notebook, its store, and the run it is in."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from ..errors import Conflict, NotFound
from ..metrics import direction
from ..records import (
    NewCheckpoint,
    NotebookCheckpoint,
    NotebookSummary,
    RunStatus,
    TrainingNotebook,
    TrainingRun,
    UpdateCheckpoint,
    new_id,
    now,
)
from ..states import Part, StoredState
from . import place
from .checkpoint import Checkpoint, CheckpointList
from .display import described, measuring, say
from .environment import environment
from .executed import current_execution, executed_cells
from .given import metrics_of, tags_of, whole_number
from .home import Home, Tracking, Untracked
from .notebook import record_of
from .ranks import is_first
from .recovery import Unrecorded, find_unrecorded, recover
from .running import Running
from .runs import is_alive, is_here, is_unfinished
from .settings import settings
from .writing import write_states

#: Checkpoints of a run that are looked at for one that can still be restored.
_LOOKED_AT: Final = 100
#: Runs that are read at once, in search of one that has a checkpoint.
_PAGE: Final = 20


class Session:
    """One per process. Its methods are the functions of the package; :mod:`.api` says what they promise."""

    def __init__(self) -> None:
        self._settings = settings()
        self._tracking = Tracking(self._settings)
        self._lock = threading.RLock()
        self._notebook: NotebookSummary | None = None
        self._looked_up_in: Any = None
        self._folder: str | None = None
        self._run: Running | None = None
        self._noted: list[Unrecorded] = []
        atexit.register(self.close)

    def close(self) -> None:
        """Let go of the store; whatever is done later opens it again."""
        self._tracking.close()

    # The notebook

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Name the notebook."""
        with self._lock, place.using(path_or_id):
            self._notebook = None
            return self.notebook()

    def notebook(self) -> TrainingNotebook:
        """The record of this notebook, with its cells."""
        with self._lock:
            home = self._tracking.home()
            id = self._look_up(home).id
            found = home.repository.find_by_id(id)
            if found is None:
                self._notebook = None
                raise NotFound("notebook", id)
            return found

    def _look_up(self, home: Home) -> NotebookSummary:
        """The notebook's record, brought up to date with its file, or made.

        Which notebook this is is asked once in each execution of a cell: it may have been saved under another name.
        """
        execution = current_execution()
        if self._notebook is None or execution != self._looked_up_in:
            found = place.find_place()
            self._folder = None if found.path is None else os.path.dirname(found.path)
            self._notebook = record_of(home.repository, found, home.origin, self._settings.user_id)
            self._looked_up_in = execution
        return self._notebook

    # Checkpoints

    def checkpoint(
        self,
        model: Any,
        optimizer: Any,
        *,
        epoch: Any,
        step: Any,
        metrics: Any,
        extra: Any,
        tags: str | Iterable[str],
        overwrite: bool,
    ) -> Checkpoint | None:
        """Save a point of the training; None in a process that is not the first of its group."""
        from .formats import encode_model, encode_training

        epoch, step = whole_number(epoch, "epoch"), whole_number(step, "step")
        new = NewCheckpoint(
            id=new_id(), notebook_id="", epoch=0, step=0, metrics=metrics_of(metrics), tags=tags_of(tags)
        )
        if not is_first():
            return None
        with self._lock:
            parts: dict[Part, Any] = {}
            if model is not None:
                parts["model"] = encode_model(model)
            if parts or optimizer is not None or extra is not None:
                parts["optimizer"] = encode_training(optimizer, extra)
            run = self._run_at(epoch, step, overwrite=overwrite)
            placed = run.line.place_again if overwrite else run.line.place
            new.epoch, new.step = placed(epoch, step)
            new.notebook_id, new.run_id = run.notebook_id, run.record.id
            if parts:
                new.format = next(iter(parts.values())).format
                with measuring("Writing the checkpoint") as progress:
                    states = self._tracking.states()
                    _give(new, write_states(states, new.notebook_id, str(new.id), parts, progress))
            made = self._recorded(run, new, overwrite=overwrite)
            run.line.move(new.epoch, new.step, current_execution())
            return made

    def _run_at(self, epoch: int | None, step: int | None, *, overwrite: bool) -> Running:
        """The run that a checkpoint belongs to, which goes on; the store, if it can be had, knows."""
        run = self._run
        advanced = run is not None and run.line.is_advanced_by(epoch, step, current_execution())
        if run is not None and not (advanced or overwrite):
            run.end(RunStatus.COMPLETED)
            run = None
        known = None if self._notebook is None else self._notebook.id
        try:
            known = found = self._tracking.record(self._caught_up).id
        except Untracked:
            found = None
        if run is not None and found is not None and found != run.notebook_id:
            if run.is_provisional:
                run.move(found)
            else:  # saved under another name, and that is what trains now; or its record was deleted
                run.end(RunStatus.COMPLETED)
                run = None
        if run is None:
            run = self._run = Running(self._tracking, self._lock, known)
        run.go_on()
        try:
            self._tracking.record(run.store)
        except Untracked:
            run.doubt()
        return run

    def _caught_up(self, home: Home) -> NotebookSummary:
        """The notebook's record; what could not be recorded before is recorded now."""
        notebook = self._look_up(home)
        if self._noted:
            for done in recover(home.repository, home.states, home.origin, self._noted):
                if done.trouble is not None:
                    say(f"A checkpoint stays unrecorded, in {done.where}: {done.trouble}")
            self._forget_notes()
        return notebook

    def _forget_notes(self) -> None:
        self._noted = []
        if self._run is not None:
            self._run.noted = []

    def _recorded(self, run: Running, new: NewCheckpoint, *, overwrite: bool) -> Checkpoint:
        """Have the store know a checkpoint whose states are in their place; else note it beside them."""
        states = self._tracking.states
        try:
            record = self._tracking.record(
                lambda home: run.store_checkpoint(home, new, self._folder, overwrite=overwrite)
            )
        except Untracked:
            run.doubt()
            self._notebook = None
            noted = self._unrecorded(run, new, overwrite=overwrite)
            noted.write(states())
            run.noted.append(noted)
            self._noted.append(noted)
            return Checkpoint(noted.as_record(), states, is_recorded=False)
        except Conflict:  # what it would replace is pinned
            states().remove_checkpoint(new.notebook_id, str(new.id))
            raise
        states().recorded(record.notebook_id, record.id)
        return Checkpoint(record, states)

    def _unrecorded(self, run: Running, new: NewCheckpoint, *, overwrite: bool) -> Unrecorded:
        found = place.find_place()
        return Unrecorded(
            checkpoint=new,
            made_at=now(),
            overwrite=overwrite,
            run=run.record,
            store_url=self._settings.store_url,
            owner=self._settings.user_id,
            origin=self._tracking.origin(),
            path=found.path,
            kind=found.kind,
            executed=executed_cells(),
            environment=environment(self._folder),
        )

    # Going on with a training

    def resume(
        self, model: Any, optimizer: Any, *, extra: Any, any: bool, checkpoint: str | Checkpoint | None
    ) -> Checkpoint | None:
        """Go on where an unfinished run stopped."""
        with self._lock:
            home = self._tracking.home()
            self._take_in(home)
            if checkpoint is not None:
                found = self._existing(home, checkpoint)
            else:
                notebook = self._look_up(home)
                chosen = self._to_resume(home, notebook.id, any=any, wants_state=model is not None)
                if chosen is None:
                    return None
                found = chosen
            resumed = Checkpoint(found, self._tracking.states)
            resumed.resume_into(model, optimizer, extra)
            if is_first():
                self._begin_from(home, found)
            say(f"Resumed from {described(found)}.")
            return resumed

    def _to_resume(
        self, home: Home, notebook_id: str, *, any: bool, wants_state: bool
    ) -> NotebookCheckpoint | None:
        """The checkpoint to go on from: the latest of the newest run that has one, if that run is unfinished."""
        for run in _runs(home, notebook_id):
            made = home.repository.list_checkpoints(notebook_id, limit=_LOOKED_AT, run_id=run.id)
            if not made:
                continue
            # What this process itself is in the middle of is alive, and nobody's but the user's to go back in.
            ours = run.status is RunStatus.RUNNING and self._run is not None and self._run.record.id == run.id
            if not (any or ours or is_unfinished(run)):
                if is_alive(run):
                    say(
                        f"Run {run.id[:8]} of this notebook is still training{_whereabouts(run)}: left alone."
                    )
                return None
            if run.status is RunStatus.RUNNING and not ours and is_unfinished(run):
                home.repository.update_run_status(run.id, RunStatus.STOPPED)  # its process could not say so
            for found in made:
                if not wants_state or home.states.holds(found.model_state_path, notebook_id):
                    if found is not made[0]:
                        say(f"The state of {described(made[0])} is not there any more.")
                    return found
            say(f"Run {run.id[:8]} cannot be resumed: the states of its checkpoints are not there any more.")
            return None
        return None

    def _begin_from(self, home: Home, parent: NotebookCheckpoint) -> None:
        """Begin a run that goes on from a checkpoint."""
        if self._run is not None:
            self._run.end(RunStatus.STOPPED)
        notebook_id = self._look_up(home).id
        # What another notebook trained is where this one starts, but its runs are its own.
        branch = parent if parent.notebook_id == notebook_id else None
        self._run = Running(self._tracking, self._lock, notebook_id, branch)
        self._run.line.resume(parent.epoch, parent.step)
        self._run.go_on()
        try:
            self._tracking.record(self._run.store)
        except Untracked:
            self._run.doubt()

    def _take_in(self, home: Home) -> None:
        """Record what a training could not, here or in a process that is gone."""
        noted = [
            found
            for found in find_unrecorded(home.states)
            if isinstance(found, Unrecorded) and found.store_url == self._settings.store_url
        ]
        recorded = [
            done for done in recover(home.repository, home.states, home.origin, noted) if done.checkpoint
        ]
        self._forget_notes()
        if recorded:
            say(f"Recorded {len(recorded)} checkpoints that were made while the store could not be had.")

    # Asking

    def best(self, metric: str, mode: Literal["min", "max"] | None) -> Checkpoint:
        """The checkpoint with the best value of a metric."""
        mode = mode or direction(metric)
        if mode not in ("min", "max"):
            asked = f"mode is {mode!r}" if mode else f"whether less or more {metric} is better is not known"
            raise ValueError(f'{asked}; give mode="min" or mode="max"')
        with self._lock:
            home = self._tracking.home()
            id = self._look_up(home).id
            found = home.repository.get_best_checkpoint(id, metric, mode == "min")
            if found is None:
                raise NotFound("checkpoint", f"of this notebook with a finite {metric}")
            return Checkpoint(found, self._tracking.states)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint."""
        with self._lock:
            home = self._tracking.home()
            found = home.repository.latest_checkpoint(self._look_up(home).id)
            return None if found is None else Checkpoint(found, self._tracking.states)

    def checkpoints(self, limit: int | None, run_id: str | None) -> CheckpointList:
        """The checkpoints, newest first."""
        with self._lock:
            home = self._tracking.home()
            found = home.repository.list_checkpoints(self._look_up(home).id, limit, run_id=run_id)
            return CheckpointList(Checkpoint(record, self._tracking.states) for record in found)

    def get(self, id: str) -> Checkpoint:
        """A checkpoint by its id."""
        with self._lock:
            return Checkpoint(self._existing(self._tracking.home(), id), self._tracking.states)

    def pin(self, checkpoint: str | Checkpoint, *, pinned: bool) -> Checkpoint:
        """Keep a checkpoint from being pruned, or no longer."""
        with self._lock:
            home = self._tracking.home()
            id = self._existing(home, checkpoint).id
            changed = home.repository.update_checkpoint(id, UpdateCheckpoint(pinned=pinned))
            return Checkpoint(changed, self._tracking.states)

    @staticmethod
    def _existing(home: Home, which: str | Checkpoint) -> NotebookCheckpoint:
        id = which.id if isinstance(which, Checkpoint) else which
        found = home.repository.get_checkpoint(id)
        if found is None:
            ids = home.repository.checkpoint_ids_beginning(id) if id else []
            if len(ids) > 1:
                raise ValueError(f"{id} could be any of {len(ids)} checkpoints: {', '.join(ids[:5])}")
            found = home.repository.get_checkpoint(ids[0]) if ids else None
        if found is None:
            raise NotFound("checkpoint", id)
        return found


def _runs(home: Home, notebook_id: str) -> Iterator[TrainingRun]:
    offset = 0
    while page := home.repository.list_runs(notebook_id, _PAGE, offset):
        yield from page
        offset += len(page)


def _whereabouts(run: TrainingRun) -> str:
    if run.process is None:
        return ""
    host = run.process.host.partition("/")[0]
    return " in this process" if is_here(run.process) else f" in process {run.process.pid} on {host}"


def _give(new: NewCheckpoint, stored: dict[Part, StoredState]) -> None:
    """Tell a checkpoint where its states are."""
    for part, state in stored.items():
        setattr(new, f"{part}_state_path", state.path)
    new.digests = {part: state.digest for part, state in stored.items()}
    new.sizes = {part: state.size for part, state in stored.items()}
