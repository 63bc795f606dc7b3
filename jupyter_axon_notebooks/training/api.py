"""The notebook API: one line to checkpoint, one to find the best, one to restore, one to go on.

There is nothing to set up and nothing to finish. All of it works in JupyterLab, Notebook 7, VS Code, nbconvert,
papermill and plain scripts, with or without a server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..records import TrainingNotebook
from .checkpoint import Checkpoint, CheckpointList, warn_of_immutable
from .session import Session

_session: tuple[int, Session] | None = None
_lock = threading.Lock()


def _current() -> Session:
    """The session of this process; a fork gets its own."""
    global _session
    with _lock:
        if _session is None or _session[0] != os.getpid():
            _session = os.getpid(), Session()
        return _session[1]


def checkpoint(
    model: Any,
    optimizer: Any = None,
    *,
    epoch: int | None = None,
    step: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Any = None,
    tags: str | Iterable[str] | None = (),
    overwrite: bool = False,
) -> Checkpoint | None:
    """Save a point of the training: the states, where it stands, how well it does, and what it came from.

    When this returns, all of it is on the disk. Should the *record* of it not be possible (a store that is locked, full
    or out of reach), there is one warning, the training goes on, and the states are on the disk with a note beside them,
    which is taken in later.

    Parameters
    ----------
    model : object or None
        A PyTorch module, a scikit-learn estimator, or any mapping, list or tree of arrays; None to save metrics only.
    optimizer : object, optional
        A PyTorch optimizer, or a tree of arrays.
    epoch, step : int, optional
        Whole numbers, also as floats or NumPy's; an epoch from 0 to 2³²-1, a step from 0 to 2⁵³-1. A fraction is rounded
        down, with a warning. An omitted epoch is the run's last, an omitted step the next in the run. At the same epoch and
        step again, within one execution of a cell, metrics and tags are added to the checkpoint, and a state if it has none.
        A new run begins when they come before the last ones of the run, when they are the same in another execution of a
        cell, and when another model, or another value of the same metric beside the same state, is at the same place.
    metrics : mapping, optional
        Names to numbers; NumPy scalars and tensors of one element will do, so will nested mappings. What cannot be recorded
        is left out, with a warning that names it.
    extra : object, optional
        What else has state: schedulers, scalers, counters; a mapping or list of them. The states of the random number
        generators are saved by themselves.
    tags : str or iterable of str, optional
        Labels; a tagged checkpoint can be kept from pruning.
    overwrite : bool
        Replace the run's checkpoint at this epoch and step instead of beginning a new run.

    Returns
    -------
    Checkpoint or None
        None where several processes train one model, in all but that of rank 0, which alone writes. Call it in all of
        them: each rank's random states are saved, and a model sharded by ``fully_shard`` takes all ranks to gather.

    Raises
    ------
    TypeError, ValueError
        For what cannot be saved; nothing is written then.
    NoSpace, StateError
        When the states cannot be written.
    Conflict
        With ``overwrite``, when the checkpoint that it would replace is pinned.
    """
    return _current().checkpoint(
        model,
        optimizer,
        epoch=epoch,
        step=step,
        metrics=metrics,
        extra=extra,
        tags=tags,
        overwrite=overwrite,
    )


def resume(
    model: Any = None,
    optimizer: Any = None,
    *,
    extra: Any = None,
    force: bool = False,
    run: str | float | None = None,
    key: str | float | None = None,
    checkpoint: str | Checkpoint | None = None,
    in_place: bool = True,
    trusted: bool = False,
) -> Checkpoint | None:
    """Begin a training: resume the unfinished run, if there is one; None when training begins anew.

    Looks at the newest run that has a checkpoint. If it failed, was stopped, or its process is gone, its latest checkpoint
    is restored into what is given, random number generators included, and a new run begins that branches off there. A run
    that completed, or that is alive in another process, is left alone, and so is every run that this process has trained in
    the same execution of the cell: in a loop over folds or learning rates each call begins a run of its own. A run whose
    process is on another host may be alive for two minutes after its last sign; it is waited for.

    Without ``key`` the first training of a cell resumes what was the first training of the same cell. In a cell that has not
    trained before it resumes what a cell began that is no longer in the notebook. The other trainings of one execution are
    resumed only with a key. Trainings of a loop therefore get keys: ``resume(model, optimizer, key=f"fold {fold}")``.

    If the store is unavailable, there is a warning and training begins anew. No existing run comes to harm by that.

    Where several processes train one model, all have to call it, after ``torch.distributed.init_process_group()``. They
    resume from the checkpoint that rank 0 finds; if one of them cannot, all raise ``RanksDisagree``.

    Parameters
    ----------
    model, optimizer, extra : object, optional
        What to restore into, as given to :func:`checkpoint`.
    force : bool
        Resume the newest run even if it completed, or seems to be alive elsewhere.
    run : str or number, optional
        Resume this run, by its key, its id or the beginning of it, whatever became of it.
    key : str or number, optional
        A name of this training that is the same in every execution: only runs with this key are resumed, and the run that
        begins has it.
    checkpoint : str or Checkpoint, optional
        Resume from this checkpoint, of whatever run.
    in_place : bool
        Whether what is given must be changed itself. Arrays of JAX, tuples and numbers cannot be, unless they are entries of a
        dict or list: with False they are templates of what is returned::

            resumed = axon.resume(params, opt_state, in_place=False)
            if resumed:
                params, opt_state = resumed.model, resumed.optimizer

    trusted : bool
        As for :meth:`Checkpoint.restore`.

    Returns
    -------
    Checkpoint or None
        With ``epoch``, ``step``, ``model``, ``optimizer`` and ``extra``.

    Raises
    ------
    StoreError
        When the store is unavailable, and it was said which run or checkpoint to resume.
    NotFound
        When there is no such run or checkpoint, or it has no state.
    StateCorrupt, InvalidData
        As :meth:`Checkpoint.restore`.
    ValueError
        When both a run and a checkpoint are given, or the beginning of an id fits several runs.
    TypeError
        When something that is given cannot be set in place, and ``in_place`` is True. Nothing has changed then.
    """
    resumed = _current().resume(
        model,
        optimizer,
        extra=extra,
        force=force,
        run=run,
        key=key,
        checkpoint=checkpoint,
        in_place=in_place,
        trusted=trusted,
    )
    if resumed is None and in_place:
        warn_of_immutable(model, optimizer, extra)
    return resumed


def best(
    metric: str, mode: Literal["min", "max"] | None = None, *, run: str | float | None = None
) -> Checkpoint:
    """The checkpoint of this notebook with the best value of a metric; of equal ones the earliest.

    Like the other questions, it counts in what this process has made and the store does not have yet.

    Parameters
    ----------
    metric : str
        Its name; ``val.loss`` reaches into nested metrics.
    mode : {"min", "max"}, optional
        Whether less or more is better. Left out, it is taken from names that say it for certain (``val_loss``,
        ``accuracy``, …), and printed once.
    run : str or number, optional
        Of one run only, by its key, its id or the beginning of it, with what it was resumed from.

    Raises
    ------
    ValueError
        When the mode is left out and cannot be told.
    NotFound
        When no checkpoint has a finite number there; the message names the metrics that are called like it.
    """
    return _current().best(metric, mode, run)


def latest() -> Checkpoint | None:
    """The newest checkpoint of this notebook; None when there is none."""
    return _current().latest()


def checkpoints(limit: int | None = None, *, run: str | float | None = None) -> CheckpointList:
    """The checkpoints of this notebook, newest first; it shows as a table.

    Parameters
    ----------
    limit : int, optional
        At most so many.
    run : str or number, optional
        Those of one run, by its key, its id or the beginning of it, with what it was resumed from.
    """
    return _current().checkpoints(limit, run)


def get(id: str) -> Checkpoint:
    """A checkpoint, of whatever notebook, by its id or the beginning of it.

    Raises
    ------
    NotFound
        When there is none.
    ValueError
        When the beginning fits several.
    """
    return _current().get(id)


def pin(checkpoint: str | Checkpoint, pinned: bool = True) -> Checkpoint:
    """Keep a checkpoint from being pruned, whatever the rules; ``pinned=False`` lets go of it. Raises as :func:`get`."""
    return _current().pin(checkpoint, pinned=pinned)


def notebook() -> TrainingNotebook:
    """The record of this notebook, with its cells as last saved.

    Raises
    ------
    StoreError
        When the store cannot be had.
    """
    return _current().notebook()


def use(path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
    """Say which notebook this is, where it cannot be found out: by its file, or by the id of its record.

    Raises
    ------
    NotFound
        When there is no such file or record; then nothing changes, as after every other error.
    Forbidden
        When the record is another user's.
    InvalidData, StoreError
        When the file is no notebook, or the store cannot be had.
    """
    return _current().use(path_or_id)
