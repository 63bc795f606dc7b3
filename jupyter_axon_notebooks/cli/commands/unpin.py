"""``jupyter axon unpin``: checkpoints that pruning may take again."""

from __future__ import annotations

import click

from ..checkpoints import set_pins
from ..session import Session, with_session


@click.command()
@with_session
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
def command(session: Session, checkpoints: tuple[str, ...]) -> None:
    """Take the pin off checkpoints.

    CHECKPOINT is an id, or the beginning of one; `jupyter axon checkpoints` lists them.
    """
    with session.with_states() as (repository, _):
        set_pins(repository, checkpoints, pinned=False)
