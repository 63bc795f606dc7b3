"""The commands about checkpoints: checkpoints, best, pin, unpin, restore."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from ..printable import shorten
from ..records import NotebookCheckpoint, UpdateCheckpoint
from ..repository import NotebookRepository
from ..repository.retention import state_paths
from ..repository.retention_rules import rank_checkpoints
from ..states import StateStorage
from ..states.folders import format_size
from . import options
from .files import new_file
from .lookup import find_checkpoint, find_notebook_and_run
from .output import (
    fit,
    local_time,
    note,
    progress,
    short_ids,
    table,
    write,
    write_json,
    write_line,
)
from .session import Session, with_session

_CHUNK = 1 << 20
#: The longest name of a run in a table.
_MAX_NAME = 24


def is_minimized(
    repository: NotebookRepository,
    ids: Collection[str],
    metric: str,
    mode: str | None,
    choices: str = "--min or --max",
) -> bool:
    """Return whether small values of a metric are better, by ``mode`` or else by its name.

    Parameters
    ----------
    ids : collection of str
        The records whose checkpoints are ranked.
    choices : str
        The options that set ``mode``, for the error message.

    Raises
    ------
    NotFound
        If there are checkpoints, and none of them has the metric.
    UsageError
        If the direction is neither given nor known.
    """
    has_metric = any(repository.get_best_checkpoint(id, metric, True) is not None for id in ids)
    if not has_metric and any(map(repository.checkpoints.count, ids)):
        raise _missing_metric(repository, ids, metric)
    known = mode or direction(metric)
    if known is None:
        raise click.UsageError(
            f"it is not known whether smaller or larger values of {metric!r} are better: add "
            f"{choices}"
        )
    if mode is None:
        note(f"{metric}: {describe_direction('min' if known == 'min' else 'max')}.")
    return known == "min"


def _list_best(
    repository: NotebookRepository,
    ids: Collection[str],
    metric: str,
    mode: str | None,
    limit: int,
    run_id: str | None = None,
) -> list[NotebookCheckpoint]:
    """Return the best checkpoints of records, or of one run; raises NotFound."""
    minimize = is_minimized(repository, ids, metric, mode)
    found = [
        checkpoint
        for id in ids
        for checkpoint in repository.checkpoints.list_best(
            id, metric, minimize, limit, run_id=run_id
        )
    ]
    if not found:
        raise _missing_metric(repository, ids, metric, run_id)
    return rank_checkpoints(found, metric, minimize)[:limit]


def _missing_metric(
    repository: NotebookRepository, ids: Collection[str], metric: str, run_id: str | None = None
) -> NotFound:
    names = set[str]()
    for id in ids:
        if run_id is None:
            names |= repository.checkpoints.list_metric_names(id)
        else:
            for one in repository.list_checkpoints(id, run_id=run_id):
                names |= finite_metrics(one.metrics).keys()
    of_run = "" if run_id is None else f" of the run {run_id}"
    suggestion = suggest_names(metric, sorted(names))
    names_of = repository.runs.metric_names
    if run_id is None and any(metric in names_of(notebook_id=id) for id in ids):
        suggestion = f"; runs have logged it: `jupyter axon runs --sort {metric}` ranks them"
    return NotFound(
        "metric", metric, f"no checkpoint{of_run} has a finite number {metric!r}{suggestion}"
    )


def _format_metrics(metrics: Any, first: Sequence[str], limit: int = 4) -> str:
    if not isinstance(metrics, dict):
        return ""
    numbers = [
        f"{name}={format_number(value)}"
        for name in dict.fromkeys((*first, *flatten_metrics(metrics)))
        if isinstance(value := resolve(metrics, name), (int, float)) and not isinstance(value, bool)
    ]
    return " ".join(numbers[:limit]) + (" …" if len(numbers) > limit else "")


def checkpoint_table(
    found: Sequence[NotebookCheckpoint],
    first: Sequence[str] = (),
    *,
    runs: Mapping[str, str],
    with_record: bool = False,
    notebooks: Mapping[str, str] | None = None,
) -> Any:
    """Return a table of checkpoints, with the metrics ``first`` before the others.

    ``runs`` has the names of their runs: see :func:`name_runs`. With ``notebooks``, the names of
    their records by id, a column of these replaces the columns of sizes, and of tags and pins that
    none of them has. Columns that have no room on a terminal are left out.
    """
    ids = short_ids([one.id for one in found])
    records = short_ids([one.notebook_id for one in found])
    rows = []
    for one in found:
        size = format_size(sum(one.sizes.values())) if one.sizes else ""
        rows.append(
            {
                **({} if notebooks is None else {"notebook": notebooks[one.notebook_id]}),
                **({"record": records[one.notebook_id]} if with_record else {}),
                "epoch": one.epoch,
                "step": one.step,
                "metrics": _format_metrics(one.metrics, first),
                "run": runs.get(one.run_id or "", ""),
                "tags": ", ".join(one.tags),
                "pinned": "pinned" if one.pinned else "",
                "size": size if one.pruned_at is None else "pruned",
                "created": local_time(one.created_at),
                "id": ids[one.id],
            }
        )
    used = {heading for row in rows for heading, value in row.items() if value}
    unused = [heading for heading in ("pinned", "tags") if heading not in used]
    if notebooks is not None:
        left_out = {"size", *unused}
        rows = [{name: row[name] for name in row if name not in left_out} for row in rows]
    return table(fit(rows, [*unused, "size", "created", "pinned", "tags"])[0])


def name_runs(
    repository: NotebookRepository, found: Iterable[NotebookCheckpoint]
) -> dict[str, str]:
    """Return the names of the runs of checkpoints by id, each with its number."""
    names: dict[str, str] = {}
    for one in found:
        if one.run_id is None or one.run_id in names:
            continue
        run = repository.runs.get(one.notebook_id, one.run_id)
        if run is None or run.number is None:
            names[one.run_id] = one.run_id[:8]
        elif run.name:
            names[one.run_id] = f"{shorten(run.name, _MAX_NAME)} (run {run.number})"
        else:
            names[one.run_id] = run.display_name
    return names


@click.command()
@with_session
@click.argument("which")
@options.run
@click.option(
    "--sort", metavar="METRIC", help="Only checkpoints that have this metric, the best first."
)
@options.direction
@options.limit
@options.as_json
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
    missing = "No checkpoints."
    with session.read() as repository:
        id, run_id = find_notebook_and_run(repository, which, run)
        total = repository.checkpoints.count(id, run_id=run_id)
        if sort is None:
            found = repository.list_checkpoints(id, limit, run_id=run_id)
        elif total:
            try:
                found = _list_best(repository, [id], sort, mode, limit, run_id)
            except NotFound as error:
                found, missing = [], str(error)
        else:
            found = []
        runs = name_runs(repository, found)
    if as_json:
        write_json([one.to_json() for one in found])
    elif found:
        write(checkpoint_table(found, [sort] if sort is not None else [], runs=runs))
    else:
        note(missing)
    if len(found) == limit < total:
        note(f"{len(found)} of {total}; --limit shows more.")


@click.command()
@with_session
@click.argument("names", nargs=-1, required=True, metavar="[WHICH] METRIC")
@options.run
@options.direction
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of checkpoints.",
)
@options.as_json
def best(
    session: Session,
    names: tuple[str, ...],
    run: str | None,
    mode: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the best checkpoints by METRIC, the best first.

    WHICH is a record: its id, the beginning of its id, or the path of its notebook file. Without
    it, the checkpoints of all your notebooks are compared. Dots in METRIC lead into nested metrics.
    For common names, such as val_loss and accuracy, it is known whether smaller or larger values
    are better; for others, add --min or --max.
    """
    *which, metric = names
    if len(which) > 1:
        raise click.UsageError(f"expected [WHICH] METRIC, got {len(names)} names")
    if run is not None and not which:
        raise click.UsageError("--run needs WHICH")
    with session.read() as repository:
        if which:
            id, run_id = find_notebook_and_run(repository, which[0], run)
            found, notebooks = _list_best(repository, [id], metric, mode, count, run_id), None
        else:
            owned = repository.list_by_user(session.settings.user_id)
            notebooks = {one.id: one.name for one in owned}
            found = _list_best(repository, notebooks, metric, mode, count)
        runs = name_runs(repository, found)
    if as_json:
        write_json([one.to_json() for one in found])
    else:
        write(checkpoint_table(found, [metric], runs=runs, notebooks=notebooks))


def _pin_command(pinned: bool, description: str) -> Callable[..., Any]:
    @with_session
    @click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
    def run(session: Session, checkpoints: tuple[str, ...]) -> None:
        with session.with_states() as (repository, _):
            for found in [find_checkpoint(repository, which) for which in checkpoints]:
                repository.checkpoints.update(found.id, UpdateCheckpoint(pinned=pinned))

    names = "CHECKPOINT is an id, or the beginning of one; `jupyter axon checkpoints` lists them."
    return click.command(help=f"{description}\n\n{names}")(run)


pin = _pin_command(True, "Pin checkpoints, so that they are neither pruned nor replaced.")
unpin = _pin_command(False, "Unpin checkpoints.")


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
@options.direction
@click.option("--latest", is_flag=True, help="Restore the newest checkpoint of the record WHICH.")
@options.run
@options.force
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
            id, run_id = find_notebook_and_run(repository, which, run)
            found = repository.list_checkpoints(id, run_id=run_id)
            if best is not None:
                found = _list_best(repository, [id], best, mode, max(1, len(found)), run_id)
            with_states = [one for one in found if state_paths(one)]
            if not with_states:
                raise NotFound("state file", which, f"no checkpoint of {which} has state files")
            checkpoint = with_states[0]
        for file in _copy_states(checkpoint, states, Path(output), force):
            write_line(str(file))


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
    for part, path in paths.items():
        expected = (checkpoint.digests or {}).get(part)
        copied = hashlib.sha256()
        with (
            states.open(path, checkpoint.notebook_id) as source,
            new_file(targets[part], force=force) as file,
            progress("Restoring", in_bytes=True) as bar,
        ):
            task = bar.add_task("", total=os.fstat(source.fileno()).st_size)
            while chunk := source.read(_CHUNK):
                copied.update(chunk)
                file.write(chunk)
                bar.advance(task, len(chunk))
            if expected is not None and copied.hexdigest() != expected:
                raise StateCorrupt(
                    f"{path} is damaged: its SHA-256 differs from the recorded one. Nothing was "
                    f"written to {targets[part]}"
                )
    return list(targets.values())
