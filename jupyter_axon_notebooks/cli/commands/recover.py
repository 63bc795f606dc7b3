"""``jupyter axon recover``: checkpoints that were made while the store could not be had."""

from __future__ import annotations

from typing import Any

import click

from ...store.urls import shown_url
from ...training.recovery import RecoveryResult, UnrecordedCheckpoint, find_unrecorded, recover
from ..group import FAILED
from ..output import Column, local_time, note, progress, table, write, write_json
from ..session import Session, with_session


@click.command()
@with_session
@click.option("--dry-run", is_flag=True, help="Only list what would be recorded.")
@click.option(
    "--any-store", is_flag=True, help="Also what was to be recorded in another store than this one."
)
@click.option("--all-users", is_flag=True, help="Also what other users trained, for themselves.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON.")
def command(
    session: Session, dry_run: bool, any_store: bool, all_users: bool, as_json: bool
) -> None:
    """Record checkpoints that were made while the store could not be had.

    A training does not stop because the store is locked, full or out of reach: the state files are written all the same,
    and what was to be recorded is noted beside them. A kernel does this by itself when it resumes a training, and a server
    soon after the training has ended and the store is available.
    """
    noted: list[UnrecordedCheckpoint] = []
    done: list[RecoveryResult] = []
    elsewhere = others = 0
    for found in find_unrecorded(session.states()):
        if isinstance(found, RecoveryResult):
            done.append(found)
        elif not (all_users or found.owner == session.config.user_id):
            others += 1
        elif not (any_store or found.store_url == session.url):
            elsewhere += 1
        else:
            noted.append(found)
    if dry_run:
        _list(noted, as_json=as_json)
        for recovery in done:
            note(f"{recovery.folder}: {recovery.error}")
    else:
        with session.with_states(make=True) as (repository, states), progress("recording") as bar:
            task = bar.add_task("", total=len(noted))
            for recovery in recover(repository, states, session.origin(), noted):
                done.append(recovery)
                bar.advance(task)
        _report(done, as_json=as_json)
    if elsewhere:
        note(
            f"{elsewhere} more belong to other stores; --any-store records them in {shown_url(session.url)}."
        )
    if others:
        note(f"{others} more are other users'; --all-users records them for these.")
    if any(recovery.error is not None for recovery in done):
        raise click.exceptions.Exit(FAILED)


def _list(noted: list[UnrecordedCheckpoint], *, as_json: bool) -> None:
    if as_json:
        write_json([_listed(one) for one in noted])
        return
    if not noted:
        note("There is nothing to record.")
        return
    columns: list[Column] = [
        "checkpoint",
        "notebook",
        ("epoch", {"justify": "right"}),
        ("step", {"justify": "right"}),
        "made",
    ]
    rows = [
        [
            str(one.checkpoint.id),
            one.path or "",
            one.checkpoint.epoch,
            one.checkpoint.step,
            local_time(one.made_at),
        ]
        for one in noted
    ]
    write(table(columns, rows))


def _listed(one: UnrecordedCheckpoint) -> dict[str, Any]:
    return {
        "id": one.checkpoint.id,
        "path": one.path,
        "epoch": one.checkpoint.epoch,
        "step": one.checkpoint.step,
        "metrics": one.checkpoint.to_json()["metrics"],
        "made_at": one.to_json()["made_at"],
        "store_url": shown_url(one.store_url),
    }


def _report(done: list[RecoveryResult], *, as_json: bool) -> None:
    recorded = [
        recovery.checkpoint
        for recovery in done
        if recovery.checkpoint is not None and recovery.is_new
    ]
    troubles = {recovery.folder: recovery.error for recovery in done if recovery.error is not None}
    if as_json:
        write_json({"recorded": [one.to_json() for one in recorded], "troubles": troubles})
        return
    for where, trouble in troubles.items():
        note(f"{where}: {trouble}")
    if recorded:
        count = len(recorded)
        write(f"Recorded {count} checkpoint{'' if count == 1 else 's'}.")
    elif not troubles:
        note("There is nothing to record.")
