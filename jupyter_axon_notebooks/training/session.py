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
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..defaults import READ_TIMEOUT
from ..errors import AxonError, Conflict, InvalidData, NotFound, StoreBusy, StoreError
from ..metrics import (
    better_text,
    direction,
    merge_metrics,
    rankable,
    rankable_metrics,
    resolve,
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
from ..states import Part, StateFiles, StoredState
from ..states.notes import has_note
from . import distributed, place
from .checkpoint import Checkpoint, CheckpointList
from .display import described, measuring, say
from .environment import environment
from .executed import current_cell, current_execution, current_task, executed_cells
from .given import key_of, metrics_of, tags_of, whole_number
from .home import Home, Tracking, Untracked, warn
from .notebook import is_recorded, known_record, record_of, say_unbound
from .recovery import Unrecorded, find_unrecorded, recover
from .resuming import Leased, Resumable, find_resumable, find_run
from .running import Running
from .runs import LEASE, RunIdentity
from .settings import settings
from .writing import write_states

if TYPE_CHECKING:
    from .formats import Encoded

#: Seconds between two looks at a run whose lease is waited for.
_LOOK_INTERVAL: Final = 1.0


@dataclass
class _Owned:
    """The training of one thread.

    Attributes
    ----------
    run : Running or None
        The run that the thread is in, or was in last.
    announced : RunIdentity or None
        The run that ``resume`` found nothing for; it begins with the next checkpoint.
    """

    run: Running | None = None
    announced: RunIdentity | None = None


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
        self._noted: list[_Noted] = []
        # By thread: each trains in a run of its own.
        self._owned: WeakKeyDictionary[threading.Thread, _Owned] = WeakKeyDictionary()
        self._resumed_by: threading.Thread | None = None  # whose training has made no checkpoint yet
        self._runs: WeakValueDictionary[str, Running] = WeakValueDictionary()
        self._worked_on: dict[Any, set[str]] = {}  # by execution, the runs of this process
        # By thread, the unfinished run that was left alone when its training began anew.
        self._skipped: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
        self._begun: dict[Any, int] = {}  # by execution, how many runs were announced or begun
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
        with self._lock, place.using(path_or_id):
            self._notebook = self._place = self._kept = None
            record = self.notebook()
            own = self._own
            if own.run is not None and not own.run.is_provisional and own.run.notebook_id != record.id:
                own.run.end(RunStatus.COMPLETED)  # what trains now is another notebook, as the user says
                own.run = None
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

    def _existing_record(self, home: Home) -> NotebookSummary | None:
        """Return the notebook's record as :meth:`_shown` does; None where there is none, and none is made."""
        execution = current_execution()
        if self._notebook is None or execution != self._looked_up_in:
            self._notebook = None
            found = self._where(execution)
            has_kept = self._kept is not None and home.repository.find_summary(self._kept[1]) is not None
            if not has_kept and not is_recorded(home.repository, found, home.origin, self._settings.user_id):
                return None
        return self._shown(home)

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
        epoch, step = (
            whole_number(epoch, "epoch", self._warn_once),
            whole_number(step, "step", self._warn_once),
        )
        new = NewCheckpoint(
            id=new_id(),
            notebook_id="",
            epoch=0,
            step=0,
            metrics=metrics_of(metrics, self._warn_once),
            tags=tags_of(tags),
        )
        if hasattr(model, "param_groups"):
            raise TypeError(
                f"model is an optimizer ({type(model).__name__}); the model comes first, then the optimizer"
            )
        parts = distributed.encode_together(model, optimizer, extra, epoch=epoch, step=step)
        if parts is None:
            return None
        with self._lock:
            run, merges = self._run_at(epoch, step, model, parts, overwrite=overwrite)
            if merges and (merged := self._merged(run, new, parts)) is not None:
                run.line.move(merged.epoch, merged.step, current_execution())
                return merged
            placed = run.line.place_again if overwrite else run.line.place
            new.epoch, new.step = placed(epoch, None if merges else step)
            new.notebook_id, new.run_id = run.notebook_id, run.record.id
            self._write(new, parts)
            made = self._recorded(run, new, overwrite=overwrite)
            if isinstance(made, Conflict):
                if overwrite:  # what it would replace is pinned
                    self._tracking.states().remove_checkpoint(new.notebook_id, str(new.id))
                    raise made
                # It was made before, by a call that was interrupted before it could return.
                run.end(RunStatus.COMPLETED)
                run = self._begin(run.notebook_id, self._identity(run.record.key))
                new.run_id = run.record.id
                made = self._recorded(run, new, overwrite=False)
            if isinstance(made, Conflict):
                raise made
            run.line.move(new.epoch, new.step, current_execution())
            run.keep(made, model)
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
        with measuring("Writing the checkpoint") as progress:
            states = self._tracking.states()
            _give(new, write_states(states, new.notebook_id, str(new.id), parts, progress))

    def _merged(self, run: Running, new: NewCheckpoint, parts: dict[Part, Any]) -> Checkpoint | None:
        """Add metrics, and a state if there is none, to the last checkpoint of a run.

        None when it is gone, or the store does not take it now.
        """
        last = run.last
        if last is None:
            return None
        if last.record.digests:
            if not run.has_said_kept and "model" in parts and not _is_saved(parts["model"], last):
                run.has_said_kept = True
                say(
                    f"The state at epoch {last.epoch}, step {last.step} stays as it was saved first; "
                    "overwrite=True replaces it."
                )
            parts = {}
        added = NewCheckpoint(
            id=last.id,
            notebook_id=last.record.notebook_id,
            epoch=last.epoch,
            step=last.step,
            metrics=new.metrics,
            tags=new.tags,
        )
        noted = next((noted for noted in self._noted if noted.checkpoint is last), None)
        self._write(added, parts)
        if noted is not None:
            noted.add(added, self._tracking.states())
            return last

        def merge(home: Home) -> NotebookCheckpoint | None:
            with suppress(NotFound, Conflict):
                return home.repository.merge_checkpoint(last.id, added)
            return None

        record = None
        with suppress(Untracked):
            record = self._tracking.record(merge)
        if record is None:
            if parts:
                self._tracking.states().remove_checkpoint(added.notebook_id, last.id)
            return None
        self._tracking.states().recorded(record.notebook_id, record.id)
        last.was_recorded(record)
        return last

    @property
    def _own(self) -> _Owned:
        """The training of this thread."""
        return self._owned.setdefault(threading.current_thread(), _Owned())

    def _claim(self) -> None:
        """Take over, in a thread that trains nothing yet, what another thread resumed for it."""
        thread, resumed_by, own = threading.current_thread(), self._resumed_by, self._own
        if thread is resumed_by:
            self._resumed_by = None
        elif resumed_by is not None and resumed_by in self._owned and own.announced is None:
            is_new = own.run is None or own.run.line.execution != current_execution()
            if is_new:
                self._owned[thread] = self._owned.pop(resumed_by)
                self._resumed_by = None

    def _identity(self, key: str | None, cell: str | None = None) -> RunIdentity:
        """The identity of a run that begins now, in the current cell if no other is given."""
        execution = current_execution()
        ordinal = self._begun.get(execution, 0)
        if current_task() is not None:  # in a process of a pool, which does not know what the others do
            ordinal = max(ordinal, 1)
        self._begun[execution] = ordinal + 1
        return RunIdentity(execution, ordinal, current_cell() if cell is None else cell, key)

    def _identity_again(self) -> RunIdentity:
        """The identity of a run that nobody announced: it belongs to the cell that the last run made here belongs to."""
        last = self._own.run
        is_again = last is not None and last.trained_in is not None and last.trained_in == current_cell()
        return self._identity(None, last.record.cell if last is not None and is_again else None)

    def _run_at(
        self, epoch: int | None, step: int | None, model: Any, parts: dict[Part, Any], *, overwrite: bool
    ) -> tuple[Running, bool]:
        """The run that a checkpoint belongs to, which goes on, and whether its last checkpoint is the same.

        The store, if it is available, knows to which notebook it belongs.
        """
        self._claim()
        own = self._own
        run, execution = own.run, current_execution()
        merges = False
        if run is not None and own.announced is not None:
            run = None  # which was ended by `resume`
        if run is not None and run.is_over:
            run.end(RunStatus.COMPLETED)
            run = None
        if run is not None and not overwrite:
            relation = run.line.compare(epoch, step, execution)
            merges = relation == "same" and run.last is not None and _is_same_state(run, model, parts)
            if relation == "before" or (relation == "same" and run.last is not None and not merges):
                if execution == run.line.execution:
                    _say_new_run(run)
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
            return self._begin(known, own.announced or self._identity_again()), False
        self._go_on(run)
        return run, merges

    def _has_record(self, run: Running) -> bool:
        """Whether the record of a run is still there; a store that cannot be asked deleted none."""
        try:
            found = self._tracking.record(lambda home: home.repository.find_summary(run.notebook_id))
        except Untracked:
            return True
        return found is not None

    def _begin(
        self,
        notebook_id: str | None,
        identity: RunIdentity,
        parent: NotebookCheckpoint | None = None,
    ) -> Running:
        """Begin the next run of this thread."""
        run = Running(
            self._tracking,
            self._lock,
            self._settle,
            self._note_end,
            notebook_id,
            identity,
            parent,
            self._skipped.pop(threading.current_thread(), None),
        )
        own = self._own
        own.run, own.announced = run, None
        self._runs[run.record.id] = run
        self._go_on(run)
        return run

    def _go_on(self, run: Running) -> None:
        self._worked_on.setdefault(current_execution(), set()).add(run.record.id)
        run.go_on()
        try:
            self._tracking.record(run.store)
        except Untracked:
            run.doubt()

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
                if record.run_id is not None and (run := self._runs.get(record.run_id)) is not None:
                    run.recovered_in = record.notebook_id
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
        self,
        model: Any,
        optimizer: Any,
        *,
        extra: Any,
        force: bool,
        run: str | None,
        key: str | int | None,
        checkpoint: str | Checkpoint | None,
        in_place: bool,
        trusted: bool,
    ) -> Checkpoint | None:
        """Go on where an unfinished run stopped."""
        if run is not None and checkpoint is not None:
            raise ValueError("give run or checkpoint, not both: a checkpoint belongs to one run")
        key = key_of(key)
        with self._lock:
            identity = self._announce(key, checkpoint)

        def find() -> NotebookCheckpoint | None:
            return self._find(identity, model, force, run, checkpoint)

        found, call = distributed.decide(find)
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
                notebook_id = self._look_up(self._tracking.home()).id
                # What another notebook trained is where this one starts, but its runs are its own.
                begun = self._begin(
                    notebook_id, identity, found if found.notebook_id == notebook_id else None
                )
                begun.line.resume(found.epoch, found.step)
            say(f"Resumed from {described(found)}.")
        return resumed

    def _find(
        self,
        identity: RunIdentity,
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
                    return self._to_resume(identity, model, force, run, checkpoint, ended, alive)
            except Leased as leased:
                (alive if self._is_renewed(leased) else ended).add(leased.run.id)
            except StoreError as error:
                if force or run is not None or checkpoint is not None:
                    raise
                warn(
                    f"whether there is a run to go on with cannot be told: {error}. Training begins anew, and leaves "
                    "alone what there is; to go on instead, stop it and run this again once the store can be had"
                )
                return None

    def _announce(self, key: str | None, checkpoint: str | Checkpoint | None) -> RunIdentity:
        """The identity of the run that begins now; the one before it in this thread is over."""
        own, execution = self._own, current_execution()
        announced = own.announced
        if announced is not None and (announced.execution, announced.key) == (execution, key):
            return announced  # it was asked before, and nothing was trained since
        if own.run is not None and not own.run.is_over:
            goes_back = checkpoint is not None and own.run.record.status is RunStatus.RUNNING
            own.run.end(RunStatus.STOPPED if goes_back else RunStatus.COMPLETED)
        own.announced = self._identity(key)
        self._resumed_by = threading.current_thread()
        self._skipped.pop(threading.current_thread(), None)
        return own.announced

    def _to_resume(
        self,
        identity: RunIdentity,
        model: Any,
        force: bool,
        run: str | None,
        checkpoint: str | Checkpoint | None,
        ended: set[str],
        alive: set[str],
    ) -> NotebookCheckpoint | None:
        home = self._tracking.home()
        self._take_in(home)
        if checkpoint is not None:
            return self._existing(home, checkpoint)
        notebook = self._existing_record(home)
        if notebook is None:
            if run is not None:
                raise NotFound("run", run)
            return None
        asked = Resumable(
            home,
            notebook.id,
            identity,
            force=force,
            wants_state=model is not None,
            own=self._worked_on.get(current_execution(), set()),
            ended=ended,
            alive=alive,
        )
        if run is not None:
            return asked.latest_of(find_run(home, asked.notebook_id, run))
        found = find_resumable(asked)
        if asked.skipped_run_id is not None:
            self._skipped[threading.current_thread()] = asked.skipped_run_id
        return found

    def _is_renewed(self, leased: Leased) -> bool:
        """Whether a run turns out to be alive: its lease is renewed while this waits."""
        run, until = leased.run, time.monotonic() + LEASE.total_seconds()
        say(
            f"Run {run.id[:8]} was training{leased.whereabouts} a moment ago: waiting for up to "
            f"{LEASE.total_seconds():.0f} s to see whether it still does. Interrupt to stop waiting."
        )
        while time.monotonic() < until:
            time.sleep(_LOOK_INTERVAL)
            try:
                with self._lock:
                    found = self._tracking.home().repository.get_run(run.notebook_id, run.id)
            except StoreError:  # the next look warns of it
                return False
            if found is None or found.status is not RunStatus.RUNNING:
                return False
            if found.lease_until != run.lease_until:
                return True
        return False

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

    def best(self, metric: str, mode: Literal["min", "max"] | None, run: str | None) -> Checkpoint:
        """The checkpoint with the best value of a metric."""
        if mode not in (None, "min", "max"):
            raise ValueError(f'mode is {mode!r}; give mode="min" or mode="max"')
        known = mode or direction(metric)
        with self._lock:
            home, id = self._here()
            is_least = known == "min"
            if home is None:
                stored = []
            elif run is None:
                stored = home.repository.get_best_checkpoints(id, metric, is_least, 1)
            else:
                stored = home.repository.list_checkpoints(id, run_id=find_run(home, id, run).id)
            found = [*self._held(stored), *self._unrecorded(run)]
            ranked = [
                (value if is_least else -value, one.created_at, one)
                for one in found
                if (value := rankable(resolve(one.record.metrics, metric))) is not None
            ]
            if not ranked:
                names = set() if home is None else home.repository.metric_names(id)
                raise _NoMetric(metric, names.union(*(rankable_metrics(one.metrics) for one in found)))
            if known is None:
                unknown = f"whether less or more {printable(metric)} is better is not known"
                raise ValueError(f'{unknown}; give mode="min" or mode="max"')
            if mode is None and metric not in self._directions_told:
                self._directions_told.add(metric)
                say(f"The best {metric}: {better_text(known)}.")
            return min(ranked, key=lambda one: one[:2])[2]

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint."""
        found = self.checkpoints(1, None)
        return found[0] if found else None

    def checkpoints(self, limit: int | None, run: str | None) -> CheckpointList:
        """The checkpoints, newest first."""
        with self._lock:
            home, id = self._here()
            stored = []
            if home is not None:
                run_id = None if run is None else find_run(home, id, run).id
                stored = home.repository.list_checkpoints(id, limit, run_id=run_id)
            found = sorted(
                [*self._unrecorded(run), *self._held(stored)], key=lambda one: one.created_at, reverse=True
            )
            return CheckpointList(found[:limit])

    def _here(self) -> tuple[Home | None, str]:
        """The store and this notebook's record in it; no store where there is none and this process has made checkpoints.

        An empty id where the notebook has no record: a question makes none.
        """
        if self._noted:
            self._catch_up()
        try:
            home = self._tracking.home()
            found = self._existing_record(home)
            id = "" if found is None else found.id
        except StoreError as error:
            if not self._noted:
                raise
            say(f"Only what this process has made is looked at: {error}")
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

    def is_of(self, run: str) -> bool:
        """Whether it belongs to a run with this key or id, or whose id begins so."""
        record = self.unrecorded.run
        return record is not None and (record.key == run or record.id.startswith(run))

    def add(self, added: NewCheckpoint, states: StateFiles) -> None:
        """Add metrics, tags and states to it, here and in its note."""
        checkpoint = self.unrecorded.checkpoint
        checkpoint.metrics = merge_metrics(checkpoint.metrics, added.metrics)
        checkpoint.tags = list(dict.fromkeys([*checkpoint.tags, *added.tags]))
        if added.digests:
            for name in ("model_state_path", "optimizer_state_path", "digests", "sizes", "format"):
                setattr(checkpoint, name, getattr(added, name))
        try:
            self.unrecorded.write(states)
        except AxonError as error:
            warn(f"what was added to checkpoint {checkpoint.id} could not be noted: {error}")
        self.checkpoint.was_noted(self.unrecorded.as_record())

    def is_there(self, states: StateFiles) -> bool:
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


def _is_same_state(run: Running, model: Any, parts: dict[Part, Any]) -> bool:
    """Whether a checkpoint at the place of the run's last one belongs to the same model.

    The object tells, or else the content: a search trains another model each time, which may stand at the same place.
    """
    assert run.last is not None
    if model is None or "model" not in (run.last.record.digests or {}) or run.trains(model):
        return True
    return _is_saved(parts["model"], run.last)


def _is_saved(state: Encoded, made: Checkpoint) -> bool:
    """Whether a checkpoint has exactly this state of a model."""
    digest = hashlib.sha256()
    for chunk in state.chunks():
        digest.update(chunk)
    return digest.hexdigest() == (made.record.digests or {}).get("model")


def _say_new_run(run: Running) -> None:
    say(
        f"A new run begins, since this is not after epoch {run.line.epoch}, step {run.line.step} of run "
        f"{run.record.id[:8]}. To begin runs yourself, call resume(…, key=…) before each training."
    )
