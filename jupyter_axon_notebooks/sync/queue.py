"""Saves on their way to the worker: the latest of each file, in the order in which the files were first saved."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..records import NotebookSummary


@dataclass
class Save:
    """One file whose record is to be brought up to date.

    Attributes
    ----------
    path : str
        The file's absolute path.
    owner : str
        Who owns the record, should it have to be made.
    content : mapping or None
        The notebook as it was saved, parsed. None: the file has to be read.
    done : list of Future
        Those who wait for the record.
    """

    path: str
    owner: str
    content: Mapping[str, Any] | None = None
    done: list[Future[NotebookSummary]] = field(default_factory=list)
    failures: int = 0

    def resolve(self, summary: NotebookSummary) -> None:
        """Give everybody who waits the record."""
        for future in self.done:
            future.set_result(summary)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits that there will be no record for now."""
        for future in self.done:
            future.set_exception(error)
        self.done = []


class SaveQueue:
    """A queue with one consumer. Putting never waits for the consumer.

    Real-time collaboration saves about once a second; of several saves of one file only the last one matters, so it
    takes the place of the one before.
    """

    def __init__(self) -> None:
        self._saves: dict[str, Save] = {}
        self._order: deque[str] = deque()
        self._changed = threading.Condition()
        self._working = False
        self._resume_at = 0.0
        self._closed = False

    def put(self, save: Save) -> None:
        """Add a save, or let it take the place of an older one of the same file."""
        with self._changed:
            waiting = self._saves.get(save.path)
            if waiting is None:
                self._order.append(save.path)
            else:
                save.done = waiting.done + save.done
            self._saves[save.path] = save
            self._changed.notify_all()

    def put_back(self, save: Save, delay: float) -> None:
        """Return a save that failed, to be tried again in ``delay`` seconds, unless a newer one came in meanwhile."""
        with self._changed:
            self._resume_at = time.monotonic() + delay
            if save.path not in self._saves:
                self._saves[save.path] = save
                self._order.appendleft(save.path)
            self._changed.notify_all()

    def take(self) -> Save | None:
        """The next save, waited for; None once the queue is closed and empty."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            while True:
                pause = 0.0 if self._closed else self._resume_at - time.monotonic()
                if self._order and pause <= 0:
                    self._working = True
                    return self._saves.pop(self._order.popleft())
                if self._closed and not self._order:
                    return None
                self._changed.wait(pause if self._order else None)

    def settle(self, timeout: float) -> bool:
        """Wait until everything put so far has been worked on; False after ``timeout`` seconds.

        While the consumer pauses after a failure there is nothing to wait for: what is stored is all there is.
        """
        with self._changed:
            return self._changed.wait_for(self._is_settled, timeout)

    def _is_settled(self) -> bool:
        pausing = self._resume_at > time.monotonic()
        return not self._working and (not self._order or pausing)

    def close(self) -> None:
        """Let the consumer finish what is here and then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
