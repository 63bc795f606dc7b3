"""What happened to notebook files, on its way to the worker: in order, and of the saves of a file only the latest."""

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
class Event:
    """Something that happened to a file or, where it says so, to a folder."""

    path: str
    number: int = field(default=0, kw_only=True)
    failures: int = field(default=0, kw_only=True)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits for the outcome that there will be none for now."""


@dataclass
class Save(Event):
    """A file whose record is to be brought up to date.

    Attributes
    ----------
    path : str
        The file's absolute path; for contents that are not files, the contents API's.
    owner : str
        Who owns the record, should it have to be made.
    content : mapping or None
        The notebook as it was saved, parsed. None: the file has to be read.
    file : dict
        ``size`` and ``mtime`` of the file that holds ``content``.
    done : list of Future
        Those who wait for the record.
    """

    owner: str
    content: Mapping[str, Any] | None = None
    file: dict[str, int] = field(default_factory=dict)
    done: list[Future[NotebookSummary]] = field(default_factory=list)

    def overtake(self, newer: Save) -> None:
        """Become ``newer``; who waits for this save gets what comes of that one."""
        self.owner, self.content, self.file = newer.owner, newer.content, newer.file
        self.done += newer.done

    def resolve(self, summary: NotebookSummary) -> None:
        """Give everybody who waits the record."""
        for future in self.done:
            future.set_result(summary)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits that there will be no record for now."""
        for future in self.done:
            future.set_exception(error)
        self.done = []


@dataclass
class Rename(Event):
    """A file, or a folder with all beneath it, that is now at ``new_path``."""

    new_path: str


@dataclass
class Delete(Event):
    """A file, or a folder with all beneath it, that was deleted."""


class EventQueue:
    """A queue with one consumer. Putting never waits for the consumer.

    Real-time collaboration saves about once a second; of several saves of one file only the last one matters, so it
    takes the place of the one before, unless something was renamed or deleted in between.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._latest: dict[str, Save] = {}
        self._changed = threading.Condition()
        self._last_number = 0
        self._working_on: Event | None = None
        self._resume_at = 0.0
        self._closed = False

    def put(self, event: Event) -> None:
        """Add an event, or let a save take the place of an older one of the same file."""
        with self._changed:
            if isinstance(event, Save):
                waiting = self._latest.setdefault(event.path, event)
                if waiting is not event:
                    waiting.overtake(event)
                    return
            else:
                self._latest.clear()
            self._last_number += 1
            event.number = self._last_number
            self._events.append(event)
            self._changed.notify_all()

    def put_back(self, event: Event, delay: float) -> None:
        """Return an event that failed, to be the next one again, in ``delay`` seconds."""
        with self._changed:
            self._resume_at = time.monotonic() + delay
            self._events.appendleft(event)
            self._changed.notify_all()

    def take(self) -> Event | None:
        """The next event, waited for; None once the queue is closed and empty."""
        with self._changed:
            self._working_on = None
            self._changed.notify_all()
            while True:
                pause = 0.0 if self._closed else self._resume_at - time.monotonic()
                if self._events and pause <= 0:
                    self._working_on = self._next()
                    return self._working_on
                if self._closed and not self._events:
                    return None
                self._changed.wait(pause if self._events else None)

    def _next(self) -> Event:
        event = self._events.popleft()
        if isinstance(event, Save) and self._latest.get(event.path) is event:
            del self._latest[event.path]
        return event

    def settle(self, timeout: float) -> bool:
        """Wait until everything put before this call has been worked on; False after ``timeout`` seconds.

        While the consumer pauses after a failure there is nothing to wait for: what is stored is all there is.
        """
        with self._changed:
            last = self._last_number
            return self._changed.wait_for(lambda: self._is_done(last), timeout)

    def _is_done(self, number: int) -> bool:
        if self._working_on is not None and self._working_on.number <= number:
            return False
        pausing = self._resume_at > time.monotonic()
        return pausing or not self._events or self._events[0].number > number

    def close(self) -> None:
        """Let the consumer finish what is here and then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
