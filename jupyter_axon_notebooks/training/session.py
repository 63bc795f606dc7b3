"""What a process that trains knows: its notebook, its store, and the run it is in."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from ..defaults import READ_TIMEOUT
from ..errors import AxonError, Conflict, InvalidData, NotFound, StoreBusy, StoreError
from ..metrics import direction, named_values, rankable, resolve
from ..printable import printable
from ..records import (
    NewCheckpoint,
    NotebookCheckpoint,
    NotebookSummary,
    RunStatus,
    TrainingNotebook,
    UpdateCheckpoint,
    new_id,
    now,
)
from ..states import Part, StateFiles, StoredState
from ..states.notes import has_note
from . import place
from .checkpoint import Checkpoint, CheckpointList
from .display import described, measuring, say
from .environment import environment
from .executed import current_execution, executed_cells
from .given import metrics_of, tags_of, whole_number
from .home import Home, Tracking, Untracked, warn
from .notebook import known_record, record_of, say_unbound
from .ranks import is_first
from .recovery import Unrecorded, find_unrecorded, recover
from .resuming import unfinished
from .running import Running
from .settings import settings
from .writing import write_states


class Session:
    """One per process. Its methods are the functions of the package; :mod:`.api` says what they promise."""

    def __init__(self) -> None:
        self._settings = settings()
        self._tracking = Tracking(self._settings)
        self._lock = threading.RLock()
        self._notebook: NotebookSummary | None = None
        self._looked_up_in: Any = None
        self._place: place.Place | None = None
        self._kept: tuple[place.Place, str] | None = None  # where this process was, and its record
        self._run: Running | None = None
        self._noted: list[_Noted] = []
        atexit.register(self.close)

    def close(self) -> None:
        """Let go of the store; whatever is done later opens it again."""
        self._tracking.close()

    # The notebook

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Name the notebook."""
        with self._lock, place.using(path_or_id):
            self._notebook = self._place = self._kept = None
            record = self.notebook()
            if self._run is not None and not self._run.is_provisional and self._run.notebook_id != record.id:
                self._run.end(RunStatus.COMPLETED)  # what trains now is another notebook, as the user says
                self._run = None
            return record

    def notebook(self) -> TrainingNotebook:
        """The record of this notebook, with its cells."""
        with self._lock:
            home = self._tracking.home()
            id = self._shown(home).id
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
            found = self._where(execution)
            self._notebook = record_of(
                home.repository, found, home.origin, self._settings.user_id, self._kept
            )
            self._kept = found, self._notebook.id
        return self._notebook

    def _shown(self, home: Home) -> NotebookSummary:
        """The notebook's record, for who only asks: as it is, where others keep it from being brought up to date."""
        try:
            with home.store.waiting_at_most(READ_TIMEOUT):
                return self._look_up(home)
        except StoreBusy:
            self._notebook = None  # and so brought up to date at the next question
            found = known_record(
                home.repository,
                self._where(current_execution()),
                home.origin,
                self._settings.user_id,
                self._kept,
            )
            if found is None:
                raise
            return found

    def _where(self, execution: Any) -> place.Place:
        """Which notebook this is; servers are asked once in each execution, even if they do not answer."""
        if self._place is None or execution != self._looked_up_in:
            found = place.find_place()
            # What is unknown now was known before: a server is gone, or a variable was deleted.
            if self._place is None or found.kind != "unknown":
                self._place = found
            self._looked_up_in = execution
        return self._place

    @property
    def _folder(self) -> str | None:
        found = self._place
        return None if found is None or found.path is None else os.path.dirname(found.path)

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
        tags: str | Iterable[str] | None,
        overwrite: bool,
    ) -> Checkpoint | None:
        """Save a point of the training; None in a process that is not the first of its group."""
        from .formats import encode_model, encode_training

        epoch, step = whole_number(epoch, "epoch"), whole_number(step, "step")
        new = NewCheckpoint(
            id=new_id(), notebook_id="", epoch=0, step=0, metrics=metrics_of(metrics), tags=tags_of(tags)
        )
        if hasattr(model, "param_groups"):
            raise TypeError(
                f"model is an optimizer ({type(model).__name__}); the model comes first, then the optimizer"
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
            if isinstance(made, Conflict):
                if overwrite:  # what it would replace is pinned
                    self._tracking.states().remove_checkpoint(new.notebook_id, str(new.id))
                    raise made
                # It was made before, by a call that was interrupted before it could return.
                run.end(RunStatus.COMPLETED)
                run = self._begin(run.notebook_id)
                new.run_id = run.record.id
                made = self._recorded(run, new, overwrite=False)
            if isinstance(made, Conflict):
                raise made
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
            notebook = self._tracking.record(self._caught_up)
        except Untracked:
            found = None
        else:
            known = found = notebook.id
            say_unbound(notebook)
        if run is not None and found is not None and found != run.notebook_id:
            if run.is_provisional:
                run.move(found)
            elif not self._has_record(
                run
            ):  # a run that goes on stays in its record, wherever the notebook is
                run.end(RunStatus.COMPLETED)
                run = None
        if run is None:
            return self._begin(known)
        self._go_on(run)
        return run

    def _has_record(self, run: Running) -> bool:
        """Whether the record of a run is still there; a store that cannot be asked deleted none."""
        try:
            found = self._tracking.record(lambda home: home.repository.find_summary(run.notebook_id))
        except Untracked:
            return True
        return found is not None

    def _begin(self, notebook_id: str | None, parent: NotebookCheckpoint | None = None) -> Running:
        """Begin a run, which is this process's from now on."""
        run = self._run = Running(
            self._tracking, self._lock, self._settle, self._note_end, notebook_id, parent
        )
        self._go_on(run)
        return run

    def _go_on(self, run: Running) -> None:
        run.go_on()
        try:
            self._tracking.record(run.store)
        except Untracked:
            run.doubt()

    # What the store does not have yet

    def _caught_up(self, home: Home) -> NotebookSummary:
        """The notebook's record; what could not be recorded before is recorded now."""
        notebook = self._look_up(home)
        if not self._noted:
            return notebook
        waiting = {str(noted.unrecorded.checkpoint.id): noted for noted in self._noted}
        # Of what is noted no more, somebody else has taken care, or the user has deleted it.
        left = [noted.unrecorded for noted in self._noted]
        for done in recover(home.repository, home.states, home.origin, left, notebook.id):
            if done.trouble is not None:
                say(f"A checkpoint stays unrecorded, in {done.where}: {done.trouble}")
        for id, noted in waiting.items():
            if (record := home.repository.get_checkpoint(id)) is not None:
                noted.checkpoint.was_recorded(record)
                if self._run is not None and self._run.record.id == record.run_id:
                    self._run.recovered_in = record.notebook_id
        self._noted = []
        return notebook

    def _catch_up(self) -> None:
        """Record what could not be recorded before, if the store is available now."""
        with self._lock, suppress(Untracked):
            self._tracking.record(self._caught_up, at_once=True)

    def _settle(self, home: Home) -> None:
        if self._noted:
            self._caught_up(home)

    def _note_end(self, run_id: str) -> None:
        """Have the last note of a run tell how it ended, since the store cannot."""
        of_run = [noted for noted in self._noted if noted.unrecorded.checkpoint.run_id == run_id]
        states = self._tracking.states()
        if of_run and of_run[-1].is_there(states):
            with suppress(AxonError):  # then it is found unfinished, which costs nobody a checkpoint
                of_run[-1].unrecorded.write(states)

    def _recorded(self, run: Running, new: NewCheckpoint, *, overwrite: bool) -> Checkpoint | Conflict:
        """Have the store know a checkpoint whose states are in their place; else note it beside them."""
        states = self._tracking.states

        def store(home: Home) -> NotebookCheckpoint | Conflict:
            try:
                return run.store_checkpoint(home, new, self._folder, overwrite=overwrite)
            except Conflict as conflict:
                return conflict

        try:
            record = self._tracking.record(store)
        except Untracked as untracked:
            run.doubt()
            self._notebook = None
            made = self._note(run, new, overwrite=overwrite)
            if isinstance(untracked.__cause__, NotFound):
                with suppress(Untracked):  # the record was deleted, or the store: there will be another
                    self._tracking.record(self._caught_up, at_once=True)
            return made
        if isinstance(record, Conflict):
            return record
        states().recorded(record.notebook_id, record.id)
        return Checkpoint(record, states)

    def _note(self, run: Running, new: NewCheckpoint, *, overwrite: bool) -> Checkpoint:
        """Note a checkpoint beside its states; its notebook and how it came about as far as they can be told."""
        found = self._where(current_execution())
        noted = Unrecorded(
            checkpoint=new,
            made_at=now(),
            overwrite=overwrite,
            run=run.record,
            store_url=self._settings.store_url,
            owner=self._settings.user_id,
            origin=self._tracking.origin(),
            path=found.path,
            record_id=found.record_id,
            kind=found.kind,
        )
        with suppress(Exception):  # a checkpoint without it is worth more than none
            noted.executed, noted.environment = executed_cells(), environment(self._folder)
        made = Checkpoint(
            noted.as_record(), self._tracking.states, is_recorded=False, catch_up=self._catch_up
        )
        try:
            noted.write(self._tracking.states())
        except AxonError as error:
            warn(f"checkpoint {new.id} is not recorded, and could not be noted either: {error}")
        else:
            self._noted.append(_Noted(noted, made))
        return made

    # Going on with a training

    def resume(
        self, model: Any, optimizer: Any, *, extra: Any, any: bool, checkpoint: str | Checkpoint | None
    ) -> Checkpoint | None:
        """Go on where an unfinished run stopped."""
        with self._lock:
            if checkpoint is not None:
                home = self._tracking.home()
                self._take_in(home)
                found: NotebookCheckpoint | None = self._existing(home, checkpoint)
            else:
                try:
                    found = self._to_resume(any=any, wants_state=model is not None)
                except StoreError as error:
                    if any:
                        raise
                    warn(
                        f"whether there is a run to go on with cannot be told: {error}. Training begins anew, and leaves "
                        "alone what there is; to go on instead, stop it and run this again once the store can be had"
                    )
                    return None
            if found is None:
                return None
            resumed = Checkpoint(found, self._tracking.states)
            try:
                resumed.resume_into(model, optimizer, extra)
            except InvalidData as error:
                raise InvalidData(
                    error.path, f"{error.reason}. To train anew instead, run this once without resume()"
                ) from error
            if is_first():
                self._begin_from(found)
            say(f"Resumed from {described(found)}.")
            return resumed

    def _to_resume(self, *, any: bool, wants_state: bool) -> NotebookCheckpoint | None:
        home = self._tracking.home()
        self._take_in(home)
        own_run_id = None if self._run is None else self._run.record.id
        notebook_id = self._look_up(home).id
        return unfinished(home, notebook_id, any=any, wants_state=wants_state, own_run_id=own_run_id)

    def _begin_from(self, parent: NotebookCheckpoint) -> None:
        """Begin a run that goes on from a checkpoint."""
        if self._run is not None:
            self._run.end(RunStatus.STOPPED)
        notebook_id = self._look_up(self._tracking.home()).id
        # What another notebook trained is where this one starts, but its runs are its own.
        run = self._begin(notebook_id, parent if parent.notebook_id == notebook_id else None)
        run.line.resume(parent.epoch, parent.step)

    def _take_in(self, home: Home) -> None:
        """Record what a training of this user could not, here or in a process that is gone."""
        notebook_id = self._caught_up(home).id if self._noted else None
        noted = [
            found
            for found in find_unrecorded(home.states)
            if isinstance(found, Unrecorded)
            and found.store_url == self._settings.store_url
            and found.owner == self._settings.user_id
        ]
        done = list(recover(home.repository, home.states, home.origin, noted, notebook_id))
        if recorded := [one for one in done if one.checkpoint is not None]:
            count = f"{len(recorded)} checkpoint" + ("s" if len(recorded) > 1 else "")
            say(f"Recorded {count} made while the store could not be had.")

    # Asking

    def best(self, metric: str, mode: Literal["min", "max"] | None) -> Checkpoint:
        """The checkpoint with the best value of a metric."""
        mode = mode or direction(metric)
        with self._lock:
            home, id = self._here()
            if mode not in ("min", "max"):
                latest = self._newest(home, id)
                if latest is not None and metric not in named_values(latest.metrics):
                    raise _NoMetric(metric, latest)
                asked = (
                    f"mode is {mode!r}"
                    if mode
                    else f"whether less or more {printable(metric)} is better is not known"
                )
                raise ValueError(f'{asked}; give mode="min" or mode="max"')
            stored = None if home is None else home.repository.get_best_checkpoint(id, metric, mode == "min")
            found = [*self._held([] if stored is None else [stored]), *self._unrecorded()]
            ranked = [
                (value if mode == "min" else -value, one.created_at, one)
                for one in found
                if (value := rankable(resolve(one.record.metrics, metric))) is not None
            ]
            if not ranked:
                raise _NoMetric(metric, self._newest(home, id))
            return min(ranked, key=lambda one: one[:2])[2]

    @staticmethod
    def _newest(home: Home | None, notebook_id: str) -> NotebookCheckpoint | None:
        return None if home is None else home.repository.latest_checkpoint(notebook_id)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint."""
        found = self.checkpoints(1, None)
        return found[0] if found else None

    def checkpoints(self, limit: int | None, run_id: str | None) -> CheckpointList:
        """The checkpoints, newest first."""
        with self._lock:
            home, id = self._here()
            stored = [] if home is None else home.repository.list_checkpoints(id, limit, run_id=run_id)
            noted = [one for one in self._unrecorded() if run_id in (None, one.run_id)]
            found = sorted([*noted, *self._held(stored)], key=lambda one: one.created_at, reverse=True)
            return CheckpointList(found[:limit])

    def _here(self) -> tuple[Home | None, str]:
        """The store and this notebook's record in it; no store where there is none and this process has made checkpoints."""
        if self._noted:
            self._catch_up()
        try:
            home = self._tracking.home()
            id = self._shown(home).id
        except StoreError as error:
            if not self._noted:
                raise
            say(f"Only what this process has made is looked at: {error}")
            return None, ""
        return home, id

    def _held(self, records: Iterable[NotebookCheckpoint]) -> list[Checkpoint]:
        return [Checkpoint(record, self._tracking.states) for record in records]

    def _unrecorded(self) -> list[Checkpoint]:
        """What this process has made, and the store does not have yet."""
        return [noted.checkpoint for noted in self._noted]

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
                raise ValueError(
                    printable(f"{id} could be any of {len(ids)} checkpoints: {', '.join(ids[:5])}")
                )
            found = home.repository.get_checkpoint(ids[0]) if ids else None
        if found is None:
            raise NotFound("checkpoint", id)
        return found


@dataclass
class _Noted:
    """A checkpoint that the store does not have: what is noted of it, and what the user has in hands."""

    unrecorded: Unrecorded
    checkpoint: Checkpoint

    def is_there(self, states: StateFiles) -> bool:
        """Whether its note is where it was put."""
        noted = self.unrecorded.checkpoint
        return has_note(states.root, noted.notebook_id, str(noted.id))


class _NoMetric(NotFound):
    def __init__(self, metric: str, latest: NotebookCheckpoint | None) -> None:
        super().__init__("metric", metric)
        names = [] if latest is None else list(named_values(latest.metrics))
        others = f"; the newest has {', '.join(names)}" if names else ""
        self.args = (f"no checkpoint of this notebook has a finite number as {metric}{others}",)


def _give(new: NewCheckpoint, stored: dict[Part, StoredState]) -> None:
    """Tell a checkpoint where its states are."""
    for part, state in stored.items():
        setattr(new, f"{part}_state_path", state.path)
    new.digests = {part: state.digest for part, state in stored.items()}
    new.sizes = {part: state.size for part, state in stored.items()}
