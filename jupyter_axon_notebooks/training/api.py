"""The notebook API: one line to checkpoint, one to find the best, one to restore, one to go on.

There is nothing to set up and nothing to finish. All of it works in JupyterLab, Notebook 7, VS Code, nbconvert,
papermill and plain scripts, with or without a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..records import TrainingNotebook
from .checkpoint import Checkpoint, CheckpointList
from .session import Session

_session: tuple[int, Session] | None = None


def _current() -> Session:
    """The session of this process; a fork gets its own."""
    global _session
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
        From 0 to 2³²-1. An omitted epoch is the run's last, an omitted step the next in the run. When they do not come
        after the last ones of the run, a new run begins.
    metrics : mapping, optional
        Names to numbers; NumPy scalars and tensors of one element will do, so will nested mappings.
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
    any: bool = False,
    checkpoint: str | Checkpoint | None = None,
) -> Checkpoint | None:
    """Go on with the unfinished run, if there is one; None when training begins anew.

    Looks at the newest run of this notebook that has a checkpoint. If it failed, was stopped, or its process is gone, its
    latest checkpoint is restored into what is given, random number generators included, and a new run begins that
    branches off there. A run that finished, or that is alive in another process, is left alone. Should the store not be
    had, there is a warning and training begins anew: no run there is comes to harm by that.

    Where several processes train one model, all have to call it, after ``torch.distributed.init_process_group()``. They
    resume from the checkpoint that rank 0 finds; if one of them cannot, all raise ``RanksDisagree``.

    Parameters
    ----------
    model, optimizer, extra : object, optional
        What to restore into, as given to :func:`checkpoint`.
    any : bool
        Whatever became of the run.
    checkpoint : str or Checkpoint, optional
        Go on from this one.

    Returns
    -------
    Checkpoint or None
        With ``epoch``, ``step``, ``model``, ``optimizer`` and ``extra``.

    Raises
    ------
    StoreError
        When the store cannot be had, and it was said which run or checkpoint to go on with.
    NotFound
        When there is no such checkpoint, or it has no state.
    StateCorrupt, InvalidData
        As :meth:`Checkpoint.restore`.
    """
    return _current().resume(model, optimizer, extra=extra, any=any, checkpoint=checkpoint)


def best(metric: str, mode: Literal["min", "max"] | None = None) -> Checkpoint:
    """The checkpoint of this notebook with the best value of a metric; of equal ones the earliest.

    Like the other questions, it counts in what this process has made and the store does not have yet.

    Parameters
    ----------
    metric : str
        Its name; ``val.loss`` reaches into nested metrics.
    mode : {"min", "max"}, optional
        Whether less or more is better. Left out, it is taken from well-known names (``val_loss``, ``accuracy``, …).

    Raises
    ------
    ValueError
        When the mode is left out and cannot be told.
    NotFound
        When no checkpoint has a finite number there.
    """
    return _current().best(metric, mode)


def latest() -> Checkpoint | None:
    """The newest checkpoint of this notebook; None when there is none."""
    return _current().latest()


def checkpoints(limit: int | None = None, *, run_id: str | None = None) -> CheckpointList:
    """The checkpoints of this notebook, newest first; it shows as a table.

    Parameters
    ----------
    limit : int, optional
        At most so many.
    run_id : str, optional
        Those of one run.
    """
    return _current().checkpoints(limit, run_id)


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
