"""The notebook API: save checkpoints, find the best, restore it, and resume a training.

Nothing has to be set up or finished. All functions work in JupyterLab, Notebook 7, VS Code,
nbconvert, papermill and plain scripts, with or without a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..records import ConfigSource, TrainingNotebook
from .checkpoint import Checkpoint, CheckpointList, warn_of_immutable
from .run_config import normalize_config
from .run_object import Run, RunList
from .session import current_session
from .validation import validate_keep, validate_run_fields


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
    """Save a checkpoint: states, position, metrics and provenance.

    Everything is on disk when this returns. If the checkpoint cannot be recorded, because the store
    is locked, full or unavailable, there is one warning and training continues: the states are on
    disk with a note beside them, and the checkpoint is recorded later.

    Parameters
    ----------
    model : object or None
        A PyTorch module, a scikit-learn estimator, or a mapping, list or tree of arrays. None saves
        metrics only.
    optimizer : object, optional
        A PyTorch optimizer, or a tree of arrays.
    epoch : int, optional
        From 0 to 2³²-1. By default the last epoch of the run.
    step : int, optional
        From 0 to 2⁵³-1. By default the step after the last one of the run. Epoch and step may be
        floats or NumPy numbers; a fraction is rounded down, with a warning.

        The same epoch and step again, within one execution of a cell, adds metrics and tags to the
        checkpoint, and a state if it has none. A new run begins if epoch and step are before the
        last ones, if they are the same in another execution of a cell, or if another model, or
        another value of the same metric, is at the same position.
    metrics : mapping, optional
        Names to numbers, possibly nested; NumPy scalars and tensors with one element are converted.
        What cannot be recorded is left out, with a warning that names it.
    extra : object, optional
        Other objects with state, such as schedulers, scalers and counters, or a mapping or list of
        them. The states of random number generators are saved in any case.
    tags : str or iterable of str, optional
        Labels. Tagged checkpoints can be kept from pruning.
    overwrite : bool
        Replace the run's checkpoint at this epoch and step instead of beginning a new run.

    Returns
    -------
    Checkpoint or None
        None in distributed training, in all processes but that of rank 0, which writes. Call it in
        all processes: each has random states, and a model that ``fully_shard`` has sharded is
        gathered from all of them.

    Raises
    ------
    TypeError, ValueError
        If something cannot be saved. Nothing is written then.
    NoSpace, StateError
        If the states cannot be written.
    Conflict
        With ``overwrite``, if the checkpoint to replace is pinned.
    RanksDisagree
        If the model is sharded and not every process saves it.
    """
    return current_session().checkpoint(
        model,
        optimizer,
        extra,
        epoch=epoch,
        step=step,
        metrics=metrics,
        tags=tags,
        overwrite=overwrite,
    )


def start_run(
    config: Any = None,
    *,
    name: str | None = None,
    tags: str | Iterable[str] = (),
    notes: str | None = None,
    group: str | None = None,
    keep: str | None = None,
) -> Run:
    """End the run that is trained here, and begin one.

    Calling it is optional: without it, a run begins with the first :func:`log` or
    :func:`checkpoint`. Right before or after :func:`resume`, it describes the training that is
    resumed, and no other run begins. In distributed training, only the run of rank 0 is recorded.
    As a context manager, the run ends with the block: as completed, as failed after an exception,
    as stopped after an interrupt::

        for lr in (1e-2, 1e-3):
            with axon.start_run(config={"lr": lr}, group="lr search"):
                train(lr)

    Parameters
    ----------
    config : mapping or object, optional
        The hyperparameters: a mapping, a dataclass, an ``argparse.Namespace``, an object of
        pydantic, attrs or OmegaConf, or Hugging Face's ``TrainingArguments``. Values that are not
        JSON become their ``repr``. By default they are derived from the code: numbers, texts and
        short lists or dicts of them that are assigned to names at the top level of cells.
    name : str, optional
        ``run 1``, ``run 2``, … by default.
    tags : str or iterable of str
        Labels.
    notes : str, optional
        Any text.
    group : str, optional
        The name that runs of one search share.
    keep : str, optional
        Rules such as ``last:2, best:val_loss:3, every:1000``: after each checkpoint, state files of
        this run that no rule keeps are removed. By default all are kept.

        ``last:N`` keeps the newest N, ``best:METRIC:N`` the best N by a metric, and ``every:N``
        those whose step is a multiple of N. ``best:METRIC:min:N`` and ``best:METRIC:max:N`` say
        whether lower or higher is better, if that does not follow from the name. Pinned and tagged
        checkpoints, the newest one, and those that another run was resumed from are kept, too. A
        run that :func:`resume` begins has the rules of the run that it resumes.

    Raises
    ------
    TypeError, ValueError
        If the configuration, a text or a rule cannot be recorded. No run begins then, and the
        present one goes on.
    """
    session = current_session()
    fields = validate_run_fields(name, tags, notes, group)
    fields["keep"] = validate_keep(keep)
    if config is not None:
        fields["config"], fields["config_source"] = normalize_config(config), ConfigSource.GIVEN
    active = session.start_run(**fields)
    return Run(session, active.record, active)


def log(metrics: Mapping[str, Any], *, step: int | None = None, epoch: int | None = None) -> None:
    """Log values of metrics at a step; it costs a few microseconds and never waits or fails.

    The values are on disk when this returns, and in the store about a second later.

    Parameters
    ----------
    metrics : mapping
        Names to numbers, possibly nested; NumPy scalars and tensors with one element are converted
        (a CUDA tensor costs a synchronisation). What is no number is left out, with a warning,
        and so are names of more than 1,000 characters. Without a value, nothing is logged.
    step : int, optional
        From 0 to 2⁵³-1; by default the step after the last one, also for what is no such number,
        with a warning. Values of one step are merged; of several values of a metric, the last one
        is kept, with a warning. A new run begins if a metric goes back to an earlier step. If its
        steps begin again in a later epoch, they are counted on. A new run also begins if the
        derived configuration has changed when a step is repeated, or when a cell that logs
        without step and epoch is executed again.
    epoch : int, optional
        Logged as the metric ``epoch``. Without a step, a new run begins if a metric goes back to an
        earlier epoch.
    """
    current_session().log(metrics, step=step, epoch=epoch)


def runs(
    where: str = "", *, sort: str = "-started_at", limit: int | None = None, all: bool = False
) -> RunList:
    """Return recorded runs of this notebook, newest first, as a list displayed as a table.

    Parameters
    ----------
    where : str
        A filter such as ``config.lr < 0.01 and val_acc.max > 0.9 and "baseline" in tags``. Archived
        runs are left out, unless it names ``archived``.
    sort : str
        A field, metric or configuration key; ``-`` before it sorts in descending order.
    limit : int, optional
        The largest number to return.
    all : bool
        Search the runs of all notebooks.

    Raises
    ------
    InvalidFilter
        If the filter or the order is invalid. The message names the position.
    """
    session = current_session()
    found = session.runs(where, sort, limit, everywhere=all)
    return RunList((Run(session, one.run, notebook=one.notebook) for one in found), sort=sort)


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
    """Begin a training, and resume an unfinished run if there is one.

    The newest run with a checkpoint is resumed if it failed, was stopped, or lost its process: its
    latest checkpoint is restored into the given objects and the random number generators, and a new
    run begins that branches off there. Runs that completed, that are alive in another process, or
    that this process trained in the same execution of a cell are left alone. A run on another host
    may be alive for two minutes after its last sign of life, which this waits for.

    Without ``key``, the first training of a cell resumes the first training of the same cell. In a
    cell that has not trained before, it resumes what was trained by a cell that no longer exists.
    Further trainings of one execution, as in a loop, are resumed only with a key::

        resume(model, optimizer, key=f"fold {fold}")

    If the store is unavailable, there is a warning and training begins anew; existing runs are left
    alone.

    In distributed training, call it in all processes, after
    ``torch.distributed.init_process_group()``. All resume from the checkpoint that rank 0 finds.

    Parameters
    ----------
    model, optimizer, extra : object, optional
        What to restore into, as given to :func:`checkpoint`.
    force : bool
        Resume the newest run even if it completed or seems to be alive elsewhere.
    run : str or number, optional
        Resume this run, whatever its status. A run is given by its key, its name, its number, its
        id or the beginning of its id.
    key : str or number, optional
        A name of this training that is the same in every execution. Only runs with this key are
        resumed, and the run that begins has it.
    checkpoint : str or Checkpoint, optional
        Resume from this checkpoint of any run.
    in_place : bool
        Require that the given objects are changed themselves. Arrays of JAX, tuples and numbers
        cannot be changed, unless they are values of a dict or list. With False, they are templates
        of what is returned::

            resumed = axon.resume(params, opt_state, in_place=False)
            if resumed:
                params, opt_state = resumed.model, resumed.optimizer

    trusted : bool
        As for :meth:`Checkpoint.restore`.

    Returns
    -------
    Checkpoint or None
        The checkpoint, with ``epoch``, ``step``, ``model``, ``optimizer`` and ``extra``. None if
        training begins anew.

    Raises
    ------
    StoreError
        If the store is unavailable and ``run``, ``checkpoint`` or ``force`` is given.
    NotFound
        If there is no such run or checkpoint, or it has no state.
    StateCorrupt, InvalidData
        As from :meth:`Checkpoint.restore`.
    ValueError
        If both ``run`` and ``checkpoint`` are given, or the beginning of an id matches several.
    TypeError
        If something cannot be changed in place and ``in_place`` is True. Nothing has changed then.
    RanksDisagree
        In distributed training, if not all processes can resume.
    """
    resumed = current_session().resume(
        model,
        optimizer,
        extra,
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
    metric: str,
    mode: Literal["min", "max"] | None = None,
    *,
    run: str | float | None = None,
    all: bool = False,
) -> Checkpoint:
    """Return the checkpoint of this notebook with the best value of a metric.

    Of equal values, it is the earliest. Like all questions, this includes checkpoints of this
    process that are not recorded yet.

    Parameters
    ----------
    metric : str
        The name; ``val.loss`` is the nested metric ``loss`` of ``val``.
    mode : {"min", "max"}, optional
        Whether lower or higher is better. By default it follows from the name (``val_loss``,
        ``accuracy``, …), and is printed once.
    run : str or number, optional
        Consider only this run, given as for :func:`resume`, and what it was
        resumed from.
    all : bool
        Consider the checkpoints of all notebooks.

    Raises
    ------
    ValueError
        If the mode is omitted and does not follow from the name, or both ``run`` and ``all`` are
        given.
    NotFound
        If no checkpoint has a finite number there. The message names similar metrics.
    """
    return current_session().best(metric, mode, run, everywhere=all)


def latest() -> Checkpoint | None:
    """Return the newest checkpoint of this notebook; None if there is none."""
    found = current_session().checkpoints(1, None)
    return found[0] if found else None


def checkpoints(limit: int | None = None, *, run: str | float | None = None) -> CheckpointList:
    """Return the checkpoints of this notebook, newest first, as a list displayed as a table.

    Parameters
    ----------
    limit : int, optional
        The largest number to return.
    run : str or number, optional
        Only those of this run, given as for :func:`resume`, and what it was
        resumed from.
    """
    return current_session().checkpoints(limit, run)


def get(id: str) -> Checkpoint:
    """Return a checkpoint of any notebook by its id or the beginning of its id.

    Raises
    ------
    NotFound
        If there is none.
    ValueError
        If the beginning matches several.
    """
    return current_session().get(id)


def pin(checkpoint: str | Checkpoint, pinned: bool = True) -> Checkpoint:
    """Pin a checkpoint, so that pruning keeps it; ``pinned=False`` unpins it.

    Raises
    ------
    NotFound, ValueError
        As from :func:`get`.
    """
    return current_session().pin(checkpoint, pinned=pinned)


def notebook() -> TrainingNotebook:
    """Return the record of this notebook, with its cells as last saved.

    Raises
    ------
    StoreError
        If the store is unavailable.
    """
    return current_session().notebook()


def use(path_or_id: str | os.PathLike[str]) -> TrainingNotebook:
    """Set which notebook this is, by its file or by the id of its record, if it cannot be detected.

    Raises
    ------
    NotFound
        If there is no such file or record.
    Forbidden
        If the record belongs to another user.
    InvalidData, StoreError
        If the file is no notebook, or the store is unavailable. Nothing changes after an error.
    """
    return current_session().use(path_or_id)
