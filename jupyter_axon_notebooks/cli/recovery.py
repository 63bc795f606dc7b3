"""The command recover: record checkpoints that were created while the store was unavailable."""

from __future__ import annotations

from typing import Any

import click

from ..store.urls import shown_url
from ..training.recovery import RecoveryResult, UnrecordedCheckpoint, find_unrecorded
from ..training.recovery import recover as recover_checkpoints
from ..training.spooled import recover_spools, spool_folders
from . import options
from .group import FAILED
from .output import local_time, note, plural, progress, table, write, write_json
from .session import Session, with_session


@click.command()
@with_session
@click.option("--dry-run", is_flag=True, help="Only list what would be recorded.")
@click.option(
    "--any-store", is_flag=True, help="Include checkpoints that were meant for another store."
)
@click.option("--all-users", is_flag=True, help="Include checkpoints of other users.")
@options.as_json
def recover(
    session: Session, dry_run: bool, any_store: bool, all_users: bool, as_json: bool
) -> None:
    """Record checkpoints that were created while the store was unavailable.

    A training does not stop because the store is locked, full or unreachable: it still writes the
    state files, and notes beside them what is to be recorded. A kernel records it when it resumes
    the training, and a server soon after the training has ended and the store is available again.
    """
    pending: list[UnrecordedCheckpoint] = []
    results: list[RecoveryResult] = []
    of_other_stores = of_other_users = 0
    for found in find_unrecorded(session.states()):
        if isinstance(found, RecoveryResult):
            results.append(found)
        elif not (all_users or found.owner == session.settings.user_id):
            of_other_users += 1
        elif not (any_store or found.store_url == session.url):
            of_other_stores += 1
        else:
            pending.append(found)
    if dry_run:
        rows = [
            {
                "id": one.checkpoint.id,
                "path": one.path or "",
                "epoch": one.checkpoint.epoch,
                "step": one.checkpoint.step,
                "created": local_time(one.made_at),
            }
            for one in pending
        ]
        if as_json:
            write_json([_pending_json(one) for one in pending])
        elif rows:
            write(table(rows))
        if not (rows or as_json):
            note("There is nothing to record.")
        for result in results:
            note(f"{result.folder}: {result.error}")
    else:
        with session.with_states(create=True) as (repository, states), progress("Recording") as bar:
            task = bar.add_task("", total=len(pending))
            for result in recover_checkpoints(repository, states, session.origin(), pending):
                results.append(result)
                bar.advance(task)
            owner = None if all_users else session.settings.user_id
            folders = spool_folders(session.settings.data_folder)
            origin, url = session.origin(), session.url
            files = list(recover_spools(repository, origin, folders, url, owner))
        results += [RecoveryResult(str(path), error=error) for path, error in files if error]
        stored = sum(error is None for _, error in files)
        if stored and not as_json:
            note(f"Stored the logged values of {plural(stored, 'training')}.")
        _report(results, as_json=as_json)
    if of_other_stores:
        store = shown_url(session.url)
        note(f"{of_other_stores} more belong to other stores; --any-store records them in {store}.")
    if of_other_users:
        note(
            f"{of_other_users} more belong to other users; --all-users records them for these "
            f"users."
        )
    if any(result.error is not None for result in results):
        raise click.exceptions.Exit(FAILED)


def _pending_json(one: UnrecordedCheckpoint) -> dict[str, Any]:
    return {
        "id": one.checkpoint.id,
        "path": one.path,
        "epoch": one.checkpoint.epoch,
        "step": one.checkpoint.step,
        "metrics": one.checkpoint.to_json()["metrics"],
        "made_at": one.to_json()["made_at"],
        "store_url": shown_url(one.store_url),
    }


def _report(results: list[RecoveryResult], *, as_json: bool) -> None:
    recorded = [
        result.checkpoint for result in results if result.checkpoint is not None and result.is_new
    ]
    errors = {result.folder: result.error for result in results if result.error is not None}
    if as_json:
        write_json({"recorded": [one.to_json() for one in recorded], "troubles": errors})
        return
    for folder, error in errors.items():
        note(f"{folder}: {error}")
    if recorded:
        write(f"Recorded {plural(len(recorded), 'checkpoint')}.")
    elif not errors:
        note("There is nothing to record.")
