"""What a worker was told is done. The ledgers of all together say what must be in the store."""

from __future__ import annotations

import msgspec


class Save(msgspec.Struct, frozen=True):
    """A save of a notebook all of whose cells bear its stamp.

    ``outputs_only``: the sources are those of every other save of which this is true. ``large``: parts of it are written
    ahead.
    """

    stamp: str
    outputs_only: bool = False
    large: bool = False


class Ledger(msgspec.Struct):
    """Kept by one process.

    Attributes
    ----------
    operations : int
        How many calls returned, refusals included.
    seconds, longest : float
        How long it worked, and its longest call.
    counted : dict
        By notebook and cell, how often it raised the number there by one.
    cells : dict
        The cells that it added to the shared notebook and did not remove again: id and source.
    losses : dict
        The checkpoints it made and did not delete: id and loss.
    won : list of int
        The epochs of the shared run at which its checkpoint was the one that was taken.
    digests : dict
        Of those checkpoints that have a model state, its SHA-256.
    saves : dict
        The last save of each saved notebook.
    notebooks : list of str
        The notebooks it created and did not delete.
    removed : dict
        What a sweeper removed: how many ``versions``, ``contents`` with them, contents written ``ahead`` of a version, and
        ``folders`` of state files.
    errors : list of str
        What went wrong. A refusal that is part of the game is no error.
    """

    operations: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    counted: dict[str, int] = {}
    cells: dict[str, str] = {}
    losses: dict[str, float] = {}
    won: list[int] = []
    digests: dict[str, str] = {}
    saves: dict[str, Save] = {}
    notebooks: list[str] = []
    removed: dict[str, int] = {}
    errors: list[str] = []
