"""A checkpoint, as the notebook that trains has it in its hands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..errors import NotFound, StateCorrupt
from ..metrics import column_names, named_values
from ..records import NotebookCheckpoint
from ..states import StateStorage
from .display import (
    checkpoint_html,
    checkpoint_text,
    checkpoints_html,
    checkpoints_text,
    progress_bar,
)
from .messages import print_message, warn

if TYPE_CHECKING:
    from ..states import Part
    from .formats import Source

#: Bytes read at once when a state file is verified.
_CHUNK: Final = 4 << 20


class Checkpoint:
    """A saved point of a training.

    Attributes
    ----------
    model, optimizer, extra : object
        What the last :meth:`restore` gave; None before.
    """

    def __init__(
        self,
        record: NotebookCheckpoint,
        states: Callable[[], StateStorage],
        *,
        is_recorded: bool = True,
        catch_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._record = record
        self._catch_up = catch_up
        self._states = states
        self._is_recorded = is_recorded
        self.model: Any = None
        self.optimizer: Any = None
        self.extra: Any = None

    @property
    def record(self) -> NotebookCheckpoint:
        """All that is recorded of it."""
        return self._record

    @property
    def id(self) -> str:
        """Its id: what ``axon.get`` takes."""
        return self._record.id

    @property
    def epoch(self) -> int:
        """The epoch it was made in."""
        return self._record.epoch

    @property
    def step(self) -> int:
        """The step it was made at."""
        return self._record.step

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured."""
        metrics = self._record.metrics
        return metrics if isinstance(metrics, dict) else {}

    @property
    def run_id(self) -> str | None:
        """The id of the run it belongs to."""
        return self._record.run_id

    @property
    def created_at(self) -> datetime:
        """When it was recorded, in UTC."""
        return self._record.created_at

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._record.tags)

    @property
    def pinned(self) -> bool:
        """Whether no pruning may take it."""
        return self._record.pinned

    @property
    def is_recorded(self) -> bool:
        """Whether a store has it. If not, its state files are on the disk all the same, with a note beside them."""
        return self._is_recorded

    def was_recorded(self, record: NotebookCheckpoint) -> None:
        """The store has it now, as ``record``."""
        self._record, self._is_recorded = record, True

    def was_noted(self, record: NotebookCheckpoint) -> None:
        """What is noted of it is ``record`` now."""
        self._record = record

    @property
    def has_state(self) -> bool:
        """Whether there is a model's state to restore: none was given, or it was pruned, or its file is gone."""
        record = self._located()
        return self._states().can_read(record.model_state_path, record.notebook_id)

    def _located(self) -> NotebookCheckpoint:
        """The record. Another process may have recorded the checkpoint since, and moved its files to its notebook."""
        path = self._record.model_state_path or self._record.optimizer_state_path
        if (
            path
            and not self._is_recorded
            and not self._states().can_read(path, self._record.notebook_id)
        ):
            self._catch_up()
        return self._record

    def restore(
        self,
        model: Any = None,
        optimizer: Any = None,
        extra: Any = None,
        *,
        rng: bool = False,
        trusted: bool = False,
    ) -> tuple[Any, Any]:
        """Put the saved states into a model and an optimizer.

        In place for modules, optimizers, estimators and mappings of arrays; where nothing can be changed in place, as in
        tuples and in arrays of JAX, what is given is the template of what is returned. All is read and compared before
        anything is changed.

        Only an object with a ``load_state_dict`` of its own, such as a scheduler, can refuse its state later than that. Such
        objects are set first: when one refuses, others of them may have changed, but no module, optimizer of PyTorch,
        estimator, array or random number generator.

        Parameters
        ----------
        extra : object, optional
            What has state besides (schedulers, scalers), as it was given to ``checkpoint``; then also :attr:`extra`.
        rng : bool
            Set the random number generators to where they were, too.
        trusted : bool
            Load all types that the file of a scikit-learn estimator names, which may run code. What this user's own
            processes have written needs no such permission; see ``docs/explanation/security.md``.

        Returns
        -------
        tuple
            Model and optimizer. With nothing given, what was stored.

        Raises
        ------
        NotFound
            When it has no such state, or its file is gone.
        StateCorrupt
            When a file is not what was recorded.
        InvalidData
            When the states do not fit, or are not to be trusted; the message says where, and what helps.
        """
        from .formats import leave_inference_mode

        with leave_inference_mode():
            return self._restore(model, optimizer, extra, rng=rng, trusted=trusted)

    def _restore(
        self, model: Any, optimizer: Any, extra: Any, *, rng: bool, trusted: bool
    ) -> tuple[Any, Any]:
        from .formats import prepare_model, prepare_training

        nothing_given = model is None and optimizer is None and extra is None
        wants_training = nothing_given or optimizer is not None or extra is not None or rng
        record = self._located()
        wants_model = model is not None or (nothing_given and bool(record.model_state_path))
        if not record.model_state_path and (
            wants_model or (nothing_given and not record.optimizer_state_path)
        ):
            raise NotFound("state", f"of checkpoint {self.id}{self._why_no_state()}")
        if (optimizer is not None or extra is not None) and not record.optimizer_state_path:
            raise NotFound("optimizer's state", f"of checkpoint {self.id}{self._why_no_state()}")
        restore_training = restore_model = None
        with ExitStack() as opened:
            model_source = training_source = None
            if wants_model:
                model_source = self._verified("model", opened)
            if wants_training and record.optimizer_state_path:
                training_source = self._verified("optimizer", opened)
            if training_source is not None:
                restore_training = prepare_training(
                    training_source, optimizer, extra, rng=rng, trusted=trusted
                )
            if model_source is not None:
                restore_model = prepare_model(model_source, model, trusted=trusted)
        for prepared in (restore_model, restore_training):
            if prepared is not None:
                prepared.begin()
        if restore_model is not None:
            self.model = restore_model.finish()
        if restore_training is not None:  # last, since it sets the random number generators
            self.optimizer, self.extra = restore_training.finish()
        return self.model, self.optimizer

    def resume_into(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        *,
        in_place: bool = True,
        trusted: bool = False,
    ) -> None:
        """Restore what is given, and the random number generators: a training goes on as if it had not stopped.

        Raises
        ------
        TypeError
            With ``in_place``, if something that is given cannot be set in place; nothing has changed then.
        """
        from .formats import explain_immutable, explain_replaced

        if in_place and (reason := explain_immutable(model, optimizer, extra)):
            raise TypeError(reason)
        rng = bool(self._record.optimizer_state_path)
        if model is not None or optimizer is not None or extra is not None or rng:
            self.restore(model, optimizer, extra, rng=rng, trusted=trusted)
        if in_place and (told := explain_replaced(model, optimizer, extra)):
            print_message(told)

    def _why_no_state(self) -> str:
        if self._record.pruned_at is not None:
            return f" (pruned at {self._record.pruned_at:%Y-%m-%d %H:%M} UTC)"
        return ""

    def _verified(self, part: Part, opened: ExitStack) -> Source:
        """A state file that is what was recorded, open until ``opened`` is closed: what is read is what was verified."""
        from .formats import Source

        record = self._record
        path = getattr(record, f"{part}_state_path") or ""
        expected = (record.digests or {}).get(part)
        file = opened.enter_context(
            self._states().open(path, record.notebook_id, field=f"$.{part}_state_path")
        )
        if expected is None:
            return Source(path, file)
        digest, size = hashlib.sha256(), 0
        with progress_bar(f"reading the {part}'s state") as progress:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                progress(size, (record.sizes or {}).get(part, size))
        if digest.hexdigest() != expected:
            raise StateCorrupt(
                f"{path} is not what checkpoint {self.id} recorded: its SHA-256 is {digest.hexdigest()}, "
                f"expected {expected}"
            )
        return Source(path, file)

    def __repr__(self) -> str:
        return checkpoint_text(self._record, is_recorded=self._is_recorded)

    def _repr_html_(self) -> str:
        return checkpoint_html(self._record, is_recorded=self._is_recorded)


class CheckpointList(list[Checkpoint]):
    """Checkpoints, newest first: a list that shows as a table."""

    def __repr__(self) -> str:
        return checkpoints_text([checkpoint.record for checkpoint in self])

    def _repr_html_(self) -> str:
        return checkpoints_html([checkpoint.record for checkpoint in self])

    def metrics(self) -> Mapping[str, list[Any]]:
        """Return the metrics in columns, oldest first, with ``epoch`` and ``step``: what ``pandas.DataFrame`` takes.

        Nested metrics have dotted names, as in :func:`best`. A metric called ``epoch`` or ``step`` is in the column
        ``metrics.epoch`` or ``metrics.step``, with one more ``metrics.`` where there is such a metric. Where a checkpoint has no such metric there is None.
        """
        ordered = [checkpoint.record for checkpoint in reversed(self)]
        values = [named_values(record.metrics) for record in ordered]
        columns: dict[str, list[Any]] = {
            "epoch": [record.epoch for record in ordered],
            "step": [record.step for record in ordered],
        }
        names = dict.fromkeys(name for found in values for name in found)
        for name, column in zip(names, column_names(names, list(columns)), strict=True):
            columns[column] = [found.get(name) for found in values]
        return columns


def warn_of_immutable(model: Any, optimizer: Any, extra: Any) -> None:
    """Warn if a later :meth:`Checkpoint.resume_into` would refuse what is given."""
    from .formats import explain_immutable

    if reason := explain_immutable(model, optimizer, extra):
        warn(f"there is nothing to resume yet, but resume() will fail once there is: {reason}")
