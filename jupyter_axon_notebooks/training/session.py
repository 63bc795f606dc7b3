"""The session of a process: it assigns each call of the notebook API to a training and its run."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import Conflict, InvalidData, NotFound, StoreError
from ..metrics import (
    describe_direction,
    direction,
    flatten_metrics,
    limit_nonfinite,
    merge_metrics,
    suggest_names,
    to_float,
)
from ..printable import printable, shorten
from ..records import (
    ConfigSource,
    MetricSummary,
    NewCheckpoint,
    NotebookCheckpoint,
    RunStatus,
    TrainingNotebook,
    TrainingRun,
    UpdateRun,
    new_id,
)
from ..repository.script import to_python
from ..repository.series import MAX_NAME
from ..stores import find_settings
from . import distributed
from .checkpoint import Checkpoint, CheckpointList, write_states
from .display import format_checkpoint
from .execution import (
    current_execution,
    executed_cells,
    mentions_checkpoint,
    namespace,
    on_training_end,
    site_key,
)
from .messages import AxonWarning, print_message, warn
from .processes import LEASE
from .resuming import UNKNOWN_RUN, LeaseUndecided, ResumeRequest, name_run
from .run import ActiveRun, RunIdentity
from .run_config import CodeCell, derive_config
from .tracker import LocalTracker, Tracker
from .training_registry import CallSite, ModelReference, Training, TrainingRegistry, call_site
from .validation import (
    MAX_POSITIONS,
    normalize_metrics,
    validate_checkpoint_id,
    validate_key,
    validate_limit,
    validate_metric_name,
    validate_mode,
    validate_path_or_id,
    validate_position,
    validate_run,
    validate_string,
    validate_tags,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..repository.run_queries import FoundRun
    from ..repository.runs import GivenFields
    from ..series import Series
    from ..states import Part
    from .formats import EncodedState

#: The first line of the cell that papermill injects.
_PARAMETERS: Final = re.compile(r"\s*# Parameters\s*\n")
_FLOAT: Final = frozenset((float,))
_STR: Final = frozenset((str,))
#: Seconds between two looks at a run whose lease may be renewed.
_POLL_INTERVAL: Final = 1.0

_current: tuple[int, Session] | None = None
_current_lock = threading.Lock()


def _renew_lock() -> None:
    global _current_lock
    _current_lock = threading.Lock()  # another thread may have held it when the process was forked


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


def current_session() -> Session:
    """Return the session of this process; a forked process gets its own."""
    global _current
    found, pid = _current, os.getpid()
    if found is not None and found[0] == pid:
        return found[1]
    with _current_lock:
        if _current is None or _current[0] != pid:
            _current = pid, Session(LocalTracker(find_settings()))
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
        #: The runs that were logged to, by where from: finding the run takes longer than logging.
        self._recent: dict[Any, tuple[ActiveRun, Any]] = {}
        #: The process that was found to log: reading the environment takes longer than logging.
        self._logging_pid: int | None = None
        self._reported_directions: set[str] = set()
        self._given_advice: set[str] = set()
        self._warnings: set[str] = set()
        self._warnings_execution: Any = None
        atexit.register(tracker.close)

    def use(self, path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
        """Set which notebook is trained, and complete the run of another one."""
        path_or_id = validate_path_or_id(path_or_id)
        with self.tracker.lock:
            record = self.tracker.use(path_or_id)
            training = self._registry.last(call_site())
            run = None if training is None else training.run
            is_other = run is not None and run.notebook_id != record.id
            if training is not None and run is not None and is_other and not run.is_provisional:
                run.end(RunStatus.COMPLETED)
                self._registry.remove(training)
            return record

    def notebook(self) -> TrainingNotebook:
        """Return the record of the notebook."""
        with self.tracker.lock:
            return self.tracker.notebook()

    def end(self, status: RunStatus) -> None:
        """End all runs that are still running."""
        with self.tracker.lock:
            for run in list(self._registry.runs.values()):
                run.end(status)

    # Runs and logged values

    def start_run(self, **fields: Unpack[GivenFields]) -> ActiveRun:
        """End the run that is trained here, and begin one, or continue the one just resumed."""
        site = call_site()
        if not distributed.is_first():  # only the first rank records
            return ActiveRun(self.tracker, RunIdentity(site.execution, 0), None, **fields)
        with self.tracker.lock:
            last = self._registry.last(site)
            if last is not None and last.run is None:
                return self._begin_early(site, last, self.tracker.notebook_id(), None, **fields)
            if last is not None and last.run is not None and last.run.is_unused:
                self._set_fields(last.run, fields)
                self._continue(site, last.run)
                return last.run
            if last is not None and last.run is not None:
                last.run.end(RunStatus.COMPLETED)
            training = self._registry.begin(site, None)
            self._registry.count_training(site, training)
            self._recent.clear()
            return self._begin_early(site, training, self.tracker.notebook_id(), None, **fields)

    def log(self, metrics: Any, *, step: Any, epoch: Any, run: ActiveRun | None = None) -> None:
        """Log values of a run, by default of the one that is trained here; never fails."""
        if self._logging_pid != os.getpid() or distributed.has_process_group():
            if not distributed.is_first():
                return
            self._logging_pid = os.getpid()
        try:
            self._log(metrics, step, epoch, run)
        except AxonWarning:  # the user turned warnings into errors
            raise
        except Exception as error:  # noqa: BLE001 - no error of tracking may stop a training
            self._warn_once(f"values are not logged: {type(error).__name__}: {error}")

    def _log(self, metrics: Any, step: Any, epoch: Any, run: ActiveRun | None) -> None:
        step = self._validate_logged(step, "step")
        epoch = self._validate_logged(epoch, "epoch")
        values = self._flatten(metrics, epoch)
        if not values:
            return
        if run is not None:
            if not run.has_final_config:
                with self.tracker.lock, self.tracker.briefly():
                    self._complete_config(run)
            execution = current_execution()
            with run.log_lock:
                placed = run.log_position.place(values, step, epoch, execution)
                if placed is None:  # the caller chose the run
                    placed = run.log_position.place(values, None, None, execution)
                    if step is not None:
                        self._warn_once(
                            f"step {step} of {run.record.display_name} is before steps that were "
                            f"logged; the values are stored at step {placed}"
                        )
                self._append(run, values, int(placed or 0), epoch, execution)
            return
        key, is_other = site_key(), False
        recent = self._recent.get(key)
        if recent is not None and recent[0].record.status is RunStatus.RUNNING:
            run, execution = recent
            with run.log_lock:
                placed = run.log_position.place(values, step, epoch, execution)
                is_other = placed is not None and self._is_other_trial(run, values, placed)
                if placed is not None and not is_other:
                    self._append(run, values, placed, epoch, execution)
                    return
        with self.tracker.lock, self.tracker.briefly():
            run, execution = self._run_to_log(values, step, epoch, is_other=is_other)
        with run.log_lock:
            placed = run.log_position.place(values, step, epoch, execution)
            self._append(run, values, int(placed or 0), epoch, execution)
        self._recent = {key: (run, execution)} if len(self._recent) > 64 else self._recent
        self._recent[key] = run, execution

    def _set_fields(self, run: ActiveRun, fields: GivenFields) -> None:
        # An empty configuration was given, too: it replaces a derived one.
        given: dict[str, Any] = {
            name: value for name, value in fields.items() if value or value == {}
        }
        for name, value in given.items():
            setattr(run.record, name, value)
        run.has_final_config = run.has_final_config or "config" in given
        self.tracker.update_run(run.record, UpdateRun(**given), is_training=True)

    def _complete_config(self, run: ActiveRun) -> None:
        """Derive the configuration of a run again at its first point."""
        if not run.has_final_config:
            run.has_final_config = True
            if run.record.config_source is ConfigSource.GIVEN:  # by run.config.update()
                return
            config, source = _derive_config()
            if config and config != run.record.config:
                self._set_fields(run, {"config": config, "config_source": source})

    def _append(
        self,
        run: ActiveRun,
        values: dict[str, float],
        step: int,
        epoch: int | None,
        execution: Any,
    ) -> None:
        replaced = run.log(values, step, epoch, execution)
        if replaced is not None:
            self._warn_once(
                f"{printable(replaced)} is logged again at the same step, and only the last value "
                "is kept. If another training begins, call start_run() before it; otherwise log "
                "each value at a step of its own"
            )

    def _validate_logged(self, value: Any, name: Literal["step", "epoch"]) -> int | None:
        """Return a step or an epoch; warn of what is none, since logging never fails."""
        if value is None or (type(value) is int and 0 <= value <= MAX_POSITIONS[name]):
            return value
        try:
            return validate_position(value, name, self._warn_once)
        except (TypeError, ValueError, OverflowError) as error:
            self._warn_once(f"{name}: {error}. It is treated as omitted")
            return None

    def update_run(self, record: TrainingRun, updates: UpdateRun, *, is_training: bool) -> None:
        """Change a run; it is changed here at once, and in the store."""
        with self.tracker.lock:
            if distributed.is_first() or not is_training:
                self.tracker.update_run(record, updates, is_training=is_training)
            for name in updates.__struct_fields__:
                if (value := getattr(updates, name)) is not None:
                    setattr(record, name, value or None if isinstance(value, str) else value)

    def finish_run(self, run: ActiveRun, status: RunStatus) -> None:
        """End a run of this process."""
        if not distributed.is_first():
            run.record.status = status
            return
        with self.tracker.lock:
            run.end(status)
            for training in self._registry.trainings():
                if training.run is run:
                    self._registry.remove(training)

    def series(self, record: TrainingRun, run: ActiveRun | None, name: str) -> Series:
        """Return the values of a metric, with those that the store lacks yet."""
        from ..series import concatenate, merge_steps
        from ..store.series_table import columns

        unstored = [] if run is None else run.unstored_rows()
        with self.tracker.lock:
            stored = self.tracker.read_series(record, name)
        added = columns(unstored).get(name)
        parts = [stored] if added is None else [stored, type(stored).of(*added)]
        found = merge_steps(concatenate(parts))
        if not len(found):
            known = {*(record.metrics or {}), *columns(unstored)}
            hint = suggest_names(name, sorted(known))
            reason = f"{record.display_name} has no values of {name}{hint}"
            raise NotFound("metric", name, printable(reason))
        return found

    def metrics(self, record: TrainingRun, run: ActiveRun | None) -> dict[str, MetricSummary]:
        """Return the summaries of a run's metrics, with the values that the store lacks yet."""
        from ..store.run_index import extend_summary
        from ..store.series_table import columns

        unstored = columns([] if run is None else run.unstored_rows())
        try:
            with self.tracker.lock:
                found = self.tracker.read_metrics(record)
        except StoreError:
            if run is None:
                raise
            found = {}
        for name, (steps, values, _) in unstored.items():
            found[name] = extend_summary(found.get(name), steps, values)
        return found

    def runs(self, where: str, sort: str, limit: int | None, *, everywhere: bool) -> list[FoundRun]:
        """Return recorded runs of this notebook, or of all."""
        limit = validate_limit(limit)
        validate_string(where, "where", "a filter, such as 'val_acc > 0.9', or an empty string")
        validate_string(sort, "sort", "a name, such as '-val_acc'")
        self.tracker.flush_logs()  # without the lock, which the thread that stores rows may need
        with self.tracker.lock:
            return self.tracker.search_runs(where, sort, limit, everywhere=everywhere)

    def _flatten(self, metrics: Any, epoch: int | None) -> dict[str, float]:
        """Return logged metrics as floats by name; warn of what is no number."""
        # The usual case is decided without a loop in Python.
        if (
            type(metrics) is dict
            and _FLOAT.issuperset(map(type, metrics.values()))
            and _STR.issuperset(map(type, metrics))
            and max(map(len, metrics), default=0) <= MAX_NAME
        ):
            values = dict(metrics)
        else:
            normalized = normalize_metrics(metrics, self._warn_once)
            values = {}
            for name in normalized:
                if len(name) > MAX_NAME:
                    self._warn_once(
                        f"the metric {shorten(printable(name), 50)} is not logged: its name has "
                        f"{len(name):,} characters; at most {MAX_NAME:,} are logged"
                    )
            for name, value in flatten_metrics(normalized).items():
                if isinstance(value, (int, float)):
                    values[name] = to_float(value)
                else:
                    self._warn_once(f"the metric {printable(name)} is no number; it is not logged")
        if epoch is not None:
            values.setdefault("epoch", float(epoch))
        return values

    def _is_other_trial(self, run: ActiveRun, values: dict[str, float], step: int) -> bool:
        """Return whether values that repeat a step are those of another configuration.

        That takes long, and is found out once for each run.
        """
        if run.has_repeated or not run.log_position.has(values, step):
            return False
        run.has_repeated = True
        return _has_other_config(run)

    def _run_to_log(
        self, values: dict[str, float], step: int | None, epoch: int | None, *, is_other: bool
    ) -> tuple[ActiveRun, Any]:
        """Return the run that values belong to, and the execution.

        A run begins if there is none, if the values go back, or if they are those of another
        configuration. That is certain if the caller says so, and is found out if a cell that logs
        without positions is executed again.
        """
        site = call_site()
        training = self._registry.find(site, None)
        run = None if training is None else training.run
        if run is not None and run.is_over():
            run.end(RunStatus.COMPLETED)
            training = run = None
        if training is not None and run is not None:
            position = "step" if epoch is None or step is not None else "epoch"
            if is_other or (
                site.cell is not None
                and run.log_cell == site.cell
                and run.log_position.execution != site.execution
                and step is None
                and epoch is None
                and _has_other_config(run)
            ):
                reason = "the configuration is not that"
            elif run.log_position.place(values, step, epoch, site.execution) is None:
                reason = f"the logged {position} comes before the last ones"
            else:
                run.log_cell = site.cell
                self._continue(site, run)
                self._complete_config(run)
                return run, site.execution
            self._print_with_advice(
                f"A new run begins, because {reason} of {run.record.display_name}.",
                "To decide where runs begin, call start_run().",
            )
            run.end(RunStatus.COMPLETED)
            notebook_id = self.tracker.notebook_id() or run.notebook_id
            run = self._begin_next(site, run, notebook_id)[1]
        else:
            if training is None:
                training = self._registry.begin(site, None)
                self._registry.count_training(site, training)
            run = self._begin(site, training, self.tracker.notebook_id())
        run.log_cell = site.cell
        return run, site.execution

    def _print_with_advice(self, text: str, advice: str) -> None:
        """Print a message; the advice follows it the first time only, since a loop repeats it."""
        print_message(text if advice in self._given_advice else f"{text} {advice}")
        self._given_advice.add(advice)

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
        run: ActiveRun | None = None,
    ) -> Checkpoint | None:
        """Save a checkpoint, by default of the run that is trained here.

        Returns None in processes that do not write.
        """
        epoch = validate_position(epoch, "epoch", self._warn_once)
        step = validate_position(step, "step", self._warn_once)
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
                f"model is an optimizer ({type(model).__name__}); give the model first, then the "
                "optimizer"
            )
        parts = distributed.encode_together(model, optimizer, extra, epoch=epoch, step=step)
        if parts is None:
            return None
        site = call_site()
        with self.tracker.lock:
            if run is None:
                training, run, is_same_point = self._select_run(
                    site, epoch, step, model, parts, new, overwrite=overwrite
                )
            else:
                training = self._continue_given(site, run)
                relation = "after"
                if not overwrite:
                    relation = run.position.compare(epoch, step, site.execution)
                is_same_point = (
                    relation == "same"
                    and run.last is not None
                    and _is_same_point(training, run.last, model, parts, new)
                )
                if relation != "after" and not is_same_point:  # the caller chose the run
                    step = None
                    self._warn_once(
                        f"{run.record.display_name} has a checkpoint at this epoch and step, or a "
                        "later one; the new one is saved at the next step"
                    )
            self._complete_config(run)
            adds_state = False
            if is_same_point and run.last is not None:
                last = run.last
                adds_state = _adds_state(parts, last.record)
                if adds_state:
                    new.metrics = merge_metrics(last.record.metrics, new.metrics)
                    new.tags = list(dict.fromkeys([*last.record.tags, *new.tags]))
                elif self._add_metrics(run, last, new, parts):
                    run.position.advance(last.epoch, last.step, site.execution)
                    run.pruner.prune(last)
                    return last
                epoch, step = last.epoch, last.step
            if step is None and not overwrite:
                step = run.step_to_save()
            new.epoch, new.step = run.position.next(epoch, step, overwrite=overwrite)
            new.metrics = run.with_logged(new.metrics)
            new.notebook_id, new.run_id = run.notebook_id, run.record.id
            self._write_states(new, parts)
            try:
                made = self.tracker.add_checkpoint(
                    run.record, new, overwrite=overwrite or adds_state
                )
            except Conflict:
                if overwrite:  # the checkpoint that it would replace is pinned
                    self.tracker.states.remove_checkpoint(new.notebook_id, str(new.id))
                    raise
                # An interrupted call has already recorded this point, or its checkpoint is pinned.
                run.end(RunStatus.COMPLETED)
                training, run = self._begin_next(site, run, run.notebook_id)
                new.run_id = run.record.id
                made = self.tracker.add_checkpoint(run.record, new, overwrite=False)
            run.position.advance(new.epoch, new.step, site.execution)
            run.log_saved(new, site.execution)
            run.last, run.last_cell = made, site.cell
            if model is not None:
                self._registry.note_model(site, training, model)
            run.pruner.prune(made)
            return made

    def _warn_once(self, text: str) -> None:
        """Warn the user, once per execution of a cell."""
        if (execution := current_execution()) != self._warnings_execution:
            self._warnings, self._warnings_execution = set(), execution
        if text not in self._warnings:
            self._warnings.add(text)
            warn(text)

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
    ) -> tuple[Training, ActiveRun, bool]:
        """Return a checkpoint's training and run, and whether it repeats the run's last point."""
        training = self._registry.find(site, model)
        run = None if training is None else training.run
        previous: ActiveRun | None = None
        is_same_point = False
        if run is not None and run.is_over():
            run.end(RunStatus.COMPLETED)
            training = run = None
        if training is not None and run is not None and not overwrite:
            relation = run.position.compare(epoch, step, site.execution)
            if relation == "same" and run.last is not None:
                is_same_point = _is_same_point(training, run.last, model, parts, new)
                relation = "same" if is_same_point else "before"
            if relation == "before":
                self._leave(site, training, run, model)
                previous, training, run = run, None, None
        notebook_id = self.tracker.notebook_id()
        if run is not None and notebook_id is not None and notebook_id != run.notebook_id:
            if run.is_provisional:
                run.move(notebook_id)
            elif not self.tracker.has_notebook(run.notebook_id):
                run.end(RunStatus.COMPLETED)
                training = run = None
            # Otherwise the run stays in its record, even if the notebook has another name now.
        if training is not None and run is not None:
            self._continue(site, run)
            return training, run, is_same_point
        if previous is not None:
            return *self._begin_next(site, previous, notebook_id or previous.notebook_id), False
        if training is None:
            training = self._registry.begin(site, None)
        return training, self._begin(site, training, notebook_id), False

    def _continue_given(self, site: CallSite, run: ActiveRun) -> Training:
        """Continue a run that the caller chose, and return its training."""
        notebook_id = self.tracker.notebook_id()
        if run.is_provisional and notebook_id is not None:
            run.move(notebook_id)
        self._continue(site, run)
        known = (training for training in self._registry.trainings() if training.run is run)
        return next(known, None) or Training(RunIdentity(site.execution, 0), run)

    def _leave(self, site: CallSite, training: Training, run: ActiveRun, model: Any) -> None:
        """Stop using a run; end it unless its model may still be trained next to another one."""
        if site.execution == run.position.execution:
            self._print_with_advice(
                "A new run begins, because this checkpoint does not come after epoch "
                f"{run.position.epoch}, step {run.position.step} of {run.record.display_name}.",
                "To decide where runs begin, call resume(…, key=…) before each training.",
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
        **fields: Unpack[GivenFields],
    ) -> ActiveRun:
        if fields.get("config") is None:
            fields["config"], fields["config_source"] = _derive_config()
        training.run = ActiveRun(
            self.tracker, training.identity, notebook_id, parent, training.skipped_run_id, **fields
        )
        self._continue(site, training.run)
        return training.run

    def _begin_early(
        self,
        site: CallSite,
        training: Training,
        notebook_id: str | None,
        parent: NotebookCheckpoint | None,
        **fields: Unpack[GivenFields],
    ) -> ActiveRun:
        """Begin a run before its first point: hyperparameters may be assigned in between."""
        run = self._begin(site, training, notebook_id, parent, **fields)
        run.has_final_config = fields.get("config") is not None
        return run

    def _continue(self, site: CallSite, run: ActiveRun) -> None:
        self._registry.note_run(site, run)
        run.activate()

    def _add_metrics(
        self, run: ActiveRun, last: Checkpoint, new: NewCheckpoint, parts: dict[Part, EncodedState]
    ) -> bool:
        """Add metrics and tags to a run's last checkpoint; return False if it is gone."""
        is_reported = run.has_reported_kept_state or "model" not in parts
        if not is_reported and not _has_state(last, parts["model"]):
            run.has_reported_kept_state = True
            print_message(
                f"The state that was saved first at epoch {last.epoch}, step {last.step} is kept. "
                "To replace it, pass overwrite=True."
            )
        return self.tracker.add_metrics(last, new.metrics, new.tags)

    def _write_states(self, new: NewCheckpoint, parts: dict[Part, EncodedState]) -> None:
        """Write the states of a checkpoint, and set their paths, digests and sizes."""
        if not parts:
            return
        new.format = next(iter(parts.values())).format
        stored = write_states(self.tracker.states, new.notebook_id, str(new.id), parts)
        for part, state in stored.items():
            setattr(new, f"{part}_state_path", state.path)
        new.digests = {part: state.digest for part, state in stored.items()}
        new.sizes = {part: state.size for part, state in stored.items()}

    # Resuming

    def resume(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        *,
        force: bool,
        run: str | float | None,
        key: str | float | None,
        checkpoint: str | Checkpoint | None,
        in_place: bool,
        trusted: bool,
    ) -> Checkpoint | None:
        """Begin a training, and resume an unfinished run if there is one."""
        if run is not None and checkpoint is not None:
            raise ValueError("give run or checkpoint, not both: a checkpoint belongs to one run")
        key, run, site = validate_key(key), validate_run(run), call_site()
        id = None if checkpoint is None else _checkpoint_id(checkpoint)
        with self.tracker.lock:
            training, parent = self._announce(site, key, model, run=run, checkpoint_id=id)
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
                return self._find_resumable(training, request, id)
            except Exception as error:
                if force or run is not None or checkpoint is not None:
                    raise
                training.skipped_run_id = UNKNOWN_RUN
                warn(
                    f"Cannot check whether there is a run to resume: {error}. Training starts "
                    "from the beginning, and existing runs are not changed. To resume a run, stop "
                    "this training, and start it again when the store is available"
                )
                return None

        found, call = distributed.decide(find)
        if found is None:
            self._note_identity(training, None)
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

    def _announce(
        self,
        site: CallSite,
        key: str | None,
        model: Any,
        *,
        run: str | None,
        checkpoint_id: str | None,
    ) -> tuple[Training, NotebookCheckpoint | None]:
        """Return the training that begins, and end the one before it.

        If the training was announced before and no checkpoint was made since, also return the
        checkpoint that it was resumed from then.
        """
        last = self._registry.last(site)
        if last is not None and last.is_fresh and run is None and checkpoint_id is None:
            is_same = (last.identity.execution, last.identity.key) == (site.execution, key)
            if is_same and (last.run is None or last.model is None or last.trains(model)):
                last.model = last.model if model is None else ModelReference(model)
                return last, None if last.run is None else last.run.parent
        if last is not None and last.run is not None and last.run.is_new and not last.run.is_over():
            self._registry.announce_started(site, last, key, model)
            return last, None
        if last is not None and last.run is not None and not last.run.is_over():
            goes_back = checkpoint_id is not None and last.run.record.status is RunStatus.RUNNING
            last.run.end(RunStatus.STOPPED if goes_back else RunStatus.COMPLETED)
        training = self._registry.announce(site, key, model)

        def remove_if_failed(error: BaseException | None) -> None:
            if error is not None and training.run is None:
                self._registry.remove(training)

        on_training_end(remove_if_failed)
        return training, None

    def _find_resumable(
        self, training: Training, request: ResumeRequest, checkpoint_id: str | None
    ) -> NotebookCheckpoint | None:
        """Return the checkpoint to resume from; waits if only a lease shows that a run is alive."""
        while True:
            try:
                with self.tracker.lock:
                    self.tracker.recover()
                    if checkpoint_id is not None:
                        return self._find_checkpoint(training, request, checkpoint_id)
                    found = self.tracker.find_resumable(request)
                    training.identity = training.identity._replace(key=found.key)
                    training.skipped_run_id = found.skipped_run_id
                    return found.checkpoint
            except LeaseUndecided as undecided:
                is_alive = self._wait_for_renewal(undecided)
                (request.alive if is_alive else request.ended).add(undecided.run.id)

    def _find_checkpoint(
        self, training: Training, request: ResumeRequest, id: str
    ) -> NotebookCheckpoint:
        found = self.tracker.find_checkpoint(id)
        own = found.run_id in request.excluded
        before = self._registry.runs.get(found.run_id or "") if own else None
        if before is not None:  # the training goes back to an earlier point of its own
            training.identity = training.identity._replace(
                ordinal=before.record.ordinal or 0, key=training.identity.key or before.record.key
            )
        return found

    def _wait_for_renewal(self, undecided: LeaseUndecided) -> bool:
        """Return whether a run turns out to be alive, because its lease is renewed."""
        run, timeout = undecided.run, LEASE.total_seconds()
        print_message(
            f"{name_run(run)} was training{undecided.whereabouts} a moment ago. Waiting for up "
            f"to {timeout:.0f} s to find out whether it is still training. Interrupt to stop "
            "waiting."
        )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)
            try:
                with self.tracker.lock:
                    found = self.tracker.get_run(run.notebook_id, run.id)
            except StoreError:
                return False
            if found is None or found.status is not RunStatus.RUNNING:
                return False
            if found.lease_until != run.lease_until:
                return True
        return False

    def _begin_resumed(
        self, site: CallSite, training: Training, parent: NotebookCheckpoint
    ) -> None:
        # A checkpoint of another notebook is a starting point; only runs of one notebook are
        # linked.
        notebook_id = self.tracker.notebook_id(at_once=True)
        own_parent = parent if parent.notebook_id == notebook_id else None
        keep = None if own_parent is None else self._find_keep(own_parent)
        if training.run is None:
            run = self._begin_early(site, training, notebook_id, own_parent, keep=keep)
        else:
            run = training.run
            self._note_identity(training, own_parent)
            if run.record.keep is None:
                self._set_fields(run, {"keep": keep})
            self._continue(site, run)
        run.position.resume(parent.epoch, parent.step)
        run.log_position.resume(parent.epoch, parent.step)
        run.is_trained_here = mentions_checkpoint()

    def _find_keep(self, parent: NotebookCheckpoint) -> str | None:
        """Return the rules by which the run of a checkpoint is pruned."""
        with suppress(StoreError):
            resumed = self.tracker.get_run(parent.notebook_id, parent.run_id or "")
            return None if resumed is None else resumed.keep
        return None

    def _note_identity(self, training: Training, parent: NotebookCheckpoint | None) -> None:
        """Record what ``resume`` has found out about a run that ``start_run`` has begun."""
        run = training.run
        if run is None or not run.is_new or not distributed.is_first():
            return
        with self.tracker.lock:
            run.record.skipped_run_id = training.skipped_run_id
            if parent is not None or run.record.key != training.identity.key:
                run.parent = parent
                run.record.parent_checkpoint_id = None if parent is None else parent.id
                run.record.key = training.identity.key
                self.tracker.set_parent(run.record)

    # Questions

    def best(
        self,
        metric: str,
        mode: Literal["min", "max"] | None,
        run: str | float | None,
        *,
        everywhere: bool,
    ) -> Checkpoint:
        """Return the checkpoint with the best value of a metric."""
        run = validate_run(run)
        if run is not None and everywhere:
            raise ValueError("run is of this notebook: pass either run or all=True")
        metric = validate_metric_name(metric)
        validate_mode(mode)
        known = mode or direction(metric)
        with self.tracker.lock:
            found = self.tracker.best_checkpoint(metric, known or "max", run, everywhere=everywhere)
        if known is None:
            raise ValueError(
                f"cannot tell whether lower or higher values of {printable(metric)} are better; "
                'pass mode="min" or mode="max"'
            )
        if mode is None and metric not in self._reported_directions:
            self._reported_directions.add(metric)
            print_message(f"The best {metric}: {describe_direction(known)}.")
        return found

    def checkpoints(self, limit: int | None, run: str | float | None) -> CheckpointList:
        """Return the checkpoints, newest first."""
        limit, run = validate_limit(limit), validate_run(run)
        with self.tracker.lock:
            return CheckpointList(self.tracker.list_checkpoints(limit, run))

    def get(self, id: str) -> Checkpoint:
        """Return a checkpoint by its id."""
        id = validate_checkpoint_id(id)
        with self.tracker.lock:
            return Checkpoint(self.tracker.find_checkpoint(id), self.tracker.states)

    def pin(self, checkpoint: str | Checkpoint, *, pinned: bool) -> Checkpoint:
        """Pin a checkpoint, or unpin it."""
        id = _checkpoint_id(checkpoint)
        with self.tracker.lock:
            id = self.tracker.find_checkpoint(id).id
            return Checkpoint(self.tracker.pin(id, pinned=pinned), self.tracker.states)


def _derive_config() -> tuple[dict[str, Any] | None, ConfigSource | None]:
    """Return the configuration in the executed code, and its source; None if there is none."""
    with suppress(Exception):  # no error of tracking may stop a training
        cells = [
            CodeCell(
                to_python(cell.source), is_parameters=_PARAMETERS.match(cell.source) is not None
            )
            for cell in executed_cells()
        ]
        if config := derive_config(cells, namespace()):
            has_parameters = any(cell.is_parameters for cell in cells)
            return config, ConfigSource.PARAMETERS if has_parameters else ConfigSource.DERIVED
    return None, None


def _has_other_config(run: ActiveRun) -> bool:
    """Return whether the code has other hyperparameters now than when a run began."""
    known = run.record.config
    if not known or run.record.config_source is ConfigSource.GIVEN:
        return False
    derived = _derive_config()[0] or {}
    return any(name in derived and derived[name] != value for name, value in known.items())


def _checkpoint_id(checkpoint: str | Checkpoint) -> str:
    if isinstance(checkpoint, Checkpoint):
        return checkpoint.id
    return validate_checkpoint_id(checkpoint)


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
    if limit_nonfinite(merge_metrics(last.metrics, new.metrics))[
        1
    ]:  # too many values for one checkpoint
        return False
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
