"""How long a request waits for saves that are on their way to the store, and whether its answer may lack some."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..defaults import READ_TIMEOUT
from ..sync import NotebookSync
from ..sync.worker import DRAIN_TIMEOUT
from .services import Home


@dataclass
class Freshness:
    """What one request knows of the saves that its answer may lack.

    Attributes
    ----------
    ends : float or None
        When the request stops waiting, by the monotonic clock; None: each wait may take :data:`DRAIN_TIMEOUT`.
    is_stale : bool
        Whether it has stopped waiting for some of them.
    """

    ends: float | None
    is_stale: bool = False

    @classmethod
    def of_request(cls, *, writes: bool) -> Freshness:
        """Begin to wait now. A request that only reads waits for a short time, and then gets what is there."""
        return cls(None if writes else time.monotonic() + READ_TIMEOUT)

    @property
    def is_over(self) -> bool:
        """Whether the request has waited for as long as it may."""
        return self.ends is not None and time.monotonic() >= self.ends

    def settle(self, sync: NotebookSync[Home]) -> None:
        """Wait until all saves so far are in the store, as long as there is time."""
        timeout = DRAIN_TIMEOUT if self.ends is None else max(0.0, self.ends - time.monotonic())
        self.is_stale = not sync.drain(timeout)

    def freshen(self, sync: NotebookSync[Home], ids: Iterable[str]) -> bool:
        """Bring records up to date with files that were changed outside Jupyter; whether there were any."""
        changed = sync.queue_changed_files(ids)
        if changed:
            self.settle(sync)
        return changed
