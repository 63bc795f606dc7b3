"""What a worker was told is done. The ledgers of all together say what must be in the store."""

from __future__ import annotations

import msgspec


class Ledger(msgspec.Struct):
    """Kept by one worker.

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
    stamps : dict
        The last save of each saved notebook: what it wrote into every cell.
    notebooks : list of str
        The notebooks it created and did not delete.
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
    stamps: dict[str, str] = {}
    notebooks: list[str] = []
    errors: list[str] = []
