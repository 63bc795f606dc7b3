"""Saying again and again that a run is alive."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from .processes import LEASE

#: Seconds between two times.
_INTERVAL = LEASE.total_seconds() / 4


class Lease:
    """Calls ``renew`` every now and then, from a thread of its own, as long as it is held.

    ``renew`` must not wait for the thread that holds the lease, which may be busy for minutes; what it raises is
    swallowed: a lease that is not renewed runs out, which harms nobody who is alive on the same host.
    """

    def __init__(self, renew: Callable[[], None], interval: float = _INTERVAL) -> None:
        self._renew = renew
        self._interval = interval
        self._released: threading.Event | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is being renewed."""
        return self._released is not None

    def hold(self) -> None:
        """Begin, unless it has begun."""
        if self._released is None:
            self._released = threading.Event()
            threading.Thread(
                target=self._work, args=(self._released,), name="axon-lease", daemon=True
            ).start()

    def release(self) -> None:
        """End; also twice."""
        released, self._released = self._released, None
        if released is not None:
            released.set()

    def _work(self, released: threading.Event) -> None:
        while not released.wait(self._interval):
            with contextlib.suppress(Exception):
                self._renew()
