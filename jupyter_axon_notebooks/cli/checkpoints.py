"""The commands about checkpoints: checkpoints, best, pin, unpin, restore."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from ..errors import Conflict, NotFound, StateCorrupt
from ..metrics import (
    describe_direction,
    direction,
    finite_metrics,
    flatten_metrics,
    format_number,
    resolve,
    suggest_names,
)
from ..records import NotebookCheckpoint, UpdateCheckpoint
from ..repository import NotebookRepository
from ..repository.retention import state_paths
from ..states import StateStorage
from ..states.folders import format_size
from .files import new_file
from .lookup import RUN_HELP, find_checkpoint, find_notebook_id, find_run
from .output import (
    local_time,
    note,
    numeric,
    progress,
    short_ids,
    single_line,
    table,
    write,
    write_json,
    write_line,
)
from .session import Session, with_session

_CHUNK: Final = 1 << 20


class MissingMetric(NotFound):
    """No checkpoint has a metric that can be ranked; ``suggestion`` names similar ones."""

    def __init__(
        self,
        repository: NotebookRepository,
        ids: Iterable[str],
        metric: str,
        run_id: str | None = None,
    ) -> None:
        names = set[str]()
        for id in ids:
            if run_id is None:
                names |= repository.checkpoints.list_metric_names(id)
            else:
                listed = repository.list_checkpoints(id, run_id=run_id)
                names.update(*(finite_metrics(one.metrics) for one in listed))
        self.suggestion = suggest_names(metric, sorted(names))
        message = f"no checkpoint{_of_run(run_id)} has a finite number {metric!r}{self.suggestion}"
        super().__init__("metric", metric, message)


def _of_run(run_id: str | None) -> str:
    return "" if run_id is None else f" of the run {run_id}"


def is_minimized(
    repository: NotebookRepository,
    ids: Collection[str],
    metric: str,
    mode: str | None,
    options: str = "--min or --max",
) -> bool:
    """Return whether small values of a metric are better, by ``mode`` or else by its name.

    Parameters
    ----------
    ids : collection of str
        The records whose checkpoints are ranked.
    options : str
        The options that set ``mode``, for the error message.

    Raises
    ------
    MissingMetric
        If there are checkpoints, and none of them has the metric.
    UsageError
        If the direction is neither given nor known.
    """
    has_metric = any(repository.get_best_checkpoint(id, metric, True) is not None for id in ids)
    if not has_metric and any(map(repository.checkpoints.count, ids)):
        raise MissingMetric(repository, ids, metric)
    known = mode or direction(metric)
    if known is None:
        raise click.UsageError(
            f"it is not known whether smaller or larger values of {metric!r} are better: add "
            f"{options}"
        )
    if mode is None:
        note(f"{metric}: {describe_direction('min' if known == 'min' else 'max')}.")
    return known == "min"


def format_metrics(metrics: Any, first: Sequence[str] = (), limit: int = 4) -> str:
    """Return the first numbers in ``metrics``, those named in ``first`` before the others."""
    if not isinstance(metrics, dict):
        return ""
    numbers = [
        f"{name}={format_number(value)}"
        for name in dict.fromkeys((*first, *flatten_metrics(metrics)))
        if isinstance(value := resolve(metrics, name), (int, float)) and not isinstance(value, bool)
    ]
    return " ".join(numbers[:limit]) + (" …" if len(numbers) > limit else "")


def _checkpoint_table(found: Sequence[NotebookCheckpoint], first: Sequence[str]) -> Any:
    short = short_ids([one.id for one in found])
    short_runs = short_ids([one.run_id for one in found if one.run_id is not None])
    columns = [
        numeric("epoch"),
        numeric("step"),
        "metrics",
        single_line("run"),
        "tags",
        single_line("pinned"),
        numeric("size"),
        single_line("created"),
        single_line("id"),
    ]
    rows = []
    for one in found:
        size = format_size(sum(one.sizes.values())) if one.sizes else ""
        rows.append(
            [
                one.epoch,
                one.step,
                format_metrics(one.metrics, first),
                short_runs.get(one.run_id or "", ""),
                ", ".join(one.tags),
                "pinned" if one.pinned else "",
                size if one.pruned_at is None else "pruned",
                local_time(one.created_at),
                short[one.id],
            ]
        )
    return table(columns, rows)


@click.command()
@with_session
@click.argument("which")
@click.option("--run", metavar="RUN", help=f"Only checkpoints of this run: {RUN_HELP}")
@click.option(
    "--sort", metavar="METRIC", help="Only checkpoints that have this metric, the best first."
)
@click.option("--min", "mode", flag_value="min", help="With --sort: the smallest value is best.")
@click.option("--max", "mode", flag_value="max", help="With --sort: the largest value is best.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="The maximum number of checkpoints.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checkpoints as a JSON array.")
def checkpoints(
    session: Session,
    which: str,
    run: str | None,
    sort: str | None,
    mode: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the checkpoints of a record, the newest first.

    WHICH is its id, the beginning of its id, or the path of its notebook file.
    """
    similar = "."
    with session.read() as repository:
        id = find_notebook_id(repository, which)
        run_id = find_run(repository, id, run).id if run is not None else None
        total = repository.checkpoints.count(id, run_id=run_id)
        if sort is None:
            found = repository.list_checkpoints(id, limit, run_id=run_id)
        else:
            try:
                minimize = is_minimized(repository, [id], sort, mode)
                found = repository.checkpoints.list_best(id, sort, minimize, limit, run_id=run_id)
            except MissingMetric as missing:
                found, similar = [], missing.suggestion or "."
    if as_json:
        write_json([one.to_json() for one in found])
    elif found:
        write(_checkpoint_table(found, [sort] if sort is not None else []))
    else:
        note(
            f"None of {total} checkpoints has a number {sort!r}{similar}"
            if total
            else "No checkpoints."
        )
    if len(found) == limit < total:
        note(f"{len(found)} of {total}; --limit shows more.")


@click.command()
@with_session
@click.argument("which")
@click.argument("metric")
@click.option("--run", metavar="RUN", help=f"Only checkpoints of this run: {RUN_HELP}")
@click.option("--min", "mode", flag_value="min", help="The smallest value is best.")
@click.option("--max", "mode", flag_value="max", help="The largest value is best.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of checkpoints.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checkpoints as a JSON array.")
def best(
    session: Session,
    which: str,
    metric: str,
    run: str | None,
    mode: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the best checkpoints of a record by METRIC, the best first.

    WHICH is the record's id, the beginning of its id, or the path of its notebook file. Dots in
    METRIC lead into nested metrics. For common names, such as val_loss and accuracy, it is known
    whether smaller or larger values are better; for others, add --min or --max.
    """
    with session.read() as repository:
        id = find_notebook_id(repository, which)
        run_id = find_run(repository, id, run).id if run is not None else None
        minimize = is_minimized(repository, [id], metric, mode)
        found = repository.checkpoints.list_best(id, metric, minimize, count, run_id=run_id)
        if not found:
            raise MissingMetric(repository, [id], metric, run_id)
    if as_json:
        write_json([one.to_json() for one in found])
    else:
        write(_checkpoint_table(found, [metric]))


@click.command()
@with_session
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
def pin(session: Session, checkpoints: tuple[str, ...]) -> None:
    """Pin checkpoints, so that they are neither pruned nor replaced.

    CHECKPOINT is an id, or the beginning of one; `jupyter axon checkpoints` lists them.
    """
    _set_pins(session, checkpoints, pinned=True)


@click.command()
@with_session
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
def unpin(session: Session, checkpoints: tuple[str, ...]) -> None:
    """Unpin checkpoints.

    CHECKPOINT is an id, or the beginning of one; `jupyter axon checkpoints` lists them.
    """
    _set_pins(session, checkpoints, pinned=False)


def _set_pins(session: Session, checkpoints: Sequence[str], *, pinned: bool) -> None:
    with session.with_states() as (repository, _):
        for found in [find_checkpoint(repository, which) for which in checkpoints]:
            repository.checkpoints.update(found.id, UpdateCheckpoint(pinned=pinned))


@click.command()
@with_session
@click.argument("which", metavar="CHECKPOINT|WHICH")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=".",
    help="The folder to copy to, by default the current one.",
)
@click.option(
    "--best",
    metavar="METRIC",
    help="Restore the best checkpoint of the record WHICH by this metric.",
)
@click.option("--min", "mode", flag_value="min", help="With --best: the smallest value is best.")
@click.option("--max", "mode", flag_value="max", help="With --best: the largest value is best.")
@click.option("--latest", is_flag=True, help="Restore the newest checkpoint of the record WHICH.")
@click.option(
    "--run",
    metavar="RUN",
    help=f"With --best or --latest: only checkpoints of this run: {RUN_HELP}",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def restore(
    session: Session,
    which: str,
    output: str,
    best: str | None,
    mode: str | None,
    latest: bool,
    run: str | None,
    force: bool,
) -> None:
    """Copy the state files of a checkpoint to a folder, verify them, and print their names.

    CHECKPOINT is its id, or the beginning of its id. With --best or --latest, WHICH is a record:
    its id, the beginning of its id, or the path of its notebook file. Checkpoints without state
    files are skipped then.
    """
    if best is not None and latest:
        raise click.UsageError("--best and --latest cannot be used together")
    if run is not None and best is None and not latest:
        raise click.UsageError("--run needs --best or --latest")
    with session.with_states() as (repository, states):
        if best is None and not latest:
            checkpoint = find_checkpoint(repository, which)
        else:
            id = find_notebook_id(repository, which)
            run_id = find_run(repository, id, run).id if run is not None else None
            of_run = _of_run(run_id)
            listed = repository.checkpoints
            if best is None:
                missing = f"no checkpoint{of_run} of the record {id} has state files"
                read = partial(listed.list, id, run_id=run_id)
            else:
                minimize = is_minimized(repository, [id], best, mode)
                missing = f"no checkpoint{of_run} with state files has a finite number {best!r}"
                read = partial(listed.list_best, id, best, minimize, run_id=run_id)
            checkpoint = _first_with_states(read, missing)
        for file in _copy_states(checkpoint, states, Path(output), force):
            write_line(str(file))


def _first_with_states(
    read: Callable[[int], list[NotebookCheckpoint]], missing: str
) -> NotebookCheckpoint:
    """Return the first checkpoint with state files, reading more of them until there is one."""
    limit = 1
    while True:
        found = read(limit)
        for one in found:
            if state_paths(one):
                return one
        if len(found) < limit:
            raise NotFound("state file", "", missing)
        limit *= 10


def _copy_states(
    checkpoint: NotebookCheckpoint, states: StateStorage, folder: Path, force: bool
) -> list[Path]:
    paths = state_paths(checkpoint)
    if not paths:
        reason = "were pruned" if checkpoint.pruned_at is not None else "were never stored"
        message = f"checkpoint {checkpoint.id} has no state files: they {reason}"
        raise NotFound("state file", checkpoint.id, message)
    folder.mkdir(parents=True, exist_ok=True)
    targets = {part: folder / f"{part}{os.path.splitext(path)[1]}" for part, path in paths.items()}
    for target in targets.values():  # before anything is copied
        if os.path.lexists(target) and not force:
            raise Conflict(f"{target} exists already; --force replaces it")
    with progress("Restoring", in_bytes=True) as bar:
        for part, path in paths.items():
            with states.open(path, checkpoint.notebook_id) as source:
                task = bar.add_task("", total=os.fstat(source.fileno()).st_size)
                digest = (checkpoint.digests or {}).get(part)
                _copy_file(source, path, targets[part], digest, force, partial(bar.advance, task))
    return list(targets.values())


def _copy_file(
    source: BinaryIO,
    path: str,
    target: Path,
    digest: str | None,
    force: bool,
    advance: Callable[[int], None],
) -> None:
    copied = hashlib.sha256()
    with new_file(target, force=force) as file:
        while chunk := source.read(_CHUNK):
            copied.update(chunk)
            file.write(chunk)
            advance(len(chunk))
        if digest is not None and copied.hexdigest() != digest:
            raise StateCorrupt(
                f"{path} is damaged: its SHA-256 differs from the recorded one. Nothing was "
                f"written to {target}"
            )
