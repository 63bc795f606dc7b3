"""The session of a process: it assigns checkpoints and resumed trainings to runs."""

from __future__ import annotations

import atexit
import hashlib
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import Conflict, InvalidData
from ..metrics import flatten_metrics, merge_metrics
from ..records import NewCheckpoint, NotebookCheckpoint, RunStatus, TrainingNotebook, new_id
from ..stores import find_settings
from . import distributed
from .checkpoint import Checkpoint, write_states
from .display import format_checkpoint
from .execution import mentions_checkpoint, on_training_end
from .messages import print_message, warn
from .resuming import ResumeRequest
from .runs import ActiveRun, CallSite, ModelReference, Training, TrainingRegistry, call_site
from .tracker import Tracker
from .validation import normalize_metrics, validate_position, validate_tags

if TYPE_CHECKING:
    from ..states import Part
    from .formats import EncodedState

_current: tuple[int, Session] | None = None
_current_lock = threading.Lock()


def current_session() -> Session:
    """Return the session of this process; a forked process gets its own."""
    global _current
    with _current_lock:
        if _current is None or _current[0] != os.getpid():
            _current = os.getpid(), Session(Tracker(find_settings()))
        return _current[1]


def end_session(status: RunStatus | None = None) -> None:
    """End the session of this process: the next call of the API begins another.

    Parameters
    ----------
    status : RunStatus, optional
        The status to set for runs that are still running. By default their status does not change,
        as after the process is killed.
    """
    global _current
    with _current_lock:
        current, _current = _current, None
    if current is not None and current[0] == os.getpid():
        if status is not None:
            current[1].end(status)
        current[1].tracker.close()


class Session:
    """The trainings of a process; see :mod:`.api` for what its methods do.

    Parameters
    ----------
    tracker : Tracker
        How records are reached. Its lock is held by every call of the API, except while states are
        encoded or restored.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._registry = TrainingRegistry()
        atexit.register(tracker.close)

    def use(self, path_or_id: str) -> TrainingNotebook:
        """Set which notebook is trained, and complete the run of another one."""
        with self.tracker.lock:
            record = self.tracker.use(path_or_id)
            self.tracker.notebook_id()  # records what is pending
            training = self._registry.last(call_site())
            run = None if training is None else training.run
            if training is not None and run is not None and run.notebook_id != record.id:
                run.end(RunStatus.COMPLETED)
                self._registry.remove(training)
            return record

    def end(self, status: RunStatus) -> None:
        """End all runs that are still running."""
        with self.tracker.lock:
            for run in self._registry.runs():
                run.end(status)

    # Checkpoints

    def checkpoint(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        *,
        epoch: Any,
        step: Any,
        metrics: Any,
        tags: str | Iterable[str] | None,
        overwrite: bool,
    ) -> Checkpoint | None:
        """Save a checkpoint; return None in processes that do not write."""
        epoch = validate_position(epoch, "epoch", warn)
        step = validate_position(step, "step", warn)
        new = NewCheckpoint(
            id=new_id(),
            notebook_id="",
            epoch=0,
            step=0,
            metrics=normalize_metrics(metrics, warn),
            tags=validate_tags(tags),
        )
        if hasattr(model, "param_groups"):
            raise TypeError(
                f"model is an optimizer ({type(model).__name__}); give the model first, then the "
                "optimizer"
            )
        parts = distributed.encode_together(model, optimizer, extra, epoch=epoch, step=step)
        if parts is None:
            return None
        site = call_site()
        with self.tracker.lock:
            training, run, repeated = self._select_run(
                site, epoch, step, model, parts, new, overwrite=overwrite
            )
            replaces = overwrite
            if repeated is not None:
                epoch, step = repeated.epoch, repeated.step
                if _adds_state(parts, repeated.record):
                    replaces = True
                    new.metrics = merge_metrics(repeated.record.metrics, new.metrics)
                    new.tags = list(dict.fromkeys([*repeated.record.tags, *new.tags]))
                elif self._add_metrics(repeated, new, parts):
                    run.position.advance(epoch, step, site.execution)
                    return repeated
            new.epoch, new.step = run.position.next(epoch, step, overwrite=overwrite)
            new.notebook_id, new.run_id = run.notebook_id, run.record.id
            write_states(self.tracker.states, new, parts)
            try:
                added = self.tracker.add_checkpoint(run.record, new, overwrite=replaces)
            except Conflict:
                if overwrite:  # the checkpoint that it would replace is pinned
                    self.tracker.states.remove_checkpoint(new.notebook_id, str(new.id))
                    raise
                # An interrupted call has already recorded this point, or its checkpoint is pinned.
                run.end(RunStatus.COMPLETED)
                training, run = self._begin_next(site, run, run.notebook_id)
                new.run_id = run.record.id
                added = self.tracker.add_checkpoint(run.record, new, overwrite=False)
            run.position.advance(new.epoch, new.step, site.execution)
            run.last, run.last_cell = added, site.cell
            if model is not None:
                self._registry.note_model(site, training, model)
            return added

    def _select_run(
        self,
        site: CallSite,
        epoch: int | None,
        step: int | None,
        model: Any,
        parts: dict[Part, EncodedState],
        new: NewCheckpoint,
        *,
        overwrite: bool,
    ) -> tuple[Training, ActiveRun, Checkpoint | None]:
        """Return a checkpoint's training and run, and the run's last checkpoint if it repeats that.

        ============================  ============================================
        the checkpoint                belongs to
        ============================  ============================================
        has no run here               a run that begins
        comes after the last one      the same run
        repeats the last one          the same run, and is merged into the last one
        comes before the last one     the run that follows
        replaces (``overwrite``)      the same run
        ============================  ============================================
        """
        notebook_id = self.tracker.notebook_id()
        training = self._registry.find(site, model)
        run = None if training is None else training.run
        if run is not None and run.is_over():
            training = run = None
        if training is None:
            training = self._registry.begin(site, None)
        if run is None:
            return training, self._begin(site, training, notebook_id), None
        relation = "after" if overwrite else run.position.compare(epoch, step, site.execution)
        repeated = run.last if relation == "same" else None
        if repeated is not None and not _is_same_point(training, repeated, model, parts, new):
            relation = "before"
        if relation == "before":
            self._end_followed(site, training, run, model)
            return *self._begin_next(site, run, notebook_id or run.notebook_id), None
        self._continue(site, run)
        return training, run, repeated

    def _end_followed(self, site: CallSite, training: Training, run: ActiveRun, model: Any) -> None:
        """End a run that another one follows, unless its own model may still be trained."""
        if site.execution == run.position.execution:
            print_message(
                "A new run begins, because this checkpoint does not come after epoch "
                f"{run.position.epoch}, step {run.position.step} of run {run.record.id[:8]}. "
                "To decide where runs begin, call resume(…, key=…) before each training."
            )
        known = training.model
        is_other = model is not None and known is not None and not training.trains(model)
        if not (is_other and known is not None and known.is_alive):
            run.end(RunStatus.COMPLETED)

    def _begin_next(
        self, site: CallSite, previous: ActiveRun, notebook_id: str
    ) -> tuple[Training, ActiveRun]:
        """Begin the run that follows ``previous``, with its key and cell as far as they apply."""
        is_same_cell = previous.last_cell is not None and previous.last_cell == site.cell
        is_same_execution = previous.position.execution == site.execution
        training = self._registry.begin(
            site,
            previous.record.key if is_same_execution else None,
            cell=previous.record.cell if is_same_cell else None,
        )
        return training, self._begin(site, training, notebook_id)

    def _begin(
        self,
        site: CallSite,
        training: Training,
        notebook_id: str | None,
        parent: NotebookCheckpoint | None = None,
    ) -> ActiveRun:
        training.run = ActiveRun(self.tracker, training.identity, notebook_id, parent)
        self._continue(site, training.run)
        return training.run

    def _continue(self, site: CallSite, run: ActiveRun) -> None:
        self._registry.run_ids(site).add(run.record.id)
        run.activate()

    def _add_metrics(
        self, last: Checkpoint, new: NewCheckpoint, parts: dict[Part, EncodedState]
    ) -> bool:
        """Add metrics and tags to a run's last checkpoint; return False if it is gone."""
        if "model" in parts and not _has_state(last, parts["model"]):
            distributed.print_once(
                "The state that was saved first at an epoch and step is kept. To replace it, pass "
                "overwrite=True."
            )
        return self.tracker.add_metrics(last, new.metrics, new.tags)

    # Resuming

    def resume(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        *,
        force: bool,
        run: str | None,
        key: str | None,
        checkpoint_id: str | None,
        in_place: bool,
        trusted: bool,
    ) -> Checkpoint | None:
        """Begin a training, and resume an unfinished run if there is one."""
        site, is_named = call_site(), run is not None or checkpoint_id is not None
        with self.tracker.lock:
            training = None if is_named else self._announced(site, key, model)
            parent = None if training is None or training.run is None else training.run.parent
            if training is None:
                training = self._begin_training(
                    site, key, model, goes_back=checkpoint_id is not None
                )
        request = ResumeRequest(
            training.identity,
            run=run,
            force=force,
            wants_state=model is not None,
            excluded=self._registry.run_ids(site),
        )

        def find() -> NotebookCheckpoint | None:
            if parent is not None:
                return parent
            try:
                return self._find_resumable(training, request, checkpoint_id)
            except Exception as error:
                if force or is_named:
                    raise
                warn(
                    f"Cannot check whether there is a run to resume: {error}. Training starts "
                    "from the beginning, and existing runs are not changed. To resume one when the "
                    "store is available, name it: resume(…, run=…)"
                )
                return None

        found, call = distributed.decide(find)
        if found is None:
            return None
        resumed = Checkpoint(found, self.tracker.states)
        try:
            with distributed.agreement(call):
                resumed.resume_into(model, optimizer, extra, in_place=in_place, trusted=trusted)
        except InvalidData as error:
            reason = f"{error.reason}. To train from the beginning, run this once without resume()"
            raise InvalidData(error.path, reason) from error
        if distributed.is_first():
            if parent is None:
                with self.tracker.lock:
                    self._begin_resumed(site, training, found)
            print_message(f"Resumed from {format_checkpoint(found)}.")
        return resumed

    def _announced(self, site: CallSite, key: str | None, model: Any) -> Training | None:
        """Return the training that an earlier ``resume`` began, if it made no checkpoint since."""
        last = self._registry.last(site)
        if last is None or not last.is_fresh:
            return None
        if (last.identity.execution, last.identity.key) != (site.execution, key):
            return None
        if last.run is not None and last.model is not None and not last.trains(model):
            return None
        if model is not None:
            last.model = ModelReference(model)
        return last

    def _begin_training(
        self, site: CallSite, key: str | None, model: Any, *, goes_back: bool
    ) -> Training:
        """Begin a training, and end the one before it."""
        last = self._registry.last(site)
        if last is not None and last.run is not None and not last.run.is_over():
            last.run.end(RunStatus.STOPPED if goes_back else RunStatus.COMPLETED)
        training = self._registry.announce(site, key, model)

        def remove_if_failed(error: BaseException | None) -> None:
            if error is not None and training.run is None:
                self._registry.remove(training)

        on_training_end(remove_if_failed)
        return training

    def _find_resumable(
        self, training: Training, request: ResumeRequest, checkpoint_id: str | None
    ) -> NotebookCheckpoint | None:
        identity = training.identity
        with self.tracker.lock:
            self.tracker.recover()
            if checkpoint_id is None:
                found, key = self.tracker.find_resumable(request)
                training.identity = identity._replace(key=key)
                return found
            found = self.tracker.find_checkpoint(checkpoint_id)
            for run in self._registry.runs():
                # The training goes back to an earlier point of its own.
                if run.record.id == found.run_id and found.run_id in request.excluded:
                    ordinal, key = run.record.ordinal or 0, identity.key or run.record.key
                    training.identity = identity._replace(ordinal=ordinal, key=key)
            return found

    def _begin_resumed(
        self, site: CallSite, training: Training, parent: NotebookCheckpoint
    ) -> None:
        # A checkpoint of another notebook is a starting point; only runs of one notebook are
        # linked.
        notebook_id = self.tracker.notebook_id(at_once=True)
        is_own = parent.notebook_id == notebook_id
        run = self._begin(site, training, notebook_id, parent if is_own else None)
        run.position.resume(parent.epoch, parent.step)
        run.is_trained_here = mentions_checkpoint()


def _is_same_point(
    training: Training,
    last: Checkpoint,
    model: Any,
    parts: dict[Part, EncodedState],
    new: NewCheckpoint,
) -> bool:
    """Return whether a checkpoint with the epoch and step of the last one repeats it.

    If not, another training has reached the same epoch and step, such as the next trial of a
    hyperparameter search, which has another model and other metrics.
    """
    recorded, given = flatten_metrics(last.metrics), flatten_metrics(new.metrics)
    differs = any(name in recorded and recorded[name] != value for name, value in given.items())
    if "model" not in (last.record.digests or {}):
        return model is not None or not differs
    if model is None:
        return not differs
    if _has_state(last, parts["model"]):
        return True
    if training.trains(model):
        return not differs
    if training.model is not None and training.model.is_whole:
        return False
    return bool(recorded) and bool(given) and not differs


def _adds_state(parts: dict[Part, EncodedState], last: NotebookCheckpoint) -> bool:
    """Return whether ``parts`` has a state of a kind that the last checkpoint lacks."""
    saved = last.digests or {}
    return bool(parts) and ("model" not in saved if "model" in parts else not saved)


def _has_state(checkpoint: Checkpoint, state: EncodedState) -> bool:
    """Return whether a checkpoint has exactly this state of a model."""
    digest = hashlib.sha256()
    for chunk in state.chunks():
        digest.update(chunk)
    return digest.hexdigest() == (checkpoint.record.digests or {}).get("model")
