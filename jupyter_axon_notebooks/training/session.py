"""What a process that trains knows: its notebook, its store, and the run it is in."""

from __future__ import annotations

import atexit
import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ..defaults import READ_TIMEOUT
from ..errors import AxonError, Conflict, InvalidData, NotFound, StoreBusy, StoreError
from ..metrics import (
    better_text,
    direction,
    merge_metrics,
    named_values,
    rankable,
    rankable_metrics,
    resolve,
    spellable,
    suggestion,
)
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
from ..states import Part, StateStorage, StoredState
from ..states.notes import has_note
from ..stores import OpenStore, find_settings
from . import distributed
from .checkpoint import Checkpoint, CheckpointList
from .discovery import location
from .discovery.record import find_or_create_record, find_record, has_record, report_unbound
from .display import format_checkpoint, progress_bar
from .execution import current_execution, executed_cells, mentions_checkpoint, on_training_end
from .execution.environment import environment
from .messages import print_message, warn
from .processes import LEASE
from .recovery import UnrecordedCheckpoint, find_unrecorded, recover
from .resuming import UNKNOWN_RUN, Leased, Resumable, find_resumable, find_run, list_branch
from .run import ActiveRun
from .tracker import LocalTracker, TrackingUnavailable
from .training_registry import CallSite, ModelToken, Training, TrainingRegistry, call_site
from .validation import (
    normalize_metrics,
    validate_key,
    validate_position,
    validate_run,
    validate_tags,
)
from .writing import write_states

if TYPE_CHECKING:
    from .formats import EncodedState

#: Seconds between two looks at a run whose lease is waited for.
_LOOK_INTERVAL: Final = 1.0


class Session:
    """One per process. Its methods are the functions of the package; :mod:`.api` says what they promise."""

    def __init__(self) -> None:
        self._settings = find_settings()
        self._tracking = LocalTracker(self._settings)
        self._lock = threading.RLock()
        self._notebook: NotebookSummary | None = None
        self._looked_up_in: Any = None
        self._place: location.NotebookLocation | None = None
        self._kept: tuple[location.NotebookLocation, str] | None = (
            None  # where this process was, and its record
        )
        self._noted: list[_Noted] = []
        self._trainings = TrainingRegistry()
        self._unmerged: list[tuple[Checkpoint, NewCheckpoint]] = []
        self._directions_told: set[str] = set()
        self._warned: set[str] = set()
        self._warned_in: Any = None
        atexit.register(self.close)

    def close(self) -> None:
        """Let go of the store; whatever is done later opens it again."""
        self._tracking.close()

    # The notebook

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Name the notebook."""
        with self._lock, location.using(path_or_id):
            self._notebook = self._place = self._kept = None
            record = self.notebook()
            training = self._trainings.last(call_site())
            run = None if training is None else training.run
            if (
                training is not None
                and run is not None
                and not run.is_provisional
                and run.notebook_id != record.id
            ):
                run.end(
                    RunStatus.COMPLETED
                )  # what trains now is another notebook, as the user says
                self._trainings.drop(training)
            return record

    def notebook(self) -> TrainingNotebook:
        """The record of this notebook, with its cells."""
        with self._lock:
            home = self._tracking.open()
            id = self._shown(home).id
            found = home.repository.find_by_id(id)
            if found is None:
                self._notebook = None
                raise NotFound("notebook", id)
            return found

    def _look_up(self, home: OpenStore) -> NotebookSummary:
        """The notebook's record, brought up to date with its file, or made.

        Which notebook this is is asked once in each execution of a cell: it may have been saved under another name.
        """
        execution = current_execution()
        if self._notebook is None or execution != self._looked_up_in:
            found = self._where(execution)
            self._notebook = find_or_create_record(
                home.repository, found, home.origin, self._settings.user_id, self._kept
            )
            self._kept = found, self._notebook.id
        return self._notebook

    def _shown(self, home: OpenStore) -> NotebookSummary:
        """The notebook's record, for who only asks: as it is, where others keep it from being brought up to date."""
        try:
            with home.store.waiting_at_most(READ_TIMEOUT):
                return self._look_up(home)
        except StoreBusy:
            self._notebook = None  # and so brought up to date at the next question
            found = find_record(
                home.repository,
                self._where(current_execution()),
                home.origin,
                self._settings.user_id,
                self._kept,
            )
            if found is None:
                raise
            return found

    def _existing_record(self, home: OpenStore) -> NotebookSummary | None:
        """Return the notebook's record as :meth:`_shown` does; None where there is none, and none is made."""
        execution = current_execution()
        if self._notebook is None or execution != self._looked_up_in:
            self._notebook = None
            found = self._where(execution)
            has_kept = (
                self._kept is not None and home.repository.find_summary(self._kept[1]) is not None
            )
            if not has_kept and not has_record(
                home.repository, found, home.origin, self._settings.user_id
            ):
                return None
        return self._shown(home)

    def _where(self, execution: Any) -> location.NotebookLocation:
        """Which notebook this is; servers are asked once in each execution, even if they do not answer."""
        if self._place is None or execution != self._looked_up_in:
            found = location.find_location()
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
        epoch, step = (
            validate_position(epoch, "epoch", self._warn_once),
            validate_position(step, "step", self._warn_once),
        )
        new = NewCheckpoint(
            id=new_id(),
            notebook_id="",
            epoch=0,
            step=0,
            metrics=normalize_metrics(metrics, self._warn_once),
            tags=validate_tags(tags),
        )
        if hasattr(model, "param_groups"):
            raise TypeError(
                f"model is an optimizer ({type(model).__name__}); the model comes first, then the optimizer"
            )
        parts = distributed.encode_together(model, optimizer, extra, epoch=epoch, step=step)
        if parts is None:
            return None
        site = call_site()
        with self._lock:
            training, run, merges = self._run_at(
                site, epoch, step, model, parts, new, overwrite=overwrite
            )
            replaces = False
            if merges and run.last is not None:
                last = run.last.record
                replaces = _adds_state(parts, last)
                if not replaces and (merged := self._merged(run, new, parts)) is not None:
                    run.line.move(merged.epoch, merged.step, site.execution)
                    return merged
                epoch, step = last.epoch, last.step
            placed = run.line.place_again if overwrite else run.line.place
            new.epoch, new.step = placed(epoch, step)
            if replaces and run.last is not None:
                new.metrics = merge_metrics(run.last.record.metrics, new.metrics)
                new.tags = list(dict.fromkeys([*run.last.record.tags, *new.tags]))
            new.notebook_id, new.run_id = run.notebook_id, run.record.id
            self._write(new, parts)
            made = self._recorded(run, new, overwrite=overwrite or replaces)
            if isinstance(made, Conflict):
                if overwrite:  # what it would replace is pinned
                    self._tracking.states().remove_checkpoint(new.notebook_id, str(new.id))
                    raise made
                # It was made before, by a call that was interrupted before it could return, or is pinned.
                run.end(RunStatus.COMPLETED)
                training, run = self._begin_again(site, run)
                new.run_id = run.record.id
                made = self._recorded(run, new, overwrite=False)
            if isinstance(made, Conflict):
                raise made
            run.line.move(new.epoch, new.step, site.execution)
            run.last, run.trained_in = made, site.cell
            if model is not None:
                training.model = ModelToken(model)
                self._trainings.has_trained(site, training.identity)
            return made

    def _warn_once(self, text: str) -> None:
        """Warn the user, once in an execution of a cell: each pass of a loop has the same to say."""
        if (execution := current_execution()) != self._warned_in:
            self._warned, self._warned_in = set(), execution
        if text not in self._warned:
            self._warned.add(text)
            warn(text)

    def _write(self, new: NewCheckpoint, parts: dict[Part, Any]) -> None:
        """Write the states of a checkpoint, and tell it where they are."""
        if not parts:
            return
        new.format = next(iter(parts.values())).format
        with progress_bar("Writing the checkpoint") as progress:
            states = self._tracking.states()
            _give(new, write_states(states, new.notebook_id, str(new.id), parts, progress))

    def _merged(
        self, run: ActiveRun, new: NewCheckpoint, parts: dict[Part, Any]
    ) -> Checkpoint | None:
        """Add metrics and tags to the last checkpoint of a run; None when it is gone."""
        last = run.last
        assert last is not None
        if not run.has_said_kept and "model" in parts and not _is_saved(parts["model"], last):
            run.has_said_kept = True
            print_message(
                f"The state at epoch {last.epoch}, step {last.step} stays as it was saved first; "
                "overwrite=True replaces it."
            )
        added = NewCheckpoint(
            id=last.id,
            notebook_id=last.record.notebook_id,
            epoch=last.epoch,
            step=last.step,
            metrics=new.metrics,
            tags=new.tags,
        )
        noted = next((noted for noted in self._noted if noted.checkpoint is last), None)
        if noted is not None:
            noted.add(added, self._tracking.states())
            return last
        try:
            record = self._tracking.record(lambda home: _merge(home, last, added))
        except TrackingUnavailable:
            self._unmerged.append((last, added))  # as long as this process lives
            return last
        if record is None:
            return None
        last.was_recorded(record)
        return last

    def _run_at(
        self,
        site: CallSite,
        epoch: int | None,
        step: int | None,
        model: Any,
        parts: dict[Part, Any],
        new: NewCheckpoint,
        *,
        overwrite: bool,
    ) -> tuple[Training, ActiveRun, bool]:
        """The training and run that a checkpoint belongs to, and whether it is added to the run's last one.

        The store, if it is available, knows to which notebook it belongs.
        """
        training = self._trainings.find(site, model)
        run = None if training is None else training.run
        merges, again = False, None
        if run is not None and run.is_over:
            run.end(RunStatus.COMPLETED)
            training = run = None
        if training is not None and run is not None and not overwrite:
            relation = run.line.compare(epoch, step, site.execution)
            if relation == "same" and run.last is not None:
                merges = _is_same_point(training, model, parts, new)
                relation = "same" if merges else "before"
            if relation == "before":
                if site.execution == run.line.execution:
                    _say_new_run(run)
                is_other = (
                    model is not None and training.model is not None and not training.trains(model)
                )
                if not (is_other and training.model is not None and training.model.is_alive):
                    run.end(RunStatus.COMPLETED)  # else both models are trained, side by side
                again, training, run = run, None, None
        known = None if self._notebook is None else self._notebook.id
        try:
            notebook = self._tracking.record(self._caught_up)
        except TrackingUnavailable:
            found = None
        else:
            known = found = notebook.id
            report_unbound(notebook)
        if run is not None and found is not None and found != run.notebook_id:
            if run.is_provisional:
                run.move(found)
            elif not self._has_record(
                run
            ):  # else a run that goes on stays in its record, wherever the notebook is
                run.end(RunStatus.COMPLETED)
                training = run = None
        if training is not None and run is not None:
            self._go_on(site, run)
            return training, run, merges
        if again is not None:
            return (*self._begin_again(site, again, known), False)
        if training is None:
            training = self._trainings.add(site, Training(self._trainings.identity(site, None)))
        return training, self._begin(site, training, known), False

    def _has_record(self, run: ActiveRun) -> bool:
        """Whether the record of a run is still there; a store that cannot be asked deleted none."""
        try:
            found = self._tracking.record(
                lambda home: home.repository.find_summary(run.notebook_id)
            )
        except TrackingUnavailable:
            return True
        return found is not None

    def _begin_again(
        self, site: CallSite, before: ActiveRun, notebook_id: str | None = None
    ) -> tuple[Training, ActiveRun]:
        """Begin the run that follows another one by itself: with its key, and in its cell if it was trained in this one."""
        cell = (
            before.record.cell
            if before.trained_in is not None and before.trained_in == site.cell
            else None
        )
        key = before.record.key if before.line.execution == site.execution else None
        training = self._trainings.add(
            site, Training(self._trainings.identity(site, key, cell=cell))
        )
        return training, self._begin(site, training, notebook_id or before.notebook_id)

    def _begin(
        self,
        site: CallSite,
        training: Training,
        notebook_id: str | None,
        parent: NotebookCheckpoint | None = None,
    ) -> ActiveRun:
        """Begin the run of a training."""
        run = ActiveRun(
            self._tracking,
            self._lock,
            self._settle,
            self._note_end,
            notebook_id,
            training.identity,
            parent,
            training.skipped_run_id,
        )
        training.run = run
        self._go_on(site, run)
        return run

    def _go_on(self, site: CallSite, run: ActiveRun) -> None:
        self._trainings.note(site, run)
        run.go_on()
        try:
            self._tracking.record(run.store)
        except TrackingUnavailable:
            run.doubt()

    def _caught_up(self, home: OpenStore) -> NotebookSummary:
        """The notebook's record; what could not be recorded before is recorded now."""
        notebook = self._look_up(home)
        while self._unmerged:
            _merge(home, *self._unmerged[0])
            del self._unmerged[0]
        if not self._noted:
            return notebook
        waiting = {str(noted.unrecorded.checkpoint.id): noted for noted in self._noted}
        # Of what is noted no more, somebody else has taken care, or the user has deleted it.
        left = [noted.unrecorded for noted in self._noted]
        for done in recover(home.repository, home.states, home.origin, left, notebook.id):
            if done.error is not None:
                print_message(f"A checkpoint stays unrecorded, in {done.folder}: {done.error}")
        for id, noted in waiting.items():
            if (record := home.repository.get_checkpoint(id)) is not None:
                noted.checkpoint.was_recorded(record)
                if (
                    record.run_id is not None
                    and (run := self._trainings.runs.get(record.run_id)) is not None
                ):
                    run.recovered_in = record.notebook_id
        self._noted = []
        return notebook

    def _catch_up(self) -> None:
        """Record what could not be recorded before, if the store is available now."""
        with self._lock, suppress(TrackingUnavailable):
            self._tracking.record(self._caught_up, at_once=True)

    def _settle(self, home: OpenStore) -> None:
        if self._noted or self._unmerged:
            self._caught_up(home)

    def _note_end(self, run_id: str) -> None:
        """Have the last note of a run tell how it ended, since the store cannot."""
        of_run = [noted for noted in self._noted if noted.unrecorded.checkpoint.run_id == run_id]
        states = self._tracking.states()
        if of_run and of_run[-1].is_there(states):
            with suppress(
                AxonError
            ):  # then it is found unfinished, which costs nobody a checkpoint
                of_run[-1].unrecorded.write(states)

    def _recorded(
        self, run: ActiveRun, new: NewCheckpoint, *, overwrite: bool
    ) -> Checkpoint | Conflict:
        """Have the store know a checkpoint whose states are in their place; else note it beside them."""
        states = self._tracking.states

        def store(home: OpenStore) -> NotebookCheckpoint | Conflict:
            try:
                return run.store_checkpoint(home, new, self._folder, overwrite=overwrite)
            except Conflict as conflict:
                return conflict

        try:
            record = self._tracking.record(store)
        except TrackingUnavailable as untracked:
            run.doubt()
            self._notebook = None
            made = self._note(run, new, overwrite=overwrite)
            if isinstance(untracked.__cause__, NotFound):
                with suppress(
                    TrackingUnavailable
                ):  # the record was deleted, or the store: there will be another
                    self._tracking.record(self._caught_up, at_once=True)
            return made
        if isinstance(record, Conflict):
            return record
        states().mark_recorded(record.notebook_id, record.id)
        return Checkpoint(record, states)

    def _note(self, run: ActiveRun, new: NewCheckpoint, *, overwrite: bool) -> Checkpoint:
        """Note a checkpoint beside its states; its notebook and how it came about as far as they can be told."""
        found = self._where(current_execution())
        noted = UnrecordedCheckpoint(
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
        self,
        model: Any,
        optimizer: Any,
        *,
        extra: Any,
        force: bool,
        run: str | float | None,
        key: str | float | None,
        checkpoint: str | Checkpoint | None,
        in_place: bool,
        trusted: bool,
    ) -> Checkpoint | None:
        """Go on where an unfinished run stopped."""
        if run is not None and checkpoint is not None:
            raise ValueError("give run or checkpoint, not both: a checkpoint belongs to one run")
        key, run, site = validate_key(key), validate_run(run), call_site()
        with self._lock:
            training, parent = self._announce(site, key, model, run, checkpoint)
        notebook_id: str | None = None

        def find() -> NotebookCheckpoint | None:
            nonlocal notebook_id
            if parent is not None:
                return parent
            found = self._find(site, training, model, force, run, checkpoint)
            if found is not None:
                with self._lock:
                    notebook_id = self._look_up(self._tracking.open()).id
            return found

        def find_safely() -> NotebookCheckpoint | None:
            try:
                return find()
            except Exception as error:
                if force or run is not None or checkpoint is not None:
                    raise
                training.skipped_run_id = UNKNOWN_RUN
                warn(
                    f"whether there is a run to resume is unknown: {error}. Training begins anew, and leaves existing runs "
                    "alone. To resume one, stop the training and run this again once the store is available"
                )
                return None

        found, call = distributed.decide(find_safely)
        if found is None:
            return None
        resumed = Checkpoint(found, self._tracking.states)
        try:
            with distributed.agreement(call):
                resumed.resume_into(model, optimizer, extra, in_place=in_place, trusted=trusted)
        except InvalidData as error:
            raise InvalidData(
                error.path, f"{error.reason}. To train anew instead, run this once without resume()"
            ) from error
        if distributed.is_first():
            with self._lock:
                if parent is None:
                    # What another notebook trained is where this one starts, but its runs are its own.
                    begun = self._begin(
                        site,
                        training,
                        notebook_id,
                        found if found.notebook_id == notebook_id else None,
                    )
                    begun.line.resume(found.epoch, found.step)
                    begun.is_trained_here = mentions_checkpoint()
            print_message(f"Resumed from {format_checkpoint(found)}.")
        return resumed

    def _find(
        self,
        site: CallSite,
        training: Training,
        model: Any,
        force: bool,
        run: str | None,
        checkpoint: str | Checkpoint | None,
    ) -> NotebookCheckpoint | None:
        """The checkpoint to resume; leases of other hosts are waited for, while other threads go on."""
        ended: set[str] = set()
        alive: set[str] = set()
        while True:
            try:
                with self._lock:
                    return self._to_resume(
                        site, training, model, force, run, checkpoint, ended, alive
                    )
            except Leased as leased:
                (alive if self._is_renewed(leased) else ended).add(leased.run.id)

    def _announce(
        self,
        site: CallSite,
        key: str | None,
        model: Any,
        run: str | None,
        checkpoint: str | Checkpoint | None,
    ) -> tuple[Training, NotebookCheckpoint | None]:
        """The training that begins now; the one before it here is over.

        Also the checkpoint that it was resumed from by an earlier call, if nothing was trained since then.
        """
        last = self._trainings.last(site)
        if last is not None and last.is_fresh and run is None and checkpoint is None:
            is_same = (last.identity.execution, last.identity.key) == (site.execution, key)
            if is_same and (last.run is None or last.model is None or last.trains(model)):
                last.model = last.model if model is None else ModelToken(model)
                return last, None if last.run is None else last.run.parent
        if last is not None and last.run is not None and not last.run.is_over:
            goes_back = checkpoint is not None and last.run.record.status is RunStatus.RUNNING
            last.run.end(RunStatus.STOPPED if goes_back else RunStatus.COMPLETED)
        training = Training(
            self._trainings.identity(site, key, is_announced=True),
            model=None if model is None else ModelToken(model),
            existing=self._trainings.units(),
        )
        on_training_end(_Dropped(self._trainings, training))
        return self._trainings.add(site, training), None

    def _to_resume(
        self,
        site: CallSite,
        training: Training,
        model: Any,
        force: bool,
        run: str | None,
        checkpoint: str | Checkpoint | None,
        ended: set[str],
        alive: set[str],
    ) -> NotebookCheckpoint | None:
        home = self._tracking.open()
        self._take_in(home)
        own = self._trainings.run_ids(site)
        if checkpoint is not None:
            existing = self._existing(home, checkpoint)
            before = (
                self._trainings.runs.get(existing.run_id or "") if existing.run_id in own else None
            )
            if before is not None:  # it goes back in what it trains
                training.identity = training.identity._replace(
                    ordinal=before.record.ordinal or 0,
                    key=training.identity.key or before.record.key,
                )
            return existing
        notebook = self._existing_record(home)
        if notebook is None:
            if run is not None:
                raise NotFound("run", run)
            return None
        asked = Resumable(
            home,
            notebook.id,
            training.identity,
            force=force,
            wants_state=model is not None,
            own=own,
            ended=ended,
            alive=alive,
        )
        if run is not None:
            named = find_run(home, asked.notebook_id, run)
            training.identity = training.identity._replace(key=training.identity.key or named.key)
            return asked.latest_of(named)
        found = find_resumable(asked)
        training.skipped_run_id = asked.skipped_run_id
        return found

    def _is_renewed(self, leased: Leased) -> bool:
        """Whether a run turns out to be alive: its lease is renewed while this waits."""
        run, until = leased.run, time.monotonic() + LEASE.total_seconds()
        print_message(
            f"Run {run.id[:8]} was training{leased.whereabouts} a moment ago: waiting for up to "
            f"{LEASE.total_seconds():.0f} s to see whether it still does. Interrupt to stop waiting."
        )
        while time.monotonic() < until:
            time.sleep(_LOOK_INTERVAL)
            try:
                with self._lock:
                    found = self._tracking.open().repository.runs.get(run.notebook_id, run.id)
            except StoreError:  # the next look warns of it
                return False
            if found is None or found.status is not RunStatus.RUNNING:
                return False
            if found.lease_until != run.lease_until:
                return True
        return False

    def _take_in(self, home: OpenStore) -> None:
        """Record what a training of this user could not, here or in a process that is gone."""
        notebook_id = self._caught_up(home).id if self._noted else None
        noted = [
            found
            for found in find_unrecorded(home.states)
            if isinstance(found, UnrecordedCheckpoint)
            and found.store_url == self._settings.store_url
            and found.owner == self._settings.user_id
        ]
        done = list(recover(home.repository, home.states, home.origin, noted, notebook_id))
        if recorded := [one for one in done if one.is_new]:
            count = f"{len(recorded)} checkpoint" + ("s" if len(recorded) > 1 else "")
            print_message(f"Recorded {count} made while the store could not be had.")

    # Asking

    def best(
        self, metric: str, mode: Literal["min", "max"] | None, run: str | float | None
    ) -> Checkpoint:
        """The checkpoint with the best value of a metric."""
        run = validate_run(run)
        if mode not in (None, "min", "max"):
            raise ValueError(f'mode is {mode!r}; give mode="min" or mode="max"')
        known = mode or direction(metric)
        with self._lock:
            home, id = self._here()
            is_least = known == "min"
            if home is None:
                stored = []
            elif run is None:
                stored = home.repository.checkpoints.list_best(id, metric, is_least, 1)
            else:
                stored = list_branch(home, find_run(home, id, run))
            found = [*self._held(stored), *self._unrecorded(run)]
            ranked = [
                (value if is_least else -value, one.created_at, one)
                for one in found
                if (value := rankable(resolve(one.record.metrics, metric))) is not None
            ]
            if not ranked:
                names = set() if home is None else home.repository.checkpoints.list_metric_names(id)
                raise _NoMetric(
                    metric, names.union(*(rankable_metrics(one.metrics) for one in found))
                )
            if known is None:
                unknown = f"whether less or more {printable(metric)} is better is not known"
                raise ValueError(f'{unknown}; give mode="min" or mode="max"')
            if mode is None and metric not in self._directions_told:
                self._directions_told.add(metric)
                print_message(f"The best {metric}: {better_text(known)}.")
            return min(ranked, key=lambda one: one[:2])[2]

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint."""
        found = self.checkpoints(1, None)
        return found[0] if found else None

    def checkpoints(self, limit: int | None, run: str | float | None) -> CheckpointList:
        """The checkpoints, newest first."""
        run = validate_run(run)
        with self._lock:
            home, id = self._here()
            stored = []
            if home is not None and run is not None:
                stored = list_branch(home, find_run(home, id, run))
            elif home is not None:
                stored = home.repository.list_checkpoints(id, limit)
            found = sorted(
                [*self._unrecorded(run), *self._held(stored)],
                key=lambda one: one.created_at,
                reverse=True,
            )
            return CheckpointList(found[:limit])

    def _here(self) -> tuple[OpenStore | None, str]:
        """The store and this notebook's record in it; no store where there is none and this process has made checkpoints.

        An empty id where the notebook has no record: a question makes none.
        """
        if self._noted or self._unmerged:
            self._catch_up()
        try:
            home = self._tracking.open()
            found = self._existing_record(home)
            id = "" if found is None else found.id
        except StoreError as error:
            if not self._noted:
                raise
            print_message(f"Only what this process has made is looked at: {error}")
            return None, ""
        return home, id

    def _held(self, records: Iterable[NotebookCheckpoint]) -> list[Checkpoint]:
        return [Checkpoint(record, self._tracking.states) for record in records]

    def _unrecorded(self, run: str | None) -> list[Checkpoint]:
        """What this process has made, and the store does not have yet; of a run, if one is named."""
        return [noted.checkpoint for noted in self._noted if run is None or noted.is_of(run)]

    def get(self, id: str) -> Checkpoint:
        """A checkpoint by its id."""
        with self._lock:
            return Checkpoint(self._existing(self._tracking.open(), id), self._tracking.states)

    def pin(self, checkpoint: str | Checkpoint, *, pinned: bool) -> Checkpoint:
        """Keep a checkpoint from being pruned, or no longer."""
        with self._lock:
            home = self._tracking.open()
            id = self._existing(home, checkpoint).id
            changed = home.repository.checkpoints.update(id, UpdateCheckpoint(pinned=pinned))
            return Checkpoint(changed, self._tracking.states)

    @staticmethod
    def _existing(home: OpenStore, which: str | Checkpoint) -> NotebookCheckpoint:
        id = which.id if isinstance(which, Checkpoint) else which
        found = home.repository.get_checkpoint(id)
        if found is None:
            ids = home.repository.checkpoints.find_ids(id) if id else []
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

    unrecorded: UnrecordedCheckpoint
    checkpoint: Checkpoint

    def is_of(self, run: str) -> bool:
        """Whether it belongs to a run with this key or id, or whose id begins so."""
        record = self.unrecorded.run
        return record is not None and (record.key == run or record.id.startswith(run))

    def add(self, added: NewCheckpoint, states: StateStorage) -> None:
        """Add metrics and tags to it, here and in its note."""
        checkpoint = self.unrecorded.checkpoint
        checkpoint.metrics = merge_metrics(checkpoint.metrics, added.metrics)
        checkpoint.tags = list(dict.fromkeys([*checkpoint.tags, *added.tags]))
        try:
            self.unrecorded.write(states)
        except AxonError as error:
            warn(f"what was added to checkpoint {checkpoint.id} could not be noted: {error}")
        self.checkpoint.was_noted(self.unrecorded.as_record())

    def is_there(self, states: StateStorage) -> bool:
        """Whether its note is where it was put."""
        noted = self.unrecorded.checkpoint
        return has_note(states.root, noted.notebook_id, str(noted.id))


class _NoMetric(NotFound):
    def __init__(self, metric: str, known: Collection[str]) -> None:
        super().__init__("metric", metric)
        text = f"no checkpoint of this notebook has a finite number as {metric}{suggestion(metric, sorted(known))}"
        self.args = (printable(text),)


def _give(new: NewCheckpoint, stored: dict[Part, StoredState]) -> None:
    """Tell a checkpoint where its states are."""
    for part, state in stored.items():
        setattr(new, f"{part}_state_path", state.path)
    new.digests = {part: state.digest for part, state in stored.items()}
    new.sizes = {part: state.size for part, state in stored.items()}


class _Dropped:
    """Forgets, at the end of a cell that failed, what was announced in it and never began."""

    def __init__(self, trainings: TrainingRegistry, training: Training) -> None:
        self._trainings = trainings
        self._training = training

    def __call__(self, error: BaseException | None) -> None:
        if error is not None and self._training.run is None:
            self._trainings.drop(self._training)


def _merge(home: OpenStore, last: Checkpoint, added: NewCheckpoint) -> NotebookCheckpoint | None:
    """Add metrics and tags to a stored checkpoint; None when it is gone, or cannot take them."""
    with suppress(NotFound, Conflict):
        return home.repository.checkpoints.add_metrics(last.id, added.metrics, added.tags)
    return None


def _is_same_point(
    training: Training, model: Any, parts: dict[Part, Any], new: NewCheckpoint
) -> bool:
    """Whether a checkpoint at the place of a run's last one is the same point of the same training.

    A search trains another model each time, and measures something else, and may stand at the same place.
    """
    assert training.run is not None
    assert training.run.last is not None
    last = training.run.last
    if spellable(merge_metrics(last.metrics, new.metrics))[1]:  # together they are too much for one
        return False
    there, here = named_values(last.metrics), named_values(new.metrics)
    differs = any(name in there and there[name] != value for name, value in here.items())
    if "model" not in (last.record.digests or {}):
        return model is not None or not differs
    if model is None:
        return not differs
    if _is_saved(parts["model"], last):
        return True
    if training.trains(model):
        return not differs
    if training.model is not None and training.model.is_whole:
        return False
    return bool(there) and bool(here) and not differs


def _adds_state(parts: dict[Part, Any], last: NotebookCheckpoint) -> bool:
    """Return whether ``parts`` has a state that the last checkpoint lacks: a model's, or any where it has none."""
    there = last.digests or {}
    return bool(parts) and ("model" not in there if "model" in parts else not there)


def _is_saved(state: EncodedState, made: Checkpoint) -> bool:
    """Whether a checkpoint has exactly this state of a model."""
    digest = hashlib.sha256()
    for chunk in state.chunks():
        digest.update(chunk)
    return digest.hexdigest() == (made.record.digests or {}).get("model")


def _say_new_run(run: ActiveRun) -> None:
    print_message(
        f"A new run begins, since this is not after epoch {run.line.epoch}, step {run.line.step} of run "
        f"{run.record.id[:8]}. To begin runs yourself, call resume(…, key=…) before each training."
    )
