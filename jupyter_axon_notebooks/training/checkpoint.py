"""A checkpoint as the notebook that trains has it, and how its states are written and restored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import NotFound, StateCorrupt
from ..metrics import column_names, flatten_metrics
from ..records import NotebookCheckpoint
from ..states import StateStorage, StateWriter, StoredState
from .display import (
    ShortDict,
    checkpoint_html,
    checkpoint_text,
    checkpoints_html,
    checkpoints_text,
    progress_bar,
    restored_text,
)
from .messages import print_message, warn

if TYPE_CHECKING:
    from ..states import Part
    from .formats import EncodedState, Source

#: Bytes that are read at once when a state file is verified.
_READ_SIZE: Final = 4 << 20
#: Bytes that are written at once: enough for hashing and writing to overlap.
_WRITE_SIZE: Final = 64 << 20


class RestoredStates(NamedTuple):
    """A model and an optimizer, displayed as a line."""

    model: Any
    optimizer: Any

    def __repr__(self) -> str:
        return restored_text(self._asdict())


class Checkpoint:
    """A saved point of a training.

    Attributes
    ----------
    model, optimizer, extra : object
        What the last :meth:`restore` returned; None before.
    """

    def __init__(
        self,
        record: NotebookCheckpoint,
        states: StateStorage,
        *,
        is_recorded: bool = True,
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        self._record = record
        self._states = states
        self._is_recorded = is_recorded
        self._refresh = refresh
        self.model: Any = None
        self.optimizer: Any = None
        self.extra: Any = None

    @property
    def record(self) -> NotebookCheckpoint:
        """All that is recorded of the checkpoint."""
        return self._record

    @property
    def id(self) -> str:
        """The id, by which ``axon.get`` finds the checkpoint."""
        return self._record.id

    @property
    def epoch(self) -> int:
        """The epoch."""
        return self._record.epoch

    @property
    def step(self) -> int:
        """The step."""
        return self._record.step

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics, nested as they were given."""
        metrics = self._record.metrics
        return ShortDict(metrics if isinstance(metrics, dict) else {})

    @property
    def run_id(self) -> str | None:
        """The id of its run."""
        return self._record.run_id

    @property
    def created_at(self) -> datetime:
        """When it was recorded, in UTC."""
        return self._record.created_at

    @property
    def tags(self) -> list[str]:
        """The tags."""
        return list(self._record.tags)

    @property
    def pinned(self) -> bool:
        """True if it is kept whatever the rules of pruning are."""
        return self._record.pinned

    @property
    def is_recorded(self) -> bool:
        """True if it is in the store; if not, its files and a note are on disk."""
        return self._is_recorded

    def update(self, record: NotebookCheckpoint, *, is_recorded: bool) -> None:
        """Replace the record, which has changed or is in the store now."""
        self._record, self._is_recorded = record, is_recorded

    @property
    def has_state(self) -> bool:
        """True if the model's state can be restored: it was saved, and its file exists."""
        record = self._located()
        return self._states.can_read(record.model_state_path, record.notebook_id)

    def _located(self) -> NotebookCheckpoint:
        """Return the record, updated if another process has recorded it and moved its files."""
        record = self._record
        path = record.model_state_path or record.optimizer_state_path
        if path and not self._is_recorded and not self._states.can_read(path, record.notebook_id):
            self._refresh()
        return self._record

    def restore(
        self,
        model: Any = None,
        optimizer: Any = None,
        extra: Any = None,
        *,
        rng: bool = False,
        trusted: bool = False,
    ) -> RestoredStates:
        """Restore the saved states into a model and an optimizer.

        Modules, optimizers, estimators and mappings of arrays are set in place. What cannot be
        changed, such as tuples and arrays of JAX, is a template of what is returned. Everything is
        read and compared before anything changes. The exception are objects with their own
        ``load_state_dict``, such as schedulers: they are set first, and if one of them refuses its
        state, the ones before it have changed, but no module, optimizer, estimator, array or random
        number generator.

        Parameters
        ----------
        model : object, optional
            A model with the saved one's structure, shapes and dtypes.
        optimizer : object, optional
            An optimizer as saved.
        extra : object, optional
            Other objects with state, structured as they were given to ``checkpoint``. Restored as
            :attr:`extra`.
        rng : bool
            Also set the random number generators.
        trusted : bool
            Load every type that the file of a scikit-learn estimator names, which may run code.
            Files that this user's processes wrote do not need it; see the page *Security*.

        Returns
        -------
        RestoredStates
            A named tuple of the model and the optimizer. If nothing is given, they are what was
            saved.

        Raises
        ------
        NotFound
            If it has no such state, or the file no longer exists.
        StateCorrupt
            If a file differs from what was recorded.
        InvalidData
            If the states do not fit, or are not trusted. The message says where, and what to do.
        """
        from .formats import leave_inference_mode

        with leave_inference_mode():
            return self._restore(model, optimizer, extra, rng=rng, trusted=trusted)

    def _restore(
        self, model: Any, optimizer: Any, extra: Any, *, rng: bool, trusted: bool
    ) -> RestoredStates:
        from .formats import prepare_model, prepare_training

        record = self._located()
        wants_all = model is None and optimizer is None and extra is None
        has_model, has_training = bool(record.model_state_path), bool(record.optimizer_state_path)
        if not has_model and (model is not None or (wants_all and not has_training)):
            raise NotFound("state", f"of checkpoint {self.id}{self._pruned()}")
        if not has_training and (optimizer is not None or extra is not None):
            raise NotFound("optimizer's state", f"of checkpoint {self.id}{self._pruned()}")
        wants_training = wants_all or optimizer is not None or extra is not None or rng
        prepared_model = prepared_training = None
        with ExitStack() as opened:
            # Both files are verified before either is decoded.
            model_file = training_file = None
            if has_model and (wants_all or model is not None):
                model_file = self._open_verified("model", opened)
            if has_training and wants_training:
                training_file = self._open_verified("optimizer", opened)
            if training_file is not None:
                prepared_training = prepare_training(training_file, optimizer, extra, rng=rng)
            if model_file is not None:
                prepared_model = prepare_model(model_file, model, trusted=trusted)
        for prepared in (prepared_model, prepared_training):
            if prepared is not None:
                prepared.begin()
        if prepared_model is not None:
            self.model = prepared_model.finish()
        if prepared_training is not None:  # last, since it sets the random number generators
            self.optimizer, self.extra = prepared_training.finish()
        return RestoredStates(self.model, self.optimizer)

    def resume_into(
        self,
        model: Any,
        optimizer: Any,
        extra: Any,
        *,
        in_place: bool = True,
        trusted: bool = False,
    ) -> None:
        """Restore what is given, and the random number generators, to continue a training.

        Raises
        ------
        TypeError
            With ``in_place``, if something that is given cannot be set in place. Nothing has
            changed then.
        """
        from .formats import explain_immutable, explain_replaced

        if in_place and (reason := explain_immutable(model, optimizer, extra)):
            raise TypeError(reason)
        rng = bool(self._record.optimizer_state_path)
        if rng or any(one is not None for one in (model, optimizer, extra)):
            self.restore(model, optimizer, extra, rng=rng, trusted=trusted)
        if in_place and (replaced := explain_replaced(model, optimizer, extra)):
            print_message(replaced)

    def _pruned(self) -> str:
        pruned_at = self._record.pruned_at
        return "" if pruned_at is None else f" (pruned at {pruned_at:%Y-%m-%d %H:%M} UTC)"

    def _open_verified(self, part: Part, opened: ExitStack) -> Source:
        """Open a state file and verify its digest; what is read later is what was verified."""
        from .formats import Source

        record = self._record
        path = getattr(record, f"{part}_state_path") or ""
        expected = (record.digests or {}).get(part)
        file = opened.enter_context(
            self._states.open(path, record.notebook_id, field=f"$.{part}_state_path")
        )
        if expected is None:
            return Source(path, file)
        digest, size = hashlib.sha256(), 0
        with progress_bar(f"Reading the state of the {part}") as progress:
            while chunk := file.read(_READ_SIZE):
                digest.update(chunk)
                size += len(chunk)
                progress(size, (record.sizes or {}).get(part, size))
        if digest.hexdigest() != expected:
            raise StateCorrupt(
                f"{path} does not match the record of checkpoint {self.id}: its SHA-256 is "
                f"{digest.hexdigest()}, expected {expected}"
            )
        return Source(path, file)

    def __repr__(self) -> str:
        return checkpoint_text(self._record, is_recorded=self._is_recorded)

    def _repr_html_(self) -> str:
        return checkpoint_html(self._record, is_recorded=self._is_recorded)


class CheckpointList(list[Checkpoint]):
    """A list of checkpoints, newest first, that is displayed as a table."""

    def __repr__(self) -> str:
        return checkpoints_text([checkpoint.record for checkpoint in self])

    def _repr_html_(self) -> str:
        return checkpoints_html([checkpoint.record for checkpoint in self])

    def metrics(self) -> Mapping[str, list[Any]]:
        """Return epochs, steps and metrics as columns for ``pandas.DataFrame``, oldest first.

        Returns
        -------
        mapping of str to list
            One list per metric, of as many values as there are checkpoints, None where a checkpoint
            lacks the metric. Nested metrics have dotted names, as in :func:`best`. A metric called
            ``epoch`` or ``step`` is in the column ``metrics.epoch`` or ``metrics.step``, with a
            further ``metrics.`` in front if that exists as well.
        """
        ordered = [checkpoint.record for checkpoint in reversed(self)]
        values = [flatten_metrics(record.metrics) for record in ordered]
        columns: dict[str, list[Any]] = {
            "epoch": [record.epoch for record in ordered],
            "step": [record.step for record in ordered],
        }
        names = dict.fromkeys(name for found in values for name in found)
        for name, column in zip(names, column_names(names, list(columns)), strict=True):
            columns[column] = [found.get(name) for found in values]
        return ShortDict(columns)


def write_states(
    states: StateStorage,
    notebook_id: str,
    checkpoint_id: str,
    parts: Mapping[Part, EncodedState],
) -> dict[Part, StoredState]:
    """Write the state files of a checkpoint, all or none. They are durable when this returns.

    Raises
    ------
    NoSpace, StateError
        If they cannot be written.
    """
    total = sum(encoded.size for encoded in parts.values())
    written = 0
    stored: dict[Part, StoredState] = {}
    try:
        with ExitStack() as opened, progress_bar("Writing the checkpoint") as progress:
            writers: dict[Part, StateWriter] = {}
            for part, encoded in parts.items():
                writer = writers[part] = opened.enter_context(
                    states.open_writer(
                        notebook_id,
                        checkpoint_id,
                        part,
                        format=encoded.format,
                        expected_size=total - written,  # of all that follow: one may fill the disk
                    )
                )
                for chunk in encoded.chunks():
                    octets = chunk.cast("B") if chunk.nbytes else memoryview(b"")
                    for start in range(0, len(octets), _WRITE_SIZE):
                        piece = octets[start : start + _WRITE_SIZE]
                        writer.write(piece)
                        written += len(piece)
                        progress(written, total)
                writer.prepare()
            for part, writer in writers.items():
                stored[part] = writer.commit()
    except BaseException:
        if stored:
            states.remove_checkpoint(notebook_id, checkpoint_id)
        raise
    return stored


def warn_of_immutable(model: Any, optimizer: Any, extra: Any) -> None:
    """Warn if a later :meth:`Checkpoint.resume_into` would refuse what is given."""
    from .formats import explain_immutable

    if reason := explain_immutable(model, optimizer, extra):
        warn(f"There is nothing to resume yet, but resuming will fail later: {reason}")
