"""``jupyter axon restore``: the state files of a checkpoint, out of the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import click

from ...errors import Conflict, NotFound, StateCorrupt
from ...records import NotebookCheckpoint
from ...repository import NotebookRepository
from ...repository.retention import state_paths
from ...states import StateStorage
from ..checkpoints import RUN_HELP, is_minimized, of_run
from ..files import new_file
from ..output import progress, write_line
from ..session import Session, with_session
from ..which import find_checkpoint, find_id, find_run

_CHUNK: Final = 1 << 20


@click.command()
@with_session
@click.argument("which", metavar="CHECKPOINT|WHICH")
@click.option(
    "-o", "--output", metavar="DIR", default=".", help="The folder to copy to; here by default."
)
@click.option(
    "--best", metavar="METRIC", help="Of the record WHICH, the best checkpoint by this metric."
)
@click.option(
    "--min", "mode", flag_value="min", help="With --best: the smallest value is the best."
)
@click.option("--max", "mode", flag_value="max", help="With --best: the largest value is the best.")
@click.option("--latest", is_flag=True, help="Of the record WHICH, the newest checkpoint.")
@click.option("--run", metavar="RUN", help=f"With --best or --latest: only of this run: {RUN_HELP}")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(
    session: Session,
    which: str,
    output: str,
    best: str | None,
    mode: str | None,
    latest: bool,
    run: str | None,
    force: bool,
) -> None:
    """Copy the state files of a checkpoint to a folder, verified, and print their names.

    CHECKPOINT is its id, or the beginning of it. With --best or --latest, WHICH is a record: its id, the beginning of its
    id, or the path of its notebook file; of its checkpoints only those count that have state files.
    """
    if best is not None and latest:
        raise click.UsageError("--best and --latest exclude each other")
    if run is not None and best is None and not latest:
        raise click.UsageError("--run is for --best and --latest")
    with session.with_states() as (repository, states):
        if best is None and not latest:
            checkpoint = find_checkpoint(repository, which)
        else:
            id = find_id(repository, which)
            run_id = find_run(repository, id, run).id if run is not None else None
            if best is not None:
                minimize = is_minimized(repository, [id], best, mode, "--min or --max")
                checkpoint = _best(repository, id, best, minimize, run_id)
            else:
                checkpoint = _latest(repository, id, run_id)
        for file in _copy(checkpoint, states, Path(output), force):
            write_line(str(file))


def _best(
    repository: NotebookRepository, id: str, metric: str, minimize: bool, run_id: str | None
) -> NotebookCheckpoint:
    count = 1
    while True:  # those without state files are few, or there are few
        ranked = repository.checkpoints.list_best(id, metric, minimize, count, run_id=run_id)
        found = next((one for one in ranked if state_paths(one)), None)
        if found is not None:
            return found
        if len(ranked) < count:
            raise _NoState(
                f"no checkpoint{of_run(run_id)} with state files has a finite number {metric!r}"
            )
        count *= 10


def _latest(repository: NotebookRepository, id: str, run_id: str | None) -> NotebookCheckpoint:
    count = 1
    while True:
        listed = repository.list_checkpoints(id, count, run_id=run_id)
        found = next((one for one in listed if state_paths(one)), None)
        if found is not None:
            return found
        if len(listed) < count:
            raise _NoState(f"no checkpoint{of_run(run_id)} of the record {id} has state files")
        count *= 10


def _copy(
    checkpoint: NotebookCheckpoint, states: StateStorage, folder: Path, force: bool
) -> list[Path]:
    paths = state_paths(checkpoint)
    if not paths:
        was = "were pruned" if checkpoint.pruned_at is not None else "were never stored"
        raise _NoState(f"checkpoint {checkpoint.id} has no state files: they {was}")
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
    """Copy the file of ``path``, whose SHA-256 is ``digest`` where known; nothing is left of a copy that differs."""
    copied = hashlib.sha256()
    with new_file(target, force=force) as file:
        while chunk := source.read(_CHUNK):
            copied.update(chunk)
            file.write(chunk)
            advance(len(chunk))
        if digest is not None and copied.hexdigest() != digest:
            raise StateCorrupt(
                f"{path} is not what was stored: its SHA-256 differs from the recorded one"
            )


class _NoState(NotFound):
    def __init__(self, why: str) -> None:
        super().__init__("state file", "")
        self.args = (why,)
